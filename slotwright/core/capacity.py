"""How many masters each zone and host may take, by arithmetic alone: whether a placement exists at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

LEAST_SHARDS = 3
MOST_REPLICAS = 5


@dataclass(frozen=True)
class Capacity:
    """What there is and what is asked of it. zones: for every zone the instances of each of its hosts.

    All rules come down to upper bounds on the masters of a zone or host. Write n for instances, m for masters, N, S, R
    and Z for all instances, shards, replicas and zones. A replica may stand anywhere but beside its master, and such a
    transport problem is soluble if the supply of each single place finds room elsewhere, for two places together reach
    everything: R·m ≤ N - n - (S - m) for a host; for a zone too, if `pairs` more may stay beside their master.
    Each shard covers min(R, Z - 1) zones besides its master's if Σ min(n, S) ≥ S·(min(R, Z - 1) + 1), whatever the
    masters are (Gale and Ryser); where R ≥ Z this takes (Z - 1)·S instances elsewhere, and the other R + 1 - Z
    replicas of each master must find room in what is left: (R + 1 - Z)·m ≤ N - n - (Z - 1)·S.
    """

    zones: tuple[tuple[int, ...], ...]
    shards: int
    replicas: int

    @cached_property
    def total(self) -> int:
        return sum(self.per_zone)

    @cached_property
    def per_zone(self) -> tuple[int, ...]:
        return tuple(sum(hosts) for hosts in self.zones)

    @property
    def wanted(self) -> int:
        return self.shards * (self.replicas + 1)

    @property
    def minority(self) -> int:
        """The most masters that one zone may hold so that the rest are a majority (asked of three zones or more)."""
        return (self.shards + 1) // 2 - 1 if len(self.zones) >= 3 else self.shards

    def host_limit(self, instances: int) -> int:
        """The most masters on a host of so many instances if every replica is to stand on another host."""
        return _most(self.replicas - 1, self.total - instances - self.shards, instances)

    def zone_limits(self, pairs: int, covering: bool) -> tuple[int, ...]:
        """The most masters per zone with `pairs` replicas beside their master and, if covering, distinct zones kept."""
        hosts = tuple(sum(map(self.host_limit, zone)) for zone in self.zones)
        others = len(self.zones) - 1
        if not others:
            return hosts
        limits = []
        for most, n in zip(hosts, self.per_zone, strict=True):
            most = min(most, _most(self.replicas - 1, self.total - n - self.shards + pairs, n))
            if covering:
                most = min(most, _most(self.replicas - others, self.total - n - others * self.shards, n))
            limits.append(most)
        return tuple(limits)

    def masters_fit(self, pairs: int, covering: bool, minority: int | None = None) -> bool:
        cap = self.shards if minority is None else minority
        return sum(min(limit, cap) for limit in self.zone_limits(pairs, covering)) >= self.shards

    @cached_property
    def keeps_apart(self) -> bool:
        """Whether the rules about the zones of replicas can all be kept."""
        copies = min(self.replicas + 1, len(self.zones))
        covers = sum(min(n, self.shards) for n in self.per_zone) >= self.shards * copies
        return covers and self.masters_fit(0, True)

    @cached_property
    def least_pairs(self) -> int:
        """The fewest required replicas in their master's zone, if there is any placement without regard to zones."""
        if self.keeps_apart or len(self.zones) == 1:
            return 0
        return next(pairs for pairs in range(self.wanted) if self.masters_fit(pairs, False))

    def broken(self, zone_risk: bool = False) -> tuple[str, ...]:
        """The codes of the hard rules that no placement meets; with zone_risk the rules about zones are waived."""
        zones_matter = len(self.zones) > 1 and not zone_risk
        codes = []
        if self.shards < LEAST_SHARDS:
            codes.append("too-few-shards")
        if not 0 <= self.replicas <= MOST_REPLICAS:
            codes.append("replica-count")
        if self.total < self.wanted or not self.zones:
            codes.append("not-enough-instances")
        if codes:
            if zones_matter and len(self.zones) * self.minority < self.shards >= LEAST_SHARDS:
                codes.append("zone-majority")
            return tuple(codes)
        if sum(map(self.host_limit, chain.from_iterable(self.zones))) < self.shards:
            codes.append("replicas-need-hosts")
        if not zones_matter:
            return tuple(codes)
        if not self.keeps_apart:
            codes.append("replicas-need-zones")
        even = sum(min(n, self.minority) for n in self.per_zone) >= self.shards
        if not even or (self.keeps_apart and not self.masters_fit(0, True, self.minority)):
            codes.append("zone-majority")
        return tuple(codes)


def _most(weight: int, room: int, limit: int) -> int:
    """The largest m up to limit with weight·m ≤ room; a negative weight asks for nothing."""
    if weight < 0:
        return limit
    if weight == 0:
        return limit if room >= 0 else 0
    return max(0, min(limit, room // weight))
