"""How far a move has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from slotwright.core.cost import size, span


@dataclass(frozen=True)
class PairProgress:
    """One source and one target: what has gone, and what is to go in all."""

    source: str
    target: str
    slots: int
    keys: int
    slots_total: int
    keys_total: int


@dataclass(frozen=True)
class Progress:
    """seconds: since the move began. bytes are memory (MEMORY USAGE), estimated for what is left."""

    slots: int
    slots_total: int
    keys: int
    keys_total: int
    bytes: int
    bytes_total: int
    seconds: float
    pairs: tuple[PairProgress, ...] = ()

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

    def as_dict(self) -> dict[str, Any]:
        """For machines, with rate and eta."""
        eta = self.eta
        more = {"keys_per_second": round(self.rate, 1), "eta": None if eta is None else round(eta, 1)}
        return asdict(self) | {"seconds": round(self.seconds, 2)} | more

    def describe(self) -> str:
        """For people, one line."""
        eta = "" if self.eta is None or self.share >= 1 else f", {span(self.eta)} left"
        busy = [p for p in self.pairs if p.slots < p.slots_total and p.slots]
        pairs = ", ".join(f"{p.source} → {p.target} {p.slots}/{p.slots_total}" for p in busy[:3])
        more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
        return (
            f"{self.slots}/{self.slots_total} slots, {self.keys:,}/{self.keys_total:,} keys, "
            f"{size(self.bytes)} of {size(self.bytes_total)}, {self.rate:,.0f} keys/s{eta}"
            + (f" ({pairs}{more})" if busy else "")
        )

    def summary(self) -> str:
        """For people, at the end."""
        return (
            f"moved {self.slots} slots with {self.keys:,} keys ({size(self.bytes)}) in {self.seconds:.1f} s: "
            f"{self.slots / (self.seconds or 1):,.0f} slots/s, {self.rate:,.0f} keys/s"
        )
