"""The timeline of a drill: what each shard answered, how slowly and how often not, on one axis of seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from slotwright.report import drill_words as say
from slotwright.report.drill_columns import (
    BAD,
    IDLE,
    OK,
    SOME,
    Columns,
    columns,
    failures,
    reads,
    runs,
    slowest,
    writes,
)
from slotwright.report.drill_figures import in_order, moments
from slotwright.report.drill_names import short_names
from slotwright.report.drill_read import Bucket, Drill, Shard, bare_shard
from slotwright.report.drill_svg import Axis, add, path_of_boxes, path_of_steps, root, text_of, titled

WIDTH, LEFT, RIGHT = 1180, 150, 150
LANE, LETTER = 15, 7.8  # of bold words in a wide typeface
LATENCY, ERRORS, SPACE = 110, 80, 42


@dataclass(frozen=True)
class Sizes:
    """Heights of the rows of a shard: with many shards they are thin."""

    write: float
    read: float
    pitch: float


def timeline(drill: Drill) -> str:
    """The SVG, or nothing where nothing was measured over time."""
    if drill.series is None:
        return ""
    found = columns(drill.series)
    shards = _rows(drill, found)
    sizes = Sizes(15, 6, 29) if len(shards) <= 12 else Sizes(9, 3.5, 17)
    axis = _time(drill, found)
    lanes = _lanes(drill, axis)
    top = 24 + LANE * (1 + max((lane for lane, *_ in lanes), default=0)) + 22
    groups = [[s for s in shards if s.struck], [s for s in shards if not s.struck]]
    heights = [18 + len(group) * sizes.pitch for group in groups if group]
    panels = top + sum(heights) + 34
    bottom = panels + LATENCY + SPACE + ERRORS
    svg = root(WIDTH, bottom + 40, "Availability, latency and errors over the seconds before and after the fault")
    _hatch(svg)
    _window(svg, drill, axis, top - 20, bottom)
    _ticks(svg, axis, top, bottom)
    _availability(svg, found, groups, short_names(drill), axis, sizes, top)
    _moments(svg, lanes, axis, top, bottom)
    _latency(svg, found, groups, axis, panels)
    _errors(svg, found, groups, axis, panels + LATENCY + SPACE)
    return text_of(svg)


def _rows(drill: Drill, found: Columns) -> list[Shard]:
    """Every shard that was reported, struck first, then those of which only the series tells."""
    known = in_order(drill)
    names = {s.name for s in known}
    return known + [bare_shard(name) for name in found.shards if name not in names]


def _time(drill: Drill, found: Columns) -> Axis:
    """From the first column to the last, or to the last moment where that is later."""
    ends = [found.begin, found.end, 0.0, *drill.moments.values()]
    low, high = min(ends), max(ends)
    high += max((high - low) * 0.01, abs(low) * 1e-6, 1e-3)  # never empty
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def _hatch(svg: Element) -> None:
    """Failures are striped: told apart without colours."""
    units = {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    pattern = SubElement(add(svg, "defs"), "pattern", {"id": "hatch", "width": "5", "height": "5", **units})
    add(pattern, "rect", "bad", width=5, height=5)
    add(pattern, "rect", "stripe", width=1.6, height=5)


def _window(svg: Element, drill: Drill, axis: Axis, top: float, bottom: float) -> None:
    healed = drill.healed
    end = axis.high if healed is None else max(healed, 0.0)
    left, width = axis(0.0), axis(end) - axis(0.0)
    add(svg, "rect", "window", x=left, y=top, width=width, height=bottom - top)
    words = f"fault: {drill.fault or say.NONE}, {'not healed' if healed is None else say.seconds(healed)}"
    if len(words) * LETTER < width:
        add(svg, "text", "window-word", words, x=left + width / 2, y=top + 13, text_anchor="middle")


def _ticks(svg: Element, axis: Axis, top: float, bottom: float) -> None:
    for value in axis.ticks(12):
        x = axis(value)
        add(svg, "line", "grid", x1=x, x2=x, y1=top, y2=bottom)
        add(svg, "text", "tick", say.short(value), x=x, y=bottom + 15, text_anchor="middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    add(svg, "text", "caption", "seconds after the fault", x=middle, y=bottom + 33, text_anchor="middle")


def _availability(
    svg: Element,
    found: Columns,
    groups: Sequence[Sequence[Shard]],
    names: Mapping[str, str],
    axis: Axis,
    sizes: Sizes,
    top: float,
) -> None:
    y = top
    for title, group in zip(("Struck shards", "Other shards"), groups, strict=True):
        if not group:
            continue
        add(svg, "text", "group", f"{title} ({len(group)})", x=4, y=y + 11)
        add(svg, "text", "head", "write / read gap", x=WIDTH - RIGHT + 10, y=y + 11)
        y += 18
        for shard in group:
            _shard(svg, found, shard, names.get(shard.name, ""), axis, sizes, y)
            y += sizes.pitch


def _shard(svg: Element, found: Columns, shard: Shard, name: str, axis: Axis, sizes: Sizes, y: float) -> None:
    size = "row" if sizes.write > 10 else "row small"
    base = y + sizes.write - (3 if sizes.write > 10 else 0)
    titled(add(svg, "text", size, say.cut(say.word(name), 20), x=LEFT - 8, y=base, text_anchor="end"), shard.name)
    _bars(svg, found, shard.name, writes, axis, y, sizes.write)
    _bars(svg, found, shard.name, reads, axis, y + sizes.write + 1.5, sizes.read)
    gaps = f"{say.seconds(shard.write_gap)} / {say.seconds(shard.read_gap)}"
    add(svg, "text", size, gaps, x=WIDTH - RIGHT + 10, y=base)


def _bars(
    svg: Element,
    found: Columns,
    name: str,
    state: Callable[[Sequence[Bucket]], str],
    axis: Axis,
    y: float,
    height: float,
) -> None:
    """Whole where it answered, striped where it did not, its lower third striped where some failed, else a line."""
    boxes: dict[str, list[tuple[float, float, float, float]]] = {OK: [], BAD: [], IDLE: []}
    for what, first, number in runs(map(state, found.shards.get(name, ()))):
        x = axis(found.begin + first * found.width)
        width = axis(found.begin + (first + number) * found.width) - x
        if what == IDLE:
            boxes[IDLE].append((x, y + height / 2 - 1, width, 2))
            continue
        boxes[BAD if what == BAD else OK].append((x, y, width, height))
        if what == SOME:
            boxes[BAD].append((x, y + height * 0.6, width, height * 0.4))
    for what, drawn in boxes.items():
        if drawn:
            add(svg, "path", f"bar-{what}", d=path_of_boxes(drawn))


Values = list[float | None]


def _split(
    of: Callable[[Columns, list[str]], Values], found: Columns, groups: Sequence[Sequence[Shard]]
) -> list[Values]:
    return [of(found, [s.name for s in group]) for group in groups]


def _latency(svg: Element, found: Columns, groups: Sequence[Sequence[Shard]], axis: Axis, top: float) -> None:
    values = _split(slowest, found, groups)
    shown = [v for line in values for v in line if v is not None] or [1.0]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    scale = Axis(10.0**low, 10.0 ** max(high, low + 1), top + LATENCY, top, log=True)
    _panel(svg, "Slowest answer, ms (log scale)", scale, found, values, axis)


def _errors(svg: Element, found: Columns, groups: Sequence[Sequence[Shard]], axis: Axis, top: float) -> None:
    values = _split(failures, found, groups)
    most = max([v for line in values for v in line if v is not None], default=0.0)
    _panel(svg, "Failures per second", Axis(0.0, most * 1.1 or 1.0, top + ERRORS, top), found, values, axis)


def _panel(svg: Element, title: str, scale: Axis, found: Columns, values: Sequence[Values], axis: Axis) -> None:
    add(svg, "text", "group", title, x=LEFT, y=scale.end - 8)
    add(svg, "rect", "frame", x=LEFT, y=scale.end, width=WIDTH - RIGHT - LEFT, height=scale.start - scale.end)
    for value in scale.ticks(5):
        y = scale(value)
        add(svg, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        add(svg, "text", "tick", f"{value:,.6g}", x=LEFT - 6, y=y + 4, text_anchor="end")
    for which, line in reversed(list(zip(("struck", "other"), values, strict=True))):
        if any(v is not None for v in line):
            add(svg, "path", f"line-{which}", d=path_of_steps(_steps(line, found, axis, scale)))
            _key(svg, which, scale.end + (12 if which == "struck" else 28))


def _steps(line: Values, found: Columns, axis: Axis, scale: Axis) -> Iterator[tuple[float, float, float | None]]:
    for i, value in enumerate(line):
        start = found.begin + i * found.width
        yield axis(start), axis(start + found.width), None if value is None else scale(value)


def _key(svg: Element, which: str, y: float) -> None:
    x = WIDTH - RIGHT + 10
    add(svg, "path", f"line-{which}", d=f"M{x} {y:.1f}h22")
    add(svg, "text", "head", f"{which} shards", x=x + 27, y=y + 4)


Lane = tuple[int, float, str]


def _lanes(drill: Drill, axis: Axis) -> list[Lane]:
    """Lane (0 is lowest), seconds, words. From the last to the first: each goes above those that its words reach, so
    that no line runs through words."""
    placed: list[Lane] = []
    for what, at in reversed([m for m in [("fault", 0.0), *moments(drill)] if m[0]]):
        words = f"{what} {say.seconds(at)}"
        reach = axis(at) + len(words) * LETTER + 12
        placed.append((1 + max((lane for lane, then, _ in placed if axis(then) < reach), default=-1), at, words))
    return placed


def _moments(svg: Element, lanes: Sequence[Lane], axis: Axis, top: float, bottom: float) -> None:
    for lane, at, words in lanes:
        x, y = axis(at), top - 28 - lane * LANE
        add(svg, "line", "moment", x1=x, x2=x, y1=y - 8, y2=bottom)
        add(svg, "text", "moment-word", words, x=x + 4, y=y + 1)
