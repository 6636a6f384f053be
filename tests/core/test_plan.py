"""A plan leads from what is there to what is wanted, and after any prefix of it the rest is the plan."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwright.core.invariants import violations
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import AssignSlots, Configure, Meet, Replicate, SetEpoch, Step, obstacle
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Silence, union
from slotwright.errors import Severity
from tests.core.build import THREE_ZONES, blank_node, blank_view, topology
from tests.soak import SOAK


def kinds(steps: tuple[Step, ...]) -> list[str]:
    return [kind.__name__ for kind, _ in groupby(steps, type)]


def test_blank_nodes_are_hurried_numbered_given_slots_joined_made_replicas_and_settled() -> None:
    wanted = topology(THREE_ZONES)
    steps = plan(wanted, blank_view(wanted)).steps
    assert kinds(steps) == ["Configure", "SetEpoch", "AssignSlots", "Meet", "Replicate", "Configure"]
    assert [s.describe() for s in steps if isinstance(s, AssignSlots | Replicate)] == [
        "a1:7001: take the unowned slots 0-5461 (5462)",
        "b1:7001: take the unowned slots 5462-10922 (5461)",
        "c1:7001: take the unowned slots 10923-16383 (5461)",
        *(s.describe() for s in steps if isinstance(s, Replicate)),
    ]
    assert len({s.master for s in steps if isinstance(s, Replicate)}) == 3


def test_the_end_of_the_plan_is_healthy_and_needs_nothing_more() -> None:
    wanted = topology({"a": [2, 2, 2], "b": [2, 2, 2], "c": [2, 2, 2]}, replicas=2, shards=6)
    view = blank_view(wanted)
    after = simulate(view, plan(wanted, view).steps)
    assert plan(wanted, after).steps == ()
    assert violations(wanted, after) == ()
    assert all(n.settings == wanted.settings for n in after.nodes)


def test_without_settings_nothing_is_hurried() -> None:
    wanted = topology(THREE_ZONES, settings=())
    assert Configure not in {type(s) for s in plan(wanted, blank_view(wanted)).steps}


def test_a_serving_cluster_is_never_hurried() -> None:
    small, grown = topology({"a": [1], "b": [1], "c": [1]}, replicas=0), topology(THREE_ZONES, shards=3)
    view = simulate(blank_view(small), plan(small, blank_view(small)).steps)
    more = ClusterView(tuple(view.by_name.get(i.name) or blank_node(i) for i in grown.instances))
    assert kinds(plan(grown, more).steps) == ["SetEpoch", "Meet", "Replicate"]


def test_more_than_thirty_nodes_meet_over_a_graph_of_few_neighbours() -> None:
    wanted = topology({z: [4] * 5 for z in "abcde"}, replicas=1)
    meets = [s for s in plan(wanted, blank_view(wanted)).steps if isinstance(s, Meet)]
    assert len(meets) == len(wanted.instances) - 1 == 99
    assert max(len(m.peers) for m in meets[30:]) <= 7
    assert len(simulate(blank_view(wanted), meets).components) == 1


def test_a_replica_of_an_older_series_than_its_master_is_refused() -> None:
    wanted = topology(THREE_ZONES)
    nodes = [blank_node(i, "6.2.14" if i.name == "a2:7001" else "7.0.15") for i in wanted.instances]
    made = plan(wanted, ClusterView(tuple(nodes)))
    assert [(f.code, f.where) for f in made.refusals] == [("replica-too-old", "node a2:7001 (127.31.2.1:7001)")]
    assert [f.code for f in made.findings] == ["mixed-versions"]


def test_a_dead_member_keeps_its_slots() -> None:
    wanted = topology(THREE_ZONES)
    view = simulate(blank_view(wanted), plan(wanted, blank_view(wanted)).steps)
    dead = view.by_name["a1:7001"]
    silence = Silence(dead.name, dead.endpoint, "refused", "nothing listens", "start it")
    left = ClusterView(tuple(n for n in view.nodes if n is not dead), (silence,))
    made = plan(wanted, left)
    assert (made.steps, made.refusals) == ((), ())
    assert left.unowned == Slots()


def test_a_node_that_the_others_do_not_know_back_is_met_again() -> None:
    wanted = topology(THREE_ZONES)
    view = simulate(blank_view(wanted), plan(wanted, blank_view(wanted)).steps[:-9])
    lost = view.by_name["c2:7001"]
    forgotten = tuple(
        n if n is lost else replace(n, peers=tuple(p for p in n.peers if p.id != lost.id)) for n in view.nodes
    )
    steps = plan(wanted, ClusterView(forgotten)).steps
    assert [type(s) for s in steps if s.node == "c2:7001"][:1] == [Meet]
    assert len(simulate(ClusterView(forgotten), steps).components) == 1


def test_more_shards_than_there_are_are_made_and_take_slots_from_all() -> None:
    wanted = topology(THREE_ZONES)
    view = simulate(blank_view(wanted), plan(wanted, blank_view(wanted)).steps)
    grown = topology({"a": [1] * 4, "b": [1] * 3, "c": [1] * 3})
    nodes = tuple(view.by_name.get(i.name) or blank_node(i) for i in grown.instances)
    made = plan(grown, ClusterView(nodes))
    assert made.refusals == ()
    assert sorted(map(len, simulate(ClusterView(nodes), made.steps).owners.values())) == [3276] + [3277] * 4


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_the_inventory_names_its_hosts_does_not_matter(seed: int) -> None:
    wanted = topology({"a": [2, 1], "b": [1, 2], "c": [3]}, replicas=1)
    mixed = replace(wanted, instances=wanted.instances[seed + 1 :] + wanted.instances[: seed + 1])
    assert plan(mixed, blank_view(mixed)) == plan(wanted, blank_view(wanted))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    zones = draw(st.integers(1, 5))
    hosts = st.lists(st.integers(1, 3), min_size=1, max_size=4)
    sizes = {chr(ord("a") + z): draw(hosts) for z in range(zones)}
    count = sum(map(sum, sizes.values()))
    replicas = draw(st.integers(0, 2))
    shards = draw(st.one_of(st.none(), st.integers(3, max(3, count // (replicas + 1)))))
    return topology(sizes, replicas, shards, allow_zone_risk=draw(st.booleans()))


@st.composite
def half_made(draw: st.DrawFn) -> tuple[Topology, ClusterView]:
    """A creation cut off anywhere: whole stages, then any part of the next one."""
    wanted = draw(topologies())
    view = blank_view(wanted)
    stages = [list(group) for _, group in groupby(plan(wanted, view).steps, type)]
    if stages:
        cut = draw(st.integers(0, len(stages) - 1))
        part = draw(st.sets(st.sampled_from(range(len(stages[cut])))))
        done = [s for stage in stages[:cut] for s in stage] + [stages[cut][i] for i in sorted(part)]
        view = simulate(view, done)
    if draw(st.booleans()):
        lost = draw(st.sampled_from(view.nodes)).id
        view = ClusterView(
            tuple(
                n if n.id == lost else replace(n, peers=tuple(p for p in n.peers if p.id != lost)) for n in view.nodes
            )
        )
    return wanted, view


@st.composite
def changed(draw: st.DrawFn) -> tuple[Topology, ClusterView]:
    """A finished cluster under another inventory: some of its zones renamed, some nodes new, some slots lost."""
    wanted, _ = draw(half_made())
    made = plan(wanted, blank_view(wanted))
    done = simulate(blank_view(wanted), made.steps)
    zones = {z: draw(st.sampled_from([z, z, "a", "b", "x"])) for z in wanted.zones}
    anew = draw(st.sets(st.sampled_from([i.name for i in wanted.instances])))
    moved = tuple(replace(i, zone=zones[i.zone]) for i in wanted.instances)
    spared = [n for n in done.nodes if n.name not in anew or n.myself.slots or done.replicas_of(n.id)]
    kept = {n.id for n in spared}
    nodes = {n.name: replace(n, peers=tuple(p for p in n.peers if p.id in kept)) for n in spared}
    view = ClusterView(tuple(nodes.get(i.name) or blank_node(i) for i in wanted.instances))
    return replace(wanted, instances=moved), view


@given(st.one_of(half_made(), changed()))
@settings(max_examples=600 if SOAK else 20)
def test_after_any_prefix_of_the_plan_the_rest_is_the_plan(case: tuple[Topology, ClusterView]) -> None:
    wanted, view = case
    made = plan(wanted, view)
    assert plan(wanted, view) == made, "not deterministic"
    for k in range(len(made.steps) + 1):
        assert plan(wanted, simulate(view, made.steps[:k])).steps == made.steps[k:]


@given(half_made())
@settings(max_examples=80)
def test_whatever_was_cut_off_ends_as_if_it_had_not_been(case: tuple[Topology, ClusterView]) -> None:
    wanted, view = case
    whole, rest = plan(wanted, blank_view(wanted)), plan(wanted, view)
    assert rest.refusals == whole.refusals
    end, same = simulate(view, rest.steps), simulate(blank_view(wanted), whole.steps)
    assert end == same
    if not whole.refusals:
        assert union(end.owners.values()) == ALL_SLOTS
        broken = [f for f in violations(wanted, end) if f.severity is Severity.ERROR]
        assert wanted.allow_zone_risk or not broken


@given(st.one_of(half_made(), changed()))
@settings(max_examples=80)
def test_no_step_meets_an_obstacle_when_its_turn_comes(case: tuple[Topology, ClusterView]) -> None:
    wanted, view = case
    for step in plan(wanted, view).steps:
        assert obstacle(step, view) is None
        view = simulate(view, [step])


def test_the_property_covers_every_kind_of_step() -> None:
    wanted = topology(THREE_ZONES)
    assert {type(s) for s in plan(wanted, blank_view(wanted)).steps} == {
        Configure, SetEpoch, AssignSlots, Meet, Replicate,
    }  # fmt: skip
