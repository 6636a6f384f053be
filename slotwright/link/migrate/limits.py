"""How hard a move may press the nodes: what clients may feel, how much may go a second, and by which means."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from slotwright.link.migrate.progress import Progress

Show = Callable[[Progress], None]

Strategy = Literal["auto", "classic", "atomic"]


@dataclass(frozen=True)
class Limits:
    """budget: seconds that all but one in a hundred requests of clients may take meanwhile; None: as fast as it goes.

    keys, bytes: a second, over all nodes; None: no limit. Bytes are memory (MEMORY USAGE).
    strategy: classic: MIGRATE, on every version. atomic: the server moves whole ranges of slots by itself (Redis 8.4,
    Valkey 9.0). auto: atomic where both ends can do that and nothing else limits the move, else classic.
    move_big: move keys even where that blocks nodes for long (see pair.BLOCK_SHARE).
    sources: at a time for one target. Parallel ones queue there, so that clients of theirs wait longer.
    """

    budget: float | None = None
    keys: float | None = None
    bytes: float | None = None
    strategy: Strategy = "auto"
    move_big: bool = False
    sources: int = 3

    @property
    def gentle(self) -> bool:
        """Whether anything but the nodes themselves limits the pace."""
        return self.budget is not None or self.keys is not None or self.bytes is not None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Control:
    """How a move is driven from outside. show: told about every second how far it has come. stop: ends it early."""

    limits: Limits = NO_LIMITS
    show: Show = lambda progress: None
    stop: threading.Event = field(default_factory=threading.Event)
