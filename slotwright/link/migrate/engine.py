"""Moving slots of a live cluster: many pairs of nodes at a time, watched, and stopped without leaving a slot open."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from slotwright.core.invariants import LAG_LIMIT
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member
from slotwright.errors import Refused, SlotwrightError
from slotwright.link.connect import Links
from slotwright.link.disk import writing_anew
from slotwright.link.migrate.atomic import AtomicPair, able, at_a_time, unable, unmarked
from slotwright.link.migrate.before import (
    Counts,
    close_lone,
    counted,
    first_slots,
    mean_sizes,
    one_database,
    prove_clean,
    prove_room,
    seals,
    set_slots,
    settled,
    without,
)
from slotwright.link.migrate.board import Board, FailedOver, Reowned
from slotwright.link.migrate.carry import Carrier, Job, Login, Peer
from slotwright.link.migrate.crew import Crew, Worker
from slotwright.link.migrate.limits import Limits, Show
from slotwright.link.migrate.pacer import Prober
from slotwright.link.migrate.pair import Pair
from slotwright.link.migrate.wire import Wire
from slotwright.link.observe import observe
from slotwright.link.waits import node_timeout

TICK, SHOW_EVERY, LOOK_EVERY = 0.01, 1.0, 1.0  # seconds
QUIET = 0.05  # seconds in which messages that are under way between the nodes arrive


class Paused(SlotwrightError):
    """Told to stop. Nothing is open; a further run goes on from there."""


def move(
    steps: Sequence[MoveSlots],
    topology: Topology,
    view: ClusterView,
    links: Links,
    *,
    timeout: float,
    show: Show = lambda progress: None,
    limits: Limits | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Move the slots of all steps; where one has moved already, in part or whole, do what is left.

    timeout (seconds) bounds each wait. show: called about every second. stop: set it to end early, as KeyboardInterrupt
    does; the slots that have begun to move are finished, the others are as they were.
    Raises SlotwrightError (FailedOver, Paused); all keys can be reached then, and a further run takes up what is open.
    """
    _Move(steps, topology, view, links, timeout, show, limits or Limits(), stop or threading.Event()).run()


class _Move:
    def __init__(
        self,
        steps: Sequence[MoveSlots],
        topology: Topology,
        view: ClusterView,
        links: Links,
        timeout: float,
        show: Show,
        limits: Limits,
        stop: threading.Event,
    ) -> None:
        self.steps, self.topology, self.view, self.links = _merged(steps), topology, view, links
        self.show, self.limits = show, limits
        self.login = Login(links.access.username, links.access.password)
        self.board = Board(
            view,
            timeout=timeout,
            node_timeout=node_timeout(links, *sorted({step.node for step in steps})),
            limits=limits,
            stop=stop,
        )
        self.ends = {step.node for step in steps} | {step.target for step in steps}
        self.in_sync = {r.id for name in self.ends for r in self._replicas(view, name) if _in_sync(view, r)}
        self._mean: Mapping[str, float] = {}  # bytes of a key, by source; of those alone that move slots by themselves
        self._shown = self._looked = time.monotonic()

    def run(self) -> None:
        one_database(self.steps, self.links)
        self._settle()
        close_lone(self.steps, self.links)
        self.steps = [step for step in self.steps if step.node != step.target]
        if self._bring_back():
            self._settle()
        prove_clean(self.steps, self.view, self.links)
        empty = {step.target for step in self.steps if not self.view.by_name[step.target].myself.slots}
        with writing_anew(sorted(empty), self.links, timeout=self.board.timeout):
            counts = counted(self.steps, self.links)
            prove_room(self.steps, counts, self.view, self.links)
            jobs, atomic = self._jobs(counts)
        self.board.expect([*jobs, *atomic])
        self._together(atomic)
        first = first_slots(jobs, self.view)
        jobs = without(jobs, first)
        last = seals(jobs, self.view)
        with Prober(self.ends, self.links, self.limits, self.board.pacer, lambda: self.board.worked):
            self._together(first)
            self._together(without(jobs, last))
            if last:
                time.sleep(QUIET)
            for job in last:  # one after the other, so that no two targets take the same config epoch
                self._together([job])
        self._settle(epochs=False)
        self.show(self.board.progress)
        if self.board.deferred:
            raise Refused(self.board.deferred)

    # --- Before -----------------------------------------------------------------------------------------------------

    def _settle(self, *, epochs: bool = True) -> None:
        found = settled(self.steps, self.topology, self.links, self.board.timeout, epochs=epochs)
        self.view = self.board.view = found

    def _bring_back(self) -> bool:
        """Slots that the target owns, and that were on their way to the source when something ended there.

        Keys cannot be sent back while clients look for them at the source: such a slot first gets where it was going.
        Whether any did.
        """
        moved = False
        for step in self.steps:
            node, target = (self.view.by_name[name] for name in (step.node, step.target))
            begun = {s for s, other in node.myself.importing if other == target.id}
            begun |= {s for s, other in target.myself.migrating if other == node.id}
            begun |= self._marked_anew(step)
            slots = tuple(s for s in step.slots & target.myself.slots if s in begun)
            if slots:
                forward = self._job(target.name, node.name, dict.fromkeys(slots, 0))
                held = Pair(self.carrier(target.name, node.name), forward.counts, self.board).cancel(slots)
                self._together([self._job(target.name, node.name, dict.fromkeys(held, 1))])
                moved = moved or bool(held)
        return moved

    def _marked_anew(self, step: MoveSlots) -> set[int]:
        """Slots that their owner has marked, and the node has not, though it holds keys of them.

        Where the owner names somebody else, the node has replaced that one since; else its mark was cleared.
        """
        node, owner = (self.view.by_name[name] for name in (step.node, step.target))
        imported = {slot for slot, _ in node.myself.importing}
        marked = Slots.of(s for s, other in owner.myself.migrating if other != node.id or s not in imported)
        lost = marked & step.slots & owner.myself.slots
        if not lost:
            return set()
        counts = counted([MoveSlots(step.node, step.target, lost)], self.links)[step.node]
        keyed = [slot for slot in lost if counts[slot]]
        set_slots(step.node, keyed, "IMPORTING", owner.id, links=self.links)
        set_slots(step.target, keyed, "MIGRATING", node.id, links=self.links)
        return set(keyed)

    def _jobs(self, counts: Counts) -> tuple[list[Job], list[Job]]:
        """What goes key by key, and what the servers move by themselves. Raises Refused where they cannot, and must."""
        strategy = self.limits.strategy
        if strategy == "atomic" and (findings := unable(self.steps, self.view)):
            raise Refused(findings)
        jobs: list[Job] = []
        atomic: list[Job] = []
        for step in self.steps:
            whole = strategy != "classic" and not self.limits.gentle and able(step, self.view)
            some = unmarked(step, self.view) if whole else Slots()
            for slots, into in ((step.slots - some, jobs), (some, atomic)):
                if slots:
                    into.append(self._job(step.node, step.target, {slot: counts[step.node][slot] for slot in slots}))
        self._mean = mean_sizes({job.source.name: counts[job.source.name] for job in atomic}, self.links)
        return jobs, [replace(job, atomic=True, together=at_a_time(job.target.name, self.view)) for job in atomic]

    def _worker(self, job: Job) -> Worker:
        source, target = job.source.name, job.target.name
        if job.atomic:
            links = (self.links.another(source), self.links.another(target))
            return AtomicPair(links, (job.source, job.target), job.counts, self.board, self._mean[source])
        return Pair(self.carrier(source, target), job.counts, self.board)

    def _job(self, source: str, target: str, counts: Mapping[int, int]) -> Job:
        return Job(self._peer(source), self._peer(target), counts)

    def _peer(self, name: str) -> Peer:
        node = self.view.by_name[name]
        address, _, port = node.endpoint.rpartition(":")
        return Peer(name, node.id, address, int(port))

    def carrier(self, source: str, target: str) -> Carrier:
        wires = (Wire(self.links.another(source)), Wire(self.links.another(target)))
        ends = (self._peer(source), self._peer(target))
        return Carrier(*wires, ends, self.login, self.board.node_timeout, self.board.big_keys[target], self.board.pacer)

    # --- Meanwhile --------------------------------------------------------------------------------------------------

    def _together(self, jobs: Iterable[Job]) -> None:
        """All pairs, as many at a time as may be; watched from this thread."""
        crew = Crew(jobs, self.board, self._worker)
        try:
            while crew.working:
                self._tick()
        except BaseException:
            self._wind_up(crew)
            raise
        for pair in crew.reowned:
            self._finish(pair)
        if crew.failures:
            first, *others = crew.failures
            for other in others:
                first.add_note(str(other))
            raise first
        if crew.reowned:
            ends = f"{crew.reowned[0].source.name} and {crew.reowned[0].target.name}"
            raise FailedOver(
                f"one of {ends} was replaced by a replica of its own while slots moved; what was open is closed",
                where=f"nodes {ends}",
                remedy="run again: the rest is planned anew",
                code="failed-over",
            )
        if self.board.stop.is_set():
            done = self.board.progress
            raise Paused(
                f"{done.slots} of {done.slots_total} slots have moved, and none is open",
                remedy="run again to go on",
                code="paused",
            )

    def _tick(self) -> None:
        time.sleep(TICK)  # not join: where a signal ends that, Python 3.11 takes the thread for ended
        now = time.monotonic()
        if now - self._shown >= SHOW_EVERY:
            self._shown = now
            self.show(self.board.progress)
        if now - self._looked >= LOOK_EVERY or self.board.look_now.is_set():
            self.board.look_now.clear()
            self.board.look(partial(observe, self.topology, self.links), self._hindrance)
            self._looked = time.monotonic()

    def _hindrance(self, view: ClusterView) -> str:
        """Why no further slot should be opened now; "" for nothing."""
        for node in view.nodes:
            if node.name in self.ends and node.state != "ok":
                return f"{node.name} says cluster_state:{node.state}"
            for peer in node.peers:
                if peer.failing and view.name_of(peer.id) in self.ends:
                    return f"{node.name} sees {view.name_of(peer.id)} as failing"
        for name in self.ends:
            if name not in view.by_name:
                return f"{name} does not answer"
            for replica in self._replicas(view, name):
                if replica.id in self.in_sync and not _in_sync(view, replica):
                    return f"{replica.name}, a replica of {name}, is no longer in sync"
        return ""

    def _replicas(self, view: ClusterView, name: str) -> tuple[Member, ...]:
        node = view.by_name.get(name)
        return tuple(r for r in view.replicas_of(node.id) if r.alive) if node else ()

    # --- Ends -------------------------------------------------------------------------------------------------------

    def _wind_up(self, crew: Crew) -> None:
        """End early: let the pairs close what is open."""
        self.board.stop.set()
        deadline = time.monotonic() + self.board.timeout
        while crew.working and time.monotonic() < deadline:
            time.sleep(TICK)

    def _finish(self, pair: Pair) -> None:
        """After a failover: bring the slots that may be open to the node that has the target's part now."""
        self.view = view = observe(self.topology, self.links)
        self.board = self.board.anew(view)
        heir = view.by_id.get(self.board.heir(pair.target))
        rest: dict[str, dict[int, int]] = defaultdict(dict)
        for slot in pair.window:
            owner = self.board.owner(slot)
            if owner is not None and heir is not None and owner != heir.id:
                rest[view.by_id[owner].name][slot] = pair.counts[slot]
        try:
            for name, counts in rest.items():
                assert heir is not None
                Pair(self.carrier(name, heir.name), counts, self.board, replaced=pair.target.id).run()
        except Reowned as again:
            raise SlotwrightError(
                f"{again}, while slots {Slots.of(pair.window)} were on their way",
                remedy="see why nodes fail over again and again, then run again: what is open is taken up",
                code="failed-over",
            ) from again


def _merged(steps: Iterable[MoveSlots]) -> list[MoveSlots]:
    """One step for each pair of nodes."""
    slots: dict[tuple[str, str], Slots] = defaultdict(Slots)
    for step in steps:
        slots[step.node, step.target] |= step.slots
    return [MoveSlots(source, target, some) for (source, target), some in slots.items()]


def _in_sync(view: ClusterView, replica: Member) -> bool:
    master = view.by_id.get(replica.peer.master)
    if replica.node is None or master is None:
        return False
    link = replica.node.replication
    return link.link_up and not link.syncing and master.replication.offset - link.offset <= LAG_LIMIT
