"""Placement against solvers that share no code with it: never worse, and the same verdict on what is possible."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.core.placement import Placement, place
from slotwright.core.topology import Topology
from slotwright.errors import Refused
from tests.core.oracle import broken_rules, brute_force, draw, exact_all, exact_evenness, risk, score, topology
from tests.soak import SOAK

MORE = 10 if SOAK else 1
INVENTORIES = 350 * MORE
RISKY = 60 * MORE
TINY = 60 * MORE


def _place(wanted: Topology) -> Placement | None:
    try:
        return place(wanted)
    except Refused:
        return None


@pytest.mark.timeout(100 * MORE)
def test_no_mixed_integer_program_finds_a_better_placement_or_another_verdict(tried: Callable[[str], None]) -> None:
    rng = random.Random(20261121)
    counts = Counter[str]()
    for _ in range(INVENTORIES):
        wanted = draw(rng)
        placement = _place(wanted)
        best = exact_evenness(wanted)
        shape = f"{len(wanted.zones)} zones, {wanted.replicas} replicas"
        counts[f"{shape}: {'placed' if placement else 'refused'}"] += 1
        assert (placement is None) == (best is None), wanted
        if placement is None:
            continue
        assert broken_rules(wanted, placement) == [], wanted
        mark = score(wanted, placement)
        assert mark[:3] == best, wanted
        counts[f"load spread: {_prove_spread(wanted, placement, mark)}"] += 1
    tried("; ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    assert sum(counts[f"load spread: {how}"] for how in ("by the bound", "by the program")) > INVENTORIES / 2


def _prove_spread(wanted: Topology, placement: Placement, mark: tuple[int, int, int, int]) -> str:
    """Prove criterion 4: no two units share a pair of hosts, or the program over all masters and pairs agrees."""
    if mark[3] == wanted.shards * wanted.replicas:
        return "by the bound"
    try:
        assert exact_all(wanted, risk_allowed=False, seconds=3) == mark, wanted
    except TimeoutError:
        assert exact_all(wanted, risk_allowed=False, fixed=placement) == mark[3:], wanted
        return "for these masters only"
    return "by the program"


@pytest.mark.timeout(100 * MORE)
def test_where_zone_rules_must_give_way_no_program_breaks_them_less(tried: Callable[[str], None]) -> None:
    rng = random.Random(4)
    counts = Counter[str]()
    while sum(counts.values()) < RISKY:
        wanted = replace(draw(rng), allow_zone_risk=True)
        too_few = wanted.shards < 3 or len(wanted.instances) < wanted.shards * (wanted.replicas + 1)
        strict = replace(wanted, allow_zone_risk=False)
        if too_few or len(wanted.zones) == 1 or len(wanted.hosts) > 10 or _place(strict):
            continue
        placement = _place(wanted)
        try:
            best = exact_all(wanted, risk_allowed=True, seconds=3)
        except TimeoutError:
            continue
        counts["placed with risk" if placement else "refused for the hosts"] += 1
        assert (placement is None) == (best is None), wanted
        if placement is None:
            continue
        assert broken_rules(wanted, placement, zones_too=False) == [], wanted
        (pairs, missed), mark = risk(wanted, placement), score(wanted, placement)
        assert (pairs, *mark[:3], missed, mark[3]) == best, wanted
        assert placement.risks, wanted
    tried("; ".join(f"{count} {what}" for what, count in sorted(counts.items())))


@pytest.mark.timeout(100 * MORE)
def test_trying_every_assignment_of_a_few_instances_finds_nothing_better(tried: Callable[[str], None]) -> None:
    rng = random.Random(3)
    counts = Counter[str]()
    for _ in range(TINY):
        replicas = rng.choice((0, 1, 1, 2))
        total = rng.randint(3 * (replicas + 1), 8 if replicas < 2 else 9)
        zones: list[list[int]] = [[] for _ in range(rng.randint(1, 4))]
        left = total
        while left:
            size = min(left, rng.randint(1, 3))
            rng.choice(zones).append(size)
            left -= size
        wanted = topology([z for z in zones if z], replicas, 3 if replicas else rng.randint(3, min(total, 5)))
        placement, best = _place(wanted), brute_force(wanted)
        counts["placed" if placement else "refused"] += 1
        assert (placement and score(wanted, placement)) == best, wanted
    tried("; ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    assert min(counts["placed"], counts["refused"]) > TINY / 10
