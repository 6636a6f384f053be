"""Which keys are where they are in doubt: by slot, of slots that a node does not own or that others claim too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

from slotwright.core.ownership import Held
from slotwright.core.parse import count_keys, parse_info
from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.view import ClusterView, NodeView, union
from slotwright.link.connect import LinkDown, Links
from slotwright.link.migrate.keys import Lost, count
from slotwright.link.migrate.wire import Wire

LOOKS = 3


def held(view: ClusterView, links: Links) -> Held:
    """Of masters with keys. Where those of its own slots are all that a node has, the others need not be asked."""
    masters = {n.name: n for n in view.nodes if n.keys and n.peers and n.myself.is_master}
    shared = union(one.myself.slots & other.myself.slots for one, other in combinations(masters.values(), 2))
    own = _count(links, {name: n.myself.slots for name, n in masters.items()})
    found = {}
    asked = {}
    for name, node in masters.items():
        counts = own.get(name, {})
        found[name] = {slot: counts[slot] for slot in shared & node.myself.slots if counts.get(slot)}
        if counts and sum(counts.values()) != node.keys and _has_others(node, links):
            asked[name] = ALL_SLOTS - node.myself.slots
        elif not node.myself.slots:
            asked[name] = ALL_SLOTS
    for name, counts in _count(links, asked).items():
        found[name] |= {slot: keys for slot, keys in counts.items() if keys}
    return found


def _has_others(node: NodeView, links: Links) -> bool:
    """Whether it has more keys than its own slots, though clients write, and keys expire, while they are counted."""
    for _ in range(LOOKS):
        before = _keys(node.name, links)
        own = sum(_count(links, {node.name: node.myself.slots}).get(node.name, {}).values())
        if own >= min(before, _keys(node.name, links)):
            return False
    return True


def _keys(name: str, links: Links) -> int:
    [answer] = links.ask({name: [("INFO", "keyspace")]}).values()
    return count_keys(parse_info(answer[0])) if isinstance(answer, list) and isinstance(answer[0], str) else 0


def with_foreign(view: ClusterView, links: Links) -> ClusterView:
    """The view with the slots of which masters hold keys, though they do not own them."""
    return foreign_of(view, held(view, links))


def foreign_of(view: ClusterView, found: Held) -> ClusterView:
    """The same, where it has been asked already."""
    nodes = (replace(n, foreign=Slots.of(found.get(n.name, ())) - n.myself.slots) if n.peers else n for n in view.nodes)
    return replace(view, nodes=tuple(nodes))


def _count(links: Links, slots: Mapping[str, Slots]) -> dict[str, dict[int, int]]:
    """Keys of each slot, by node name; nodes that do not answer are left out."""
    found = {}
    for name, some in slots.items():
        with suppress(LinkDown, Lost):
            found[name] = count(Wire(links[name]), list(some)) if some else {}
    return found
