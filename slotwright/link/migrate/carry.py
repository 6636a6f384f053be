"""Carrying keys from one node to another: MIGRATE in batches, several in flight, and whatever it may answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from slotwright.errors import SlotwrightError
from slotwright.link.migrate.keys import Listing, Lost, count, key_name, shown, survey
from slotwright.link.migrate.pacer import Pacer
from slotwright.link.migrate.wire import Failure, Reply, Wire, bulk, command, commands, content

SPEED = 20e6  # bytes a second, until it is measured
MEASURED = 20_000  # bytes: what takes less says more of the network's delay
MARKING, TAKING = 5e-6, 1e-5  # seconds that a SETSLOT takes, and one that makes the target the owner
CALL_KEYS = 500
KEY_COST = 120  # what a key costs besides its size, as bytes
BIG_PACE = 20e-9  # seconds that a byte of a big key takes, until it is measured
GROUP_KEYS, GROUP_SLOTS = 500, 64  # slots that are marked as migrating together
TRIES = 3
BACK_OFF = 0.2  # seconds, times the number of the try
FUTILE = 5  # rounds in which a slot gets no emptier
SHOWN = 20
# What the source says of a target that a retry does not help: code and remedy.
_HOPELESS = {
    "OOM": ("target-full", "free memory there or raise its maxmemory"),
    "MISCONF": ("target-cannot-save", "see in its log why it cannot save its data"),
    "NOPERM": ("not-allowed", "allow that there (docs/access.md)"),
    "NOAUTH": ("not-allowed", "let all nodes accept the same user and password"),
    "WRONGPASS": ("not-allowed", "let all nodes accept the same user and password"),
    "DUMP payload": ("target-too-old", "bring the target to the version of the source, or a later one"),
    "Bad data format": ("target-too-old", "bring the target to the version of the source, or a later one"),
}
_PASSING = ("LOADING", "TRYAGAIN", "NOREPLICAS", "BUSY ", "MASTERDOWN")


@dataclass(frozen=True)
class Peer:
    """One end of a move."""

    name: str
    id: str
    address: str
    port: int


@dataclass(frozen=True)
class Job:
    """Slots that go from one node to another, each with the number of its keys.

    atomic: the servers move them by themselves. together: from how many sources its target may get slots at a time,
    and to how many targets its source may give; None: as many as the pacer says, and one.
    """

    source: Peer
    target: Peer
    counts: Mapping[int, int]
    atomic: bool = False
    together: int | None = None


@dataclass(frozen=True)
class Login:
    """What the source logs in to the target with."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        if self.password is None:
            return ()
        return ("AUTH2", self.username, self.password) if self.username else ("AUTH", self.password)


@dataclass(frozen=True)
class _Call:
    """A MIGRATE in flight."""

    slot: int
    keys: Sequence[bytes]
    bytes: int

    @property
    def cost(self) -> int:
        return self.bytes + KEY_COST * len(self.keys)


_Flying = tuple[str, int] | _Call


class Carrier:
    """Empties slots of the source into the target, which is importing them.

    node_timeout (seconds): no call may block a node so long that the others take it for dead.
    big_keys: a lock of the target, held during a call for a big key. pacer: how long a call may take.
    doubtful: keys of which the target may hold a copy that is ours, after a MIGRATE of them ended with IOERR. To be
    cleared when the source may have changed since.
    """

    def __init__(
        self,
        source: Wire,
        target: Wire,
        ends: tuple[Peer, Peer],
        login: Login,
        node_timeout: float,
        big_keys: AbstractContextManager[object],
        pacer: Pacer,
    ) -> None:
        self.source, self.target, self.ends = source, target, ends
        self.speed, self.big_pace = SPEED, BIG_PACE
        self.keys_moved = self.bytes_moved = 0
        self._login, self._node_timeout, self._big_keys, self.pacer = login, node_timeout, big_keys, pacer
        self.doubtful: set[bytes] = set()

    # --- Looking ----------------------------------------------------------------------------------------------------

    def survey(self, slots: Sequence[int]) -> dict[int, Listing]:
        return survey(self.source, slots, self.pacer)

    def counts(self, slots: Sequence[int]) -> dict[int, int]:
        return count(self.source, slots, self.pacer)

    def blocks(self, size: int) -> float:
        """Seconds for which a key of so many bytes blocks both nodes."""
        return size * self.big_pace

    # --- Carrying ---------------------------------------------------------------------------------------------------

    def carry(
        self, listed: Mapping[int, Listing], marked: set[int], emptied: set[int], stopping: Callable[[], bool]
    ) -> None:
        """Mark each slot as migrating, unless it is in `marked`, and send its keys until the source counts none.

        `marked` grows by each slot that is begun, `emptied` by each that counted none. When stopping() turns true, no
        further slot is begun. Raises SlotwrightError, Lost or LinkDown.
        """
        groups = list(_groups(listed))
        for number, group in enumerate(groups):
            if not number:
                self._stream((), group, listed, marked, stopping)
            if stopping() and not marked.issuperset(group):
                return
            following = groups[number + 1] if number + 1 < len(groups) and not stopping() else ()
            left = self._stream(group, following, listed, marked, stopping)
            for slot in group:
                if left.get(slot) != 0:
                    self.empty(slot)
                emptied.add(slot)

    def _stream(
        self,
        slots: Sequence[int],
        following: Sequence[int],
        listed: Mapping[int, Listing],
        marked: set[int],
        stopping: Callable[[], bool],
    ) -> dict[int, int]:
        """Send the keys of the slots; meanwhile mark the following ones. Slot → keys left, where that was told."""
        flying: deque[_Flying] = deque()
        left: dict[int, int] = {}
        failed: list[tuple[_Call, Failure]] = []
        load = sent_in_all = 0
        begun = time.monotonic()

        def land() -> None:
            nonlocal load
            sent = flying.popleft()
            [reply] = self.source.receive(1, self._patience)
            if isinstance(sent, _Call):
                load -= sent.cost
                if isinstance(reply, Failure):
                    failed.append((sent, reply))
                else:
                    self._arrived(len(sent.keys), sent.bytes)
            elif sent[0] == "mark":
                if reply != b"OK":
                    raise Lost(f"{self.ends[0].name} does not mark slot {sent[1]} as migrating: {shown(reply)}")
                marked.add(sent[1])
            else:
                left[sent[1]] = reply if isinstance(reply, int) else -1

        def fly(packed: bytes, what: _Flying) -> None:
            nonlocal load, sent_in_all
            flying.append(what)
            if isinstance(what, _Call):
                load += what.cost
                sent_in_all += what.cost
            self.source.send([packed])

        together = self.pacer.at_once(MARKING)
        unmarked = [slot for slot in following if slot not in marked]
        marks = commands(("CLUSTER", "SETSLOT"), unmarked, ("MIGRATING", self.ends[1].id))
        for number, (slot, mark) in enumerate(zip(unmarked, marks, strict=True)):
            while number % together == 0 and flying:
                land()
            fly(mark, ("mark", slot))
        for slot, counted in zip(slots, commands(("CLUSTER", "COUNTKEYSINSLOT"), slots), strict=True):
            small, big = listed[slot].split()
            if big:
                while flying:
                    land()
                for key, size in big:
                    self._big(slot, key, size)
                begun, sent_in_all = time.monotonic(), 0
            for call in self._calls(slot, small):
                most, room = self.pacer.in_flight, self.pacer.burst * self.speed
                if load + call.cost > room or len(flying) >= most:
                    # Half of it, so that what follows is written together.
                    while flying and (load + call.cost > room / 2 or len(flying) > most // 2):
                        land()
                if failed:
                    break
                self.pacer.before(len(call.keys), call.bytes, stopping)
                fly(self._migrate(call.keys), call)
            fly(counted, ("count", slot))
        while flying:
            land()
        if sent_in_all >= MEASURED:
            self.speed += 0.3 * (sent_in_all / (time.monotonic() - begun) - self.speed)
        for call, failure in failed:
            self._mend(call, failure)
            left.pop(call.slot, None)
        return left

    def _calls(self, slot: int, listing: Listing) -> Iterator[_Call]:
        """The keys in batches that take about as long as a call may."""
        first = 0
        total = len(listing.keys)
        whole = sum(listing.sizes)
        if 0 < total <= CALL_KEYS and whole + KEY_COST * total <= self.pacer.call * self.speed:
            yield _Call(slot, listing.keys, whole)
            return
        while first < total:
            room, size, end = self.pacer.call * self.speed, 0, first
            while end < total and end - first < CALL_KEYS:
                room -= listing.sizes[end] + KEY_COST
                if room < 0 and end > first:
                    break
                size += listing.sizes[end]
                end += 1
            yield _Call(slot, listing.keys[first:end], size)
            first = end

    def empty(self, slot: int) -> None:
        """Send what is left in a slot that is migrating, round by round."""
        before, futile = -1, 0
        while left := self.counts([slot])[slot]:
            futile = futile + 1 if left == before else 0
            before = left
            if futile == FUTILE:
                raise SlotwrightError(
                    f"{left} keys of slot {slot} cannot be moved to {self.ends[1].name}",
                    where=f"node {self.ends[0].name}",
                    remedy="see whether they are in another database than 0; then run again",
                    code="not-moved",
                )
            listing = self.survey([slot])[slot]
            if not listing.keys:
                time.sleep(BACK_OFF)
                continue
            self._stream([slot], (), {slot: listing}, {slot}, lambda: False)

    def _big(self, slot: int, key: bytes, size: int) -> None:
        """One big key alone: with nothing else in flight here, and no other big one on its way to the target."""
        with self._big_keys:
            begun = time.monotonic()
            reply = self._one(key, replace=False, timeout=0.9 * self._node_timeout)
            took = time.monotonic() - begun
        if isinstance(reply, Failure):
            if reply.text.startswith("IOERR"):
                raise SlotwrightError(
                    f"a key of {size} bytes in slot {slot}, {key_name(key)}, could not be moved to {self.ends[1].name} "
                    f"within {took:.1f} s: {reply.text}",
                    where=f"node {self.ends[0].name}",
                    remedy="make it smaller, or move it while cluster-node-timeout is longer; then run again",
                    code="big-key",
                )
            self._mend(_Call(slot, [key], size), reply)
        else:
            self._arrived(1, size)
            self.big_pace += 0.5 * (took / size - self.big_pace)

    def _arrived(self, keys: int, size: int) -> None:
        self.keys_moved += keys
        self.bytes_moved += size

    # --- When MIGRATE fails -----------------------------------------------------------------------------------------

    def _mend(self, call: _Call, failure: Failure) -> None:
        """Do for the keys of a failed call what its answer calls for. Raises where nothing helps.

        The keys before and after the one that failed have moved; those that have not are still at the source.
        """
        text = failure.text
        for tries in range(1, TRIES + 1):
            if text.startswith("IOERR"):
                self.doubtful.update(call.keys)
            elif "BUSYKEY" in text:
                self._settle(call)
                return
            elif not any(word in text for word in _PASSING):
                raise self._hopeless(call, text)
            time.sleep(BACK_OFF * tries)
            self.still_master()
            reply = self._again(call.keys)
            if reply is None:
                return
            text = reply.text
        if "BUSYKEY" in text:
            self._settle(call)
            return
        raise self._hopeless(call, text)

    def _again(self, keys: Sequence[bytes]) -> Failure | None:
        """MIGRATE once more. A key that ended in doubt may be at the target already: that copy is ours.

        (The source has not ended since, else the link would be down: so its own copy is the true one.)
        """
        doubtful = [key for key in keys if key in self.doubtful]
        others = [key for key in keys if key not in self.doubtful]
        for some, replace in ((doubtful, True), (others, False)):
            if some:
                reply = self._several(some, replace=replace)
                if isinstance(reply, Failure):
                    return reply
                self._arrived(len(some), 0)
        self.doubtful.difference_update(doubtful)
        return None

    def _settle(self, call: _Call) -> None:
        """Keys that are at both ends: where both copies are the same, the source's replaces the target's."""
        differing = []
        for key in call.keys:
            reply = self._one(key, replace=False)
            if isinstance(reply, Failure) and "BUSYKEY" in reply.text:
                if key not in self.doubtful and not self._same(key):
                    differing.append(key)
                    continue
                reply = self._one(key, replace=True)
            if isinstance(reply, Failure):
                raise self._hopeless(call, reply.text)
            self._arrived(1, 0)
        if differing:
            source, target = self.ends
            shown = ", ".join(key_name(key) for key in differing[:SHOWN])
            raise SlotwrightError(
                f"{len(differing)} keys of slot {call.slot} are on {source.name} and on {target.name} with different "
                f"values: {shown}",
                where=f"nodes {source.name} and {target.name}",
                remedy=f"clients are served by {source.name}; see which copy is right (on {target.name}: ASKING, then "
                "DUMP), delete the other one, and run again",
                code="busy-key",
            )

    def _same(self, key: bytes) -> bool:
        """Whether both ends hold the same value for the same time."""
        ours, theirs = self._both(key, ("PTTL",), ("TYPE",), ("DUMP",))
        if _seconds(ours[0]) - _seconds(theirs[0]) not in (-1, 0, 1) or ours[1] != theirs[1]:
            return False
        if ours[2] == theirs[2]:
            return True
        # Hash tables list their members in an order of their own on each node.
        read, width = {b"hash": ("HGETALL", 2), b"set": ("SMEMBERS", 1)}.get(_bytes(ours[1]), ("", 1))
        if not read:
            return False
        [our_members], [their_members] = self._both(key, (read,))
        return _members(our_members, width) == _members(their_members, width)

    def _both(self, key: bytes, *asked: tuple[str]) -> tuple[list[Reply], list[Reply]]:
        """What source and target say of a key. The target does not own its slot yet."""
        packed = [command(*words, content(key)) for words in asked]
        ours = self.source.ask(*packed)
        theirs = self.target.ask(*(one for question in packed for one in (command("ASKING"), question)))
        return ours, theirs[1::2]

    # --- Single commands --------------------------------------------------------------------------------------------

    def _migrate(self, keys: Sequence[bytes], *, replace: bool = False, timeout: float | None = None) -> bytes:
        words: list[bytes | str | int] = ["MIGRATE", self.ends[1].address, self.ends[1].port, "", 0]
        words += [int(1000 * (timeout or self._call_timeout)), *(["REPLACE"] if replace else []), *self._login.words]
        words.append("KEYS")
        return b"*%d\r\n" % (len(words) + len(keys)) + b"".join([*map(bulk, words), *keys])

    def _one(self, key: bytes, *, replace: bool, timeout: float | None = None) -> Reply:
        return self._several([key], replace=replace, timeout=timeout)

    def _several(self, keys: Sequence[bytes], *, replace: bool, timeout: float | None = None) -> Reply:
        self.source.send([self._migrate(keys, replace=replace, timeout=timeout)])
        [reply] = self.source.receive(1, self._patience)
        return reply

    @property
    def _call_timeout(self) -> float:
        """Seconds that MIGRATE waits for the target at each step: long, but no node is to be taken for dead."""
        return max(0.2, 0.5 * self._node_timeout)

    @property
    def _patience(self) -> float:
        """Seconds for a reply: MIGRATE may connect, write and read, each up to its own timeout, and is not alone."""
        return 10.0 + 4 * self._node_timeout

    def still_master(self) -> None:
        """Raises Lost where the source is a replica now."""
        [role] = self.source.ask(command("ROLE"))
        if not isinstance(role, list) or not role or role[0] != bulk("master"):
            raise Lost(f"{self.ends[0].name} is no master any more")

    def _hopeless(self, call: _Call, text: str) -> Exception:
        source, target = self.ends
        if any(word in text for word in ("MOVED", "READONLY", "CLUSTERDOWN", "UNBLOCKED")):
            return Lost(f"MIGRATE on {source.name} was answered with: {text}")
        what = f"keys of slot {call.slot} cannot be moved to {target.name}: {text}"
        for word, (code, remedy) in _HOPELESS.items():
            if word in text:
                return SlotwrightError(what, where=f"node {source.name}", remedy=f"{remedy}, then run again", code=code)
        remedy = f"see that {source.name} reaches {target.address}:{target.port}, then run again"
        return SlotwrightError(what, where=f"node {source.name}", remedy=remedy, code="not-moved")


def _groups(listed: Mapping[int, Listing]) -> Iterator[list[int]]:
    """The slots in their order, few enough together that they are open for a moment only."""
    group: list[int] = []
    keys = 0
    for slot, listing in listed.items():
        if group and (len(group) == GROUP_SLOTS or keys + len(listing.keys) > GROUP_KEYS):
            yield group
            group, keys = [], 0
        group.append(slot)
        keys += len(listing.keys)
    if group:
        yield group


def _bytes(reply: Reply) -> bytes:
    return bytes(reply) if isinstance(reply, bytes) else b""


def _seconds(pttl: Reply) -> int:
    """Time to live; -1 for ever, -2 for a key that is not there."""
    return pttl if isinstance(pttl, int) and pttl < 0 else round(pttl / 1000) if isinstance(pttl, int) else -3


def _members(reply: Reply, width: int) -> object:
    members = [item for item in reply if isinstance(item, bytes)] if isinstance(reply, list) else []
    return sorted(zip(*(members[i::width] for i in range(width)), strict=True))
