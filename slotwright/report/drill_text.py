"""A drill in the terminal: at most LINES lines, and one line for each former drill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slotwright.report import drill_words as say
from slotwright.report.drill_figures import HISTORY, figures, in_order, line, moments, past, predicted_gap, sentence
from slotwright.report.drill_read import Drill, Shard, read

LINES = 25
_REASONS, _FINDINGS, _FIGURES, _NAME = 4, 2, 6, 26
_SHARD_HEADS = ("shard", "struck", "write gap", "predicted", "read gap", "promoted", "new master", "failed", "lost")


def summary_lines(drill: Mapping[str, Any]) -> list[str]:
    """Verdict, reasons, figures, moments, and as many shards as there is room for, struck and longest gap first."""
    known = read(drill)
    lines = [f"{known.verdict.upper()}: {sentence(known)}", *_some(known.reasons, _REASONS, "reasons"), ""]
    lines += _figures(known)
    lines += [f"seconds after the fault: {_moments(known)}", *_some(known.findings, _FINDINGS, "findings"), ""]
    return lines + _shards(known, LINES - len(lines))


def compare_lines(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each former drill, the newest last: date, what, fault, verdict, then the figures with their names."""
    rows = []
    for drill in past(history):
        *what, gap, lost, redundant = line(drill)
        rows.append([*what, f"{HISTORY[4]} {gap}", f"{HISTORY[5]} {lost}", f"{HISTORY[6]} {redundant}"])
    return _aligned(rows)


def _figures(drill: Drill) -> list[str]:
    rows = [
        [f.title + (f" ({f.note})" if f.note else ""), f.measured, f.objective, f.predicted, f.word]
        for f in figures(drill)[:_FIGURES]
    ]
    return _aligned([["", "measured", "objective", "predicted", ""], *rows])


def _moments(drill: Drill) -> str:
    return ", ".join(f"{what} {say.short(at)}" for what, at in moments(drill)) or say.NONE


def _shards(drill: Drill, room: int) -> list[str]:
    shards = sorted(in_order(drill), key=lambda s: (not s.struck, -(s.write_gap or 0.0)))
    shown = shards if len(shards) + 1 <= room else shards[: room - 2]
    lines = _aligned([list(_SHARD_HEADS), *map(_shard, shown)]) if shards else ["no shards were measured"]
    rest = len(shards) - len(shown)
    return [*lines, f"and {say.plural(rest, 'more shard')}"] if rest else lines


def _shard(shard: Shard) -> list[str]:
    return [
        say.cut(say.word(shard.name), _NAME),
        "yes" if shard.struck else "no",
        say.seconds(shard.write_gap),
        predicted_gap(shard.predicted_write_gap, shard.never),
        say.seconds(shard.read_gap),
        say.seconds(shard.promoted),
        say.cut(say.word(shard.new_master), _NAME),
        say.count(shard.counts.failed),
        say.count(shard.counts.lost),
    ]


def _some(lines: Sequence[str], most: int, noun: str) -> list[str]:
    shown = lines if len(lines) <= most else lines[: most - 1]
    rest = [f"  and {len(lines) - len(shown)} more {noun}"] if len(shown) < len(lines) else []
    return [*(f"  {text}" for text in shown), *rest]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
