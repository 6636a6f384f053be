"""The fewest slots move, in few ranges, and a part of the moves is a part of the whole."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from slotwright.core.slots import ALL_SLOTS, SLOT_COUNT, Slots
from slotwright.core.transport import Closing, Open, Stock, Transport, balanced, quotas, transport
from slotwright.core.view import union

ONE = Fraction(1)


def stocks(*parts: Slots, gone: int = 0) -> list[Stock]:
    """Shards m0, m1 … with these slots; the last `gone` of them dissolve."""
    count = len(parts) - gone
    return [Stock(n, f"m{n}", slots, ONE if n < count else None) for n, slots in enumerate(parts)]


def after(parts: list[Stock], done: Transport) -> dict[str, Slots]:
    owned = {s.number: s.slots | done.given.get(s.number, Slots()) for s in parts}
    for move in done.moves:
        assert move.slots <= owned[move.source]
        owned[move.source] -= move.slots
        owned[move.target] |= move.slots
    return {s.name: owned[s.number] for s in parts}


def spans(*counts: int) -> list[Slots]:
    found, first = [], 0
    for count in counts:
        found.append(Slots.span(first, first + count - 1) if count else Slots())
        first += count
    return found


@st.composite
def cuts(draw: st.DrawFn) -> list[Stock]:
    """All slots, dealt to 3–8 shards in random pieces; some of these new, some about to go."""
    count = draw(st.integers(3, 8))
    edges = sorted({0, SLOT_COUNT, *draw(st.lists(st.integers(1, SLOT_COUNT - 1), min_size=count, max_size=3 * count))})
    owned = [Slots()] * count
    for number, (first, end) in enumerate(pairwise(edges)):
        at = number % count if number < count else draw(st.integers(0, count - 1))
        owned[at] |= Slots.span(first, end - 1)
    gone = draw(st.integers(0, count - 3))
    new = [Slots()] * draw(st.integers(0, 2)) if not gone else []
    return stocks(*new, *owned, gone=gone)


@given(cuts())
@settings(max_examples=150)
def test_no_fewer_slots_can_move_and_the_shares_are_even(parts: list[Stock]) -> None:
    done = transport(parts, Slots(), ())
    owned = after(parts, done)
    kept = [s for s in parts if s.weight is not None]
    size, larger = divmod(SLOT_COUNT, len(kept))
    assert sorted(len(owned[s.name]) for s in kept) == [size] * (len(kept) - larger) + [size + 1] * larger
    assert union(owned.values()) == ALL_SLOTS
    have = sorted((len(s.slots) for s in kept), reverse=True)
    stay = sum(min(h, size + (n < larger)) for n, h in enumerate(have))
    assert sum(len(m.slots) for m in done.moves) == SLOT_COUNT - stay


@given(cuts(), st.data())
@settings(max_examples=100)
def test_after_some_of_the_moves_the_others_are_left(parts: list[Stock], data: st.DataObject) -> None:
    done = transport(parts, Slots(), ())
    made = data.draw(st.integers(0, len(done.moves)))
    owned = after(parts, Transport((), {}, done.moves[:made]))
    rest = [Stock(s.number, s.name, owned[s.name], s.weight) for s in parts]
    assert transport(rest, Slots(), ()).moves == done.moves[made:]


def test_a_shard_that_gives_keeps_its_first_slots_in_one_range() -> None:
    done = transport(stocks(*spans(5462, 5461, 5461, 0)), Slots(), ())
    assert [str(m.slots) for m in done.moves] == ["4096-5461", "9558-10922", "15019-16383"]


def test_moves_end_where_the_rest_is_not_worth_it() -> None:
    slack = Fraction(2, 100)
    assert transport(stocks(*spans(5500, 5423, 5461)), Slots(), (), slack=slack).moves == ()
    hundred = transport(stocks(*spans(*[164] * 84, *[163] * 16, 0)), Slots(), (), slack=slack)
    assert 159 <= sum(len(m.slots) for m in hundred.moves) < 162
    assert not balanced([5000, 5692, 5692], [ONE] * 3, slack)


def test_a_shard_that_dissolves_or_is_new_is_served_to_the_end_of_need() -> None:
    slack = Fraction(2, 100)
    parts = stocks(*spans(5350, 5350, 5350, 334), gone=1)
    owned = after(parts, transport(parts, Slots(), (), slack=slack))
    assert not owned["m3"]
    assert all(after(stocks(*spans(8192, 8192, 0)), transport(stocks(*spans(8192, 8192, 0)), Slots(), ())).values())


def test_shares_follow_the_weights_and_rounding_spares_moves() -> None:
    assert quotas([0, 0, 0], [Fraction(2), ONE, ONE]) == [8192, 4096, 4096]
    assert quotas([5461, 5462, 5461], [ONE] * 3) == [5461, 5462, 5461]
    assert quotas([0, 0, 16384], [ONE] * 3) == [5461, 5461, 5462]


def test_slots_without_an_owner_are_given_first() -> None:
    parts = stocks(*spans(5462, 5461, 0))
    done = transport(parts, ALL_SLOTS - union(s.slots for s in parts), ())
    assert (done.moves, {n: str(s) for n, s in done.given.items()}) == ((), {2: "10923-16383"})


def test_while_an_owner_is_away_slots_without_an_owner_are_given_and_none_move() -> None:
    first, second, third = spans(8000, 1000, 1000)
    parts = [Stock(0, "m0", first, ONE, away=True), Stock(1, "m1", second), Stock(2, "m2", third)]
    done = transport(parts, ALL_SLOTS - union((first, second, third)), (), frozen=True)
    assert done.moves == () and union(done.given.values()) == Slots.span(10000, 16383)
    assert 0 not in done.given


def test_an_open_slot_goes_where_it_was_going_if_slots_go_there() -> None:
    parts = stocks(*spans(5462, 5461, 5461, 0))
    opened = [Open(3, "m0", ("m3",)), Open(4, "m0", ("m1",))]
    done = transport(parts, Slots(), opened)
    assert done.closing == (Closing("m1", "m0", Slots.of([4])),)
    assert 3 in done.moves[0].slots and 4 not in done.moves[0].slots
    assert len(done.moves[0].slots) == 1366
