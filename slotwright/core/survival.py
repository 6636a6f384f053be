"""What is left when a zone, a host, two hosts or any set of instances is lost: quorum, coverage, redundancy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

from slotwright.core.slots import SLOT_COUNT
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member


@dataclass(frozen=True)
class Survival:
    """The cluster without what is lost: a zone, a host, "host1 + host2", or whatever else lost names.

    masters_lost: masters with slots inside it. masters_left / masters_needed: for a failover to be voted.
    slots_lost: slots whose master is inside, with no replica in sync outside. slots_waiting: slots whose master is
    inside and that a failover brings back. shards_bare: shards left with a single copy.
    Slots that nobody owns even now are not counted: they are I1's matter.
    """

    lost: str
    masters_lost: int
    masters_left: int
    masters_needed: int
    slots_lost: int
    slots_waiting: int
    shards_bare: int

    @property
    def quorum(self) -> bool:
        return self.masters_left >= self.masters_needed

    @property
    def slots_left(self) -> int:
        """Slots that are served again in the end, with nobody's help."""
        return SLOT_COUNT - self.slots_lost - (0 if self.quorum else self.slots_waiting)

    @property
    def survives(self) -> bool:
        """All slots are served again without anybody's help."""
        return self.slots_lost == 0 and (self.quorum or self.slots_waiting == 0)

    @property
    def verdict(self) -> str:
        if self.survives:
            return "survives"
        if not self.quorum:
            return "no failover: no majority of masters is left"
        return f"{self.slots_lost} slots lost"

    def as_dict(self) -> dict[str, object]:
        return {
            "lost": self.lost,
            "masters_lost": self.masters_lost,
            "masters_left": self.masters_left,
            "masters_needed": self.masters_needed,
            "quorum": self.quorum,
            "slots_lost": self.slots_lost,
            "slots_left": self.slots_left,
            "shards_without_redundancy": self.shards_bare,
            "survives": self.survives,
            "verdict": self.verdict,
        }  # fmt: skip


@dataclass(frozen=True)
class Copies:
    """Who has the data of a shard. alive: whether its master answers. others: replicas that answer and are in sync."""

    master: str
    alive: bool
    slots: int
    others: tuple[str, ...]


def survival(topology: Topology, view: ClusterView) -> tuple[Survival, ...]:
    """One Survival for every zone of the topology."""
    shards = copies(view)
    return tuple(without(zone, zone_names(topology, zone), shards) for zone in topology.zones)


def host_survival(topology: Topology, view: ClusterView) -> tuple[Survival, ...]:
    """One Survival for every host of the topology."""
    shards = copies(view)
    return tuple(without(host, host_names(topology, host), shards) for host in topology.hosts)


def pair_survival(topology: Topology, view: ClusterView) -> tuple[Survival, ...]:
    """One Survival for every two hosts of the topology that are lost together, be they in one zone or in two.

    A pair differs from the whole cluster only in the shards that have a copy on one of the two: only those are counted
    again, so that a hundred hosts (4,950 pairs) take a fraction of a second.
    """
    shards = copies(view)
    hosts = {host: host_names(topology, host) for host in topology.hosts}
    home = {name: host for host, names in hosts.items() for name in names}
    touched: dict[str, set[int]] = {host: set() for host in hosts}
    for number, shard in enumerate(shards):
        for name in (shard.master, *shard.others):
            if name in home:
                touched[home[name]].add(number)
    whole = [_counts(shard, frozenset()) for shard in shards]
    total = _sum(whole)
    rows = []
    for one, other in combinations(hosts, 2):
        lost, some = hosts[one] | hosts[other], touched[one] | touched[other]
        counts = list(total)
        for number in some:
            then = _counts(shards[number], lost)
            counts = [c - was + will for c, was, will in zip(counts, whole[number], then, strict=True)]
        rows.append(_survival(f"{one} + {other}", len(shards), counts))
    return tuple(rows)


def loss(lost: str, names: Collection[str], topology: Topology, view: ClusterView) -> Survival:
    """What is left without the instances of these names. lost: what to call them. Raises KeyError for unknown names."""
    return without(lost, {topology[name].name for name in names}, copies(view))


def zone_names(topology: Topology, zone: str) -> frozenset[str]:
    """The instances of a zone, those that leave included."""
    return frozenset(i.name for i in topology.everyone if i.zone == zone)


def host_names(topology: Topology, host: str) -> frozenset[str]:
    """The instances of a host, those that leave included."""
    return frozenset(i.name for i in topology.everyone if i.host == host)


def copies(view: ClusterView) -> tuple[Copies, ...]:
    """Every shard of the view, in the order of its owners."""
    followers: dict[str, list[str]] = {}
    for member in view.members.values():
        if in_sync(member):
            followers.setdefault(member.peer.master, []).append(member.name)
    masters = (view.members[i] for i in view.owners)
    return tuple(Copies(m.name, m.alive, len(m.peer.slots), tuple(followers.get(m.id, ()))) for m in masters)


def without(lost: str, names: Collection[str], shards: Collection[Copies]) -> Survival:
    """What is left of these shards without the instances of these names."""
    return _survival(lost, len(shards), _sum(_counts(shard, names) for shard in shards))


def in_sync(member: Member) -> bool:
    """Whether the member answers, and has all that its master had a moment ago."""
    node = member.node
    return node is not None and node.replication.link_up and not node.replication.syncing


_Counts = tuple[int, int, int, int, int]
"""Of one shard: masters lost, masters left, slots lost, slots waiting, shards bare."""


def _counts(shard: Copies, lost: Collection[str]) -> _Counts:
    inside = shard.master in lost
    left = sum(name not in lost for name in shard.others)
    if shard.alive and not inside:
        return 0, 1, 0, 0, left == 0
    if left:
        return inside, 0, 0, shard.slots, left == 1
    return inside, 0, shard.slots, 0, 0


def _sum(many: Iterable[_Counts]) -> list[int]:
    return [sum(column) for column in zip((0,) * 5, *many, strict=True)]


def _survival(lost: str, shards: int, counts: Iterable[int]) -> Survival:
    masters_lost, masters_left, slots_lost, slots_waiting, bare = counts
    return Survival(lost, masters_lost, masters_left, shards // 2 + 1, slots_lost, slots_waiting, bare)
