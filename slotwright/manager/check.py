"""Look at the health of a cluster, several times, and tell all that is wrong. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.diff import layout
from slotwright.core.health import Vitals, client_errors, diagnosis, invariant, mending, score, unsettled
from slotwright.core.parse import parse_info
from slotwright.core.plan import plan
from slotwright.core.repairs import Look, mended, repairs
from slotwright.core.survival import host_survival, survival
from slotwright.errors import Finding, Severity
from slotwright.link.connect import LinkDown, Links
from slotwright.link.holdings import foreign_of, held
from slotwright.link.observe import observe
from slotwright.manager.request import Request, read_request
from slotwright.manager.smoke import Smoke, smoke
from slotwright.report.findings import findings_lines

PAUSE = 0.5  # seconds between two looks
ASKED: dict[str, dict[str, Any]] = {
    "polls": {"type": "int", "default": 2},
    "smoke": {"type": "bool", "default": False},
    "config": {"type": "dict", "default": {}},
    "inventory": {"type": "str", "default": ""},
}


@dataclass(frozen=True)
class Checked:
    look: Look
    findings: tuple[Finding, ...]
    smoke: Smoke | None = None

    @property
    def healthy(self) -> bool:
        return not any(f.severity is Severity.ERROR for f in self.findings)


def look(request: Request, links: Links) -> Look:
    view = observe(request.topology, links, thorough=True)
    found = held(view, links)
    return Look(foreign_of(view, found), found)


def vitals(request: Request, links: Links) -> dict[str, Vitals]:
    answers = links.ask({i.name: [("INFO",), ("CONFIG", "GET", "*")] for i in request.topology.instances})
    found = {}
    for name, answer in answers.items():
        if not isinstance(answer, LinkDown) and isinstance(answer[0], str):
            flat = answer[1] if not isinstance(answer[1], ResponseError) else []
            found[name] = Vitals(parse_info(answer[0]), dict(zip(flat[::2], flat[1::2], strict=True)))
    return found


def check(
    request: Request,
    links: Links,
    *,
    wanted: Mapping[str, str] | None = None,
    polls: int = 2,
    smoking: bool = False,
) -> Checked:
    """polls: how many looks; what only some of them show is told as unsettled (I10), and the last one counts."""

    def findings(seen: Look) -> tuple[Finding, ...]:
        found = vitals(request, links)
        return diagnosis(request.topology, seen, found, wanted, strict_versions=request.strict_versions)

    seen = look(request, links)
    told = findings(seen)
    passing: tuple[Finding, ...] = ()
    for _ in range(polls - 1):
        time.sleep(PAUSE)
        before, seen = told, look(request, links)
        told = findings(seen)
        passing = (*passing, *unsettled(before, told))
    smoked = smoke(seen.view, links) if smoking else None
    every = (*told, *dict.fromkeys(passing), *(smoked.findings if smoked else ()))
    ordered = sorted((*every, *_foretold(request, seen)), key=lambda f: f.severity.rank)
    return Checked(seen, tuple(ordered), smoked)


def _foretold(request: Request, seen: Look) -> tuple[Finding, ...]:
    """What fix would do; why it would not, where the plan refuses, unless that is said already."""
    found = repairs(request.topology, seen)
    made = plan(request.topology, mended(seen, found.steps))
    refused = [replace(f, severity=Severity.INFO, code="would-be-refused") for f in (*found.refusals, *made.refusals)]
    return (*mending(found, made.describe()), *refused)


def result(request: Request, checked: Checked, inventory: str = "") -> dict[str, Any]:
    """inventory: what -i is to be in the command lines that remedies name."""
    topology, view = request.topology, checked.look.view
    told = [with_command(f, inventory) for f in checked.findings]
    zones = survival(topology, view)
    text = findings_lines(topology.name, told, zones)
    if checked.smoke:
        text += checked.smoke.lines()
    return {
        "changed": False,
        "healthy": checked.healthy,
        "counts": score(told),
        "findings": [f.as_dict() | {"invariant": invariant(f), "client_errors": list(client_errors(f))} for f in told],
        "layout": layout(topology, view),
        "survival": [row.as_dict() for row in zones],
        "host_survival": [row.as_dict() for row in host_survival(topology, view)],
        "smoke": checked.smoke.as_dict() if checked.smoke else {},
        "text": text,
    }


def with_command(finding: Finding, inventory: str) -> Finding:
    """Playbooks in a remedy as the command line that runs them."""
    where = f" -i {inventory}" if inventory else ""
    remedy = finding.remedy
    for name in ("playbooks/fix.yml", "playbooks/configure.yml", "playbooks/failover.yml", "site.yml"):
        remedy = remedy.replace(name, f"ansible-playbook{where} {name}")
    return replace(finding, remedy=remedy.replace("ansible-playbook ansible-playbook", "ansible-playbook"))


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_check. It changes nothing but keys of the smoke test, which check mode leaves out."""
    request = read_request(params)
    wanted = {str(k).lower(): _text(v) for k, v in (params["config"] or {}).items() if not isinstance(v, list | dict)}
    with Links(request.topology.everyone, request.access) as links:
        checked = check(
            request, links, wanted=wanted, polls=params["polls"], smoking=params["smoke"] and not check_mode
        )
    return result(request, checked, params["inventory"] or "")


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
