"""Who takes whose place where hosts and zones are emptied of masters: never what loses, and evenly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from slotwright.core.handover import empty, majority, may_be_stopped, named, promote, restore, zone_limit
from slotwright.core.invariants import LAG_LIMIT
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate
from slotwright.core.steps import Failover, Replicate, obstacle
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Refused
from tests.core.build import instances, topology
from tests.core.worlds import World, dead, draw_topology, happen, serving, with_blanks

SIX = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, settings=())
NINE = topology({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}, replicas=2, settings=())
FIFTEEN = topology({"a": [1] * 5, "b": [1] * 5, "c": [1] * 5}, replicas=2, settings=())


def masters(view: ClusterView) -> list[str]:
    return sorted(view.name_of(i) for i in view.owners)


def with_offset(view: ClusterView, offsets: dict[str, int], **fields: object) -> ClusterView:
    """Replication offsets by node name, and other replication fields of these nodes."""
    nodes = tuple(
        replace(n, replication=replace(n.replication, offset=offsets[n.name], **fields)) if n.name in offsets else n  # type: ignore[arg-type]
        for n in view.nodes
    )
    return ClusterView(nodes, view.silent)


def replicas_of(view: ClusterView, master: str) -> list[str]:
    return sorted(r.name for r in view.replicas_of(view.by_name[master].id))


def codes(made: Plan) -> list[str]:
    return [f.code for f in made.refusals]


def assert_same_rest(wanted: Topology, view: ClusterView, emptied: frozenset[str]) -> None:
    """Wherever the plan is cut off, the rest is planned again as it was."""
    steps = empty(wanted, view, emptied).steps
    for k in range(len(steps) + 1):
        assert empty(wanted, simulate(view, steps[:k]), emptied).steps == steps[k:], k


# --- Names ----------------------------------------------------------------------------------------------------------


def test_a_word_means_a_host_a_zone_or_an_instance() -> None:
    assert named(SIX, ["a1"]) == {"a1:7001"}
    assert named(SIX, ["a"]) == {"a1:7001", "a2:7001"}
    assert named(SIX, ["b1:7001", "c"]) == {"b1:7001", "c1:7001", "c2:7001"}
    assert named(SIX, [SIX["b2:7001"].endpoint]) == {"b2:7001"}


def test_a_word_that_means_nothing_is_refused_unless_it_is_of_another_cluster() -> None:
    with pytest.raises(Refused) as refused:
        named(SIX, ["z", "a1:9"])
    assert [(f.code, f.where) for f in refused.value.findings] == [("unknown-name", "«z»"), ("unknown-name", "«a1:9»")]
    assert named(SIX, ["z"], [Instance("q1:1", "q1", "z", "127.0.0.9", 1)]) == set()


def test_a_word_that_is_a_host_and_another_zone_is_refused() -> None:
    mixed = replace(SIX, instances=tuple(replace(i, host="b") if i.host == "a1" else i for i in SIX.instances))
    with pytest.raises(Refused, match="a host and of a zone"):
        named(mixed, ["b"])


# --- Emptying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [SIX, NINE, FIFTEEN], ids=["six", "nine", "fifteen"])
@pytest.mark.parametrize("word", ["a", "b", "c", "a1", "b1", "c1:7001"])
def test_no_master_is_left_and_the_rest_of_a_plan_is_the_plan_of_the_rest(wanted: Topology, word: str) -> None:
    view, emptied = serving(wanted), named(wanted, [word])
    made = empty(wanted, view, emptied)
    assert not made.refusals
    after = simulate(view, made.steps)
    assert not emptied & set(masters(after))
    assert may_be_stopped(wanted, after, emptied)[0] is True
    assert may_be_stopped(wanted, view, emptied)[0] is not bool(made.steps)
    assert len(made.steps) == len(emptied & set(masters(view)))
    assert_same_rest(wanted, view, emptied)
    assert empty(wanted, after, emptied) == Plan()


def test_a_zone_that_must_become_too_full_is_named() -> None:
    view = serving(SIX)
    [finding] = empty(SIX, view, named(SIX, ["a"])).findings
    assert finding.code == "zone-too-full"
    assert "2 of 3 masters" in finding.what


def test_masters_of_a_zone_are_spread_evenly_over_the_others() -> None:
    wanted = topology({"a": [1] * 6, "b": [1] * 6, "c": [1] * 6, "d": [1] * 6, "e": [1] * 6}, replicas=2, settings=())
    view = serving(wanted)
    made = empty(wanted, view, named(wanted, ["a"]))
    assert len(made.steps) == 2
    then = Counter(wanted[name].zone for name in masters(simulate(view, made.steps)))
    assert sorted(then.values()) == [2, 2, 3, 3]
    assert made.findings == ()


def test_a_master_whose_replicas_are_all_to_be_emptied_is_refused_by_name() -> None:
    view = serving(SIX)
    [one, *_] = masters(view)
    made = empty(SIX, view, frozenset([one, *replicas_of(view, one)]))
    assert made.steps == ()
    assert [(f.code, f.where) for f in made.refusals] == [("no-replica-outside", f"node {one}")]


@pytest.mark.parametrize(
    ("behind", "fields", "reason"),
    [
        (LAG_LIMIT + 1, {}, "bytes behind"),
        (0, {"link_up": False}, "has no link"),
        (0, {"syncing": True}, "is copying"),
    ],
)
def test_a_master_without_a_replica_in_sync_is_refused_with_the_reason(
    behind: int, fields: dict[str, object], reason: str
) -> None:
    view = serving(SIX)
    [one, *_] = masters(view)
    [replica] = replicas_of(view, one)
    far = 2 * LAG_LIMIT
    view = with_offset(with_offset(view, {one: far}), {replica: far - behind}, **fields)
    made = empty(SIX, view, frozenset([one]))
    assert codes(made) == ["no-replica-in-sync"]
    assert reason in made.refusals[0].what and replica in made.refusals[0].what
    assert promote(SIX, view, [replica]).refusals[0].what == made.refusals[0].what


def test_every_refusal_is_told_and_nothing_is_planned() -> None:
    view = serving(SIX)
    all_of_them = frozenset(i.name for i in SIX.instances)
    made = empty(SIX, view, all_of_them)
    assert (made.steps, codes(made)) == ((), ["no-replica-outside"] * 3)


def test_the_nearer_of_two_replicas_is_taken_but_not_for_a_few_bytes() -> None:
    view = serving(NINE)
    [one, *_] = masters(view)
    first, second = replicas_of(view, one)
    at = 5_000_000
    for near, far, expected in ((at, at - 10, second), (at, at - 3_000_000, second), (at - 10, at, first)):
        seen = with_offset(view, {one: at, second: near, first: far})
        [step] = empty(NINE, seen, frozenset([one])).steps
        zones = Counter(NINE[name].zone for name in masters(simulate(seen, [step])))
        even = {r: Counter(NINE[name].zone for name in masters(simulate(seen, [Failover(r)]))) for r in (first, second)}
        assert sum(n * n for n in zones.values()) == min(sum(n * n for n in e.values()) for e in even.values())
        if abs(near - far) > 1_000_000:
            assert step.node == expected


def _value(wanted: Topology, view: ClusterView, after: Sequence[str]) -> tuple[int, int, int]:
    zones = Counter(wanted[name].zone for name in after)
    hosts = Counter(wanted[name].host for name in after)
    limit = zone_limit(wanted, len(after))
    excess = sum(max(0, n - limit) for n in zones.values())
    return excess, sum(n * n for n in zones.values()), sum(n * n for n in hosts.values())


def test_no_other_choice_of_replicas_is_better_on_random_clusters() -> None:
    """Every choice is tried."""
    rng = random.Random(4)
    compared = several = 0
    while several < 40:
        wanted = draw_topology(rng)
        world = World(wanted, serving(wanted))
        for _ in range(rng.choice((0, 1, 3))):
            happen(rng, world, deaths=False, kinds=("failover", "failover", "rehome"))
        view = world.view
        words = rng.choice(([rng.choice(wanted.zones)], rng.sample(wanted.hosts, min(len(wanted.hosts), 3))))
        emptied = named(wanted, words)
        made = empty(wanted, view, emptied)
        going = [name for name in masters(view) if name in emptied]
        choices = [[r for r in replicas_of(view, name) if r not in emptied] for name in going]
        assert bool(made.refusals) == any(not c for c in choices), world.story
        if made.refusals:
            continue
        stay = [name for name in masters(view) if name not in emptied]
        best = min(_value(wanted, view, [*stay, *chosen]) for chosen in product(*choices))
        assert _value(wanted, view, masters(simulate(view, made.steps))) == best, (words, world.story)
        assert_same_rest(wanted, view, emptied)
        compared += 1
        several += len(made.steps) > 1
    assert compared > 60


# --- Masters that do not answer -------------------------------------------------------------------------------------


def test_a_silent_master_is_handed_over_by_force_only_and_to_the_replica_with_most_data() -> None:
    view = serving(NINE)
    [one, *_] = masters(view)
    first, second = replicas_of(view, one)
    view = with_offset(dead(view, one), {first: 100, second: 101}, link_up=False)
    assert codes(empty(NINE, view, frozenset([one]))) == ["master-silent"]
    assert empty(NINE, view, frozenset([one]), "force").steps == (Failover(second, "force"),)
    other = with_offset(view, {first: 102}, link_up=False)
    assert empty(NINE, other, frozenset([one]), "force").steps == (Failover(first, "force"),)
    assert empty(NINE, with_offset(view, {second: 101}, syncing=True), frozenset([one]), "force").steps == (
        Failover(first, "force"),
    )


def test_a_replica_without_data_never_takes_over() -> None:
    view = serving(SIX)
    [one, *_] = masters(view)
    [replica] = replicas_of(view, one)
    view = dead(view, one)
    view = ClusterView(
        tuple(replace(n, keys=0) if n.name == replica else n for n in with_offset(view, {replica: 0}).nodes),
        view.silent,
    )
    for mode in ("force", "takeover"):
        made = empty(SIX, view, frozenset([one]), mode)  # type: ignore[arg-type]
        assert codes(made) == ["no-replica-in-sync"]
        assert "has no data" in made.refusals[0].what
        blank = ClusterView(tuple(replace(n, keys=0) for n in view.nodes), view.silent)
        assert not empty(SIX, blank, frozenset([one]), mode).refusals  # type: ignore[arg-type]


def test_without_a_majority_nothing_but_a_takeover_is_possible() -> None:
    view = serving(SIX)
    one, two, three = masters(view)
    lost = dead(view, one, two)
    assert majority(lost) == (1, 2)
    for mode in ("plain", "force"):
        assert codes(empty(SIX, lost, frozenset([one, two]), mode)) == ["no-majority"] * 2  # type: ignore[arg-type]
        assert codes(empty(SIX, lost, frozenset([three]), mode)) == ["no-majority"]  # type: ignore[arg-type]
    made = empty(SIX, lost, frozenset([one, two]), "takeover")
    assert {s.mode for s in made.steps if isinstance(s, Failover)} == {"takeover"}
    after = simulate(lost, made.steps)
    assert not {one, two} & set(masters(after))
    for k in range(3):
        rest = empty(SIX, simulate(lost, made.steps[:k]), frozenset([one, two]), "takeover")
        assert rest.steps == made.steps[k:]


def test_the_gentlest_way_that_can_do_it_is_taken() -> None:
    view = serving(SIX)
    one, two, _ = masters(view)
    made = empty(SIX, dead(view, one), frozenset([one, two]), "force")
    assert [s.mode for s in made.steps if isinstance(s, Failover)] == ["force", "plain"]
    made = empty(SIX, dead(view, one), frozenset([one]), "takeover")
    assert "takeover-not-needed" in [f.code for f in made.findings]


def test_a_silent_master_that_nobody_else_misses_is_told() -> None:
    view = serving(SIX)
    [one, *_] = masters(view)
    missed = dead(view, one)
    unmissed = ClusterView(tuple(n for n in view.nodes if n.name != one), missed.silent)
    told = [
        [f.code for f in empty(SIX, seen, frozenset([one]), "force").findings if f.code == "master-may-live"]
        for seen in (missed, unmissed)
    ]
    assert told == [[], ["master-may-live"]]


# --- Replicas by name -----------------------------------------------------------------------------------------------


def test_a_replica_by_name_takes_over_and_then_there_is_nothing_to_do() -> None:
    view = serving(SIX)
    [one, *_] = masters(view)
    [replica] = replicas_of(view, one)
    made = promote(SIX, view, [replica])
    assert made.steps == (Failover(replica),)
    assert promote(SIX, simulate(view, made.steps), [replica]) == Plan()


def test_two_replicas_of_one_master_and_a_dead_one_are_refused() -> None:
    view = serving(NINE)
    [one, two, _] = masters(view)
    both = replicas_of(view, one)
    assert codes(promote(NINE, view, both)) == ["two-for-one"] * 2
    gone = replicas_of(view, two)[0]
    assert codes(promote(NINE, dead(view, gone), [gone])) == ["not-reachable"]


# --- Back -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [SIX, NINE, FIFTEEN], ids=["six", "nine", "fifteen"])
@pytest.mark.parametrize("word", ["a", "b", "c", "a1"])
def test_roles_go_back_to_as_even_a_layout_as_before(wanted: Topology, word: str) -> None:
    view = serving(wanted)
    away = simulate(view, empty(wanted, view, named(wanted, [word])).steps)
    made = restore(wanted, away)
    assert all(isinstance(step, Failover) for step in made.steps)
    back = simulate(away, made.steps)
    zones = [Counter(wanted[name].zone for name in masters(v)) for v in (view, back)]
    assert sorted(zones[0].values()) == sorted(zones[1].values())
    assert plan(wanted, back).steps == ()
    for k in range(len(made.steps) + 1):
        assert restore(wanted, simulate(away, made.steps[:k])).steps == made.steps[k:]


def test_what_is_more_than_failovers_is_left_to_site_yml_and_said() -> None:
    view = serving(SIX)
    away = simulate(view, empty(SIX, view, named(SIX, ["a"])).steps)
    more = instances({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]})
    wanted = replace(SIX, instances=more, replicas=2)
    whole = with_blanks(wanted, away)
    assert any(isinstance(step, Replicate) for step in plan(wanted, whole).steps)
    made = restore(wanted, whole)
    assert {type(step) for step in made.steps} <= {Failover}
    assert "more-to-do" in [f.code for f in made.findings]
    at = whole
    for step in made.steps:
        assert obstacle(step, at) is None
        at = simulate(at, [step])
