"""What a drill foretells is what was measured; what stands against one; and how one is judged."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.drill import (
    CUTS,
    KINDS,
    Fault,
    Objective,
    Prediction,
    Span,
    anyway,
    doubts,
    forgetful,
    pictured,
    predict,
    seeds,
    tags_of,
    verdict,
)
from slotwright.core.invariants import violations
from slotwright.core.simulate import simulate
from slotwright.core.slots import SLOT_COUNT
from slotwright.core.steps import Failover
from slotwright.core.survival import loss, survival
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Severity
from tests.core.build import THREE_ZONES, topology
from tests.core.worlds import World, dead, draw_topology, happen, serving

SIX = topology(THREE_ZONES)
NINE = topology({zone: [1, 1, 1] for zone in "abc"}, replicas=2)
TWO_ZONES = topology({"a": [1, 1, 1], "b": [1, 1, 1]})
ALONE = topology({zone: [1] for zone in "abc"}, replicas=0)
FIVE = topology({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1, 1]})
FIFTEEN = topology({zone: [1, 1, 1] for zone in "abcde"}, replicas=2)
whole = cache(serving)


def contains(span: Span | None, seconds: float) -> bool:
    assert span is not None
    return span.least <= seconds <= span.most


def in_zone(wanted: Topology, zone: str) -> frozenset[str]:
    return frozenset(i.name for i in wanted.instances if i.zone == zone)


def foretold(
    wanted: Topology,
    struck: Collection[str],
    kind: str = "kill",
    *,
    timeout: float = 2.0,
    seconds: float = 60.0,
    rate: float = 100.0,
    full: bool = True,
    view: ClusterView | None = None,
) -> Prediction:
    view = view or whole(wanted)
    fault = Fault(kind, "zone a", frozenset(struck), seconds, rate)
    lost = loss(fault.what, fault.struck, wanted, view)
    return predict(fault, lost, wanted, view, node_timeout=timeout, full_coverage=full)


def two_masters_in_a() -> ClusterView:
    """Two of three masters stand in zone a, each with its replica elsewhere."""
    view = whole(SIX)
    heir = next(n for n in view.nodes if n.name.startswith("a") and n.myself.master)
    view = simulate(view, [Failover(heir.name)])
    assert sum(view.name_of(i).startswith("a") for i in view.owners) == 2
    return view


# --- What was measured (FIELD-NOTES.md, 4 and 6; writers of about 1,000 a second to one shard) -----------------------

MEASURED = [
    # node timeout, kind, full coverage, FAIL seen, write gap, lost, write gap of the other shards
    (2.0, "kill", True, 2.8, 3.6, 0, 0.75),
    (2.0, "kill", False, 2.9, 4.1, 0, 0.0),
    (2.0, "freeze", True, 2.9, 4.0, 0, 1.1),
    (2.0, "partition", True, 2.5, 3.95, 3332, 1.1),
    (5.0, "partition", True, 6.9, 9.1, 7614, 1.1),
]


@pytest.mark.parametrize(("timeout", "kind", "full", "fail", "gap", "lost", "others"), MEASURED)
def test_what_was_measured_is_what_is_foretold(
    timeout: float, kind: str, full: bool, fail: float, gap: float, lost: int, others: float
) -> None:
    found = foretold(SIX, in_zone(SIX, "a"), kind, timeout=timeout, rate=3000, full=full)
    assert (found.survives, found.verdict) == (True, "survives")
    assert contains(found.fail, fail)
    assert contains(found.gap, gap)
    assert contains(found.other, others)
    assert lost <= found.loss


@pytest.mark.parametrize(("timeout", "gaps"), [(15.0, (19.6,)), (5.0, (8.4,)), (2.0, (3.4, 2.7))])
def test_one_master_that_was_killed_gave_way_within_the_gap_that_is_foretold(
    timeout: float, gaps: tuple[float, ...]
) -> None:
    found = foretold(SIX, {next(iter(masters_of(SIX)))}, timeout=timeout)
    assert all(contains(found.gap, gap) for gap in gaps)


@pytest.mark.parametrize(
    ("wanted", "timeout", "fail", "gap"),
    [
        (SIX, 2.0, Span(2, 3.5), Span(2.5, 5)),
        (SIX, 5.0, Span(5, 8), Span(5.5, 9.5)),
        (SIX, 15.0, Span(15, 23), Span(15.5, 24.5)),
        (NINE, 2.0, Span(2, 3.5), Span(2.5, 6)),
        (NINE, 5.0, Span(5, 8), Span(5.5, 10.5)),
        (NINE, 15.0, Span(15, 23), Span(15.5, 25.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_spans_follow_from_the_node_timeout_and_from_how_many_replicas_vie(
    wanted: Topology, timeout: float, fail: Span, gap: Span, full: bool, kind: str
) -> None:
    found = foretold(wanted, in_zone(wanted, "a"), kind, timeout=timeout, full=full)
    if kind == "bus-only":  # clients reach it until it stops by itself (measured: benchmarks/drill.py)
        gap = Span(0, gap.most)
    assert (found.survives, found.fail, found.gap) == (True, fail, gap)
    assert found.other == (Span(0, gap.most - timeout) if full else Span(0, 0.5))
    text = "\n".join(found.lines)
    assert KINDS[kind] in text
    assert str(fail) in text and str(gap) in text
    assert ("no slot is served" in text) is full


def test_of_the_replicas_only_those_vie_that_are_left() -> None:
    view = whole(NINE)
    master = next(iter(view.owners))
    replicas = [r.name for r in view.replicas_of(master)]
    for gone, most in (([], 6.0), (replicas[:1], 5.0)):
        found = foretold(NINE, {view.name_of(master), *gone})
        assert found.survives
        assert found.gap == Span(2.5, most)
    assert foretold(NINE, {view.name_of(master)}, view=dead(view, replicas[0])).gap == Span(2.5, 5)


def masters_of(wanted: Topology) -> list[str]:
    view = whole(wanted)
    return [view.name_of(i) for i in view.owners]


def test_a_span_reads_as_it_is_said() -> None:
    assert str(Span(2, 3.55)) == "2.0 to 3.5 s"


def test_a_split_vote_is_foretold_where_two_replicas_vie_and_just_a_majority_is_left() -> None:
    assert "split the vote" in "\n".join(foretold(NINE, in_zone(NINE, "a")).lines)
    assert "split the vote" not in "\n".join(foretold(SIX, in_zone(SIX, "a")).lines)
    found = foretold(FIFTEEN, in_zone(FIFTEEN, "a"))
    assert found.gap == Span(2.5, 6)  # two vie, but four of five masters are left
    assert "split the vote" not in "\n".join(found.lines)


def test_the_next_vote_after_a_split_one_is_when_it_was_measured() -> None:
    """First retry after about 9 s at a node timeout of 2 s (FIELD-NOTES.md, 2)."""
    assert "about 8 s later" in "\n".join(foretold(NINE, in_zone(NINE, "a"), timeout=2).lines)


# --- What may be lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_kind(kind: str, timeout: float) -> None:
    lost = foretold(SIX, in_zone(SIX, "a"), kind, timeout=timeout, rate=3000).loss
    if kind in ("stop", "reboot"):
        assert lost == 0
    elif kind in CUTS:
        assert 1.4 * timeout * 1000 < lost < 2 * timeout * 1000
    else:
        assert 0 < lost < 200


def test_what_may_be_lost_are_writes_to_struck_masters_only() -> None:
    by_zone = {z: sum(m.startswith(z) for m in masters_of(FIVE)) for z in "abc"}
    assert sorted(by_zone.values()) == [1, 2, 2]
    for zone, masters in by_zone.items():
        found = foretold(FIVE, in_zone(FIVE, zone), "partition", timeout=2, rate=5000)
        assert 1000 * masters * 2.8 < found.loss < 1000 * masters * 4


@given(st.sampled_from(list(KINDS)), st.floats(1, 1e5), st.floats(1, 1e5))
def test_more_writes_never_lose_less(kind: str, one: float, other: float) -> None:
    few, many = (foretold(SIX, in_zone(SIX, "b"), kind, rate=rate).loss for rate in sorted((one, other)))
    assert 0 <= few <= many


# --- What is not survived -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_two_of_three_masters_in_the_zone_is_the_end_until_they_return(kind: str, full: bool) -> None:
    found = foretold(SIX, in_zone(SIX, "a"), kind, view=two_masters_in_a(), full=full)
    assert (found.survives, found.fail, found.gap, found.other) == (False, None, None, None)
    assert "no failover until they return: 1 masters are left, and 2 are needed for a vote" in found.lines[-1]
    assert found.verdict == "no failover: no majority of masters is left"


def test_of_two_zones_one_is_survived_and_the_other_not() -> None:
    found = [foretold(TWO_ZONES, in_zone(TWO_ZONES, zone)) for zone in "ab"]
    [good], [bad] = [p for p in found if p.survives], [p for p in found if not p.survives]
    assert contains(good.gap, 3.6)
    assert bad.gap is None
    assert "no failover until they return" in bad.lines[-1]


@pytest.mark.parametrize(("full", "other"), [(True, None), (False, Span(0, 0.5))])
def test_slots_without_a_copy_elsewhere_are_not_served_and_with_full_coverage_no_slot_is(
    full: bool, other: Span | None
) -> None:
    found = foretold(ALONE, in_zone(ALONE, "b"), full=full)
    assert (found.survives, found.gap, found.other) == (False, None, other)
    assert contains(found.fail, 2.8)
    assert found.lines[-1] == "5461 slots have no copy elsewhere, and are not served until they return"


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_alone_may_go_and_nothing_is_lost(kind: str) -> None:
    replicas = {n.name for n in whole(SIX).nodes if n.myself.master}
    found = foretold(SIX, replicas, kind, rate=3000)
    assert (found.survives, found.fail, found.loss) == (True, None, 0)
    assert found.gap == found.other == Span(0, 0.5)
    assert "no master is among them" in found.lines[-1]


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(("timeout", "seconds"), [(2.0, 1.0), (5.0, 4.9), (15.0, 10.0)])
def test_a_fault_shorter_than_the_node_timeout_ends_before_anybody_takes_over(
    timeout: float, seconds: float, full: bool
) -> None:
    found = foretold(SIX, in_zone(SIX, "a"), "freeze", timeout=timeout, seconds=seconds, full=full)
    assert (found.survives, found.fail) == (True, None)
    assert contains(found.gap, seconds)
    assert found.other == (found.gap if full else Span(0, 0.5))
    assert "no replica takes over" in found.lines[-1]


# --- What holds for any cluster -------------------------------------------------------------------------------------

TIMEOUTS = st.floats(0.5, 30)


@given(st.sampled_from([SIX, NINE, FIVE]), st.sampled_from("abc"), st.sampled_from(list(KINDS)), st.booleans(),
       st.lists(TIMEOUTS, min_size=2, max_size=5), st.floats(0, 100))  # fmt: skip
def test_a_longer_node_timeout_never_foretells_a_shorter_gap(
    wanted: Topology, zone: str, kind: str, full: bool, timeouts: list[float], longer: float
) -> None:
    """As long as the fault outlasts it; what is over before that is another thing."""
    seconds = max(timeouts) + longer
    struck = in_zone(wanted, zone)
    found = [foretold(wanted, struck, kind, timeout=t, seconds=seconds, full=full) for t in sorted(timeouts)]
    for shorter, later in pairwise(found):
        for one, other in ((shorter.fail, later.fail), (shorter.gap, later.gap), (shorter.other, later.other)):
            assert one and other
            assert one.least <= other.least
            assert one.most <= other.most
        assert shorter.loss <= later.loss


@given(st.sampled_from([SIX, NINE, FIVE]), st.sampled_from("abc"), st.sampled_from(list(KINDS)), TIMEOUTS,
       st.floats(0.1, 100), st.booleans())  # fmt: skip
def test_spans_run_forwards_and_nobody_waits_longer_than_the_fault_lasts_for_certain(
    wanted: Topology, zone: str, kind: str, timeout: float, seconds: float, full: bool
) -> None:
    found = foretold(wanted, in_zone(wanted, zone), kind, timeout=timeout, seconds=seconds, full=full)
    for span in (found.fail, found.gap, found.other):
        assert span is None or 0 <= span.least <= span.most
    assert found.gap is not None and found.gap.least <= seconds
    assert (found.fail is None) is (seconds < timeout)
    if found.fail:
        assert found.fail.most < found.gap.most
    assert found.other and found.other.most <= found.gap.most


@pytest.mark.parametrize("seed", range(40))
def test_it_survives_what_the_survival_of_the_layout_says_and_then_says_so_in_figures(seed: int) -> None:
    rng = random.Random(seed)
    world = World(wanted := draw_topology(rng), serving(wanted))
    for _ in range(rng.choice((0, 1, 2))):
        happen(rng, world, deaths=False, kinds=("failover", "rehome", "move"))
    for row in survival(world.topology, world.view):
        struck = {i.name for i in world.topology.instances if i.zone == row.lost}
        found = foretold(world.topology, struck, view=world.view)
        assert found.survives == row.survives, world.story
        assert (found.gap is None) == (not row.survives)
        assert (found.fail is not None) == (row.quorum and row.masters_lost > 0)
        assert found.lines[0].startswith(f"{len(struck)} of {len(world.topology.instances)} instances are killed")


def test_as_data_a_span_is_its_end_and_never_is_none() -> None:
    found = foretold(SIX, in_zone(SIX, "a"), timeout=5)
    assert found.as_dict() == {
        "survives": True,
        "verdict": "survives",
        "fail_after": 8.0,
        "write_gap": 9.5,
        "other_gap": 4.5,
        "worst_loss": found.loss,
        "lines": list(found.lines),
    }
    never = foretold(SIX, in_zone(SIX, "a"), view=two_masters_in_a()).as_dict()
    assert [never[name] for name in ("fail_after", "write_gap", "other_gap")] == [None] * 3
    outage = replace(found, gap=Span(0, 0.0)).as_dict()
    assert outage["write_gap"] == 0.0


# --- What stands against it -----------------------------------------------------------------------------------------


def doubted(
    struck: Collection[str], view: ClusterView, said: str = "", broken: Collection[Finding] = ()
) -> list[Finding]:
    fault = Fault("kill", "zone a", frozenset(struck), 30, 100)
    lost = loss(fault.what, fault.struck, SIX, view)
    prediction = predict(fault, lost, SIX, view, node_timeout=2, full_coverage=True)
    return doubts(fault, lost, prediction, list(broken), said, WORDS, "prod")


WORDS = anyway("prod", "zone a")


def test_the_words_name_the_cluster_and_what_is_lost() -> None:
    assert WORDS == "prod may be down while zone a is"
    assert len({anyway(c, w) for c in ("prod", "test") for w in ("zone a", "zone b", "host a")}) == 6


def test_nothing_stands_against_what_is_survived_whatever_is_said() -> None:
    assert doubted(in_zone(SIX, "a"), whole(SIX)) == []
    assert doubted(in_zone(SIX, "a"), whole(SIX), WORDS) == []


@pytest.mark.parametrize(
    "said", ["", "yes", "true", WORDS.upper(), WORDS + " ", WORDS[:-1], anyway("prod", "zone b"), anyway("b", "zone a")]
)
def test_what_is_not_survived_is_refused_unless_the_very_words_are_said(said: str) -> None:
    view = two_masters_in_a()
    [finding] = doubted(in_zone(SIX, "a"), view, said)
    assert (finding.code, finding.severity, finding.where) == ("would-not-survive", Severity.ERROR, "cluster prod")
    assert "does not survive the loss of zone a" in finding.what
    assert "no failover until they return" in finding.what
    assert f"-e 'drill_anyway=\"{WORDS}\"'" in finding.remedy
    assert "playbooks/survival.yml" in finding.remedy
    assert doubted(in_zone(SIX, "a"), view, WORDS) == []


@pytest.mark.parametrize("said", ["", WORDS])
def test_a_cluster_that_is_not_whole_is_refused_whatever_is_said(said: str) -> None:
    replica = next(n.name for n in whole(SIX).nodes if n.myself.master)
    view = dead(whole(SIX), replica)
    broken = violations(SIX, view)
    errors = [f for f in broken if f.severity is Severity.ERROR]
    found = [f for f in doubted(in_zone(SIX, "a"), view, said, broken) if f.code == "not-whole"]
    assert errors and len(found) == len(errors)
    for finding, error in zip(found, errors, strict=True):
        assert finding.severity is Severity.ERROR
        assert error.code in finding.what and error.what in finding.what
        assert finding.where
        assert finding.remedy.startswith("mend that first")


def test_warnings_stand_against_nothing_and_every_reason_is_told() -> None:
    warning = Finding("I9", "node a1:7001", "little memory is left", "give more", Severity.WARNING)
    info = replace(warning, severity=Severity.INFO)
    error = Finding("I3", "", "slot 1 is open", "run heal.yml")
    struck = in_zone(SIX, "a")
    assert doubted(struck, whole(SIX), broken=[warning, info]) == []
    found = doubted(struck, two_masters_in_a(), broken=[warning, error, error])
    assert [f.code for f in found] == ["not-whole", "not-whole", "would-not-survive"]
    assert found[0].where == "cluster prod"


NAMES = [i.name for i in SIX.instances]


@pytest.mark.parametrize("kind", KINDS)
def test_what_keeps_nothing_on_disk_may_be_frozen_or_cut_off_but_not_ended(kind: str) -> None:
    fault = Fault(kind, "zone a", in_zone(SIX, "a"), 30, 100)
    found = forgetful(fault, NAMES)
    assert [f.where for f in found] == ([f"node {n}" for n in sorted(fault.struck)] if kind in ENDING else [])
    for finding in found:
        assert (finding.code, finding.severity) == ("would-forget", Severity.ERROR)
        assert f"drill_fault={kind}" in finding.what
        assert "appendonly yes" in finding.remedy
    assert forgetful(fault, []) == forgetful(fault, in_zone(SIX, "b")) == []


ENDING = ("stop", "kill", "reboot")


# --- How it is judged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "measured", "met"),
    [
        (5.0, 4.9, True),
        (5.0, 5.0, True),
        (5.0, 5.01, False),
        (0.0, 0.0, True),
        (0.0, 1.0, False),
        (5.0, None, False),
        (0.0, None, False),
        (None, 4.9, None),
        (None, None, None),
    ],
)
def test_an_objective_is_met_missed_or_not_wanted(
    limit: float | None, measured: float | None, met: bool | None
) -> None:
    objective = Objective("write gap", "s", limit, measured)
    assert objective.met is met
    assert objective.as_dict() == {"name": "write gap", "unit": "s", "limit": limit, "measured": measured, "met": met}
    assert verdict([objective], [])[0] == ("failed" if met is False else "passed")


def test_a_failure_says_what_was_measured_and_what_is_wanted() -> None:
    assert Objective("write gap", "s", 5, 6.25).failure() == "write gap: 6.25 s, at most 5 is wanted"
    assert Objective("write gap", "s", 5, None).failure() == "write gap: not reached, at most 5 s is wanted"


MET, MISSED = Objective("lost", "writes", 0, 0), Objective("write gap", "s", 5, 6)
NOT_MEASURED, NOT_WANTED = Objective("redundancy", "s", 60, None), Objective("overlap", "s", None, 3)


@pytest.mark.parametrize(
    ("objectives", "broken", "unfinished", "said", "reasons"),
    [
        ([], [], "", "passed", []),
        ([MET, NOT_WANTED], [], "", "passed", []),
        ([MET, MISSED], [], "", "failed", [MISSED.failure()]),
        ([NOT_MEASURED, MISSED], [], "", "failed", [NOT_MEASURED.failure(), MISSED.failure()]),
        ([MET], ["I1: slot 5"], "", "failed", ["in the end: I1: slot 5"]),
        ([MISSED], ["I1: slot 5"], "", "failed", [MISSED.failure(), "in the end: I1: slot 5"]),
        ([MET], [], "cut short", "incomplete", ["cut short"]),
        ([MISSED], ["I1: slot 5"], "cut short", "incomplete",
         ["cut short", MISSED.failure(), "in the end: I1: slot 5"]),
    ],
)  # fmt: skip
def test_what_was_cut_short_is_incomplete_whatever_else_is_wrong(
    objectives: list[Objective], broken: list[str], unfinished: str, said: str, reasons: list[str]
) -> None:
    assert verdict(objectives, broken, unfinished) == (said, reasons)


# --- What clients and pictures need ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", "abc")
def test_seeds_are_all_nodes_those_last_that_are_struck(zone: str) -> None:
    view, struck = whole(NINE), in_zone(NINE, zone)
    found = seeds(view, struck)
    ends = {(i.address, i.port): i.name for i in NINE.instances}
    assert sorted(found) == sorted(ends)
    assert [ends[end] in struck for end in found] == [False] * 6 + [True] * 3
    assert {ends[end] for end in found[6:]} == struck


@pytest.mark.parametrize(("each", "known"), [(8, 1), (1, 1), (8, 1000), (20000, 1), (3, 2)])
def test_tags_are_of_the_masters_own_slots_as_many_as_are_wanted_and_there(each: int, known: int) -> None:
    """known: every how manieth slot has a tag."""
    view = whole(FIVE)
    found = tags_of(view, {slot: str(slot) for slot in range(0, SLOT_COUNT, known)}, each)
    assert list(found) == masters_of(FIVE)
    for name, tags in found.items():
        own = [slot for slot in view.by_name[name].myself.slots if slot % known == 0]
        assert len(tags) == len(set(tags)) == min(each, len(own))
        assert {int(tag) for tag in tags} <= set(own)
        most = max(own) - min(own)
        assert len(tags) < 2 or max(map(int, tags)) - min(map(int, tags)) > most / 2, "they are spread"


def test_a_picture_has_every_instance_and_those_that_are_silent_are_down() -> None:
    view = whole(SIX)
    replica = next(n for n in view.nodes if n.myself.master)
    master = view.by_id[replica.myself.master]
    before = {n["name"]: n for n in pictured(SIX, view)["nodes"]}
    assert list(before) == [i.name for i in SIX.instances]
    assert before[replica.name]["role"] == "replica"
    assert before[replica.name]["shard"] == before[master.name]["shard"] == master.name
    assert [n["role"] for n in before.values()].count("master") == 3
    after = {n["name"]: n for n in pictured(SIX, dead(view, replica.name))["nodes"]}
    assert (after[replica.name]["role"], after[replica.name]["shard"]) == ("down", "")
    assert all(after[name] == before[name] for name in before if name != replica.name)
    mute = ClusterView(tuple(replace(n, peers=()) if n is replica else n for n in view.nodes))
    assert {n["name"]: n["role"] for n in pictured(SIX, mute)["nodes"]}[replica.name] == "down"


@pytest.mark.parametrize(
    ("wanted", "least", "starving"),
    [(SIX, 0, False), (SIX, 1, True), (NINE, 1, False), (NINE, 2, True)],
    ids=str,
)
def test_shards_that_keep_too_few_replicas_take_no_writes_until_it_is_over(
    wanted: Topology, least: int, starving: bool
) -> None:
    view = whole(wanted)
    names = in_zone(wanted, "a")
    lost = loss("zone a", names, wanted, view)
    fault = Fault("kill", "zone a", frozenset(names), 30, 100)
    found = predict(fault, lost, wanted, view, node_timeout=5, full_coverage=False, min_replicas=least)
    assert found.survives
    assert (found.gap is None, found.other is None) == (starving, starving)
    assert ("take no writes until it is over" in "\n".join(found.lines)) is starving
