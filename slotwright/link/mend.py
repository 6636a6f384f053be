"""Doing repairs (slotwright.core.repairs), one after the other, each refused rather than a key lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.parse import parse_nodes
from slotwright.core.repairs import (
    Acquaint,
    Adopt,
    Announce,
    BringKeys,
    Bump,
    Close,
    Disclaim,
    Forget,
    Reopen,
    Repair,
    Seize,
    Takeover,
)
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.view import ClusterView, union
from slotwright.errors import SlotwrightError
from slotwright.link.commands import Command
from slotwright.link.connect import LinkDown, Links
from slotwright.link.migrate.carry import Login
from slotwright.link.waits import node_timeout

LISTED = 100  # keys of a slot that are looked at together
SHOWN = 20
POLL = 0.05  # seconds
IDLE_ROUNDS = 3


def needed(step: Repair, view: ClusterView) -> dict[str, list[Command]]:
    """One of each kind of command that a repair may send, by node: what the user we log in as must be allowed."""
    mark: Command = ("CLUSTER", "SETSLOT", 0, "STABLE")
    count: Command = ("CLUSTER", "COUNTKEYSINSLOT", 0)
    match step:
        case Announce():
            sent: list[Command] = [("CONFIG", "GET", "port"), ("CONFIG", "SET", "port", 0)]
        case Acquaint():
            sent = [("CLUSTER", "MEET", "127.0.0.1", 1)]
        case Forget(id=node_id):
            return {n.name: [("CLUSTER", "FORGET", node_id)] for n in view.nodes}
        case Takeover():
            sent = [("CLUSTER", "FAILOVER", "TAKEOVER"), ("ROLE",)]
        case Adopt() | Seize():
            sent = [mark, ("CLUSTER", "BUMPEPOCH")]
        case Bump():
            sent = [("CLUSTER", "BUMPEPOCH")]
        case BringKeys():
            return _needed_to_bring(step, mark, count)
        case Disclaim():
            told: dict[str, list[Command]] = {n.name: [("CLUSTER", "DELSLOTS", 0)] for n in view.nodes}
            return told | {step.node: [*told.get(step.node, ()), count]}
        case _:
            sent = [mark]
    others = {n.name: [mark] for n in view.nodes if n.myself.is_master} if isinstance(step, Seize) else {}
    return others | {step.node: sent}


def _needed_to_bring(step: BringKeys, mark: Command, count: Command) -> dict[str, list[Command]]:
    key = "slotwright"  # stands for any key
    directive = "cluster-require-full-coverage"
    both: list[Command] = [mark, count, ("CONFIG", "GET", directive), ("CONFIG", "SET", directive, "no")]
    both += [(word, key) for word in ("TYPE", "PTTL", "DUMP", "HGETALL", "SMEMBERS")]
    gives: list[Command] = [
        ("CLUSTER", "GETKEYSINSLOT", 0, 1),
        ("MIGRATE", "127.0.0.1", 1, "", 0, 1, "KEYS", key),
        ("ASKING",),
        ("UNLINK", key),
    ]
    takes: list[Command] = [("RESTORE-ASKING", key, 0, ""), ("SELECT", 0), ("EXISTS", key)]
    return {step.node: [*both, *gives], step.owner: [*both, *takes]}


def forsaken(moves: Iterable[MoveSlots], view: ClusterView) -> list[BringKeys]:
    """Of these moves the slots that the target owns and is not sending anywhere, and that are not on their way from it.

    So it is when a node was replaced, or has replaced another, while slots were on their way: it has keys, or a mark,
    of which the owner knows nothing.
    """
    found = []
    for move in moves:
        node, owner = view.by_name[move.node].myself, view.by_name[move.target].myself
        begun = Slots.of(slot for slot, other in node.importing if other == owner.id)
        begun |= Slots.of(slot for slot, _ in owner.migrating)
        if node.id != owner.id and (slots := move.slots & owner.slots - begun):
            found.append(BringKeys(move.node, move.target, slots))
    return found


class Mender:
    """timeout (seconds) bounds each wait. All raises are SlotwrightErrors."""

    def __init__(self, view: ClusterView, links: Links, timeout: float) -> None:
        self.view, self.links, self.timeout = view, links, timeout

    def do(self, step: Repair) -> None:
        match step:
            case Announce():
                self._announce(step)
            case Acquaint(node=name, peers=peers):
                at = [self.view.by_name[peer].endpoint.rpartition(":") for peer in peers]
                self._send(name, [("CLUSTER", "MEET", address, port) for address, _, port in at])
            case Close(node=name, slots=slots):
                self._send(name, [("CLUSTER", "SETSLOT", slot, "STABLE") for slot in slots])
            case Reopen(node=name, owner=owner, slots=slots):
                self._send(name, [("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(owner)) for slot in slots])
            case Forget(id=node_id):
                self._forget(node_id)
            case Takeover(node=name):
                self._send(name, [("CLUSTER", "FAILOVER", "TAKEOVER")])
                self._until(f"{name} to be a master", lambda: self.links[name].call("ROLE")[0] == "master")
            case Adopt(node=name, slots=slots):
                self._take(name, slots)
            case Seize(node=name, slots=slots):
                self._take(name, slots)
                taken = [("CLUSTER", "SETSLOT", slot, "NODE", self._id(name)) for slot in slots]
                for other in self.view.nodes:
                    if other.name != name and other.myself.is_master:
                        self._send(other.name, taken)
            case BringKeys():
                self._bring(step)
            case Disclaim(node=name, slots=slots):
                if left := [slot for slot, n in zip(slots, self._counts(name, slots), strict=True) if n]:
                    raise _error("busy-slot", name, f"has keys of slots {Slots.of(left)} again", "run again")
                # Nobody would hear of it by gossip.
                for node in self.view.nodes:
                    line = node.by_id.get(self._id(name))
                    if line and line.slots & slots:
                        self._send(node.name, [("CLUSTER", "DELSLOTS", *(line.slots & slots))])
            case Bump(node=name):
                self._send(name, [("CLUSTER", "BUMPEPOCH")])
            case _:
                raise TypeError(f"Mender does not know {type(step).__name__}")

    # --- Commands ---------------------------------------------------------------------------------------------------

    def _id(self, name: str) -> str:
        return self.view.by_name[name].id

    def _send(self, name: str, commands: Sequence[Command]) -> list[Any]:
        """The replies. Raises SlotwrightError where one is an error."""
        replies = self._try(name, commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ResponseError):
                shown = " ".join(map(str, command[:5]))
                raise _error(
                    "command-refused", name, f"{shown} was answered with: {reply}", "mend that, then run again"
                )
        return replies

    def _try(self, name: str, commands: Sequence[Command]) -> list[Any]:
        [answer] = self.links.ask({name: commands}).values()
        if isinstance(answer, LinkDown):
            raise answer
        return answer

    def _counts(self, name: str, slots: Iterable[int]) -> list[int]:
        return self._send(name, [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots])

    def _seen(self, name: str, other: str) -> Slots:
        """Slots that the node says are the other's."""
        peers = parse_nodes(self.links[name].call("CLUSTER", "NODES"))[1]
        return union(peer.slots for peer in peers if peer.id == self._id(other))

    def _until(self, purpose: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.timeout
        while not holds():
            if time.monotonic() > deadline:
                raise SlotwrightError(
                    f"waited {self.timeout:g} s for {purpose}", remedy="see the logs of the nodes, then run again",
                    code="timeout",
                )  # fmt: skip
            time.sleep(POLL)

    # --- Repairs ----------------------------------------------------------------------------------------------------

    def _forget(self, node_id: str) -> None:
        """Until nobody has known it for some rounds: gossip may be on its way from who knew it to who did not."""
        command = ("CLUSTER", "FORGET", node_id)
        idle = 0

        def gone() -> bool:
            nonlocal idle
            replies = [reply for node in self.view.nodes for reply in self._try(node.name, [command])]
            for node, reply in zip(self.view.nodes, replies, strict=True):
                if isinstance(reply, ResponseError) and "Unknown node" not in str(reply):
                    raise _error(
                        "command-refused",
                        node.name,
                        f"CLUSTER FORGET was answered with: {reply}",
                        "mend that, then run again",
                    )
            idle = idle + 1 if all(isinstance(reply, ResponseError) for reply in replies) else 0
            return idle == IDLE_ROUNDS

        self._until(f"all nodes to have forgotten {node_id}", gone)

    def _announce(self, step: Announce) -> None:
        names = ("cluster-announce-ip", "cluster-announce-port", "cluster-announce-tls-port")
        told = self._send(step.node, [("CONFIG", "GET", name) for name in names])
        live = {name: reply[1] for name, reply in zip(names, told, strict=True) if reply}
        wrong = [(n, step.port) for n in names[1:] if live.get(n, "0") not in ("0", str(step.port))]
        if live.get(names[0]) != step.address:
            wrong.insert(0, (names[0], step.address))  # type: ignore[arg-type]
        self._send(step.node, [("CONFIG", "SET", *pair) for pair in wrong])

    def _take(self, name: str, slots: Slots) -> None:
        """SETSLOT NODE, since ADDSLOTS refuses what the node believes to be another's."""
        commands: list[Command] = [("CLUSTER", "SETSLOT", slot, "NODE", self._id(name)) for slot in slots]
        self._send(name, [*commands, ("CLUSTER", "BUMPEPOCH")])

    def end_import(self, step: BringKeys) -> None:
        """Take the marks of a forsaken() import away, and bring keys that are left of it to their owner.

        The node takes no gossip about these slots while it is marked. Wherever this ends, what holds keys has a mark.
        """
        told: list[Command] = [("CLUSTER", "SETSLOT", slot, "NODE", self._id(step.owner)) for slot in step.slots]
        self._send(step.node, told)
        counts = dict(zip(step.slots, self._counts(step.node, step.slots), strict=True))
        self._send(step.node, [("CLUSTER", "SETSLOT", slot, "STABLE") for slot, keys in counts.items() if not keys])
        if keyed := Slots.of(slot for slot, keys in counts.items() if keys):
            self._bring(BringKeys(step.node, step.owner, keyed))

    # --- Keys -------------------------------------------------------------------------------------------------------

    def _bring(self, step: BringKeys) -> None:
        """Key by key: what the owner lacks is migrated; of what is the same on both, the owner's stays.

        A node serves keys of a slot that it does not own only while it says that it imports the slot.
        """
        with self._serving((step.node, step.owner)):
            self._bring_slots(step)

    @contextmanager
    def _serving(self, ends: Sequence[str]) -> Iterator[None]:
        """Both serve the slots that they have. A part of a split cluster does so only without full coverage."""

        def ok(name: str) -> bool:
            return "cluster_state:ok" in self.links[name].call("CLUSTER", "INFO")

        directive = "cluster-require-full-coverage"
        strict = [
            name for name in ends if not ok(name) and self.links[name].call("CONFIG", "GET", directive)[1] == "yes"
        ]
        try:
            for name in strict:
                self._send(name, [("CONFIG", "SET", directive, "no")])
            self._until(f"{' and '.join(ends)} to say cluster_state:ok", lambda: all(map(ok, ends)))
            yield
        finally:
            for name in strict:
                self._send(name, [("CONFIG", "SET", directive, "yes")])

    def _bring_slots(self, step: BringKeys) -> None:
        self._until(
            f"{step.node} to know that slots {step.slots} are {step.owner}'s",
            lambda: step.slots <= self._seen(step.node, step.owner) | self._seen(step.node, step.node),
        )
        mine = self.view.by_name[step.node].myself.slots
        marked = [slot for slot in step.slots if slot not in mine]
        stable = [("CLUSTER", "SETSLOT", slot, "STABLE") for slot in marked]
        self._send(step.node, [("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(step.owner)) for slot in marked])
        differing: list[str] = []
        try:
            for slot in step.slots:
                differing += self._bring_slot(step, slot)
        finally:
            self._send(step.node, stable)
        if differing:
            shown = ", ".join(map(repr, differing[:SHOWN]))
            raise SlotwrightError(
                f"{len(differing)} keys are on both with different values: {shown}",
                where=f"nodes {step.node} and {step.owner}",
                remedy=f"clients are served by {step.owner}; save what {step.node} has, if need be (docs/repair.md);"
                " or, to delete it: ansible-playbook playbooks/fix.yml -e "
                """'{"redis_fix_allow": ["lose-foreign-copies"]}'""",
                code="foreign-keys-differ",
            )

    def _bring_slot(self, step: BringKeys, slot: int) -> list[str]:
        """Returns the keys that differ, which stay where they are."""
        differing: dict[str, None] = {}
        idle, before = 0, -1
        while True:
            listed = self._send(step.node, [("CLUSTER", "GETKEYSINSLOT", slot, LISTED + len(differing))])[0]
            keys = [key for key in listed if key not in differing]
            if not keys:
                return list(differing)
            [count] = self._counts(step.node, [slot])
            idle, before = (idle + 1 if count == before else 0), count
            if idle > IDLE_ROUNDS:
                what = f"keys of slot {slot} cannot be moved to {step.owner}"
                raise _error("not-moved", step.node, what, "see the logs of both, then run again")
            there = self._send(step.owner, [("EXISTS", key) for key in keys])
            lone = [key for key, exists in zip(keys, there, strict=True) if not exists]
            if lone:
                self._migrate(step, lone)
            same = []
            for key in (key for key, exists in zip(keys, there, strict=True) if exists):
                if step.overrule or self._same(step, key):
                    same.append(key)
                else:
                    differing[key] = None
            for key in same:
                self._send(step.node, [("ASKING",), ("UNLINK", key)])

    def _migrate(self, step: BringKeys, keys: Sequence[str]) -> None:
        owner = self.view.by_name[step.owner]
        address, _, port = owner.endpoint.rpartition(":")
        login = Login(self.links.access.username, self.links.access.password)
        wait = int(1000 * max(0.2, 0.5 * node_timeout(self.links, step.node)))
        [reply] = self._try(step.node, [("MIGRATE", address, port, "", 0, wait, *login.words, "KEYS", *keys)])
        # BUSYKEY: written meanwhile, and to be compared. IOERR: it may have arrived, and then it is the same.
        if isinstance(reply, ResponseError) and not any(word in str(reply) for word in ("BUSYKEY", "IOERR")):
            raise _error("not-moved", step.node, f"MIGRATE was answered with: {reply}", "mend that, then run again")

    def _same(self, step: BringKeys, key: str) -> bool:
        """Whether both hold the same value for the same time."""
        asked: list[Command] = [(word, key) for word in ("TYPE", "PTTL", "DUMP")]
        theirs = self._send(step.owner, asked)
        ours = self._send(step.node, [part for command in asked for part in (("ASKING",), command)])[1::2]
        if ours[0] != theirs[0] or _seconds(ours[1]) - _seconds(theirs[1]) not in (-1, 0, 1):
            return False
        if ours[2] == theirs[2]:
            return True
        # Hash tables list their members in an order of their own on each node.
        read = {"hash": "HGETALL", "set": "SMEMBERS"}.get(ours[0])
        if read is None:
            return False
        members = self._send(step.owner, [(read, key)])[0], self._send(step.node, [("ASKING",), (read, key)])[1]
        width = 2 if read == "HGETALL" else 1
        one, other = (sorted(zip(*(flat[i::width] for i in range(width)), strict=True)) for flat in members)
        return one == other


def _seconds(pttl: int) -> int:
    return pttl if pttl < 0 else round(pttl / 1000)


def _error(code: str, name: str, what: str, remedy: str) -> SlotwrightError:
    return SlotwrightError(what, where=f"node {name}", remedy=remedy, code=code)
