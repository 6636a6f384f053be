"""From what is wanted and what is there to the ordered steps between. Pure, deterministic, total.

For every k: plan(topology, simulate(view, steps[:k])).steps == steps[k:].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slotwright.core.aim import Aim, aim, planned_slots
from slotwright.core.guard import (
    conflict_findings,
    data_findings,
    foreign_findings,
    forgotten_findings,
    identity_findings,
    leaver_findings,
    lost_owner_findings,
    orphan_findings,
)
from slotwright.core.layout import Layout
from slotwright.core.live import Live, read
from slotwright.core.placement import Placement, place
from slotwright.core.program import Unsolved
from slotwright.core.schedule import Schedule
from slotwright.core.simulate import simulate
from slotwright.core.slots import ALL_SLOTS
from slotwright.core.steps import AssignSlots, Configure, Detach, Meet, Remove, Replicate, SetEpoch, Step
from slotwright.core.topology import Topology
from slotwright.core.versions import mixed_versions, rdb_format
from slotwright.core.view import ClusterView, NodeView, union
from slotwright.errors import Finding, Refused, Severity

# Up to this size every node meets every other; beyond it the handshakes would choke the nodes, and a graph
# of log2(N) neighbours with gossip is faster (measured, see docs/architecture.md).
FULL_MESH = 30


@dataclass(frozen=True)
class Plan:
    """Steps in order; or refusals, and then no steps. findings are worth knowing but stop nothing."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    spares: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        return tuple(step.describe() for step in self.steps)


def plan(topology: Topology, view: ClusterView) -> Plan:
    """The steps that bring the nodes of `view` to `topology`, or the reasons why nothing may be done."""
    if refusals := (*_weightless(topology), *identity_findings(view, [i.name for i in topology.leaving])):
        return Plan(refusals=refusals)
    try:
        placement = place(topology)
        parts, found, spares = _parts(topology, view, placement)
    except Refused as refused:
        return Plan(refusals=refused.findings)
    except Unsolved:
        return Plan(refusals=(_too_hard(topology),))
    hastened = any(isinstance(step, Meet | Replicate) for step in parts) and may_hasten(topology, view)
    first = tuple(_hasten(topology, view)) if hastened else ()
    last = tuple(_settle(topology, view, hastened=hastened))
    foreign = foreign_findings(topology, view, joining=bool(parts), acting=bool(first or parts or last))
    refusals = (
        tuple(f for f in foreign if f.severity is Severity.ERROR)
        or (lost_owner_findings(view) if parts else ())
        or (*data_findings(view, planned_slots(topology, placement)), *conflict_findings(view))
        or (*leaver_findings(topology, view), *orphan_findings(view, parts))
        or tuple(_old_replicas(view, parts))
    )
    findings = (*placement.risks, *foreign, *found, *forgotten_findings(view), *mixed_versions(view.nodes))
    if refusals:
        return Plan(refusals=refusals, findings=tuple(f for f in findings if f not in refusals))
    return Plan((*first, *parts, *last), findings=findings, spares=spares)


def _parts(
    topology: Topology, view: ClusterView, placement: Placement
) -> tuple[tuple[Step, ...], tuple[Finding, ...], tuple[str, ...]]:
    """All steps but the settings, what is worth knowing about them, and the spares.

    A replica that is detached has to meet the others again, before all else: from there it is planned anew.
    """
    live = read(topology, view)
    wanted = aim(topology, view, live, placement)
    schedule = Schedule(topology, view, live, wanted.layout, wanted.slots)
    spares = wanted.layout.spares
    ready: tuple[Step, ...] = tuple(schedule.detached())
    steps: tuple[Step, ...] = ready or (
        *_epochs(topology, view),
        *_assignments(view, live, wanted),
        *_meets(topology, view, spares),
        *schedule.steps(),
    )
    found = (*_waiting(topology, live, wanted.layout), *schedule.findings)
    if steps and isinstance(steps[-1], Detach):
        more, later, spares = _parts(topology, simulate(view, steps), placement)
        return (*steps, *more), (*found, *(f for f in later if f not in found)), spares
    return (*steps, *_removals(topology, view, steps, wanted.layout)), found, spares


def _removals(topology: Topology, view: ClusterView, before: tuple[Step, ...], layout: Layout) -> Iterator[Step]:
    """Leavers that are members, each after those that follow it; what is left of those that were reset; ids without an
    address. before: the steps that are done before any leaves.

    The last are none of the inventory's where all of its instances are known members.
    """
    needed = {part.master for part in layout.parts}
    emptied = {h.name for h in layout.dissolved}
    leaving = {i.name: n for n, i in enumerate(topology.leaving) if i.name not in needed}
    served = union(slots for owner, slots in view.owners.items() if owner in view.by_id) == ALL_SLOTS
    leavers = [m for m in view.members.values() if m.name in leaving]
    then = simulate(view, before) if len(leavers) > 1 else view
    found = []
    for member in leavers:
        # In the end: who is master of a shard that stays hands it over, and follows then.
        master = member.name in emptied or (member.peer.is_master and not member.peer.slots)
        # One that was forgotten while it was down, and is back as a replica, has nothing that the others do not serve.
        back = member.node is not None and not member.node.isolated and bool(member.peer.master) and served
        if back or any(member.id in n.known_ids for n in view.nodes if n.name != member.name):
            found.append((master, -_depth(then, member.id), leaving[member.name], member.id, member.name))
    yield from (Remove(name, node_id) for *_, node_id, name in sorted(found))
    gone = {i.endpoint for i in topology.leaving}
    for member in sorted((m for m in view.former if m.peer.endpoint in gone), key=lambda m: m.id):
        yield Remove(member.id[:8], member.id)
    known_names = {m.name for m in view.members.values()}
    if all(i.name in known_names for i in topology.instances):
        lost = {p.id for n in view.nodes for p in n.peers if "noaddr" in p.flags and p.id not in view.members}
        for node_id in sorted(lost - view.by_id.keys()):
            yield Remove(node_id[:8], node_id)


def _depth(view: ClusterView, node_id: str) -> int:
    """How many nodes a member follows: a master that was replaced may be a replica that still has one itself."""
    above: list[str] = []
    while (member := view.members.get(node_id)) and (node_id := member.peer.master) and node_id not in above:
        above.append(node_id)
    return len(above)


def _waiting(topology: Topology, live: Live, layout: Layout) -> Iterator[Finding]:
    """Why there will not be as many shards as are wanted, and who cannot leave."""
    for instance in topology.leaving:
        if any(part.master == instance.name for part in layout.parts if part.holder and not part.holder.away):
            yield Finding(
                "leaver-stays",
                f"node {instance.name} ({instance.endpoint})",
                "cannot leave yet: no node that answers could take its slots",
                "start those that do not answer; or name others in their place",
                Severity.WARNING,
            )
    count = len(layout.parts)
    away = [h for h in live.holders if h.away]
    if count == topology.shards:
        return
    if away:
        where = f"slots {', '.join(str(h.slots) for h in away)}"
        why = f"no slots move while their owner does not answer ({', '.join(h.name for h in away)})"
        remedy = "start it; or wait for the failover to one of its replicas, where it has one that lives"
    else:
        silent = [i.name for i in topology.instances if i.name not in live.present]
        where = f"cluster {topology.name}"
        why = f"the nodes that answer are not enough for more (not there: {', '.join(silent)})"
        remedy = "start them; or state them as removed, and name others in their place"
    what = f"{topology.shards} shards are wanted and there will be {count}: {why}"
    yield Finding("shards-wait", where, what, remedy, Severity.WARNING)


def _weightless(topology: Topology) -> Iterator[Finding]:
    for name, weight in topology.weights:
        if not weight > 0:
            yield Finding(
                "weight",
                f"cluster {topology.name}, weight of {name}",
                f"{weight:g} is not above 0",
                "give it a weight above 0; an instance that is to hold nothing is removed, or not made",
            )


def _too_hard(topology: Topology) -> Finding:
    return Finding(
        "too-hard",
        f"cluster {topology.name}",
        "no layout could be proved the best one in the time that a plan may take",
        "make the change in several smaller ones",
    )


def may_hasten(topology: Topology, view: ClusterView) -> bool:
    """Only an empty cluster that does not serve yet may run with a creation's settings."""
    if not topology.settings or view.silent or any(n.keys for n in view.nodes):
        return False
    fast = dict(_fast(topology))
    serving = union(s for i, s in view.owners.items() if i in view.components[0]) == ALL_SLOTS
    return not serving or any(dict(n.settings).items() >= fast.items() for n in view.nodes)


def _fast(topology: Topology) -> tuple[tuple[str, str], ...]:
    """Settings that shorten the waits of a creation; see docs/architecture.md for what each one shortens.

    The more nodes there are, the longer their handshakes take: a node timeout that runs out meanwhile costs more
    than it saves (measured: 60 nodes on 2 busy cores, 3 to 69 s with 500 ms, 2 to 7 s with 1000 ms).
    """
    count = len(topology.instances)
    timeout = "500" if count <= FULL_MESH else "1000" if count <= 2 * FULL_MESH else "2000"
    fast = {
        "cluster-node-timeout": timeout,
        "cluster-replica-no-failover": "yes",
        "repl-diskless-sync-delay": "0",
    }
    return tuple((k, fast[k]) for k in sorted(dict(topology.settings)) if k in fast)


def _hasten(topology: Topology, view: ClusterView) -> Iterator[Step]:
    return _configure(view, _fast(topology), "while the cluster is still empty")


def _settle(topology: Topology, view: ClusterView, *, hastened: bool) -> Iterator[Step]:
    fast = dict(_fast(topology)) if hastened else {}
    wanted = topology.settings
    leaving = {i.name for i in topology.leaving}
    for node in (n for n in view.nodes if n.name not in leaving):
        then = dict(node.settings) | {k: v for k, v in fast.items() if k in dict(node.settings)}
        changed = tuple((k, v) for k, v in wanted if then.get(k, v) != v)
        if changed:
            yield Configure(node.name, changed, "as the inventory has it")


def _configure(view: ClusterView, settings: tuple[tuple[str, str], ...], purpose: str) -> Iterator[Step]:
    for node in view.nodes:
        changed = tuple((k, v) for k, v in settings if node.setting(k) not in (None, v))
        if changed:
            yield Configure(node.name, changed, purpose)


def _epochs(topology: Topology, view: ClusterView) -> Iterator[Step]:
    """A config epoch of its own for every node that still stands alone; later Redis refuses to set one."""
    joined = [n for n in view.nodes if not n.isolated]
    base = max((max(n.current_epoch, n.myself.config_epoch) for n in joined), default=0)
    number = {instance.name: i for i, instance in enumerate(topology.instances, start=1)}
    for node in view.nodes:
        if node.isolated and node.myself.config_epoch == 0 and len(view.nodes) > 1 and node.name in number:
            yield SetEpoch(node.name, base + number[node.name])


def _assignments(view: ClusterView, live: Live, wanted: Aim) -> Iterator[Step]:
    """Slots that nobody owns. A replica that is still to become a master gets its part later."""
    masters = {h.name for h in live.holders if not h.away} | live.empty
    for number, slots in wanted.slots.given.items():
        name = wanted.layout.parts[number].current
        if name in masters:
            yield AssignSlots(name, slots)


def _meets(topology: Topology, view: ClusterView, spares: tuple[str, ...]) -> Iterator[Step]:
    """One Meet for each group of nodes that is not yet in the cluster, in the inventory's order.

    Spares are left out, and leavers that hold nothing. The cluster is the group with most members; it only grows, so
    that it stays the one.
    """
    order = {i.name: n for n, i in enumerate(topology.everyone)}
    holding = {m.name for m in view.members.values() if m.peer.slots}
    idle = set(spares) | {i.name for i in topology.leaving} - holding
    groups = []
    for ids in view.linked:
        names = sorted((view.by_id[i].name for i in ids), key=order.__getitem__)
        if any(name not in idle for name in names):
            groups.append(names)
    if not groups:
        return
    groups.sort(key=lambda names: order[names[0]])
    joined = max(groups, key=len)
    for group in groups:
        if group[0] not in joined:
            yield Meet(group[0], tuple(_peers(joined)))
            joined = sorted([*joined, *group], key=order.__getitem__)


def _peers(joined: list[str]) -> Iterator[str]:
    """All of the joined while they are few; else the last one, the 2nd last, the 4th, the 8th …"""
    if len(joined) < FULL_MESH:
        yield from joined
        return
    back = 1
    while back <= len(joined):
        yield joined[-back]
        back *= 2


def _old_replicas(view: ClusterView, parts: tuple[Step, ...]) -> Iterator[Finding]:
    for step in parts:
        if not isinstance(step, Replicate):
            continue
        node, master = view.by_name[step.node], view.by_name[step.master]
        mine, theirs = rdb_format(node), rdb_format(master)
        if mine is not None and theirs is not None and mine < theirs:
            yield Finding(
                "replica-too-old",
                f"node {node.name} ({node.endpoint})",
                f"{_version(node)} cannot load a snapshot of its master {master.name} ({_version(master)})",
                "install the master's version, or a later one, on its host",
            )


def _version(node: NodeView) -> str:
    return f"{node.flavor} {node.version}"
