"""Slots on their way from one node to another, a window at a time, each as slotwright.link.migrate.resume says."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from slotwright.core.parse import parse_info, parse_nodes
from slotwright.core.slots import Slots
from slotwright.errors import Finding, SlotwrightError
from slotwright.link.connect import LinkDown
from slotwright.link.migrate.board import Board
from slotwright.link.migrate.carry import MARKING, TAKING, TRIES, Carrier
from slotwright.link.migrate.keys import BIG, Listing, Lost, key_name, shown
from slotwright.link.migrate.resume import STOPS, Action, End, Seen, seen_as
from slotwright.link.migrate.wire import Reply, Wire, bulk, command, commands

# Slots that are open together: few where they hold keys, so that clients are seldom sent to and fro, that a move which
# is told to stop has soon done so, and that little is open if this process dies.
WINDOW_SLOTS, WINDOW_KEYS = 128, 5000
# A key that would block both nodes for more than this part of the node timeout stays where it is, unless told.
BLOCK_SHARE = 0.25
LOOK_EVERY, CHECK_EVERY = 0.2, 0.05  # seconds
STOP_PATIENCE = 1.0  # seconds for a node that is away while the move is to stop
_UNTOUCHED = frozenset({Seen(), Seen(keys=False)})


class Pair:
    """counts: keys of each slot at the source, as they were counted before.

    replaced: the id of a node of whose failover the target comes; the source may not have heard of it.
    """

    def __init__(self, carrier: Carrier, counts: Mapping[int, int], board: Board, replaced: str = "") -> None:
        self.carrier, self.board, self.counts, self._replaced = carrier, board, counts, replaced
        self.source, self.target = carrier.ends
        self._valkey = board.view.by_name[self.target.name].flavor == "valkey"
        self.seen: dict[int, Seen] = {}
        self.window: tuple[int, ...] = ()
        self._told = (0, 0)
        self._room: int | None = None
        self._checked = 0.0

    def run(self) -> None:
        """Move all slots. Raises Stopped, Reowned or SlotwrightError.

        After Stopped nothing is open here; after the others all keys of what is open can still be reached.
        """
        try:
            self._try(self._look, tuple(self.counts))
            for window in self._windows():
                self.board.go_on()
                self.window = window
                self._try(self._move, window)
        finally:
            self.carrier.source.close()
            self.carrier.target.close()

    def _windows(self) -> Iterator[tuple[int, ...]]:
        """What is open already comes first."""
        waiting = deque(sorted(self.counts, key=lambda slot: self.seen[slot] in _UNTOUCHED))
        keyed = any(self.counts.values())
        while waiting:
            window: list[int] = []
            keys = 0
            room = self.board.room(self.target, WINDOW_SLOTS, keyed=keyed)
            while waiting and len(window) < room and (not window or keys + self.counts[waiting[0]] <= WINDOW_KEYS):
                window.append(waiting.popleft())
                keys += self.counts[window[-1]]
            yield tuple(window)

    # --- When an end restarts or fails over -------------------------------------------------------------------------

    def _try(self, act: Callable[[tuple[int, ...]], None], slots: tuple[int, ...]) -> None:
        """Do it; where an end changes meanwhile, look anew and do what is left."""
        for tries in range(TRIES):
            try:
                act(slots)
                return
            except (LinkDown, Lost) as trouble:
                if tries == TRIES - 1:
                    raise self._gave_up(slots, trouble) from trouble
                self._recover(slots)

    def _recover(self, slots: tuple[int, ...]) -> None:
        """Wait until both ends answer and agree, and look. Raises Reowned, or SlotwrightError where they do not."""
        begun = time.monotonic()
        self.carrier.doubtful.clear()
        while True:
            self.board.look_now.set()
            self.board.reowned(self.source, self.target, slots)
            try:
                self.carrier.source.open()
                self.carrier.target.open()
                self._look(slots)
                self._check()
                return
            except (LinkDown, Lost) as trouble:
                patience = STOP_PATIENCE if self.board.stop.is_set() else self.board.timeout
                if time.monotonic() - begun > patience:
                    raise self._gave_up(slots, trouble) from trouble
                time.sleep(LOOK_EVERY)

    def _gave_up(self, slots: Iterable[int], trouble: Exception) -> SlotwrightError:
        return SlotwrightError(
            f"slots {Slots.of(slots)} were not moved from {self.source.name} to {self.target.name}: {trouble}",
            where=f"nodes {self.source.name} and {self.target.name}",
            remedy="mend that, then run again: a slot that is half moved is served, and is taken up again",
            code="not-moved",
        )

    # --- Looking ----------------------------------------------------------------------------------------------------

    def _look(self, slots: tuple[int, ...]) -> None:
        """What both ends say of the slots now. Raises Lost where the two do not say it yet."""
        at_source, at_target = (
            _Words(wire.ask(command("CLUSTER", "NODES"))[0], self.source.id, self.target.id, self._replaced)
            for wire in (self.carrier.source, self.carrier.target)
        )
        counts = self.carrier.counts(slots)
        for slot in slots:
            self.seen[slot] = seen_as(
                source_says=at_source.owner(slot),
                target_says=at_target.owner(slot),
                migrating=at_source.migrating(slot),
                importing=at_target.importing(slot),
                keys=counts[slot] > 0,
            )
        stopped = [slot for slot in slots if self.seen[slot].next in STOPS]
        if any(self.seen[slot].next is Action.REOWNED for slot in stopped):
            raise Lost(f"slots {Slots.of(stopped)} belong to neither of the two")
        if stopped:
            what = self.seen[stopped[0]].next.value.removeprefix("stop: ")
            raise SlotwrightError(
                f"slots {Slots.of(stopped)} cannot go from {self.source.name} to {self.target.name}: {what}",
                where=f"nodes {self.source.name} and {self.target.name}",
                remedy="see what the two hold of them (CLUSTER COUNTKEYSINSLOT, GETKEYSINSLOT); nothing was changed",
                code="slot-in-doubt",
            )
        self._do(Action.ADOPT, slots, "NODE", self.source.id, target_says=End.SOURCE)

    def _check(self) -> None:
        """Both ends are masters that serve; and how many bytes the target has room for, None for any number."""
        asked = (command("ROLE"), command("CLUSTER", "INFO"), command("INFO", "memory"))
        wires = (self.carrier.source, self.carrier.target)
        for wire in wires:
            wire.send(asked)
            wire.flush()
        for wire, end in zip(wires, self.carrier.ends, strict=True):
            role, state, memory = wire.receive(3)
            if not isinstance(role, list) or role[:1] != [bulk("master")]:
                raise Lost(f"{end.name} is no master any more")
            if not isinstance(state, bytes) or b"cluster_state:ok" not in state:
                raise Lost(f"{end.name} does not say cluster_state:ok")
        info = parse_info(memory.decode()) if isinstance(memory, bytes) else {}
        limit = int(info.get("maxmemory", 0))
        self._room = limit - int(info.get("used_memory", 0)) if limit else None
        self._checked = time.monotonic()

    # --- Moving -----------------------------------------------------------------------------------------------------

    def _move(self, window: tuple[int, ...]) -> None:
        """Move what can be moved of the window; what was not begun is as it was before. Raises the first trouble."""
        if time.monotonic() - self._checked > CHECK_EVERY:
            self._check()
        arrived = set(self._due(Action.DONE, window))
        # What was counted before does not count: only _hand_over may say that a slot is empty.
        self._update([slot for slot in window if self.seen[slot].source_says is End.SOURCE], keys=True)
        slots, listed = self._survey(window)
        self._do(Action.IMPORT, slots, "IMPORTING", self.source.id, importing=End.SOURCE)
        marked = set(self._due(Action.MIGRATE, slots))
        unmarked = self._due(Action.EXPORT, slots)
        emptied: set[int] = set()
        trouble = None
        try:
            carried = {s: listed.get(s, Listing()) for s in slots if s in marked or s in unmarked}
            self.carrier.carry(carried, marked, emptied, lambda: self.board.ending)
        except LinkDown:
            raise
        except SlotwrightError as error:
            trouble = error
        self._update([s for s in unmarked if s in marked], migrating=End.TARGET)
        self._hand_over(slots, emptied, arrived)
        self._take_back(slots)
        if trouble:
            raise trouble

    def _survey(self, window: tuple[int, ...]) -> tuple[list[int], dict[int, Listing]]:
        """The slots of the window that may be moved, and their keys."""
        keyed = [
            s for s in window if self.counts[s] and self.seen[s].next in (Action.IMPORT, Action.EXPORT, Action.MIGRATE)
        ]
        listed = self.carrier.survey(keyed)
        slots = [slot for slot in window if not self._deferred(slot, listed.get(slot, Listing()))]
        size = sum(sum(listed[slot].sizes) for slot in slots if slot in listed)
        if self._room is not None and size >= self._room:
            raise SlotwrightError(
                f"slots {Slots.of(slots)} take {size} bytes of memory, and it has room for {max(self._room, 0)}",
                where=f"node {self.target.name}",
                remedy="free memory there or raise its maxmemory, then run again: what has moved stays moved, and "
                "these slots are as they were",
                code="target-full",
            )
        if self._room is not None:
            self._room -= size
        return slots, listed

    def _deferred(self, slot: int, listing: Listing) -> bool:
        size = max(listing.sizes, default=0)
        blocked = self.carrier.blocks(size)
        if size < BIG or self.board.limits.move_big or blocked <= BLOCK_SHARE * self.board.node_timeout:
            return False
        key = listing.keys[listing.sizes.index(size)]
        self.board.defer(
            Finding(
                "big-key",
                f"slot {slot} on node {self.source.name}",
                f"was left where it is: its key {key_name(key)} takes {size} bytes, and moving it would block "
                f"{self.source.name} and {self.target.name} for about {blocked:.1f} s, of a node timeout of "
                f"{self.board.node_timeout:g} s",
                "make the key smaller, or allow that (move_big_keys), or raise cluster-node-timeout; then run again",
            )
        )
        return True

    def _hand_over(self, slots: Sequence[int], emptied: set[int], arrived: set[int]) -> None:
        """Make the target the owner of every slot of which the source counts no key, twice."""
        counted = self.carrier.counts(self._due(Action.MIGRATE, slots))
        zero = [slot for slot, keys in counted.items() if not keys]
        again = self.carrier.counts([slot for slot in zero if slot not in emptied])
        self._update([slot for slot in zero if not again.get(slot)], keys=False)
        self._take(self._due(Action.TAKE, slots))
        self._do(Action.GIVE, slots, "NODE", self.target.id, source_says=End.TARGET, migrating=None)
        self._do(Action.CLEAR_TARGET, slots, "STABLE", importing=None)
        self._do(Action.CLEAR_SOURCE, slots, "STABLE", migrating=None)
        now = (self.carrier.keys_moved, self.carrier.bytes_moved)
        keys, size = (new - old for new, old in zip(now, self._told, strict=True))
        self._told = now
        done = self._due(Action.DONE, slots)
        new = Slots.of(slot for slot in done if slot not in arrived)
        self.board.arrived(self.carrier.ends, new, len(done), keys=keys, size=size)

    def _take_back(self, slots: Sequence[int]) -> None:
        """Close what was not begun, and what was begun with no key at the target yet; the rest stays half moved."""
        self._cancel([s for s in self._due(Action.MIGRATE, slots) if self.seen[s].target_says is End.SOURCE])
        self._forget_import(slots)

    def cancel(self, slots: tuple[int, ...]) -> list[int]:
        """Close slots that are on their way, as if they had never been; those that hold keys at the target are left."""
        try:
            self._try(self._look, slots)
            self._forget_import(slots)
            self._try(self._cancel, tuple(self._due(Action.MIGRATE, slots) + self._due(Action.TAKE, slots)))
            self._do(Action.IMPORT, slots, "STABLE", at=self.carrier.source, migrating=None)
            return [slot for slot in slots if self.seen[slot].importing is not None]
        finally:
            self.carrier.source.close()
            self.carrier.target.close()

    def _forget_import(self, slots: Sequence[int]) -> None:
        """Close slots that only the target has marked. One that holds keys has them from a source that failed over."""
        held = self._counts_at_target(self._due(Action.EXPORT, slots))
        self._do(Action.EXPORT, [s for s in held if not held[s]], "STABLE", at=self.carrier.target, importing=None)

    def _cancel(self, slots: Sequence[int]) -> None:
        """Undo the marks of slots of which the target holds no key.

        The source sends nobody there any more before the target is asked again; but a client may be on its way.
        """
        held = self._counts_at_target(slots)
        for slot in (slot for slot in slots if not held[slot]):
            self._set(self.carrier.source, [slot], "STABLE")
            self._update([slot], migrating=None)
            self._set(self.carrier.target, [slot], "STABLE")
            if self._counts_at_target([slot])[slot]:
                self._set(self.carrier.target, [slot], "IMPORTING", self.source.id)
                self._set(self.carrier.source, [slot], "MIGRATING", self.target.id)
                self._update([slot], migrating=End.TARGET)
            else:
                self._update([slot], importing=None)

    def _counts_at_target(self, slots: Sequence[int]) -> dict[int, int]:
        asked = commands(("CLUSTER", "COUNTKEYSINSLOT"), slots)
        return dict(zip(slots, self.carrier.target.ask_numbers(asked), strict=True))

    # --- Rows of the table ------------------------------------------------------------------------------------------

    def _due(self, action: Action, slots: Iterable[int]) -> list[int]:
        return [slot for slot in slots if self.seen[slot].next is action]

    def _do(
        self, action: Action, slots: Sequence[int], *words: str, at: Wire | None = None, **then: End | None
    ) -> None:
        """SETSLOT for all slots for which the action is due, at the end that it is for, and note what is so then."""
        due = self._due(action, slots)
        at_source = action in (Action.GIVE, Action.CLEAR_SOURCE)
        self._set(at or (self.carrier.source if at_source else self.carrier.target), due, *words)
        self._update(due, **then)

    def _take(self, slots: Sequence[int]) -> None:
        """SETSLOT NODE at the target, as one transaction: all of it or nothing, and one message to the cluster.

        A node that takes a slot which it was importing gets a new config epoch and tells everybody, who compare all its
        slots with what they know, and save. Of the slots of a transaction only the last one is still importing when it
        is taken. (Valkey's SETSLOT waits for the replicas, and may not be in a transaction.)
        """
        if self._valkey:
            self._set(self.carrier.target, slots, "NODE", self.target.id)
            self._update(slots, target_says=End.TARGET, importing=None)
            return
        together = self.carrier.pacer.at_once(TAKING)
        for begin in range(0, len(slots), together):
            some = slots[begin : begin + together]
            packed = [*_setslot(some[:-1], "STABLE"), *_setslot(some, "NODE", self.target.id)]
            count = len(packed)
            done = b"+OK\r\n" + b"+QUEUED\r\n" * count + b"*%d\r\n" % count + b"+OK\r\n" * count
            whole = b"".join([command("MULTI"), *packed, command("EXEC")])
            if others := self.carrier.target.ask_expecting(whole, done, count + 2):
                raise Lost(f"CLUSTER SETSLOT NODE of the slots {Slots.of(some)} was answered with: {shown(others[-1])}")
            self._update(some, target_says=End.TARGET, importing=None)

    def _set(self, wire: Wire, slots: Sequence[int], *words: str) -> None:
        together = self.carrier.pacer.at_once(MARKING)
        for begin in range(0, len(slots), together):
            some = slots[begin : begin + together]
            replies = wire.ask_expecting(b"".join(_setslot(some, *words)), b"+OK\r\n" * len(some), len(some))
            for slot, reply in zip(some, replies or (), strict=bool(replies)):
                # A source that has given all it had may have become a replica of the target by itself.
                if reply != b"OK" and not (
                    words[0] == "NODE" and wire is self.carrier.source and "only with masters" in shown(reply)
                ):
                    raise Lost(f"CLUSTER SETSLOT {slot} {words[0]} was answered with: {shown(reply)}")

    def _update(self, slots: Iterable[int], **then: End | bool | None) -> None:
        for seen, some in groupby(slots, self.seen.__getitem__):
            self.seen |= dict.fromkeys(some, replace(seen, **then))  # type: ignore[arg-type]


def _setslot(slots: Iterable[int], *words: str) -> list[bytes]:
    return commands(("CLUSTER", "SETSLOT"), slots, words)


class _Words:
    """CLUSTER NODES of one end: whom it calls the owner of a slot, and which slots it has open."""

    def __init__(self, reply: Reply, source: str, target: str, replaced: str) -> None:
        if not isinstance(reply, bytes):
            raise Lost(f"CLUSTER NODES was answered with: {shown(reply)}")
        own, peers = parse_nodes(reply.decode())
        self._ends = {source: End.SOURCE, target: End.TARGET}
        self._replaced = replaced
        self._lines = {peer.id: peer for peer in peers}
        if not {own, source, target} <= self._lines.keys():
            raise Lost("the two ends do not know each other")
        self._owners = {slot: end for node, end in self._ends.items() for slot in self._lines[node].slots}
        self._importing, self._migrating = dict(self._lines[own].importing), dict(self._lines[own].migrating)

    def owner(self, slot: int) -> End:
        return self._owners.get(slot, End.OTHER)

    def importing(self, slot: int) -> End | None:
        return self._end(self._importing.get(slot))

    def migrating(self, slot: int) -> End | None:
        return self._end(self._migrating.get(slot))

    def _end(self, node: str | None) -> End | None:
        if node is None or node in self._ends:
            return self._ends[node] if node else None
        line = self._lines.get(node)
        gone = node == self._replaced or line is None or not line.is_master or line.failing or line.is_ghost
        return End.GONE if gone else End.OTHER
