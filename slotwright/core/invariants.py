"""What "healthy" means, as questions to a view: the invariants I1–I9. docs/architecture.md lists them.

I10 (all of it stable over time, a canary write) needs a clock and belongs to slotwright/link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from slotwright.core.guard import conflict_findings, foreign_findings, lost_owner_findings
from slotwright.core.survival import survival
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, Member, NodeView
from slotwright.errors import Finding, Severity

# A replica further behind than this (bytes of replication stream) is not "in sync".
LAG_LIMIT = 10 * 1024 * 1024


def violations(topology: Topology, view: ClusterView) -> tuple[Finding, ...]:
    """Every broken invariant, I1 first. Empty means healthy as far as one look can tell."""
    nodes = [n for n in view.nodes if n.peers]
    joined = [n for n in nodes if n.id in view.components[0]] if nodes else []
    return tuple(
        chain(
            _coverage(view, joined),
            _one_view(view, joined),
            _open_slots(nodes),
            _epochs(view),
            _identity(topology, view, nodes),
            _links(view, nodes),
            _replicas(topology, view),
            _zones(topology, view),
            _persistence(nodes),
        )
    )


def _coverage(view: ClusterView, joined: list[NodeView]) -> Iterator[Finding]:
    if view.unowned:
        yield Finding(
            "I1", "slots " + str(view.unowned), f"{len(view.unowned)} slots have no owner",
            "run site.yml: it assigns unowned slots",
        )  # fmt: skip
    for conflict in conflict_findings(view):
        yield Finding("I1", conflict.where, conflict.what, conflict.remedy)
    for owner in (view.members[i] for i in view.owners):
        if not owner.alive and not owner.peer.is_ghost:
            yield Finding(
                "I1", f"slots {owner.peer.slots}", f"belong to {owner.name}, which does not answer",
                "start it; or wait for the failover to one of its replicas, where it has one that lives",
            )  # fmt: skip
    for lost in lost_owner_findings(view):
        yield Finding("I1", lost.where, lost.what, lost.remedy)
    for node in joined:
        if node.state != "ok" and not view.unowned:
            yield Finding(
                "I1", _at(node), f"says cluster_state:{node.state}",
                "see which masters it cannot reach (CLUSTER NODES on it), and mend the network or start them",
            )  # fmt: skip


def _one_view(view: ClusterView, nodes: list[NodeView]) -> Iterator[Finding]:
    """Of members that answer. What a newcomer knows of dead ones stays incomplete, and _identity names those."""
    pictures = {
        n.name: frozenset((p.id, p.endpoint, p.master, p.slots) for p in n.peers if p.id in view.by_id) for n in nodes
    }
    if not pictures:
        return
    common = Counter(pictures.values()).most_common(1)[0][0]
    for name, picture in pictures.items():
        if picture != common:
            about = sorted({view.name_of(entry[0]) for entry in picture ^ common})
            yield Finding(
                "I2", f"node {name}", f"sees {', '.join(about)} otherwise than most nodes do",
                "wait a node timeout for the gossip; if it stays, see whether its bus port is reachable",
            )  # fmt: skip


def _open_slots(nodes: list[NodeView]) -> Iterator[Finding]:
    for node in nodes:
        for word, slots in (("importing", node.myself.importing), ("migrating", node.myself.migrating)):
            if slots:
                shown = ",".join(str(s) for s, _ in slots)
                yield Finding(
                    "I3", _at(node), f"has the slots {shown} open ({word})",
                    "finish or undo the move: redis-cli --cluster fix, with all nodes reachable",
                )  # fmt: skip
        if node.foreign:
            yield Finding(
                "I3", _at(node), f"holds keys of the slots {node.foreign}, which it does not own",
                "find their owner (CLUSTER KEYSLOT) and compare before anything is deleted",
            )  # fmt: skip


def _epochs(view: ClusterView) -> Iterator[Finding]:
    by_epoch: dict[int, list[str]] = {}
    for node_id in view.owners:
        member = view.members[node_id]
        by_epoch.setdefault(member.peer.config_epoch, []).append(member.name)
    for epoch, names in sorted(by_epoch.items()):
        if len(names) > 1:
            yield Finding(
                "I4", f"nodes {', '.join(sorted(names))}", f"share the config epoch {epoch}",
                "wait: Redis resolves it by itself; if it stays, CLUSTER BUMPEPOCH on one of them",
            )  # fmt: skip


def _identity(topology: Topology, view: ClusterView, nodes: list[NodeView]) -> Iterator[Finding]:
    leaving = {i.name for i in topology.leaving}
    for silence in (s for s in view.silent if s.instance not in leaving):
        finding = silence.finding
        yield Finding("I5", finding.where, finding.what, finding.remedy)
    for foreign in foreign_findings(topology, view, joining=False, acting=False):
        yield Finding("I5", foreign.where, foreign.what, foreign.remedy)
    for ids in view.components[1:]:
        names = sorted({view.by_id[i].name for i in ids if i in view.by_id} - leaving)
        if names:
            yield Finding(
                "I5", f"node{'s' * (len(names) > 1)} {', '.join(names)}", "stands apart from the cluster",
                "run site.yml: it joins what a shard may take, and names the spares",
                Severity.WARNING,
            )  # fmt: skip
    for node in nodes:
        for peer in node.peers:
            if peer.is_ghost or (peer.failing and peer.id in view.by_id):
                flags = ", ".join(sorted(f for f in peer.flags if f not in ("master", "slave")))
                yield Finding(
                    "I5", _at(node), f"sees {view.name_of(peer.id)} ({peer.endpoint}) as {flags}",
                    "start that node or mend the network to it; a node that is gone for good: CLUSTER FORGET",
                )  # fmt: skip


def _links(view: ClusterView, nodes: list[NodeView]) -> Iterator[Finding]:
    for node in nodes:
        for peer in node.peers:
            if peer.id == node.id or peer.is_ghost or peer.failing or peer.id not in view.by_id:
                continue
            missing = [
                way
                for way, links in (("to", node.links_out), ("from", node.links_in))
                if links is not None and peer.id not in links
            ]
            if missing or not peer.connected:
                way = " and ".join(missing) or "to"
                yield Finding(
                    "I6", _at(node), f"has no cluster bus link {way} {view.name_of(peer.id)}",
                    "open the bus port (port + 10000) between the two hosts, both ways",
                )  # fmt: skip


def _replicas(topology: Topology, view: ClusterView) -> Iterator[Finding]:
    at = {i.name: i for i in topology.instances}
    for master in (view.members[i] for i in view.owners):
        replicas = view.replicas_of(master.id)
        good = [r for r in replicas if _in_sync(r, master)]
        if len(good) < topology.replicas:
            lame = ", ".join(r.name for r in replicas if r not in good)
            yield Finding(
                "I7", f"shard of {master.name}",
                f"has {len(good)} replicas in sync, {topology.replicas} are wanted"
                + (f" (not in sync: {lame})" if lame else ""),
                "see master_link_status and the log of the replicas; run site.yml for missing ones",
            )  # fmt: skip
        yield from _misplaced(topology, at, master, replicas)


def _misplaced(
    topology: Topology, at: dict[str, Instance], master: Member, replicas: tuple[Member, ...]
) -> Iterator[Finding]:
    home = at.get(master.name)
    placed = [(r, at[r.name]) for r in replicas if r.name in at]
    if home is None or not placed:
        return
    for replica, place in placed:
        if place.host == home.host:
            yield Finding(
                "I7", f"node {replica.name}", f"is on the host of its master {master.name} ({home.host})",
                "make it a replica of a master elsewhere: CLUSTER REPLICATE",
            )  # fmt: skip
    if len(topology.zones) > 1 and all(place.zone == home.zone for _, place in placed):
        yield Finding(
            "I7", f"shard of {master.name}", f"has no replica outside zone {home.zone}",
            "make a node of another zone its replica: CLUSTER REPLICATE",
        )  # fmt: skip


def _in_sync(replica: Member, master: Member) -> bool:
    if replica.node is None or replica.node.loading:
        return False
    mine = replica.node.replication
    behind = master.node.replication.offset - mine.offset if master.node else 0
    return mine.link_up and not mine.syncing and behind <= LAG_LIMIT


def _zones(topology: Topology, view: ClusterView) -> Iterator[Finding]:
    """I8. An ERROR only where the inventory could meet it: three zones, replicas, and no risk accepted."""
    could = len(topology.zones) > 2 and topology.replicas > 0 and not topology.allow_zone_risk
    severity = Severity.ERROR if could else Severity.WARNING
    if not view.owners:
        return
    for lost in survival(topology, view):
        if not lost.survives:
            remedy = (
                f"see to a replica in sync outside zone {lost.lost} for every master in it"
                if lost.quorum
                else "have fewer masters there: CLUSTER FAILOVER on one of their replicas in a zone with fewer, "
                "or, if the inventory has fewer than three zones, add one"
            )
            yield Finding("I8", f"zone {lost.lost}", f"must not be lost: {lost.verdict}", remedy, severity)


def _persistence(nodes: list[NodeView]) -> Iterator[Finding]:
    for node in nodes:
        if node.loading:
            yield Finding("I9", _at(node), "is loading its data", "wait until it has")
        if not node.persistence_ok:
            yield Finding(
                "I9", _at(node), "could not save its data the last time",
                "see its log, and the space and the rights of its data directory",
            )  # fmt: skip
        if node.maxmemory and node.used_memory > node.maxmemory:
            yield Finding(
                "I9", _at(node), f"uses {node.used_memory} bytes of memory, above maxmemory {node.maxmemory}",
                "raise maxmemory, or move slots away",
            )  # fmt: skip


def _at(node: NodeView) -> str:
    return f"node {node.name} ({node.endpoint})"
