"""Empty hosts or zones of masters for maintenance, give them back, and let replicas take over: failovers only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from slotwright.core.guard import identity_findings
from slotwright.core.handover import empty, majority, may_be_stopped, named, promote, restore
from slotwright.core.invariants import violations
from slotwright.core.parse import parse_info
from slotwright.core.plan import Plan
from slotwright.core.simulate import lacking, simulate, unsettled
from slotwright.core.slots import ALL_SLOTS
from slotwright.core.steps import Failover, Mode, obstacle
from slotwright.core.topology import Instance
from slotwright.core.view import ClusterView, union
from slotwright.errors import Finding, Outdated, Refused, SlotwrightError
from slotwright.link.apply import Report
from slotwright.link.commands import forbidden
from slotwright.link.connect import LinkDown, Links
from slotwright.link.failover import fail_over
from slotwright.link.lock import Lock
from slotwright.link.observe import observe, wait_until
from slotwright.manager import converge
from slotwright.manager.converge import Outcome
from slotwright.manager.request import ARGUMENTS, Request, read_request

# Seconds for what goes over by itself: gossip, and replicas that are about to be in sync.
PATIENCE = 5.0
# What must be right in the end: every slot served, in one view, with an epoch for each master.
_SERVED = frozenset({"I1", "I2", "I4"})
# Before these, what a node is cannot be told at all.
_UNCLEAR = frozenset({"cluster-mode-off", "same-process", "cloned-node"})


@dataclass(frozen=True)
class Asked:
    """What is to be handed over. Just one of the first three is given.

    empty: hosts, zones or instances that shall hold no masters. promote: replicas that take their masters' places.
    restore: roles go back to where the layout wants them. mode: the harshest way that is allowed. confirm: the words
    that allow it. elsewhere: instances of other clusters, which may be named too.
    """

    empty: tuple[str, ...] = ()
    promote: tuple[str, ...] = ()
    restore: bool = False
    mode: Mode = "plain"
    confirm: str = ""
    elsewhere: tuple[Instance, ...] = ()

    @property
    def words(self) -> str:
        return ", ".join(self.empty)


def foresee(request: Request, asked: Asked, links: Links) -> Outcome:
    """What a run would do. Nothing is changed. Raises Refused with every reason not to run."""
    view = _settled(request, links)
    made = _plan(request, asked, view, links)
    after = simulate(view, made.steps)
    return Outcome(made, view, after, (*made.findings, *violations(request.topology, after)))


def hand_over(request: Request, asked: Asked, links: Links, report: Report) -> Outcome:
    """Do it, one failover after the other, each seen by all nodes before the next one begins.

    Raises Refused before anything is changed, Locked where another controller is at work, else SlotwrightError; what is
    done then stays done, and a further run does the rest.
    """
    log: list[str] = []

    def tell(line: str) -> None:
        log.append(line)
        report(line)

    before = _settled(request, links)
    made = _plan(request, asked, before, links)
    after = Handing(request, links, tell).do(made, before) if made.steps else before
    return Outcome(made, before, after, (*made.findings, *violations(request.topology, after)), tuple(log))


def sentence(request: Request, mode: Mode) -> str:
    """The words that allow it."""
    name = request.topology.name
    return f"may lose acknowledged writes of {name}" + (" and split it" if mode == "takeover" else "")


# --- The plan -------------------------------------------------------------------------------------------------------


def _settled(request: Request, links: Links) -> ClusterView:
    """A look once the nodes agree. Replicas that do not get in sync soon are taken as they are: they are not chosen."""
    look = partial(observe, request.topology, links)
    soon = min(request.timeout, PATIENCE)
    with suppress(SlotwrightError):
        return wait_until(unsettled, look, seconds=soon, purpose="the nodes to agree and be in sync")
    return wait_until(
        lambda view: lacking(view, _expected(view, simulate(view, ()))),
        look,
        seconds=request.timeout,
        purpose="the nodes to agree with each other",
    )


def _expected(before: ClusterView, after: ClusterView, excused: Collection[str] = ()) -> ClusterView:
    """What may be demanded of the nodes: no sync that did not come about before, no health while slots are not served.

    A cluster in need of a failover is seldom whole. excused: names of nodes that need not get in sync.
    """
    served = union(slots for node_id, slots in after.owners.items() if node_id in after.by_id) == ALL_SLOTS

    def told(name: str) -> bool:
        was, will = before.by_name[name], after.by_name[name]
        broken = not was.replication.link_up and was.myself.master == will.myself.master
        return not broken and name not in excused

    nodes = tuple(
        replace(
            node,
            state=node.state if served else "",
            replication=node.replication if told(node.name) else replace(node.replication, link_up=False),
        )
        for node in after.nodes
    )
    return replace(after, nodes=nodes)


def _plan(request: Request, asked: Asked, view: ClusterView, links: Links) -> Plan:
    topology = request.topology
    if unclear := [f for f in identity_findings(view) if f.code in _UNCLEAR]:
        raise Refused(unclear)
    if asked.restore:
        made = restore(topology, view)
    elif asked.promote:
        made = promote(topology, view, named(topology, asked.promote, asked.elsewhere), asked.mode)
    else:
        made = empty(topology, view, named(topology, asked.empty, asked.elsewhere), asked.mode)
    refusals = made.refusals or forbidden(made.steps, view, links) or _unsaid(request, asked, made, view, links)
    if refusals:
        raise Refused(refusals)
    return made


def _unsaid(request: Request, asked: Asked, made: Plan, view: ClusterView, links: Links) -> tuple[Finding, ...]:
    """A refusal that says what may be lost, where a way that may lose something was not confirmed."""
    harsh = [step for step in made.steps if isinstance(step, Failover) and step.mode != "plain"]
    words = sentence(request, asked.mode)
    if not harsh or asked.confirm == words:
        return ()
    lines = [
        *(f"  {step.describe()}: {loss}" for step, loss in zip(harsh, _losses(harsh, view, links), strict=True)),
        *(f"  {finding}" for finding in made.findings),
        "  Measured on a busy cluster of live nodes, force lost 148 acknowledged writes, takeover 3 to 5.",
    ]
    if asked.mode == "takeover":
        lines.append(
            "  Nobody votes. If the old masters are not dead but cut off, both sides take writes: it is split, "
            "and when they meet again, all that the old masters took is thrown away. Be sure that they are stopped."
        )
    votes = "{} masters answer and see each other, {} are needed for a vote".format(*majority(view))
    what = (
        f"{asked.mode} may lose acknowledged writes ({votes}), and this was not confirmed:\n" + "\n".join(lines) + "\n"
    )
    remedy = f"if that is what you want, say so: -e 'redis_failover_confirm=\"{words}\"'"
    return (Finding("not-confirmed", f"cluster {request.topology.name}", what, remedy),)


def _losses(steps: list[Failover], view: ClusterView, links: Links) -> list[str]:
    """For each step, in words, what has not reached the node that takes over."""
    answers = links.ask({step.node: [("INFO", "replication")] for step in steps})
    found = []
    for step in steps:
        node, answer = view.by_name[step.node], answers[step.node]
        info = parse_info(answer[0]) if not isinstance(answer, LinkDown) and isinstance(answer[0], str) else {}
        master = view.members[node.myself.master]
        down = info.get("master_link_down_since_seconds", "-1")
        last = down if down != "-1" else info.get("master_last_io_seconds_ago", "?")
        heard = f"{step.node} last heard from {master.name} {last} s ago"
        if master.node is not None:
            behind = max(0, master.node.replication.offset - node.replication.offset)
            found.append(f"{heard} and is {behind} bytes behind; these are lost, and what is written until it is done")
        else:
            found.append(
                f"{master.name} does not answer; {heard} and has its stream up to byte {node.replication.offset}; "
                "what was acknowledged after that is lost"
            )
    return found


# --- The run --------------------------------------------------------------------------------------------------------


class Handing:
    """Does the failovers of a plan. excused: names of masters that go down next, and so need not get in sync."""

    def __init__(self, request: Request, links: Links, report: Report, excused: Collection[str] = ()) -> None:
        self.request, self.topology, self.links, self.report = request, request.topology, links, report
        self.excused = excused

    def look(self) -> ClusterView:
        return observe(self.topology, self.links)

    def do(self, made: Plan, planned: ClusterView) -> ClusterView:
        """The view once all of them are done and seen by all nodes. planned: what the plan was made of."""
        with Lock(self.links, self.links.up) as lock:
            view = wait_until(
                lambda seen: lacking(seen, _expected(planned, simulate(planned, ()))),
                self.look,
                seconds=min(self.request.timeout, PATIENCE),
                purpose="the nodes to be as they were when this was planned",
                remedy="see whether somebody else changes them",
            )
            foretold = simulate(view, made.steps)
            known = {(f.code, f.where) for at in (view, foretold) for f in violations(self.topology, at)}
            for step in made.steps:
                lock.prove()
                if isinstance(step, Failover):
                    old = planned.by_name[step.node].myself.master
                    view = self.one(step, view) if step.mode == "plain" else self.one_harshly(step, old)
            return wait_until(
                lambda seen: [
                    str(f)
                    for f in violations(self.topology, seen)
                    if f.code in _SERVED and (f.code, f.where) not in known
                ],
                self.look,
                seconds=self.request.timeout,
                purpose="all nodes to see one layout, each slot served, and each master to have an epoch of its own",
            )

    def one(self, step: Failover, view: ClusterView) -> ClusterView:
        """One plain failover; the view once every node shows it."""
        if reason := obstacle(step, view):
            what = f"«{step.describe()}» cannot be done: {reason}"
            raise Outdated(what, remedy="run again: it is planned anew", code="obstacle")
        fail_over(step, view, self.links, timeout=self.request.timeout, report=self.report)
        expected = _expected(view, simulate(view, [step]), self.excused)
        done = wait_until(
            lambda seen: lacking(seen, expected),
            self.look,
            seconds=self.request.timeout,
            purpose=f"all nodes to see the effect of: {step.describe()}",
        )
        self.report(f"{step.describe()}: done")
        return done

    def one_harshly(self, step: Failover, old: str) -> ClusterView:
        """Another failover; the view once every node shows it. old: id of the master.

        Redis may do the same by itself meanwhile, here or for another shard: as soon as a majority is back, it does.
        """
        view = self.look()
        slots = view.owners.get(old)
        if not slots:
            self.report(f"{step.describe()}: not needed, Redis has done it meanwhile")
            return view
        if reason := obstacle(step, view):
            what = f"«{step.describe()}» cannot be done: {reason}"
            raise Outdated(what, remedy="run again: it is planned anew", code="obstacle")
        fail_over(step, view, self.links, timeout=self.request.timeout, report=self.report)

        def lacks(seen: ClusterView) -> Sequence[str]:
            node = seen.by_name.get(step.node)
            if node is None or not slots <= node.myself.slots:
                return [f"{step.node} does not own the slots {slots} yet"]
            return lacking(seen, _expected(seen, simulate(seen, ())))

        purpose = f"all nodes to see the effect of: {step.describe()}"
        done = wait_until(lacks, self.look, seconds=self.request.timeout, purpose=purpose)
        self.report(f"{step.describe()}: done")
        return done


# --- For the module -------------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "empty": {"type": "list", "elements": "str", "default": []},
    "promote": {"type": "list", "elements": "str", "default": []},
    "restore": {"type": "bool", "default": False},
    "mode": {"type": "str", "choices": ["plain", "force", "takeover"], "default": "plain"},
    "confirm": {"type": "str", "default": ""},
    "elsewhere": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": ARGUMENTS["instances"]["options"],
    },
}


def read_asked(params: Mapping[str, Any]) -> Asked:
    """Raises Refused unless just one thing is asked for."""
    asked = Asked(
        tuple(params["empty"]),
        tuple(params["promote"]),
        params["restore"],
        params["mode"],
        params["confirm"],
        tuple(Instance(**one) for one in params["elsewhere"]),
    )
    given = [bool(asked.empty), bool(asked.promote), asked.restore]
    if sum(given) != 1:
        what = "nothing is asked for" if not any(given) else "more than one thing is asked for"
        remedy = "say one of: -e redis_failover_from=<host, zone or host:port, …>, -e redis_failover_to=<host:port>, "
        remedy += "-e redis_failover_restore=true"
        raise Refused([Finding("what-to-do", "failover", what, remedy)])
    return asked


def result(request: Request, asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """The outcome as the module returns it."""
    found = converge.result(request, outcome)
    found["diff"]["after_header"] = f"cluster {request.topology.name}, after the failovers"
    if not outcome.plan.steps:
        found["plan_text"] = [_nothing(asked)]
    meant = named(request.topology, asked.empty, asked.elsewhere)
    stops, words = may_be_stopped(request.topology, outcome.after, meant) if meant else (False, "")
    text = f"{asked.words} {words}" if meant else ""
    return found | {"emptied": sorted(meant), "may_be_stopped": stops, "stop_text": text}


def _nothing(asked: Asked) -> str:
    if asked.restore:
        return "nothing to do: every role is where the layout wants it, or waits for site.yml"
    if asked.promote:
        return f"nothing to do: {', '.join(asked.promote)} is a master already"
    return f"nothing to do: no master is in {asked.words}"


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_failover."""
    request, asked = read_request(params), read_asked(params)
    with Links(request.topology.everyone, request.access) as links:
        outcome = foresee(request, asked, links) if check_mode else hand_over(request, asked, links, lambda line: None)
    return result(request, asked, outcome)
