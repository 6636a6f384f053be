"""What stands in the way of a cluster on these hosts: from what the inventory wants and the hosts saw, to findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from slotwright.core.host_rules import fleet_notes, host_notes
from slotwright.core.looked import Note, WantedHost, fold
from slotwright.core.pair_rules import Seen, pair_notes
from slotwright.errors import Finding, Severity


@dataclass(frozen=True)
class Verdict:
    """Both sorted by severity. accepted: what redis_preflight_accept names; it stops nothing.

    mendable: hosts of which role redis_host can mend something, and is allowed to.
    """

    findings: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    mendable: tuple[str, ...]

    @property
    def refuses(self) -> bool:
        return any(f.severity is Severity.ERROR for f in self.findings)


def judge(seen: Seen) -> Verdict:
    notes = list(
        chain(
            *(host_notes(w, seen.looks[w.name]) for w in seen.wanted if w.name in seen.looks),
            fleet_notes(seen.wanted, seen.looks),
            pair_notes(seen),
        )
    )
    accepts = {w.name: w.accept for w in seen.wanted}
    accepted = [n for n in notes if all(n.code in accepts[host] for host in n.hosts)]
    counted = [n for n in notes if n not in accepted]
    mendable = {host for note in notes for host in note.mends}
    return Verdict(
        _folded(counted, seen.wanted),
        _folded(accepted, seen.wanted),
        tuple(w.name for w in seen.wanted if w.name in mendable),
    )


def _folded(notes: Sequence[Note], wanted: Sequence[WantedHost]) -> tuple[Finding, ...]:
    return fold(notes, [w.name for w in wanted])
