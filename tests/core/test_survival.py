"""What is left of a cluster when a zone, a host, two hosts or some instances are lost; and what mends a "no"."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest

from slotwright.core.handover import empty, restore
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.core.steps import Failover, Replicate, Step
from slotwright.core.survival import Survival, host_survival, loss, pair_survival, survival
from slotwright.core.survival_remedies import Remedy, changed, joined, ways_out
from slotwright.core.topology import Topology
from slotwright.core.variables import meant_by
from slotwright.core.view import ClusterView, Peer, Replication, Silence
from tests.core.build import THREE_ZONES, blank_node, blank_view, topology
from tests.core.worlds import World, dead, draw_next, draw_topology, happen, serving, with_blanks
from tests.soak import SOAK


def made(wanted: Topology) -> ClusterView:
    return simulate(blank_view(wanted), plan(wanted, blank_view(wanted)).steps)


def test_three_zones_with_one_replica_each_survive_any_zone_with_bare_shards() -> None:
    wanted = topology(THREE_ZONES)
    rows = survival(wanted, made(wanted))
    assert [(r.lost, r.survives, r.quorum, r.slots_lost) for r in rows] == [(z, True, True, 0) for z in "abc"]
    assert all(r.shards_bare == r.masters_lost + 1 for r in rows)


def test_two_replicas_leave_every_shard_with_a_spare_copy() -> None:
    wanted = topology({z: [1, 1, 1] for z in "abc"}, replicas=2)
    assert [(r.survives, r.shards_bare) for r in survival(wanted, made(wanted))] == [(True, 0)] * 3


def test_without_replicas_the_slots_of_a_zone_are_lost_with_it() -> None:
    wanted = topology({z: [1] for z in "abc"}, replicas=0)
    rows = survival(wanted, made(wanted))
    assert [r.verdict for r in rows] == ["5462 slots lost", "5461 slots lost", "5461 slots lost"]


def test_of_two_zones_the_one_with_most_masters_takes_the_quorum_along() -> None:
    wanted = topology({"a": [1, 1, 1], "b": [1, 1, 1]})
    rows = {r.lost: r for r in survival(wanted, made(wanted))}
    majority = max(rows.values(), key=lambda r: r.masters_lost)
    assert (majority.masters_lost, majority.quorum, majority.survives) == (2, False, False)
    assert "no failover" in majority.verdict
    assert sorted(r.survives for r in rows.values()) == [False, True]


def test_a_zone_without_any_part_may_go() -> None:
    wanted = topology(THREE_ZONES)
    (*_, last) = survival(topology({**THREE_ZONES, "d": [1]}, shards=3), made(wanted))
    assert (last.lost, last.masters_lost, last.survives) == ("d", 0, True)


def test_hosts_are_asked_one_by_one() -> None:
    wanted = topology({z: [2] for z in "abc"})
    assert [r.lost for r in host_survival(wanted, made(wanted))] == ["a1", "b1", "c1"]


def test_what_is_down_already_counts_as_lost() -> None:
    wanted = topology(THREE_ZONES)
    view = made(wanted)
    gone = next(n for n in view.nodes if n.name == "b1:7001")
    left = ClusterView(
        tuple(n for n in view.nodes if n is not gone),
        (Silence(gone.name, gone.endpoint, "timeout", "does not answer", "look"),),
    )
    rows = {r.lost: r for r in survival(wanted, left)}
    assert not rows["a"].quorum
    assert rows["a"].masters_left == 1


# --- Two hosts, and any set of instances ----------------------------------------------------------------------------


def test_every_two_hosts_are_asked_also_those_of_one_zone() -> None:
    wanted = topology(THREE_ZONES)
    rows = {row.lost: row for row in pair_survival(wanted, made(wanted))}
    assert list(rows) == [f"{one} + {other}" for one, other in combinations(wanted.hosts, 2)]
    view = made(wanted)
    whole = {r.lost: r for r in survival(wanted, view)}
    for zone in "abc":
        assert replace(rows[f"{zone}1 + {zone}2"], lost=zone) == whole[zone]
    [both] = [f"a1 + {r.name[:2]}" for r in view.replicas_of(view.by_name["a1:7001"].id)]
    assert (rows[both].survives, rows[both].quorum, rows[both].slots_lost) == (False, True, 5462)
    assert (rows["a1 + b1"].quorum, rows["a1 + b1"].verdict) == (False, "no failover: no majority of masters is left")


def test_two_replicas_in_three_zones_survive_any_host_and_most_pairs() -> None:
    wanted = topology({z: [1, 1, 1] for z in "abc"}, replicas=2)
    rows = pair_survival(wanted, made(wanted))
    assert len(rows) == 36
    assert {r.verdict for r in rows if not r.survives} == {"no failover: no majority of masters is left"}
    assert all(r.slots_lost == 0 for r in rows)


def test_any_instances_may_be_asked_for_by_name() -> None:
    wanted = topology(THREE_ZONES)
    view = made(wanted)
    assert loss("zone a", ["a1:7001", "a2:7001"], wanted, view) == replace(survival(wanted, view)[0], lost="zone a")
    assert loss("a1:7001", ["a1:7001"], wanted, view) == replace(host_survival(wanted, view)[0], lost="a1:7001")
    assert loss("nothing", [], wanted, view).masters_left == 3
    assert loss("all", [i.name for i in wanted.instances], wanted, view).slots_lost == SLOT_COUNT
    with pytest.raises(KeyError):
        loss("nobody", ["x1:7001"], wanted, view)


def test_a_hundred_hosts_are_4950_pairs_within_two_seconds() -> None:
    wanted = topology({z: [3] * 20 for z in "abcde"}, replicas=2, settings=())
    view = big_view(wanted)
    begun = time.monotonic()
    rows = pair_survival(wanted, view)
    assert time.monotonic() - begun < 2
    assert len(rows) == 4950
    assert loss(rows[77].lost, names_in(wanted, rows[77].lost), wanted, view) == rows[77]


def big_view(wanted: Topology) -> ClusterView:
    """Shards of neighbours, one after the other: planning so many nodes would be what takes the time."""
    nodes = {i.name: blank_node(i) for i in wanted.instances}
    lines: list[Peer] = []
    names = list(nodes)
    count = len(names) // 3
    for number, name in enumerate(names):
        shard = number % count
        slots = Slots.of(range(SLOT_COUNT * shard // count, SLOT_COUNT * (shard + 1) // count))
        master = nodes[names[shard]].id if number >= count else ""
        lines.append(replace(nodes[name].myself, slots=Slots() if master else slots, master=master))
    copying = Replication("slave", link_up=True)
    return ClusterView(
        tuple(
            replace(n, peers=tuple(lines), replication=copying if line.master else n.replication)
            for n, line in zip(nodes.values(), lines, strict=True)
        )
    )


# --- Against an oracle that counts everything anew ------------------------------------------------------------------


def names_in(wanted: Topology, lost: str) -> set[str]:
    return {i.name for i in wanted.everyone if i.host in lost.split(" + ")}


def oracle(lost: str, names: Collection[str], view: ClusterView) -> Survival:
    masters = [m for m in view.members.values() if m.peer.slots]
    left = [m for m in masters if m.node and m.name not in names]
    gone = waiting = bare = 0
    for master in masters:
        copies = 0
        for member in view.members.values():
            if member.peer.master == master.id and member.node and member.name not in names:
                copies += member.node.replication.link_up and not member.node.replication.syncing
        if master in left:
            bare += copies == 0
        elif copies == 0:
            gone += len(master.peer.slots)
        else:
            waiting += len(master.peer.slots)
            bare += copies == 1
    inside = sum(m.name in names for m in masters)
    return Survival(lost, inside, len(left), len(masters) // 2 + 1, gone, waiting, bare)


def lamed(view: ClusterView, names: Iterable[str]) -> ClusterView:
    """These replicas lose their link, or are amid a full sync."""
    still = set(names)
    nodes = (
        replace(n, replication=replace(n.replication, link_up=len(n.name) % 2 == 0, syncing=True))
        if n.name in still and n.myself.master
        else n
        for n in view.nodes
    )
    return replace(view, nodes=tuple(nodes))


def draw_trouble(rng: random.Random) -> tuple[World, set[str], set[str]]:
    """A world, and who is to be dead and out of sync in it."""
    world = World(wanted := draw_topology(rng), serving(wanted))
    for _ in range(rng.choice((0, 1, 2, 2, 3, 4))):
        happen(rng, world, deaths=False, kinds=("failover", "failover", "move", "rehome", "reset"))
    if rng.random() < 0.3:
        world.topology = draw_next(rng, wanted)
    if rng.random() < 0.2:
        world.topology = replace(world.topology, allow_zone_risk=True)
    world.view = with_blanks(world.topology, world.view)
    names = [n.name for n in world.view.nodes if not n.isolated]
    dying = set(rng.sample(names, min(len(names) - 1, rng.choice((0, 0, 0, 1, 1, 2)))))
    lame = {n.name for n in world.view.nodes if n.myself.master and rng.random() < 0.1} - dying
    return world, dying, lame


SEEDS = range(2000 if SOAK else 40)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_is_that_of_an_oracle(seed: int) -> None:
    world, dying, lame = draw_trouble(random.Random(seed))
    wanted, view = world.topology, lamed(dead(world.view, *dying), lame)
    places = [i.name for i in wanted.instances]
    some = set(random.Random(seed).sample(places, len(places) // 3))
    for row in survival(wanted, view):
        assert row == oracle(row.lost, {i.name for i in wanted.everyone if i.zone == row.lost}, view), world.story
    for row in (*host_survival(wanted, view), *pair_survival(wanted, view)):
        assert row == oracle(row.lost, names_in(wanted, row.lost), view), world.story
    assert loss("some", some, wanted, view) == oracle("some", some, view)


# --- What mends a "no" ----------------------------------------------------------------------------------------------


def relamed(view: ClusterView, names: Iterable[str], steps: Iterable[Step]) -> ClusterView:
    """simulate() has everybody in sync in the end. Who was not stays so, unless it becomes another one's copy."""
    return lamed(view, set(names) - {s.node for s in steps if isinstance(s, Replicate)})


def assert_true(world: World, dying: set[str], lame: set[str], ways: Iterable[Remedy]) -> None:
    """Each loss is survived once its remedy is done to the world as it was before its trouble."""
    wanted = world.topology

    @cache
    def planned(then: Topology, waits: tuple[str, ...], starts: tuple[str, ...]) -> ClusterView:
        begin = joined(then, begun(waits, starts))
        steps = plan(then, begin).steps
        return relamed(simulate(begin, steps), lame - set(waits), steps)

    def begun(waits: tuple[str, ...], starts: tuple[str, ...]) -> ClusterView:
        return lamed(dead(world.view, *(dying - set(starts))), lame - set(waits))

    for way in ways:
        names = {i.name for i in wanted.everyone if way.lost == (i.zone if way.part == "zone" else i.host)}
        begin = begun(way.waits, way.starts)
        if way.kind == "inventory":
            ends = [planned(changed(wanted, change), way.waits, way.starts) for change in way.changes]
        elif "site.yml" in way.remedy:
            ends = [planned(wanted, way.waits, way.starts)]
        else:
            steps: tuple[Step, ...] = ()
            if way.kind == "empty":
                steps = empty(wanted, begin, frozenset(names)).steps
            elif "redis_failover_restore=true" in way.remedy:
                steps = restore(wanted, begin).steps
            ends = [relamed(simulate(begin, steps), lame - set(way.waits), steps) if steps else begin]
        for end in ends:
            assert oracle(way.lost, names, end).survives, (world.story, dying, lame, way)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_remedy_is_true(seed: int) -> None:
    world, dying, lame = draw_trouble(random.Random(seed))
    wanted, view = world.topology, lamed(dead(world.view, *dying), lame)
    ways = ways_out(wanted, view)
    lost = [("zone", r.lost) for r in survival(wanted, view) if not r.survives]
    lost += [("host", r.lost) for r in host_survival(wanted, view) if not r.survives]
    assert list(dict.fromkeys((way.part, way.lost) for way in ways)) == lost
    assert_true(world, dying, lame, [way for way in ways if way.kind != "none"])


def said(wanted: Topology, view: ClusterView) -> dict[str, list[tuple[str, str]]]:
    """By what is lost, the kind and the words of each remedy."""
    found: dict[str, list[tuple[str, str]]] = {}
    for way in ways_out(wanted, view):
        found.setdefault(f"{way.part} {way.lost}", []).append((way.kind, way.remedy))
    return found


SIX = topology(THREE_ZONES, settings=())


def test_a_healthy_cluster_needs_no_remedy() -> None:
    assert ways_out(SIX, serving(SIX)) == ()


def test_masters_that_drifted_are_brought_back_by_failovers_only() -> None:
    view = simulate(serving(SIX), [Failover("a2:7001"), Failover("b2:7001")])
    [way] = ways_out(SIX, view)
    assert (way.part, way.lost, way.kind) == ("zone", "b", "failover")
    assert way.what == ("2 of 3 masters are there (b1:7001 and b2:7001); 1 of 3 masters would be left, 2 are needed")
    assert way.remedy == (
        "run playbooks/failover.yml -e redis_failover_restore=true: 1 failover (c2:7001 takes over from b1:7001)"
    )


def test_what_is_down_or_out_of_sync_is_named() -> None:
    view = serving(SIX)
    down = said(SIX, dead(view, "a2:7001"))
    assert down == {"zone c": [("start", "start a2:7001")], "host c1": [("start", "start a2:7001")]}
    wait = "wait until a2:7001 is in sync with c1:7001 (its log says what hinders it)"
    assert said(SIX, lamed(view, ["a2:7001"])) == {"zone c": [("wait", wait)], "host c1": [("wait", wait)]}
    turned = dead(view, "a2:7001")
    turned = replace(turned, silent=(replace(turned.silent[0], kind="auth", detail="does not let us in"),))
    assert said(SIX, turned)["zone c"] == [("start", "have a2:7001 answer (does not let us in)")]


def test_of_what_is_down_only_that_is_named_which_matters() -> None:
    wanted = topology({z: [1, 1, 1] for z in "abc"}, replicas=2, settings=())
    view = serving(wanted)
    [one, other] = [r.name for r in view.replicas_of(view.by_name["a1:7001"].id)]
    bystander = next(r.name for r in view.replicas_of(view.by_name["b1:7001"].id))
    ways = ways_out(wanted, dead(view, one, other, bystander))
    starts = {way.starts for way in ways if way.kind == "start" and way.lost in ("a", "a1")}
    assert len(starts) == 1 and len(next(iter(starts))) == 1 and next(iter(starts))[0] in (one, other)


def test_a_replica_that_went_astray_is_brought_back_by_the_plan_whose_price_is_named() -> None:
    view = simulate(serving(SIX), [Replicate("b2:7001", "c1:7001")])
    assert set(said(SIX, view)) == {"zone a", "host a1"}
    for [(kind, words)] in said(SIX, view).values():
        assert kind == "site"
        assert words.startswith("run site.yml (1 full sync (")


def test_who_died_as_a_master_and_was_replaced_is_to_be_started_before_the_plan_or_the_roles_go_back() -> None:
    view = dead(simulate(serving(SIX), [Failover("a2:7001")]), "c1:7001")
    assert said(SIX, view) == {
        "zone a": [("start", "start c1:7001, then run playbooks/failover.yml -e redis_failover_restore=true")],
        "host a2": [("start", "start c1:7001")],
    }


INVENTORIES: dict[str, tuple[Topology, str, list[tuple[str, str]]]] = {
    "two zones": (
        topology({"a": [1, 1, 1], "b": [1, 1, 1]}, settings=()), "zone a",
        [
            ("empty", "if it is to go down on purpose, run playbooks/failover.yml -e redis_failover_from=a first: "
             "2 failovers (b2:7001 takes over from a1:7001 and b3:7001 takes over from a2:7001); then zone b must not "
             "be lost"),
            ("inventory", "add a third zone with 1 instance; then run site.yml"),
        ]),
    "one zone": (
        topology({"a": [1] * 6}, settings=()), "zone a",
        [("inventory", "add a second zone with 1 instance and a third zone with 2 instances and set "
          "redis_cluster_shards to 3; then run site.yml")]),
    "four masters in three zones": (
        topology({"a": [1] * 3, "b": [1] * 3, "c": [1] * 2}, shards=4, allow_zone_risk=True, settings=()), "zone a",
        [
            ("empty", "if it is to go down on purpose, run playbooks/failover.yml -e redis_failover_from=a first: "
             "2 failovers (b2:7001 takes over from a1:7001 and c2:7001 takes over from a2:7001); then zone b and zone "
             "c must not be lost"),
            ("inventory", "set redis_cluster_shards to 3, or add a fourth zone with 1 instance; then run site.yml"),
        ]),
    "no replicas": (
        topology(THREE_ZONES, replicas=0, settings=()), "zone a",
        [("inventory", "set redis_cluster_replicas to 1 and redis_cluster_shards to 3, or add 2 instances in zone a "
          "and 2 instances in zone b and 2 instances in zone c and set redis_cluster_replicas to 1; then run "
          "site.yml")]),
    "two hosts": (
        topology({"a": [3], "b": [3]}, settings=()), "host a1",
        [
            ("empty", "if it is to go down on purpose, run playbooks/failover.yml -e redis_failover_from=a1 first: "
             "2 failovers (b1:7002 takes over from a1:7001 and b1:7003 takes over from a1:7002); then zone b and host "
             "b1 must not be lost"),
            ("inventory", "add a third zone with 1 instance; then run site.yml"),
        ]),
}  # fmt: skip


@pytest.mark.parametrize("name", INVENTORIES)
def test_an_inventory_that_cannot_do_it_is_changed_as_little_as_can_be(name: str) -> None:
    wanted, lost, words = INVENTORIES[name]
    view = serving(wanted)
    assert said(wanted, view)[lost] == words
    assert_true(World(wanted, view), set(), set(), ways_out(wanted, view))


def test_no_smaller_third_zone_would_do() -> None:
    wanted = topology({"a": [1, 1, 1], "b": [1, 1, 1]}, settings=())
    [change] = [c for way in ways_out(wanted, serving(wanted)) for c in way.changes]
    assert (sum(a.count for a in change.add), change.shards, change.replicas) == (1, 3, 1)


def test_where_nothing_helps_it_says_what_stands_in_the_way() -> None:
    view = dead(serving(SIX), "a2:7001")
    stranger = next(n for n in view.nodes if n.name == "b2:7001")
    without = replace(SIX, instances=tuple(i for i in SIX.instances if i.name != stranger.name))
    seen = replace(view, nodes=tuple(n for n in view.nodes if n is not stranger))
    assert seen.unlisted
    ways = ways_out(without, seen)
    assert ways and all(way.remedy for way in ways)


@pytest.mark.parametrize("name", ["redis_survival_json", "redis_survival_strict"])
def test_its_extra_variables_look_like_no_other(name: str) -> None:
    assert meant_by(name) is None
