"""What the pairs of one move share: whether to go on, what is known of the cluster, how far it has come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, SlotwrightError
from slotwright.link.migrate.carry import Peer

# A client that has not heard of a new master yet may fail when ASK sends it there (redis-py 8.1 does), and hears of it
# by MOVED. So while a master owns few slots, few are on their way to it at a time: one for RAMP of those that it owns.
RAMP = 16


@dataclass(frozen=True)
class Progress:
    """How far a move has come. seconds: since it began. Bytes are memory (MEMORY USAGE), estimated for what is left."""

    slots: int
    slots_total: int
    keys: int
    keys_total: int
    bytes: int
    bytes_total: int
    seconds: float

    @property
    def share(self) -> float:
        done = self.keys + self.slots
        return done / ((self.keys_total + self.slots_total) or 1)

    @property
    def rate(self) -> float:
        """Keys a second."""
        return self.keys / self.seconds if self.seconds else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that are left at this rate; None while nothing is known."""
        return self.seconds * (1 - self.share) / self.share if self.share else None

    def describe(self) -> str:
        eta = "" if self.eta is None else f", {self.eta:.0f} s left"
        return (
            f"{self.slots}/{self.slots_total} slots, {self.keys}/{self.keys_total} keys, "
            f"{self.bytes / 1e6:.1f} MB, {self.rate:.0f} keys/s{eta}"
        )


class Stopped(Exception):
    """The move ends early: it was told to, or another pair failed. Nothing is open here."""


class Reowned(Exception):
    """A failover gave the slots, or the part of the target, to another node."""


class Board:
    """Shared by the threads of one move. Times in seconds.

    timeout bounds each wait. move_big: move keys even where that blocks nodes for long. stop: set it to end early.
    """

    def __init__(
        self, view: ClusterView, *, timeout: float, node_timeout: float, move_big: bool, stop: threading.Event
    ) -> None:
        self.timeout, self.node_timeout, self.move_big, self.stop = timeout, node_timeout, move_big, stop
        self.view = view
        self.failed = threading.Event()
        self.look_now = threading.Event()
        self.alone = {node.name: threading.Lock() for node in view.nodes}
        self.deferred: list[Finding] = []
        # Slots that have a new owner, of which the other masters are to hear; the ids of the old and the new one.
        self.news: deque[tuple[Slots, str, str]] = deque()
        self._owned = {node.id: node.myself.slots for node in view.nodes}
        self._hold = ""
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._done = (0, 0, 0)
        self._totals = (0, 0)

    def anew(self, view: ClusterView) -> Board:
        """A board to finish with what is open, whatever there is; it remembers who owned what, and how far it came."""
        board = Board(view, timeout=self.timeout, node_timeout=self.node_timeout, move_big=True, stop=threading.Event())
        board._owned, board._begun, board._done, board._totals = self._owned, self._begun, self._done, self._totals
        return board

    # --- Whether to go on -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        return self.stop.is_set() or self.failed.is_set()

    def hold(self, reason: str) -> None:
        """Let no pair open another slot while there is a reason ("" for none)."""
        self._hold = reason

    def go_on(self) -> None:
        """Wait while the pairs are held. Raises Stopped, or SlotwrightError where that takes too long."""
        deadline = time.monotonic() + self.timeout
        while self._hold and not self.ending:
            if time.monotonic() > deadline:
                raise SlotwrightError(
                    f"no further slot was moved for {self.timeout:g} s because {self._hold}",
                    remedy="mend that, then run again: what has moved stays moved, and no slot was left open",
                    code="timeout",
                )
            time.sleep(0.05)
        if self.ending:
            raise Stopped

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

    def room(self, target: Peer, most: int) -> int:
        """How many slots may be open together on their way to this target."""
        return min(most, max(1, len(self._owned.get(target.id, Slots())) // RAMP))

    def arrived(self, ends: tuple[Peer, Peer], slots: Slots, count: int, *, keys: int, size: int) -> None:
        """These slots have gone from one to the other, and so many keys (of so many bytes) with them.

        count: with those that had been the target's before.
        """
        source, target = ends
        with self._lock:
            self._done = (self._done[0] + count, self._done[1] + keys, self._done[2] + size)
            self._owned[target.id] = self._owned.get(target.id, Slots()) | slots
        if slots:
            self.news.append((slots, source.id, target.id))

    def defer(self, finding: Finding) -> None:
        with self._lock:
            self.deferred.append(finding)

    # --- How far ----------------------------------------------------------------------------------------------------

    def expect(self, slots: int, keys: int) -> None:
        self._totals = (slots, keys)

    @property
    def progress(self) -> Progress:
        slots, keys, size = self._done
        all_slots, all_keys = self._totals
        all_keys = max(all_keys, keys)
        left = size / keys * (all_keys - keys) if keys else 0
        return Progress(slots, all_slots, keys, all_keys, size, int(size + left), time.monotonic() - self._begun)
