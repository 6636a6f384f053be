"""In which order a layout is reached, so that no copy goes before another is in sync.

The next step depends on nothing but what is there and what is wanted, so that a rest of the plan is planned again as
it was. In this order, each kind once nothing of the kinds before it may be done:

 - replicas that become empty masters, because new shards need them;
 - nodes that get a part for the first time, where a shard lacks a copy;
 - functions for new masters;
 - replicas that move to a shard which is about to get slots, where it lacks a copy;
 - slots, one move after the other;
 - nodes that get a part for the first time, where no copy is lacking;
 - failovers;
 - replicas that move to another shard; surplus ones that leave;
 - removals.

A step waits while it would make something worse than it is now and than it will be in the end: a replica leaves its
shard only if as many copies stay as there are to be, and as many away from the master; slots go only where they have
as many copies, of those that are wanted; a failover leaves as many copies away from the master; and no zone gets more
masters than may be lost with it. Where all that is left waits so (replicas that change places, with no node free), the
step that does least harm is taken, and a finding says what is less safe meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from slotwright.core.layout import Layout, Part
from slotwright.core.live import Live
from slotwright.core.slots import Slots
from slotwright.core.steps import Detach, Failover, LoadFunctions, MoveSlots, Replicate, Step
from slotwright.core.topology import Topology
from slotwright.core.transport import Transport
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Severity


@dataclass(eq=False)
class _Shard:
    """A shard while the plan goes on.

    master: who is it now, and is in place once it is among the copies: the nodes that answer and have the data.
    leader and final: who is master in the end, and all copies then; none where the shard is dissolved.
    fixed: its owner does not answer, and nothing of it can be changed.
    """

    master: str
    leader: str
    copies: set[str]
    final: frozenset[str]
    slots: int
    fixed: bool = False

    @property
    def in_place(self) -> bool:
        return self.master in self.copies

    @property
    def dissolves(self) -> bool:
        return not self.final


@dataclass(frozen=True)
class _Move:
    source: _Shard
    target: _Shard
    slots: Slots

    @property
    def step(self) -> MoveSlots:
        return MoveSlots(self.source.master, self.target.master, self.slots)


class Schedule:
    """The steps from what is there to the layout, but for those that join nodes and those that remove them."""

    def __init__(self, topology: Topology, view: ClusterView, live: Live, layout: Layout, slots: Transport) -> None:
        self.topology, self.view = topology, view
        self.findings: list[Finding] = []
        self.closing = [MoveSlots(c.node, c.owner, c.slots) for c in slots.closing]
        self.shards = [_shard(part, live) for part in layout.parts]
        self.shards += [_Shard(h.name, "", set(h.nodes), frozenset(), len(h.slots)) for h in layout.dissolved]
        # A replica that is to found a shard may be a master still: it is not that shard's.
        self.by_master = {shard.master: shard for shard in self.shards if shard.in_place or shard.fixed}
        for number, given in slots.given.items():
            self.shards[number].slots += len(given)
        self.moves = [_Move(self.shards[m.source], self.shards[m.target], m.slots) for m in slots.moves]
        self.home = {name: shard for shard in self.shards for name in shard.copies}
        self.goal = {name: shard for shard in self.shards for name in shard.final}
        slaves = {n.name for n in view.nodes if n.peers and not n.myself.is_master}
        self.spares = [name for name in layout.spares if name in slaves]
        # Those that are not where they are to be, in the inventory's order.
        self.waiting = [name for name in view.by_name if name in self.goal and self.home.get(name) != self.goal[name]]
        self.loaded: set[str] = set()

    def detached(self) -> Iterator[Detach]:
        """Those of the steps that come even before nodes are joined: replicas that become empty masters now."""
        while step := next(self._detached(), None):
            self._place(step.node, next(s for s in self.shards if s.master == step.node and not s.in_place))
            yield step

    def steps(self) -> Iterator[Step]:
        """All steps, or those up to the first Detach, from where the rest is planned anew."""
        while step := self._next():
            self._do(step)
            yield step
            if isinstance(step, Detach):
                return

    def _next(self) -> Step | None:
        kinds = (
            self._detached,
            self._needed,
            self._functions,
            self._early,
            self._slots,
            self._extra,
            self._failovers,
            self._replaced,
            self._surplus,
            self._forced,
        )
        return next((step for kind in kinds for step in kind()), None)

    # --- What may be done next ---------------------------------------------------------------------------------------

    def _detached(self) -> Iterator[Detach]:
        for shard in self.shards:
            at = self.home.get(shard.master)
            if shard.in_place or shard.fixed or shard.dissolves or shard.master not in self.view.by_name:
                continue
            if at is None or self._may_leave(shard.master):
                yield Detach(shard.master)

    def _unplaced(self) -> Iterator[tuple[str, _Shard]]:
        """Nodes without a part, and the shard that each is to join, where its master is there.

        One with open slots comes later: it may hold keys of theirs.
        """
        opened = {step.node for step in self.closing}
        for name in self.waiting:
            shard = self.goal[name]
            if name not in self.home and name not in opened and shard.in_place:
                yield name, shard

    def _lacks(self, shard: _Shard) -> bool:
        return len(shard.copies) <= self.topology.replicas

    def _needed(self) -> Iterator[Step]:
        return (Replicate(name, shard.master) for name, shard in self._unplaced() if self._lacks(shard))

    def _extra(self) -> Iterator[Step]:
        return (Replicate(name, shard.master) for name, shard in self._unplaced())

    def _functions(self) -> Iterator[Step]:
        nodes = self.view.by_name
        serving = (s.master for s in self.shards if s.slots and s.master in nodes)
        source = next((name for name in serving if nodes[name].functions), None)
        for shard in self.shards:
            new = not shard.slots and not shard.dissolves and shard.in_place
            if source and new and shard.master not in self.loaded:
                known = nodes[shard.master].functions
                if known is not None and known != nodes[source].functions:
                    yield LoadFunctions(shard.master, source)

    def _early(self) -> Iterator[Step]:
        targets = [move.target for move in self.moves]
        return (
            Replicate(name, shard.master)
            for name, shard in self._misplaced()
            if shard in targets and self._lacks(shard) and self._may_leave(name)
        )

    def _slots(self) -> Iterator[Step]:
        yield from self.closing
        yield from (move.step for move in self.moves[:1] if self._may_move(move))

    def _to_fail_over(self) -> Iterator[_Shard]:
        for shard in self.shards:
            # Redis fails nothing over from a master without slots.
            if shard.slots and shard.in_place and shard.leader != shard.master and shard.leader in shard.copies:
                yield shard

    def _failovers(self) -> Iterator[Step]:
        return (Failover(shard.leader) for shard in self._to_fail_over() if self._may_lead(shard))

    def _misplaced(self) -> Iterator[tuple[str, _Shard]]:
        """Replicas of one shard that are to be in another, whose master is there."""
        for name in self.waiting:
            at, goal = self.home.get(name), self.goal[name]
            if at and name != at.master and goal.in_place:
                yield name, goal

    def _replaced(self) -> Iterator[Step]:
        return (Replicate(name, shard.master) for name, shard in self._misplaced() if self._may_leave(name))

    def _surplus(self) -> Iterator[Step]:
        return (Detach(name) for name in self.spares if name not in self.home or self._may_leave(name))

    def _forced(self) -> Iterator[Step]:
        """What does least harm, once everything waits. Only the first of these is done."""
        for shard in self._to_fail_over():
            self._dips(
                f"shard of {shard.master}", self._zones({shard.master: shard.leader}) or "fewer copies elsewhere"
            )
            yield Failover(shard.leader)
        for name, goal in sorted(self._misplaced(), key=lambda pair: -len(self.home[pair[0]].copies)):
            self._fewer(name)
            yield Replicate(name, goal.master)
        for shard in self.shards:
            at = None if shard.in_place or shard.dissolves else self.home.get(shard.master)
            if at and at.master != shard.master:
                self._fewer(shard.master)
                yield Detach(shard.master)
        for move in self.moves[:1]:
            if move.target.in_place:
                few = f"fewer copies of them, at {move.target.master}"
                self._dips(f"slots {move.slots}", self._zones(_appearing(move), _leaving(move)) or few)
                yield move.step

    def _fewer(self, name: str) -> None:
        shard = self.home[name]
        why = f"{len(shard.copies) - 2} replicas, because {name} goes before another comes"
        self._dips(f"shard of {shard.master}", why)

    def _zones(self, changed: Mapping[str, str], gone: str | None = None) -> str:
        masters, most = self._per_zone(changed, gone)
        full = [
            f"{count} of {masters.total()} masters in zone {zone}" for zone, count in masters.items() if count > most
        ]
        return " and ".join(full)

    def _dips(self, where: str, why: str) -> None:
        self.findings.append(
            Finding(
                "redundancy-dips",
                where,
                f"less safe in the middle of the run than before and after it: {why}",
                "nothing, where that is good enough; else add an instance to the inventory, and remove it afterwards",
                Severity.WARNING,
            )
        )

    # --- What holds a step back --------------------------------------------------------------------------------------

    def _away(self, master: str, names: Iterable[str]) -> int:
        """How many of these stand on another host than the master, and in another zone where there are two."""
        home = self.topology[master]
        zoned = len(self.topology.zones) > 1
        places = [self.topology[name] for name in names if name != master]
        return sum(i.host != home.host and not (zoned and i.zone == home.zone) for i in places)

    def _may_leave(self, name: str) -> bool:
        shard = self.home[name]
        if shard.dissolves or name == shard.master or len(shard.copies) <= self._least(shard):
            return False
        before, after = self._away(shard.master, shard.copies), self._away(shard.master, shard.copies - {name})
        return after == before or after >= len(shard.final) - 1

    def _least(self, shard: _Shard) -> int:
        """How many copies there are to be of all slots that the shard has: also of those that are still to go."""
        most = self.topology.replicas + 1
        going = (min(most, len(move.target.final)) for move in self.moves if move.source is shard)
        return max(len(shard.final), *going, 0)

    def _may_move(self, move: _Move) -> bool:
        allowed = move.target.in_place and self._copied(move)
        return allowed and self._beyond(_appearing(move), _leaving(move)) <= self._beyond({})

    def _copied(self, move: _Move) -> bool:
        """Whether the slots have as many copies where they go as they have now and are to have."""
        source, target, replicas = move.source, move.target, self.topology.replicas
        if len(target.copies) < min(len(source.copies), len(target.final), replicas + 1):
            return False
        before, after = self._away(source.master, source.copies), self._away(target.master, target.copies)
        return after >= min(before, self._away(target.leader, target.final), replicas)

    def _may_lead(self, shard: _Shard) -> bool:
        before, after = self._away(shard.master, shard.copies), self._away(shard.leader, shard.copies)
        if after < min(before, self._away(shard.leader, shard.final)):
            return False
        return self._beyond({shard.master: shard.leader}) <= self._beyond({})

    def _beyond(self, changed: Mapping[str, str], gone: str | None = None) -> int:
        """Masters that zones have more than may be lost with one of them: with some of them changed, and one gone."""
        masters, most = self._per_zone(changed, gone)
        return sum(max(0, count - most) for count in masters.values())

    def _per_zone(self, changed: Mapping[str, str], gone: str | None = None) -> tuple[Counter[str], int]:
        """Masters with slots per zone, and how many one zone may have; any number where there are one or two."""
        masters = [shard.master for shard in self.shards if shard.slots or shard.master in changed]
        masters = [changed.get(name, name) for name in masters if name != gone]
        zones = Counter(self.topology[name].zone for name in masters if name in self.topology)
        return zones, (len(masters) + 1) // 2 - 1 if len(self.topology.zones) >= 3 else len(masters)

    # --- What a step does --------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        match step:
            case Replicate(node=name, master=master):
                self._place(name, self.by_master[master])
            case LoadFunctions(node=name):
                self.loaded.add(name)
            case MoveSlots() if step in self.closing:
                self.closing.remove(step)
            case MoveSlots():
                move = self.moves.pop(0)
                move.target.slots += len(move.slots)
                self._give(move.source, len(move.slots))
            case Failover(node=name):
                shard = self.home[name]
                del self.by_master[shard.master]
                self.by_master[name] = shard
                shard.master = name

    def _place(self, name: str, shard: _Shard) -> None:
        if name in self.home:
            self.home[name].copies.remove(name)
        shard.copies.add(name)
        self.home[name] = shard
        if self.goal.get(name) is shard:
            self.waiting.remove(name)

    def _give(self, shard: _Shard, slots: int) -> None:
        """Once a shard has given its last slots away, its nodes have no part."""
        shard.slots -= slots
        if not shard.slots:
            for name in shard.copies:
                del self.home[name]
            shard.copies.clear()


def _appearing(move: _Move) -> dict[str, str]:
    """The target, where the move makes it a master with slots."""
    return {} if move.target.slots else {move.target.master: move.target.master}


def _leaving(move: _Move) -> str | None:
    """The source, where the move takes its last slots."""
    return move.source.master if move.source.slots == len(move.slots) else None


def _shard(part: Part, live: Live) -> _Shard:
    final, now = frozenset((part.master, *part.replicas)), part.current
    holder = part.holder
    if holder is not None:
        return _Shard(now, part.master, set(holder.nodes), final, len(holder.slots), holder.away)
    copies = {now, *live.followers.get(now, ())} if now in live.empty else set[str]()
    return _Shard(now, part.master, copies, final, 0)
