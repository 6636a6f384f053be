"""Slots that move to and fro during a drill, so that the fault strikes a move half-way."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from redis.crc import key_slot

from slotwright.core.goal import Hop, Moved
from slotwright.core.slots import Slots
from slotwright.errors import SlotwrightError
from slotwright.link.connect import Links
from slotwright.manager.progress import Told
from slotwright.manager.request import Request
from slotwright.manager.reshard import Asked, Resharding

SLOTS = 64  # that move, the ones to which the drill writes among them
PAUSE = 0.2  # seconds between two moves, and after one that failed


class Moving(AbstractContextManager["Moving"]):
    """While the block runs slots go from a shard that is struck to one that is not, and back. moved: how often."""

    def __init__(self, request: Request, drill: Mapping[str, Any]) -> None:
        self.moved = self.failed = 0
        self.last = ""  # why a move failed last
        self._request = request
        shards = {shard["shard"]: Slots.parse(shard["slots"]) for shard in drill["shards"]}
        struck = [name for name in shards if name in drill["instances"]] or list(shards)[:1]
        self._ends = (struck[0], next(name for name in shards if name not in struck))
        tagged = [key_slot(tag.encode()) for tag in drill["clients"]["controller"]["shards"][struck[0]]]
        self._slots = Slots.of([*tagged, *list(shards[struck[0]] - Slots.of(tagged))[: SLOTS - len(tagged)]])
        self._ended = threading.Event()
        self._told = Told(None)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Moving:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._told.stop.set()  # what has begun to move is finished
        self._thread.join(2 * self._request.timeout)

    def describe(self) -> str:
        said = f"{len(self._slots)} slots moved {self.moved} times between {' and '.join(self._ends)}"
        return said + (f"; {self.failed} moves ended early, the last one: {self.last}" if self.failed else "")

    def _work(self) -> None:
        there = False
        while not self._ended.wait(PAUSE):
            target = self._ends[0] if there else self._ends[1]
            goal = Moved((Hop("", target, self._slots),))
            try:
                with Links(self._request.topology.everyone, self._request.access) as links:
                    Resharding(self._request, Asked(goal), links).run(self._told)
            except SlotwrightError as error:
                self.failed += 1
                self.last = str(error)[:300]
            else:
                self.moved += 1
                there = not there
