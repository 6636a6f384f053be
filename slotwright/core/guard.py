"""What forbids any change: nodes that cannot be reached, are not who they should be, or are not ours to touch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, combinations

from slotwright.core.slots import Slots
from slotwright.core.steps import Detach, MoveSlots, Replicate, Step
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member, NodeView, union
from slotwright.errors import Finding, Severity


def identity_findings(view: ClusterView, leaving: Collection[str] = ()) -> tuple[Finding, ...]:
    """ERRORs of nodes that do not answer, are not in cluster mode, or share one identity. leaving: names."""
    return tuple(chain(_silent(view, leaving), _cluster_mode(view), _clones(view)))


def _silent(view: ClusterView, leaving: Collection[str]) -> Iterator[Finding]:
    """A member that is down stops nothing, nor does a leaver that is gone; a wrong password would hide what they do."""
    for silence in view.silent:
        member = view.named_members.get(silence.instance)
        if silence.kind == "auth" if member or silence.instance in leaving else True:
            yield silence.finding


def _cluster_mode(view: ClusterView) -> Iterator[Finding]:
    for node in view.nodes:
        if not node.cluster_enabled:
            yield Finding(
                "cluster-mode-off",
                _at(node),
                "runs with cluster-enabled no",
                "restart it with cluster-enabled yes (role redis_node writes that), or correct the address",
            )


def _clones(view: ClusterView) -> Iterator[Finding]:
    for one, other in combinations((n for n in view.nodes if n.id), 2):
        if one.run_id and one.run_id == other.run_id:
            yield Finding(
                "same-process",
                f"nodes {one.name} and {other.name}",
                f"{one.endpoint} and {other.endpoint} lead to one and the same process",
                "correct redis_node_address of one of them, or remove it from the inventory",
            )
        elif one.id == other.id:
            yield Finding(
                "cloned-node",
                f"nodes {one.name} and {other.name}",
                f"two processes share the node id {one.id}: one's data directory is a copy of the other's",
                "stop the copy, delete its nodes.conf and start it again, so that it gets an id of its own",
            )


def foreign_findings(topology: Topology, view: ClusterView, *, joining: bool, acting: bool) -> tuple[Finding, ...]:
    """Members that the inventory does not name.

    With joining (nodes are to get another part in the cluster) they are ERRORs, because one MEET merges two clusters
    for good; with acting (any change at all) where they are the majority, because the cluster is then hardly ours.
    Otherwise they are WARNINGs.
    """
    return tuple(chain.from_iterable(_foreign(topology, view, ids, joining, acting) for ids in view.components))


def _foreign(
    topology: Topology, view: ClusterView, ids: frozenset[str], joining: bool, acting: bool
) -> Iterator[Finding]:
    # What is left of a leaver that was reset is forgotten as it would be itself.
    gone = {i.endpoint for i in topology.leaving}
    left = {m.id for m in view.former if m.peer.endpoint in gone}
    strangers = [m for m in view.unlisted if m.id in ids - left]
    ours = [view.by_id[i] for i in ids if i in view.by_id]
    if not strangers:
        return
    few = 2 * len(ours) <= len(topology.instances) or len(ours) <= len(strangers)
    if few and (joining or acting):
        for node in sorted(ours, key=lambda n: topology[n.name].sort_key):
            yield Finding(
                "foreign-cluster",
                _at(node),
                f"is a member of another cluster, with {_named(strangers)} that the inventory does not name",
                "correct redis_node_address or redis_node_ports; if it is meant to leave that cluster, "
                "remove it there and reset it (CLUSTER RESET HARD) first",
            )
        return
    names = {i.endpoint: i.name for i in topology.instances}
    for stranger in strangers:
        forget = f"CLUSTER FORGET {stranger.id} on every other node within 60 s"
        severity = Severity.ERROR if joining else Severity.WARNING
        if stranger.peer.endpoint in names:
            yield Finding(
                "identity-lost",
                f"node {names[stranger.peer.endpoint]} ({stranger.peer.endpoint})",
                f"was the member {stranger.id} and has another node id now: its nodes.conf was lost",
                f"stop it and put its old nodes.conf back; or, if its data may go, {forget}",
                severity,
            )
        else:
            yield Finding(
                "unlisted-member",
                f"node {stranger.peer.endpoint} (id {stranger.id})",
                "is a member of the cluster but not in the inventory",
                f"add its host to the inventory; or, if it is to go, state that for the cluster: "
                f'redis_cluster_absent: ["{stranger.peer.endpoint}"]'
                if stranger.peer.port
                else "it has no address, and nobody can be there: run playbooks/fix.yml, which has it forgotten",
                severity,
            )


def lost_owner_findings(view: ClusterView) -> tuple[Finding, ...]:
    """ERRORs for owners of slots that the nodes know without an address: to give their slots away loses their keys."""
    return tuple(
        Finding(
            "owner-without-address",
            f"slots {lost.peer.slots}",
            f"belong to the node {lost.id}, whose address nobody knows"
            + "".join(f"; {r.name} is its replica" for r in view.replicas_of(lost.id)),
            "start that node again with its nodes.conf and data; only if both are gone for good, "
            f"CLUSTER FORGET {lost.id} on every node within 60 s",
        )
        for lost in view.lost_owners
    )


def leaver_findings(topology: Topology, view: ClusterView) -> tuple[Finding, ...]:
    """ERRORs for nodes that are stated as removed, do not answer, and have keys that would be lost with them."""
    names = {i.name: f"node {i.name} ({i.endpoint})" for i in topology.leaving}
    found = []
    for member in (m for m in view.members.values() if m.name in names and not m.alive):
        if member.peer.slots:
            found.append(
                Finding(
                    "leaver-owns-slots",
                    names[member.name],
                    f"is to be removed, but does not answer and owns the slots {member.peer.slots}",
                    "start it, so that it can hand them over; or have one of its replicas take them "
                    "(playbooks/failover.yml)",
                )
            )
        elif coming := _on_their_way(topology, view, member):
            copy = next((r.name for r in view.replicas_of(member.id) if r.node and r.node.keys), "")
            found.append(
                Finding(
                    "leaver-has-keys",
                    names[member.name],
                    f"is to be removed, but does not answer, and the move of the slots {coming} to it had begun: "
                    "what it had got of them is nowhere else" + (f" but at {copy}" if copy else ""),
                    "start it, so that they can be brought back; or"
                    + (f" CLUSTER FAILOVER TAKEOVER at {copy}, then run again; or" if copy else "")
                    + " give them up: playbooks/fix.yml, which says what would be lost",
                )
            )
    return tuple(found)


def _on_their_way(topology: Topology, view: ClusterView, dead: Member) -> Slots:
    """Slots that were being moved to a master that died, and that nobody has taken over from.

    Who took over has what it had got. Nobody does where it owned no slots yet.
    """
    followers = [r for r in view.replicas_of(dead.id) if r.node is None or r.node.keys]
    if topology.replicas and not followers:
        return Slots()
    marks = Slots.of(slot for n in view.nodes if n.peers for slot, other in n.myself.migrating if other == dead.id)
    return marks - union(n.foreign for n in view.nodes)


def forgotten_findings(view: ClusterView) -> tuple[Finding, ...]:
    """WARNINGs for nodes that are no part of the cluster any more, though they take themselves for one."""
    return tuple(
        Finding(
            "forgotten",
            _at(node),
            f"is stated as removed, was forgotten while it was down, and is back (with {node.keys} keys of that time); "
            "the others serve all slots, and know nothing of it",
            "site.yml stops it and puts its data aside; do not start it again",
            Severity.WARNING,
        )
        for node in view.forgotten
    )


def orphan_findings(view: ClusterView, parts: Sequence[Step]) -> tuple[Finding, ...]:
    """ERRORs for nodes with keys that are to follow a master, though they may have what nobody else has.

    That is a master without slots that holds keys, and a replica of nobody who owns slots while some have no owner.
    """
    found = []
    for name in dict.fromkeys(step.node for step in parts if isinstance(step, Replicate | Detach)):
        node = view.by_name[name]
        owner = view.owners.get(node.id) or view.owners.get(node.myself.master)
        if not node.keys or owner or not (node.myself.is_master or view.unowned):
            continue
        # Keys of slots that are others' go to these before; more than that holds the step up when its turn comes.
        begun = Slots.of(slot for slot, _ in node.myself.importing) | node.foreign
        if begun and begun <= union(s.slots for s in parts if isinstance(s, MoveSlots) and s.node == name):
            continue
        found.append(
            Finding(
                "not-empty",
                _at(node),
                f"holds {node.keys} keys though neither it nor its master owns slots: a new part would delete them",
                "see what they are; if nothing needs them, FLUSHALL there, or CLUSTER RESET HARD",
            )
        )
    return tuple(found)


def _named(members: list[Member]) -> str:
    shown = ", ".join(m.peer.endpoint for m in members[:3])
    return f"{shown} and {len(members) - 3} more" if len(members) > 3 else shown


def data_findings(view: ClusterView, planned: Mapping[str, Slots]) -> tuple[Finding, ...]:
    """ERRORs of nodes standing alone with keys, or with slots other than the `planned` ones (by node name)."""
    masters = (n for n in view.nodes if n.myself.is_master and view.stands_alone(n))
    return tuple(chain.from_iterable(_alone(n, planned.get(n.name, Slots())) for n in masters))


def _alone(node: NodeView, planned: Slots) -> Iterator[Finding]:
    if node.keys:
        yield Finding(
            "not-empty",
            _at(node),
            f"holds {node.keys} keys but is not a member of the cluster: joining could lose them",
            "correct the address; or move the data away, then FLUSHALL and CLUSTER RESET HARD on that node",
        )
    elif not node.myself.slots <= planned:
        yield Finding(
            "owns-slots",
            _at(node),
            f"owns the slots {node.myself.slots} on its own, which the plan does not give it",
            "correct the address; or, if nothing needs it as it is, CLUSTER RESET HARD on that node",
        )


def conflict_findings(view: ClusterView) -> tuple[Finding, ...]:
    """ERRORs of slots that two nodes claim, be it within one cluster or in two half-made ones."""
    found = []
    owners = [(i, slots) for i, slots in view.owners.items() if view.members[i].alive]
    for (one, ours), (other, theirs) in combinations(owners, 2):
        if both := ours & theirs:
            found.append(
                Finding(
                    "slot-conflict",
                    f"nodes {view.name_of(one)} and {view.name_of(other)}",
                    f"both claim the slots {both}",
                    "find out which of them holds the keys of these slots (CLUSTER COUNTKEYSINSLOT); "
                    "CLUSTER DELSLOTS on the other, if it holds none",
                )
            )
    return tuple(found)


def _at(node: NodeView) -> str:
    return f"node {node.name} ({node.endpoint})"
