"""Who says that a slot is whose, and who holds its keys: where the nodes differ, and who is in the right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.view import ClusterView, Member, NodeView, union

Held = Mapping[str, Mapping[int, int]]
"""By node name, keys by slot: of slots that it does not own by its own word, or that others claim too."""


@dataclass(frozen=True)
class Contest:
    """Slots that two nodes claim: the owner (who holds more of their keys, or has the newer epoch), and the other."""

    owner: str
    other: str
    slots: Slots


@dataclass(frozen=True)
class Ownership:
    """Read from a view; names are those of nodes that answer."""

    view: ClusterView
    held: Held = field(default_factory=dict)

    @cached_property
    def masters(self) -> tuple[NodeView, ...]:
        return tuple(n for n in self.view.nodes if n.peers and n.myself.is_master)

    @cached_property
    def claimed(self) -> Slots:
        """Slots that a master which answers says are its own."""
        return union(n.myself.slots for n in self.masters)

    @cached_property
    def away(self) -> Mapping[str, Slots]:
        """Slots of members that do not answer and that nobody else claims, by member id."""
        owners = self.view.owners.items()
        found = {i: slots - self.claimed for i, slots in owners if not self.view.members[i].alive}
        return {i: slots for i, slots in found.items() if slots}

    @cached_property
    def unclaimed(self) -> Slots:
        """Slots that nobody says are its own, though some may say so of others."""
        return ALL_SLOTS - self.claimed - union(self.away.values())

    @cached_property
    def contests(self) -> tuple[Contest, ...]:
        found = []
        for one, other in combinations(self.masters, 2):
            if both := one.myself.slots & other.myself.slots:
                first, second = sorted((one, other), key=lambda n: self._right(n, both), reverse=True)
                found.append(Contest(first.name, second.name, both))
        return tuple(found)

    def _right(self, node: NodeView, slots: Slots) -> tuple[int, int, str]:
        return self.keys(node.name, slots), node.myself.config_epoch, node.id

    def keys(self, name: str, slots: Slots) -> int:
        return sum(count for slot, count in self.held.get(name, {}).items() if slot in slots)

    def owner_of(self, slot: int) -> str | None:
        """Who claims it, and of several who is in the right."""
        claimants = [n for n in self.masters if slot in n.myself.slots]
        losers = {c.other for c in self.contests if slot in c.slots}
        return next((n.name for n in claimants if n.name not in losers), None)

    def adopters(self) -> Mapping[str, Slots]:
        """Who should have the unclaimed slots: who holds most keys of it, else whom most nodes name.

        Slots without keys that no node gives to a master that answers are left out.
        """
        found: dict[str, list[int]] = {}
        # Who claims wrongly gets no newer epoch before that is ended: others would believe all that it claims.
        wrong = {c.other for c in self.contests}
        candidates = {n.id: n for n in self.masters if n.name not in wrong}
        told = [(p.id, p.slots & self.unclaimed) for n in self.view.nodes for p in n.peers if p.id in candidates]
        told = [(node_id, slots) for node_id, slots in told if slots]
        for slot in self.unclaimed:
            holders = {i: self.held.get(n.name, {}).get(slot, 0) for i, n in candidates.items()}
            votes = {i: sum(slot in slots for node_id, slots in told if node_id == i) for i in candidates}
            best = max(candidates, key=lambda i: (holders[i], votes[i], i), default=None)
            if best and (holders[best] or votes[best]):
                found.setdefault(candidates[best].name, []).append(slot)
        return {name: Slots.of(slots) for name, slots in sorted(found.items())}

    def strays(self) -> Iterator[tuple[str, str, Slots]]:
        """Keys of slots that a node does not own, or not rightly: who holds them, whose they are, which slots."""
        for name, slots in self.held.items():
            by_owner: dict[str, list[int]] = {}
            for slot, count in slots.items():
                owner = self.owner_of(slot)
                if count and owner and owner != name:
                    by_owner.setdefault(owner, []).append(slot)
            yield from ((name, owner, Slots.of(some)) for owner, some in sorted(by_owner.items()))

    def astray(self) -> Iterator[tuple[NodeView, NodeView, Slots]]:
        """Who sees slots elsewhere than their one owner does: observer, owner, slots. Open slots tell no view."""
        for owner in self.masters:
            mine = owner.myself.slots - union(c.slots for c in self.contests)
            for node in self.view.nodes:
                line = node.by_id.get(owner.id)
                if node is owner or line is None or not node.peers:
                    continue
                importing = Slots.of(slot for slot, _ in node.myself.importing)
                if wrong := mine - line.slots - importing:
                    yield node, owner, wrong

    def heirs(self, node_id: str) -> tuple[Member, ...]:
        """Replicas of a member that answer, the one with most of its data first."""
        living = [m for m in self.view.replicas_of(node_id) if m.node and not m.node.loading]
        return tuple(sorted(living, key=lambda m: (-(m.node.replication.offset if m.node else 0), m.name)))
