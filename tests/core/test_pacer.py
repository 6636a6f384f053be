"""The pace of a move: what a budget allows, how it is adapted to what probes take, and rates."""

from __future__ import annotations

import time

import pytest

from slotwright.link.migrate.limits import Limits
from slotwright.link.migrate.pacer import CALL, FEWEST, LOWEST, SHARE, SHORTEST, Pacer
from slotwright.link.migrate.progress import PairProgress, Progress

FAST, SLOW = 0.0005, 0.009


def pacer(budget: float | None = 0.004, **more: float) -> Pacer:
    return Pacer(Limits(budget=budget, **more))  # type: ignore[arg-type]


def test_without_a_budget_calls_are_long_and_many_are_in_flight() -> None:
    free, bound = pacer(None), pacer()
    assert free.call == CALL and bound.call == SHARE * 0.004
    assert free.in_flight > bound.in_flight == 2
    assert bound.burst == 2 * bound.call
    assert free.sources > bound.sources == 1


@pytest.mark.parametrize("budget", [0.0001, 0.001, 0.005, 1.0])
def test_a_call_is_a_part_of_the_budget_within_bounds(budget: float) -> None:
    assert SHORTEST <= pacer(budget).call <= CALL


def test_commands_that_are_sent_together_take_no_longer_than_a_call() -> None:
    bound = pacer(0.002)
    for cost in (1e-6, 1e-5, 1e-4):
        assert bound.at_once(cost) * cost <= bound.call + 1e-12
    assert bound.at_once(1.0) == 1


def test_slow_probes_make_it_gentler_and_fast_ones_bring_it_back() -> None:
    bound = pacer()
    slow = [SLOW] * 5 + [FAST] * 95
    assert bound.judge(slow)
    assert bound.level < 1 and bound.one_pair
    for _ in range(50):
        bound.judge(slow)
    assert bound.level == LOWEST and bound.call >= SHORTEST
    for _ in range(50):
        assert not bound.judge([FAST] * 100)
    assert bound.level == 1 and not bound.one_pair


def test_what_is_slow_anyhow_is_not_ours() -> None:
    bound = pacer()
    noisy = [SLOW] * 5 + [FAST] * 95
    assert not bound.judge(noisy, noisy)
    assert bound.level == 1


def test_a_few_probes_or_one_in_a_hundred_prove_nothing() -> None:
    bound = pacer()
    assert not bound.judge([SLOW] * (FEWEST - 1))
    assert not bound.judge([SLOW] + [FAST] * 99)
    assert bound.level == 1


@pytest.mark.parametrize(("limits", "seconds"), [({"keys": 1000.0}, 0.3), ({"bytes": 1e6}, 0.3), ({}, 0.0)])
def test_rates_are_kept(limits: dict[str, float], seconds: float) -> None:
    """30 calls of 10 keys and 10 kB: 300 keys, 300 kB."""
    bound = pacer(None, **limits)
    begun = time.monotonic()
    for _ in range(30):
        bound.before(10, 10_000, lambda: False)
    assert seconds - 0.1 <= time.monotonic() - begun <= seconds + 0.5


def test_who_waits_for_a_rate_stops_when_told() -> None:
    bound = pacer(None, keys=1.0)
    bound.before(100, 0, lambda: False)
    begun = time.monotonic()
    bound.before(100, 0, lambda: True)
    assert time.monotonic() - begun < 0.5


def test_progress_is_told_to_people_and_machines() -> None:
    pairs = (PairProgress("a", "d", 5, 50, 10, 100), PairProgress("b", "d", 0, 0, 10, 100))
    half = Progress(5, 20, 50, 200, 5000, 20000, 2.0, pairs)
    assert (half.rate, half.eta) == (25.0, 6.0)
    assert half.describe() == "5/20 slots, 50/200 keys, 5.0 kB of 20 kB, 25 keys/s, 6 s left (a → d 5/10)"
    told = half.as_dict()
    assert (told["keys_per_second"], told["eta"], told["pairs"][1]["slots_total"]) == (25.0, 6.0, 10)
    assert "moved 5 slots with 50 keys (5.0 kB) in 2.0 s" in half.summary()
    assert Progress(0, 0, 0, 0, 0, 0, 0.0).eta is None
