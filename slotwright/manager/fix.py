"""Repair what check finds: first what the ordinary plan does not see or refuses, then that plan."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from slotwright.core.guard import identity_findings
from slotwright.core.plan import plan
from slotwright.core.repairs import ALLOW, Bump, Look, Repairs, mended, repairs
from slotwright.core.steps import Step
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Refused, SlotwrightError
from slotwright.link.apply import Report
from slotwright.link.commands import refused_commands
from slotwright.link.connect import Links
from slotwright.link.holdings import held
from slotwright.link.lock import Lock
from slotwright.link.mend import Mender, needed
from slotwright.link.observe import observe
from slotwright.manager.check import with_command
from slotwright.manager.converge import converge
from slotwright.manager.request import Request, read_request

# Seconds between two looks, of which two must find the same before it counts: gossip mends the rest.
BETWEEN = 0.4
# A repair may bring another one to light: keys that were nobody's, once their slot has an owner.
ROUNDS = 4
ASKED: dict[str, dict[str, Any]] = {
    "allow": {"type": "list", "elements": "str", "default": []},
    "inventory": {"type": "str", "default": ""},
}


@dataclass(frozen=True)
class Fix:
    """Repairs and the ordinary steps after them, as foreseen or as done; and what stays broken, with the reasons."""

    repairs: tuple[str, ...]
    steps: tuple[Step, ...]
    refusals: tuple[Finding, ...]
    log: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        return (*self.repairs, *(step.describe() for step in self.steps))


def look(topology: Topology, links: Links) -> Look:
    view = observe(topology, links)
    return Look(view, held(view, links))


def settled(request: Request, links: Links, allow: Collection[str]) -> tuple[Look, Repairs]:
    """What two looks in a row agree on; the last one, where the cluster does not come to rest in time."""
    deadline = time.monotonic() + request.timeout
    before: Repairs | None = None
    while True:
        seen = look(request.topology, links)
        found = repairs(request.topology, seen, allow)
        # What is refused may be a failover under way, and who sees slots elsewhere may hear of it yet.
        passing = found.refusals or any(isinstance(step, Bump) for step in found.steps)
        if (found == before and not passing) or time.monotonic() > deadline:
            return seen, found
        if found == before and time.monotonic() > deadline - request.timeout + _patience(seen):
            return seen, found
        before = found
        time.sleep(BETWEEN)


def _patience(seen: Look) -> float:
    """Seconds within which an election comes, where one can: twice the node timeout, and its delays."""
    timeouts = [int(n.setting("cluster-node-timeout") or 15000) for n in seen.view.nodes]
    return 2 * max(timeouts, default=15000) / 1000 + 1.5


def foresee(request: Request, links: Links, allow: Collection[str] = ()) -> Fix:
    """What a run would do; nothing is changed. Raises Refused where a run would change nothing either."""
    seen, found = settled(request, links, allow)
    _prove(request.topology, seen.view, found, links)
    if found.refusals:
        return Fix(found.describe(), (), found.refusals)
    made = plan(request.topology, mended(seen, found.steps))
    return Fix(found.describe(), made.steps, made.refusals)


def fix(request: Request, links: Links, report: Report, allow: Collection[str] = ()) -> Fix:
    """Do the repairs, then the ordinary plan. Raises Refused, or SlotwrightError, with what was done as notes."""
    log: list[str] = []

    def tell(line: str) -> None:
        log.append(line)
        report(line)

    done: list[str] = []
    try:
        if refusals := _mend(request, links, allow, done, tell):
            raise Refused(refusals)
        outcome = converge(request, links, tell)
    except SlotwrightError as error:
        for line in log:
            error.add_note(f"done before: {line}")
        raise
    return Fix(tuple(done), outcome.plan.steps, (), tuple(log))


def _mend(request: Request, links: Links, allow: Collection[str], done: list[str], tell: Report) -> tuple[Finding, ...]:
    """Returns what is refused."""
    seen, found = settled(request, links, allow)
    _prove(request.topology, seen.view, found, links)
    for _ in range(ROUNDS):
        if not found.steps:
            break
        with Lock(links, links.up) as lock:
            seen = look(request.topology, links)
            if (now := repairs(request.topology, seen, allow)) != found:
                seen, found = settled(request, links, allow)
            else:
                found = now
            mender = Mender(seen.view, links, request.timeout)
            for step in found.steps:
                lock.prove()
                begun = time.monotonic()
                mender.do(step)
                done.append(step.describe())
                tell(f"{step.describe()}: done in {time.monotonic() - begun:.2f} s")
            _wait_for(found, request, links, allow)
        seen, found = settled(request, links, allow)
    if found.steps:
        raise SlotwrightError(
            f"after {ROUNDS} rounds there is still to do: {'; '.join(found.describe()[:3])}",
            remedy="see whether something else changes the cluster, then run again",
            code="not-mended",
        )
    return found.refusals


def _wait_for(found: Repairs, request: Request, links: Links, allow: Collection[str]) -> None:
    """Until none of these repairs is needed any more."""
    deadline = time.monotonic() + request.timeout
    while True:
        left = [s for s in repairs(request.topology, look(request.topology, links), allow).steps if s in found.steps]
        if not left:
            return
        if time.monotonic() > deadline:
            raise SlotwrightError(
                f"waited {request.timeout:g} s for the effect of: {left[0].describe()}",
                remedy="see that the hosts reach each other's bus port (port + 10000), both ways, then run again",
                code="timeout",
            )
        time.sleep(0.1)


def _prove(topology: Topology, view: ClusterView, found: Repairs, links: Links) -> None:
    """Raises Refused where the nodes are not who they should be, or their ACL would refuse a command.

    A member that does not answer stops nothing.
    """
    if wrong := identity_findings(view, [i.name for i in topology.leaving]):
        raise Refused((*wrong, *found.refusals))
    if denied := refused_commands((needed(step, view) for step in found.steps), view, links):
        raise Refused((*denied, *found.refusals))


def result(request: Request, done: Fix) -> dict[str, Any]:
    return {
        "changed": bool(done.lines),
        "plan_text": list(done.lines) or ["nothing to do: there is nothing that this could mend"],
        "repairs": list(done.repairs),
        "log": list(done.log),
        "diff": {
            "before_header": f"cluster {request.topology.name}, as it is",
            "after_header": f"cluster {request.topology.name}, mended",
            "before": "",
            "after": "".join(f"{line}\n" for line in done.lines),
        },
    }


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_fix."""
    request = read_request(params)
    allow = list(params["allow"] or ())
    if unknown := [word for word in allow if word not in ALLOW]:
        raise SlotwrightError(
            f"«{unknown[0]}» allows nothing",
            where="redis_fix_allow",
            remedy="the words are: " + "; ".join(f"{word} ({what})" for word, what in ALLOW.items()),
            code="unknown-word",
        )
    try:
        done = _done(request, allow, check_mode)
    except SlotwrightError as error:
        raise _with_commands(error, params["inventory"]) from error
    return result(request, done)


def _done(request: Request, allow: Collection[str], check_mode: bool) -> Fix:
    with Links(request.topology.everyone, request.access) as links:
        done = foresee(request, links, allow) if check_mode else fix(request, links, lambda line: None, allow)
    if done.refusals:
        refused = Refused(done.refusals)
        for line in done.lines:
            refused.add_note(f"would be done before: {line}")
        raise refused
    return done


def _with_commands(error: SlotwrightError, inventory: str) -> Refused:
    """The same, with playbooks as the command lines that run them."""
    refused = Refused(with_command(f, inventory) for f in error.findings)
    for note in getattr(error, "__notes__", []):
        refused.add_note(note)
    return refused
