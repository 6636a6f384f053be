"""A controller that is killed anywhere in a change, or a node under it, leaves nothing that one run does not finish.

Many clusters live side by side, one for each kind of change (tests/live/changes.py), and go from change to change: each
time something is killed, and one run has to bring the cluster to where it was going.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from slotwright.core.steps import Failover, LoadFunctions, MoveSlots, Remove, Step
from tests.live import changes
from tests.live.changes import Change
from tests.live.clusters import Site
from tests.live.doomed import FAILED, Doom, Event, Graveyard
from tests.live.moves import Cluster
from tests.live.servers import Server, Servers, wait_until
from tests.live.test_change import member
from tests.live.workload import Workload
from tests.soak import SOAK

LOOPBACK = "127.44"
AT_ONCE = 8  # clusters side by side
SEED = 20261121
VISITS = 1  # of each cluster, where not everything is tried
ACTS = 6
ACCIDENTS = [("source", 0.3), ("target", 0.3), ("source", 6.0), ("target", 6.0)]
"""Which end of a slot move is killed, and for how many seconds it is down: it is back at once, or after three node
timeouts, when a replica has taken over."""
PHASES = {"sizes": 4, "replicas": 2, "zones": 4}
"""After so many changes a cluster is what it was: where there are several."""


@dataclass(frozen=True)
class Point:
    """What is killed, and when: the controller, or an end of a slot move, which is down for a while (seconds).

    loaded: clients write and read meanwhile.
    """

    event: Event
    number: int
    victim: str = ""
    down: float = 0.0
    loaded: bool = False

    def __str__(self) -> str:
        what = f"{self.victim}, back after {self.down:g} s" if self.victim else "controller"
        return f"{what} at {self.event} {self.number}"


# --- One point ------------------------------------------------------------------------------------------------------


def make_good(change: Change, point: Point, graveyard: Graveyard) -> str:
    """Kill, run once, and see that all is there and nothing is left to do. Returns how the killed run ended."""
    site = change.site
    site.wait_quiet()
    before = keys(site)
    steps = site.foresee().plan.steps
    victim = the_victim(site, steps, point)
    by_steps = point.event != "act"
    number = min(point.number, most(steps, point.event))
    doom = Doom(site.request, point.event, number, parallel=int(by_steps), victim=victim.pid if victim else 0)
    if victim:
        with brought_back(victim, point.down):
            end = graveyard.bury(doom)
        left = site.converge().plan.steps
        put_aside(site)
    else:
        with Workload(member(site), keys=60, ops=100) if point.loaded else nullcontext() as load:
            end = graveyard.bury(doom)
            left = site.converge().plan.steps
        if load:
            load.assert_kept()
            assert load.errors == []
        assert end.status == -signal.SIGKILL or not by_steps, end
    if point.event == "stage":
        assert [s.describe() for s in left] == [s.describe() for s in steps[number:]]
    assert_reached(site, before)
    return "ended" if end.status == 0 else "failed" if end.status == FAILED else "killed"


def the_victim(site: Site, steps: Sequence[Step], point: Point) -> Server | None:
    if not point.victim:
        return None
    moves = [step for step in steps if isinstance(step, MoveSlots)]
    move = moves[point.number % len(moves)]
    return site[move.node if point.victim == "source" else move.target]


@contextmanager
def brought_back(server: Server, seconds: float) -> Iterator[None]:
    """As systemd would: once the server has ended, it is started again after so many seconds."""
    over = threading.Event()

    def watch() -> None:
        while server.alive:
            if over.wait(0.05):
                break
        if not server.alive:
            time.sleep(seconds)
            server.start_again()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(60)
        assert not watcher.is_alive()
        server.wait_ready()


def put_aside(site: Site) -> None:
    """As site.yml does with leavers that were forgotten while they were down: it stops them, and moves their data."""
    for node in site.look().forgotten:
        site[node.name].start_blank()
        site[node.name].wait_ready()


def keys(site: Site) -> dict[bytes, str]:
    """All but those of clients, with digests of their values."""
    return {key: value for key, value in Cluster(site).data().items() if not key.startswith(b"ledger")}


def assert_reached(site: Site, before: Mapping[bytes, str]) -> None:
    assert Cluster(site).open_slots() == []
    assert keys(site) == before
    assert not site.converge().changed
    wait_until("nothing is wrong", lambda: not site.errors(), timeout=10)


# --- Many of them ---------------------------------------------------------------------------------------------------


def most(steps: Sequence[Step], event: Event) -> int:
    """How often it happens, where the steps are done one by one."""
    if event == "stage":
        return len(steps)
    if event == "send":
        return sum(not isinstance(step, MoveSlots | Failover | Remove | LoadFunctions) for step in steps)
    return sys.maxsize


def every_point(change: Change, rng: random.Random, graveyard: Graveyard) -> list[Point]:
    """All boundaries of steps; and what is written while slots move, members leave, … at random."""
    site = change.site
    steps = site.foresee().plan.steps
    points = [Point("stage", k) for k in range(len(steps) + 1)]
    points += [Point("send", k) for k in range(1, most(steps, "send") + 1)]
    with Workload(member(site), keys=60, ops=100) if change.serves else nullcontext():
        total = graveyard.bury(Doom(site.request)).counts.get("act", 0)
    acts = sorted(rng.sample(range(1, total + 1), min(ACTS, total)))
    points += [Point("act", k, loaded=change.serves) for k in acts]
    if any(isinstance(step, MoveSlots) for step in steps):
        points += [Point("act", rng.randint(1, total), end, down) for end, down in ACCIDENTS * 2]
    return points


def some_point(site: Site, rng: random.Random) -> Point:
    steps = site.foresee().plan.steps
    moves = any(isinstance(step, MoveSlots) for step in steps)
    kinds = [Point("stage", rng.randint(0, len(steps)))]
    if moves:
        act = rng.randint(1, 4000)
        kinds += [Point("act", act, loaded=True), Point("act", act, *rng.choice(ACCIDENTS[:2]))]
    return rng.choice(kinds)


@dataclass
class Stream:
    """One cluster that goes from change to change, and the share-th part of the points of its kind."""

    kind: str
    share: int = 0
    shares: int = 1
    tried: Counter[str] = field(default_factory=Counter)
    wrong: str = ""

    def suffer(self, directory: Path) -> None:
        """Until all points were tried, or as many as there is time for, or one was not made good."""
        rng = random.Random(f"{SEED} {self.kind} {self.share}")
        where = f"{self.kind} {self.share}"
        try:
            with Servers(directory / f"{self.kind}-{self.share}", LOOPBACK) as servers, Graveyard() as graveyard:
                for change, point in self._points(changes.EVERY[self.kind](servers), rng, graveyard):
                    where = f"{change.name}, {point}"
                    how = make_good(change, point, graveyard)
                    print(f"{self.kind} {self.share}: {where}: {how}", flush=True)
                    self.tried[f"{'controller' if not point.victim else point.victim} at {point.event}: {how}"] += 1
        except Exception:
            self.wrong = f"{where}:\n{traceback.format_exc()}"
            print(f"{self.kind} {self.share}: {self.wrong}", flush=True)

    def _points(
        self, stream: Iterator[Change], rng: random.Random, graveyard: Graveyard
    ) -> Iterator[tuple[Change, Point]]:
        if not SOAK:
            yield from ((change, some_point(change.site, rng)) for change in islice(stream, VISITS))
            return
        left: dict[str, list[Point]] = {}
        for change in stream:
            if change.name not in left:
                left[change.name] = every_point(change, rng, graveyard)[self.share :: self.shares]
            elif left[change.name]:
                yield change, left[change.name].pop()
            elif len(left) == PHASES.get(self.kind, 1) and not any(left.values()):
                return
            else:
                change.site.converge()


STREAMS = {"sizes": 2}


@pytest.mark.timeout(10_000 if SOAK else 600)
def test_whatever_is_killed_in_a_change_one_run_finishes_it(tmp_path: Path, tried: Callable[[str], None]) -> None:
    streams = [
        Stream(kind, share, STREAMS.get(kind, 1)) for kind in changes.EVERY for share in range(STREAMS.get(kind, 1))
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda stream: stream.suffer(tmp_path), streams))
    total = sum((stream.tried for stream in streams), Counter[str]())
    wrong = [stream.wrong for stream in streams if stream.wrong]
    for kind in changes.EVERY:
        tried(f"{kind}: {sum(sum(s.tried.values()) for s in streams if s.kind == kind)} points")
    tried(f"{total.total()} points, {len(wrong)} not made good: " + ", ".join(f"{n} {w}" for w, n in total.items()))
    assert not wrong, "\n".join(wrong)
    assert total.total() >= 200 or not SOAK
