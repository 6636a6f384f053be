"""What slots weigh: their keys, their memory, or the CPU that they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.goal import Loads, Measure
from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Refused
from slotwright.link.connect import LinkDown, Links
from slotwright.link.migrate.keys import count, each_node, survey
from slotwright.link.migrate.limits import NO_LIMITS
from slotwright.link.migrate.pacer import Pacer
from slotwright.link.migrate.wire import Wire

SAMPLED = 5  # keys of a slot whose memory is asked for
WATCH = 10.0  # seconds for which the CPU of slots is measured
PIECE = 1024  # slots that one CLUSTER SLOT-STATS tells of


def slot_loads(by: Measure, view: ClusterView, links: Links, *, watch: float = WATCH) -> Loads:
    """By slot: keys; bytes of memory; or, for watch seconds, microseconds of CPU a second.

    Bytes are the server's own count where CLUSTER SLOT-STATS has it (memory-bytes), else the keys times the mean
    MEMORY USAGE of SAMPLED of them. Raises Refused where a node does not tell the CPU, SlotwrightError.
    """
    if by == "keys":
        return _asked(view, links, _keys)
    if by == "bytes":
        told = _stats(view, links, "memory-bytes")
        return told if told is not None else _asked(view, links, _bytes)
    begun, before = time.monotonic(), _stats(view, links, "cpu-usec")
    if before is None:
        raise Refused([_untold()])
    time.sleep(watch)
    after = _stats(view, links, "cpu-usec") or {}
    seconds = time.monotonic() - begun
    return {slot: max(0.0, after.get(slot, 0.0) - told) / seconds for slot, told in before.items()}


def _untold() -> Finding:
    what = "does not tell what CPU each slot takes (CLUSTER SLOT-STATS with cpu-usec)"
    remedy = "Redis 8.2 and Valkey 8.0 can, with cluster-slot-stats-enabled yes in redis_cluster_config; "
    return Finding("no-slot-stats", "cluster", what, remedy + "or balance by keys or bytes")


def _owned(view: ClusterView) -> dict[str, Slots]:
    return {n.name: n.myself.slots for n in view.nodes if n.peers and n.myself.slots}


def _asked(view: ClusterView, links: Links, ask: Callable[[Wire, list[int]], Mapping[int, float]]) -> Loads:
    """What each owner answers of its slots."""
    return {slot: load for loads in each_node(_owned(view), links, ask).values() for slot, load in loads.items()}


def _keys(wire: Wire, slots: list[int]) -> Mapping[int, float]:
    return {slot: float(keys) for slot, keys in count(wire, slots).items()}


def _bytes(wire: Wire, slots: list[int]) -> Mapping[int, float]:
    counts = count(wire, slots)
    found = dict.fromkeys(slots, 0.0)
    keyed = [slot for slot in slots if counts[slot]]
    pacer = Pacer(NO_LIMITS)
    for first in range(0, len(keyed), PIECE):
        for slot, listing in survey(wire, keyed[first : first + PIECE], pacer, SAMPLED).items():
            sizes = [size for size in listing.sizes if size > 0]
            found[slot] = counts[slot] * sum(sizes) / (len(sizes) or 1)
    return found


def _stats(view: ClusterView, links: Links, what: str) -> dict[int, float] | None:
    """One figure of CLUSTER SLOT-STATS, by slot. None where a node does not tell it."""
    pieces = {
        name: [
            (first, min(last, first + PIECE - 1))
            for begin, last in slots.ranges()
            for first in range(begin, last + 1, PIECE)
        ]
        for name, slots in _owned(view).items()
    }
    asked = {name: [("CLUSTER", "SLOT-STATS", "SLOTSRANGE", *p) for p in some] for name, some in pieces.items()}
    found: dict[int, float] = {}
    for answer in links.ask(asked).values():
        if isinstance(answer, LinkDown):
            raise answer
        for reply in answer:
            if isinstance(reply, ResponseError):
                return None
            for slot, figures in reply:
                told = _figures(figures)
                if what not in told:
                    return None
                found[int(slot)] = told[what]
    return found


def _figures(reply: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}
