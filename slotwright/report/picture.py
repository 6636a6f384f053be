"""The cluster as a picture in the terminal: shards by zone, what each zone's loss would cost, what is wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from slotwright.core.invariants import violations
from slotwright.core.survival import survival
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member
from slotwright.errors import Finding, Severity

WIDTH = 100
_COLORS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


def picture(topology: Topology, view: ClusterView, findings: Sequence[Finding]) -> RenderableType:
    """Everything that one look tells, for a person."""
    parts: list[RenderableType] = [_head(topology, view), _shards(topology, view), _survival(topology, view)]
    if findings:
        parts.append(_findings(findings))
    return Group(*parts)


def picture_lines(topology: Topology, view: ClusterView, findings: Sequence[Finding]) -> list[str]:
    """The picture without colours, a string a line, at most WIDTH characters wide where zones allow."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(picture(topology, view, findings))
    return [line.rstrip() for line in captured.get().splitlines()]


def _head(topology: Topology, view: ClusterView) -> Text:
    healthy = not [f for f in violations(topology, view) if f.severity is Severity.ERROR]
    text = Text(f"Cluster {topology.name}: ", style="bold")
    text.append("healthy" if healthy else "NOT healthy", style="green" if healthy else "bold red")
    keys = sum(n.keys for n in view.nodes if n.peers and n.myself.is_master)
    versions = ", ".join(sorted({f"{n.flavor} {n.version}" for n in view.nodes})) or "no answer"
    text.append(
        f"  ({len(view.owners)} shards, {len(view.nodes)} of {len(topology.instances)} nodes answer, "
        f"{keys} keys, {versions})",
        style="not bold",
    )
    return text


def _shards(topology: Topology, view: ClusterView) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("slots", no_wrap=True)
    for zone in topology.zones:
        table.add_column(f"zone {zone}", no_wrap=True)
    at = {i.name: i.zone for i in topology.instances}

    def cell(members: Sequence[Member], zone: str, master: str) -> Text:
        lines = [_mark(m, m.id == master) for m in members if at.get(m.name) == zone]
        return Text("\n").join(lines)

    masters = sorted((view.members[i] for i in view.owners), key=lambda m: m.peer.slots.ranges()[0])
    for master in masters:
        members = [master, *sorted(view.replicas_of(master.id), key=lambda m: m.name)]
        table.add_row(str(master.peer.slots), *(cell(members, zone, master.id) for zone in topology.zones))
    idle = [m for m in view.members.values() if not m.peer.slots and not m.peer.master]
    if idle:
        table.add_row("none", *(cell(idle, zone, "") for zone in topology.zones))
    return Group(table, Text("● master   ○ replica in sync   ◌ not in sync, or no answer", style="dim"))


def _mark(member: Member, is_master: bool) -> Text:
    if member.node is None:
        return Text(f"◌ {member.name} (no answer)", style="bold red")
    if is_master:
        return Text(f"● {member.name}", style="bold green")
    synced = member.node.replication.link_up and not member.node.replication.syncing
    return Text(f"○ {member.name}", style="cyan") if synced else Text(f"◌ {member.name}", style="yellow")


def _survival(topology: Topology, view: ClusterView) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="\nIf a zone is lost", title_justify="left")
    for heading in ("zone", "masters lost", "masters left", "needed", "slots lost", "verdict"):
        table.add_column(heading)
    for row in survival(topology, view):
        numbers = (row.masters_lost, row.masters_left, row.masters_needed, row.slots_lost)
        style = "green" if row.survives else "bold red"
        table.add_row(row.lost, *map(str, numbers), Text(row.verdict, style=style))
    return table


def _findings(findings: Sequence[Finding]) -> Text:
    lines = [Text(f"{f.severity.value}: {f}", style=_COLORS[f.severity]) for f in findings]
    return Text("\n").join(lines)
