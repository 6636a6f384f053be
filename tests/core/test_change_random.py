"""Random clusters that something has happened to, and random inventories: what every plan for them keeps.

The clusters have up to 20 nodes in one to five zones and none to two replicas, after up to five failovers, moved slots,
re-homed or reset replicas, open slots and deaths; the inventories add and remove hosts and zones, shards and replicas.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest

from slotwright.core.placement import place
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import Slots
from slotwright.core.steps import Detach, Failover, MoveSlots, Replicate, obstacle
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from tests.core.oracle_changes import Cost, brute_force, least_cost
from tests.core.worlds import World, draw, draw_tiny
from tests.soak import SOAK

# Those for which a plan was wrong once come first.
FOUND = (304, 354)
WORLDS = (*FOUND, *range(1040 if SOAK else 50))
EVERY_PREFIX = 260 if SOAK else 25  # below this seed
TINY = 120 if SOAK else 20
LONG = pytest.mark.timeout(7200 if SOAK else 600)


@cache
def world(seed: int) -> World:
    return draw(random.Random(seed))


@cache
def planned(seed: int) -> Plan:
    return plan(world(seed).topology, world(seed).view)


def views(seed: int) -> Iterator[ClusterView]:
    """The view before the plan, and after each of its steps."""
    view = world(seed).view
    yield view
    for step in planned(seed).steps:
        view = simulate(view, [step])
        yield view


@LONG
def test_after_any_prefix_of_the_plan_the_rest_is_the_plan(tried: Callable[[str], None]) -> None:
    counts = Counter[str]()
    for seed in WORLDS:
        here, made = world(seed), planned(seed)
        assert made.refusals == (), (seed, here.story)
        steps, rng = made.steps, random.Random(seed)
        prefixes = range(1, len(steps) + 1)
        if seed >= EVERY_PREFIX and len(steps) > 3:
            prefixes = sorted({1, len(steps), *rng.sample(prefixes, 1)})  # type: ignore[assignment]
        for k in prefixes:
            rest = plan(here.topology, simulate(here.view, steps[:k]))
            assert rest.steps == steps[k:], (seed, k, here.story)
        counts["pairs"] += 1
        counts["prefixes"] += len(prefixes)
        counts["pairs with all their prefixes"] += len(prefixes) == len(steps)
        counts["steps"] += len(steps)
    tried(", ".join(f"{count} {what}" for what, count in counts.items()))


def test_every_step_can_be_done_in_its_turn_and_every_kind_of_step_occurs(tried: Callable[[str], None]) -> None:
    kinds = Counter[str]()
    for seed in WORLDS:
        for step, view in zip(planned(seed).steps, views(seed), strict=False):
            assert obstacle(step, view) is None, (seed, step.describe(), obstacle(step, view))
            kinds[type(step).__name__] += 1
    tried(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    assert {"SetEpoch", "Meet", "Replicate", "MoveSlots", "Failover", "Remove", "Detach"} <= kinds.keys()


def copies(wanted: Topology, view: ClusterView) -> list[tuple[Slots, int, int]]:
    """Per shard its slots, how many answering replicas it has, and how many of those away from its master."""
    found = []
    for owner, slots in view.owners.items():
        home = wanted[view.name_of(owner)]
        replicas = [wanted[r.name] for r in view.replicas_of(owner) if r.alive]
        zoned = len(wanted.zones) > 1
        away = sum(r.host != home.host and not (zoned and r.zone == home.zone) for r in replicas)
        found.append((slots, len(replicas), away))
    return found


def beyond(wanted: Topology, view: ClusterView) -> int:
    """Masters that zones have more than may be lost with one of them."""
    if len(wanted.zones) < 3:
        return 0
    zones = Counter(wanted[view.name_of(owner)].zone for owner in view.owners)
    return sum(max(0, n - ((len(view.owners) + 1) // 2 - 1)) for n in zones.values())


def test_at_no_time_is_a_slot_worse_off_than_both_before_and_after_unless_a_finding_says_so(
    tried: Callable[[str], None],
) -> None:
    """No slot without an owner; as many copies, as many of them away from the master, no zone fuller of masters."""
    counts = Counter[str]()
    for seed in WORLDS:
        wanted, made = world(seed).topology, planned(seed)
        dips = any(f.code == "redundancy-dips" for f in made.findings)
        counts["with a finding" if dips else "never worse"] += 1
        every = list(views(seed))
        before, after = copies(wanted, every[0]), copies(wanted, every[-1])
        for view in every:
            assert view.unowned <= every[0].unowned
            if not dips:
                assert beyond(wanted, view) <= max(beyond(wanted, every[0]), beyond(wanted, every[-1])), seed
            for slots, count, away in copies(wanted, view):
                for had, count_before, away_before in before:
                    for has, count_after, away_after in after if slots & had else ():
                        if slots & had & has and not dips:
                            assert count >= min(count_before, count_after, wanted.replicas), (seed, str(slots))
                            assert away >= min(away_before, away_after, wanted.replicas), (seed, str(slots))
    tried(", ".join(f"{count} {what}" for what, count in counts.items()))
    assert counts["with a finding"] < len(WORLDS) / 10


def spent(wanted: Topology, view: ClusterView, made: Plan) -> Cost:
    """What a plan costs, read off its steps; see Cost."""
    part = (lambda i: i.zone) if len(wanted.zones) > 1 else (lambda i: i.host)
    fullest = most(wanted)
    slots = syncs = failovers = 0
    for step in made.steps:
        if isinstance(step, MoveSlots) and step.node != step.target:  # else marks are taken away
            slots += len(step.slots & view.by_name[step.node].myself.slots)
        syncs += isinstance(step, Replicate | Detach) and step.node not in made.spares
        failovers += isinstance(step, Failover)
        view = simulate(view, [step])
    masters = Counter(part(wanted[view.name_of(owner)]) for owner in view.owners)
    return len(made.spares), slots, syncs, sum(max(0, n - fullest) for n in masters.values()), failovers


def most(wanted: Topology) -> int:
    """Masters in the fullest zone of the best placement; where there is one zone, on the fullest host."""
    part = (lambda i: i.zone) if len(wanted.zones) > 1 else (lambda i: i.host)
    return max(Counter(part(wanted[s.master]) for s in place(wanted).shards).values())


@LONG
def test_no_program_finds_a_cheaper_change(tried: Callable[[str], None]) -> None:
    counts = Counter[str]()
    for seed in WORLDS:
        here = draw(random.Random(seed), deaths=False)
        wanted = replace(here.topology, slack=0.0)
        made = plan(wanted, here.view)
        cost = spent(wanted, here.view, made)
        assert cost == least_cost(wanted, here.view, most(wanted)), (seed, here.story)
        counts["pairs"] += 1
        for what, amount in zip(("spares", "slots", "full syncs", "masters too many", "failovers"), cost, strict=True):
            counts[what] += amount
    tried(", ".join(f"{count} {what}" for what, count in counts.items()))


@LONG
def test_trying_every_layout_of_a_few_nodes_finds_no_cheaper_change(tried: Callable[[str], None]) -> None:
    costs = Counter[bool]()
    for seed in range(TINY):
        here = draw_tiny(random.Random(seed))
        wanted = replace(here.topology, slack=0.0)
        cost = spent(wanted, here.view, plan(wanted, here.view))
        assert cost == brute_force(wanted, here.view, most(wanted)), (seed, here.story)
        costs[any(cost)] += 1
    tried(f"{TINY} pairs, {costs[True]} of them with something to do")
    assert costs[True] > TINY / 3


def test_the_order_in_which_things_are_told_does_not_matter() -> None:
    for seed in range(60):
        rng, here = random.Random(seed), world(seed)
        mixed = replace(
            here.topology,
            instances=tuple(rng.sample(here.topology.instances, len(here.topology.instances))),
            leaving=tuple(rng.sample(here.topology.leaving, len(here.topology.leaving))),
        )
        nodes = tuple(replace(n, peers=tuple(rng.sample(n.peers, len(n.peers)))) for n in here.view.nodes)
        assert plan(mixed, ClusterView(nodes, here.view.silent[::-1])) == planned(seed), seed
