"""Which node is to be what, given what there is: who owns which slots, and who replicates whom.

A blank inventory gets the optimal placement (core/placement.py). While what is there agrees with that placement,
it stays the aim, so that a creation that was cut off is finished as it was begun. Otherwise, and where a cluster that
serves has lost a member, the live layout is kept, and only what has no part in it yet is given one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slotwright.core.placement import Placement
from slotwright.core.slots import Slots, even_spans
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, Member


@dataclass(frozen=True)
class Aim:
    """Wanted slots by master name, in slot order, and master name by replica name. spares get no part."""

    slots: Mapping[str, Slots]
    master_of: Mapping[str, str]
    spares: tuple[str, ...] = ()


def aim(topology: Topology, view: ClusterView, placement: Placement) -> Aim:
    planned = from_placement(placement)
    bereft = not view.unowned and any(not m.alive for m in view.members.values())
    return planned if _agrees(planned, view) and not bereft else _from_live(topology, view)


def from_placement(placement: Placement) -> Aim:
    """The aim of a creation: even spans of slots for the shards, in their order."""
    spans = even_spans(len(placement.shards))
    return Aim(
        {s.master: span for s, span in zip(placement.shards, spans, strict=True)},
        {r: s.master for s in placement.shards for r in s.replicas},
        placement.spares,
    )


def _agrees(planned: Aim, view: ClusterView) -> bool:
    """Whether all that is there already is a part of the planned layout."""
    for member in view.members.values():
        if not member.peer.slots <= planned.slots.get(member.name, Slots()):
            return False
        if member.peer.master and planned.master_of.get(member.name) != view.name_of(member.peer.master):
            return False
    return True


@dataclass
class _Shard:
    master: str
    at: Instance | None
    slots: Slots
    replicas: list[str] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)


def _from_live(topology: Topology, view: ClusterView) -> Aim:
    names = {i.name for i in topology.instances}
    owners = sorted(
        (m for m in view.members.values() if m.peer.slots), key=lambda m: m.peer.slots.ranges()[0]
    )  # fmt: skip
    shards = [_shard(topology, m, names) for m in owners]
    by_master = {m.id: s for m, s in zip(owners, shards, strict=True)}
    for member in view.members.values():
        shard = by_master.get(member.peer.master)
        if shard is not None and member.alive and not member.peer.failing:
            shard.replicas.append(member.name)
            if member.name in names:
                shard.zones.append(topology[member.name].zone)
    free = [
        topology[n.name] for n in view.nodes if n.myself.is_master and not n.myself.slots and n.name in names
    ]  # fmt: skip
    unowned = view.unowned
    if unowned and len(shards) < topology.shards:
        unowned = _new_masters(topology, shards, free, unowned)
    for first, last in unowned.ranges():
        living = [s for s in shards if s.master in view.by_name]
        smallest = min(living, key=lambda s: len(s.slots), default=None)
        if smallest is not None:
            smallest.slots |= Slots.span(first, last)
    master_of = {r: s.master for s in shards for r in s.replicas if r in names}
    spares = []
    for index, instance in enumerate(free):
        shard = _choose(topology, shards, instance, free[index + 1 :])
        if shard is None:
            spares.append(instance.name)
        else:
            shard.replicas.append(instance.name)
            shard.zones.append(instance.zone)
            master_of[instance.name] = shard.master
    return Aim({s.master: s.slots for s in shards}, master_of, tuple(spares))


def _shard(topology: Topology, owner: Member, names: set[str]) -> _Shard:
    return _Shard(owner.name, topology[owner.name] if owner.name in names else None, owner.peer.slots)


def _new_masters(topology: Topology, shards: list[_Shard], free: list[Instance], unowned: Slots) -> Slots:
    """Make masters of free instances, evenly over zones and hosts, for even parts of the unowned slots."""
    count = min(topology.shards - len(shards), len(free), len(unowned))
    slots = list(unowned)
    size, larger = divmod(len(slots), count) if count else (0, 0)
    for number in range(count):
        masters = [s.at for s in shards if s.at]
        chosen = min(
            free,
            key=lambda i: (
                sum(m.zone == i.zone for m in masters),
                sum(m.host == i.host for m in masters),
                i.sort_key,
            ),
        )
        free.remove(chosen)
        take = size + (number < larger)
        shards.append(_Shard(chosen.name, chosen, Slots.of(slots[:take])))
        slots = slots[take:]
    return Slots.of(slots)


def _legal(topology: Topology, shard: _Shard, instance: Instance) -> bool:
    if shard.at is None:
        return True
    if shard.at.host == instance.host:
        return False
    return len(topology.zones) < 2 or topology.allow_zone_risk or shard.at.zone != instance.zone


def _choose(topology: Topology, shards: list[_Shard], instance: Instance, later: Sequence[Instance]) -> _Shard | None:
    """The shard that needs a replica most and may have this one, so that as many as can be still get theirs."""

    def rank(shard: _Shard) -> tuple[int, int]:
        return len(shard.replicas), shard.zones.count(instance.zone)

    legal = sorted((s for s in shards if _legal(topology, s, instance)), key=rank)
    needy = [s for s in legal if len(s.replicas) < topology.replicas]
    best = _fillable(topology, shards, [instance, *later])
    for shard in needy:
        shard.replicas.append(instance.name)
        reached = 1 + _fillable(topology, shards, later)
        shard.replicas.pop()
        if reached == best:
            return shard
    return legal[0] if legal else None


def _fillable(topology: Topology, shards: Sequence[_Shard], instances: Sequence[Instance]) -> int:
    """How many wanted replicas these instances can fill: maximum bipartite matching by augmenting paths."""
    places = [s for s in shards for _ in range(topology.replicas - len(s.replicas))]
    taken: dict[int, Instance] = {}

    def augment(instance: Instance, visited: set[int]) -> bool:
        for index, shard in enumerate(places):
            if index not in visited and _legal(topology, shard, instance):
                visited.add(index)
                if index not in taken or augment(taken[index], visited):
                    taken[index] = instance
                    return True
        return False

    return sum(augment(i, set()) for i in instances)
