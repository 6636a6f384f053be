"""A slot set behaves like a set of 0–16383, and prints as Redis does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.slots import ALL_SLOTS, SLOT_COUNT, Slots, even_spans

some = st.sets(st.integers(0, SLOT_COUNT - 1), max_size=50)


@given(some, some)
def test_it_agrees_with_sets_of_python(one: set[int], other: set[int]) -> None:
    a, b = Slots.of(one), Slots.of(other)
    assert (set(a | b), set(a & b), set(a - b)) == (one | other, one & other, one - other)
    assert (len(a), bool(a), a <= b) == (len(one), bool(one), one <= other)
    assert all(s in a for s in one)


@given(some)
def test_what_it_prints_it_reads_again(slots: set[int]) -> None:
    assert Slots.parse(str(Slots.of(slots))) == Slots.of(slots)


def test_neighbours_become_ranges() -> None:
    assert str(Slots.of([0, 1, 2, 5, 16383])) == "0-2,5,16383"
    assert str(ALL_SLOTS) == "0-16383"


@pytest.mark.parametrize("text", ["16384", "5-3", "-1"])
def test_slots_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"slot|invalid literal"):
        Slots.parse(text)


@pytest.mark.parametrize("parts", [1, 3, 5, 7, 1000])
def test_even_spans_cover_everything_once_and_differ_by_one_at_most(parts: int) -> None:
    spans = even_spans(parts)
    assert sum(map(len, spans)) == SLOT_COUNT
    assert max(map(len, spans)) - min(map(len, spans)) <= 1
    assert all(len(s.ranges()) == 1 for s in spans)
