"""Whatever the difference between inventory and cluster: the steps, in a table of small cases."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from slotwright.core.cost import cost
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate, unsettled
from slotwright.core.slots import Slots
from slotwright.core.steps import Detach, Failover, LoadFunctions, MoveSlots, Remove, Replicate, obstacle
from slotwright.core.view import ClusterView
from slotwright.errors import Severity
from tests.core.build import topology
from tests.core.cases import JOINING, MADE, SIX, foreign, grown, kinds, sound, told
from tests.core.worlds import dead, deposed, opened, own_line, serving, with_blanks

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


# --- What it takes ----------------------------------------------------------------------------------------------------


def test_a_plan_without_anything_to_do_loads_no_solver() -> None:
    code = (
        "import sys; from tests.core.cases import MADE, SIX; from slotwright.core.plan import plan;"
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
