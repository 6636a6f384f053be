"""When a master was called FAIL, who took over, for how long two served, and from when on all was whole."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.slots import Slots
from slotwright.core.timeline import Sample, Shard, failing_since, overlap, promoted, whole_since

SLOTS = Slots.span(0, 99)
OTHERS = Slots.span(100, 199)
SHARD = Shard("a1", "A", SLOTS)


def master(at: float, node: str, slots: Slots = SLOTS, **fields: Any) -> Sample:
    return Sample(at, node, **{"id": node[0].upper(), "state": "ok", "master": True, "slots": slots, **fields})


def replica(at: float, node: str, **fields: Any) -> Sample:
    return Sample(at, node, **{"id": node[0].upper(), "state": "ok", "link_up": True, **fields})


def silent(at: float, node: str) -> Sample:
    return Sample(at, node)


# --- FAIL -----------------------------------------------------------------------------------------------------------

A, B = frozenset("A"), frozenset("B")


@pytest.mark.parametrize(
    ("samples", "since"),
    [
        ([], None),
        ([master(1, "a1"), replica(2, "b1")], None),
        ([replica(3, "b1", failing=A)], 3),
        ([replica(3, "b1", suspected=A)], None),
        ([replica(2, "b1", suspected=A), replica(3, "b1", failing=A), replica(4, "c1", failing=A)], 3),
        ([replica(3, "b1", failing=B), replica(5, "b1", failing=A | B)], 5),
        ([master(3, "a1", failing=A)], None),
        ([master(3, "a1", failing=B)], None),
        ([silent(3, "b1"), replica(4, "c1", failing=A)], 4),
        ([replica(0.5, "b1", failing=A)], None),
        ([replica(0.5, "b1", failing=A), replica(6, "c1", failing=A)], 6),
        ([replica(1, "b1", failing=A)], 1),
    ],
)
def test_a_master_fails_when_the_first_other_node_says_so(samples: list[Sample], since: float | None) -> None:
    assert failing_since(samples, "A", 1.0) == since


# --- Promotion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "heir"),
    [
        ([], None),
        ([master(2, "a1")], None),
        ([replica(2, "b1")], None),
        ([replica(2, "b1"), master(3, "b1")], (3, "b1")),
        ([master(2, "b1", state="fail"), master(3, "b1")], (3, "b1")),
        ([master(2, "b1", slots=OTHERS)], None),
        ([master(2, "b1", slots=OTHERS | SLOTS)], (2, "b1")),
        ([master(2, "b1", slots=Slots.span(0, 98))], None),
        ([master(2, "b1", slots=Slots())], None),
        ([silent(2, "b1"), silent(3, "c1")], None),
        ([master(0.5, "b1"), master(4, "c1")], (4, "c1")),
        ([master(1, "b1")], (1, "b1")),
        ([master(2, "c1", slots=OTHERS), silent(2.5, "c1"), master(3, "b1"), master(4, "c1")], (3, "b1")),
    ],
)
def test_the_heir_is_the_first_other_node_that_serves_all_slots(
    samples: list[Sample], heir: tuple[float, str] | None
) -> None:
    found = promoted(samples, SHARD, 1.0)
    assert (found and (found.at, found.node)) == heir


# --- Two at a time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [
        ([], 0),
        ([master(0, "a1")], 0),
        ([master(0, "a1"), master(4, "b1"), replica(7, "a1")], 3),
        ([master(0, "a1"), master(4, "b1"), silent(7, "a1")], 3),
        ([master(0, "a1"), master(4, "b1"), master(7, "a1", state="fail")], 3),
        ([master(0, "a1"), master(4, "b1")], 6),
        ([master(0, "a1"), master(4, "b1", state="fail"), master(6, "b1")], 4),
        ([master(0, "a1"), master(4, "b1", slots=OTHERS)], 0),
        ([master(0, "a1", slots=OTHERS), master(0, "b1", slots=OTHERS)], 0),
        ([master(0, "a1"), master(4, "b1", slots=OTHERS | Slots.of([7]))], 6),
        ([master(0, "a1"), silent(2, "a1"), master(4, "b1"), master(5, "a1"), replica(6, "a1")], 1),
        ([master(0, "a1"), master(1, "b1"), replica(2, "a1"), master(5, "a1"), replica(7, "b1")], 3),
        ([master(0, "a1"), master(1, "b1"), master(2, "c1"), silent(3, "a1"), silent(4, "b1")], 3),
        ([master(0, "a1"), master(4, "b1"), replica(4, "a1")], 0),
        ([master(0, "a1"), master(4, "b1"), replica(20, "a1")], 6),
        ([master(0, "a1"), master(12, "b1")], 0),
    ],
)
def test_two_that_serve_a_slot_overlap_until_one_of_them_does_not(samples: list[Sample], seconds: float) -> None:
    assert overlap(samples, SHARD, 10) == seconds


# --- Whole again ----------------------------------------------------------------------------------------------------

PAIR = [master(0, "a1"), replica(0, "b1")]


@pytest.mark.parametrize(
    ("samples", "since"),
    [
        ([], None),
        (PAIR, 0),
        (PAIR[:1], None),
        ([*PAIR, silent(3, "a1")], None),
        ([*PAIR, silent(3, "a1"), replica(6, "a1")], 6),
        ([*PAIR, silent(3, "b1"), replica(5, "b1", link_up=False), replica(7, "b1")], 7),
        ([*PAIR, replica(3, "b1", link_up=False)], None),
        ([*PAIR, master(3, "a1", state="fail"), master(4, "a1")], 4),
        ([*PAIR, master(3, "a1", failing=B), master(8, "a1")], 8),
        ([*PAIR, master(3, "a1", suspected=B)], 0),
        # it flaps
        ([*PAIR, silent(2, "b1"), replica(3, "b1"), silent(5, "b1"), replica(6, "b1"), silent(9, "b1")], None),
        ([*PAIR, silent(2, "b1"), replica(3, "b1"), silent(5, "b1"), replica(6, "b1")], 6),
        # both are away, and come back one after the other
        ([*PAIR, silent(2, "a1"), silent(3, "b1"), master(5, "b1"), replica(7, "a1")], 7),
        # others do not matter, nor what is said after the end
        ([*PAIR, silent(2, "x1")], 0),
        ([*PAIR, silent(12, "b1")], 0),
        ([*PAIR, silent(2, "b1"), replica(12, "b1")], None),
        ([master(0, "a1"), replica(12, "b1")], None),
    ],
)
def test_it_is_whole_from_when_on_all_answer_and_are_in_touch_to_the_end(
    samples: list[Sample], since: float | None
) -> None:
    assert whole_since(samples, ["a1", "b1"], 10) == since


# --- Against brute force: what does each node say at every tenth of a second? ---------------------------------------

NODES = ("a1", "b1", "c1")


@st.composite
def stories(draw: st.DrawFn) -> list[Sample]:
    """Up to 15 samples, in order, with simultaneous ones; at whole numbers, so that tenths tell all."""
    steps = draw(st.lists(st.integers(0, 3), max_size=15))
    found = []
    for at in accumulate(steps):
        node = draw(st.sampled_from(NODES))
        if draw(st.integers(0, 3)) == 0:
            found.append(silent(at, node))
            continue
        found.append(
            Sample(
                at,
                node,
                id=node[0].upper(),
                state=draw(st.sampled_from(["ok", "ok", "ok", "fail"])),
                master=draw(st.booleans()),
                link_up=draw(st.sampled_from([True, True, False])),
                slots=draw(st.sampled_from([SLOTS, SLOTS, OTHERS, Slots.span(50, 149), Slots()])),
                failing=draw(st.sampled_from([frozenset(), frozenset(), A, B])),
            )
        )
    return found


def says(samples: list[Sample], node: str, moment: float) -> Sample | None:
    return next((s for s in reversed(samples) if s.node == node and s.at <= moment), None)


def at_tenths(until: int) -> list[float]:
    return [(n + 0.5) / 10 for n in range(10 * until)]


@given(stories(), st.integers(0, 40))
def test_the_overlap_is_that_of_a_fine_grid(samples: list[Sample], until: int) -> None:
    ticks = 0
    for moment in at_tenths(until):
        heard = [says(samples, node, moment) for node in NODES]
        serving = [s.slots for s in heard if s and s.id and s.master and s.state == "ok"]
        ticks += any(sum(slot in slots for slots in serving) > 1 for slot in (0, 50, 99))
    assert overlap(samples, SHARD, until) == pytest.approx(ticks / 10)


@given(stories(), st.integers(0, 40), st.sets(st.sampled_from(NODES), min_size=1))
def test_whole_since_is_where_the_last_run_of_good_moments_begins(
    samples: list[Sample], until: int, nodes: set[str]
) -> None:
    good = []
    for moment in at_tenths(until):
        heard = [says(samples, node, moment) for node in nodes]
        good.append(all(s and s.id and s.state == "ok" and not s.failing and (s.master or s.link_up) for s in heard))
    run = 0
    while run < len(good) and good[-1 - run]:
        run += 1
    assert whole_since(samples, nodes, until) == (pytest.approx(until - run / 10) if run else None)


@given(stories(), st.integers(0, 20))
def test_fail_and_heir_are_of_others_and_not_before_the_fault(samples: list[Sample], since: int) -> None:
    calls = [s.at for s in samples if s.at >= since and s.id in ("B", "C") and "A" in s.failing]
    assert failing_since(samples, "A", since) == min(calls, default=None)
    heirs = [s for s in samples if s.at >= since and s.id in ("B", "C") and s.serves and s.slots == SLOTS]
    assert promoted(samples, SHARD, since) == (heirs[0] if heirs else None)
