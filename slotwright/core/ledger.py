"""What was acknowledged to the clients of a drill, and what is there in the end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Call:
    """One line of a ledger (see drill/client.py, which says what the fields mean)."""

    client: str
    kind: str
    begun: float
    ended: float
    shard: str
    tag: str
    number: int
    outcome: str
    what: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.kind == "w" and self.outcome == "ok"


def read_ledger(client: str, lines: Iterable[str]) -> list[Call]:
    """The calls of a ledger, whose last line may be cut off: its client was killed."""
    calls = []
    for line in lines:
        try:
            calls.append(Call(client, *json.loads(line)))
        except (ValueError, TypeError):
            continue
    return calls


@dataclass(frozen=True)
class Wrong:
    """An acknowledged write that is not there ("lost") or differs ("altered"). at: when it was acknowledged.

    count: of a counter, how many of its writes are lost.
    """

    key: str
    what: str
    at: float
    shard: str
    client: str
    count: int = 1


@dataclass
class Count:
    """Calls of a shard, or of all. unknown: writes without an answer. …_present: those that are there nevertheless."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    lost: int = 0
    altered: int = 0
    failed_present: int = 0
    unknown_present: int = 0
    reads: int = 0
    stale_reads: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: Count) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, object]:
        return vars(self) | {"errors": dict(self.errors)}


def judge_keys(
    calls: Sequence[Call],
    found: Mapping[Call, str | None],
    value: Callable[[Call], str],
    key: Callable[[Call], str],
) -> tuple[dict[str, Count], list[Wrong]]:
    """By shard what became of the writes, and the writes that were lost, in the order of their acknowledgement.

    found: what each write's key holds now; a write that is not in it was not looked at, and counts as neither lost nor
    present. value: what was written. key: its name.
    """
    counts = _counted(calls)
    wrong = []
    for call in calls:
        if call.kind != "w" or call not in found:
            continue
        count, now = counts[call.shard], found[call]
        if not call.acknowledged:
            if now is not None:
                count.failed_present += call.outcome == "failed"
                count.unknown_present += call.outcome == "unknown"
        elif now != value(call):
            what = "lost" if now is None else "altered"
            count.lost += what == "lost"
            count.altered += what == "altered"
            wrong.append(Wrong(key(call), what, call.ended, call.shard, call.client))
    return counts, sorted(wrong, key=lambda w: w.at)


def judge_counters(
    calls: Sequence[Call], found: Mapping[tuple[str, str], int], names: Mapping[tuple[str, str], str]
) -> tuple[dict[str, Count], list[Wrong]]:
    """As judge_keys for counters, by (client, tag): found is what each counts now, names its key.

    In the manner of the consistency test of Redis's cluster tutorial: of what was acknowledged and is not counted so
    many are lost; what is counted beyond is of calls that were answered with an error, or not at all. A call that was
    answered with an error and done hides a lost one here; keys of their own (judge_keys) tell the two apart.
    """
    counts = _counted(calls)
    wrong = []
    by_counter: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.kind == "w":
            by_counter[call.client, call.tag].append(call)
    for counter, some in by_counter.items():
        if counter not in found:
            continue
        done = [call for call in some if call.acknowledged]
        missing = len(done) - found[counter]
        count = counts[some[0].shard]
        if missing > 0:
            count.lost += missing
            what = f"lost {missing} of {len(done)}"
            wrong.append(Wrong(names[counter], what, done[-1].ended, some[0].shard, counter[0], missing))
        else:
            count.unknown_present -= missing
    return counts, sorted(wrong, key=lambda w: w.at)


def _counted(calls: Iterable[Call]) -> dict[str, Count]:
    counts: dict[str, Count] = defaultdict(Count)
    for call in calls:
        count = counts[call.shard]
        if call.kind == "r":
            count.reads += 1
            count.stale_reads += call.outcome == "stale"
        else:
            count.acknowledged += call.outcome == "ok"
            count.failed += call.outcome == "failed"
            count.unknown += call.outcome == "unknown"
        if call.outcome in ("failed", "unknown"):
            count.errors[call.what.partition(":")[0]] += 1
    return counts


def gap(calls: Iterable[Call], kind: str, begin: float, end: float) -> float | None:
    """The longest time, in seconds, between two calls of that kind that went well, of those that touch begin..end.

    Where none went well after the last of them, or before the first, it reaches to end, or from begin. None where none
    was tried.
    """
    calls = [call for call in calls if call.kind == kind]
    if not calls:
        return None
    good = sorted(call.ended for call in calls if call.outcome in ("ok", "stale"))
    before = max((at for at in good if at < begin), default=begin)
    marks = [before, *(at for at in good if begin <= at <= end)]
    after = min((at for at in good if at > end), default=max(end, marks[-1]))
    marks.append(after)
    return max(later - earlier for earlier, later in pairwise(marks))


def series(calls: Iterable[Call], begin: float, end: float, step: float) -> dict[str, list[list[float]]]:
    """By shard, for each `step` seconds of begin..end: writes that went well, that did not, the same of reads, and the
    longest call in milliseconds. A call counts when it ended."""
    length = max(1, int((end - begin) / step) + 1)
    found: dict[str, list[list[float]]] = {}
    for call in calls:
        if begin <= call.ended <= end:
            at = int((call.ended - begin) / step)
            row = found.setdefault(call.shard, [[0, 0, 0, 0, 0.0] for _ in range(length)])[at]
            good = call.outcome in ("ok", "stale")
            row[(0 if call.kind == "w" else 2) + (not good)] += 1
            row[4] = max(row[4], round(1000 * (call.ended - call.begun), 2))
    return found
