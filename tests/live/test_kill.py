"""A controller that is killed with -9 anywhere in a creation leaves nothing that the next run does not finish."""

from __future__ import annotations

import os
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

LOOPBACK = "127.27"
SOAK = os.environ.get("SLOTWRIGHT_SOAK") == "1"
AT_ONCE = 10  # sites side by side: a master says "fail" for 2 s after its start, so that most of a creation is waiting
RANDOM_KILLS = 100 if SOAK else 10
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


Kill = Callable[[Site], object]
"""Runs a controller on the site and kills it."""


def killed_by_itself(event: Event, number: int, parallel: int) -> Kill:
    def kill(site: Site) -> None:
        process = Doom(site.request, event, number, parallel).start()
        assert process.wait(60) == -signal.SIGKILL

    return kill


def killed_after(seconds: float) -> Kill:
    def kill(site: Site) -> None:
        process = Doom(site.request).start()
        time.sleep(seconds)
        process.kill()
        assert process.wait(60) in (-signal.SIGKILL, 0)  # 0: it was done before

    return kill


def finished_by_one_run(directory: Path, kill: Kill, undisturbed: Creation) -> tuple[str, ...]:
    """One site: created by a controller that is killed, then by one run more. Returns the steps that were left to it."""
    with Servers(directory, LOOPBACK) as servers:
        site = start_site(servers)
        settings = site.settings()
        kill(site)
        outcome = site.converge()
        assert site.roles() == undisturbed.roles
        assert site.settings() == settings
        assert_sound(site)
        assert not site.converge().changed
        return outcome.plan.describe()


def at_every(
    kills: Sequence[tuple[str, Kill, tuple[str, ...] | None]], directory: Path, undisturbed: Creation
) -> None:
    """Try every kill on a site of its own, many side by side. kills: a name, the kill, the steps then to be left."""

    def attempt(kill: tuple[str, Kill, tuple[str, ...] | None]) -> str | None:
        name, act, rest = kill
        try:
            left = finished_by_one_run(directory / name, act, undisturbed)
            assert rest is None or left == rest
        except Exception as error:
            return f"killed {name}: {type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = [failure for failure in pool.map(attempt, kills) if failure]
    assert not wrong, f"{len(wrong)} of {len(kills)} kills were not made good:\n" + "\n".join(wrong)
    print(f"{len(kills)} kills made good by one run each")


def test_killed_at_every_step_boundary_one_run_does_just_the_steps_that_are_left(
    undisturbed: Creation, tmp_path: Path
) -> None:
    steps = undisturbed.steps
    kills = [
        (f"after-step-{k}", killed_by_itself("stage", k, parallel=1), steps[k:]) for k in range(len(steps) + 1)
    ]
    at_every(kills, tmp_path, undisturbed)


def test_killed_before_any_step_took_effect_one_run_does_just_the_steps_that_are_left(
    undisturbed: Creation, tmp_path: Path
) -> None:
    steps = undisturbed.steps
    kills = [
        (f"with-step-{k}-sent", killed_by_itself("send", k, parallel=1), steps[k:]) for k in range(1, len(steps) + 1)
    ]
    at_every(kills, tmp_path, undisturbed)


def test_killed_with_a_stage_sent_to_some_of_its_nodes_only_one_run_finishes_it(
    undisturbed: Creation, tmp_path: Path
) -> None:
    kills = [(f"after-write-{k}", killed_by_itself("write", k, parallel=0), None) for k in range(1, WRITES + 1)]
    at_every(kills, tmp_path, undisturbed)


@pytest.mark.parametrize(("event", "parallel"), [("stage", 1), ("send", 1), ("write", 0)])
def test_there_is_no_later_point_to_be_killed_at(
    event: Event, parallel: int, servers: Servers, undisturbed: Creation
) -> None:
    last = WRITES if event == "write" else len(undisturbed.steps)
    process = Doom(start_site(servers).request, event, last + 1, parallel).start()
    assert process.wait(60) == 0


def test_killed_at_random_moments_one_run_finishes_it(undisturbed: Creation, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    moments = [rng.uniform(0, undisturbed.seconds) for _ in range(RANDOM_KILLS)]
    at_every([(f"after-{s:.3f}-s", killed_after(s), None) for s in moments], tmp_path, undisturbed)
