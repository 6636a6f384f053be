"""Where masters and replicas were before, during and after the fault: zones are columns, a shard is a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from slotwright.report import drill_words as say
from slotwright.report.drill_names import short_names
from slotwright.report.drill_read import PHASES, Drill, Node
from slotwright.report.drill_svg import add, root, text_of, titled

CELL, ROW, HEAD = 124, 24, 28
_LETTERS = 15  # bold ones that fit into a column


def pictures(drill: Drill) -> list[tuple[str, str]]:
    """Phase and SVG, for those phases of which something is known."""
    drill = _at_home(drill)
    zones = _zones(drill)
    rows = _rows(drill)
    names = short_names(drill)
    masters = {n.name for n in drill.topology["before"] if n.role == "master"}
    return [
        (phase, _picture(drill, phase, zones, rows, names, masters if drill.topology["before"] else None))
        for phase in PHASES
        if drill.topology[phase]
    ]


def _at_home(drill: Drill) -> Drill:
    """Each shard by the name that it had before the fault, however its new master is called. A node that is down tells
    no shard: it stays where it was."""
    homes = {n.name: n.shard for n in drill.topology["before"] if n.shard}

    def home(node: Node) -> Node:
        leader = node.shard or node.name
        return replace(node, shard=homes.get(leader, node.shard))

    return replace(drill, topology={phase: tuple(map(home, drill.topology[phase])) for phase in PHASES})


def _zones(drill: Drill) -> list[str]:
    """The zones as stated, then any other that a node names."""
    named = [n.zone for phase in PHASES for n in drill.topology[phase]]
    return list(dict.fromkeys([*drill.zones, *named]))


def _rows(drill: Drill) -> dict[str, int]:
    """Shard → its first line, the same in all pictures; _END → the number of lines.

    A shard needs as many lines as it has nodes in one zone in any picture."""
    first = dict.fromkeys([*(s.name for s in drill.shards), *(n.shard for p in PHASES for n in drill.topology[p])])
    nodes = [(phase, n) for phase in PHASES for n in drill.topology[phase]]
    rows, at = {}, 0
    for shard in first:
        crowd: dict[tuple[str, str], int] = {}
        for phase, node in nodes:
            if node.shard == shard:
                crowd[phase, node.zone] = crowd.get((phase, node.zone), 0) + 1
        if crowd:
            rows[shard] = at
            at += max(crowd.values())
    return {**rows, _END: at}


_END = "\n"  # no shard is called so: names are on one line


def _picture(
    drill: Drill,
    phase: str,
    zones: Sequence[str],
    rows: dict[str, int],
    names: dict[str, str],
    before: set[str] | None,
) -> str:
    height = HEAD + rows[_END] * ROW + 2
    svg = root(len(zones) * CELL, height, f"Roles {phase} the fault")
    for i, zone in enumerate(zones):
        _column(svg, zone, i * CELL, height, phase == "during" and drill.struck == f"zone {zone}")
    taken: dict[tuple[str, str], int] = {}
    for node in sorted(drill.topology[phase], key=lambda n: n.name):
        line = taken.get((node.shard, node.zone), 0)
        taken[node.shard, node.zone] = line + 1
        y = HEAD + (rows[node.shard] + line) * ROW
        new = before is not None and node.role == "master" and node.name not in before
        _node(svg, node, names.get(node.name, ""), zones.index(node.zone) * CELL, y, new)
    return text_of(svg)


def _column(svg: Element, zone: str, x: float, height: float, struck: bool) -> None:
    add(svg, "rect", "zone struck" if struck else "zone", x=x + 1, y=1, width=CELL - 2, height=height - 2, rx=5)
    words = f"zone {zone or say.NONE}"
    words = words if len(words) < _LETTERS else zone
    words = f"✗ {say.cut(words, _LETTERS - 2)}" if struck else say.cut(words, _LETTERS)
    add(svg, "text", "zone-word", words, x=x + CELL / 2, y=18, text_anchor="middle")


def _node(svg: Element, node: Node, name: str, x: float, y: float, new: bool) -> None:
    role = node.role if node.role in ("master", "replica", "down") else "unclear"
    group = titled(add(svg, "g", f"node {role}{' new' if new else ''}"), _title(node, new))
    x, width, height = x + 6, CELL - 12, ROW - 4
    add(group, "rect", x=x, y=y, width=width, height=height, rx=3)
    if role == "down":
        add(group, "path", "cross", d=f"M{x + 4} {y + 4}l12 12m0 -12l-12 12")
    room = _LETTERS - (2 if new or role == "down" else 0)
    words = f"{'▲ ' if new else ''}{say.cut(say.word(name), room)}"
    middle = x + width / 2 + (8 if role == "down" else 0)
    add(group, "text", "", words, x=middle, y=y + 14, text_anchor="middle")


def _title(node: Node, new: bool) -> str:
    role = "new master" if new else say.word(node.role)
    return f"{say.word(node.name)}: {role} of shard {say.word(node.shard)}, host {say.word(node.host)}"
