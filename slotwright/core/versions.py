"""What is known of server versions, kept as data: fixed releases and snapshot formats."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slotwright.core.view import NodeView
from slotwright.errors import Finding, Severity

# Lowest release of each series with the last security fixes known here, from upstream's release notes: Redis of August
# 2026, Valkey of 18 November 2026.
FLOORS = {
    ("redis", (6, 2)): (6, 2, 24),
    ("redis", (7, 2)): (7, 2, 16),
    ("redis", (7, 4)): (7, 4, 11),
    ("redis", (8, 2)): (8, 2, 9),
    ("redis", (8, 4)): (8, 4, 6),
    ("redis", (8, 6)): (8, 6, 6),
    ("redis", (8, 8)): (8, 8, 2),
    ("redis", (8, 10)): (8, 10, 1),
    ("valkey", (7, 2)): (7, 2, 16),
    ("valkey", (8, 0)): (8, 0, 13),
    ("valkey", (8, 1)): (8, 1, 12),
    ("valkey", (9, 0)): (9, 0, 8),
    ("valkey", (9, 1)): (9, 1, 4),
}
# Series that upstream no longer mends: only a distribution's backports do.
ENDED = frozenset({("redis", (7, 0)), ("redis", (8, 0))})
# RDB format written by each series; a server loads its own and lower ones (redis/src/rdb.h, valkey/src/rdb.h; of 8.6
# and 9.1 what SAVE writes).
RDB_FORMATS = {
    ("redis", (6, 2)): 9,
    ("redis", (7, 0)): 10,
    ("redis", (7, 2)): 11,
    ("redis", (7, 4)): 12,
    ("redis", (8, 0)): 12,
    ("redis", (8, 6)): 13,
    ("valkey", (7, 2)): 11,
    ("valkey", (8, 0)): 11,
    ("valkey", (8, 1)): 11,
    ("valkey", (9, 1)): 80,
}


def numbers(version: str) -> tuple[int, ...]:
    """ "7.0.15" → (7, 0, 15); text after the numbers is dropped."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def series(version: str) -> tuple[int, int]:
    major, minor, *_ = (*numbers(version), 0, 0)
    return major, minor


def rdb_format(node: NodeView) -> int | None:
    """RDB format the node writes, or None where the table does not have its series."""
    return RDB_FORMATS.get((node.flavor, series(node.version)))


def moves_slots_itself(node: NodeView) -> bool:
    """Whether it has CLUSTER MIGRATION (Redis 8.4) or CLUSTER MIGRATESLOTS (Valkey 9.0)."""
    return numbers(node.version) >= ((9, 0) if node.flavor == "valkey" else (8, 4))


def version_findings(nodes: Iterable[NodeView], *, strict: bool) -> tuple[Finding, ...]:
    """Versions below their floor or out of support (ERROR when strict, else WARNING), and a mix of versions."""
    by_version: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        by_version.setdefault((node.flavor, node.version), []).append(node.name)
    severity = Severity.ERROR if strict else Severity.WARNING
    found = []
    for (flavor, version), names in sorted(by_version.items()):
        if reason := below_floor(flavor, version):
            found.append(
                Finding(
                    "version-floor",
                    _nodes(names),
                    f"{flavor} {version} {reason[0]}",
                    f"{reason[1]}, or set redis_cluster_strict_versions to false to go on with a warning"
                    if strict
                    else reason[1],
                    severity,
                )
            )
    return tuple(found)


def mixed_versions(nodes: Iterable[NodeView]) -> tuple[Finding, ...]:
    """One WARNING where the nodes do not all run one version."""
    by_version: dict[str, list[str]] = {}
    for node in nodes:
        if node.version:
            by_version.setdefault(f"{node.flavor} {node.version}", []).append(node.name)
    if len(by_version) < 2:
        return ()
    counts = "; ".join(f"{v} on {_nodes(names)}" for v, names in sorted(by_version.items()))
    return (
        Finding("mixed-versions", "", f"the nodes run different versions: {counts}", "bring all to one version",
                Severity.WARNING),
    )  # fmt: skip


def below_floor(flavor: str, version: str) -> tuple[str, str] | None:
    if (flavor, series(version)) in ENDED:
        return "gets no more fixes upstream", "take a supported series, or a distribution that backports fixes"
    floor = FLOORS.get((flavor, series(version)))
    if floor is None or numbers(version) >= floor:
        return None
    lowest = ".".join(map(str, floor))
    return f"lacks security fixes that {lowest} has", f"upgrade to {lowest} or later"


def _nodes(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"nodes {shown} and {len(names) - 3} more" if len(names) > 3 else f"node{'s'[: len(names) > 1]} {shown}"
