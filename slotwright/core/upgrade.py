"""From which version to which a cluster may be rolled, and what can be undone: a table with its sources. Pure.

Measured means: three masters and three replicas with keys of five types, the replicas on the new version restarted
twice and again after three seconds, taken back to the old one, forward, promoted, and all the rest upgraded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slotwright.core.versions import RDB_FORMATS, numbers, series
from slotwright.errors import Finding, Severity

Version = tuple[str, str]
"""Flavor and version: ("redis", "7.0.15")."""
Series = tuple[str, tuple[int, int]]

_MEASURED = "measured with {} and {}"
TESTED: dict[tuple[Series, Series], str] = {
    (("redis", (6, 2)), ("redis", (7, 0))): _MEASURED.format("6.2.14", "7.0.15"),
    (("redis", (6, 2)), ("redis", (8, 0))): _MEASURED.format("6.2.14", "8.0.2"),
    (("redis", (7, 0)), ("redis", (8, 0))): _MEASURED.format("7.0.15", "8.0.2"),
    (("redis", (6, 2)), ("redis", (8, 6))): _MEASURED.format("6.2.14", "8.6.3"),
    (("redis", (7, 0)), ("redis", (8, 6))): _MEASURED.format("7.0.15", "8.6.3"),
    (("redis", (7, 0)), ("valkey", (9, 1))): _MEASURED.format("7.0.15", "Valkey 9.1.2"),
    (("redis", (8, 0)), ("redis", (8, 6))): _MEASURED.format("8.0.2", "8.6.3"),
    (("valkey", (8, 0)), ("valkey", (8, 1))): _MEASURED.format("8.0.1", "8.1.1"),
    (("valkey", (8, 0)), ("valkey", (9, 1))): _MEASURED.format("8.0.1", "9.1.2"),
    (("valkey", (8, 1)), ("valkey", (9, 1))): _MEASURED.format("8.1.1", "9.1.2"),
}
"""Jumps between series that were tried, with what."""

_SHARD_IDS = (
    "beside nodes older than 7.2 it may write a nodes.conf that it refuses to read at its next start: shard ids that "
    "differ ({})"
)
_NO_FORMAT = "neither reads the other's snapshots ({})"


@dataclass(frozen=True)
class Jump:
    """verdict: same (nothing to do), patch (within a series), tested, untested, back (an older one), or fails."""

    verdict: str
    why: str


def jump(old: Version, new: Version) -> Jump:
    """What is known of going from old to new."""
    (flavor, version), (new_flavor, new_version) = old, new
    if old == new:
        return Jump("same", "")
    before, after = (flavor, series(version)), (new_flavor, series(new_version))
    if flavor == new_flavor and numbers(new_version) < numbers(version):
        return Jump("back", f"{new_version} is older than {version}")
    if before == after:
        return Jump("patch", "within one series")
    if flavor == "valkey" and new_flavor == "redis":
        return Jump("fails", _NO_FORMAT.format("valkey#645"))
    if flavor == "redis" and new_flavor == "valkey" and series(version) >= (7, 4):
        return Jump("fails", _NO_FORMAT.format("valkey#845"))
    if numbers(version) < (7, 2):
        if new_flavor == "redis" and (
            (7, 2) <= numbers(new_version) < (7, 2, 7) or (7, 4) <= numbers(new_version) < (7, 4, 2)
        ):
            return Jump("fails", _SHARD_IDS.format("redis#12685, #12761, #13456, mended in 7.2.7 and 7.4.2"))
        if new_flavor == "valkey" and series(new_version) <= (8, 0):
            return Jump("fails", _SHARD_IDS.format("valkey#774; measured with 7.0.15 and Valkey 8.0.1"))
    if why := TESTED.get((before, after)):
        return Jump("tested", why)
    return Jump("untested", "nobody has tried it here")


def one_way(old: Version, new: Version) -> bool:
    """Whether a master of the new version is a point of no return: what it takes, the old version may not read."""
    return (old[0], series(old[1])) != (new[0], series(new[1]))


def snapshots(old: Version, new: Version) -> str:
    """Whether a replica of the old version can copy a master of the new one, in words."""
    formats = [RDB_FORMATS.get((flavor, series(version))) for flavor, version in (old, new)]
    names = [f"{flavor.capitalize()} {version}" for flavor, version in (old, new)]
    before, after = ((flavor, series(version)) for flavor, version in (old, new))
    if old[0] == new[0] == "valkey" and (before, after) in TESTED:
        # Whatever it writes to its own disk, it sends an older replica what that can read.
        return f"{names[0]} could copy {names[1]} when that was tried"
    if None in formats:
        return f"whether {names[0]} reads the snapshots of {names[1]} is not known here"
    if formats[0] == formats[1] and old[0] == new[0]:
        return f"{names[0]} and {names[1]} write snapshots of one format ({formats[0]})"
    return f"{names[0]} cannot read the snapshots of {names[1]} (format {formats[1]}, it knows {formats[0]})"


def path_findings(jumps: Iterable[tuple[str, Version, Version]], *, untested: bool) -> Iterator[Finding]:
    """What speaks against these upgrades. jumps: instance, from, to. untested: jumps nobody has tried are allowed."""
    nodes: dict[tuple[Version, Version], list[str]] = {}
    for name, old, new in jumps:
        nodes.setdefault((old, new), []).append(name)
    for (old, new), names in nodes.items():
        found = jump(old, new)
        words = f"{old[0].capitalize()} {old[1]} to {new[0].capitalize()} {new[1]}"
        where = f"nodes {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if found.verdict == "fails":
            remedy = "take a version between them first, or another one (docs/upgrade.md has the table)"
            yield Finding("version-path", where, f"{words} is known to fail: {found.why}", remedy)
        elif found.verdict == "back":
            remedy = "if you want back to it, run playbooks/rollback.yml with this redis_install_version"
            yield Finding("version-path", where, f"{words} is no upgrade: {found.why}", remedy)
        elif found.verdict == "untested":
            severity = Severity.WARNING if untested else Severity.ERROR
            remedy = "watch the canary"
            if not untested:
                remedy = "try it on a copy of the cluster, then say -e redis_upgrade_untested=true"
            yield Finding("version-path", where, f"{words}: {found.why}", remedy, severity)
