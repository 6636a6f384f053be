"""Slot moves that the servers make by themselves: whole ranges in one task, handed over at one moment.

Redis (8.4 and later) is asked at the target, CLUSTER MIGRATION IMPORT; Valkey (9.0 and later) at the source, CLUSTER
MIGRATESLOTS. The source forks, sends a snapshot and what is written meanwhile, pauses writes for a moment, and the
target takes the slots. Until then the source serves them, and nothing is half done: what fails, or is cancelled, leaves
all as it was. A task goes on when the controller dies; whoever comes next waits for its end before he plans.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.parse import parse_nodes
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.versions import moves_slots_itself
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, SlotwrightError
from slotwright.link.connect import Link, LinkDown, Links
from slotwright.link.migrate.board import Board, FailedOver, Stopped
from slotwright.link.migrate.carry import BACK_OFF, TRIES, Peer

PIECE_KEYS, PIECE_SLOTS = 1_000_000, 4096  # what goes in one task: a cancelled one begins anew
POLL, FLOW_EVERY = 0.02, 1.0  # seconds between two questions how a task is, and how much has flowed
LIST_EVERY = 0.3  # seconds between two lists of tasks: they hold former ones too, hundreds in the end
ENDING = 1.5  # seconds for a task to end once it is cancelled
_DONE = frozenset({"completed", "success"})
_OVER = _DONE | {"failed", "canceled", "cancelled"}


@dataclass(frozen=True)
class Task:
    """What a server says of one of its tasks."""

    id: str
    state: str
    message: str
    slots: str

    @property
    def over(self) -> bool:
        return self.state in _OVER


def able(step: MoveSlots, view: ClusterView) -> bool:
    """Whether both ends can, in the same way."""
    ends = [view.by_name[name] for name in (step.node, step.target)]
    return all(map(moves_slots_itself, ends)) and len({node.flavor for node in ends}) == 1


def at_a_time(target: str, view: ClusterView) -> int:
    """How many moves a node may take part in at a time: Redis refuses a second one, Valkey puts it in a queue."""
    return len(view.nodes) if view.by_name[target].flavor == "valkey" else 1


def unmarked(step: MoveSlots, view: ClusterView) -> Slots:
    """The step's slots that a task may move: none while any slot of an end is open, which the servers refuse."""
    source, target = (view.by_name[name].myself for name in (step.node, step.target))
    return Slots() if any((*end.importing, *end.migrating) for end in (source, target)) else step.slots & source.slots


def running(view: ClusterView, links: Links) -> list[str]:
    """For people: tasks that are under way, whoever began them. A user who may not ask sees none."""
    asked = {n.name: [_Dialect.of(n.flavor).list] for n in view.nodes if moves_slots_itself(n)}
    found = []
    for name, answer in links.ask(asked).items():
        if not isinstance(answer, LinkDown) and isinstance(answer[0], list):
            found += [f"{name} is moving slots {task.slots} by itself ({task.state})" for task in _tasks(answer[0])]
    return found


def unable(steps: Sequence[MoveSlots], view: ClusterView) -> list[Finding]:
    """ERRORs for ends that cannot move slots by themselves."""
    names = {name for step in steps if not able(step, view) for name in (step.node, step.target)}
    return [
        Finding(
            "not-atomic",
            f"node {node.name} ({node.endpoint})",
            f"{node.flavor} {node.version} cannot move slots by itself, or its other end cannot in the same way",
            "Redis 8.4 and Valkey 9.0 can; or take redis_reshard_strategy auto or classic",
        )
        for node in (view.by_name[name] for name in sorted(names))
    ]


@dataclass(frozen=True)
class _Dialect:
    """How a server is asked. at_target: by its target; else by its source."""

    at_target: bool
    list: tuple[str, ...]
    cancel: tuple[str, ...]

    @classmethod
    def of(cls, flavor: str) -> _Dialect:
        return _VALKEY if flavor == "valkey" else _REDIS

    def begin(self, slots: Slots, target: str) -> tuple[str | int, ...]:
        ends = [number for run in slots.ranges() for number in run]
        if self.at_target:
            return ("CLUSTER", "MIGRATION", "IMPORT", *ends)
        return ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ends, "NODE", target)


_REDIS = _Dialect(True, ("CLUSTER", "MIGRATION", "STATUS", "ALL"), ("CLUSTER", "MIGRATION", "CANCEL", "ALL"))
_VALKEY = _Dialect(False, ("CLUSTER", "GETSLOTMIGRATIONS"), ("CLUSTER", "CANCELSLOTMIGRATIONS"))


def _tasks(reply: Sequence[Any], *, over: bool = False) -> list[Task]:
    """Those under way; over: the others too. The newest first, as both servers list them."""
    found = []
    for entry in reply:
        said = {str(key): str(value) for key, value in zip(entry[::2], entry[1::2], strict=True)}
        slots = said.get("slots", said.get("slot_ranges", "")).replace(" ", ",")
        task = Task(
            said.get("id", said.get("name", "")), said["state"], said.get("last_error", said.get("message", "")), slots
        )
        if over or not task.over:
            found.append(task)
    return found


class AtomicPair:
    """Slots from one node to another, task by task.

    counts: keys of each slot. size: bytes of a key, on average. Raises like Pair.
    """

    def __init__(
        self, links: tuple[Link, Link], ends: tuple[Peer, Peer], counts: Mapping[int, int], board: Board, size: float
    ) -> None:
        self._links, self._ends, self._counts, self._board, self._size = links, ends, counts, board, size
        self._dialect = _Dialect.of(board.view.by_name[ends[0].name].flavor)
        self._asked = links[1] if self._dialect.at_target else links[0]

    def run(self) -> None:
        """Raises Stopped, FailedOver or SlotwrightError; nothing is open after any of them."""
        try:
            for piece in self._pieces():
                self._board.go_on()
                self._move(piece)
        finally:
            for link in self._links:
                link.close()

    def _pieces(self) -> Iterator[Slots]:
        piece: list[int] = []
        keys = 0
        for slot in sorted(self._counts):
            if piece and (keys + self._counts[slot] > PIECE_KEYS or len(piece) == PIECE_SLOTS):
                yield Slots.of(piece)
                piece, keys = [], 0
            piece.append(slot)
            keys += self._counts[slot]
        if piece:
            yield Slots.of(piece)

    def _move(self, slots: Slots) -> None:
        trouble = ""
        for tries in range(1, TRIES + 1):
            try:
                task = self._do(slots)
            except LinkDown as down:
                task, trouble = None, str(down)
            if task and task.state in _DONE:
                self._arrived(slots)
                return
            trouble = f"{task.state}: {task.message}" if task else trouble
            self._board.look_now.set()
            time.sleep(BACK_OFF * tries)
            self._look_again(slots)
            if done := slots & self._owned():  # while it was not seen
                self._arrived(done)
                slots -= done
                if not slots:
                    return
        raise SlotwrightError(
            f"slots {slots} were not moved from {self._ends[0].name} to {self._ends[1].name}: {trouble}",
            where=f"nodes {self._ends[0].name} and {self._ends[1].name}",
            remedy="see the logs of the two; then run again: nothing is half moved; or take redis_reshard_strategy "
            "classic",
            code="not-moved",
        )

    def _do(self, slots: Slots) -> Task | None:
        """Begin a task and wait for its end. None where it is not known."""
        before = {task.id for task in self._listed(slots)}
        begun = self._asked.call_or_error(*self._dialect.begin(slots, self._ends[1].id))
        if isinstance(begun, ResponseError):
            return Task("", "refused", str(begun), str(slots))
        asked = listed = time.monotonic()
        deadline = asked + self._board.timeout
        known = flowed = ""
        while True:
            if time.monotonic() - listed < LIST_EVERY and not self._board.ending and not self._handed_over(slots):
                time.sleep(POLL)
                continue
            listed = time.monotonic()
            new = [task for task in self._listed(slots) if task.id not in before]
            if new and new[0].over:
                return new[0]
            if self._board.ending:
                return self._cancel(before, slots)
            if time.monotonic() - asked > FLOW_EVERY:
                asked, flowed = time.monotonic(), self._progress()
            now = f"{new[0].state} {flowed}" if new else ""
            if now != known:
                known, deadline = now, time.monotonic() + self._board.timeout
            if time.monotonic() > deadline:
                self._asked.call_or_error(*self._dialect.cancel)
                return Task("", "stuck", f"nothing changed for {self._board.timeout:g} s ({known})", str(slots))
            time.sleep(POLL)

    def _cancel(self, before: set[str], slots: Slots) -> Task:
        """Raises Stopped, unless it was done at the last moment."""
        self._asked.call_or_error(*self._dialect.cancel)
        deadline = time.monotonic() + ENDING
        while time.monotonic() < deadline:
            new = [task for task in self._listed(slots) if task.id not in before]
            if new and new[0].state in _DONE:
                return new[0]
            if not new or new[0].over:
                break
            time.sleep(POLL)
        raise Stopped

    def _handed_over(self, slots: Slots) -> bool:
        """Whether the slots may have changed hands: asked of one slot, whose statistics only its owner has."""
        slot = slots.ranges()[0][0]
        reply = self._asked.call_or_error("CLUSTER", "SLOT-STATS", "SLOTSRANGE", slot, slot)
        return isinstance(reply, ResponseError) or bool(reply) == self._dialect.at_target

    def _owned(self) -> Slots:
        """What the target calls its own."""
        own, peers = parse_nodes(self._links[1].call("CLUSTER", "NODES"))
        return next(peer.slots for peer in peers if peer.id == own)

    def _listed(self, slots: Slots) -> list[Task]:
        """The tasks for these slots, also those that are over: the node may be at others too."""
        reply = self._asked.call_or_error(*self._dialect.list)
        if isinstance(reply, ResponseError):
            raise SlotwrightError(
                f"{' '.join(self._dialect.list)} was answered with: {reply}",
                where=f"node {self._asked.instance.name}",
                remedy="allow that there (docs/access.md), or take redis_reshard_strategy classic",
                code="not-allowed",
            )
        return [task for task in _tasks(reply, over=True) if Slots.parse(task.slots) & slots]

    def _progress(self) -> str:
        """Something that changes as long as data flows: bytes that the target has got."""
        link = self._links[1]
        reply = link.call_or_error("INFO", "stats")
        text = "" if isinstance(reply, ResponseError) else str(reply)
        return next((line for line in text.splitlines() if line.startswith("total_net_input_bytes:")), "")

    def _look_again(self, slots: Slots) -> None:
        """Raises FailedOver where an end is no master any more, and SlotwrightError where it does not come back."""
        deadline = time.monotonic() + self._board.timeout
        for link, end in zip(self._links, self._ends, strict=True):
            while True:
                try:
                    if not link.up:
                        link.reopen()
                    role = link.call("ROLE")[0]
                    break
                except LinkDown:
                    if self._board.ending:
                        raise Stopped from None
                    if time.monotonic() > deadline or self._board.heir(end) != end.id:
                        role = "gone"
                        break
                    self._board.look_now.set()
                    time.sleep(BACK_OFF)
            if role != "master":
                raise FailedOver(
                    f"{end.name} was replaced, or is gone, while slots {slots} were on their way; none is open",
                    where=f"node {end.name}",
                    remedy="run again: the rest is planned anew",
                    code="failed-over",
                )

    def _arrived(self, slots: Slots) -> None:
        keys = sum(self._counts[slot] for slot in slots)
        self._board.arrived(self._ends, slots, len(slots), keys=keys, size=int(keys * self._size))
