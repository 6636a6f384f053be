"""Distributions of slots that an operator asks for, and the moves that lead there: as few slots as can be.

A goal says where slots are to be, not what is to be done: reached, it asks for no move. So a run that was cut off is
finished by the same goal, and a further one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Literal

from slotwright.core.aim import open_slots
from slotwright.core.guard import conflict_findings, identity_findings
from slotwright.core.level import level
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Topology
from slotwright.core.transport import Open, Stock, closing, transport
from slotwright.core.view import ClusterView, NodeView
from slotwright.errors import Finding, Refused, Severity

Measure = Literal["slots", "keys", "bytes", "cpu"]
Loads = Mapping[int, float]
"""By slot: how many keys it has, or bytes, or microseconds of CPU a second."""


@dataclass(frozen=True)
class Balanced:
    """Every master has its share by weight, within `slack` (0.02: two per cent) of it.

    weights: of instances, hosts or zones; the most specific name counts, and the inventory's weight where none is
    given. 0: the master is to own nothing.
    """

    by: Measure = "slots"
    weights: Mapping[str, float] = field(default_factory=dict)
    slack: float = 0.02


@dataclass(frozen=True)
class Placed:
    """These slots are on these instances; all others stay where they are."""

    ranges: Mapping[str, Slots]


@dataclass(frozen=True)
class Hop:
    """Slots that are to go from one instance to another. source: "" for whoever owns them."""

    source: str
    target: str
    slots: Slots


@dataclass(frozen=True)
class Moved:
    """The slots of each hop have gone where it says."""

    hops: tuple[Hop, ...]


@dataclass(frozen=True)
class Drained:
    """No master that these names (instances, hosts, zones) mean owns a slot."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Repaired:
    """No slot is open."""


Goal = Balanced | Placed | Moved | Drained | Repaired


@dataclass(frozen=True)
class Way:
    """The moves that lead to a goal, those that close open slots first. least: no way moves fewer slots."""

    steps: tuple[MoveSlots, ...]
    least: int
    findings: tuple[Finding, ...] = ()

    @property
    def moved(self) -> int:
        return sum(len(step.slots) for step in self.steps)


def way(goal: Goal, topology: Topology, view: ClusterView, loads: Loads | None = None) -> Way:
    """loads: wanted for a Balanced that is not by slots. Raises Refused with every reason why nothing may be moved."""
    if refusals := (*identity_findings(view, [i.name for i in topology.leaving]), *conflict_findings(view)):
        raise Refused(refusals)
    if refusals := tuple(_unserved(view)):
        raise Refused(refusals)
    names = _Names(topology, view)
    opened = tuple(open_slots(view))
    match goal:
        case Balanced(by="slots"):
            moves = _by_slots(goal, names, opened)
        case Balanced():
            return _by_load(goal, names, opened, loads or {})
        case Placed(ranges):
            moves = _placed(ranges, names)
        case Moved(hops):
            moves = _moved(hops, names)
        case Drained():
            moves = _drained(goal, names)
        case Repaired():
            moves = []
    return _way(moves, opened)


def _way(moves: Iterable[MoveSlots], opened: Iterable[Open], least: int | None = None, *findings: Finding) -> Way:
    moves = sorted(moves, key=lambda move: (move.node, move.target))
    to = {slot: move.target for move in moves for slot in move.slots}
    closed = tuple(MoveSlots(c.node, c.owner, c.slots) for c in closing(opened, to))
    return Way((*closed, *moves), sum(len(m.slots) for m in moves) if least is None else least, findings)


def _unserved(view: ClusterView) -> Iterator[Finding]:
    if view.unowned:
        remedy = "run playbooks/check.yml, and playbooks/fix.yml or site.yml as it says; then run again"
        yield Finding("unowned-slots", f"slots {view.unowned}", "belong to nobody", remedy)
    for owner, slots in view.owners.items():
        if owner not in view.by_id:
            remedy = "start it, or let a replica take over; no slot is moved while an owner is away"
            yield Finding("owner-away", f"node {view.name_of(owner)}", f"owns {slots} and does not answer", remedy)


class _Names:
    """Who is meant by which name: masters that answer, and what the inventory says of them."""

    def __init__(self, topology: Topology, view: ClusterView) -> None:
        self.topology, self.view = topology, view
        wanted = [i.name for i in topology.everyone]
        masters = {n.name: n for n in view.nodes if n.peers and n.myself.is_master}
        joined = {n.name for n in view.nodes if n.id in view.components[0]}
        self.masters: dict[str, NodeView] = {name: masters[name] for name in wanted if masters.keys() & joined & {name}}
        self._leaving = {i.name for i in topology.leaving}

    def master(self, name: str, field: str) -> str:
        """The master that an instance's name means. Raises Refused."""
        if name not in self.topology:
            raise Refused([Finding("unknown-name", field, f"no instance is named {name}", self._known())])
        if name not in self.masters:
            node = self.view.by_name.get(name)
            master = self.view.name_of(node.myself.master) if node and node.peers else ""
            what = (
                f"{name} is a replica of {master}, and owns no slots" if master else f"{name} is no member that answers"
            )
            remedy = f"name its master {master}" if master else "start it, or name another one"
            raise Refused([Finding("no-master", field, f"{name} {what}", remedy)])
        return name

    def target(self, name: str, field: str) -> str:
        if name in self._leaving:
            what = f"{name} is stated as removed, and shall get no slots"
            raise Refused([Finding("leaving", field, what, "name another one, or take that statement back")])
        return self.master(name, field)

    def meant(self, names: Iterable[str], field: str) -> set[str]:
        """Names of the instances that instances, hosts and zones mean. Raises Refused."""
        found: set[str] = set()
        unknown = []
        for name in names:
            some = {i.name for i in self.topology.everyone if name in (i.name, i.host, i.zone)}
            found |= some
            unknown += [] if some else [name]
        if unknown:
            what = f"no instance, host or zone is named {', '.join(unknown)}"
            raise Refused([Finding("unknown-name", field, what, self._known())])
        return found

    def weights(self, stated: Mapping[str, float]) -> dict[str, Fraction]:
        """Of each master that may own slots; those that are to own none are left out. Raises Refused."""
        self.meant(stated, "weights")
        if wrong := [name for name, weight in stated.items() if not 0 <= weight < float("inf")]:
            what = f"{stated[wrong[0]]:g} is no weight"
            raise Refused([Finding("weight", f"weight of {wrong[0]}", what, "give it 0 or more")])
        usual = dict(self.topology.weights)
        found = {}
        for name in self.masters:
            instance = self.topology[name]
            given = next((stated[n] for n in (name, instance.host, instance.zone) if n in stated), usual.get(name, 1.0))
            if given and name not in self._leaving:
                found[name] = Fraction(given)
        if not found:
            raise Refused([Finding("weight", "weights", "nobody would own a slot", "give somebody a weight above 0")])
        return found

    def _known(self) -> str:
        return f"its instances are {', '.join(i.name for i in self.topology.instances)}"


# --- By slots -------------------------------------------------------------------------------------------------------


def _by_slots(goal: Balanced, names: _Names, opened: Sequence[Open]) -> list[MoveSlots]:
    """As few slots as masters have beyond their quota; see transport."""
    weights = names.weights(goal.weights)
    stocks = [
        Stock(number, name, node.myself.slots, weights.get(name))
        for number, (name, node) in enumerate(names.masters.items())
        if node.myself.slots or name in weights
    ]
    found = transport(stocks, Slots(), opened, slack=Fraction(goal.slack))
    at = {stock.number: stock.name for stock in stocks}
    return [MoveSlots(at[move.source], at[move.target], move.slots) for move in found.moves]


def _placed(ranges: Mapping[str, Slots], names: _Names) -> list[MoveSlots]:
    return _moved([Hop("", name, slots) for name, slots in ranges.items()], names)


def _moved(hops: Iterable[Hop], names: _Names) -> list[MoveSlots]:
    taken: dict[int, str] = {}
    moves = []
    for hop in hops:
        target = names.target(hop.target, f"to {hop.target}")
        if twice := [slot for slot in hop.slots if slot in taken]:
            what = f"are to go to {taken[twice[0]]} and to {target}"
            raise Refused([Finding("slots-twice", f"slots {Slots.of(twice)}", what, "state each slot once")])
        taken |= dict.fromkeys(hop.slots, target)
        if hop.source:
            _prove_source(hop, names)
        moves += [
            MoveSlots(owner.name, target, some)
            for owner in names.masters.values()
            if owner.name != target and (some := hop.slots & owner.myself.slots)
        ]
    return moves


def _prove_source(hop: Hop, names: _Names) -> None:
    """Raises Refused where the slots are neither the source's nor, after an earlier run, the target's."""
    source = names.master(hop.source, f"from {hop.source}")
    if source == hop.target:
        what = f"slots are to go from {source} to itself"
        raise Refused([Finding("same-node", "from, to", what, "name two different masters")])
    both = names.masters[source].myself.slots | names.masters[hop.target].myself.slots
    if elsewhere := hop.slots - both:
        owners = ", ".join(sorted(n.name for n in names.masters.values() if n.myself.slots & elsewhere))
        what = f"belong neither to {source} nor to {hop.target}, but to {owners}"
        raise Refused([Finding("not-its-slots", f"slots {elsewhere}", what, f"name their owner, or slots of {source}")])


def _drained(goal: Drained, names: _Names) -> list[MoveSlots]:
    """The others get as even by weight as can be without a move among themselves."""
    gone = names.meant(goal.names, "drain")
    weights = {name: weight for name, weight in names.weights({}).items() if name not in gone}
    if not weights:
        raise Refused([Finding("drain", "drain", "nobody would be left", "leave at least one master")])
    sources = {name: names.masters[name].myself.slots for name in names.masters if name in gone}
    have = {name: len(names.masters[name].myself.slots) for name in weights}
    return list(_spread({name: slots for name, slots in sources.items() if slots}, have, weights))


def _spread(
    sources: Mapping[str, Slots], have: Mapping[str, int], weights: Mapping[str, Fraction]
) -> Iterator[MoveSlots]:
    """All slots of the sources, each giving its first ones to the first target, in one range where it is one."""
    gets = poured(sum(map(len, sources.values())), have, weights)
    targets = [(name, count) for name, count in gets.items() if count]
    for source, slots in sources.items():
        rest = list(slots)
        while rest:
            target, room = targets.pop(0)
            some, rest = rest[:room], rest[room:]
            yield MoveSlots(source, target, Slots.of(some))
            if room > len(some):
                targets.insert(0, (target, room - len(some)))


def poured(amount: int, have: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Who gets how many of `amount` slots so that the fullest, by weight, is as empty as can be."""
    order = sorted(have, key=lambda name: have[name] / weights[name])
    full, weight = Fraction(amount), Fraction(0)
    mark = Fraction(0)
    for number, name in enumerate(order):
        full += have[name]
        weight += weights[name]
        mark = full / weight
        following = order[number + 1] if number + 1 < len(order) else None
        if following is None or have[following] / weights[following] >= mark:
            break
    gets = {name: max(0, int(mark * weights[name]) - have[name]) for name in have}
    left = amount - sum(gets.values())
    for name in sorted(have, key=lambda name: ((have[name] + gets[name] + 1) / weights[name], name))[:left]:
        gets[name] += 1
    return gets


# --- By load --------------------------------------------------------------------------------------------------------


def _by_load(goal: Balanced, names: _Names, opened: Sequence[Open], loads: Loads) -> Way:
    weights = names.weights(goal.weights)
    slots = {name: node.myself.slots for name, node in names.masters.items() if node.myself.slots or name in weights}
    found = level(slots, weights, loads, goal.slack)
    moves = [MoveSlots(source, target, some) for (source, target), some in found.moves.items()]
    findings = []
    if found.worst > goal.slack:
        what = f"after it a master still differs by {100 * found.worst:.1f} % from its share of the {goal.by}"
        why = f"single slots weigh too much: the heaviest has {max(loads.values(), default=0):,.0f}"
        remedy = "spread the keys of heavy hash tags over several, or accept it by a larger threshold"
        findings.append(Finding("uneven", "cluster", f"{what}; {why}", remedy, Severity.WARNING))
    return _way(moves, opened, found.least, *findings)


# --- How many -------------------------------------------------------------------------------------------------------


def last_slots(owned: Slots, count: int) -> Slots:
    """The last `count` of somebody's slots: so a range stays one. Raises Refused where it has fewer."""
    if not 0 < count <= len(owned):
        what = f"{count} slots are to go, and there are {len(owned)}"
        raise Refused([Finding("too-many", "count", what, "state fewer, or drain the node")])
    return Slots.of(list(owned)[-count:])


def slots_of_bytes(owned: Slots, amount: float, loads: Loads) -> Slots:
    """The fewest of somebody's last slots that hold together at least so many bytes. Raises Refused."""
    taken: list[int] = []
    left = amount
    for slot in reversed(list(owned)):
        if left <= 0:
            break
        taken.append(slot)
        left -= loads.get(slot, 0.0)
    if left > 0 or not taken:
        what = f"about {amount:,.0f} bytes are to go, and it has {ceil(amount - left):,}"
        raise Refused([Finding("too-many", "bytes", what, "state fewer, or drain the node")])
    return Slots.of(taken)
