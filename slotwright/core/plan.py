"""From what is wanted and what is there to the ordered steps between. Pure, deterministic, total.

For every k: plan(topology, simulate(view, steps[:k])).steps == steps[k:].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slotwright.core.aim import Aim, aim, from_placement
from slotwright.core.guard import (
    conflict_findings,
    data_findings,
    foreign_findings,
    identity_findings,
    lost_owner_findings,
)
from slotwright.core.placement import place
from slotwright.core.slots import ALL_SLOTS
from slotwright.core.steps import AssignSlots, Configure, Meet, Replicate, SetEpoch, Step
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
    if refusals := identity_findings(view):
        return Plan(refusals=refusals)
    try:
        placement = place(topology)
    except Refused as refused:
        return Plan(refusals=refused.findings)
    wanted = aim(topology, view, placement)
    meets = tuple(_meets(topology, view, wanted))
    replicas = tuple(_replicas(topology, view, wanted))
    hastened = bool(meets or replicas) and may_hasten(topology, view)
    parts = (*_epochs(topology, view), *_assignments(view, wanted), *meets, *replicas)
    first = tuple(_hasten(topology, view)) if hastened else ()
    last = tuple(_settle(topology, view, hastened=hastened))
    foreign = foreign_findings(topology, view, joining=bool(parts), acting=bool(first or parts or last))
    refusals = (
        tuple(f for f in foreign if f.severity is Severity.ERROR)
        or (lost_owner_findings(view) if parts else ())
        or (*data_findings(view, from_placement(placement).slots), *conflict_findings(view))
        or (*_count_findings(topology, wanted), *_old_replicas(view, replicas))
    )
    findings = (*placement.risks, *foreign, *mixed_versions(view.nodes))
    if refusals:
        return Plan(refusals=refusals, findings=tuple(f for f in findings if f not in refusals))
    return Plan((*first, *parts, *last), findings=findings, spares=wanted.spares)


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
    for node in view.nodes:
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
        if node.isolated and node.myself.config_epoch == 0 and len(view.nodes) > 1:
            yield SetEpoch(node.name, base + number[node.name])


def _assignments(view: ClusterView, wanted: Aim) -> Iterator[Step]:
    unowned = view.unowned
    for name, slots in wanted.slots.items():
        if name in view.by_name and (missing := slots & unowned):
            yield AssignSlots(name, missing)


def _meets(topology: Topology, view: ClusterView, wanted: Aim) -> Iterator[Step]:
    """One Meet for each group of nodes that is not yet in the cluster, in the inventory's order.

    Spares are left out. The cluster is the group with most members; it only grows, so that it stays the one.
    """
    order = {i.name: n for n, i in enumerate(topology.instances)}
    spares = set(wanted.spares)
    groups = []
    for ids in view.components:
        names = sorted((view.by_id[i].name for i in ids if i in view.by_id), key=order.__getitem__)
        if any(name not in spares for name in names):
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


def _replicas(topology: Topology, view: ClusterView, wanted: Aim) -> Iterator[Step]:
    for node in view.nodes:
        master = wanted.master_of.get(node.name, "")
        if master in view.by_name and node.myself.master != view.by_name[master].id:
            yield Replicate(node.name, master)


def _count_findings(topology: Topology, wanted: Aim) -> Iterator[Finding]:
    if len(wanted.slots) != topology.shards:
        yield Finding(
            "shards-differ",
            f"cluster {topology.name}, redis_cluster_shards",
            f"the cluster has {len(wanted.slots)} shards and the inventory wants {topology.shards}; "
            "this version of Slotwright does not move slots",
            f"set redis_cluster_shards to {len(wanted.slots)}",
        )


def _old_replicas(view: ClusterView, replicas: tuple[Step, ...]) -> Iterator[Finding]:
    for step in replicas:
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
