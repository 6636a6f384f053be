"""Which directives an instance runs with otherwise than its redis.conf says, and what can be done about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from slotwright.errors import Finding, Severity


@dataclass(frozen=True)
class Wanted:
    """What an instance (name) is to run with, as its server's CONFIG GET shows it. fixed: what CONFIG SET refuses."""

    name: str
    settings: Mapping[str, str]
    fixed: frozenset[str]


@dataclass(frozen=True)
class Change:
    """One directive of one instance that is to be set live."""

    name: str
    directive: str
    before: str
    after: str

    def describe(self) -> str:
        return f"{self.name}: set {self.directive} to {self.after or 'nothing'} (it is {self.before or 'nothing'})"


def changes(wanted: Wanted, running: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs and can be set live. What the instance does not know, its server has no such directive for."""
    return tuple(
        Change(wanted.name, directive, running[directive], value)
        for directive, value in sorted(wanted.settings.items())
        if directive not in wanted.fixed and directive in running and running[directive] != value
    )


def refusals(many: Iterable[Change], running: Mapping[str, str], used_memory: int) -> Iterator[Finding]:
    """What must not be set on one instance. used_memory: bytes."""
    after = {**running, **{change.directive: change.after for change in many}}
    for change in many:
        limit = int(change.after) if change.directive == "maxmemory" and change.after.isdecimal() else 0
        if 0 < limit < used_memory:
            keeps = after.get("maxmemory-policy") == "noeviction"
            then = "refuse writes from then on" if keeps else "throw keys away until it fits"
            what = f"maxmemory would be {limit} bytes, and it uses {used_memory}: it would {then}"
            remedy = "state more, or move slots away first (playbooks/reshard.yml)"
            severity = Severity.ERROR if keeps else Severity.WARNING
            yield Finding("maxmemory-too-low", f"node {change.name}", what, remedy, severity)
