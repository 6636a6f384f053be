"""What the pairs of one move share: whether to go on, what is known of the cluster, how far it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Outdated, SlotwrightError
from slotwright.link.migrate.carry import Job, Peer
from slotwright.link.migrate.limits import Limits
from slotwright.link.migrate.pacer import Pacer
from slotwright.link.migrate.progress import PairProgress, Progress

# A client that has not heard of a new master yet may fail when ASK sends it there (redis-py 8.1 does), and hears of it
# by MOVED. So while a master owns few slots, few are on their way to it at a time: one for RAMP of those that it owns.
# Slots without keys are open for a moment only: one for STEEP.
RAMP, STEEP = 16, 8
LATE = 3.0  # seconds after which nodes that have not answered a look hold the move


class Stopped(Exception):
    """The move ends early: it was told to, or another pair failed. Nothing is open here."""


class FailedOver(Outdated):
    """A failover made the plan outdated. Nothing is open; planning again goes on from there."""


class Reowned(Exception):
    """A failover gave the slots, or the part of the target, to another node."""


class Board:
    """Shared by the threads of one move. Times in seconds.

    timeout bounds each wait. stop: set it to end early.
    """

    def __init__(
        self, view: ClusterView, *, timeout: float, node_timeout: float, limits: Limits, stop: threading.Event
    ) -> None:
        self.timeout, self.node_timeout, self.limits, self.stop = timeout, node_timeout, limits, stop
        self.pacer = Pacer(limits)
        self.view = view
        self.failed = threading.Event()
        self.look_now = threading.Event()
        self.worked: Collection[str] = ()  # who gives or takes slots just now
        self.big_keys = {node.name: threading.Lock() for node in view.nodes}  # held while one goes to the node
        self.deferred: list[Finding] = []
        self._owned = {node.id: node.myself.slots for node in view.nodes}
        self._hold = ""
        self._looking = float("inf")  # since when, by time.monotonic()
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._done = (0, 0, 0)
        self._totals = (0, 0)
        self._pairs: dict[tuple[str, str], tuple[int, int]] = {}
        self._expected: dict[tuple[str, str], tuple[int, int]] = {}

    def anew(self, view: ClusterView) -> Board:
        """A board to finish with what is open, whatever there is; it remembers who owned what, and how far it came."""
        limits = replace(self.limits, move_big=True)
        board = Board(view, timeout=self.timeout, node_timeout=self.node_timeout, limits=limits, stop=threading.Event())
        board._owned, board._begun, board._done, board._totals = self._owned, self._begun, self._done, self._totals
        board._pairs, board._expected = self._pairs, self._expected
        return board

    # --- Whether to go on -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        return self.stop.is_set() or self.failed.is_set()

    def look(self, look: Callable[[], ClusterView], hindrance: Callable[[ClusterView], str]) -> None:
        """Look at the cluster; let no pair open another slot while that takes long, or where there is a hindrance."""
        self._looking = time.monotonic()
        try:
            self.view = look()
            self._hold = hindrance(self.view)
        finally:
            self._looking = float("inf")

    def go_on(self) -> None:
        """Wait while the pairs are held. Raises Stopped, or SlotwrightError where that takes too long."""
        deadline = time.monotonic() + self.timeout
        while (reason := self._held()) and not self.ending:
            if time.monotonic() > deadline:
                raise SlotwrightError(
                    f"no further slot was moved for {self.timeout:g} s because {reason}",
                    remedy="mend that, then run again: what has moved stays moved, and no slot was left open",
                    code="timeout",
                )
            time.sleep(0.05)
        if self.ending:
            raise Stopped

    def _held(self) -> str:
        late = time.monotonic() - self._looking > LATE
        return self._hold or ("a node has not answered for some seconds" if late else "")

    # --- Failovers --------------------------------------------------------------------------------------------------

    def heir(self, node: Peer) -> str:
        """The id of the master that has the node's part now: its own, unless there was a failover."""
        member = self.view.members.get(node.id)
        if member and member.alive:
            return member.peer.master or node.id
        owned = self._owned.get(node.id, Slots())
        heirs = (m.id for m in self.view.members.values() if m.alive and m.peer.slots & owned)
        return next(heirs, node.id)

    def owner(self, slot: int) -> str | None:
        """The id of the living node that calls the slot its own."""
        owners = (m.id for m in self.view.members.values() if m.alive and slot in m.peer.slots)
        return next(owners, None)

    def reowned(self, source: Peer, target: Peer, slots: Iterable[int]) -> None:
        """Raises Reowned where the slots, or the part of the target, are somebody else's by now."""
        if self.heir(target) != target.id:
            raise Reowned(f"{target.name} was replaced by {self.view.name_of(self.heir(target))}")
        for slot in slots:
            if self.owner(slot) not in (None, source.id, target.id):
                raise Reowned(f"{source.name} was replaced by {self.view.name_of(self.owner(slot) or '')}")

    # --- Slots ------------------------------------------------------------------------------------------------------

    def room(self, target: Peer, most: int, *, keyed: bool) -> int:
        """How many slots may be open together on their way to this target. keyed: there are keys in some."""
        return min(most, max(1, len(self._owned.get(target.id, Slots())) // (RAMP if keyed else STEEP)))

    def arrived(self, ends: tuple[Peer, Peer], slots: Slots, count: int, *, keys: int, size: int) -> None:
        """These slots have gone from one to the other, and so many keys (of so many bytes) with them.

        count: with those that had been the target's before.
        """
        source, target = ends
        with self._lock:
            self._done = (self._done[0] + count, self._done[1] + keys, self._done[2] + size)
            pair = self._pairs.get((source.name, target.name), (0, 0))
            self._pairs[source.name, target.name] = (pair[0] + count, pair[1] + keys)
            self._owned[target.id] = self._owned.get(target.id, Slots()) | slots

    def defer(self, finding: Finding) -> None:
        with self._lock:
            self.deferred.append(finding)

    # --- How far ----------------------------------------------------------------------------------------------------

    def expect(self, jobs: Iterable[Job]) -> None:
        """What is to go in all."""
        for job in jobs:
            pair = (job.source.name, job.target.name)
            slots, keys = self._expected.get(pair, (0, 0))
            self._expected[pair] = (slots + len(job.counts), keys + sum(job.counts.values()))
        every = self._expected.values()
        self._totals = (sum(slots for slots, _ in every), sum(keys for _, keys in every))

    @property
    def progress(self) -> Progress:
        slots, keys, size = self._done
        all_slots, all_keys = self._totals
        all_keys = max(all_keys, keys)
        left = size / keys * (all_keys - keys) if keys else 0
        with self._lock:
            done = dict(self._pairs)
        pairs = tuple(PairProgress(*pair, *done.get(pair, (0, 0)), *total) for pair, total in self._expected.items())
        seconds = time.monotonic() - self._begun
        return Progress(slots, all_slots, keys, all_keys, size, int(size + left), seconds, pairs)
