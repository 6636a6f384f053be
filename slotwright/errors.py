"""The one base error, and the shape of everything we say about something wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much a finding matters. ERROR stops a run before anything is changed."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    code:   stable kebab-case name ("duplicate-address") or an invariant ("I3"); tests and tools key on it.
    where:  the host, node, pair or field it was found at: "host redis-a1, redis_node_zone", "node redis-a1:7001".
    what:   what is wrong, without the place and without a final full stop.
    remedy: what to do next, without a final full stop.
    """

    code: str
    where: str
    what: str
    remedy: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" {self.remedy[:1].upper()}{self.remedy[1:]}." if self.remedy else ""
        return f"{place}{self.what}.{remedy}"

    def as_dict(self) -> dict[str, str]:
        return {
            "code": self.code,
            "where": self.where,
            "what": self.what,
            "remedy": self.remedy,
            "severity": self.severity.value,
        }


class SlotwrightError(Exception):
    """Base of every error that Slotwright raises on purpose."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", code: str = "error") -> None:
        self.findings: tuple[Finding, ...] = (Finding(code, where, what, remedy),)
        super().__init__(str(self.findings[0]))


class Outdated(SlotwrightError):
    """The cluster changed by itself, so that the plan is right no more. Nothing is half done: another plan goes on."""


class Refused(SlotwrightError):
    """Bad input or an unsafe state: nothing was changed. Carries every reason, not only the first."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        Exception.__init__(self, "\n".join(str(f) for f in self.findings))
