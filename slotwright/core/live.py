"""What is there, in terms of shards: who holds whose data, and who holds none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from slotwright.core.slots import Slots
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView


@dataclass(frozen=True)
class Holder:
    """A live shard: its slots, and who has their keys.

    id and name are those of the member that owns the slots. nodes: those that answer and have a copy, the owner first
    (leavers too). dead: wanted instances that replicate it and do not answer. away: the owner does not answer, so that
    nothing of the shard can be changed.
    """

    id: str
    name: str
    slots: Slots
    nodes: tuple[str, ...]
    dead: tuple[str, ...]

    @property
    def away(self) -> bool:
        return self.name not in self.nodes


@dataclass(frozen=True)
class Live:
    """Shards in the order of their owners, and the wanted instances that answer.

    free: those without a part in any shard, in the inventory's order. empty: those of them that are masters.
    followers: replicas of empty masters, by their master's name: what a new shard has before it gets slots.
    missing: how many wanted instances do not answer and stand for no copy of a shard; what they were may come back.
    """

    holders: tuple[Holder, ...]
    present: tuple[str, ...]
    free: tuple[str, ...]
    empty: frozenset[str]
    followers: Mapping[str, tuple[str, ...]]
    missing: int

    @cached_property
    def by_id(self) -> dict[str, Holder]:
        return {h.id: h for h in self.holders}

    @cached_property
    def home(self) -> dict[str, Holder]:
        """The shard whose data a node has, by the node's name."""
        return {name: h for h in self.holders for name in h.nodes}


def read(topology: Topology, view: ClusterView) -> Live:
    order = {i.name: n for n, i in enumerate(topology.everyone)}
    wanted = {i.name for i in topology.instances}

    def rank(name: str) -> tuple[int, str]:
        return order.get(name, len(order)), name

    copies: dict[str, list[str]] = {i: [] for i in view.owners}
    dead: dict[str, list[str]] = {i: [] for i in view.owners}
    for member in view.members.values():
        if member.peer.master in copies and member.id not in copies:
            if member.alive:
                copies[member.peer.master].append(member.name)
            elif member.name in wanted:
                dead[member.peer.master].append(member.name)
    holders = []
    for owner in sorted((view.members[i] for i in view.owners), key=lambda m: rank(m.name)):
        own = [owner.name] if owner.alive else []
        nodes = (*own, *sorted(copies[owner.id], key=rank))
        holders.append(Holder(owner.id, owner.name, owner.peer.slots, nodes, tuple(sorted(dead[owner.id]))))
    present = tuple(i.name for i in topology.instances if i.name in view.by_name)
    placed = {name for h in holders for name in (*h.nodes, *h.dead)}
    free = tuple(name for name in present if name not in placed)
    empty = frozenset(name for name in free if view.by_name[name].myself.is_master)
    followers: dict[str, tuple[str, ...]] = {}
    for name in free:
        master = view.name_of(view.by_name[name].myself.master)
        if master in empty:
            followers[master] = (*followers.get(master, ()), name)
    owners = {h.name for h in holders if h.away}
    missing = sum(i.name not in view.by_name and i.name not in placed | owners for i in topology.instances)
    return Live(tuple(holders), present, free, empty, followers, missing)
