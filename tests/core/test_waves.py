"""Restarts in waves: never two of a shard, never two zones, replicas first, and no fewer waves could do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations

import pytest

from slotwright.core.simulate import simulate
from slotwright.core.steps import Failover
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.core.waves import Rolling, _Item, _order, waves
from tests.core.build import topology
from tests.core.worlds import dead, draw_topology, serving

SIX = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, settings=())
NINE = topology({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}, replicas=2, settings=())
ONE_ZONE = topology({"a": [1, 1, 1, 1, 1, 1]}, settings=(), allow_zone_risk=True)


def every(wanted: Topology) -> frozenset[str]:
    return frozenset(i.name for i in wanted.instances)


def assert_safe(wanted: Topology, view: ClusterView, pending: frozenset[str], rolling: Rolling, most: int) -> None:
    """Plays the waves through."""
    left = set(pending)
    for wave in rolling.waves:
        for step in wave.failovers:
            assert isinstance(step, Failover)
            assert step.node not in left, "handed over to a node that has not been restarted"
            assert step.node not in wave.restarts
            view = simulate(view, [step])
        places = {wanted[name].zone for name in wave.restarts}
        assert len(places) == 1
        members = [view.named_members[name] for name in wave.restarts]
        assert not any(m.id in view.owners for m in members), "a master goes down"
        shards = [m.peer.master for m in members]
        assert len(set(shards)) == len(shards), "two of a shard go down together"
        assert len(wave.restarts) <= (most or len(pending))
        assert set(wave.restarts) <= left
        left -= set(wave.restarts)
    assert not left


@pytest.mark.parametrize(
    ("wanted", "most", "count"), [(SIX, 0, 4), (SIX, 1, 6), (NINE, 0, 5), (NINE, 2, 6), (NINE, 1, 9)]
)
def test_three_zones_take_five_waves_unless_a_zone_may_not_go_down_together(
    wanted: Topology, most: int, count: int
) -> None:
    """Each zone once for its replicas and once for its masters, but for one that comes when the others are done."""
    view = serving(wanted)
    rolling = waves(wanted, view, every(wanted), most=most)
    assert len(rolling.waves) == count
    assert_safe(wanted, view, every(wanted), rolling, most)


def test_where_all_stand_in_one_zone_its_hosts_count_as_zones() -> None:
    view = serving(ONE_ZONE)
    rolling = waves(ONE_ZONE, view, every(ONE_ZONE), most=0)
    assert [len(wave.restarts) for wave in rolling.waves] == [1] * 6
    assert_safe(ONE_ZONE, view, every(ONE_ZONE), rolling, 0)


def test_every_rest_is_planned_again_as_it_was() -> None:
    for wanted in (SIX, NINE):
        for most in (0, 1, 2):
            view, left = serving(wanted), every(wanted)
            planned = waves(wanted, view, left, most=most).waves
            for number, wave in enumerate(planned):
                assert waves(wanted, view, left, most=most).waves == planned[number:]
                for step in wave.failovers:  # cut off between a failover and the restart
                    view = simulate(view, [step])
                    again = waves(wanted, view, left, most=most).waves
                    assert [w.restarts for w in again] == [w.restarts for w in planned[number:]]
                left -= set(wave.restarts)


def test_on_random_clusters_every_wave_is_safe() -> None:
    rng = random.Random(20261122)
    tried = 0
    while tried < 60:
        wanted = draw_topology(rng)
        view = serving(wanted)
        pending = frozenset(n for n in every(wanted) if rng.random() < 0.8 and n in view.named_members)
        most = rng.choice((0, 1, 2, 3))
        rolling = waves(wanted, view, pending, most=most)
        if rolling.refusals:
            assert {f.code for f in rolling.refusals} <= {"no-replica", "no-replica-outside"}
            continue
        tried += 1
        assert rolling.least <= len(rolling.waves)
        if len({i.zone for i in wanted.instances}) > 1:
            assert_safe(wanted, view, pending, rolling, most)


# --- The least ------------------------------------------------------------------------------------------------------


def _choices(items: list[_Item], left: frozenset[int], most: int) -> Iterator[frozenset[int]]:
    for place in {items[n].place for n in left}:
        ready = [
            n
            for n in left
            if items[n].place == place
            and not (items[n].master and any(o != n and items[o].shard == items[n].shard for o in left))
        ]
        for size in range(1, min(len(ready), most or len(items)) + 1):
            for some in combinations(ready, size):
                if len({items[n].shard for n in some}) == size:
                    yield frozenset(some)


def _fewest(items: list[_Item], most: int) -> int:
    """By trying everything."""
    states, count = {frozenset(range(len(items)))}, 0
    while frozenset() not in states:
        states = {left - some for left in states for some in _choices(items, left, most)}
        count += 1
    return count


def test_no_other_order_has_fewer_waves() -> None:
    rng = random.Random(7)
    for _ in range(150):
        places = "abc"[: rng.randint(1, 3)]
        items: list[_Item] = []
        for shard in range(rng.randint(1, 4)):
            members = rng.randint(1, 3)
            for member in range(members):
                master = member == 0 and members > 1 and rng.random() < 0.8
                items.append(_Item(f"{shard}-{member}", rng.choice(places), str(shard), master))
        items = items[:7]
        most = rng.choice((0, 1, 2, 3))
        order, least = _order(items, list(places), most)
        assert len(order) == least == _fewest(items, most), (items, most)


def test_a_large_cluster_is_ordered_in_a_moment() -> None:
    wanted = topology({zone: [1] * 30 for zone in "abcde"}, replicas=2, settings=())
    view = serving(wanted)
    rolling = waves(wanted, view, every(wanted), most=10)
    assert_safe(wanted, view, every(wanted), rolling, 10)
    assert len(rolling.waves) <= 17


# --- Replicas first -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "count"), [(SIX, 6), (NINE, 6)])
def test_no_master_is_handed_over_before_all_replicas_have_been_restarted(wanted: Topology, count: int) -> None:
    view, left = serving(wanted), every(wanted)
    replicas = {n for n in left if not view.by_name[n].myself.is_master}
    planned = waves(wanted, view, left, most=0, replicas_first=True).waves
    assert len(planned) == count
    assert_safe(wanted, view, left, Rolling(planned), 0)
    for number, wave in enumerate(planned):
        assert waves(wanted, view, left, most=0, replicas_first=True).waves == planned[number:]
        assert waves(wanted, view, left, most=0, replicas_first=True, first=True).waves == (wave,)
        assert not wave.failovers or not left & replicas
        for step in wave.failovers:
            view = simulate(view, [step])
        left -= set(wave.restarts)


# --- What is refused ------------------------------------------------------------------------------------------------


def test_what_cannot_be_restarted_without_a_gap_is_refused_by_name() -> None:
    bare = topology({"a": [1], "b": [1], "c": [1]}, replicas=0, settings=(), allow_zone_risk=True)
    rolling = waves(bare, serving(bare), frozenset(["b1:7001"]), most=0)
    assert [(f.code, f.where) for f in rolling.refusals] == [("no-replica", "node b1:7001")]
    view = dead(serving(SIX), "a2:7001")
    rolling = waves(SIX, view, frozenset(["a2:7001"]), most=0)
    assert [(f.code, f.where) for f in rolling.refusals] == [("not-reachable", "node a2:7001")]
