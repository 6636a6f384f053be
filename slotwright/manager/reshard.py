"""Slots where the operator wants them: observe, plan, apply, verify, for slots alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slotwright.core.goal import Balanced, Drained, Goal, Loads, Moved, Placed, Repaired, Way, way
from slotwright.core.guard import foreign_findings
from slotwright.core.invariants import violations
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Refused, Severity
from slotwright.link.commands import forbidden
from slotwright.link.connect import Links
from slotwright.link.holdings import with_foreign
from slotwright.link.loads import slot_loads
from slotwright.link.observe import observe
from slotwright.manager import converge
from slotwright.manager.converge import Outcome, at_one, carry_out, settled_view
from slotwright.manager.progress import PROGRESS, Told
from slotwright.manager.request import Request, read_request
from slotwright.manager.requests import Requests, Wish, read_wishes

_MOVE = {
    "name": {"type": "str"},
    "from": {"type": "str", "required": True},
    "to": {"type": "str", "required": True},
    "slots": {"type": "str"},
    "count": {"type": "int"},
    "bytes": {"type": "str"},
}
ASKED: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["balanced", "placed", "moved", "drained", "repaired"], "default": "balanced"},
    "by": {"type": "str", "choices": ["slots", "keys", "bytes", "cpu"], "default": "slots"},
    "weights_by_name": {"type": "dict", "default": {}},
    "ranges": {"type": "dict", "default": {}},
    "moves": {"type": "list", "elements": "dict", "options": _MOVE, "default": []},
    "drain": {"type": "list", "elements": "str", "default": []},
    **PROGRESS,
}


@dataclass(frozen=True)
class Asked:
    """What is asked for: a goal; or wishes, whose goal depends on what there is and what is remembered."""

    goal: Goal
    wishes: tuple[Wish, ...] = ()


@dataclass
class Resharding:
    """One run. The loads are measured once: a plan that is made anew is made for the same ones."""

    request: Request
    asked: Asked
    links: Links
    requests: Requests | None = None
    loads: Loads | None = field(default=None, repr=False)
    first: Way | None = None

    def make(self, view: ClusterView) -> tuple[Plan, tuple[Finding, ...]]:
        topology = self.request.topology
        goal = self.asked.goal
        if isinstance(goal, Balanced) and goal.by != "slots" and self.loads is None:
            self.loads = slot_loads(goal.by, view, self.links)
        more: tuple[Finding, ...] = ()
        if isinstance(goal, Moved):
            way(Repaired(), topology, view)  # refuses what no request can be read from
            self.requests = self.requests or Requests(self.asked.wishes, view, self.links)
            goal, more = Moved(self.requests.hops()), tuple(self.requests.findings())
        found = way(goal, topology, view, self.loads)
        foreign = foreign_findings(topology, view, joining=False, acting=bool(found.steps))
        if errors := [finding for finding in foreign if finding.severity is Severity.ERROR]:
            raise Refused(errors)
        self.first = self.first or found
        return Plan(found.steps, findings=found.findings), (*found.findings, *more, *foreign)

    def foresee(self) -> Outcome:
        """What a run would do. Raises Refused with every reason not to run."""
        view = with_foreign(at_one(lambda: observe(self.request.topology, self.links)), self.links)
        made, findings = self.make(view)
        if refusals := forbidden(made.steps, view, self.links):
            raise Refused(refusals)
        after = simulate(view, made.steps)
        return self._outcome(Outcome(made, view, after, findings))

    def run(self, told: Told) -> Outcome:
        """Do it. Raises Refused before anything is changed, else SlotwrightError; a further run does the rest."""
        if self.asked.wishes:
            # What was chosen is written down before the first slot moves, and only once nothing forbids the move.
            made, _ = self.make(view := settled_view(self.request, self.links))
            if refusals := forbidden(made.steps, view, self.links):
                raise Refused(refusals)
            assert self.requests
            self.requests.write()
        control = told.control(self.request.limits)
        outcome = carry_out(self.make, self.request, self.links, told.line, control=control)
        if self.requests:
            self.requests.close()
        return self._outcome(outcome)

    def _outcome(self, outcome: Outcome) -> Outcome:
        topology = self.request.topology
        findings = (*outcome.findings, *violations(topology, outcome.after), *_undone(self.request, outcome.after))
        return replace(outcome, findings=tuple(dict.fromkeys(findings)))


def _undone(request: Request, after: ClusterView) -> tuple[Finding, ...]:
    """Says so where site.yml would move slots back."""
    steps = [step for step in plan(request.topology, after).steps if isinstance(step, MoveSlots)]
    if not steps:
        return ()
    what = f"would move {sum(len(step.slots) for step in steps)} slots again, to make masters even by weight"
    remedy = "state the weights (redis_node_weight), or a larger redis_cluster_threshold, in the inventory"
    return (Finding("not-lasting", "site.yml", what, remedy, Severity.WARNING),)


def read_asked(params: Mapping[str, Any], request: Request) -> Asked:
    """Raises Refused where what the state needs is not given, or what it does not take is."""
    state = params["state"]
    needs = {"placed": "ranges", "moved": "moves", "drained": "drain"}
    findings = [
        Finding("what-to-do", f"state {state}", f"needs {option}", "state it")
        for kind, option in needs.items()
        if kind == state and not params[option]
    ]
    findings += [
        Finding("what-to-do", f"state {state}", f"takes no {option}", f"leave it out, or say state: {kind}")
        for kind, option in needs.items()
        if kind != state and params[option]
    ]
    if state != "balanced" and (params["by"] != "slots" or params["weights_by_name"]):
        what = "takes neither by nor weights_by_name"
        findings.append(Finding("what-to-do", f"state {state}", what, "leave them out, or say state: balanced"))
    if findings:
        raise Refused(findings)
    if state == "placed":
        return Asked(Placed(_ranges(params["ranges"])))
    if state == "moved":
        return Asked(Moved(()), read_wishes(params["moves"]))
    if state == "drained":
        return Asked(Drained(tuple(params["drain"])))
    if state == "repaired":
        return Asked(Repaired())
    return Asked(Balanced(params["by"], _weights(params["weights_by_name"]), request.topology.slack))


def _ranges(stated: Mapping[str, Any]) -> dict[str, Slots]:
    found, findings = {}, []
    for name, text in stated.items():
        try:
            found[name] = Slots.parse(str(text))
        except ValueError as error:
            findings.append(Finding("slots", f"ranges of {name}", str(error), "write slots as 0-5460,5462"))
    if findings:
        raise Refused(findings)
    return found


def _weights(stated: Mapping[str, Any]) -> dict[str, float]:
    found, findings = {}, []
    for name, weight in stated.items():
        try:
            found[str(name)] = float(weight)
        except (TypeError, ValueError):
            findings.append(Finding("weight", f"weight of {name}", f"{weight!r} is no number", "give it 0 or more"))
    if findings:
        raise Refused(findings)
    return found


def result(request: Request, run: Resharding, outcome: Outcome, told: Told | None = None) -> dict[str, Any]:
    """The outcome as the module returns it."""
    found = converge.result(request, outcome)
    found["diff"]["after_header"] = f"cluster {request.topology.name}, with its slots where they are asked for"
    if not outcome.plan.steps:
        found["plan_text"] = ["nothing to do: the slots are where they are asked for"]
    last = told.last if told else None
    return found | {
        "slots_moved": run.first.moved if run.first else 0,
        "slots_least": run.first.least if run.first else 0,
        "summary": last.summary() if last else "",
        "progress": last.as_dict() if last else {},
    }


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_slots."""
    request = read_request(params)
    asked = read_asked(params, request)
    with Links(request.topology.everyone, request.access) as links:
        run = Resharding(request, asked, links)
        if check_mode:
            return result(request, run, run.foresee())
        with Told(params["progress"]) as told:
            return result(request, run, run.run(told), told)
