"""Make the cluster what the inventory says: observe, plan, apply, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from slotwright.core.blank import with_blanks
from slotwright.core.cost import cost
from slotwright.core.diff import before_after, layout, layout_lines, survival_lines
from slotwright.core.guard import conflict_findings
from slotwright.core.invariants import violations
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate, unsettled
from slotwright.core.survival import survival
from slotwright.core.topology import Topology
from slotwright.core.versions import version_findings
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Outdated, Refused, Severity
from slotwright.link.apply import Report, apply
from slotwright.link.commands import forbidden
from slotwright.link.connect import Links
from slotwright.link.holdings import with_foreign
from slotwright.link.migrate import Control
from slotwright.link.migrate.atomic import running
from slotwright.link.observe import POLL_MOST, observe, wait_until
from slotwright.manager.progress import PROGRESS, Told
from slotwright.manager.request import Request, read_request

ASKED: dict[str, dict[str, Any]] = {
    "phase": {"type": "str", "choices": ["converge", "preflight"], "default": "converge"},
    **PROGRESS,
}
# How often a run plans, where the cluster changes under it.
PLANS = 4
HEARSAY = 3.0  # seconds until what nodes contradict each other in is no longer mere gossip under way


@dataclass(frozen=True)
class Outcome:
    """A plan with the view it starts from and the one it ends with: foretold, or reached."""

    plan: Plan
    before: ClusterView
    after: ClusterView
    findings: tuple[Finding, ...]
    log: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.plan.steps)


def foresee(request: Request, links: Links) -> Outcome:
    """The plan that a run would execute, and nothing is changed. Raises Refused with every reason not to run.

    Instances on whose address nothing listens yet count as blank nodes, which the roles are about to start.
    """
    view = at_one(lambda: observe(request.topology, links))
    seen, coming = with_blanks(request.topology, with_foreign(view, links), frozenset({"refused"}))
    made, findings = _plan(request, seen)
    started = tuple(
        Finding("to-be-started", f"node {s.instance} ({s.endpoint})", "does not listen yet",
                "nothing to do: site.yml starts it; if it has data, it returns with them", Severity.INFO)
        for s in coming
    )  # fmt: skip
    if refusals := forbidden(made.steps, seen, links):
        raise Refused(refusals)
    after = simulate(seen, made.steps)
    return Outcome(made, seen, after, (*findings, *started, *violations(request.topology, after)))


def converge(
    request: Request, links: Links, report: Report, parallel: int = 0, control: Control | None = None
) -> Outcome:
    """Do what the plan says, and verify it; plan anew where a failover comes between. The outcome has the first plan.

    Raises Refused before anything is changed, else SlotwrightError.
    """
    _plan(request, with_foreign(at_one(lambda: _loaded(request, links)), links))
    outcome = carry_out(partial(_plan, request), request, links, report, parallel, control)
    broken = violations(request.topology, outcome.after)
    if unserved := [f for f in broken if f.code == "I1" and f.severity is Severity.ERROR]:
        raise Unserved(unserved)
    return replace(outcome, findings=(*outcome.findings, *broken))


Make = Callable[[ClusterView], tuple[Plan, tuple[Finding, ...]]]
"""A plan for what is there, and what is worth knowing of it. Raises Refused."""


def carry_out(
    make: Make, request: Request, links: Links, report: Report, parallel: int = 0, control: Control | None = None
) -> Outcome:
    """Do the plan that is made of what there is, and verify it; where a failover comes between, make another one.

    The outcome has the first plan, and the findings of the last.
    """
    log: list[str] = []

    def tell(line: str) -> None:
        log.append(line)
        report(line)

    before = settled_view(request, links)
    first, findings = make(before)
    after, made = before, first
    for tries in count(1):
        try:
            if made.steps:
                after = apply(
                    request.topology, after, made, links,
                    timeout=request.timeout, report=tell, parallel=parallel, control=control or Control(request.limits),
                )  # fmt: skip
            break
        except Outdated as change:
            if tries == PLANS:
                raise
            tell(f"{change} Planned anew.")
            after = settled_view(request, links)
            made, findings = make(after)
    return Outcome(first, before, after, findings, tuple(log))


class Unserved(Refused):
    """Nothing is left that could be done, and still not every slot is served."""


def at_one(look: Callable[[], ClusterView]) -> ClusterView:
    """A look once no two nodes claim a slot, or that has lasted too long to pass by itself.

    Where a run died after the target of a move was made the owner, the source hears of it from the target itself.
    """
    until = time.monotonic() + HEARSAY
    while conflict_findings(view := look()) and time.monotonic() < until:
        time.sleep(POLL_MOST)
    return view


def _loaded(request: Request, links: Links) -> ClusterView:
    """A look once no node is busy with loading its data."""
    return wait_until(
        lambda view: [f"{s.instance} {s.detail}" for s in view.silent if s.kind == "loading"],
        lambda: observe(request.topology, links),
        seconds=request.timeout,
        purpose="the nodes to load their data",
        remedy="wait, or raise redis_cluster_timeout",
    )


def settled_view(request: Request, links: Links) -> ClusterView:
    """What there is once it has come to rest."""
    view = wait_until(
        lambda view: unsettled(view) or running(view, links),
        lambda: observe(request.topology, links),
        seconds=request.timeout,
        purpose="the nodes to agree with each other and their replicas to be in sync",
    )
    return with_foreign(view, links)


def _plan(request: Request, view: ClusterView) -> tuple[Plan, tuple[Finding, ...]]:
    made = plan(request.topology, view)
    versions = version_findings((n for n in view.nodes if n.version), strict=request.strict_versions)
    old = tuple(f for f in versions if f.severity is Severity.ERROR)
    if made.refusals or old:
        raise Refused((*made.refusals, *old))
    return made, (*made.findings, *versions)


def result(request: Request, outcome: Outcome) -> dict[str, Any]:
    """The outcome as the module returns it."""
    topology = request.topology
    zones = survival(topology, outcome.after)
    price = cost(outcome.before, outcome.plan.steps)
    before, after = before_after(topology, outcome.before, outcome.after)
    gone = departed(topology, outcome.after)
    findings = sorted(dict.fromkeys((*outcome.findings, *map(_has_left, gone))), key=lambda f: f.severity.rank)
    return {
        "changed": outcome.changed,
        "plan": [{"step": type(s).__name__, "node": s.node, "text": s.describe()} for s in outcome.plan.steps],
        "plan_text": list(outcome.plan.describe()) or [_nothing(findings)],
        "cost": price.as_dict(),
        "cost_text": price.lines(),
        "departed": gone,
        "layout": layout(topology, outcome.after),
        "layout_text": layout_lines(topology, outcome.after),
        "survival": [row.as_dict() for row in zones],
        "survival_text": survival_lines(zones),
        "findings": [f.as_dict() for f in findings],
        "findings_text": [f"{f.severity.value}: {f}" for f in findings],
        "spares": list(outcome.plan.spares),
        "log": list(outcome.log),
        "diff": {
            "before_header": f"cluster {topology.name}, as it is",
            "after_header": f"cluster {topology.name}, as the inventory says",
            "before": before,
            "after": after,
        },
    }


def departed(topology: Topology, view: ClusterView) -> list[str]:
    """Names of those stated as removed that no node knows any more and that hold nothing: they may be stopped."""
    known = {node_id for node in view.nodes for node_id in node.known_ids if node_id != node.id}
    members = {m.name for m in view.members.values() if m.id in known}
    holding = {n.name for n in view.nodes if n.keys or (n.peers and n.myself.slots)}
    # A member at an address that nobody stated may be any of those that do not answer at theirs.
    if {m.id for m in view.unlisted} - {m.id for m in view.former}:
        holding |= {s.instance for s in view.silent}
    return [i.name for i in topology.leaving if i.name not in members | holding]


def _has_left(name: str) -> Finding:
    return Finding(
        "has-left",
        f"node {name}",
        "is stated as removed, and is no member any more",
        "nothing to do; take it out of the inventory once its host was reached, which stops it",
        Severity.INFO,
    )


def _nothing(findings: list[Finding]) -> str:
    if any(f.severity is Severity.ERROR for f in findings):
        return "nothing that this version could do; the findings need your hand"
    return "nothing to do: the cluster is as the inventory says"


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster."""
    request = read_request(params)
    with Links(request.topology.everyone, request.access) as links:
        if check_mode or params["phase"] == "preflight":
            outcome = foresee(request, links)
            changed = outcome.changed and params["phase"] != "preflight"
        else:
            with Told(params["progress"]) as told:
                outcome = converge(request, links, told.line, control=told.control(request.limits))
            changed = outcome.changed
    return result(request, outcome) | {"changed": changed}
