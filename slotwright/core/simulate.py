"""Applying steps to a view without a cluster: the preview of check mode, and what each stage is verified against.

Gossip is part of it: nodes that reach each other, even through others, end with one common view, and a replica
that reaches its master ends in sync. So simulate(view, ()) is what the view will settle to by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import (
    AssignSlots,
    Configure,
    Detach,
    Failover,
    LoadFunctions,
    Meet,
    MoveSlots,
    Remove,
    Replicate,
    SetEpoch,
    Step,
)
from slotwright.core.view import ClusterView, NodeView, Peer, Replication, union


def simulate(view: ClusterView, steps: Iterable[Step]) -> ClusterView:
    """The view once the steps are done and the gossip has settled. Raises TypeError for an unknown step."""
    world = _World(view)
    for step in steps:
        world.do(step)
    return world.settled()


class _World:
    """What is, while steps are done: each node, each member in its own words, and who can reach whom."""

    def __init__(self, view: ClusterView) -> None:
        self.view = view
        self.nodes = {n.name: n for n in view.nodes}
        self.peers = {m.id: m.peer for m in view.members.values()}
        self.groups = [set(ids) for ids in view.linked]
        self.removed: set[str] = set()
        self.dismissed: set[str] = set()

    def do(self, step: Step) -> None:
        match step:
            case Configure(node=name, settings=settings):
                node = self.nodes[name]
                self.nodes[name] = replace(node, settings=tuple(sorted((dict(node.settings) | dict(settings)).items())))
            case SetEpoch(node=name, epoch=epoch):
                self._change(name, config_epoch=epoch)
            case AssignSlots(node=name, slots=slots):
                self._change(name, slots=self._line(name).slots | slots)
                self._close((name,), slots)
                self.nodes[name] = replace(self.nodes[name], foreign=self.nodes[name].foreign - slots)
            case Meet(node=name, peers=names):
                self._merge({self.nodes[n].id for n in (name, *names)})
            case Replicate(node=name, master=master):
                self._follow(name, self.nodes[master])
            case MoveSlots(node=name, target=target, slots=slots):
                self._move(name, target, slots)
            case Failover(node=name):
                self._fail_over(name)
            case Remove(node=name, id=node_id):
                self._remove(name, node_id)
            case LoadFunctions(node=name, source=source):
                self.nodes[name] = replace(self.nodes[name], functions=self.nodes[source].functions)
            case Detach(node=name):
                self._detach(name)
            case _:
                raise TypeError(f"simulate does not know {type(step).__name__}")

    def settled(self) -> ClusterView:
        """Every node of a group sees the whole group, each member in that member's own words."""
        view = self.view
        common: dict[str, tuple[tuple[Peer, ...], frozenset[str], bool, int]] = {}
        near: dict[str, set[str]] = {}
        whole: dict[str, set[str]] = {}
        for ids in view.components:
            together = set().union(*(group for group in self.groups if not group.isdisjoint(ids)))
            whole |= dict.fromkeys(together, together)
        for group in self.groups:
            beyond = {k for i in group for k in view.by_id[i].known_ids if k not in view.by_id}
            seen = tuple(self.peers[i] for i in sorted(group | beyond) if i in self.peers)
            served = union(p.slots for p in seen if p.slots and p.id in view.by_id) == ALL_SLOTS
            epoch = max((p.config_epoch for p in seen), default=0)
            for node_id in group:
                common[node_id] = (seen, frozenset(p.id for p in seen), served, epoch)
                near[node_id] = group
        ended = []
        for node in (self.nodes[n.name] for n in view.nodes if n.name in self.nodes):
            seen, ids, served, epoch = common[node.id]
            master = self.peers[node.id].master
            replication = node.replication
            if master in near[node.id]:
                replication = replace(replication, link_up=True, syncing=False)
            elif master in view.by_id:  # at an address that the node does not know
                replication = replace(replication, link_up=False)
            # Who has lost nodes that answer may still say ok for a moment.
            cut_off = near[node.id] != whole[node.id]
            ended.append(
                replace(
                    node,
                    peers=(*seen, *(p for p in node.peers if p.id not in ids and self._stays_known(p))),
                    state="ok" if served else "fail" if cut_off else node.state,
                    current_epoch=max(node.current_epoch, epoch),
                    replication=replication,
                    loading=False,
                )
            )
        return replace(
            view, nodes=tuple(ended), silent=tuple(s for s in view.silent if s.instance not in self.dismissed)
        )

    def _stays_known(self, line: Peer) -> bool:
        """What is not mended by gossip: who does not know the node back, who is lost, and whose address is.

        A handshake that leads nowhere is given up by itself.
        """
        if line.id in self.removed:
            return False
        return line.id in self.view.by_id or (line.is_ghost and "handshake" not in line.flags)

    def _line(self, name: str) -> Peer:
        return self.peers[self.nodes[name].id]

    def _change(self, name: str, **fields: object) -> None:
        self.peers[self.nodes[name].id] = replace(self._line(name), **fields)  # type: ignore[arg-type]

    def _merge(self, ids: set[str]) -> None:
        touched = [g for g in self.groups if g & ids]
        self.groups = [g for g in self.groups if not g & ids] + [set().union(*touched)]

    def _follow(self, name: str, master: NodeView) -> None:
        flags = self._line(name).flags - {"master"} | {"slave"}
        self._change(name, flags=flags, master=master.id, slots=Slots(), importing=(), migrating=())
        self.nodes[name] = replace(
            self.nodes[name],
            replication=Replication("slave", link_up=True, offset=master.replication.offset),
            keys=master.keys,
            functions=master.functions,
        )

    def _lead(self, name: str) -> None:
        self._change(name, flags=self._line(name).flags - {"slave"} | {"master"}, master="")
        old = self.nodes[name].replication
        self.nodes[name] = replace(self.nodes[name], replication=Replication("master", offset=old.offset))

    def _close(self, names: Iterable[str], slots: Slots) -> None:
        for name in names:
            line = self._line(name)
            self._change(
                name,
                importing=tuple(entry for entry in line.importing if entry[0] not in slots),
                migrating=tuple(entry for entry in line.migrating if entry[0] not in slots),
            )

    def _newest_epoch(self) -> int:
        return max(p.config_epoch for p in self.peers.values())

    def _move(self, name: str, target: str, slots: Slots) -> None:
        source, sink = self._line(name), self._line(target)
        self._close((name, target), slots)
        self.nodes[name] = replace(self.nodes[name], foreign=self.nodes[name].foreign - slots)
        moved = slots & source.slots
        if not source.slots and source.is_master and name != target:  # keys of open slots were all that it had
            self.nodes[name] = replace(self.nodes[name], keys=0)
        if not moved or name == target:
            return
        # A node that takes slots takes a new epoch, unless it has the newest one already.
        newest = self._newest_epoch()
        epoch = newest if sink.config_epoch == newest > 0 else newest + 1
        keys = self.nodes[name].keys * len(moved) // len(source.slots)
        self._change(name, slots=source.slots - moved)
        self._change(target, slots=sink.slots | moved, config_epoch=epoch)
        for leader, more in ((name, -keys), (target, keys)):
            for each in (leader, *self._followers(leader)):
                self.nodes[each] = replace(self.nodes[each], keys=self.nodes[each].keys + more)

    def _followers(self, name: str) -> list[str]:
        leader = self.nodes[name].id
        return [n.name for n in self.nodes.values() if self.peers[n.id].master == leader]

    def _fail_over(self, name: str) -> None:
        old = self.peers[self._line(name).master]
        slots, epoch = old.slots, self._newest_epoch() + 1
        self._lead(name)
        self._change(name, slots=slots, config_epoch=epoch)
        self.peers[old.id] = replace(old, slots=Slots())
        for member in [p.id for p in self.peers.values() if p.master == old.id] + [old.id]:
            if member in self.view.by_id:
                self._follow(self.view.by_id[member].name, self.nodes[name])
            else:
                line = self.peers[member]
                flags = line.flags - {"master"} | {"slave"}
                self.peers[member] = replace(line, flags=flags, master=self.nodes[name].id)

    def _remove(self, name: str, node_id: str) -> None:
        self.peers.pop(node_id, None)
        self.removed.add(node_id)
        if node_id in self.view.by_id:
            self.nodes.pop(name, None)
            for group in self.groups:
                group.discard(node_id)
            self.groups = [g for g in self.groups if g]
        self.dismissed.add(name)

    def _detach(self, name: str) -> None:
        self._lead(name)
        self.nodes[name] = replace(self.nodes[name], keys=0, state="fail", peers=(self._line(name),))
        alone = self.nodes[name].id
        for group in self.groups:
            group.discard(alone)
        self.groups = [*(g for g in self.groups if g), {alone}]


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
    return (*found, *_apart(view, expected))


def _apart(view: ClusterView, expected: ClusterView) -> Iterable[str]:
    """Nodes that know each other, but have lost each other by a change of addresses."""
    group = {node_id: number for number, ids in enumerate(view.linked) for node_id in ids}
    for ids in expected.linked:
        nodes = [node for node in view.nodes if node.id in ids]
        for node in nodes[1:]:
            if group[node.id] != group[nodes[0].id]:
                yield f"{node.name} and {nodes[0].name} do not reach each other at their addresses yet"


def unsettled(view: ClusterView) -> tuple[str, ...]:
    """What will still change by itself: gossip under way, replicas not yet in sync, states not yet ok."""
    return lacking(view, simulate(view, ()))


def _node_lacks(have: NodeView, want: NodeView, expected: ClusterView) -> Iterable[str]:
    if have.id != want.id:
        yield f"{have.name} has another node id than before"
        return
    # A node takes no gossip about slots that it imports: what it says of them stays, until their move is ended.
    untold = _open(have, "importing")
    if still := (untold | _open(have, "migrating")) - _open(want, "importing") - _open(want, "migrating"):
        yield f"{have.name} has the slots {still} open still"
    gone = {p.id for p in have.peers if not p.is_ghost} - expected.members.keys()
    for node_id in sorted(gone):
        yield f"{have.name} still knows {node_id}"
    for peer in (p for p in want.peers if p.id in expected.by_id and want.id in expected.by_id[p.id].known_ids):
        seen = have.by_id.get(peer.id)
        if seen is None or seen.is_ghost:
            yield f"{have.name} does not know {expected.name_of(peer.id)} yet"
        elif (seen.is_master != peer.is_master or seen.master != peer.master) and not _went_along(peer, expected):
            yield f"{have.name} does not see the role of {expected.name_of(peer.id)} yet"
        elif (seen.slots | peer.slots) - (seen.slots & peer.slots) - untold - expected.unowned:
            yield f"{have.name} does not see the slots of {expected.name_of(peer.id)} yet"
    wanted = dict(want.settings)
    for directive, value in have.settings:
        if wanted.get(directive, value) != value:
            yield f"{have.name} has {directive} {value}, not {wanted[directive]}"
    if want.state == "ok" and have.state != "ok" and not untold:
        yield f"{have.name} says cluster_state:{have.state}"
    if have.loading:
        yield f"{have.name} is loading its data"
    if want.replication.link_up and (have.replication.syncing or not have.replication.link_up):
        yield f"{have.name} is not in sync with its master yet"


def _open(node: NodeView, kind: Literal["importing", "migrating"]) -> Slots:
    line = node.by_id.get(node.id)
    return Slots.of(slot for slot, _ in getattr(line, kind)) if line else Slots()


def _went_along(peer: Peer, expected: ClusterView) -> bool:
    """Whether this node may be found as a replica of who took the last slots of a master, which is expected as empty.

    Redis before 7.0 always makes the emptied master one, and later ones where cluster-allow-replica-migration is yes,
    or who took its slots has no others. Its own replicas go with it a second later: a replica of a replica becomes one
    of the master.
    """
    leader = peer if peer.is_master else expected.by_id[peer.master].myself if peer.master in expected.by_id else None
    return leader is not None and not leader.slots
