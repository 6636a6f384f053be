"""Whatever the difference between inventory and cluster: the steps, in a table of small cases."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from slotwright.core.cost import cost
from slotwright.core.invariants import violations
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import lacking, simulate, unsettled
from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import (
    Detach,
    Failover,
    LoadFunctions,
    Meet,
    MoveSlots,
    Remove,
    Replicate,
    SetEpoch,
    Step,
    obstacle,
)
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, NodeView, Peer, union
from slotwright.errors import Severity
from tests.core.build import topology
from tests.core.worlds import dead, deposed, opened, own_line, serving, with_blanks

SIX = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, settings=())
MADE = serving(SIX)
JOINING = (SetEpoch, Meet)


def grown(wanted: Topology, *added: str, leaving: tuple[str, ...] = (), **fields: object) -> Topology:
    """The inventory with these hosts more (one instance each, the zone is the first letter), and these leaving."""
    new = tuple(Instance(f"{host}:7001", host, host[0], f"127.40.{n}.1", 7001) for n, host in enumerate(added, start=1))
    stay = tuple(i for i in wanted.instances if i.name not in leaving)
    gone = tuple(i for i in wanted.instances if i.name in leaving)
    fields = {"shards": wanted.shards, **fields}
    return replace(wanted, instances=(*stay, *new), leaving=gone, **fields)  # type: ignore[arg-type]


def sound(wanted: Topology, view: ClusterView) -> Plan:
    """The plan, once it is proved that each of its steps can be done in its turn, and that it ends well."""
    made = plan(wanted, view)
    assert made.refusals == ()
    for step in made.steps:
        assert obstacle(step, view) is None, step.describe()
        view = simulate(view, [step])
    assert plan(wanted, view).steps == ()
    assert union(view.owners.values()) == ALL_SLOTS
    assert [f for f in violations(wanted, view) if f.severity is Severity.ERROR] == []
    return made


def told(steps: tuple[Step, ...], *but: type[Step]) -> list[str]:
    """The steps in words, without those of these kinds."""
    return [step.describe() for step in steps if not isinstance(step, but)]


def kinds(steps: tuple[Step, ...]) -> Counter[str]:
    return Counter(type(step).__name__ for step in steps)


# --- More, and fewer ------------------------------------------------------------------------------------------------


def test_new_instances_become_replicas_in_zones_that_are_new_to_their_shard() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", replicas=2)
    made = sound(wanted, with_blanks(wanted, MADE))
    assert told(made.steps, *JOINING) == [
        "a3:7001: replicate b1:7001",
        "b3:7001: replicate c1:7001",
        "c3:7001: replicate a1:7001",
    ]


def test_new_shards_take_their_share_from_all_and_have_their_replicas_before() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    made = sound(wanted, with_blanks(wanted, MADE))
    rest = [step for step in made.steps if not isinstance(step, JOINING)]
    assert [type(step).__name__ for step in rest] == ["Replicate"] * 2 + ["MoveSlots"] * 4
    moved = Counter[str]()
    for step in rest:
        if isinstance(step, MoveSlots):
            moved[step.node] -= len(step.slots)
            moved[step.target] += len(step.slots)
    founders = {name for name, slots in moved.items() if slots > 0}
    assert sorted(map(len, simulate(with_blanks(wanted, MADE), made.steps).owners.values())) == [3276] + [3277] * 4
    assert {step.master for step in rest if isinstance(step, Replicate)} == founders
    assert {name: moved[name] for name in moved if moved[name] < 0} == {
        "a1:7001": -2185,
        "b1:7001": -2184,
        "c1:7001": -2184,
    }


def test_fewer_shards_give_their_slots_back_in_the_ranges_they_came_in_and_their_nodes_become_replicas() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    view = with_blanks(wanted, MADE)
    five = simulate(view, plan(wanted, view).steps)
    made = sound(replace(wanted, shards=3), five)
    assert kinds(made.steps) == {"MoveSlots": 4, "Replicate": 4}
    assert sum(len(s.slots) for s in made.steps if isinstance(s, MoveSlots)) == 6553
    three = simulate(five, made.steps)
    assert {three.name_of(i): str(s) for i, s in three.owners.items()} == {
        MADE.name_of(i): str(s) for i, s in MADE.owners.items()
    }


def test_all_that_was_added_leaves_again_last_of_all() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    view = with_blanks(wanted, MADE)
    five = simulate(view, plan(wanted, view).steps)
    back = grown(wanted, leaving=("a3:7001", "b3:7001", "c3:7001", "a4:7001"), shards=3)
    made = sound(back, five)
    assert kinds(made.steps) == {"MoveSlots": 4, "Remove": 4}
    assert all(isinstance(step, Remove) for step in made.steps[-4:])
    end = simulate(five, made.steps)
    assert {n.name for n in end.nodes} == {i.name for i in SIX.instances}
    assert all(len(n.peers) == 6 for n in end.nodes)


def test_a_surplus_replica_becomes_the_master_of_a_new_shard() -> None:
    five = topology({z: [1, 1, 1] for z in "abcde"}, replicas=2, shards=5, settings=())
    view = serving(five)
    wanted = replace(five, replicas=1, shards=7)
    made = sound(wanted, view)
    assert [type(step).__name__ for step in made.steps[:4]] == ["Detach", "Detach", "Meet", "Meet"]
    assert kinds(made.steps)["Detach"] == 2


def test_fewer_replicas_are_no_reason_to_change_anything() -> None:
    nine = topology({z: [1, 1, 1] for z in "abc"}, replicas=2, settings=())
    assert plan(replace(nine, replicas=1), serving(nine)).steps == ()


def test_a_new_shard_gets_the_function_libraries_that_the_others_have() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    view = with_blanks(wanted, MADE)
    known = {n.name: ("lib",) if n.name in MADE.by_name else () for n in view.nodes}
    view = ClusterView(tuple(replace(n, functions=known[n.name]) for n in view.nodes))
    made = sound(wanted, view)
    loads = [step for step in made.steps if isinstance(step, LoadFunctions)]
    assert {step.node for step in loads} == {s.target for s in made.steps if isinstance(s, MoveSlots)}
    assert {step.source for step in loads} == {"a1:7001"}
    first_move = next(n for n, step in enumerate(made.steps) if isinstance(step, MoveSlots))
    assert max(n for n, step in enumerate(made.steps) if isinstance(step, LoadFunctions)) < first_move


# --- Those that leave, and those that take their place ----------------------------------------------------------------


def test_the_host_of_a_master_is_replaced_without_a_moment_with_fewer_copies() -> None:
    wanted = grown(SIX, "a3", leaving=("a1:7001",))
    made = sound(wanted, with_blanks(wanted, MADE))
    assert told(made.steps, *JOINING) == [
        "a3:7001: replicate a1:7001",
        "a3:7001: take over from its master",
        "a1:7001: leave the cluster (node id to-be-created:a1:7001)",
    ]


def test_a_master_whose_replica_is_as_good_a_master_costs_one_failover() -> None:
    seven = topology({"a": [1, 1, 1, 1], "b": [1, 1, 1, 1, 1], "c": [1, 1, 1, 1, 1]}, replicas=1, shards=7, settings=())
    view = serving(seven)
    masters = Counter(seven[view.name_of(i)].zone for i in view.owners)
    leaver = next(view.name_of(i) for i in view.owners if masters[seven[view.name_of(i)].zone] == 3)
    wanted = grown(seven, "c9", leaving=(leaver,))
    made = sound(wanted, with_blanks(wanted, view))
    assert kinds(made.steps) == {"SetEpoch": 1, "Meet": 1, "Replicate": 1, "Failover": 1, "Remove": 1}


def test_a_dead_master_that_failed_over_is_replaced_and_forgotten() -> None:
    promoted = next(n.name for n in MADE.nodes if n.myself.master == MADE.by_name["a1:7001"].id)
    view = dead(simulate(MADE, [Failover(promoted)]), "a1:7001")
    wanted = grown(SIX, "a3", leaving=("a1:7001",))
    made = sound(wanted, with_blanks(wanted, view))
    assert told(made.steps, *JOINING) == [
        f"a3:7001: replicate {promoted}",
        "a3:7001: take over from its master",
        "a1:7001: leave the cluster (node id to-be-created:a1:7001)",
    ]


def test_a_dead_replica_that_is_still_in_the_inventory_keeps_its_place() -> None:
    replica = next(n.name for n in MADE.nodes if n.myself.master)
    made = plan(SIX, dead(MADE, replica))
    assert (made.steps, made.refusals) == ((), ())


def test_a_whole_zone_that_is_down_keeps_its_place() -> None:
    view = MADE
    for name in ("a1:7001",):
        replica = next(n.name for n in view.nodes if n.myself.master == view.by_name[name].id)
        view = simulate(view, [Failover(replica)])
    made = plan(SIX, dead(view, "a1:7001", "a2:7001"))
    assert (made.steps, made.refusals) == ((), ())


def test_a_zone_is_exchanged_for_another_with_as_many_syncs_as_nodes() -> None:
    wanted = grown(SIX, "d1", "d2", leaving=("c1:7001", "c2:7001"))
    made = sound(wanted, with_blanks(wanted, MADE))
    assert kinds(made.steps) == {"SetEpoch": 2, "Meet": 2, "Replicate": 2, "Failover": 1, "Remove": 2}


def test_a_new_zone_moves_nobody_who_stands_well() -> None:
    wanted = grown(SIX, "d1", "d2")
    made = sound(wanted, with_blanks(wanted, MADE))
    assert {step.node for step in made.steps} == {"d1:7001", "d2:7001"}


def test_a_leaver_that_is_down_and_owns_slots_is_not_forgotten_with_their_keys() -> None:
    wanted = grown(SIX, "a3", leaving=("a1:7001",))
    made = plan(wanted, with_blanks(wanted, dead(MADE, "a1:7001")))
    assert made.steps == ()
    assert [(f.code, f.where) for f in made.refusals] == [("leaver-owns-slots", "node a1:7001 (127.31.1.1:7001)")]


def test_a_leaver_that_was_never_a_member_or_is_no_more_needs_nothing() -> None:
    wanted = grown(grown(SIX, "a3"), leaving=("a3:7001",))
    assert plan(wanted, MADE).steps == ()
    both = grown(SIX, "a3")
    alone = with_blanks(both, MADE)
    assert plan(wanted, alone).steps == ()


def test_a_leaver_stays_while_nobody_who_answers_could_take_its_slots() -> None:
    three = topology({"a": [1], "b": [1], "c": [1]}, replicas=0, settings=())
    wanted = grown(three, "b2", leaving=("b1:7001",))
    view = with_blanks(wanted, serving(three))
    joined = simulate(view, [s for s in plan(wanted, view).steps if isinstance(s, JOINING)])
    made = plan(wanted, dead(joined, "b2:7001"))
    assert (made.steps, made.refusals) == ((), ())
    assert [(f.code, f.where) for f in made.findings] == [("leaver-stays", "node b1:7001 (127.32.1.1:7001)")]


def test_a_member_that_nobody_states_as_removed_stays() -> None:
    smaller = replace(SIX, instances=tuple(i for i in SIX.instances if i.name != "c2:7001"), replicas=0)
    view = ClusterView(tuple(n for n in MADE.nodes if n.name != "c2:7001"))
    made = plan(smaller, view)
    assert made.steps == ()
    assert [f.code for f in made.findings] == ["unlisted-member"]


# --- Roles and places that drifted ------------------------------------------------------------------------------------


def promote(view: ClusterView, *masters: str) -> ClusterView:
    for name in masters:
        replica = next(n.name for n in view.nodes if n.myself.master == view.by_name[name].id)
        view = simulate(view, [Failover(replica)])
    return view


def test_masters_go_back_to_the_zone_that_lost_them() -> None:
    made = sound(SIX, promote(MADE, "a1:7001"))
    assert told(made.steps) == ["a1:7001: take over from its master"]


@pytest.mark.parametrize("shards", [6, 30])
def test_a_zone_that_lost_all_its_masters_gets_its_share_back_by_that_many_failovers(shards: int) -> None:
    wanted = topology({z: [2] * (shards // 3) for z in "abc"}, shards=shards, settings=())
    view = serving(wanted)
    lost = [view.name_of(i) for i in view.owners if wanted[view.name_of(i)].zone == "a"]
    made = sound(wanted, promote(view, *lost))
    assert kinds(made.steps) == {"Failover": shards // 3}
    assert {step.node for step in made.steps if wanted[step.node].zone == "a"} == {step.node for step in made.steps}


def test_two_zones_share_the_masters_again_after_one_was_away() -> None:
    wanted = topology({"a": [2, 2], "b": [2, 2]}, settings=())
    view = serving(wanted)
    lost = [view.name_of(i) for i in view.owners if wanted[view.name_of(i)].zone == "a"]
    assert kinds(plan(wanted, promote(view, *lost)).steps) == {"Failover": 2}


def test_masters_that_changed_places_with_no_zone_too_full_are_left_alone() -> None:
    wanted = topology({"a": [5], "b": [5], "c": [5]}, shards=7, settings=())
    view = serving(wanted)
    zones = Counter(wanted[view.name_of(i)].zone for i in view.owners)
    full = next(z for z in zones if zones[z] == 3)
    for node in view.nodes:
        master = view.name_of(node.myself.master)
        if node.myself.master and wanted[master].zone == full and zones[wanted[node.name].zone] == 2:
            drifted = simulate(view, [Failover(node.name)])
            break
    assert plan(wanted, drifted).steps == ()


def test_a_replica_in_its_masters_zone_costs_no_sync_where_failovers_mend_it() -> None:
    seven = grown(SIX, "a3")
    view = with_blanks(seven, MADE)
    view = simulate(view, plan(seven, view).steps)
    made = sound(seven, simulate(view, [Replicate("a3:7001", "a1:7001")]))
    assert kinds(made.steps) == {"Failover": 3}


NINE = topology({z: [1, 1, 1] for z in "abc"}, replicas=2, settings=())


def test_a_replica_on_its_masters_host_costs_no_sync_where_failovers_mend_it() -> None:
    wanted = topology({"a": [2, 2, 2, 1]}, settings=(), shards=3)
    view = serving(wanted)
    surplus = next(n.name for n in view.nodes if n.myself.master and len(view.replicas_of(n.myself.master)) > 1)
    beside = next(n.name for n in view.nodes if n.myself.slots and wanted[n.name].host == wanted[surplus].host)
    made = sound(wanted, simulate(view, [Replicate(surplus, beside)]))
    assert set(kinds(made.steps)) == {"Failover"}


def crossed() -> tuple[ClusterView, str, str, str, str]:
    """One shard has two replicas in zone b and none in c, another one two copies in c and none in b.

    Returns the view, the two masters, and the replica in the wrong zone and one of those in b.
    """
    view = serving(NINE)
    a, c = (next(view.by_name[view.name_of(i)] for i in view.owners if view.name_of(i)[0] == z) for z in "ac")
    at_c, at_b = (
        next(n.name for n in view.nodes if n.myself.master == master.id and n.name[0] == zone)
        for master, zone in ((a, "c"), (c, "b"))
    )
    return simulate(view, [Replicate(at_c, c.name), Replicate(at_b, a.name)]), a.name, c.name, at_c, at_b


def test_replicas_that_can_only_change_places_do_so_and_a_finding_says_what_is_less_safe_meanwhile() -> None:
    view, a, c, at_c, _ = crossed()
    made = sound(NINE, view)
    assert {(s.node[0], s.master) for s in made.steps if isinstance(s, Replicate)} == {("b", c), ("c", a)}
    assert [s.master for s in made.steps if isinstance(s, Replicate) and s.node == at_c] == [a]
    assert len(made.steps) == 2
    assert [(f.code, f.severity) for f in made.findings] == [("redundancy-dips", Severity.WARNING)]


def test_with_a_node_free_no_copy_goes_before_another_is_there() -> None:
    view, a, c, at_c, _ = crossed()
    wanted = grown(NINE, "b9")
    made = sound(wanted, with_blanks(wanted, view))
    assert made.findings == ()
    assert [(s.node, s.master) for s in made.steps if isinstance(s, Replicate)] == [("b9:7001", c), (at_c, a)]


# --- Slots ------------------------------------------------------------------------------------------------------------


def test_a_small_imbalance_is_left_alone_and_a_larger_one_is_mended_with_the_fewest_slots() -> None:
    some = Slots.of(list(MADE.by_name["a1:7001"].myself.slots)[:100])
    assert plan(SIX, simulate(MADE, [MoveSlots("a1:7001", "b1:7001", some)])).steps == ()
    more = Slots.of(list(MADE.by_name["a1:7001"].myself.slots)[:1000])
    made = sound(SIX, simulate(MADE, [MoveSlots("a1:7001", "b1:7001", more)]))
    assert [(s.node, s.target, len(s.slots)) for s in made.steps if isinstance(s, MoveSlots)] == [
        ("b1:7001", "a1:7001", 999)  # 5462 and 5461 are even
    ]
    assert simulate(MADE, [MoveSlots("a1:7001", "b1:7001", more), *made.steps]).owners.keys() == MADE.owners.keys()


def test_weights_say_how_many_slots_a_master_has() -> None:
    wanted = replace(SIX, weights=(("a1:7001", 2.0),))
    made = sound(wanted, MADE)
    assert sum(len(s.slots) for s in made.steps if isinstance(s, MoveSlots)) == 8192 - 5462
    end = simulate(MADE, made.steps)
    assert {end.name_of(i): len(s) for i, s in end.owners.items()} == {
        "a1:7001": 8192,
        "b1:7001": 4096,
        "c1:7001": 4096,
    }


def test_a_creation_spans_the_slots_by_weight_too() -> None:
    wanted = replace(SIX, weights=(("b1:7001", 0.5), ("c1:7001", 0.5)))
    assert plan(wanted, serving(wanted)).steps == ()
    assert {len(s) for s in serving(wanted).owners.values()} == {8192, 4096}


def test_a_weight_that_is_not_above_zero_is_refused() -> None:
    made = plan(replace(SIX, weights=(("a1:7001", 0.0),)), MADE)
    assert [f.code for f in made.refusals] == ["weight"]


def test_slots_that_nobody_owns_go_where_slots_are_lacking() -> None:
    slots = MADE.by_name["b1:7001"].myself.slots
    left = Slots.of(list(slots)[:3000])
    nodes = tuple(
        replace(n, keys=0, peers=tuple(replace(p, slots=p.slots - (slots - left)) for p in n.peers)) for n in MADE.nodes
    )
    made = sound(SIX, ClusterView(nodes))
    assert told(made.steps) == [f"b1:7001: take the unowned slots {slots - left} ({len(slots) - 3000})"]


def test_an_open_slot_is_finished_where_its_way_is_that_of_the_plan() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    view = with_blanks(wanted, MADE)
    made = plan(wanted, view)
    first = next(n for n, step in enumerate(made.steps) if isinstance(step, MoveSlots))
    move = made.steps[first]
    assert isinstance(move, MoveSlots)
    cut_off = opened(simulate(view, made.steps[:first]), move.node, move.target, *list(move.slots)[:3])
    assert sound(wanted, cut_off).steps == made.steps[first:]


def test_an_open_slot_without_a_way_is_brought_back() -> None:
    made = sound(SIX, opened(MADE, "a1:7001", "b1:7001", 5, 7))
    assert told(made.steps) == ["b1:7001: move slots 5,7 (2) to a1:7001"]
    end = simulate(opened(MADE, "a1:7001", "b1:7001", 5, 7), made.steps)
    assert [n.myself.importing + n.myself.migrating for n in end.nodes] == [()] * 6
    assert end.owners == MADE.owners


def test_a_mark_on_one_side_only_is_closed_from_that_side() -> None:
    made = sound(SIX, opened(MADE, "a1:7001", "b1:7001", 5, both=False))
    assert told(made.steps) == ["b1:7001: move slots 5 (1) to a1:7001"]
    left = own_line(MADE, "b1:7001", migrating=((5, MADE.by_name["a1:7001"].id),))
    assert told(sound(SIX, left).steps) == ["b1:7001: move slots 5 (1) to a1:7001"]


def test_a_master_that_was_replaced_in_the_middle_of_a_move_is_rid_of_its_marks_before_it_becomes_a_replica() -> None:
    view = own_line(
        deposed(MADE, "b2:7001"),
        "a1:7001",
        migrating=((5, MADE.by_name["b1:7001"].id),),
    )
    assert "a1:7001" in [n.name for n in view.nodes if n.myself.is_master and not n.myself.slots]
    made = sound(SIX, view)
    assert told(made.steps)[:2] == ["a1:7001: move slots 5 (1) to b2:7001", "a1:7001: replicate b2:7001"]


def foreign(view: ClusterView, name: str, *slots: int) -> ClusterView:
    """A node has keys of these slots of others."""
    nodes = (replace(n, foreign=Slots.of(slots)) if n.name == name else n for n in view.nodes)
    return replace(view, nodes=tuple(nodes))


def test_keys_on_their_way_to_a_master_that_was_replaced_are_looked_for_at_its_heir() -> None:
    """The heir has what the other had got, and no mark; the source sends clients to who was replaced."""
    view = own_line(MADE, "a1:7001", migrating=((5, MADE.by_name["b1:7001"].id), (7, MADE.by_name["b1:7001"].id)))
    view = simulate(view, [Failover("c2:7001")])
    assert view.by_name["b1:7001"].myself.master == view.by_name["c2:7001"].id
    keyed = foreign(view, "c2:7001", 5)
    back = plan(SIX, keyed).steps
    assert set(told(back, Failover)) == {"a1:7001: close the open slots 7 (1)", "c2:7001: move slots 5 (1) to a1:7001"}
    for k in range(len(back)):
        assert plan(SIX, simulate(keyed, back[:k])).steps == back[k:]
    assert told(plan(SIX, view).steps, Failover) == ["a1:7001: close the open slots 5,7 (2)"]


def test_keys_of_anothers_slots_go_to_their_owner_before_the_node_that_has_them_gets_a_part() -> None:
    view = foreign(deposed(MADE, "b2:7001"), "a1:7001", 5, 16000)
    view = ClusterView(tuple(replace(n, keys=2) if n.name == "a1:7001" else n for n in view.nodes))
    made = sound(SIX, view)
    assert told(made.steps)[:3] == [
        "a1:7001: move slots 5 (1) to b2:7001",
        "a1:7001: move slots 16000 (1) to c1:7001",
        "a1:7001: replicate b2:7001",
    ]


def test_a_slot_that_its_owner_does_not_claim_any_more_is_taken_by_it_again() -> None:
    """Everybody else says it is the owner's still, and gossip never mends that."""
    view = own_line(MADE, "b1:7001", slots=MADE.by_name["b1:7001"].myself.slots - Slots.of([6000]))
    assert view.unowned == Slots.of([6000])
    assert unsettled(view) == ()
    assert told(sound(SIX, view).steps) == ["b1:7001: take the unowned slots 6000 (1)"]


def test_a_slot_that_nobody_owns_is_taken_by_who_has_its_keys() -> None:
    lost = Slots.of([5])
    nodes = tuple(
        replace(n, peers=tuple(replace(p, slots=p.slots - lost) for p in n.peers), state="fail") for n in MADE.nodes
    )
    made = sound(SIX, foreign(ClusterView(nodes), "b1:7001", 5))
    assert told(made.steps)[0] == "b1:7001: take the unowned slots 5 (1)"


def test_a_mark_that_names_nobody_is_only_taken_away() -> None:
    view = own_line(MADE, "a1:7001", migrating=((5, "f" * 40),))
    steps = sound(SIX, view).steps
    assert told(steps) == ["a1:7001: close the open slots 5 (1)"]
    assert cost(view, steps).slots == 0


def test_a_slot_imported_from_somebody_who_does_not_own_it_goes_to_its_owner() -> None:
    view = own_line(MADE, "b1:7001", importing=((16000, MADE.by_name["a1:7001"].id),))
    assert told(sound(SIX, view).steps) == ["b1:7001: move slots 16000 (1) to c1:7001"]


def test_no_slots_move_while_an_owner_is_away() -> None:
    wanted = grown(SIX, "a3", "b3", "c3", "a4", shards=5)
    made = plan(wanted, with_blanks(wanted, dead(MADE, "a1:7001")))
    assert made.refusals == ()
    assert not [step for step in made.steps if isinstance(step, MoveSlots | Failover | Detach)]
    assert [f.code for f in made.findings] == ["shards-wait"]
    assert "a1:7001" in made.findings[0].what


# --- Who knows whom ---------------------------------------------------------------------------------------------------


def seen_as(view: ClusterView, node_id: str, **fields: object) -> ClusterView:
    """How all others see a member."""
    return ClusterView(
        tuple(
            replace(
                n,
                peers=tuple(
                    replace(p, **fields) if p.id == node_id != n.id else p  # type: ignore[arg-type]
                    for p in n.peers
                ),
            )
            for n in view.nodes
        ),
        view.silent,
    )


def test_what_a_node_says_of_slots_that_it_imports_is_not_waited_for_but_that_they_are_closed_is() -> None:
    """Redis lets it hear nothing of them until their move is ended, so that it may say fail."""
    open_ = opened(MADE, "a1:7001", "b1:7001", 5, 7)
    importing = open_.by_name["b1:7001"]
    owner = MADE.by_name["a1:7001"]
    stale = tuple(replace(p, slots=p.slots - Slots.of([5, 7])) if p.id == owner.id else p for p in importing.peers)
    nodes = (replace(n, peers=stale, state="fail") if n is importing else n for n in open_.nodes)
    view = ClusterView(tuple(nodes))
    assert unsettled(view) == ()
    made = plan(SIX, view)
    assert kinds(made.steps) == {"MoveSlots": 1}
    assert any("open still" in lack for lack in lacking(view, simulate(view, made.steps)))


@pytest.mark.parametrize("copy", [0, 2])
def test_the_target_of_a_first_move_does_not_leave_with_what_it_has_got(copy: int) -> None:
    new, follower = "d1:7001", "a3:7001"
    wanted = grown(SIX, "d1", "a3", shards=4)
    peers = tuple(MADE.by_name)
    met = [Meet(new, peers), Meet(follower, peers), Replicate(follower, new)]
    view = simulate(with_blanks(wanted, MADE), met)
    view = dead(opened(view, "a1:7001", new, 5), new)
    view = replace(view, nodes=tuple(replace(n, keys=copy) if n.name == follower else n for n in view.nodes))
    leaving = replace(wanted, shards=3, instances=tuple(i for i in wanted.instances if i.name != new))
    leaving = replace(leaving, leaving=(wanted[new],))
    assert [f.code for f in plan(leaving, view).refusals] == (["leaver-has-keys"] if copy else [])
    if copy:
        [refusal] = plan(leaving, view).refusals
        assert f"at {follower}" in refusal.what and f"TAKEOVER at {follower}" in refusal.remedy
        heir = simulate(view, [Failover(follower)])
        made = sound(leaving, foreign(heir, follower, 5))
        assert f"{follower}: move slots 5 (1) to a1:7001" in told(made.steps)


def test_an_empty_master_whose_keys_all_go_back_may_get_another_part() -> None:
    """The target of a first move that was cut off; its keys are in the open slot."""
    wanted = grown(SIX, "a3", shards=3)
    view = simulate(with_blanks(wanted, MADE), [Meet("a3:7001", tuple(MADE.by_name))])
    view = opened(view, "a1:7001", "a3:7001", 5)
    held = ClusterView(tuple(replace(n, keys=2) if n.name == "a3:7001" else n for n in view.nodes))
    made = sound(wanted, held)
    rest = [type(step) for step in made.steps]
    assert rest.index(MoveSlots) < rest.index(Replicate)
    closed = own_line(own_line(held, "a3:7001", importing=()), "a1:7001", migrating=())
    assert [f.code for f in plan(wanted, closed).refusals] == ["not-empty"]


@pytest.mark.parametrize("upper", ["a1:7001", "b1:7001", "c1:7001"])
def test_a_leaver_that_follows_another_leaver_goes_before_it(upper: str) -> None:
    """A master was replaced in the middle of a change, and follows its heir; one of its replicas still follows it."""
    nine = topology({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}, settings=(), replicas=2)
    made = serving(nine)
    heir, lower = (n.name for n in made.nodes if n.myself.master == made.by_name[upper].id)
    old, low = made.by_name[upper].id, made.by_name[lower].id
    view = simulate(made, [Failover(heir)])
    nodes = (replace(n, peers=tuple(replace(p, master=old) if p.id == low else p for p in n.peers)) for n in view.nodes)
    view = ClusterView(tuple(nodes))
    assert view.by_name[lower].myself.master == old == view.by_name[upper].id
    wanted = grown(nine, leaving=(upper, lower), replicas=1)
    gone = [step.node for step in sound(wanted, view).steps if isinstance(step, Remove)]
    assert gone == [lower, upper]


def test_what_a_leaver_was_before_it_was_reset_is_forgotten() -> None:
    """A moment after its reset the others know it by its old id, still at its address."""
    name = next(n.name for n in MADE.nodes if n.myself.master)
    old = MADE.by_name[name]
    wanted = grown(SIX, f"{name[0]}3", leaving=(name,))
    own = replace(old.myself, id="e" * 40, flags=frozenset({"master"}), master="", config_epoch=0)
    reset = replace(old, id="e" * 40, peers=(own,), keys=0)
    view = with_blanks(wanted, ClusterView(tuple(reset if n is old else n for n in MADE.nodes)))
    made = sound(wanted, view)
    assert told(made.steps[-1:]) == [f"{old.id[:8]}: leave the cluster (node id {old.id})"]


def forgotten(name: str, **own: object) -> tuple[Topology, ClusterView]:
    """A master that died, was replaced by its replica and is to leave; it is back with what it had when it died."""
    heir = next(n.name for n in MADE.nodes if n.myself.master == MADE.by_name[name].id)
    wanted = grown(SIX, f"{name[0]}3", leaving=(name,))
    view = simulate(with_blanks(wanted, MADE), [Failover(heir)])
    view = simulate(dead(view, name), plan(wanted, dead(view, name)).steps)
    zombie = own_line(MADE, name, slots=Slots(), **own).by_name[name]
    return wanted, with_blanks(wanted, replace(view, nodes=(*view.nodes, zombie)))


ZOMBIE = "a1:7001"


@pytest.mark.parametrize("mark", ["migrating", "importing"])
def test_a_leaver_that_was_forgotten_and_is_back_with_open_slots_is_no_part_of_the_cluster(mark: str) -> None:
    wanted, view = forgotten(ZOMBIE, **{mark: ((5, MADE.by_name["b1:7001"].id),)})
    view = foreign(view, ZOMBIE, 5, 6)
    assert plan(wanted, view).steps or plan(wanted, view).refusals
    parted = view.without_forgotten({ZOMBIE})
    assert [n.name for n in parted.forgotten] == [ZOMBIE]
    made = sound(wanted, parted)
    assert made.steps == ()
    assert [(f.code, f.where.split()[1]) for f in made.findings] == [("forgotten", ZOMBIE)]
    assert simulate(parted, ()).forgotten == parted.forgotten


def test_a_master_and_its_replica_that_were_forgotten_together_are_both_left_out() -> None:
    """They know each other, and no member knows them."""
    wanted, view = forgotten(ZOMBIE, migrating=((5, MADE.by_name["b1:7001"].id),))
    zombie = view.by_name[ZOMBIE]
    lower = Peer("e" * 40, "127.40.9.9", 7001, frozenset({"slave"}), zombie.id, 1, True, Slots())
    follower = replace(
        zombie, name="a9:7001", endpoint=lower.endpoint, id=lower.id, run_id="9", peers=(*zombie.peers, lower)
    )
    zombie = replace(zombie, peers=(*zombie.peers, lower))
    instance = Instance("a9:7001", "a9", "a", "127.40.9.9", 7001)
    both = replace(wanted, leaving=(*wanted.leaving, instance))
    nodes = (*(n for n in view.nodes if n.name != ZOMBIE), zombie, follower)
    parted = replace(view, nodes=nodes).without_forgotten({i.name for i in both.leaving})
    assert [n.name for n in parted.forgotten] == [ZOMBIE, "a9:7001"]
    assert sound(both, parted).steps == ()


def test_who_may_have_what_nobody_else_has_is_not_taken_for_forgotten() -> None:
    _, view = forgotten(ZOMBIE)
    zombie = view.by_name[ZOMBIE]
    assert view.without_forgotten({ZOMBIE}).forgotten
    assert not view.without_forgotten(()).forgotten  # not stated as removed
    known = own_line(view, "b1:7001")
    nodes = tuple(replace(n, peers=(*n.peers, zombie.myself)) if n.name == "b1:7001" else n for n in view.nodes)
    alone = replace(zombie, peers=(zombie.myself,))
    uncovered = own_line(view, "b1:7001", slots=Slots.span(5461, 10920))
    others = {
        "a member knows it": replace(known, nodes=nodes),
        "it owns slots": own_line(view, ZOMBIE, slots=Slots.of([5])),
        "it knows nobody": replace(view, nodes=tuple(alone if n is zombie else n for n in view.nodes)),
        "a slot is nobody's": uncovered,
        "an owner is away": dead(view, "b1:7001"),
    }
    for why, other in others.items():
        assert other.without_forgotten({ZOMBIE}) == other, why


def test_slots_that_a_lost_node_is_still_said_to_own_are_those_of_who_took_them_since() -> None:
    """The target of a move was down while its source left, and hears nothing of the slots that it imports."""
    gone = "f" * 40
    owner = MADE.by_name["b1:7001"]
    view = own_line(MADE, "a1:7001", importing=((6000, gone),))
    stale = Slots.of([6000])
    lost = Peer(gone, "", 0, frozenset({"master", "noaddr"}), "", owner.myself.config_epoch - 1, False, stale)
    lines = (replace(p, slots=p.slots - stale) if p.id == owner.id else p for p in view.by_name["a1:7001"].peers)
    back = replace(view.by_name["a1:7001"], peers=(*lines, lost), state="fail")
    view = replace(view, nodes=tuple(back if n.name == "a1:7001" else n for n in view.nodes))
    made = sound(SIX, view)
    assert told(made.steps) == [
        "a1:7001: move slots 6000 (1) to b1:7001",
        f"{gone[:8]}: leave the cluster (node id {gone})",
    ]
    newest = replace(lost, config_epoch=owner.myself.config_epoch + 100)
    back = replace(back, peers=(*back.peers[:-1], newest))
    view = replace(view, nodes=tuple(back if n.name == "a1:7001" else n for n in view.nodes))
    assert [f.code for f in plan(SIX, view).refusals] == ["owner-without-address"]


def ghost(flag: str) -> Peer:
    return Peer("f" * 40, "", 0, frozenset({"master", flag}), "", 3, False, Slots())


def test_what_is_left_of_a_node_that_lost_its_identity_is_forgotten() -> None:
    view = ClusterView(tuple(replace(n, peers=(*n.peers, ghost("noaddr"))) for n in MADE.nodes))
    made = sound(SIX, view)
    assert told(made.steps) == [f"ffffffff: leave the cluster (node id {'f' * 40})"]
    assert all("f" * 40 not in n.by_id for n in simulate(view, made.steps).nodes)


def test_a_handshake_under_way_is_nothing_to_do() -> None:
    view = ClusterView(tuple(replace(n, peers=(*n.peers, ghost("handshake"))) for n in MADE.nodes))
    assert plan(SIX, view).steps == ()


def moved(node: NodeView, number: int) -> NodeView:
    """The node at a new address; its own line says the old one still."""
    return replace(node, endpoint=f"127.50.{number}.1:7001")


def elsewhere(view: ClusterView, names: set[str]) -> tuple[Topology, ClusterView]:
    """These nodes have new addresses, and the others do not reach them; nor do they reach each other."""
    addresses = {n.name: moved(n, k) for k, n in enumerate(view.nodes, start=1) if n.name in names}
    ids = {n.id for n in addresses.values()}
    nodes = tuple(
        replace(
            addresses.get(n.name, n),
            peers=tuple(replace(p, connected=False) if p.id in ids and p.id != n.id else p for p in n.peers),
        )
        for n in view.nodes
    )
    named = tuple(
        replace(i, address=addresses[i.name].endpoint.partition(":")[0]) if i.name in names else i
        for i in SIX.instances
    )
    return replace(SIX, instances=named), ClusterView(nodes)


def test_nodes_that_all_have_new_addresses_meet_again_and_keep_their_parts() -> None:
    wanted, view = elsewhere(MADE, set(MADE.by_name))
    assert len(view.components) == 1 and len(view.linked) == 6
    assert unsettled(view) == ()
    made = sound(wanted, view)
    assert kinds(made.steps) == {"Meet": 5}
    met = simulate(view, made.steps)
    assert len(met.linked) == 1
    assert "b1:7001 and a1:7001 do not reach each other at their addresses yet" in lacking(view, met)
    assert lacking(met, met) == ()


def test_nodes_that_only_try_to_connect_to_old_addresses_do_not_reach_each_other() -> None:
    """Redis calls a link connected as soon as it tries. What a node announces of itself tells old from new."""
    _, view = elsewhere(MADE, set(MADE.by_name))
    nodes = []
    for node in view.nodes:
        own = replace(node.myself, address=node.endpoint.partition(":")[0])
        others = (replace(p, connected=True) for p in node.peers if p.id != node.id)
        nodes.append(replace(node, peers=(own, *others)))
    assert len(ClusterView(tuple(nodes)).linked) == 6


def test_replicas_that_went_along_with_an_emptied_master_may_end_with_that_ones_master() -> None:
    emptied = simulate(MADE, [MoveSlots("a1:7001", "b1:7001", MADE.by_name["a1:7001"].myself.slots)])
    along = simulate(emptied, [Replicate("a1:7001", "b1:7001")])
    assert along.by_name["b2:7001"].myself.master == along.by_name["a1:7001"].id
    after = simulate(along, [Replicate("b2:7001", "b1:7001")])
    assert lacking(along, emptied) == lacking(after, emptied) == lacking(after, simulate(along, ())) == ()
    assert lacking(simulate(MADE, [Replicate("b2:7001", "b1:7001")]), MADE) != ()


def test_of_nodes_that_are_cut_off_neither_service_nor_sync_is_waited_for() -> None:
    """They say ok for a moment still, and then no more: that is no reason to wait for it."""
    _, view = elsewhere(MADE, set(MADE.by_name))
    later = tuple(
        replace(n, state="fail", replication=replace(n.replication, link_up=False, syncing=True)) for n in view.nodes
    )
    assert {n.state for n in view.nodes} == {"ok"}
    assert lacking(ClusterView(later), simulate(view, ())) == ()
    assert unsettled(ClusterView(later)) == ()


def test_a_few_nodes_with_new_addresses_tell_the_others_by_themselves() -> None:
    _, view = elsewhere(MADE, {"a1:7001", "b1:7001"})
    assert len(view.linked) == 1


def test_two_half_made_clusters_of_this_inventory_become_one() -> None:
    half = {"a": ("a1:7001", "b2:7001", "c1:7001"), "b": ("b1:7001", "a2:7001", "c2:7001")}
    nodes = []
    for node in MADE.nodes:
        mine = next(names for names in half.values() if node.name in names)
        nodes.append(replace(node, peers=tuple(p for p in node.peers if MADE.name_of(p.id) in mine)))
    view = ClusterView(tuple(nodes))
    assert len(view.components) == 2
    made = sound(SIX, view)
    assert kinds(made.steps)["Meet"] == 1
    assert kinds(made.steps)["MoveSlots"] == 0


def test_keys_that_only_an_orphan_may_have_are_not_overwritten() -> None:
    """A replica whose master was forgotten, while the slots of that master have no owner."""
    lost = MADE.by_name["a1:7001"]
    nodes = tuple(replace(n, peers=tuple(p for p in n.peers if p.id != lost.id)) for n in MADE.nodes if n.id != lost.id)
    wanted = grown(SIX, "a3", leaving=("a1:7001",))
    made = plan(replace(wanted, leaving=()), with_blanks(wanted, ClusterView(nodes)))
    assert made.steps == ()
    assert [f.code for f in made.refusals] == ["not-empty"]


# --- What it takes ----------------------------------------------------------------------------------------------------


def test_a_plan_without_anything_to_do_loads_no_solver() -> None:
    code = (
        "import sys; from tests.core.test_change import MADE, SIX; from slotwright.core.plan import plan;"
        "assert plan(SIX, MADE).steps == (); assert 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.timeout(240)
def test_a_small_difference_in_a_thousand_nodes_is_a_small_plan() -> None:
    wanted = topology({z: [4] * 83 for z in "abc"}, settings=())
    view = serving(wanted)
    victim = next(n.name for n in view.nodes if n.myself.master)
    changed = grown(wanted, f"{wanted[victim].zone}999", leaving=(victim,))
    made = plan(changed, with_blanks(changed, dead(view, victim)))
    assert kinds(made.steps) == {"SetEpoch": 1, "Meet": 1, "Replicate": 1, "Remove": 1}


def test_a_node_is_told_to_follow_a_new_master_only_once_it_sees_it_as_one_itself() -> None:
    """Redis refuses to let it follow what it still takes for a replica."""
    replica, other = [node for node in MADE.nodes if node.myself.master][:2]
    detached = replace(other.myself, flags=frozenset({"myself", "master"}), master="")
    follow = Replicate(replica.name, other.name)
    for line, held in ((other.myself, True), (detached, False)):
        seen = {other.name: detached, replica.name: line}
        view = ClusterView(
            tuple(
                replace(n, peers=tuple(seen[n.name] if p.id == other.id else p for p in n.peers))
                if n.name in seen
                else n
                for n in MADE.nodes
            )
        )
        reason = f"{replica.name} does not see yet that {other.name} is no replica"
        assert obstacle(follow, view) == (reason if held else None)
