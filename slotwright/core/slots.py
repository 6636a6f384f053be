"""Sets of hash slots, as one integer of 16384 bits: small, fast, hashable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SLOT_COUNT = 16384
_FULL_MASK = (1 << SLOT_COUNT) - 1


@dataclass(frozen=True)
class Slots:
    """An immutable set of hash slots (0–16383)."""

    mask: int = 0

    @classmethod
    def of(cls, slots: Iterable[int]) -> Slots:
        mask = 0
        for slot in slots:
            _check(slot)
            mask |= 1 << slot
        return cls(mask)

    @classmethod
    def span(cls, first: int, last: int) -> Slots:
        """The slots first..last, both included."""
        _check(first)
        _check(last)
        if last < first:
            raise ValueError(f"slot range {first}-{last} runs backwards")
        return cls((1 << (last + 1)) - (1 << first))

    @classmethod
    def parse(cls, text: str) -> Slots:
        """Read Redis's own notation: "0-5460,5462 7000-7001" (commas and blanks both part ranges)."""
        slots = cls()
        for token in re.split(r"[\s,]+", text.strip()):
            if token:
                first, _, last = token.partition("-")
                slots |= cls.span(int(first), int(last or first))
        return slots

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Maximal runs as (first, last), ascending."""
        runs = []
        mask, base = self.mask, 0
        while mask:
            gap = (mask & -mask).bit_length() - 1
            mask >>= gap
            base += gap
            length = (~mask & -~mask).bit_length() - 1
            runs.append((base, base + length - 1))
            mask >>= length
            base += length
        return tuple(runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges():
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, slot: int) -> bool:
        return bool(self.mask >> slot & 1)

    def __or__(self, other: Slots) -> Slots:
        return Slots(self.mask | other.mask)

    def __and__(self, other: Slots) -> Slots:
        return Slots(self.mask & other.mask)

    def __sub__(self, other: Slots) -> Slots:
        return Slots(self.mask & ~other.mask)

    def __le__(self, other: Slots) -> bool:
        return self.mask & ~other.mask == 0

    def __str__(self) -> str:
        return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in self.ranges())


ALL_SLOTS = Slots(_FULL_MASK)


def even_spans(parts: int) -> tuple[Slots, ...]:
    """Part all 16384 slots into contiguous spans whose sizes differ by one at the most, larger ones first."""
    size, larger = divmod(SLOT_COUNT, parts)
    spans, first = [], 0
    for part in range(parts):
        last = first + size - 1 + (part < larger)
        spans.append(Slots.span(first, last))
        first = last + 1
    return tuple(spans)


def _check(slot: int) -> None:
    if not 0 <= slot < SLOT_COUNT:
        raise ValueError(f"slot {slot} is outside 0-{SLOT_COUNT - 1}")
