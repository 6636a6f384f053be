"""The page of a drill: one HTML document that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

from slotwright.report import drill_words as say
from slotwright.report.drill_figures import (
    COUNTS,
    HISTORY,
    MARKS,
    beside,
    counts,
    figures,
    in_order,
    line,
    past,
    predicted_gap,
    sentence,
)
from slotwright.report.drill_names import short_names
from slotwright.report.drill_read import PHASES, Drill, Shard, read
from slotwright.report.drill_style import STYLE
from slotwright.report.drill_template import TEMPLATE
from slotwright.report.drill_timeline import timeline
from slotwright.report.drill_topology import pictures

FIRST_LOSSES = 20
_NAMED = 9  # instances in the head; the pictures show all
_WHY = {"passed": "Notes", "failed": "Why it failed", "incomplete": "Why it is incomplete"}
_ALARMING = frozenset({"lost", "altered"})
_SHARD_HEADS = (
    "shard",
    "slots",
    "struck",
    "write gap predicted",
    "write gap measured",
    "read gap",
    "promoted after",
    "new master",
    *COUNTS.values(),
)


@dataclass(frozen=True)
class Cell:
    text: str
    alarm: bool = False
    title: str = ""
    """The whole of what is shortened."""


def page(drill: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = ()) -> str:
    """The drill as HTML. Total: what is missing is a dash. `history` are former drills of the same form."""
    known = read(drill)
    names = short_names(known)
    template = Environment(autoescape=True, trim_blocks=False).from_string(TEMPLATE)
    return template.render(
        drill=known,
        style=STYLE,
        mark=MARKS[known.verdict],
        sentence=sentence(known),
        struck=_struck(known),
        figures=figures(known),
        why=_WHY[known.verdict],
        timeline=timeline(known),
        pictures=pictures(known),
        broad=len({n.zone for phase in PHASES for n in known.topology[phase]}) > 3,
        shards=[_shard(s, names) for s in in_order(known)],
        shard_heads=_SHARD_HEADS,
        shard_numbers=[i for i in range(3, len(_SHARD_HEADS)) if _SHARD_HEADS[i] != "new master"],
        errors=[_errors(s) for s in in_order(known) if s.errors],
        totals=_totals(known),
        losses=list(_losses(known)),
        more_losses=max(len(known.losses) - FIRST_LOSSES, 0),
        predicted=_predicted(known),
        beside=list(beside(known)),
        log=[(say.second(at), say.after(at, known.fault_at), text) for at, text in known.log],
        history=_history(known, past(history)),
        history_heads=HISTORY,
    )


def _struck(drill: Drill) -> str:
    names = [*drill.instances[:_NAMED], *([f"and {more} more"] if (more := len(drill.instances) - _NAMED) > 0 else [])]
    parts = [f"struck: {', '.join(names)}"] if names else []
    parts.append(f"{say.plural(drill.masters, 'master')}, node timeout {say.seconds(drill.node_timeout)}")
    parts.append(f"began {say.second(drill.began)}, ended {say.second(drill.ended)} UTC")
    return "; ".join([*parts, f"drill {say.word(drill.id)}"])


def _named(name: str, names: Mapping[str, str]) -> Cell:
    return Cell(say.word(names.get(name, name)), title=name)


def _shard(shard: Shard, names: Mapping[str, str]) -> list[Cell]:
    numbers = zip(COUNTS, counts(shard.counts), strict=True)
    return [
        _named(shard.name, names),
        Cell(say.word(shard.slots)),
        Cell("struck" if shard.struck else "no", alarm=shard.struck),
        Cell(predicted_gap(shard.predicted_write_gap, shard.never)),
        Cell(say.seconds(shard.write_gap)),
        Cell(say.seconds(shard.read_gap)),
        Cell(say.seconds(shard.promoted)),
        _named(shard.new_master, names),
        *(Cell(text, alarm=name in _ALARMING and text not in ("0", say.NONE)) for name, text in numbers),
    ]


def _errors(shard: Shard) -> str:
    return f"{say.word(shard.name)}: {', '.join(f'{name} × {say.count(n)}' for name, n in shard.errors)}"


def _totals(drill: Drill) -> str:
    return ", ".join(f"{name} {n}" for name, n in zip(COUNTS.values(), counts(drill.totals), strict=True))


def _losses(drill: Drill) -> Iterator[tuple[str, ...]]:
    for loss in drill.losses[:FIRST_LOSSES]:
        when = (say.second(loss.at), say.after(loss.at, drill.fault_at))
        yield say.word(loss.key), say.word(loss.what), *when, say.word(loss.shard)


def _predicted(drill: Drill) -> str:
    survives = {True: "The cluster survives", False: "The cluster does not survive", None: ""}[
        drill.prediction.survives
    ]
    return ": ".join(filter(None, (survives, drill.prediction.verdict)))


def _history(drill: Drill, former: Sequence[Drill]) -> list[tuple[str, ...]]:
    """Former drills, the newest last, and this one at the end; nothing where it is the first."""
    others = [d for d in former if not d.id or d.id != drill.id]
    return [line(d) for d in [*others, drill]] if others else []
