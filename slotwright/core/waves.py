"""In which order the nodes of a live cluster are restarted: wave by wave, no shard and no two zones at once. Pure.

A wave is one zone's: some of its instances, of different shards, go down together. The replicas of a shard go before
its master; that is handed over first, to a replica which has been restarted, and goes down as a replica. Every rest is
planned again as it was: waves(…) of what is left, as the cluster is then, are the waves that are left.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slotwright.core.handover import empty
from slotwright.core.plan import Plan
from slotwright.core.simulate import simulate
from slotwright.core.steps import Step
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding

LOOKED_AT = 300  # states of the search; beyond them the waves may be more than the least


@dataclass(frozen=True)
class Wave:
    """What is restarted together, all in one zone, and the failovers that come before."""

    zone: str
    failovers: tuple[Step, ...]
    restarts: tuple[str, ...]

    def describe(self) -> str:
        count = len(self.failovers)
        handed = f" after {count} failover{'s' * (count > 1)}" if count else ""
        return f"zone {self.zone}: restart {', '.join(self.restarts)}{handed}"


@dataclass(frozen=True)
class Rolling:
    """The waves, or why there are none. least: no order has fewer waves than this."""

    waves: tuple[Wave, ...] = ()
    refusals: tuple[Finding, ...] = ()
    least: int = 0


def waves(
    topology: Topology,
    view: ClusterView,
    pending: frozenset[str],
    *,
    most: int,
    replicas_first: bool = False,
    first: bool = False,
) -> Rolling:
    """Restart the pending instances, at most so many of a zone at a time (0: any number), in the fewest waves.

    Of equally few the ones that take the zones in the inventory's order. Where all stand in one zone, its hosts count
    as zones. pending: names of instances that answer and are members. replicas_first: no master is handed over before
    the replicas of all shards have been restarted, which may take more waves. first: only the first wave is wanted.
    """
    place_of = _places(topology)
    if refusals := _refusals(view, pending):
        return Rolling(refusals=tuple(refusals))
    items = _items(topology, view, pending, place_of)
    if replicas_first and (replicas := [item for item in items if not item.master]):
        later = [item for item in items if item.master]
    else:
        replicas, later = items, []
    places = list(dict.fromkeys(place_of.values()))
    order, least = _order(replicas, places, most)
    if later:
        rest, more = _order(later, places, most)
        order, least = [*order, *rest], least + more
    found = []
    left, at = set(pending), view
    for place, names in order[:1] if first else order:
        left -= set(names)
        handed = _hand_over(topology, at, frozenset(names), frozenset(left), place_of)
        if handed.refusals:
            return Rolling(refusals=handed.refusals)
        at = simulate(at, handed.steps) if handed.steps else at
        found.append(Wave(place, handed.steps, names))
    return Rolling(tuple(found), (), least)


def _items(topology: Topology, view: ClusterView, pending: frozenset[str], place_of: Mapping[str, str]) -> list[_Item]:
    found = []
    for name in (i.name for i in topology.everyone if i.name in pending):
        member = view.named_members[name]
        master = member.id in view.owners
        shard = member.id if master else member.peer.master or member.id
        found.append(_Item(name, place_of[name], shard, master))
    return found


def _places(topology: Topology) -> Mapping[str, str]:
    one = len({i.zone for i in topology.everyone}) == 1
    return {i.name: i.host if one else i.zone for i in topology.everyone}


def _refusals(view: ClusterView, pending: frozenset[str]) -> list[Finding]:
    found = []
    for name in sorted(pending):
        member = view.named_members.get(name)
        if member is None or not member.alive:
            what = "is to be restarted, and does not answer as a member"
            found.append(Finding("not-reachable", f"node {name}", what, "start it, then run again"))
    for owner in view.owners:
        master = view.members[owner]
        if master.name in pending and not view.replicas_of(owner):
            what = "is a master without a replica: nobody would serve its slots while it restarts"
            found.append(Finding("no-replica", f"node {master.name}", what, "give its shard a replica first"))
    return found


def _hand_over(
    topology: Topology,
    view: ClusterView,
    names: frozenset[str],
    left: frozenset[str],
    place_of: Mapping[str, str],
) -> Plan:
    """The failovers before these go down, to replicas that have been restarted; outside their zone, where there are."""
    place = place_of[min(names)]
    near = frozenset(n for n, where in place_of.items() if where == place) | left
    far = empty(topology, view, names, among=frozenset(place_of) - near)
    return far if not far.refusals else empty(topology, view, names, among=frozenset(place_of) - left)


# --- The order ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    name: str
    place: str
    shard: str
    master: bool  # goes after all others of its shard


_Order = list[tuple[str, tuple[str, ...]]]


def _order(items: Sequence[_Item], places: Sequence[str], most: int) -> tuple[_Order, int]:
    """The waves, and a number that none can go below: best first search over which place comes next (A*).

    In a place all goes that may, as far as there is room: what sets others free first. To do more of what may be done
    never takes another wave.
    """
    every = (1 << len(items)) - 1
    search = _Search(items, places, most)
    # By waves in all, at the least; then by the places so far, so that the first of equally good orders is found.
    queue: list[tuple[int, tuple[int, ...], int]] = [(search.bound(every), (), every)]
    seen: set[int] = set()
    least = queue[0][0]
    while queue:
        total, path, state = heapq.heappop(queue)
        least = max(least, total) if len(seen) <= LOOKED_AT else least
        if not state:
            return search.along(path), least
        if state in seen:
            continue
        seen.add(state)
        steps = [(number, went) for number in range(len(places)) if (went := search.ready(state, number))]
        if len(seen) > LOOKED_AT:  # from here on the fullest wave
            steps = [max(steps, key=lambda step: (step[1].bit_count(), -step[0]))]
            queue.clear()
        for number, went in steps:
            rest = state & ~went
            heapq.heappush(queue, (len(path) + 1 + search.bound(rest), (*path, number), rest))
    return [], 0


class _Search:
    """States are sets of items that are left, as bits."""

    def __init__(self, items: Sequence[_Item], places: Sequence[str], most: int) -> None:
        self.items, self.places, self.most = items, places, most or len(items)
        self.at = [sum(1 << n for n, item in enumerate(items) if item.place == place) for place in places]
        self.shard: dict[str, int] = defaultdict(int)
        for n, item in enumerate(items):
            self.shard[item.shard] |= 1 << n
        self.twice = [mask & at for mask in self.shard.values() for at in self.at if (mask & at).bit_count() > 1]

    def bound(self, state: int) -> int:
        """Waves that are needed at the least: for each place, by its number and by shards that have several there."""
        waves = 0
        for at in self.at:
            here = state & at
            crowded = max(((mask & here).bit_count() for mask in self.twice), default=0)
            waves += max(-(-here.bit_count() // self.most), crowded)
        return waves

    def ready(self, state: int, place: int) -> int:
        """What goes down next in this place."""
        chosen: dict[str, tuple[tuple[bool, int, int], int]] = {}
        here = state & self.at[place]
        while here:
            bit = here & -here
            here ^= bit
            number = bit.bit_length() - 1
            item = self.items[number]
            others = self.shard[item.shard] & state & ~bit
            if item.master and others:
                continue
            key = (not others, others.bit_count(), number)
            if item.shard not in chosen or key < chosen[item.shard][0]:
                chosen[item.shard] = (key, bit)
        return sum(bit for _, bit in sorted(chosen.values())[: self.most])

    def along(self, path: Sequence[int]) -> _Order:
        state = (1 << len(self.items)) - 1
        found: _Order = []
        for number in path:
            went = self.ready(state, number)
            state &= ~went
            names = tuple(item.name for n, item in enumerate(self.items) if went >> n & 1)
            found.append((self.places[number], names))
        return found
