"""What a change costs at least, by a program that names every node and every pair: no code shared with the planner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, product
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView

Cost = tuple[int, int, int, int, int]
"""Instances without a part, slots moved, full syncs, masters too many in a place, failovers."""


@dataclass
class _Program:
    upper: list[float] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)
    x: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def var(self, upper: float = 1) -> int:
        self.upper.append(upper)
        return len(self.upper) - 1

    def row(self, terms: dict[int, float], low: float, high: float) -> None:
        self.rows.append((terms, low, high))

    def solve(self, cost: dict[int, float]) -> bool:
        c = np.zeros(len(self.upper))
        c[list(cost)] = list(cost.values())
        where = [(r, v) for r, (terms, _, _) in enumerate(self.rows) for v in terms]
        numbers = [x for terms, _, _ in self.rows for x in terms.values()]
        matrix = coo_array((numbers, tuple(zip(*where, strict=True))), (len(self.rows), len(self.upper)))
        found = milp(
            c,
            constraints=LinearConstraint(matrix.tocsr(), [r[1] for r in self.rows], [r[2] for r in self.rows]),
            bounds=Bounds(0, np.array(self.upper)),
            integrality=np.ones(len(self.upper)),
            options={"mip_rel_gap": 0},
        )
        assert found.status in (0, 2), found.message
        if found.status == 0:
            self.x = found.x
        return bool(found.status == 0)

    def least(self, costs: list[dict[int, float]], spans: list[int]) -> list[int] | None:
        """The costs one after the other, each as a digit of one number; kept as constraints."""
        total: dict[int, float] = {}
        for place, cost in enumerate(costs):
            weight = int(np.prod([s + 1 for s in spans[place + 1 :]]))
            for v, w in cost.items():
                total[v] = total.get(v, 0) + w * weight
        if not self.solve(total):
            return None
        values = [round(sum(w * self.x[v] for v, w in cost.items())) for cost in costs]
        for cost, value in zip(costs, values, strict=True):
            if cost:
                self.row(cost, -inf, value)
        return values


def least_cost(wanted: Topology, view: ClusterView, fullest: int) -> Cost | None:
    """The least cost of a layout that keeps every rule, for a cluster all of whose wanted instances answer.

    None where there is no such layout. fullest: masters in the fullest zone (or host) of the best placement.
    """
    nodes = list(wanted.instances)
    owners = {i: len(s) for i, s in view.owners.items()}
    home = {}
    for i in nodes:
        me = view.by_name[i.name].myself
        home[i.name] = me.id if me.id in owners else me.master if me.master in owners else None
    empty = {i.name for i in nodes if home[i.name] is None and view.by_name[i.name].myself.is_master}
    new = [f"new {n}" for n in range(max(0, wanted.shards - len(owners)))]
    shards = [*owners, *new]

    p = _Program()
    on = {s: p.var() for s in shards}
    p.row(dict.fromkeys(on.values(), 1.0), wanted.shards, wanted.shards)
    x = {(i.name, s): p.var() for i, s in product(nodes, shards)}
    m = {(i.name, s): p.var() for i, s in product(nodes, shards)}
    first = {(i.name, s): p.var() for i, s in product(nodes, new)}
    for i in nodes:
        p.row({x[i.name, s]: 1.0 for s in shards}, 0, 1)
    for (name, s), v in m.items():
        p.row({v: 1.0, x[name, s]: -1.0}, -inf, 0)
        p.row({x[name, s]: 1.0, on[s]: -1.0}, -inf, 0)
    for (name, s), v in first.items():
        p.row({v: 1.0, x[name, s]: -1.0}, -inf, 0)
    zones, replicas = wanted.zones, wanted.replicas
    for s in shards:
        p.row({**{m[i.name, s]: 1.0 for i in nodes}, on[s]: -1.0}, 0, 0)
        p.row({**{x[i.name, s]: 1.0 for i in nodes}, on[s]: -(replicas + 1.0)}, 0, inf)
        if s in new:
            p.row({**{first[i.name, s]: 1.0 for i in nodes}, on[s]: -1.0}, 0, 0)
        for i, j in product(nodes, nodes):
            if i is not j and (i.host == j.host or (len(zones) > 1 and i.zone == j.zone)):
                p.row({m[i.name, s]: 1.0, x[j.name, s]: 1.0}, -inf, 1)
        reached = {z: p.var() for z in zones}
        for z in zones:
            p.row({reached[z]: 1.0, **{x[i.name, s]: -1.0 for i in nodes if i.zone == z}}, -inf, 0)
            p.row({reached[z]: 1.0, **{m[i.name, s]: 1.0 for i in nodes if i.zone == z}}, -inf, 1)
        needed = min(replicas, len(zones) - 1)
        p.row({**dict.fromkeys(reached.values(), 1.0), on[s]: -float(needed)}, 0, inf)
    crowd = {}
    for place in dict.fromkeys(i.zone if len(zones) > 1 else i.host for i in nodes):
        here = {m[i.name, s]: 1.0 for i in nodes for s in shards if place in (i.zone if len(zones) > 1 else i.host,)}
        if len(zones) >= 3:
            p.row({v: 1.0 for v in m.values() if v not in here}, wanted.shards // 2 + 1, inf)
        over = p.var(wanted.shards)
        crowd[over] = 1.0
        p.row({**here, over: -1.0}, -inf, fullest)

    size, larger = divmod(16384, wanted.shards)
    extra = {s: p.var() for s in shards}
    p.row(dict.fromkeys(extra.values(), 1.0), larger, larger)
    moved = {}
    for s, have in owners.items():
        moved[s] = p.var(16384)
        p.row({extra[s]: 1.0, on[s]: -1.0}, -inf, 0)
        p.row({moved[s]: 1.0, on[s]: float(size), extra[s]: 1.0}, have, inf)
    syncs: Counter[int] = Counter()
    for (name, s), v in x.items():
        if s in new:
            syncs[v] += 1
            syncs[first[name, s]] += 0 if name not in empty else -1
        elif home[name] != s:
            syncs[v] += 1
    same = Counter({v: -1 for (name, s), v in m.items() if s in owners and view.by_name[name].id == s})
    # A new shard keeps its master where the first one is the master in the end.
    for (name, s), v in first.items():
        kept = p.var()
        p.row({kept: 1.0, v: -1.0}, -inf, 0)
        p.row({kept: 1.0, m[name, s]: -1.0}, -inf, 0)
        same[kept] -= 1
    count = len(nodes)
    outside = dict.fromkeys(x.values(), -1.0)
    one = p.least([outside, dict.fromkeys(moved.values(), 1.0)], [count, 16384])
    if one is None:
        return None
    two = p.least([dict(syncs), crowd, dict(same)], [count, wanted.shards, 2 * wanted.shards])
    assert two is not None
    return count + one[0], one[1], two[0], two[1], wanted.shards + two[2]


def brute_force(wanted: Topology, view: ClusterView, fullest: int) -> Cost | None:
    """The same by trying every shard and role for every node, one by one; for a handful of nodes, none of them blank.

    Only for as many shards as there are, or fewer.
    """
    nodes = list(wanted.instances)
    owners = list(view.owners)
    home = {}
    for i in nodes:
        me = view.by_name[i.name].myself
        home[i.name] = me.id if me.id in owners else me.master if me.master in owners else None
    size, larger = divmod(16384, wanted.shards)
    best: Cost | None = None
    for kept in combinations(owners, wanted.shards):
        counts = sorted((len(view.owners[s]) for s in kept), reverse=True)
        quota = [size + 1] * larger + [size] * (wanted.shards - larger)
        moved = 16384 - sum(min(have, share) for have, share in zip(counts, quota, strict=True))
        for parts in product((None, *kept), repeat=len(nodes)):
            members = {s: [i for i, part in zip(nodes, parts, strict=True) if part == s] for s in kept}
            if any(len(some) <= wanted.replicas for some in members.values()):
                continue
            syncs = sum(part not in (None, home[i.name]) for i, part in zip(nodes, parts, strict=True))
            if best is not None and (parts.count(None), moved, syncs) > best[:3]:
                continue
            for masters in product(*members.values()):
                shards = list(zip(masters, members.values(), strict=True))
                if all(_legal(wanted, master, some) for master, some in shards) and _majority(wanted, masters):
                    cost = (
                        parts.count(None),
                        moved,
                        syncs,
                        sum(max(0, n - fullest) for n in Counter(_place(wanted, m) for m in masters).values()),
                        sum(view.by_name[m.name].id != s for m, s in zip(masters, kept, strict=True)),
                    )
                    best = cost if best is None else min(best, cost)
    return best


def _place(wanted: Topology, instance: Instance) -> str:
    return instance.zone if len(wanted.zones) > 1 else instance.host


def _legal(wanted: Topology, master: Instance, members: list[Instance]) -> bool:
    replicas = [i for i in members if i is not master]
    if any(i.host == master.host or (len(wanted.zones) > 1 and i.zone == master.zone) for i in replicas):
        return False
    return len({i.zone for i in replicas} - {master.zone}) >= min(wanted.replicas, len(wanted.zones) - 1)


def _majority(wanted: Topology, masters: tuple[Instance, ...]) -> bool:
    zones = Counter(i.zone for i in masters)
    return len(wanted.zones) < 3 or all(len(masters) - n >= len(masters) // 2 + 1 for n in zones.values())
