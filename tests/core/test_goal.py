"""Where an operator wants slots, and the moves that lead there: few, and none once they are there."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwright.core.asked import chosen, options
from slotwright.core.goal import (
    Balanced,
    Drained,
    Goal,
    Hop,
    Moved,
    Placed,
    Repaired,
    Way,
    last_slots,
    poured,
    slots_of_bytes,
    way,
)
from slotwright.core.level import level
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import ALL_SLOTS, SLOT_COUNT, Slots, even_spans
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Refused
from tests.core.build import blank_view, topology
from tests.soak import SOAK

SITE = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, replicas=0, shards=6)
NAMES = [i.name for i in SITE.instances]  # a1:7001, a2:7001, b1 …


def cluster(site: Topology = SITE) -> ClusterView:
    """All instances as masters, each with its even part of the slots."""
    blank = blank_view(site)
    return simulate(blank, plan(site, blank).steps)


def owning(counts: list[int], site: Topology = SITE) -> ClusterView:
    """The masters own so many slots each, one range after the other."""
    view, first, owned = cluster(site), 0, {}
    for name, count in zip([i.name for i in site.instances], counts, strict=True):
        owned[view.by_name[name].id] = Slots.span(first, first + count - 1) if count else Slots()
        first += count
    nodes = tuple(
        replace(n, peers=tuple(replace(p, slots=owned.get(p.id, Slots())) for p in n.peers)) for n in view.nodes
    )
    return replace(view, nodes=nodes)


def slots_after(found: Way, view: ClusterView) -> dict[str, Slots]:
    after = simulate(view, found.steps)
    return {node.name: node.myself.slots for node in after.nodes}


def codes(goal: Goal, view: ClusterView, site: Topology = SITE) -> list[str]:
    with pytest.raises(Refused) as refused:
        way(goal, site, view)
    return [finding.code for finding in refused.value.findings]


EVEN = owning([2731, 2731, 2731, 2731, 2730, 2730])
SKEWED = owning([9000, 0, 4000, 2000, 1384, 0])


# --- By slots and weights -------------------------------------------------------------------------------------------


def test_even_moves_what_masters_have_beyond_their_share_and_no_more() -> None:
    found = way(Balanced(), SITE, SKEWED)
    counts = sorted(len(slots) for slots in slots_after(found, SKEWED).values())
    assert counts[0] >= 2730 * 0.98 and counts[-1] <= 2731 * 1.02
    surplus = (9000 - 2731) + (4000 - 2731)
    assert found.moved <= surplus == found.least or found.moved == found.least


@pytest.mark.parametrize("stated", [{"a": 2}, {"a1": 3}, {"b1:7001": 0.5, "b": 2}, {"c": 0}])
def test_weights_may_be_those_of_zones_hosts_and_instances(stated: dict[str, float]) -> None:
    got = slots_after(way(Balanced(weights=stated, slack=0), SITE, EVEN), EVEN)
    weight = {i.name: next((stated[n] for n in (i.name, i.host, i.zone) if n in stated), 1) for i in SITE.instances}
    whole = sum(weight.values())
    for name, slots in got.items():
        assert abs(len(slots) - SLOT_COUNT * weight[name] / whole) < 1, name


def test_small_differences_are_left_alone() -> None:
    view = owning([2760, 2720, 2731, 2731, 2721, 2721])
    assert way(Balanced(slack=0.02), SITE, view).steps == ()
    assert way(Balanced(slack=0.0), SITE, view).moved == 29


@settings(max_examples=300 if SOAK else 40, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=6, max_size=6).filter(any),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_no_distribution_by_weight_moves_more_than_the_bound_and_a_second_run_moves_nothing(
    parts: list[int], weights: list[int]
) -> None:
    whole = sum(parts)
    counts = [SLOT_COUNT * part // whole for part in parts]
    counts[parts.index(max(parts))] += SLOT_COUNT - sum(counts)
    view = owning(counts)
    if not any(weights):
        assert codes(Balanced(weights=dict(zip(NAMES, weights, strict=True))), view) == ["weight"]
        return
    goal = Balanced(weights=dict(zip(NAMES, map(float, weights), strict=True)), slack=0)
    found = way(goal, SITE, view)
    shares = [Fraction(SLOT_COUNT * w, sum(weights)) for w in weights]
    # What anybody has beyond his share, rounded up, must go; no solution moves less.
    bound = sum(
        max(0, have - -(-share.numerator // share.denominator)) for have, share in zip(counts, shares, strict=True)
    )
    assert bound <= found.moved <= bound + len(weights)
    assert way(goal, SITE, simulate(view, found.steps)).steps == ()


# --- Stated places and moves ----------------------------------------------------------------------------------------


def test_stated_ranges_move_and_nothing_else() -> None:
    goal = Placed({"c2:7001": Slots.parse("0-99,5000"), "a1:7001": Slots.parse("16000-16383")})
    found = way(goal, SITE, EVEN)
    got = slots_after(found, EVEN)
    assert Slots.parse("0-99,5000") <= got["c2:7001"] and Slots.parse("16000-16383") <= got["a1:7001"]
    assert found.moved == 101 + 384 == found.least
    assert way(goal, SITE, simulate(EVEN, found.steps)).steps == ()


def test_slots_that_have_moved_already_are_done() -> None:
    goal = Moved((Hop("a1:7001", "b1:7001", Slots.span(100, 199)),))
    half = simulate(EVEN, way(Moved((Hop("a1:7001", "b1:7001", Slots.span(100, 149)),)), SITE, EVEN).steps)
    assert [(s.node, s.target, str(s.slots)) for s in way(goal, SITE, half).steps] == [
        ("a1:7001", "b1:7001", "150-199")
    ]
    assert way(goal, SITE, simulate(half, way(goal, SITE, half).steps)).steps == ()


@pytest.mark.parametrize(
    ("goal", "code"),
    [
        (Moved((Hop("a1:7001", "nobody", Slots.of([1])),)), "unknown-name"),
        (Moved((Hop("a1:7001", "a1:7001", Slots.of([1])),)), "same-node"),
        (Moved((Hop("a1:7001", "b1:7001", Slots.of([16000])),)), "not-its-slots"),
        (Moved((Hop("", "b1:7001", Slots.of([1])), Hop("", "c1:7001", Slots.of([1])))), "slots-twice"),
        (Placed({"a1:7001": Slots.span(0, 9), "b1:7001": Slots.span(9, 12)}), "slots-twice"),
        (Balanced(weights={"nowhere": 1}), "unknown-name"),
        (Balanced(weights={"a": -1}), "weight"),
        (Balanced(weights=dict.fromkeys("abc", 0.0)), "weight"),
        (Drained(("a", "b", "c")), "drain"),
        (Drained(("d",)), "unknown-name"),
    ],
)
def test_what_makes_no_sense_is_refused(goal: Goal, code: str) -> None:
    assert codes(goal, EVEN) == [code]


def test_slots_without_an_owner_are_refused() -> None:
    view = owning([2731, 2731, 2731, 2731, 2730, 2000])
    assert codes(Balanced(), view) == ["unowned-slots"]


def test_an_owner_that_is_away_is_refused() -> None:
    view = replace(EVEN, nodes=EVEN.nodes[1:])
    assert codes(Balanced(), view) == ["owner-away"]


# --- Draining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("a1:7001",), ("a2", "c1"), ("b",)])
def test_a_drained_node_gives_all_and_the_others_give_nothing(names: tuple[str, ...]) -> None:
    found = way(Drained(names), SITE, EVEN)
    gone = {i.name for i in SITE.instances if {i.name, i.host, i.zone} & set(names)}
    got = slots_after(found, EVEN)
    assert all(not got[name] for name in gone)
    assert {step.node for step in found.steps} == gone
    left = [len(slots) for name, slots in got.items() if name not in gone]
    assert max(left) - min(left) <= 1
    assert way(Drained(names), SITE, simulate(EVEN, found.steps)).steps == ()


@given(
    st.integers(0, 5000),
    st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    st.lists(st.integers(1, 4), min_size=6, max_size=6),
)
@settings(deadline=None)
def test_what_is_poured_out_makes_the_fullest_as_empty_as_can_be(
    amount: int, have: list[int], weights: list[int]
) -> None:
    names = [str(number) for number in range(len(have))]
    held = dict(zip(names, have, strict=True))
    weight = {name: Fraction(w) for name, w in zip(names, weights, strict=False)}
    gets = poured(amount, held, weight)
    assert sum(gets.values()) == amount and min(gets.values()) >= 0
    fullest = max((Fraction(held[n] + gets[n]) / weight[n] for n in names if gets[n]), default=Fraction(0))
    for name in names:  # nobody who got one could have done better by giving it to another
        assert (held[name] + gets[name] + 1) / weight[name] >= fullest or not amount


# --- Open slots -----------------------------------------------------------------------------------------------------


def half_moved(view: ClusterView, slot: int, source: str, target: str) -> ClusterView:
    ends = {name: view.by_name[name].id for name in (source, target)}

    def marked(node_name: str, field: str, other: str) -> ClusterView:
        def of(n):  # type: ignore[no-untyped-def]
            if n.name != node_name:
                return n
            return replace(
                n, peers=tuple(replace(p, **{field: ((slot, ends[other]),)}) if p.id == n.id else p for p in n.peers)
            )

        return replace(view, nodes=tuple(map(of, view.nodes)))

    view = marked(source, "migrating", target)
    return marked(target, "importing", source)


def test_an_open_slot_goes_on_where_it_is_wanted_there_and_back_where_it_is_not() -> None:
    view = half_moved(EVEN, 7, "a1:7001", "b1:7001")
    assert [(s.node, s.target, str(s.slots)) for s in way(Repaired(), SITE, view).steps] == [
        ("b1:7001", "a1:7001", "7")
    ]
    on = way(Moved((Hop("a1:7001", "b1:7001", Slots.of([7])),)), SITE, view)
    assert [(s.node, s.target, str(s.slots)) for s in on.steps] == [("a1:7001", "b1:7001", "7")]
    back = way(Balanced(), SITE, view)
    assert [(s.node, s.target, str(s.slots)) for s in back.steps] == [("b1:7001", "a1:7001", "7")]
    elsewhere = way(Moved((Hop("a1:7001", "c1:7001", Slots.of([7])),)), SITE, view)
    assert [(s.node, s.target) for s in elsewhere.steps] == [("b1:7001", "a1:7001"), ("a1:7001", "c1:7001")]
    assert way(Repaired(), SITE, EVEN).steps == ()


# --- By load --------------------------------------------------------------------------------------------------------


def test_slots_that_weigh_different_are_levelled() -> None:
    loads = {slot: 100.0 if slot < 500 else 1.0 for slot in range(SLOT_COUNT)}
    found = way(Balanced(by="keys", slack=0.02), SITE, EVEN, loads)
    got = {name: sum(loads[s] for s in slots) for name, slots in slots_after(found, EVEN).items()}
    share = sum(loads.values()) / 6
    assert all(abs(have - share) <= 0.02 * share for have in got.values()), got
    assert found.least <= found.moved <= 1.1 * found.least
    assert way(Balanced(by="keys", slack=0.02), SITE, simulate(EVEN, found.steps), loads).steps == ()


def test_one_heavy_slot_is_no_reason_to_move_others_round_for_ever() -> None:
    loads = dict.fromkeys(range(SLOT_COUNT), 1.0) | {5: 1e6}
    found = way(Balanced(by="bytes"), SITE, EVEN, loads)
    assert [f.code for f in found.findings] == ["uneven"]
    assert way(Balanced(by="bytes"), SITE, simulate(EVEN, found.steps), loads).steps == ()


def _fewest(slots: dict[str, Slots], loads: dict[int, float], slack: float) -> int | None:
    """By trying everything: the least number of slots that must move until each of the masters is within the slack."""
    every = [slot for some in slots.values() for slot in some]
    owner = {slot: name for name, some in slots.items() for slot in some}
    share = sum(loads.values()) / len(slots)
    best = None
    for homes in product(slots, repeat=len(every)):
        have = dict.fromkeys(slots, 0.0)
        for slot, name in zip(every, homes, strict=True):
            have[name] += loads[slot]
        if all(abs(amount - share) <= slack * share for amount in have.values()):
            moved = sum(owner[slot] != name for slot, name in zip(every, homes, strict=True))
            best = moved if best is None else min(best, moved)
    return best


@settings(max_examples=300 if SOAK else 60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=3, max_size=7), st.integers(1, 3), st.sampled_from([0.1, 0.3, 0.5]))
def test_the_bound_holds_and_levelling_ends(weights: list[int], masters: int, slack: float) -> None:
    loads = {slot: float(weight) for slot, weight in enumerate(weights)}
    names = [f"m{n}" for n in range(masters)]
    slots = {
        name: Slots.of(s for s in loads if s % (masters + 1) == n or (n == 0 and s % (masters + 1) == masters))
        for n, name in enumerate(names)
    }
    found = level(slots, dict.fromkeys(names, Fraction(1)), loads, slack)
    moved = sum(len(some) for some in found.moves.values())
    fewest = _fewest(slots, loads, slack)
    if fewest is not None:
        assert found.least <= fewest
        if found.worst <= slack:
            assert moved >= fewest
            assert moved <= fewest + 2


# --- Amounts --------------------------------------------------------------------------------------------------------


def test_amounts_become_the_last_slots() -> None:
    assert str(last_slots(Slots.span(0, 99), 10)) == "90-99"
    assert str(slots_of_bytes(Slots.span(0, 99), 25, dict.fromkeys(range(100), 10.0))) == "97-99"
    for amount in (0, 101):
        with pytest.raises(Refused):
            last_slots(Slots.span(0, 99), amount)
    with pytest.raises(Refused):
        slots_of_bytes(Slots.span(0, 99), 1e9, {})


def test_even_spans_are_the_aim_of_nothing_to_do() -> None:
    assert sum(map(len, even_spans(6))) == len(ALL_SLOTS)
    assert way(Balanced(slack=0), SITE, EVEN).steps == ()


# --- What is said to the playbook -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"from": "a", "to": "b", "slots": "1-2"},
            {"state": "moved", "moves": [{"from": "a", "to": "b", "slots": "1-2"}]},
        ),
        ({"drain": "a, b"}, {"state": "drained", "drain": ["a", "b"]}),
        ({"drain": ["a"]}, {"state": "drained", "drain": ["a"]}),
        ({"ranges": {"a": "0-1"}}, {"state": "placed", "ranges": {"a": "0-1"}}),
        ({"repair": True, "drain": "", "moves": []}, {"state": "repaired"}),
        ({"moves": [{"name": "x"}]}, {"state": "moved", "moves": [{"name": "x"}]}),
    ],
)
def test_words_become_options(said: dict[str, object], expected: dict[str, object]) -> None:
    assert options(said) == expected


@pytest.mark.parametrize("said", [{}, {"drain": ""}, {"drain": "a", "repair": True}, {"from": "a", "slots": "1"}])
def test_words_that_ask_for_nothing_or_for_two_things_are_refused(said: dict[str, object]) -> None:
    with pytest.raises(Refused):
        options(said)


def test_of_several_clusters_one_must_be_named() -> None:
    assert chosen(["one", "two"], "two", several=False) == ["two"]
    assert chosen(["one", "two"], "", several=True) == ["one", "two"]
    assert chosen(["one"], "", several=False) == ["one"]
    for name in ("", "three"):
        with pytest.raises(Refused):
            chosen(["one", "two"], name, several=False)
