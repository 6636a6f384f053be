"""Doing a plan: stage by stage, each stage verified against its simulation before the next begins.

A stage is a run of steps that need no barrier between them: what a node does alone, or what joins nodes. Each step
goes out as soon as nothing stands in its way, to all nodes at once; then the nodes are asked until every one of them
shows what the simulation of the stage foretold. A plan that is cut off is resumed by planning again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby

from redis.exceptions import ResponseError

from slotwright.core.invariants import violations
from slotwright.core.plan import Plan
from slotwright.core.simulate import lacking, simulate
from slotwright.core.steps import Configure, Meet, Replicate, Step, obstacle
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Refused, SlotwrightError
from slotwright.link.commands import by_node, commands, forbidden
from slotwright.link.connect import LinkDown, Links
from slotwright.link.observe import observe, wait_until

Report = Callable[[str], None]


def apply(
    topology: Topology,
    view: ClusterView,
    plan: Plan,
    links: Links,
    *,
    timeout: float,
    report: Report,
    parallel: int = 0,
) -> ClusterView:
    """Do the plan's steps on the nodes; the view once all of them are done and verified.

    timeout (seconds) bounds each wait. parallel: how many steps go out together, 0 for a whole stage.
    Raises Refused before anything is changed where an ACL would refuse a command; later SlotwrightError: a command
    that was refused, a wait that ran out, a step that an obstacle held up until then. Settings that the plan changed
    for the time of a creation are put back before the error goes on.
    """
    if refusals := forbidden(plan.steps, view, links):
        raise Refused(refusals)
    run = _Run(topology, links, timeout, report)
    accepted = (*violations(topology, simulate(view, plan.steps)), *violations(topology, run.thorough_look()))
    try:
        for steps in _stages(plan.steps, parallel):
            view = run.stage(view, steps)
    except BaseException as error:
        for trouble in run.put_back(plan, view):
            error.add_note(trouble)
        raise
    return run.verified(accepted)


def _stages(steps: Sequence[Step], parallel: int) -> Iterator[tuple[Step, ...]]:
    """No node may meet another before every node has its config epoch: Redis refuses to set one later."""
    for _, group in groupby(steps, lambda step: isinstance(step, Meet | Replicate)):
        stage = tuple(group)
        size = parallel or len(stage)
        yield from (stage[i : i + size] for i in range(0, len(stage), size))


class _Run:
    def __init__(self, topology: Topology, links: Links, timeout: float, report: Report) -> None:
        self.topology, self.links, self.timeout, self.report = topology, links, timeout, report

    def look(self) -> ClusterView:
        return observe(self.topology, self.links)

    def thorough_look(self) -> ClusterView:
        return observe(self.topology, self.links, thorough=True)

    def stage(self, view: ClusterView, steps: tuple[Step, ...]) -> ClusterView:
        """Send each step of one stage when its turn comes, and wait until every node shows the effect of all."""
        begun = time.monotonic()
        expected = simulate(view, steps)
        waiting = list(steps)

        def look() -> ClusterView:
            seen = self.look()
            ready = [step for step in waiting if obstacle(step, seen) is None]
            if not ready:
                return seen
            self._send(ready, seen)
            waiting[:] = [step for step in waiting if step not in ready]
            return self.look()

        def lacks(seen: ClusterView) -> Sequence[str]:
            held = [f"«{step.describe()}» cannot be done yet: {obstacle(step, seen)}" for step in waiting]
            return held or lacking(seen, expected)

        done = wait_until(
            lacks,
            look,
            seconds=self.timeout,
            purpose=f"the effect of: {_title(steps)}",
            remedy="see that the hosts reach each other's port and bus port (port + 10000), both ways"
            if any(isinstance(step, Meet) for step in steps)
            else "mend that",
        )
        self.report(f"{_title(steps)}: done in {time.monotonic() - begun:.2f} s")
        return done

    def verified(self, accepted: Sequence[Finding]) -> ClusterView:
        """Wait until nothing is wrong with the cluster but what was so before, or what the plan foretold."""
        known = {(f.code, f.where) for f in accepted}

        def wrong(seen: ClusterView) -> list[str]:
            return [str(f) for f in violations(self.topology, seen) if (f.code, f.where) not in known]

        return wait_until(
            wrong, self.thorough_look, seconds=self.timeout, purpose="a healthy cluster after the last step"
        )

    def put_back(self, plan: Plan, view: ClusterView) -> list[str]:
        """Give the nodes the settings they are to end with, as far as they can be reached; what went wrong."""
        last = list(_stages(plan.steps, 0))[-1:]
        steps = [step for step in chain(*last) if isinstance(step, Configure)]
        self.links.open()
        answers = self.links.ask({step.node: commands(step, view) for step in steps})
        return [
            f"node {name}: settings could not be put back ({answer}); the next run does it"
            for name, answer in answers.items()
            if isinstance(answer, LinkDown) or any(isinstance(reply, ResponseError) for reply in answer)
        ]

    def _send(self, steps: Sequence[Step], view: ClusterView) -> None:
        sent = by_node(steps, view)
        for name, answer in self.links.ask(sent).items():
            if isinstance(answer, LinkDown):
                raise answer
            for command, reply in zip(sent[name], answer, strict=True):
                if isinstance(reply, ResponseError):
                    shown = " ".join(map(str, command[:4]))
                    raise SlotwrightError(
                        f"{shown} was answered with: {reply}",
                        where=f"node {name}",
                        remedy="mend that, then run again",
                        code="command-refused",
                    )


def _title(steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return steps[0].describe()
    counts = Counter(type(step).__name__ for step in steps)
    return ", ".join(f"{count} × {kind}" for kind, count in counts.items())
