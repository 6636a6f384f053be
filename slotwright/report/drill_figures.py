"""What a drill says in a few figures: objective, measurement and prediction, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slotwright.report import drill_words as say
from slotwright.report.drill_read import MOMENTS, Counts, Drill, Objective, Shard, read

MARKS = {"passed": "✓", "failed": "✗", "incomplete": "?"}
HISTORY = ("date", "what", "fault", "verdict", "longest write gap", "lost", "time to redundancy")
COUNTS = {
    "acknowledged": "acknowledged",
    "failed": "failed",
    "unknown": "unknown",
    "lost": "lost",
    "altered": "altered",
    "failed_present": "failed but present",
    "unknown_present": "unknown but present",
    "stale_reads": "stale reads",
}


@dataclass(frozen=True)
class Figure:
    title: str
    measured: str
    objective: str
    predicted: str
    state: str
    """met, missed or open."""
    word: str
    note: str = ""


def sentence(drill: Drill) -> str:
    """What was done, where and when."""
    parts = [
        say.word(drill.struck),
        say.word(drill.fault),
        say.seconds(drill.seconds),
        f"cluster {say.word(drill.cluster)}",
        f"{say.plural(drill.nodes, 'instance')} in {say.plural(len(drill.zones) or None, 'zone')}",
        say.minute(drill.fault_at if drill.began is None else drill.began),
    ]
    return ", ".join(parts)


def figures(drill: Drill) -> list[Figure]:
    """The four that count, then every objective that is none of them."""
    gap, lost, redundant, overlap = (_objective(drill, words) for words in _NAMES)
    prediction = drill.prediction
    counted = say.NONE if prediction.worst_loss is None else f"at most {say.count(prediction.worst_loss)}"
    back = drill.redundant_after_heal
    note = "" if back is None else "after healing"
    named = [
        _figure(
            "Longest write gap", gap, longest_gap(drill), "s", predicted_gap(prediction.write_gap, prediction.never)
        ),
        _figure("Acknowledged writes lost", lost, drill.totals.lost, "", counted),
        replace(_figure("Time to full redundancy", redundant, back, "s", say.NONE), note=note),
        _figure("Split-brain overlap", overlap, drill.overlap, "s", say.NONE),
    ]
    known = (gap, lost, redundant, overlap)
    rest = [o for o in drill.objectives if o.name and o not in known]
    return [*named, *(_figure(_title(o.name), o, None, o.unit, say.NONE) for o in rest)]


_NAMES = (("write gap", "gap"), ("lost", "loss"), ("redundan",), ("overlap", "split"))


def _objective(drill: Drill, words: tuple[str, ...]) -> Objective | None:
    """The first objective with such a word in its name; the first word is looked for first. A read gap is none."""
    named = [o for o in drill.objectives if "read" not in o.name.lower()]
    return next((o for word in words for o in named if word in o.name.lower()), None)


def _figure(title: str, objective: Objective | None, measured: float | None, unit: str, predicted: str) -> Figure:
    if objective is not None and objective.measured is not None:
        measured = objective.measured  # what was judged: it may count more than our field does
    limit = None if objective is None else objective.limit
    met = None if objective is None else objective.met
    return Figure(
        title=title,
        measured=_amount(measured, unit),
        objective="none" if limit is None else f"at most {_amount(limit, unit)}",
        predicted=predicted,
        state="open" if met is None else "met" if met else "missed",
        word=_met(measured, limit, met),
    )


def _met(measured: float | None, limit: float | None, met: bool | None) -> str:
    if met is not None:
        return "met" if met else "missed"
    if measured is None:
        return "not measured"
    return "no objective" if limit is None else "not judged"


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return say.NONE
    if unit in ("", "s"):
        return say.seconds(value) if unit else say.short(value)
    return f"{say.short(value)} {unit}"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]


def predicted_gap(value: float | None, never: bool) -> str:
    return "never ends" if never else say.seconds(value)


def longest_gap(drill: Drill) -> float | None:
    return _longest(drill.shards)


def _longest(shards: Iterable[Shard]) -> float | None:
    return max((s.write_gap for s in shards if s.write_gap is not None), default=None)


def in_order(drill: Drill) -> list[Shard]:
    """Those that were struck first, else as they come."""
    return sorted(drill.shards, key=lambda s: not s.struck)


def beside(drill: Drill) -> Iterator[tuple[str, str, str, str]]:
    """What, predicted, measured, difference."""
    p, struck = drill.prediction, [s for s in drill.shards if s.struck]
    rows = (
        ("FAIL seen after", p.fail_after, drill.moments.get("fail_seen")),
        ("write gap, struck shards", p.write_gap, _longest(struck)),
        ("write gap, other shards", p.other_gap, _longest(s for s in drill.shards if not s.struck)),
    )
    for what, predicted, measured in rows:
        never = p.never and "struck" in what
        yield what, predicted_gap(predicted, never), say.seconds(measured), say.difference(predicted, measured, "s")
    lost = drill.totals.lost
    most = say.NONE if p.worst_loss is None else f"at most {say.count(p.worst_loss)}"
    yield "acknowledged writes lost", most, say.count(lost), _more(p.worst_loss, lost)


def _more(most: int | None, number: int | None) -> str:
    within = most is not None and number is not None and number <= most
    return "within" if within else say.difference(most, number, "")


def counts(of: Counts) -> list[str]:
    return [say.count(getattr(of, name)) for name in COUNTS]


def moments(drill: Drill) -> list[tuple[str, float]]:
    """first error, FAIL seen, … with the seconds after the fault, in the order of time."""
    return sorted(((MOMENTS[name], at) for name, at in drill.moments.items()), key=lambda m: m[1])


def past(history: Sequence[Mapping[Any, Any]]) -> list[Drill]:
    """Former drills, the newest last."""
    return sorted(map(read, history), key=lambda d: (d.began is not None, d.began or 0.0))


def line(drill: Drill) -> tuple[str, ...]:
    """A drill in one line; HISTORY heads the columns."""
    gap, lost, redundant, *_ = figures(drill)
    what = (say.minute(drill.began), say.word(drill.struck), say.word(drill.fault), drill.verdict.upper())
    return (*what, gap.measured, lost.measured, redundant.measured)
