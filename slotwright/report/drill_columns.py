"""The series of a drill in as many columns as a picture has room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from slotwright.report.drill_read import Bucket, Series

MOST = 460
FASTEST = 0.001  # ms; where a log axis may begin
OK, SOME, BAD, IDLE = "ok", "some", "bad", "idle"


@dataclass(frozen=True)
class Columns:
    """Each column is `width` seconds; column i begins at begin + i * width."""

    begin: float
    width: float
    number: int
    shards: dict[str, list[list[Bucket]]]

    @property
    def end(self) -> float:
        return self.begin + self.number * self.width


def columns(series: Series, most: int = MOST) -> Columns:
    """Buckets side by side are put together, as few as must be, so that there are at most `most` columns."""
    longest = max(map(len, series.shards.values()))
    together = -(-longest // most)
    shards = {
        name: [list(rows[i : i + together]) for i in range(0, len(rows), together)]
        for name, rows in series.shards.items()
    }
    return Columns(series.begin, series.step * together, -(-longest // together), shards)


def state(tries: Iterable[tuple[int, int]]) -> str:
    """What (successes, failures) of a column come to: the worst of its buckets, so that no gap is hidden."""
    seen = {_one(good, bad) for good, bad in tries}
    return next((s for s in (BAD, SOME, OK) if s in seen), IDLE)


def _one(good: int, bad: int) -> str:
    if good:
        return SOME if bad else OK
    return BAD if bad else IDLE


def writes(column: Sequence[Bucket]) -> str:
    return state((b.writes_ok, b.writes_bad) for b in column)


def reads(column: Sequence[Bucket]) -> str:
    return state((b.reads_ok, b.reads_bad) for b in column)


def runs(states: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """State, first column, number of columns."""
    at = 0
    for what, group in groupby(states):
        number = len(list(group))
        yield what, at, number
        at += number


def slowest(of: Columns, names: Iterable[str]) -> list[float | None]:
    """The longest answer of each column in ms, over these shards. Nothing, or none above 0, is None."""
    found: list[float | None] = [None] * of.number
    for name in names:
        for i, column in enumerate(of.shards.get(name, ())):
            times = [max(b.max_ms, FASTEST) for b in column if b.max_ms is not None and b.max_ms > 0]
            found[i] = max([*times, found[i] or 0.0]) or None
    return found


def failures(of: Columns, names: Iterable[str]) -> list[float | None]:
    """Failed reads and writes per second of each column, over these shards. Where nothing was tried: None."""
    bad: list[float | None] = [None] * of.number
    for name in names:
        for i, column in enumerate(of.shards.get(name, ())):
            if any(b.writes_ok + b.writes_bad + b.reads_ok + b.reads_bad for b in column):
                bad[i] = (bad[i] or 0.0) + sum(b.writes_bad + b.reads_bad for b in column) / of.width
    return bad
