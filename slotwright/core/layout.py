"""Which node is to be what in a cluster that lives: the layout that is legal, and costs least to reach.

The layouts are compared by, each only among equals of the one before:

 1. broken rules (see place()): none, wherever the nodes that answer can keep them all;
 2. nodes without a part, where some shard may take them;
 3. slots that change their shard (only that: which slots is the matter of core/transport.py);
 4. nodes that get another shard's data than they have: a full sync each;
 5. masters that a zone has beyond the fullest zone of the best placement: that is what failovers leave behind;
 6. failovers;
 7. masters even over zones (least Σ m²), then over hosts; masters on the first hosts of the inventory;
 8. replicas even over shards (least Σ r²); few of one shard in one zone, and on one host; then a fixed order.

Why the plan does not change its mind half-way. Each of 3, 4 and 6 is a distance: from what is there to a layout it is
at most what a step costs plus the distance from where the step leads. Every step lies on a shortest way, so it lowers
the rest by just its own cost, for the chosen layout; for any other layout by no more. All other criteria look at the
layout alone. So the layout that was the best stays the best, and what ties with it then has tied with it before, and
lost to it then by a criterion that does not look at what is there.

The rules make it a mixed-integer program (core/model.py). It is tried with little freedom first: nobody but free nodes
gets another part, and no master changes that may stay. What is found so is taken only where it costs no more than a
bound that holds for every layout; else there is more freedom, up to all.

Weights do not choose masters: they say how many slots a master has once it is chosen. So, where weights differ, which
shards are dissolved is decided as if they were equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from slotwright.core.live import Holder, Live
from slotwright.core.placement import Placement
from slotwright.core.program import Goal, Program, Unsolved
from slotwright.core.remedies import capacity_of
from slotwright.core.slots import SLOT_COUNT
from slotwright.core.topology import Instance, Topology


@dataclass(frozen=True)
class Part:
    """A shard as it is to be: its master and replicas by name.

    holder: the live shard that it is made of, or None for a new one, of which founder is the first master.
    """

    holder: Holder | None
    master: str
    replicas: tuple[str, ...]
    founder: str | None = None

    @property
    def current(self) -> str:
        """Its master now."""
        return self.holder.name if self.holder else self.founder or self.master


@dataclass(frozen=True)
class Layout:
    """parts in the order of their masters. dissolved: live shards that give all their slots away."""

    parts: tuple[Part, ...]
    dissolved: tuple[Holder, ...] = ()
    spares: tuple[str, ...] = ()


class Freedom(IntEnum):
    """What may change.

    CALM: free nodes get a part. MASTERS: masters change too. FEW: whoever is in a troubled shard gets another part too,
    but the masters of others stay; troubled is a shard that breaks a rule or has more replicas than wanted. MANY: so,
    and masters change too. ALL: everybody.
    """

    CALM = 0
    MASTERS = 1
    FEW = 2
    MANY = 3
    ALL = 4


class Question:
    """What there is and what is asked of it, with the bounds that hold for every layout.

    shards: live shards whose owner answers. fixed: those whose owner is away. own: per shard the wanted instances that
    have its data. current: its master, None where that is not wanted any more. founded, dissolved: how many shards are
    made, or go. most: masters that a zone may have. full: those of the fullest zone (or, in one zone, host) of the best
    placement.
    """

    def __init__(
        self,
        topology: Topology,
        placement: Placement,
        live: Live,
        shards: list[Holder],
        count: int,
        gone: Iterable[Holder] = (),
    ) -> None:
        """count: shards there are to be, those whose owner is away included. gone: shards that dissolve for certain."""
        self.topology, self.live, self.shards = topology, live, shards
        self.fixed = [h for h in live.holders if h.away]
        self.gone = tuple(gone)
        self.count = count
        self.founded = max(0, count - len(self.fixed) - len(shards))
        self.dissolved = max(0, len(self.fixed) + len(shards) - count)
        self.at: dict[str, Instance] = {i.name: i for i in topology.instances}
        self.zone_of = {i.host: i.zone for i in topology.instances}
        self.own = [[name for name in h.nodes if name in self.at] for h in shards]
        self.current = [h.name if h.name in self.at else None for h in shards]
        self.followers = {name: list(some) for name, some in live.followers.items()}
        pinned = {name for h in self.fixed for name in h.nodes}
        self.nodes = [name for name in live.present if name not in pinned]
        placed = {name for own in self.own for name in own}
        self.free = [name for name in self.nodes if name not in placed]

        zones = topology.zones
        # Where the rules about zones cannot be kept and the inventory accepts that, they are kept as far as can be.
        self.risky = topology.allow_zone_risk and len(zones) > 1 and bool(capacity_of(topology).broken())
        self.zoned = len(zones) > 1 and not self.risky
        self.most = (count + 1) // 2 - 1 if len(zones) >= 3 and not self.risky else count
        self.covered = min(topology.replicas, len(zones) - 1)
        self.place: Callable[[Instance], str] = zone_of if len(zones) > 1 else host_of
        self.full = max(Counter(self.place(topology[s.master]) for s in placement.shards).values())
        if count != topology.shards:
            self.full = count

    @cached_property
    def least_broken(self) -> tuple[int, ...]:
        """At least how much each rule is broken by any layout; see Model for the rules."""
        topology, zones = self.topology, Counter(self.at[name].zone for name in self.nodes)
        whole = len(self.nodes) == len(topology.instances)
        beyond = max(0, self.count - len(self.fixed) - self.most * len(zones)) if self.most < self.count else 0
        pairs = capacity_of(topology).least_pairs if self.risky and whole else 0
        reached = sum(min(n, self.count) for n in zones.values())
        missed = max(0, self.count * (self.covered + 1) - reached) if self.risky and whole else 0
        return 0, 0, beyond, pairs, 0, missed

    def masters_fixed(self, place: Callable[[Instance], str]) -> Counter[str]:
        return Counter(place(self.at[h.name]) for h in self.fixed if h.name in self.at)

    def needed(self, number: int) -> tuple[int, int]:
        """At least how many nodes a shard must get, and how many it must lose, to keep the rules by itself.

        A master from elsewhere needs none of the shard's own nodes to go.
        """
        holder, own = self.shards[number], [self.at[name] for name in self.own[number]]
        dead = [self.at[name] for name in holder.dead]
        replicas = len(own) + len(dead)
        gets = [1 + max(0, self.topology.replicas - replicas, self.covered - len({i.zone for i in (*own, *dead)}))]
        loses = [0]
        for master in own:
            legal = [i for i in own if i is not master and not self.clash(master, i)]
            covered = len({i.zone for i in (*legal, *dead)} - {master.zone})
            gets.append(max(0, self.topology.replicas - len(legal) - len(dead), self.covered - covered))
            loses.append(len(own) - 1 - len(legal))
        return min(gets), min(loses)

    def clash(self, master: Instance, replica: Instance) -> bool:
        return master.host == replica.host or (self.zoned and master.zone == replica.zone)

    def sound(self, number: int) -> bool:
        """Whether a shard keeps all rules that are about itself alone, as it is."""
        holder = self.shards[number]
        if self.risky or any(name not in self.at for name in holder.nodes):
            return False
        master, *replicas = (self.at[name] for name in holder.nodes)
        dead = [self.at[name] for name in holder.dead]
        if len(replicas) + len(dead) < self.topology.replicas or any(self.clash(master, r) for r in replicas):
            return False
        return len({r.zone for r in (*replicas, *dead)} - {master.zone}) >= self.covered

    def kept(self) -> Layout | None:
        """The layout as it is, where nothing is wrong with it."""
        if self.free or self.founded or self.dissolved or self.live.missing:
            return None
        masters = self.masters_fixed(self.place)
        masters.update(self.place(self.at[name]) for name in self.current if name)
        if max(masters.values(), default=0) > min(self.full, self.most):
            return None
        if not all(map(self.sound, range(len(self.shards)))):
            return None
        return Layout(ordered(self.topology, [as_it_is(h) for h in (*self.shards, *self.fixed)]))


def lay_out(topology: Topology, live: Live, placement: Placement) -> Layout:
    """The best layout for the nodes that answer. Raises Unsolved where it cannot be proved in time.

    Shards whose owner does not answer stay as they are, and while there is one, no shard is made or dissolved. No more
    shards are made than can keep all rules with the nodes that answer.
    """
    from slotwright.core.model import Model, small

    shards = [h for h in live.holders if not h.away]
    count = topology.shards if len(shards) == len(live.holders) else len(live.holders)
    question = Question(topology, placement, live, shards, count)
    if kept := question.kept():
        return kept
    if question.dissolved:
        staying = _staying(question)
        gone = [h for h in shards if h not in staying]
        fewer = Question(topology, placement, live, staying, count, gone)
        for freedom in (Freedom.CALM, Freedom.MASTERS):
            if found := Model(fewer, freedom).solved():
                return found
        levels: tuple[Freedom, ...] = (Freedom.ALL,)
    else:
        levels = tuple(Freedom)
    for least in range(count, count - question.founded - 1, -1):
        asked = question if least == count else Question(topology, placement, live, shards, least)
        if not any(asked.least_broken[:3]):
            for freedom in levels:
                if small(asked) and freedom in (Freedom.FEW, Freedom.MANY):
                    continue
                if found := Model(asked, freedom).solved():
                    return found
    for freedom in levels:
        found = Model(asked, freedom, strict=False).solved()
        if found:
            return found
    raise Unsolved("a layout that may break every rule can always be had")


def _staying(question: Question) -> list[Holder]:
    """Which shards are kept where some dissolve, as far as that can be told without the rules.

    Those that save most slots, then most syncs, then failovers, if masters stay; then evenness, then order.
    """
    q, program = question, Program()
    keep = [program.var() for _ in q.shards]
    program.row(dict.fromkeys(keep, 1.0), len(keep) - q.dissolved, len(keep) - q.dissolved)
    masters = [q.at.get(name or "") for name in q.current]
    crowd: dict[int, float] = {}
    squares: dict[int, float] = {}
    for place in (q.place, host_of):
        places: dict[str, dict[int, float]] = {}
        for variable, master in zip(keep, masters, strict=True):
            if master:
                places.setdefault(place(master), {})[variable] = 1
        fixed = q.masters_fixed(place)
        for where, terms in places.items():
            if place is q.place:
                over = program.var(len(terms), integral=False)
                crowd[over] = 1
                program.row({**terms, over: -1}, 0, q.full - fixed[where])
            squares |= program.squares(terms, len(terms), fixed[where])
    goals: list[Goal] = [
        (staying_slots(q, program, keep), SLOT_COUNT),
        ({v: -float(len(own)) for v, own in zip(keep, q.own, strict=True)}, len(q.nodes)),
        ({v: 1.0 for v, master in zip(keep, masters, strict=True) if master is None}, len(keep)),
        (crowd, len(keep)),
        (squares, 2 * len(keep) ** 2),
        ({v: float(n) for n, v in enumerate(keep)}, len(keep) ** 2),
    ]
    program.reach(*goals)
    return [h for variable, h in zip(keep, q.shards, strict=True) if program.amount(variable)]


def staying_slots(question: Question, program: Program, keep: Iterable[int]) -> dict[int, float]:
    """Minus the slots that stay: of a kept shard as many as it is to have, of which some have one more."""
    size, larger = divmod(SLOT_COUNT, question.count)
    shards = list(zip(keep, question.shards, strict=True))
    cost = {variable: -float(min(len(h.slots), size)) for variable, h in shards}
    if larger:
        bonus = program.var(larger, integral=False)
        program.row({bonus: 1, **{v: -1.0 for v, h in shards if len(h.slots) > size}}, -len(shards), 0)
        cost[bonus] = -1
    return cost


def zone_of(instance: Instance) -> str:
    return instance.zone


def host_of(instance: Instance) -> str:
    return instance.host


def as_it_is(holder: Holder) -> Part:
    return Part(holder, holder.name, tuple(name for name in holder.nodes if name != holder.name))


def ordered(topology: Topology, parts: Iterable[Part]) -> tuple[Part, ...]:
    order: Mapping[str, int] = {i.name: n for n, i in enumerate(topology.everyone)}
    return tuple(sorted(parts, key=lambda part: (order.get(part.master, len(order)), part.master)))
