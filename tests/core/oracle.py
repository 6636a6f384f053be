"""What placement is judged by: the rules read off a placement one by one, and solvers that share no code with it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from slotwright.core.placement import Placement, Shard
from slotwright.core.remedies import Change
from slotwright.core.topology import Instance, Topology, default_shards

Score = tuple[int, int, int, int]


def topology(
    zones: list[list[int]], replicas: int, shards: int | None = None, *, allow_zone_risk: bool = False
) -> Topology:
    """A cluster "redis" from instances per host per zone; zones are a, b, c …, hosts a1, a2 …, ports from 7001."""
    instances = tuple(
        _instance(f"{chr(97 + z)}{h + 1}", chr(97 + z), 7001 + port)
        for z, hosts in enumerate(zones)
        for h, size in enumerate(hosts)
        for port in range(size)
    )
    asked = default_shards(len(instances), replicas) if shards is None else shards
    return Topology("redis", instances, replicas, asked, allow_zone_risk)


def draw(rng: random.Random) -> Topology:
    """1-7 zones, 1-12 hosts a zone, 1-6 instances a host, 0-3 replicas; most are small, half have even zones."""
    count, most_hosts, most = rng.randint(1, 7), rng.choice((1, 2, 2, 3, 3, 4, 6, 12)), rng.randint(1, 6)
    zones = [[rng.randint(1, most) for _ in range(rng.randint(1, most_hosts))] for _ in range(count)]
    if rng.random() < 0.5:
        zones = [list(zones[0]) for _ in zones]
    replicas = rng.choice((0, 1, 1, 2, 2, 3))
    total = sum(map(sum, zones))
    shards = rng.randint(3, max(3, total // (replicas + 1))) if rng.random() < 0.4 else None
    return topology(zones, replicas, shards)


def apply(wanted: Topology, change: Change) -> Topology:
    """The inventory after the operator made the change."""
    instances = list(wanted.instances)
    for number, add in enumerate(change.add):
        zone, host = add.zone or "new", add.host or f"new{number}"
        instances += [_instance(host, zone, 9001 + port) for port in range(add.count)]
    return replace(wanted, instances=tuple(instances), shards=change.shards, replicas=change.replicas)


def _instance(host: str, zone: str, port: int) -> Instance:
    return Instance(f"{host}:{port}", host, zone, f"10.0.0.{host}", port)


def broken_rules(wanted: Topology, placement: Placement, *, zones_too: bool = True) -> list[str]:
    """Every promise of a placement, read straight from the rules."""
    zones, replicas, masters = wanted.zones, wanted.replicas, [s.master for s in placement.shards]
    wrong = []
    named = [name for s in placement.shards for name in (s.master, *s.replicas)] + list(placement.spares)
    if sorted(named) != sorted(i.name for i in wanted.instances):
        wrong.append("every instance is named exactly once")
    if len(masters) != wanted.shards or len(masters) < 3:
        wrong.append("as many shards as wanted, and three at least")
    for shard in placement.shards:
        home = wanted[shard.master]
        stands = [wanted[name] for name in shard.replicas]
        required, extra = stands[:replicas], stands[replicas:]
        if len(required) < replicas:
            wrong.append(f"{shard.master} has its replicas")
        if any(s.host == home.host for s in stands):
            wrong.append(f"H1 {shard.master}")
        if len(zones) >= 2 and any(s.zone == home.zone for s in (stands if zones_too else extra)):
            wrong.append(f"H2 {shard.master}")
        covered = {s.zone for s in required} - {home.zone}
        if zones_too and len(covered) < min(replicas, len(zones) - 1):
            wrong.append(f"H3 {shard.master}")
    if zones_too and len(zones) >= 3:
        for zone, held in Counter(wanted[m].zone for m in masters).items():
            if len(masters) - held < len(masters) // 2 + 1:
                wrong.append(f"H4 {zone}")
    for spare in placement.spares:
        apart = "zone" if len(zones) >= 2 else "host"
        if any(getattr(wanted[spare], apart) != getattr(wanted[m], apart) for m in masters):
            wrong.append(f"{spare} is spare, though a shard could take it")
    return wrong


def score(wanted: Topology, placement: Placement) -> Score:
    masters = Counter(wanted[s.master].host for s in placement.shards)
    zones = Counter(wanted[s.master].zone for s in placement.shards)
    sizes = Counter(i.host for i in wanted.instances)
    load = Counter(
        (wanted[s.master].host, wanted[name].host) for s in placement.shards for name in s.replicas[: wanted.replicas]
    )
    return (
        sum(m * m for m in zones.values()),
        sum(m * m for m in masters.values()),
        sum((n - masters[host]) ** 2 for host, n in sizes.items()),
        sum(c * c for c in load.values()),
    )


def risk(wanted: Topology, placement: Placement) -> tuple[int, int]:
    """(required replicas in their master's zone, (shard, other zone) without one though R asks for it)."""
    pairs = missed = 0
    for shard in placement.shards:
        home = wanted[shard.master].zone
        stands = [wanted[name].zone for name in shard.replicas[: wanted.replicas]]
        pairs += stands.count(home)
        missed += min(wanted.replicas, len(wanted.zones) - 1) - len(set(stands) - {home})
    return pairs, missed


def brute_force(wanted: Topology) -> Score | None:
    """Every choice of master and replica instances, one by one; for a handful of instances."""
    best: Score | None = None
    everyone = [i.name for i in wanted.instances]

    def complete(masters: tuple[str, ...], free: list[str], sets: list[tuple[str, ...]]) -> Iterator[Placement]:
        if len(sets) == len(masters):
            shards = tuple(Shard(m, r) for m, r in zip(masters, sets, strict=True))
            yield Placement(shards, tuple(free), ())
            return
        for chosen in combinations(free, wanted.replicas):
            yield from complete(masters, [f for f in free if f not in chosen], [*sets, chosen])

    for masters in combinations(everyone, wanted.shards):
        for trial in complete(masters, [n for n in everyone if n not in masters], []):
            wrong = [w for w in broken_rules(wanted, trial) if "is spare" not in w]
            if not wrong:
                mark = score(wanted, trial)
                best = mark if best is None or mark < best else best
    return best


@dataclass
class _Model:
    """A mixed-integer program, built row by row."""

    upper: list[float] = field(default_factory=list)
    integral: list[int] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def var(self, upper: float, integral: int = 1) -> int:
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.upper) - 1

    def row(self, terms: dict[int, float], low: float, high: float) -> None:
        self.rows.append((terms, low, high))

    def square(self, terms: dict[int, float], most: int) -> dict[int, float]:
        """The cost of (Σ terms)², for a sum of 0..most: unit steps that cost 1, 3, 5 …"""
        steps = {self.var(1, 0): 2.0 * k + 1 for k in range(most)}
        self.row({**dict.fromkeys(steps, 1.0), **{v: -c for v, c in terms.items()}}, 0, 0)
        return steps

    def least(self, cost: dict[int, float], *, seconds: float = inf, keep: bool = True) -> int | None:
        """The exact minimum, kept as a constraint for what follows; None where nothing is feasible."""
        c = np.zeros(len(self.upper))
        c[list(cost)] = list(cost.values())
        where = [(r, v) for r, (terms, _, _) in enumerate(self.rows) for v in terms]
        numbers = [x for terms, _, _ in self.rows for x in terms.values()]
        matrix = coo_array((numbers, tuple(zip(*where, strict=True))), (len(self.rows), len(self.upper)))
        found = milp(
            c,
            constraints=LinearConstraint(matrix.tocsr(), [r[1] for r in self.rows], [r[2] for r in self.rows]),
            bounds=Bounds(0, np.array(self.upper)),
            integrality=np.array(self.integral),
            options={"mip_rel_gap": 0, "time_limit": seconds},
        )
        if found.status == 2:
            return None
        if found.status == 1:
            raise TimeoutError("the solver ran out of time")
        assert found.status == 0, found.message
        value = round(found.fun)
        assert abs(found.fun - value) < 1e-4, found.fun
        if cost and keep:
            self.row(cost, -inf, value)
        return value


def by_host(wanted: Topology) -> dict[str, tuple[str, int]]:
    """host → (zone, instances)."""
    sizes = Counter((i.host, i.zone) for i in wanted.instances)
    return {host: (zone, n) for (host, zone), n in sizes.items()}


def exact_evenness(wanted: Topology) -> tuple[int, int, int] | None:
    """The least criteria 1-3 of any placement that keeps every hard rule; None where there is none.

    Replicas are counted from hosts to zones (to hosts where there is one zone): within a zone any host will do.
    """
    if wanted.shards < 3:
        return None
    hosts, model, replicas = by_host(wanted), _Model(), wanted.replicas
    zones = wanted.zones
    places = {z: sum(n for zone, n in hosts.values() if zone == z) for z in zones}
    if len(zones) == 1:
        places = {h: n for h, (_, n) in hosts.items()}
    masters = {h: model.var(n) for h, (_, n) in hosts.items()}
    model.row(dict.fromkeys(masters.values(), 1.0), wanted.shards, wanted.shards)
    sent = {}
    for h, (zone, n) in hosts.items():
        own = h if len(zones) == 1 else zone
        out = {p: model.var(replicas * n) for p in places if p != own}
        model.row({**dict.fromkeys(out.values(), 1.0), masters[h]: -replicas}, 0, 0)
        if len(zones) > 1:
            for v in out.values():
                low, high = (-inf, 0.0) if replicas <= len(zones) - 1 else (0.0, inf)
                model.row({v: 1.0, masters[h]: -1.0}, low, high)
        sent[h] = out
    for p, room in places.items():
        here = {masters[h]: 1.0 for h, (zone, _) in hosts.items() if p in (h, zone)}
        model.row({**here, **{out[p]: 1.0 for out in sent.values() if p in out}}, 0, room)
    if len(zones) >= 3:
        _majority(model, wanted, masters)
    first = model.least(_zone_squares(model, wanted, masters))
    if first is None:
        return None
    second = model.least(_host_squares(model, wanted, masters))
    third = model.least(_free_squares(model, wanted, masters))
    assert second is not None and third is not None
    return first, second, third


def exact_all(
    wanted: Topology, *, risk_allowed: bool, fixed: Placement | None = None, seconds: float = inf
) -> tuple[int, ...] | None:
    """The least criteria 1-4, all on pairs of hosts; with risk_allowed (pairs, criteria 1-3, misses, criterion 4).

    With risk_allowed no misses come before everything, where none can be had.
    fixed: take the masters of this placement and minimise criterion 4 alone. TimeoutError after `seconds` a solve.
    """
    hosts, model, replicas, zones = by_host(wanted), _Model(), wanted.replicas, wanted.zones
    masters = {h: model.var(n) for h, (_, n) in hosts.items()}
    model.row(dict.fromkeys(masters.values(), 1.0), wanted.shards, wanted.shards)
    sent: dict[tuple[str, str], int] = {}
    for h, (zone, n) in hosts.items():
        for g, (other, size) in hosts.items():
            if h != g and (zone != other or len(zones) == 1 or risk_allowed):
                sent[h, g] = model.var(min(replicas * n, size))
    covered, beside = [], []
    for h, (zone, n) in hosts.items():
        model.row({**{v: 1.0 for (a, _), v in sent.items() if a == h}, masters[h]: -replicas}, 0, 0)
        model.row({**{v: 1.0 for (_, b), v in sent.items() if b == h}, masters[h]: 1.0}, 0, n)
        for z in zones if len(zones) > 1 else ():
            there = {v: 1.0 for (a, b), v in sent.items() if a == h and hosts[b][0] == z}
            if z == zone:
                beside += list(there)
            elif risk_allowed:
                cover = model.var(n)
                model.row({cover: 1.0, masters[h]: -1.0}, -inf, 0)
                model.row({cover: -1.0, **there}, 0, inf)
                covered.append(cover)
            else:
                low, high = (-inf, 0.0) if replicas <= len(zones) - 1 else (0.0, inf)
                model.row({**there, masters[h]: -1.0}, low, high)
    marks: list[int | None] = []
    misses = dict.fromkeys(covered, -1.0)
    all_covered = wanted.shards * min(replicas, len(zones) - 1)
    if fixed is not None:
        held = Counter(wanted[s.master].host for s in fixed.shards)
        for h, v in masters.items():
            model.row({v: 1.0}, held[h], held[h])
    else:
        if risk_allowed:
            marks.append(model.least(dict.fromkeys(beside, 1.0), seconds=seconds))
            if marks[0] == 0 and model.least(misses, seconds=seconds, keep=False) == -all_covered:
                model.row(misses, -inf, -all_covered)
        elif len(zones) >= 3:
            _majority(model, wanted, masters)
        for squares in (_zone_squares, _host_squares, _free_squares):
            marks.append(model.least(squares(model, wanted, masters), seconds=seconds))
            if marks[0] is None:
                return None
        if risk_allowed:
            covered_most = model.least(misses, seconds=seconds)
            assert covered_most is not None
            marks.append(all_covered + covered_most)
    spread: dict[int, float] = {}
    for v in sent.values():
        spread |= model.square({v: 1.0}, int(model.upper[v]))
    marks.append(model.least(spread, seconds=seconds))
    return tuple(m for m in marks if m is not None)


def _majority(model: _Model, wanted: Topology, masters: dict[str, int]) -> None:
    hosts = by_host(wanted)
    for z in wanted.zones:
        elsewhere = {v: 1.0 for h, v in masters.items() if hosts[h][0] != z}
        model.row(elsewhere, wanted.shards // 2 + 1, inf)


def _zone_squares(model: _Model, wanted: Topology, masters: dict[str, int]) -> dict[int, float]:
    hosts, cost = by_host(wanted), {}
    for z in wanted.zones:
        inside = {v: 1.0 for h, v in masters.items() if hosts[h][0] == z}
        cost |= model.square(inside, min(wanted.shards, sum(n for zone, n in hosts.values() if zone == z)))
    return cost


def _host_squares(model: _Model, wanted: Topology, masters: dict[str, int]) -> dict[int, float]:
    cost: dict[int, float] = {}
    for h, (_, n) in by_host(wanted).items():
        cost |= model.square({masters[h]: 1.0}, n)
    return cost


def _free_squares(model: _Model, wanted: Topology, masters: dict[str, int]) -> dict[int, float]:
    cost: dict[int, float] = {}
    for h, (_, n) in by_host(wanted).items():
        free = model.var(n, 0)
        model.row({free: 1.0, masters[h]: 1.0}, n, n)
        cost |= model.square({free: 1.0}, n)
    return cost
