"""What a ledger says, and what became of the writes in it: exactly what is gone is called lost, by its key."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.ledger import Call, Count, gap, judge_counters, judge_keys, read_ledger, series

SHARDS = {"a1": ("t0", "t1"), "b1": ("t2",), "c1": ("t3", "t4")}
HOME = {tag: shard for shard, tags in SHARDS.items() for tag in tags}
ERRORS = {
    "failed": "ClusterDownError: CLUSTERDOWN The cluster is down",
    "unknown": "TimeoutError: Timeout reading from socket",
}


def value(call: Call) -> str:
    return f"{call.client}/{call.tag}/{call.number}"


def key(call: Call) -> str:
    return f"drill:{{{call.tag}}}:{call.client}:{call.number}"


def write(number: int, outcome: str = "ok", **fields: object) -> Call:
    told = {"client": "k", "kind": "w", "begun": number - 0.5, "ended": float(number), "shard": "a1", "tag": "t0"}
    return Call(**{**told, "number": number, "outcome": outcome, "what": ERRORS.get(outcome, ""), **fields})  # type: ignore[arg-type]


def read(number: int, outcome: str = "ok", **fields: object) -> Call:
    return replace(write(number, outcome), kind="r", **fields)  # type: ignore[arg-type]


@st.composite
def ledgers(draw: st.DrawFn) -> list[Call]:
    """Of two clients, one after the other, so that the calls are not in the order of their ends."""
    calls = []
    for client in ("k", "l"):
        at = float(draw(st.integers(0, 5)))
        for number in range(1, draw(st.integers(0, 12)) + 1):
            at += draw(st.integers(1, 4)) / 4
            tag = draw(st.sampled_from(sorted(HOME)))
            kind = draw(st.sampled_from("wwwr"))
            outcome = draw(
                st.sampled_from(["ok", "ok", "ok", "failed", "unknown", *(["stale"] if kind == "r" else [])])
            )
            took = draw(st.integers(0, 8)) / 8
            what = ERRORS.get(outcome, "")
            calls.append(Call(client, kind, at - took, at, HOME[tag], tag, number, outcome, what))
    return calls


# --- Reading --------------------------------------------------------------------------------------------------------


def line_of(call: Call) -> str:
    return json.dumps(astuple(call)[1:])


@given(ledgers())
def test_a_ledger_is_read_as_it_was_written(calls: list[Call]) -> None:
    mine = [call for call in calls if call.client == "k"]
    assert read_ledger("k", [line_of(call) + "\n" for call in mine]) == mine


@given(ledgers(), st.data())
def test_of_a_line_that_is_cut_off_anywhere_nothing_is_read_and_of_the_rest_all(
    calls: list[Call], data: st.DataObject
) -> None:
    lines = [line_of(call) for call in calls]
    kept = [replace(call, client="k") for call in calls]
    cut = data.draw(st.sets(st.integers(0, len(lines) - 1)) if lines else st.just(set()))
    for number in cut:
        lines[number] = lines[number][: data.draw(st.integers(0, len(lines[number]) - 1))]
    assert read_ledger("k", lines) == [call for number, call in enumerate(kept) if number not in cut]


def test_a_line_may_be_cut_off_at_every_character() -> None:
    line = line_of(write(1, "failed"))
    assert len(read_ledger("k", [line])) == 1
    for length in range(len(line)):
        assert read_ledger("k", [line, line[:length], line]) == [write(1, "failed")] * 2, line[:length]


@pytest.mark.parametrize(
    "line",
    ["", "\x00\x00", "null", "7", "[]", "{}", '["w"]', '["w", 1, 2, "s", "t", 1, "ok", "", ""]', '["w", 1, 2]["w'],
)
def test_what_is_no_call_is_skipped(line: str) -> None:
    assert read_ledger("k", [line, line_of(write(1))]) == [write(1)]


# --- Keys -----------------------------------------------------------------------------------------------------------

PLANTED = ["as written", "as written", "gone", "other", "not looked at"]


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[Call], dict[Call, str]]:
    """A ledger, and what has become of the key of each write."""
    calls = draw(ledgers())
    return calls, {call: draw(st.sampled_from(PLANTED)) for call in calls if call.kind == "w"}


@given(judged())
def test_exactly_the_planted_losses_are_found_by_key_in_the_order_of_acknowledgement(
    drawn: tuple[list[Call], dict[Call, str]],
) -> None:
    calls, fate = drawn
    found = {
        call: {"as written": value(call), "gone": None, "other": "of another"}[how]
        for call, how in fate.items()
        if how != "not looked at"
    }
    counts, wrong = judge_keys(calls, found, value, key)

    gone = {key(c): c for c, how in fate.items() if c.outcome == "ok" and how == "gone"}
    other = {key(c): c for c, how in fate.items() if c.outcome == "ok" and how == "other"}
    assert {w.key for w in wrong if w.what == "lost"} == set(gone)
    assert {w.key for w in wrong if w.what == "altered"} == set(other)
    assert len(wrong) == len(gone) + len(other)
    for one in wrong:
        call = {**gone, **other}[one.key]
        assert (one.at, one.shard, one.client) == (call.ended, call.shard, call.client)
    assert [w.at for w in wrong] == sorted(w.at for w in wrong)

    present = ("as written", "other")

    def number(shard: str, test: Callable[[Call], bool]) -> int:
        return sum(test(call) for call in calls if call.shard == shard)

    assert set(counts) == {call.shard for call in calls}
    for shard, count in counts.items():
        assert count.lost == number(shard, lambda c: c in gone.values())
        assert count.altered == number(shard, lambda c: c in other.values())
        assert count.failed_present == number(shard, lambda c: c.outcome == "failed" and fate.get(c) in present)
        assert count.unknown_present == number(shard, lambda c: c.outcome == "unknown" and fate.get(c) in present)
        assert_tallied(count, [call for call in calls if call.shard == shard])


def assert_tallied(count: Count, calls: list[Call]) -> None:
    """What depends on the ledger alone."""
    told = Counter((call.kind, call.outcome) for call in calls)
    assert count.acknowledged == told["w", "ok"]
    assert count.failed == told["w", "failed"]
    assert count.unknown == told["w", "unknown"]
    assert count.reads == sum(n for (kind, _), n in told.items() if kind == "r")
    assert count.stale_reads == told["r", "stale"]
    assert count.errors["ClusterDownError"] == told["w", "failed"] + told["r", "failed"]
    assert count.errors["TimeoutError"] == told["w", "unknown"] + told["r", "unknown"]
    assert count.errors.total() == sum(n for (_, outcome), n in told.items() if outcome in ERRORS)


def test_an_empty_value_is_there_and_a_key_that_nobody_looked_at_is_neither_lost_nor_present() -> None:
    calls = [write(1), write(2), write(3, "unknown"), write(4, "unknown"), write(5, "failed")]
    counts, wrong = judge_keys(calls, {calls[0]: "", calls[2]: ""}, value, key)
    assert [(w.key, w.what) for w in wrong] == [("drill:{t0}:k:1", "altered")]
    assert (counts["a1"].lost, counts["a1"].unknown_present, counts["a1"].failed_present) == (0, 1, 0)


def test_a_read_is_neither_lost_nor_present() -> None:
    calls = [read(1), read(2, "failed"), read(3, "unknown"), read(4, "stale")]
    counts, wrong = judge_keys(calls, {calls[0]: None, **dict.fromkeys(calls[1:], "there")}, value, key)
    assert wrong == []
    told = counts["a1"]
    assert (told.lost, told.acknowledged, told.failed_present, told.unknown_present) == (0, 0, 0, 0)
    assert (told.reads, told.stale_reads) == (4, 1)


@given(ledgers())
def test_the_sum_of_all_shards_counts_every_write_once(calls: list[Call]) -> None:
    counts, _ = judge_keys(calls, {}, value, key)
    total = Count()
    for count in counts.values():
        total.add(count)
    assert_tallied(total, calls)
    assert total.acknowledged + total.failed + total.unknown + total.reads == len(calls)
    data = total.as_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["errors"] == {name: n for name, n in total.errors.items() if n}


# --- Counters -------------------------------------------------------------------------------------------------------


@st.composite
def counted(draw: st.DrawFn) -> tuple[list[Call], dict[tuple[str, str], int]]:
    """A ledger, and what its counters count: not all of them were looked at."""
    calls = draw(ledgers())
    tried = Counter((c.client, c.tag) for c in calls if c.kind == "w")
    looked = [counter for counter in sorted(tried) if draw(st.integers(0, 4))]
    return calls, {counter: draw(st.integers(0, tried[counter])) for counter in looked}


@given(counted())
def test_of_a_counter_is_lost_what_was_acknowledged_and_is_not_counted(
    drawn: tuple[list[Call], dict[tuple[str, str], int]],
) -> None:
    calls, found = drawn
    names = {(client, tag): f"drill:{{{tag}}}:{client}:count" for client in ("k", "l") for tag in HOME}
    counts, wrong = judge_counters(calls, dict(found), names)
    ended: dict[tuple[str, str], list[float]] = {}
    for call in calls:
        if call.acknowledged:
            ended.setdefault((call.client, call.tag), []).append(call.ended)
    done = {counter: len(ends) for counter, ends in ended.items()}
    missing = {counter: done.get(counter, 0) - now for counter, now in found.items()}

    expected = {
        (names[c], f"lost {n} of {done[c]}", max(ended[c]), HOME[c[1]], c[0]) for c, n in missing.items() if n > 0
    }
    assert {(w.key, w.what, w.at, w.shard, w.client) for w in wrong} == expected
    assert len(wrong) == len(expected)
    assert [w.at for w in wrong] == sorted(w.at for w in wrong)
    for shard, count in counts.items():
        of_it = [n for (_, tag), n in missing.items() if HOME[tag] == shard]
        assert count.lost == sum(n for n in of_it if n > 0) >= 0
        assert count.unknown_present == sum(-n for n in of_it if n < 0) >= 0
        assert count.altered == 0
        assert_tallied(count, [call for call in calls if call.shard == shard])


@pytest.mark.parametrize(
    ("outcomes", "now", "lost", "beyond"),
    [
        (["ok"] * 5, 5, 0, 0),
        (["ok"] * 5, 3, 2, 0),
        (["ok"] * 5, 0, 5, 0),
        (["ok", "unknown", "ok"], 3, 0, 1),
        (["ok", "unknown", "ok"], 2, 0, 0),
        (["unknown", "failed"], 0, 0, 0),
        (["unknown", "failed"], 1, 0, 1),
    ],
)
def test_a_counter_by_hand(outcomes: list[str], now: int, lost: int, beyond: int) -> None:
    calls = [write(number, outcome) for number, outcome in enumerate(outcomes, start=1)]
    counts, wrong = judge_counters(calls, {("k", "t0"): now}, {("k", "t0"): "counter"})
    assert (counts["a1"].lost, counts["a1"].unknown_present) == (lost, beyond)
    assert [w.what for w in wrong] == ([f"lost {lost} of {outcomes.count('ok')}"] if lost else [])


# --- Gaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [
        ([], None),
        ([read(12)], None),
        ([write(12, "failed"), write(14, "unknown")], 10),
        ([write(n) for n in range(8, 23)], 1),
        # none after the 13th second; none before the 17th
        ([write(n) for n in range(8, 14)], 7),
        ([write(n) for n in range(17, 23)], 7),
        ([write(1), *(write(n) for n in range(10, 23))], 9),
        ([*(write(n) for n in range(8, 21)), write(29)], 9),
        # it began before the window, or ended after it
        ([write(4), write(11), *(write(n) for n in range(12, 23))], 7),
        ([*(write(n) for n in range(8, 19)), write(26)], 8),
        ([write(1), write(29)], 28),
        # a longer one before or after the window does not count
        ([write(1), *(write(n) for n in range(9, 22)), write(40)], 1),
        ([write(1), *(write(n) for n in range(9, 20)), write(40)], 21),
        # what went wrong does not end a gap; where it stands in the ledger does not matter
        ([write(9), write(16, "failed"), write(18, "unknown"), write(19), write(12), write(21)], 7),
    ],
)
def test_a_gap_by_hand(calls: list[Call], seconds: float | None) -> None:
    assert gap(calls, "w", 10, 20) == seconds
    assert gap(reversed(calls), "w", 10, 20) == seconds


@given(ledgers(), st.integers(0, 10), st.integers(0, 6), st.sampled_from("wr"))
def test_the_gap_is_that_of_an_oracle_that_tries_all_stretches(
    calls: list[Call], begin: int, lasts: int, kind: str
) -> None:
    """The longest stretch without a good call that touches begin..end, between any two ends of a stretch: good calls,
    and the window's own where there is no good call beyond."""
    end = begin + lasts
    tried = [c for c in calls if c.kind == kind]
    good = [c.ended for c in tried if c.outcome in ("ok", "stale")]
    marks = [
        *good,
        *([begin] if all(at >= begin for at in good) else []),
        *([end] if max(good, default=0) < end else []),
    ]
    stretches = [
        later - earlier
        for earlier in marks
        for later in marks
        if earlier <= later and earlier <= end and later >= begin and not any(earlier < at < later for at in good)
    ]
    assert gap(calls, kind, begin, end) == (max(stretches) if tried else None)


# --- Series ---------------------------------------------------------------------------------------------------------


@given(ledgers(), st.integers(-8, 40), st.integers(0, 40), st.sampled_from([0.25, 0.5, 1.0, 3.0]))
def test_the_sums_of_a_series_are_the_calls_that_ended_in_its_time(
    calls: list[Call], eighths: int, lasts: int, step: float
) -> None:
    begin = eighths / 8
    end = begin + lasts / 8
    found = series(calls, begin, end, step)
    inside = [c for c in calls if begin <= c.ended <= end]
    assert set(found) == {c.shard for c in inside}
    assert {len(rows) for rows in found.values()} <= {int((end - begin) / step) + 1}
    for shard, rows in found.items():
        for number, row in enumerate(rows):
            first = begin + number * step
            of_it = [c for c in inside if c.shard == shard and first <= c.ended < first + step]
            good = Counter((c.kind, c.outcome in ("ok", "stale")) for c in of_it)
            assert row[:4] == [good["w", True], good["w", False], good["r", True], good["r", False]]
            assert row[4] == pytest.approx(max((1000 * (c.ended - c.begun) for c in of_it), default=0), abs=0.01)
    assert sum(sum(row[:4]) for rows in found.values() for row in rows) == len(inside)
