"""Which node is to be what, given what there is: who owns which slots, and who replicates whom.

A blank inventory gets the optimal placement (core/placement.py). While what is there agrees with that placement,
it stays the aim, so that a creation that was cut off is finished as it was begun. Otherwise, and where a cluster that
serves has lost a member, it is the legal layout that costs least to reach (core/layout.py), with the least slots moved
(core/transport.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from slotwright.core.layout import Layout, Part, lay_out
from slotwright.core.live import Live
from slotwright.core.placement import Placement
from slotwright.core.slots import Slots
from slotwright.core.topology import Topology
from slotwright.core.transport import Open, Stock, Transport, quotas, transport
from slotwright.core.view import ClusterView, union


@dataclass(frozen=True)
class Aim:
    """The wanted layout, and how the slots get there."""

    layout: Layout
    slots: Transport


def aim(topology: Topology, view: ClusterView, live: Live, placement: Placement) -> Aim:
    """Raises Unsolved where the best layout cannot be proved in time."""
    spans = planned_slots(topology, placement)
    bereft = not view.unowned and any(not m.alive for m in view.members.values())
    astray = any(node.foreign for node in view.nodes)
    opened = tuple(open_slots(view))
    if _agrees(placement, spans, view) and not (bereft or astray):
        owners = {h.name: h for h in live.holders}
        parts = tuple(Part(owners.get(s.master), s.master, s.replicas) for s in placement.shards)
        stocks = [Stock(number, part.master, Slots()) for number, part in enumerate(parts)]
        given = {n: slots for n, span in enumerate(spans.values()) if (slots := span & view.unowned)}
        return Aim(Layout(parts, (), placement.spares), transport(stocks, Slots(), opened, frozen=True, given=given))
    layout = lay_out(topology, live, placement)
    return Aim(layout, _transport(topology, view, layout, opened))


def planned_slots(topology: Topology, placement: Placement) -> Mapping[str, Slots]:
    """The slots of a creation, by master: a span for each shard by its weight, in their order."""
    weights = dict(topology.weights)
    shares = [Fraction(weights.get(s.master, 1)) for s in placement.shards]
    spans, first = {}, 0
    for shard, count in zip(placement.shards, quotas([0] * len(shares), shares), strict=True):
        spans[shard.master] = Slots.span(first, first + count - 1)
        first += count
    return spans


def _agrees(placement: Placement, spans: Mapping[str, Slots], view: ClusterView) -> bool:
    """Whether all that is there already is a part of the planned layout."""
    master_of = {replica: s.master for s in placement.shards for replica in s.replicas}
    for member in view.members.values():
        if not member.peer.slots <= spans.get(member.name, Slots()):
            return False
        if member.peer.master and master_of.get(member.name) != view.name_of(member.peer.master):
            return False
    return True


def _transport(topology: Topology, view: ClusterView, layout: Layout, opened: Iterable[Open]) -> Transport:
    """Shards are numbered as the layout has them: the parts, then those that dissolve.

    They are matched in the order of those who are master in the end: that stays when masters change.
    """
    weights = dict(topology.weights)
    order = {i.name: n for n, i in enumerate(topology.everyone)}
    stocks = []
    for number, part in enumerate(layout.parts):
        slots = part.holder.slots if part.holder else Slots()
        away = bool(part.holder and part.holder.away)
        weight = Fraction(weights.get(part.master, 1))
        stocks.append((order.get(part.master, len(order)), Stock(number, part.current, slots, weight, away)))
    for number, holder in enumerate(layout.dissolved, start=len(layout.parts)):
        stocks.append((order[holder.name], Stock(number, holder.name, holder.slots, None)))
    stocks.sort(key=lambda entry: (entry[0], entry[1].weight is None, entry[1].name))
    frozen = any(stock.away for _, stock in stocks)
    return transport([s for _, s in stocks], view.unowned, opened, slack=Fraction(topology.slack), frozen=frozen)


def open_slots(view: ClusterView) -> Iterator[Open]:
    """Every slot that is marked on a node's own line, or of which somebody else has keys, in the order of slots.

    Its owner answers, or is nobody.
    """
    marks: dict[int, list[tuple[str, str, str]]] = {}
    for node in view.nodes:
        if node.peers:
            for kind, entries in (("importing", node.myself.importing), ("migrating", node.myself.migrating)):
                for slot, other in entries:
                    marks.setdefault(slot, []).append((node.id, kind, other))
    for slot in union((*(node.foreign for node in view.nodes), *view.believed.values())):
        marks.setdefault(slot, [])
    for slot, found in sorted(marks.items()):
        owner = next((i for i, slots in view.owners.items() if slot in slots), None)
        if owner is not None and owner not in view.by_id:
            continue
        beyond: dict[str, None] = {}
        dangling = False
        for node_id, _, other in found:
            if node_id != owner:
                beyond[view.by_id[node_id].name] = None
            elif other in view.by_id and other != owner and view.by_id[other].myself.is_master:
                beyond[view.by_id[other].name] = None
            elif other not in view.members or other in view.by_id:
                dangling = True
        holders = [n.name for n in view.nodes if slot in n.foreign and n.id != owner and n.name not in beyond]
        believed = [] if owner or holders else [name for name, slots in view.believed.items() if slot in slots]
        hidden = (*holders, *believed)
        yield Open(slot, view.name_of(owner) if owner else "", (*beyond, *hidden), dangling, hidden)
