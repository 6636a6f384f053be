"""What is left when a zone, or a host, is lost: quorum, coverage, redundancy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slotwright.core.slots import SLOT_COUNT
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, Member


@dataclass(frozen=True)
class Survival:
    """The cluster without one zone (or host).

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


def survival(topology: Topology, view: ClusterView) -> tuple[Survival, ...]:
    """One Survival for every zone of the topology."""
    return tuple(_without(zone, lambda i: i.zone, topology, view) for zone in topology.zones)


def host_survival(topology: Topology, view: ClusterView) -> tuple[Survival, ...]:
    """One Survival for every host of the topology."""
    return tuple(_without(host, lambda i: i.host, topology, view) for host in topology.hosts)


def _without(lost: str, part_of: Callable[[Instance], str], topology: Topology, view: ClusterView) -> Survival:
    names = {i.name: part_of(i) for i in topology.everyone}

    def stands(member: Member) -> bool:
        return member.alive and names.get(member.name) != lost

    masters = [view.members[i] for i in view.owners]
    left = [m for m in masters if stands(m)]
    slots_lost = slots_waiting = bare = 0
    for master in masters:
        copies = [r for r in view.replicas_of(master.id) if stands(r) and _in_sync(r)]
        if master in left:
            bare += not copies
        elif copies:
            slots_waiting += len(master.peer.slots)
            bare += len(copies) == 1
        else:
            slots_lost += len(master.peer.slots)
    return Survival(
        lost=lost,
        masters_lost=sum(names.get(m.name) == lost for m in masters),
        masters_left=len(left),
        masters_needed=len(masters) // 2 + 1,
        slots_lost=slots_lost,
        slots_waiting=slots_waiting,
        shards_bare=bare,
    )


def _in_sync(member: Member) -> bool:
    node = member.node
    return node is not None and node.replication.link_up and not node.replication.syncing
