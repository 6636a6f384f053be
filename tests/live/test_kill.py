"""A controller that is killed with -9 anywhere in a creation leaves nothing that the next run does not finish."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.clusters import Role, Site, assert_sound, start_site
from tests.live.doomed import Doom, Event
from tests.live.servers import Servers
from tests.soak import SOAK

LOOPBACK = "127.27"
AT_ONCE = 10  # sites side by side: a master says "fail" for 2 s after its start, so that most of a creation is waiting
RANDOM_KILLS = 100 if SOAK else 10
EVERY = 1 if SOAK else 6  # of the points within a step; those between steps are all tried
SEED = 20261121
WRITES = 20  # without parallel=1: six nodes configured, five met, three made replicas, six configured


@dataclass(frozen=True)
class Creation:
    """What a creation does that nobody disturbs, the same on every site."""

    steps: tuple[str, ...]
    roles: dict[str, Role]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Creation:
    with Servers(tmp_path_factory.mktemp("undisturbed"), LOOPBACK) as servers:
        site = start_site(servers)
        begun = time.monotonic()
        outcome = site.converge()
        return Creation(outcome.plan.describe(), site.roles(), time.monotonic() - begun)


Do = Callable[[Site], None]
"""Runs a controller on the site, which dies."""


@dataclass(frozen=True)
class Kill:
    """left: the steps that it leaves to do, as they may be; empty where that depends on the moment."""

    name: str
    do: Do
    left: tuple[tuple[str, ...], ...] = ()


def by_itself(event: Event, number: int, parallel: int) -> Do:
    def do(site: Site) -> None:
        process = Doom(site.request, event, number, parallel).start()
        assert process.wait(60) == -signal.SIGKILL, f"not killed, but ended with {process.returncode}"

    return do


def after(seconds: float) -> Do:
    def do(site: Site) -> None:
        process = Doom(site.request).start()
        time.sleep(seconds)
        process.kill()
        assert process.wait(60) in (-signal.SIGKILL, 0), f"ended with {process.returncode}"  # 0: it was done before

    return do


def make_good(kill: Kill, directory: Path, undisturbed: Creation) -> None:
    """On a site of its own: a creation that is killed, then one run, which must make it what it would have been."""
    with Servers(directory / kill.name, LOOPBACK) as servers:
        site = start_site(servers)
        settings = site.settings()
        kill.do(site)
        outcome = site.converge()
        assert not kill.left or outcome.plan.describe() in kill.left
        assert site.roles() == undisturbed.roles
        assert site.settings() == settings
        assert_sound(site)
        assert not site.converge().changed


MakeAllGood = Callable[[Sequence[Kill]], None]


@pytest.fixture
def make_all_good(undisturbed: Creation, tmp_path: Path, tried: Callable[[str], None]) -> MakeAllGood:
    """Try every kill, many side by side, and say how many there were."""

    def attempt(kill: Kill) -> str | None:
        try:
            make_good(kill, tmp_path, undisturbed)
        except Exception as error:
            return f"killed {kill.name}: {type(error).__name__}: {error}"
        return None

    def try_all(kills: Sequence[Kill]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            wrong = [failure for failure in pool.map(attempt, kills) if failure]
        points = f"{kills[0].name} to {kills[-1].name}"
        tried(f"{len(kills)} kill -9 of a controller, {points}: {len(wrong)} not made good")
        assert not wrong, "\n".join(wrong)

    return try_all


def test_killed_at_every_step_boundary_one_run_does_just_the_steps_that_are_left(
    undisturbed: Creation, make_all_good: MakeAllGood
) -> None:
    steps = undisturbed.steps
    make_all_good([Kill(f"after-step-{k}", by_itself("stage", k, 1), (steps[k:],)) for k in range(len(steps) + 1)])


def test_killed_before_a_step_that_was_sent_took_effect_one_run_does_just_the_steps_that_are_left(
    undisturbed: Creation, make_all_good: MakeAllGood
) -> None:
    steps = undisturbed.steps

    def left(done: int) -> tuple[tuple[str, ...], ...]:
        # A node that was told to meet another gives up where the other is too busy to answer: then it is told again.
        lost = (steps[done - 1 :],) if ": meet " in steps[done - 1] else ()
        return (steps[done:], *lost)

    make_all_good(
        [Kill(f"with-step-{k}-sent", by_itself("send", k, 1), left(k)) for k in range(1, len(steps) + 1, EVERY)]
    )


def test_killed_with_a_stage_sent_to_some_of_its_nodes_only_one_run_finishes_it(make_all_good: MakeAllGood) -> None:
    make_all_good([Kill(f"after-write-{k}", by_itself("write", k, 0)) for k in range(1, WRITES + 1, EVERY)])


@pytest.mark.soak
def test_controllers_that_each_die_after_one_step_make_the_cluster_together(
    undisturbed: Creation, servers: Servers
) -> None:
    site = start_site(servers)
    settings = site.settings()
    for _ in undisturbed.steps:
        by_itself("stage", 1, 1)(site)
    assert not site.converge().changed
    assert site.roles() == undisturbed.roles
    assert site.settings() == settings
    assert_sound(site)


@pytest.mark.parametrize(("event", "parallel"), [("stage", 1), ("send", 1), ("write", 0)])
def test_there_is_no_later_point_to_be_killed_at(
    event: Event, parallel: int, servers: Servers, undisturbed: Creation
) -> None:
    last = WRITES if event == "write" else len(undisturbed.steps)
    process = Doom(start_site(servers).request, event, last + 1, parallel).start()
    assert process.wait(60) == 0


def test_killed_at_random_moments_one_run_finishes_it(undisturbed: Creation, make_all_good: MakeAllGood) -> None:
    rng = random.Random(SEED)
    moments = [rng.uniform(0, undisturbed.seconds) for _ in range(RANDOM_KILLS)]
    make_all_good([Kill(f"{number}-after-{s:.3f}-s", after(s)) for number, s in enumerate(moments, start=1)])
