"""Doing a plan: stage by stage, each stage verified against its simulation before the next begins.

A stage is a run of steps that need no barrier between them. What a node does alone, and what joins nodes, goes out as
soon as nothing stands in its way, to all nodes at once; slot moves share one run of the engine, removals one round; a
failover is alone. Then the nodes are asked until every one of them shows what the simulation of the stage foretold. A
plan that is cut off is resumed by planning again. One controller at a time: see lock.py.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby

from redis.exceptions import ResponseError

from slotwright.core.invariants import violations
from slotwright.core.plan import Plan
from slotwright.core.simulate import lacking, simulate
from slotwright.core.slots import Slots
from slotwright.core.steps import (
    AssignSlots,
    Configure,
    Detach,
    Failover,
    LoadFunctions,
    Meet,
    MoveSlots,
    Remove,
    Replicate,
    Step,
    obstacle,
)
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Outdated, Refused, SlotwrightError
from slotwright.link.commands import by_node, commands, forbidden, refused_commands
from slotwright.link.connect import LinkDown, Links
from slotwright.link.disk import write_anew
from slotwright.link.failover import fail_over
from slotwright.link.functions import load
from slotwright.link.lock import Lock
from slotwright.link.mend import Mender, forsaken, needed
from slotwright.link.migrate import Control, Paused, move
from slotwright.link.observe import observe, wait_until
from slotwright.link.remove import leave

Report = Callable[[str], None]

# Seconds for nodes that differ from what was planned for, by another controller's work or by a flaw of the moment.
PATIENCE = 5.0
MEET_AGAIN = 5.0  # seconds until a node that has not met whom it was told to meet is told once more


def apply(
    topology: Topology,
    view: ClusterView,
    plan: Plan,
    links: Links,
    *,
    timeout: float,
    report: Report,
    parallel: int = 0,
    control: Control | None = None,
) -> ClusterView:
    """Do the plan's steps on the nodes; the view once all of them are done and verified.

    timeout (seconds) bounds each wait. parallel: how many steps go out together, 0 for a whole stage. control: of slot
    moves.
    Raises Refused before anything is changed where an ACL would refuse a command, Locked where another controller is at
    work; later SlotwrightError: a command that was refused, a wait that ran out, a step that an obstacle held up until
    then. Settings that the plan changed for the time of a creation are put back before the error goes on.
    """
    ending = forsaken((step for step in plan.steps if isinstance(step, MoveSlots)), view)
    refusals = (*forbidden(plan.steps, view, links), *refused_commands((needed(s, view) for s in ending), view, links))
    if refusals:
        raise Refused(refusals)
    run = _Run(topology, links, timeout, report, control or Control())
    with Lock(links, links.up) as lock:
        view = run.unchanged(view)
        accepted = (*violations(topology, simulate(view, plan.steps)), *violations(topology, run.thorough_look()))
        try:
            for steps in _stages(plan.steps, parallel):
                if run.control.stop.is_set():
                    raise Paused("told to stop between two steps", remedy="run again to go on", code="paused")
                lock.prove()
                view = run.stage(view, steps)
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C may have come between a command and its reply
                for name in links.up:
                    links[name].close()
            for trouble in run.put_back(plan, view):
                error.add_note(trouble)
            raise
        return run.verified(accepted)


def _stages(steps: Sequence[Step], parallel: int) -> Iterator[tuple[Step, ...]]:
    """Steps that may go together, in the plan's order.

    No node may meet another before every node has its config epoch: Redis refuses to set one later.
    """
    for kind, group in groupby(steps, _kind):
        stage = tuple(group)
        size = 1 if kind is Failover else parallel or len(stage)
        yield from (stage[i : i + size] for i in range(0, len(stage), size))


def _kind(step: Step) -> type[Step]:
    """Of steps that may go together the common kind: Meet for what joins nodes, Step for what a node does alone."""
    if isinstance(step, Meet | Replicate):
        return Meet
    alone = not isinstance(step, MoveSlots | Failover | Remove | LoadFunctions | Detach)
    return Step if alone else type(step)


class _Run:
    def __init__(self, topology: Topology, links: Links, timeout: float, report: Report, control: Control) -> None:
        self.topology, self.links, self.timeout, self.report = topology, links, timeout, report
        self.control = control

    def look(self) -> ClusterView:
        return observe(self.topology, self.links)

    def thorough_look(self) -> ClusterView:
        return observe(self.topology, self.links, thorough=True)

    def unchanged(self, view: ClusterView) -> ClusterView:
        """A new look, now that nobody else may change anything. Raises SlotwrightError where somebody has."""
        expected = simulate(view, ())
        return wait_until(
            lambda seen: lacking(seen, expected),
            self.look,
            seconds=min(self.timeout, PATIENCE),
            purpose="the nodes to be as they were when this was planned",
            remedy="see whether somebody else changes them",
        )

    def stage(self, view: ClusterView, steps: tuple[Step, ...]) -> ClusterView:
        """Do the steps of one stage, and wait until every node shows the effect of all."""
        begun = time.monotonic()
        kind = _kind(steps[0])
        assigned = [step.node for step in steps if isinstance(step, AssignSlots)]
        write_anew(assigned, self.links, timeout=self.timeout, if_large=True)
        if kind in (Meet, Step, Detach):
            done = self._send_all(view, steps)
        else:
            self._act(view, steps)
            done = self._shown(view, steps, self.look, lambda seen: _bared(seen, view))
        self.report(f"{_title(steps)}: done in {time.monotonic() - begun:.2f} s")
        return done

    def _act(self, view: ClusterView, steps: tuple[Step, ...]) -> None:
        """What is more than a command to a node."""
        before = view
        for step in sorted(steps, key=lambda step: not _is_replica(step.node, view)):
            if reason := obstacle(step, before):
                what = f"«{step.describe()}» cannot be done: {reason}"
                raise Outdated(what, remedy="run again: it is planned anew", code="obstacle")
            before = simulate(before, [step])
        moves = [step for step in steps if isinstance(step, MoveSlots)]
        ended: dict[tuple[str, str], Slots] = {}
        for ending in forsaken(moves, view):
            Mender(view, self.links, self.timeout).end_import(ending)
            ended[ending.node, ending.owner] = ending.slots
        moves = [replace(m, slots=m.slots - ended.get((m.node, m.target), Slots())) for m in moves]
        if moves := [move for move in moves if move.slots]:
            move(
                moves,
                self.topology,
                view,
                self.links,
                timeout=self.timeout,
                show=self.control.show,
                limits=self.control.limits,
                stop=self.control.stop,
            )
        for failover in (step for step in steps if isinstance(step, Failover)):
            fail_over(failover, view, self.links, timeout=self.timeout, report=self.report)
        load([step for step in steps if isinstance(step, LoadFunctions)], self.links)
        if removals := [step for step in steps if isinstance(step, Remove)]:
            for finding in leave(removals, self.topology, view, self.links, timeout=self.timeout):
                self.report(str(finding))

    def _send_all(self, view: ClusterView, steps: tuple[Step, ...]) -> ClusterView:
        """Send each step when its turn comes. A node that is told to meet another tries once, so it is told again."""
        waiting, turns = list(steps), _Turns()
        told = time.monotonic()

        def look() -> ClusterView:
            nonlocal told
            seen = self.look()
            ready = turns.of([step for step in waiting if obstacle(step, seen) is None], seen)
            waiting[:] = [step for step in waiting if step not in ready]
            if time.monotonic() - told > MEET_AGAIN:
                told = time.monotonic()
                ready += [step for step in steps if step not in waiting and step not in ready and _unmet(step, seen)]
            if not ready:
                return seen
            self._send(ready, seen)
            return self.look()

        def held(seen: ClusterView) -> Sequence[str]:
            reasons = ((step, obstacle(step, seen) or "another replica is to be in sync first") for step in waiting)
            return [f"«{step.describe()}» cannot be done yet: {reason}" for step, reason in reasons]

        return self._shown(view, steps, look, held)

    def _shown(
        self,
        view: ClusterView,
        steps: tuple[Step, ...],
        look: Callable[[], ClusterView],
        held: Callable[[ClusterView], Sequence[str]],
    ) -> ClusterView:
        expected = simulate(view, steps)
        return wait_until(
            lambda seen: held(seen) or lacking(seen, expected),
            look,
            seconds=self.timeout,
            purpose=f"the effect of: {_title(steps)}",
            remedy="see that the hosts reach each other's port and bus port (port + 10000), both ways"
            if any(isinstance(step, Meet) for step in steps)
            else "mend that",
        )

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
                    what = f"{shown} was answered with: {reply}"
                    if "already busy" in str(reply):  # who had died with its slots is back, and claims them
                        remedy = "run again: it is planned anew"
                        raise Outdated(what, where=f"node {name}", remedy=remedy, code="obstacle")
                    remedy = "mend that, then run again"
                    raise SlotwrightError(what, where=f"node {name}", remedy=remedy, code="command-refused")


def _unmet(step: Step, seen: ClusterView) -> bool:
    """Whether a MEET got lost half-way: one of the two then knows the other, and is not known to it."""
    node = seen.by_name.get(step.node)
    if node is None or not isinstance(step, Meet):
        return False
    others = [seen.by_name[peer] for peer in step.peers if peer in seen.by_name]
    return any(other.id not in node.by_id or node.id not in other.by_id for other in others)


def _bared(seen: ClusterView, before: ClusterView) -> Sequence[str]:
    """Raises Outdated where slots have lost their owner for good: a replica that took over did not know of them yet."""
    bare = seen.unowned - before.unowned
    if bare and not any(peer.failing for node in seen.nodes for peer in node.peers):
        raise Outdated(
            f"nobody owns the slots {bare} any more", remedy="run again: they are given to who has their keys"
        )
    return ()


class _Turns:
    """Who may go now. A replica leaves its master only when no other change of a replica of the two is under way.

    So a shard never has fewer copies in sync than the plan takes from it.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[str, set[str]]] = {}  # node → its new master, and the masters that are concerned

    def of(self, ready: Sequence[Step], seen: ClusterView) -> list[Step]:
        busy = {m for name, (master, both) in self._sent.items() if not _follows(seen, name, master) for m in both}
        chosen = []
        for step in ready:
            if isinstance(step, Replicate):
                old = seen.by_name[step.node].myself.master
                both = {step.master, *([seen.name_of(old)] if old else [])}
                waits = bool(old) and not both.isdisjoint(busy)
                busy |= both
                if waits:
                    continue
                self._sent[step.node] = (step.master, both)
            chosen.append(step)
        return chosen


def _is_replica(name: str, view: ClusterView) -> bool:
    """Those of a leaving master leave before it."""
    member = view.named_members.get(name)
    return member is not None and not member.peer.is_master


def _follows(seen: ClusterView, name: str, master: str) -> bool:
    node, leader = seen.by_name.get(name), seen.by_name.get(master)
    if node is None or leader is None or node.myself.master != leader.id:
        return False
    return node.replication.link_up and not node.replication.syncing and not node.loading


def _title(steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return steps[0].describe()
    counts = Counter(type(step).__name__ for step in steps)
    return ", ".join(f"{count} × {kind}" for kind, count in counts.items())
