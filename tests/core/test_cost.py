"""A plan's cost is told before it is spent, with what the numbers assume."""

from __future__ import annotations

from dataclasses import replace

from slotwright.core.cost import Rates, cost, size, span
from slotwright.core.plan import plan
from slotwright.core.slots import Slots
from slotwright.core.steps import Failover, MoveSlots, Remove, Replicate
from slotwright.core.view import ClusterView
from tests.core.build import topology
from tests.core.worlds import serving

SIX = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, settings=())
MADE = serving(SIX)
RATES = Rates(
    slots_per_second=1000,
    keys_per_second=10_000,
    bytes_per_second=1e6,
    sync_bytes_per_second=1e6,
    sync_delay=5,
    failover_seconds=2,
    step_seconds=1,
)


def weighing(view: ClusterView, name: str, keys: int, used: int) -> ClusterView:
    return ClusterView(tuple(replace(n, keys=keys, used_memory=used) if n.name == name else n for n in view.nodes))


def test_moved_slots_cost_their_part_of_the_nodes_keys_and_memory() -> None:
    view = weighing(MADE, "a1:7001", 54620, 5_462_000)
    told = cost(view, [MoveSlots("a1:7001", "b1:7001", Slots.span(0, 999))], RATES)
    assert (told.slots, told.keys, told.bytes) == (1000, 10_000, 1_000_000)
    assert told.seconds == 1 + 1 + 1
    assert told.lines() == ["1000 slots move, with about 10,000 keys (1.0 MB)", "expected time: 3 s"]


def test_moves_between_other_masters_go_on_at_the_same_time() -> None:
    view = weighing(MADE, "a1:7001", 0, 0)
    one = [MoveSlots("a1:7001", "b1:7001", Slots.span(0, 999))]
    other = [MoveSlots("a1:7001", "c1:7001", Slots.span(1000, 1999))]
    assert cost(view, one, RATES).seconds == 1
    assert cost(view, one + other, RATES).seconds == 2


def test_what_a_failover_handed_over_is_counted_where_it_went() -> None:
    replica = next(n.name for n in MADE.nodes if n.myself.master == MADE.by_name["a1:7001"].id)
    told = cost(MADE, [Failover(replica), MoveSlots(replica, "b1:7001", Slots.span(0, 9))], RATES)
    assert (told.failovers, told.slots) == (1, 10)


def test_a_full_sync_costs_all_that_the_master_will_hold_by_then() -> None:
    view = weighing(MADE, "a1:7001", 0, 5_462_000)
    view = weighing(view, "b1:7001", 0, 0)
    replica = next(n.name for n in view.nodes if n.myself.master == view.by_name["c1:7001"].id)
    moved = [MoveSlots("a1:7001", "b1:7001", Slots.span(0, 999))]
    assert cost(view, [Replicate(replica, "a1:7001")], RATES).sync_bytes == 5_462_000
    assert cost(view, [*moved, Replicate(replica, "a1:7001")], RATES).sync_bytes == 4_462_000
    assert cost(view, [*moved, Replicate(replica, "b1:7001")], RATES).sync_bytes == 1_000_000


def test_open_slots_that_are_brought_back_are_no_moves() -> None:
    told = cost(MADE, [MoveSlots("b1:7001", "a1:7001", Slots.span(5, 7))], RATES)
    assert (told.slots, told.keys) == (0, 0)


def test_removals_and_other_steps_are_counted_and_nothing_costs_nothing() -> None:
    assert cost(MADE, [Remove("a2:7001", "x")], RATES).lines() == ["1 node removed", "expected time: 1 s"]
    assert cost(MADE, ()).lines() == []
    assert cost(MADE, ()).assumptions == ()


def test_the_assumptions_are_told_with_the_numbers() -> None:
    wanted = replace(SIX, weights=(("a1:7001", 2.0),))
    told = cost(MADE, plan(wanted, MADE).steps, RATES).as_dict()
    assert told["slots"] == 2730
    assert any("1,000 slots" in line for line in told["assumptions"])  # type: ignore[attr-defined]


def test_sizes_and_times_are_told_as_people_say_them() -> None:
    assert [size(n) for n in (0, 999, 1500, 15_000, 2_500_000_000)] == ["0 B", "999 B", "1.5 kB", "15 kB", "2.5 GB"]
    assert [span(s) for s in (0.2, 59, 60, 3600, 9000)] == ["1 s", "59 s", "1 min", "60 min", "2 h 30 min"]
