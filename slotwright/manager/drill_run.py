"""A drill while it lasts: clients and an observer before the fault, patience during it, the old layout after it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slotwright.core.drill import pictured
from slotwright.core.invariants import violations
from slotwright.core.simulate import unsettled
from slotwright.core.slots import Slots
from slotwright.core.timeline import Sample, Shard, promoted, whole_since
from slotwright.core.view import ClusterView
from slotwright.drill.client import Client
from slotwright.drill.files import Files
from slotwright.drill.observer import Observer
from slotwright.errors import Severity, SlotwrightError
from slotwright.link.connect import Links
from slotwright.link.lock import Lock
from slotwright.link.observe import observe, wait_until
from slotwright.manager.converge import converge
from slotwright.manager.drill_moves import Moving
from slotwright.manager.handover import Asked, hand_over
from slotwright.manager.info import examine
from slotwright.manager.progress import Told
from slotwright.manager.request import Request
from slotwright.manager.smoke import smoke

QUICK = 1.0  # seconds to connect, for the observer: a host that is cut off answers nothing
LEAD, TAIL = 3.0, 3.0  # seconds of ordinary life before the fault and after the layout is restored, at the least
TICK = 0.1
ENDING = 30.0  # seconds for a client to end
SLACK = 5.0  # seconds that hosts may be late with healing before it is said


class _CutShort(Exception):
    """Told to stop."""


class _Run:
    def __init__(self, request: Request, files: Files, drill: Mapping[str, Any], at: float, told: Told) -> None:
        self.request, self.topology, self.files, self.drill = request, request.topology, files, drill
        self.at, self.heal = at, at + drill["seconds"]
        self.told = told
        self.log: list[tuple[float, str]] = []
        self.pictures: dict[str, Any] = {"before": drill["before"]}
        self.shards = [Shard(s["shard"], s["id"], Slots.parse(s["slots"])) for s in drill["shards"]]
        self.restored: float | None = None
        self.trouble = ""

    def say(self, text: str) -> None:
        self.log.append((time.time(), text))
        self.told.line(text)

    def run(self) -> dict[str, Any]:
        quick = replace(self.request.access, connect_timeout=QUICK)
        with ExitStack() as stack:
            links = stack.enter_context(Links(self.topology.everyone, self.request.access))
            watched = stack.enter_context(Links(self.topology.everyone, quick))
            observer = stack.enter_context(Observer(watched, [i.name for i in self.topology.instances]))
            try:
                with caller(self.request, self.files, self.drill, watched):
                    self._live(links, observer)
            except _CutShort:
                self.trouble = "it was cut short from the controller"
            except SlotwrightError as error:
                self.trouble = str(error)
            if self.trouble:
                self.say(self.trouble)
            view = examine(self.request, links)
            self.pictures["after"] = pictured(self.topology, view)
            known = {tuple(one) for one in self.drill["known"]}
            broken = [f for f in violations(self.topology, view) if f.severity is Severity.ERROR]
            broken = [f for f in broken if (f.code, f.where) not in known]
            if not self.trouble:
                broken += smoke(view, links).findings
        asked = [watch.asked for watch in observer.watches.values()]
        return {
            "at": self.at,
            "ended": time.time(),
            "restored": self.restored,
            "trouble": self.trouble,
            "broken": [f"{f.code}: {f}" for f in broken],
            "topology": self.pictures,
            "log": self.log,
            "samples": [_as_dict(sample) for sample in observer.samples()],
            "observed": {
                "questions": sum(asked),
                "longest_pause": max(watch.longest for watch in observer.watches.values()),
            },
        }

    def _live(self, links: Links, observer: Observer) -> None:
        if self.drill["during"] == "reshard":
            with Moving(self.request, self.drill) as moving:
                self._lost(links, observer)
            self.say(moving.describe())
            steps = converge(self.request, links, self.say).plan.steps
        else:
            links.open()
            with Lock(links, links.up):
                self._lost(links, observer)
            steps = hand_over(self.request, Asked(restore=True), links, self.say).plan.steps
        view = wait_until(
            unsettled,
            lambda: self._look(links),
            seconds=self.request.timeout,
            purpose="the nodes to agree and be in sync",
        )
        self.pictures["after"] = pictured(self.topology, view)
        self.restored = time.time()
        self.say(f"the layout is as the inventory wants it ({len(steps)} steps)")
        self._until(self.restored + TAIL, "the end")

    def _lost(self, links: Links, observer: Observer) -> None:
        """The fault, from before it begins until all are back and in sync."""
        self._until(self.at, "the fault")
        self.say(f"{self.drill['struck']} is struck: {self.drill['fault']}")
        seen: set[str] = set()
        self._until(self.heal, "the heal", lambda: self._promotions(observer, seen))
        self.say("the hosts heal")
        self.pictures.setdefault("during", pictured(self.topology, self._look(links)))
        self._whole(observer, [i.name for i in self.topology.instances])
        self.say("all instances answer and are in touch with their masters")

    def _promotions(self, observer: Observer, seen: set[str]) -> None:
        for shard in self.shards:
            if shard.master in self.drill["instances"] and shard.master not in seen:
                heir = promoted(observer.samples(), shard, self.at)
                if heir:
                    seen.add(shard.master)
                    after = f"{heir.at - self.at:.1f} s after the fault"
                    self.say(f"{heir.node} serves the slots of {shard.master}, {after}")
        if time.time() > self.heal - 1:
            self.pictures["during"] = _from_samples(self.topology, observer.samples(), self.shards)

    def _until(self, at: float, purpose: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        shown = 0.0
        while (rest := at - time.time()) > 0:
            if self.told.stop.is_set():
                raise _CutShort
            meanwhile()
            if rest > 5 and time.monotonic() - shown > 5:
                shown = time.monotonic()
                self.told.line(f"{rest:.0f} s until {purpose}")
            time.sleep(min(TICK, max(0.0, rest)))

    def _whole(self, observer: Observer, names: list[str]) -> None:
        deadline = self.heal + SLACK + self.request.timeout
        while whole_since(observer.samples(), names, time.time()) is None:
            if self.told.stop.is_set():
                raise _CutShort
            if time.time() > deadline:
                missing = [n for n in names if not (w := observer.watches[n].samples) or not w[-1].id]
                raise SlotwrightError(
                    f"waited {self.request.timeout:g} s after the fault for all instances to answer and be in sync"
                    + (f", and {', '.join(missing)} do not answer" if missing else ""),
                    remedy="see their logs and run playbooks/check.yml; run drill.yml again to end this drill",
                    code="timeout",
                )
            time.sleep(TICK)

    def _look(self, links: Links) -> ClusterView:
        return observe(self.topology, links)


def run(request: Request, files: Files, drill: Mapping[str, Any], *, at: float, told: Told) -> dict[str, Any]:
    """See the drill through. Whatever goes wrong is in what is written down, and returned as trouble."""
    found = _Run(request, files, drill, at, told).run()
    files.write("run", found)
    return {"changed": True, "trouble": found["trouble"], "log": [text for _, text in found["log"]]}


@contextmanager
def caller(request: Request, files: Files, drill: Mapping[str, Any], links: Links) -> Iterator[None]:
    """The client of the controller, while the block runs."""
    stop = files.directory / "stop"
    config = drill["clients"]["controller"] | {
        "ledger": str(files.ledger("controller")),
        "stop": str(stop),
        "username": request.access.username,
        "password": request.access.password,
        "tls": asdict(request.access.tls) if request.access.tls else None,
    }
    stop.unlink(missing_ok=True)
    work = _through(config, links) if request.access.ssh else _alone(config)
    with work:
        try:
            yield
        finally:
            stop.touch()
    stop.unlink()


@contextmanager
def _alone(config: Mapping[str, Any]) -> Iterator[None]:
    """A process of its own: what it measures should not wait for the observer."""
    command = [sys.executable, "-m", "slotwright.drill.client"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write(json.dumps(config))
        process.stdin.close()
        try:
            yield
        finally:  # also where the block failed: what is under way goes into the ledger
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING)
            process.kill()


@contextmanager
def _through(config: dict[str, Any], links: Links) -> Iterator[None]:
    """A thread, because the connections go through SSH sessions of this process."""
    with Path(config["ledger"]).open("w", buffering=1) as ledger:
        thread = threading.Thread(target=Client(config, ledger, links.connection_class()).run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join(ENDING)


def _as_dict(sample: Sample) -> dict[str, Any]:
    return asdict(sample) | {
        "slots": str(sample.slots),
        "failing": sorted(sample.failing),
        "suspected": sorted(sample.suspected),
    }


def _from_samples(topology: Any, samples: list[Sample], shards: list[Shard]) -> dict[str, Any]:
    """Who is what now, from what each has said last; those that do not answer, or that others call FAIL, are down."""
    now = {sample.node: sample for sample in samples}
    failing = {node_id for sample in now.values() for node_id in sample.failing}
    nodes = []
    for instance in topology.instances:
        said = now.get(instance.name)
        up = said is not None and said.id and said.id not in failing
        role = "down" if not up else "master" if said and said.master else "replica"
        shard = next((s.master for s in shards if said and said.serves and said.slots & s.slots), "")
        place = {"name": instance.name, "zone": instance.zone, "host": instance.host}
        nodes.append(place | {"role": role, "shard": shard})
    return {"nodes": nodes}
