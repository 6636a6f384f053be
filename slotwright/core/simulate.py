"""Applying steps to a view without a cluster: the preview of check mode, and what each stage is verified against.

Gossip is part of it: nodes that know each other, even through others, end with one common view, and a replica
whose master answers ends in sync. So simulate(view, ()) is what the view will settle to by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import AssignSlots, Configure, Meet, Replicate, SetEpoch, Step
from slotwright.core.view import ClusterView, NodeView, Peer, Replication, union


def simulate(view: ClusterView, steps: Iterable[Step]) -> ClusterView:
    """The view once the steps are done and the gossip has settled. Raises TypeError for an unknown step."""
    nodes = {n.name: n for n in view.nodes}
    peers = {m.id: m.peer for m in view.members.values()}
    groups = [set(ids) for ids in view.components]
    for step in steps:
        node = nodes[step.node]
        mine = peers[node.id]
        match step:
            case Configure(settings=settings):
                nodes[step.node] = replace(node, settings=tuple(sorted((dict(node.settings) | dict(settings)).items())))
            case SetEpoch(epoch=epoch):
                peers[node.id] = replace(mine, config_epoch=epoch)
            case AssignSlots(slots=slots):
                peers[node.id] = replace(mine, slots=mine.slots | slots)
            case Meet(peers=names):
                _merge(groups, {node.id, *(nodes[name].id for name in names)})
            case Replicate(master=name):
                master = nodes[name]
                role = Replication("slave", link_up=True, offset=master.replication.offset)
                flags = mine.flags - {"master"} | {"slave"}
                peers[node.id] = replace(mine, flags=flags, master=master.id, slots=Slots())
                nodes[step.node] = replace(node, replication=role, keys=master.keys)
            case _:
                raise TypeError(f"simulate does not know {type(step).__name__}")
    return _gossip(view, nodes, peers, groups)


def _merge(groups: list[set[str]], ids: set[str]) -> None:
    touched = [g for g in groups if g & ids]
    for group in touched:
        groups.remove(group)
    groups.append(set().union(*touched))


def _gossip(
    view: ClusterView, nodes: dict[str, NodeView], peers: dict[str, Peer], groups: list[set[str]]
) -> ClusterView:
    """Every node of a group sees the whole group, each member in that member's own words."""
    common: dict[str, tuple[tuple[Peer, ...], bool, int]] = {}
    for group in groups:
        seen = tuple(peers[i] for i in sorted(group) if i in peers)
        served = union(p.slots for p in seen if p.id in view.by_id) == ALL_SLOTS
        epoch = max((p.config_epoch for p in seen), default=0)
        for node_id in group:
            common[node_id] = (seen, served, epoch)
    ended = []
    for name in (n.name for n in view.nodes):
        node = nodes[name]
        seen, served, epoch = common[node.id]
        # Knowledge that is not returned stays as it is: only a Meet mends it.
        one_sided = [p for p in node.peers if p.id in view.by_id and p.id not in {s.id for s in seen}]
        linked = peers[node.id].master in view.by_id
        ended.append(
            replace(
                node,
                peers=(*seen, *one_sided),
                state="ok" if served else node.state,
                current_epoch=max(node.current_epoch, epoch),
                replication=replace(node.replication, link_up=True, syncing=False) if linked else node.replication,
                loading=False,
            )
        )
    return ClusterView(tuple(ended), view.silent)


def lacking(view: ClusterView, expected: ClusterView) -> tuple[str, ...]:
    """What `view` still lacks to be `expected`, in words; empty once it is reached.

    Compared per node: whom it knows and with which role, master and slots; its settings; its state and its
    replication link where the expected view has them good. Of nodes that do not answer nothing is demanded: gossip
    never tells a newcomer all about them.
    """
    found: list[str] = []
    for want in expected.nodes:
        have = view.by_name.get(want.name)
        if have is None:
            found.append(f"{want.name} does not answer")
        else:
            found.extend(_node_lacks(have, want, expected))
    return tuple(found)


def unsettled(view: ClusterView) -> tuple[str, ...]:
    """What will still change by itself: gossip under way, replicas not yet in sync, states not yet ok."""
    return lacking(view, simulate(view, ()))


def _node_lacks(have: NodeView, want: NodeView, expected: ClusterView) -> Iterable[str]:
    if have.id != want.id:
        yield f"{have.name} has another node id than before"
        return
    for peer in (p for p in want.peers if p.id in expected.by_id):
        seen = have.by_id.get(peer.id)
        if seen is None or seen.is_ghost:
            yield f"{have.name} does not know {expected.name_of(peer.id)} yet"
        elif seen.is_master != peer.is_master or seen.master != peer.master:
            yield f"{have.name} does not see the role of {expected.name_of(peer.id)} yet"
        elif seen.slots != peer.slots:
            yield f"{have.name} does not see the slots of {expected.name_of(peer.id)} yet"
    wanted = dict(want.settings)
    for directive, value in have.settings:
        if wanted.get(directive, value) != value:
            yield f"{have.name} has {directive} {value}, not {wanted[directive]}"
    if want.state == "ok" and have.state != "ok":
        yield f"{have.name} says cluster_state:{have.state}"
    if have.loading:
        yield f"{have.name} is loading its data"
    if want.replication.link_up and (have.replication.syncing or not have.replication.link_up):
        yield f"{have.name} is not in sync with its master yet"
