"""The layout of a view as data and as lines: what --diff compares and what a person reads."""

from __future__ import annotations

from collections.abc import Iterator

from slotwright.core.survival import Survival
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member


def layout(topology: Topology, view: ClusterView) -> list[dict[str, object]]:
    """Shards in slot order: master, its zone, slots, replicas with their zones. Plain data, for JSON."""
    return [
        {
            "slots": str(master.peer.slots),
            "slot_count": len(master.peer.slots),
            "master": _node(topology, master),
            "replicas": [_node(topology, r) for r in _replicas(view, master)],
        }
        for master in _masters(view)
    ]


def layout_lines(topology: Topology, view: ClusterView) -> list[str]:
    """The same for people, then the nodes that have no part in it."""
    lines = []
    for master in _masters(view):
        lines.append(f"slots {master.peer.slots} ({len(master.peer.slots)})")
        lines.append(f"  master   {_label(topology, master)}")
        lines += [f"  replica  {_label(topology, r)}" for r in _replicas(view, master)]
    return lines + list(_idle(topology, view))


def before_after(topology: Topology, before: ClusterView, after: ClusterView) -> tuple[str, str]:
    """The two sides of --diff: the layouts, and those settings of nodes that differ."""
    lines = [layout_lines(topology, view) for view in (before, after)]
    for then in after.nodes:
        now = before.by_name.get(then.name, then)
        changed = [(k, now.setting(k), v) for k, v in then.settings if now.setting(k) != v]
        for directive, old, new in changed:
            lines[0].append(f"{then.name}: {directive} {old}")
            lines[1].append(f"{then.name}: {directive} {new}")
    one, other = ("".join(f"{line}\n" for line in side) for side in lines)
    return one, other


def _idle(topology: Topology, view: ClusterView) -> Iterator[str]:
    """Nodes without slots that replicate nobody: in the cluster, or still alone."""
    main = view.components[0] if view.components else frozenset()
    for member in view.members.values():
        if not member.peer.slots and not member.peer.master:
            state = "no part yet" if member.id in main and len(main) > 1 else "alone"
            yield f"{state}  {_label(topology, member)}"


def survival_lines(rows: tuple[Survival, ...], part: str = "zone") -> list[str]:
    """The survival table: a heading, then a line per zone (or host)."""
    head = (part, "masters lost", "masters left", "needed", "slots lost", "bare shards", "verdict")
    body = [
        (
            row.lost,
            str(row.masters_lost),
            str(row.masters_left),
            str(row.masters_needed),
            str(row.slots_lost),
            str(row.shards_bare),
            row.verdict,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in [head, *body]]


def _masters(view: ClusterView) -> list[Member]:
    return sorted((view.members[i] for i in view.owners), key=lambda m: m.peer.slots.ranges()[0])


def _replicas(view: ClusterView, master: Member) -> list[Member]:
    return sorted(view.replicas_of(master.id), key=lambda m: m.name)


def _node(topology: Topology, member: Member) -> dict[str, object]:
    at = {i.name: i for i in topology.everyone}.get(member.name)
    return {
        "name": member.name,
        "id": member.id,
        "endpoint": member.peer.endpoint,
        "zone": at.zone if at else "",
        "host": at.host if at else "",
        "alive": member.alive,
    }


def _label(topology: Topology, member: Member) -> str:
    zone = f"zone {topology[member.name].zone}" if member.name in topology else "not in the inventory"
    leaves = "  (to be removed)" if any(i.name == member.name for i in topology.leaving) else ""
    return f"{member.name}  {zone}{leaves}" + ("" if member.alive else "  (does not answer)")
