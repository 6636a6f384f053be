"""The smallest changes of an inventory that make a refused placement possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

from slotwright.core.capacity import LEAST_SHARDS, MOST_REPLICAS, Capacity
from slotwright.core.topology import Topology, default_shards

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@dataclass(frozen=True)
class Add:
    """Instances to add. zone None: a zone that is new. host None: one new host (each Add its own) in that zone."""

    zone: str | None
    host: str | None
    count: int


@dataclass(frozen=True)
class Change:
    """One way out: with these instances more, these shards and these replicas the placement is possible."""

    add: tuple[Add, ...]
    shards: int
    replicas: int


def capacity_of(topology: Topology) -> Capacity:
    return Capacity(
        tuple(tuple(hosts.values()) for hosts in _census(topology).values()), topology.shards, topology.replicas
    )


def remedies(topology: Topology) -> tuple[Change, ...]:
    """Each change alone lifts every refusal: nearest shard counts, most replicas, fewest added instances."""
    have, risk = capacity_of(topology), topology.allow_zone_risk
    replicas = max(0, min(have.replicas, MOST_REPLICAS))
    asked = replace(have, replicas=replicas, shards=max(have.shards, LEAST_SHARDS))

    changes = []
    fewer, more = range(have.shards - 1, LEAST_SHARDS - 1, -1), range(have.shards + 1, have.total // (replicas + 1) + 1)
    if have.replicas == replicas:
        for shards in chain(_first(asked, risk, fewer), _first(asked, risk, more)):
            changes.append(Change((), shards, replicas))
    for other in range(replicas - (have.replicas == replicas), -1, -1):
        if not replace(asked, replicas=other).broken(risk):
            changes.append(Change((), asked.shards, other))
            break
    if asked.broken(risk):
        changes += _growth(topology, asked, risk)
    return tuple(changes)


def describe(topology: Topology, changes: Sequence[Change]) -> str:
    """The changes as one sentence of alternatives, without a final full stop."""
    if not changes:
        return "reconsider the zones, hosts, shards and replicas of the inventory"
    plain = [c.shards for c in changes if not c.add and c.replicas == topology.replicas]
    ways = [f"set redis_cluster_shards to {' or '.join(map(str, plain))}"] if plain else []
    for change in changes:
        if not change.add and change.replicas == topology.replicas:
            continue
        settings = []
        if change.replicas != topology.replicas:
            settings.append(f"redis_cluster_replicas to {change.replicas}")
        if _names_shards(topology, change):
            settings.append(f"redis_cluster_shards to {change.shards}")
        parts = [_added(topology, change.add)] if change.add else []
        parts += [f"set {' and '.join(settings)}"] if settings else []
        ways.append(" and ".join(parts))
    return ", or ".join(ways)


def _names_shards(topology: Topology, change: Change) -> bool:
    """Whether the inventory must state the shards: they change, or their default would move away from them."""
    total = len(topology.instances)
    by_default = topology.shards == default_shards(total, topology.replicas)
    then = default_shards(total + sum(a.count for a in change.add), change.replicas)
    return change.shards != topology.shards or (by_default and then != change.shards)


def _added(topology: Topology, add: Sequence[Add]) -> str:
    words = []
    for a in add:
        instances = f"{a.count} instance{'s' if a.count > 1 else ''}"
        if a.zone is None:
            number = len(topology.zones)
            name = f"a {_ORDINALS[number]} zone" if number < len(_ORDINALS) else "another zone"
            words.append(f"{name} with {instances}" + (" on one host" if not topology.zones else ""))
        elif a.host is None:
            words.append(f"{instances} in zone {a.zone}" if _by_zone(topology) else f"a new host with {instances}")
        else:
            words.append(f"{instances} on host {a.host}")
    return "add " + " and ".join(words)


def _by_zone(topology: Topology) -> bool:
    """Whether only the zone of an added instance matters, since its host follows from the zone rules."""
    return len(topology.zones) > 1 and not topology.allow_zone_risk


def _first(capacity: Capacity, risk: bool, shards: range) -> Iterator[int]:
    yield from [s for s in shards if not replace(capacity, shards=s).broken(risk)][:1]


def _growth(topology: Topology, asked: Capacity, risk: bool) -> list[Change]:
    grown = _zone_growth if _by_zone(topology) else _host_growth
    return [Change(add, asked.shards, asked.replicas) for add in grown(topology, asked, risk)]


def _zone_growth(topology: Topology, asked: Capacity, risk: bool) -> Iterator[tuple[Add, ...]]:
    """The fewest instances in the zones there are, then with one zone more if that needs fewer still.

    Only an instance in the smallest zone can help most: it fills the zone that covers least, and with three zones or
    more only the largest zone can lack room elsewhere. With two zones either may, so all splits are tried.
    """
    fewest = None
    for zones in (asked.zones, (*asked.zones, ())):
        names = (*topology.zones, None)
        if len(zones) >= 3 and replace(asked, zones=zones).minority * len(zones) < asked.shards:
            continue
        for added in _splits(asked, zones):
            if fewest is not None and sum(added) >= fewest:
                return
            trial = tuple((*hosts, more) if more else hosts for hosts, more in zip(zones, added, strict=True))
            if all(trial) and not replace(asked, zones=trial).broken(risk):
                fewest = sum(added)
                yield tuple(Add(names[z], None, more) for z, more in enumerate(added) if more)
                break


def _splits(asked: Capacity, zones: tuple[tuple[int, ...], ...]) -> Iterator[list[int]]:
    sizes = [sum(hosts) for hosts in zones]
    if len(sizes) == 2:
        copies = asked.shards if asked.replicas else 0
        for more in count(max(1, asked.wanted - sum(sizes), sum(max(0, copies - n) for n in sizes))):
            yield from ([a, more - a] for a in range(more + 1))
    added = [0] * len(sizes)
    while True:
        smallest = min(range(len(sizes)), key=lambda z: sizes[z] + added[z])
        added[smallest] += 1
        yield added


def _host_growth(topology: Topology, asked: Capacity, risk: bool) -> Iterator[tuple[Add, ...]]:
    """The fewest instances on the hosts there are, else on one new host, else on as few new hosts as do.

    One instance on each new host raises every bound the most, so it finds the fewest.
    """
    census = _census(topology)
    names = [(zone, host) for zone, hosts in census.items() for host in hosts]
    sizes = [n for hosts in census.values() for n in hosts.values()]
    zone = min(census, key=lambda z: sum(census[z].values()), default=None)

    def fits(hosts: Sequence[int]) -> bool:
        return not replace(asked, zones=(tuple(hosts),)).broken(risk)

    fewest = next(k for k in count(1) if fits([*sizes, *[1] * k]))
    added = [0] * len(sizes)
    for _ in range(fewest if sizes else 0):
        added[min(range(len(sizes)), key=lambda h: sizes[h] + added[h])] += 1
    if fits([n + more for n, more in zip(sizes, added, strict=True)]):
        yield tuple(Add(*names[h], more) for h, more in enumerate(added) if more)
        return
    for hosts in range(1, fewest + 1):
        parts = [fewest // hosts + (h < fewest % hosts) for h in range(hosts)]
        if fits([*sizes, *parts]):
            yield tuple(Add(zone, None, part) for part in parts)
            return


def _census(topology: Topology) -> dict[str, dict[str, int]]:
    """zone → host → number of instances, in natural order."""
    census: dict[str, dict[str, int]] = {}
    for instance in topology.instances:
        hosts = census.setdefault(instance.zone, {})
        hosts[instance.host] = hosts.get(instance.host, 0) + 1
    return census
