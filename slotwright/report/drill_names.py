"""Names of instances short enough for a picture, and still told apart: what all share is left out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slotwright.report.drill_read import PHASES, Drill

ROOM = 15
_ADDRESS = re.compile(r"[0-9.]+|.*:.*")  # the parts of an IP address say nothing one by one


def short_names(drill: Drill) -> dict[str, str]:
    """Every instance and shard of the drill, by its whole name."""
    nodes = (node for phase in PHASES for node in drill.topology[phase])
    shards = (*(s.name for s in drill.shards), *(drill.series.shards if drill.series else ()))
    return shorten({*shards, *(text for node in nodes for text in (node.name, node.shard))})


def shorten(names: Iterable[str]) -> dict[str, str]:
    """redis-eu-b-01.example.com:6379 → …b-01:6379. Only where a name is longer than ROOM, and never an IP address."""
    whole = sorted(filter(None, names))
    hosts = {name: name.rpartition(":")[0] or name for name in whole}
    if max(map(len, whole), default=0) <= ROOM or any(_ADDRESS.fullmatch(h) for h in hosts.values()):
        return {name: name for name in whole}
    different = sorted(set(hosts.values()))
    tail = _domain(different)
    head = _head([h.removesuffix(tail) for h in different])
    return {name: _short(name, hosts[name], head, tail) for name in whole}


def _short(name: str, host: str, head: str, tail: str) -> str:
    kept = host.removeprefix(head).removesuffix(tail)
    return f"{'…' if head else ''}{kept}{name[len(host) :]}"


def _domain(hosts: list[str]) -> str:
    """.example.com, where all end so and something is left of each."""
    shared = _shared([h[::-1] for h in hosts])[::-1]
    at = shared.find(".")
    return shared[at:] if at >= 0 and all(len(h) > len(shared[at:]) for h in hosts) else ""


def _head(hosts: list[str]) -> str:
    """redis-eu-, up to the last hyphen or dot that all share."""
    shared = _shared(hosts)
    return shared[: max(shared.rfind("-"), shared.rfind(".")) + 1]


def _shared(texts: list[str]) -> str:
    """What all begin with; nothing where there is only one."""
    if len(texts) < 2:
        return ""
    first, last = min(texts), max(texts)  # whatever these two share, those between them share too
    return first[: next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))]
