"""Which instance is a master and which replicates whom, for a cluster that does not exist yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace
from itertools import combinations, islice

from slotwright.core.capacity import Capacity
from slotwright.core.remedies import capacity_of, describe, remedies
from slotwright.core.spread import Marginal, spread
from slotwright.core.topology import Topology
from slotwright.errors import Finding, Refused, Severity

# Every way to choose among equal zones is compared up to nine zones (126 ways); beyond, the first ways by name.
_WAYS_COMPARED = 126


@dataclass(frozen=True)
class Shard:
    """A master and its replicas, by instance name: the required replicas first, then extra ones."""

    master: str
    replicas: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """shards are in slot order: the first gets the first even span. spares: instances that no shard may take."""

    shards: tuple[Shard, ...]
    spares: tuple[str, ...]
    risks: tuple[Finding, ...]


@dataclass(frozen=True)
class _Host:
    """A host, its zone as a number in natural order, and its instances in port order."""

    zone: int
    instances: tuple[str, ...]


def place(topology: Topology) -> Placement:
    """The best placement that keeps every hard rule; raises Refused with every rule that cannot be kept.

    Hard: no replica on its master's host, nor in its zone where there are two zones or more; replicas of one master in
    distinct zones while zones suffice; with three zones or more no zone so full of masters that the rest lack a
    majority. Of all that keep these, the best has, each only among equals of the one before: masters even over zones
    (least Σ m² over zones), masters even over hosts (least Σ m²), free instances even over hosts (least Σ (n - m)²), a
    lost host's load spread over many (least Σ c², c = required replicas on one host of masters on another), few
    replicas of one master on one host. Ties go by natural order. With topology.allow_zone_risk the zone rules give
    way where they must: if distinct zones cannot be had, the fewest replicas in their master's zone come first, and
    after the masters the most zones covered; the majority rule gives way to the evenness of masters.

    Masters under upper bounds per zone and host (see Capacity) are a base of a polymatroid, and the first three
    criteria are convex on a laminar family: taking the cheapest next master each time is exactly optimal. So is the
    flow that spreads the replicas.
    """
    capacity = capacity_of(topology)
    if codes := capacity.broken(topology.allow_zone_risk):
        remedy = describe(topology, remedies(topology))
        raise Refused(_refusal(code, topology, capacity, remedy) for code in codes)

    hosts = _hosts(topology)
    masters, flow = _best(capacity, hosts)
    shards = _deal(capacity, hosts, masters, flow)
    taken = {name for shard in shards for name in (shard.master, *shard.replicas)}
    left = [tuple(name for name in host.instances if name not in taken) for host in hosts]
    shards, spares = _extras(topology, hosts, shards, left)
    return Placement(tuple(shards), spares, _risks(topology, capacity, shards))


def _hosts(topology: Topology) -> tuple[_Host, ...]:
    zones = {zone: number for number, zone in enumerate(topology.zones)}
    names: dict[tuple[int, str], list[str]] = {}
    for instance in topology.instances:
        names.setdefault((zones[instance.zone], instance.host), []).append(instance.name)
    return tuple(_Host(zone, tuple(instances)) for (zone, _), instances in names.items())


def _best(capacity: Capacity, hosts: Sequence[_Host]) -> tuple[list[int], list[dict[int, int]]]:
    """Masters per host, and per host the required replicas of its masters {host: number}."""
    best: tuple[int, list[int], list[dict[int, int]]] | None = None
    for masters in islice(_master_counts(capacity, hosts), _WAYS_COMPARED):
        flow = _replica_flow(capacity, hosts, masters)
        load = sum(c * c for targets in flow for c in targets.values())
        if best is None or load < best[0]:
            best = load, masters, flow
        if load == capacity.shards * capacity.replicas:
            break
    assert best is not None
    return best[1], best[2]


def _master_counts(capacity: Capacity, hosts: Sequence[_Host]) -> Iterator[list[int]]:
    """Every choice of masters per host that is best by the first three criteria, alike zones counted once.

    In each round the zones whose next master costs least take one each; only the last round may have more such zones
    than masters left, and only there does the choice matter: hosts that tie within a zone are alike.
    """
    limits = capacity.zone_limits(capacity.least_pairs, capacity.keeps_apart)
    masters = [0] * len(hosts)
    queues: list[list[tuple[int, int, int]]] = [[] for _ in capacity.zones]
    for number, host in enumerate(hosts):
        if capacity.host_limit(len(host.instances)):
            queues[host.zone].append((0, -len(host.instances), number))
    for queue in queues:
        heapify(queue)
    held = [0] * len(queues)
    left = capacity.shards
    while True:
        costs = {z: (held[z], *queue[0][:2]) for z, queue in enumerate(queues) if held[z] < limits[z]}
        least = min(costs.values())
        tied = [z for z, cost in costs.items() if cost == least]
        if len(tied) >= left:
            break
        for zone in tied:
            _, size, number = queues[zone][0]
            masters[number] += 1
            full = masters[number] == capacity.host_limit(-size)
            heapreplace(queues[zone], (capacity.shards if full else masters[number], size, number))
            held[zone] += 1
            left -= 1
    seen = set()
    for chosen in combinations(tied, left):
        kind = tuple(sorted(tuple(sorted(capacity.zones[z])) for z in chosen))
        if kind not in seen:
            seen.add(kind)
            extra = {queues[z][0][2] for z in chosen}
            yield [m + (number in extra) for number, m in enumerate(masters)]


def _replica_flow(capacity: Capacity, hosts: Sequence[_Host], masters: Sequence[int]) -> list[dict[int, int]]:
    """Required replicas as the cheapest flow from the hosts of masters to other hosts.

    A host with m masters covers a zone m times at the most, since dealing (see _deal) then gives each master one.
    """
    pairs = capacity.least_pairs
    single = len(capacity.zones) == 1
    units = capacity.shards * capacity.replicas
    load = units + 1
    repeat = load * (units * units + 1)
    beside = repeat * (units + 1)

    def enter(row: int, k: int) -> Marginal:
        return 0 if k < masters[row] * capacity.replicas else None

    def via(row: int, zone: int, k: int) -> Marginal:
        if hosts[row].zone == zone:
            return 0 if single else beside if pairs else None
        return 0 if k < masters[row] else repeat

    def pair(row: int, column: int, k: int) -> Marginal:
        return None if row == column else load * (2 * k + 1) + (k >= masters[row])

    columns = [(h.zone, len(h.instances) - m) for h, m in zip(hosts, masters, strict=True)]
    return spread(len(hosts), columns, enter, via, pair, _head_start(capacity, columns, masters), load)


def _head_start(
    capacity: Capacity, columns: Sequence[tuple[int, int]], masters: Sequence[int]
) -> list[tuple[int, ...]]:
    """Distinct hosts for the replicas of each host, found fast: all of them in most big clusters.

    Zones choose zones first, each zone's units are dealt to its hosts in turn, and within a zone a host takes the
    roomiest others, which finds distinct ones for all if there are (Gale and Ryser).
    """
    zones = range(len(capacity.zones))
    held = [sum(m for m, (zone, _) in zip(masters, columns, strict=True) if zone == z) for z in zones]
    single = len(zones) == 1

    def enter(row: int, k: int) -> Marginal:
        return 0 if k < held[row] * capacity.replicas else None

    def via(row: int, zone: int, k: int) -> Marginal:
        return 0 if single or (zone != row and k < held[row]) else None

    free = [(z, n - m) for z, n, m in zip(zones, capacity.per_zone, held, strict=True)]
    flow = spread(len(zones), free, enter, via, lambda row, column, k: 2 * k + 1)

    seats: list[list[int]] = [[] for _ in zones]
    for number, (zone, _) in enumerate(columns):
        seats[zone] += [number] * masters[number]
    wants: list[dict[int, int]] = [{} for _ in columns]
    for zone, targets in enumerate(flow):
        units = [target for target in sorted(targets) for _ in range(targets[target])]
        for unit, target in enumerate(units):
            want = wants[seats[zone][unit % len(seats[zone])]]
            want[target] = want.get(target, 0) + 1

    room = [spare for _, spare in columns]
    members = [[c for c, (zone, _) in enumerate(columns) if zone == z] for z in zones]
    start = []
    for number, want in enumerate(wants):
        picked = []
        for zone, some in want.items():
            open_hosts = [c for c in members[zone] if room[c] and c != number]
            picked += sorted(open_hosts, key=lambda c: -room[c])[:some]
        for column in picked:
            room[column] -= 1
        start.append(tuple(picked))
    return start


def _deal(
    capacity: Capacity, hosts: Sequence[_Host], masters: Sequence[int], flow: Sequence[dict[int, int]]
) -> list[Shard]:
    """Give every master its replicas, and put the shards in slot order: neighbouring spans in different zones.

    The units of a host with m masters go, ordered by zone and host, to its masters in turn: so each master has R, and
    of any zone or host with u units no master has more than ⌈u/m⌉ (McNaughton's wrap-around rule).
    """
    free = [list(h.instances[m:]) for h, m in zip(hosts, masters, strict=True)]
    in_zone = [0] * len(capacity.zones)
    order = []
    for turn in range(max(masters)):
        for number, host in enumerate(hosts):
            if turn < masters[number]:
                order.append((in_zone[host.zone], host.zone, number, turn))
                in_zone[host.zone] += 1
    shards = []
    for _, _, number, turn in sorted(order):
        units = [target for target in sorted(flow[number]) for _ in range(flow[number][target])]
        mine = units[turn :: masters[number]]
        shards.append(Shard(hosts[number].instances[turn], tuple(free[target].pop(0) for target in mine)))
    return shards


def _extras(
    topology: Topology, hosts: Sequence[_Host], shards: Sequence[Shard], left: Sequence[tuple[str, ...]]
) -> tuple[list[Shard], tuple[str, ...]]:
    """Instances left over become replicas too, as even over the shards as can be, best in a zone new to the shard."""
    home = {name: number for number, host in enumerate(hosts) for name in host.instances}
    single = len(topology.zones) == 1
    count = sum(map(len, left))
    masters = [home[shard.master] for shard in shards]
    on_host = [[home[name] for name in shard.replicas] for shard in shards]
    in_zone = [[hosts[number].zone for number in numbers] for numbers in on_host]
    crowd = 2 * (topology.replicas + count)
    again = count * crowd + 1
    uneven = again * count * crowd + 1

    def enter(row: int, k: int) -> Marginal:
        return uneven * (2 * k + 1)

    def via(row: int, zone: int, k: int) -> Marginal:
        if hosts[masters[row]].zone == zone and not single:
            return None
        return again * (in_zone[row].count(zone) + k)

    def pair(row: int, column: int, k: int) -> Marginal:
        return None if masters[row] == column else on_host[row].count(column) + k

    flow = spread(len(shards), [(h.zone, len(names)) for h, names in zip(hosts, left, strict=True)], enter, via, pair)
    free = [list(names) for names in left]
    full = []
    for shard, targets in zip(shards, flow, strict=True):
        extra = [free[target].pop(0) for target in sorted(targets) for _ in range(targets[target])]
        full.append(replace(shard, replicas=(*shard.replicas, *extra)))
    return full, tuple(name for names in free for name in names)


def _refusal(code: str, topology: Topology, capacity: Capacity, remedy: str) -> Finding:
    where, what = f"cluster {topology.name}", ""
    shards, replicas, zones = capacity.shards, capacity.replicas, len(capacity.zones)
    asked = f"{shards} shards with {_count(replicas, 'replica')} each"
    if code == "too-few-shards":
        what = f"{_count(shards, 'shard')} cannot form a cluster: a failover needs a majority of at least 3 masters"
    elif code == "replica-count":
        what = f"{replicas} replicas a shard are outside 0-5"
    elif code == "not-enough-instances":
        what = f"{asked} need {capacity.wanted} instances, and there are {capacity.total}"
    elif code == "replicas-need-hosts":
        (host, most), *_ = Counter(i.host for i in topology.instances).most_common(1)
        where += f", host {host}"
        what = (
            f"a replica never stands on its master's host, and {asked} do not fit: "
            f"{most} of {capacity.total} instances are on host {host}"
        )
    elif code == "replicas-need-zones":
        sizes = Counter(i.zone for i in topology.instances)
        smallest = min(sizes, key=lambda z: sizes[z])
        where += f", zone {smallest}"
        if replicas < zones:
            served = sum(min(n, shards) for n in capacity.per_zone)
            why = f"but a zone serves a shard once, so the zones serve {served} of {capacity.wanted} copies"
        elif sizes[smallest] < shards:
            why = f"so one in every zone, but zone {smallest} has {_count(sizes[smallest], 'instance')}"
        else:
            room = sum(capacity.zone_limits(0, True))
            why = f"and the room outside the master's zone is enough for {room} masters only"
        spelled = ", ".join(f"{zone} {n}" for zone, n in sizes.items())
        each = _count(min(replicas, zones - 1), "other zone")
        what = (
            f"each of {shards} shards needs its {_count(replicas, 'replica')} in {each}, {why} (instances: {spelled})"
        )
    else:
        where += f", {zones} zones"
        what = (
            f"no zone of {zones} may hold more than {capacity.minority} of {shards} masters, or its loss takes the "
            f"majority, and {shards} masters do not fit so"
        )
    return Finding(code, where, what, remedy)


def _risks(topology: Topology, capacity: Capacity, shards: Sequence[Shard]) -> tuple[Finding, ...]:
    """Which zone must not be lost, and why: for one and two zones always, else for the rules that gave way."""
    where, zones = f"cluster {topology.name}", topology.zones
    if len(zones) == 1:
        what = f"every instance is in zone {zones[0]}, which must not be lost: the whole cluster goes with it"
        return (_risk("one-zone", f"{where}, zone {zones[0]}", what, "spread the instances over three zones or more"),)

    findings = []
    masters = dict.fromkeys(zones, 0)
    beside: dict[str, int] = {}
    bare: dict[str, list[str]] = {}
    narrow: dict[str, list[str]] = {}
    for shard in shards:
        home = topology[shard.master].zone
        masters[home] += 1
        stands = [topology[name].zone for name in shard.replicas]
        required = stands[: capacity.replicas]
        away = set(stands) - {home}
        beside[home] = beside.get(home, 0) + required.count(home)
        if stands and not away:
            bare.setdefault(home, []).append(shard.master)
        elif len(away) < min(capacity.replicas, len(zones) - 1):
            narrow.setdefault(" and ".join(z for z in zones if z in away), []).append(shard.master)

    strict = replace(topology, allow_zone_risk=False)
    remedy = describe(strict, remedies(strict)) if capacity.broken() else ""
    for zone in zones:
        at = f"{where}, zone {zone}"
        if bare.get(zone):
            what = (
                f"zone {zone} must not be lost: every copy of {_count(len(bare[zone]), 'shard')} is there "
                f"({_some(bare[zone])})"
            )
            findings.append(_risk("replicas-need-zones", at, what, remedy))
        elif beside.get(zone):
            what = f"{_count(beside[zone], 'required replica')} in the zone of the master"
            findings.append(_risk("replicas-need-zones", at, what, remedy))
        rest = len(shards) - masters[zone]
        if rest < len(shards) // 2 + 1:
            what = (
                f"zone {zone} must not be lost: it holds {masters[zone]} of {len(shards)} masters, and the "
                f"{rest} elsewhere are no majority, so nothing would fail over until it returns"
            )
            code = "two-zones" if len(zones) == 2 else "zone-majority"
            findings.append(_risk(code, at, what, remedy or "spread the instances over three zones or more"))
    for away_zones, names in narrow.items():
        what = (
            f"the replicas of {_count(len(names), 'shard')} ({_some(names)}) outside the master's zone are all in "
            f"zone {away_zones}, and are lost with it at once"
        )
        findings.append(_risk("replicas-need-zones", where, what, remedy))
    return tuple(findings)


def _risk(code: str, where: str, what: str, remedy: str) -> Finding:
    return Finding(code, where, what, remedy, Severity.WARNING)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
