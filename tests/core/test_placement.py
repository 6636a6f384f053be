"""What placement promises, case by case. test_placement_oracle.py proves that nothing better exists."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from slotwright.core.placement import Placement, place
from slotwright.core.remedies import Add, Change, remedies
from slotwright.core.topology import Topology
from slotwright.errors import Refused, Severity
from tests.core.oracle import apply, broken_rules, draw, risk, score, topology

# zones (instances per host), replicas, shards, and the score: Σ masters² by zone, by host, Σ free² by host, Σ load².
KEPT = {
    "3 zones x 2 hosts x 1, one replica": ([[1, 1]] * 3, 1, None, (3, 3, 3, 3)),
    "3 zones x 3 hosts x 2, two replicas": ([[2, 2, 2]] * 3, 2, None, (12, 6, 18, 12)),
    "3 zones x 1 host x 2": (
        [[2]] * 3,
        1,
        None,
        (3, 3, 3, 3),
    ),
    "3 zones x 1 host x 4: every host's replicas go to both others": ([[4]] * 3, 1, None, (12, 12, 12, 6)),
    "uneven zones, the big one is not filled with masters": ([[2, 2, 2], [2, 1], [1, 1]], 1, None, (9, 5, 8, 5)),
    "uneven hosts: the roomiest take the masters": ([[3, 1], [3, 1], [3, 1]], 1, 3, (3, 3, 15, 3)),
    "two zones": ([[3, 3], [3, 3]], 1, None, (18, 10, 10, 6)),
    "two zones, three replicas: two or more share a zone": ([[8, 8], [8, 8]], 3, 3, None),
    "one zone, every replica on another host": ([[2, 2, 2]], 1, None, (9, 3, 3, 3)),
    "one zone, two replicas": ([[1] * 9], 2, None, (9, 3, 6, 6)),
    "5 zones, 4 masters": ([[2]] * 5, 1, 4, (4, 4, 8, 4)),
    "of equal zones the one that spreads load best takes the odd master": ([[2, 2, 9], [2, 9]], 3, 3, (5, 3, 137, 11)),
    "no replicas": ([[1], [1], [1]], 0, None, (3, 3, 0, 0)),
    "four replicas in 5 zones": ([[1, 1, 1]] * 5, 4, 3, (3, 3, 12, 12)),
    "five replicas in 3 zones": ([[2, 2, 2]] * 3, 5, 3, None),
}


@pytest.mark.parametrize(("zones", "replicas", "shards", "best"), KEPT.values(), ids=KEPT)
def test_every_hard_rule_holds_and_the_score_is_the_best_there_is(
    zones: list[list[int]], replicas: int, shards: int | None, best: tuple[int, ...] | None
) -> None:
    wanted = topology(zones, replicas, shards)
    placement = place(wanted)
    assert broken_rules(wanted, placement) == []
    assert best is None or score(wanted, placement) == best


@pytest.mark.parametrize("replicas", range(6))
def test_any_number_of_replicas_from_none_to_five_can_be_placed(replicas: int) -> None:
    for zones in ([[6, 6, 6]] * 3, [[9, 9]] * 2, [[6] * 6], [[2, 2]] * 7):
        wanted = topology(zones, replicas, 3)
        assert broken_rules(wanted, place(wanted)) == []


def test_the_order_of_the_inventory_does_not_matter() -> None:
    rng = random.Random(7)
    for _ in range(60):
        wanted = draw(rng)
        shuffled = list(wanted.instances)
        rng.shuffle(shuffled)
        try:
            expected = place(wanted)
        except Refused as refused:
            with pytest.raises(Refused) as again:
                place(replace(wanted, instances=tuple(shuffled)))
            assert again.value.findings == refused.findings
        else:
            assert place(replace(wanted, instances=tuple(shuffled))) == expected


def test_names_are_taken_in_natural_order_and_neighbouring_shards_lie_in_different_zones() -> None:
    wanted = topology([[1] * 12] * 3, 1)
    placement = place(wanted)
    assert [wanted[s.master].zone for s in placement.shards] == ["a", "b", "c"] * 6
    assert [s.master for s in placement.shards[::3]] == [
        "a1:7001",
        "a2:7001",
        "a3:7001",
        "a4:7001",
        "a5:7001",
        "a6:7001",
    ]


def test_a_lost_host_s_load_is_spread_over_many_hosts() -> None:
    wanted = topology([[6, 6, 6]] * 3, 1)
    assert score(wanted, place(wanted))[3] == wanted.shards


def test_two_replicas_of_a_master_do_not_share_a_host_where_others_have_room() -> None:
    for zones, replicas, shards in (([[4, 4, 4]], 2, 4), ([[3] * 6], 5, 3), ([[6, 6, 6]] * 2, 3, 8)):
        wanted = topology(zones, replicas, shards)
        for shard in place(wanted).shards:
            assert len({wanted[name].host for name in shard.replicas[:replicas]}) == replicas


def test_leftover_instances_become_replicas_evenly_and_in_zones_new_to_the_shard() -> None:
    wanted = topology([[1, 1, 1]] * 3, 1, 3)
    placement = place(wanted)
    assert placement.spares == ()
    for shard in placement.shards:
        assert {wanted[name].zone for name in (shard.master, *shard.replicas)} == {"a", "b", "c"}


def test_leftovers_of_one_zone_go_to_the_masters_of_the_others() -> None:
    wanted = topology([[1, 1], [1, 1], [1] * 9], 1, 3)
    placement = place(wanted)
    extras = {wanted[s.master].zone: len(s.replicas) - 1 for s in placement.shards}
    assert broken_rules(wanted, placement) == []
    assert extras == {"a": 4, "b": 3, "c": 0} or extras == {"a": 3, "b": 4, "c": 0}


def test_what_no_shard_may_take_is_spare() -> None:
    assert len(place(topology([[5]], 0, 3)).spares) == 2  # one host: a replica has nowhere to go
    assert place(topology([[7], [2]], 0, 3)).spares == ()  # each zone takes what is left in the other


REFUSED = {
    "four masters in three zones": ([[4]] * 3, 1, 4, {"zone-majority"}, "set redis_cluster_shards to 3 or 5"),
    "four masters in three zones, no room for five": (
        [[1, 1, 1], [1, 1, 1], [1, 1]],
        1,
        4,
        {"zone-majority"},
        "set redis_cluster_shards to 3, or add a fourth zone with 1 instance",
    ),
    "two masters": (
        [[2]] * 2,
        1,
        None,
        {"too-few-shards"},
        "add 1 instance in zone a and 1 instance in zone b and set redis_cluster_shards to 3",
    ),
    "an explicit shard count below three": ([[6]] * 3, 1, 2, {"too-few-shards"}, "set redis_cluster_shards to 3"),
    "more shards than instances": (
        [[1, 1]] * 3,
        1,
        4,
        {"not-enough-instances", "zone-majority"},
        "redis_cluster_shards to 3",
    ),
    "all in one host": ([[6]], 1, None, {"replicas-need-hosts"}, "add a new host with 3 instances"),
    "one zone holds nearly everything": (
        [[1] * 10, [1], [1]],
        1,
        None,
        {"replicas-need-zones", "zone-majority"},
        "in zone b",
    ),
    "a zone too small for a copy of every shard": (
        [[4, 4], [4, 4], [1]],
        2,
        3,
        {"replicas-need-zones"},
        "add 2 instances in zone c",
    ),
    "six replicas": ([[1] * 9] * 3, 6, 3, {"replica-count"}, "set redis_cluster_replicas to 5"),
    "no instance at all": ([], 1, None, {"too-few-shards", "not-enough-instances"}, "add "),
}


@pytest.mark.parametrize(("zones", "replicas", "shards", "codes", "remedy"), REFUSED.values(), ids=REFUSED)
def test_a_rule_that_cannot_be_kept_is_refused_by_name_with_the_way_out(
    zones: list[list[int]], replicas: int, shards: int | None, codes: set[str], remedy: str
) -> None:
    with pytest.raises(Refused) as refused:
        place(topology(zones, replicas, shards))
    findings = refused.value.findings
    assert {f.code for f in findings} == codes
    for finding in findings:
        assert finding.severity is Severity.ERROR
        assert finding.where.startswith("cluster redis")
        assert remedy in finding.remedy


def test_every_remedy_is_true_and_one_added_instance_less_is_not_enough() -> None:
    rng = random.Random(11)
    tried = Counter[str]()
    for _ in range(400):
        wanted = draw(rng)
        for allowed in (False, True):
            asked = replace(wanted, allow_zone_risk=allowed)
            if _places(asked):
                continue
            changes = remedies(asked)
            assert changes
            for change in changes:
                tried["add" if change.add else "set"] += 1
                assert _places(apply(asked, change)), change
                for less in _one_less(change):
                    assert not _places(apply(asked, less)), (change, less)
    assert min(tried["add"], tried["set"]) > 100


def _one_less(change: Change) -> list[Change]:
    return [
        replace(
            change, add=change.add[:n] + ((replace(a, count=a.count - 1),) if a.count > 1 else ()) + change.add[n + 1 :]
        )
        for n, a in enumerate(change.add)
    ]


def _places(wanted: Topology) -> bool:
    try:
        placement = place(wanted)
    except Refused:
        return False
    assert broken_rules(wanted, placement, zones_too=not wanted.allow_zone_risk) == []
    return True


def test_an_added_instance_names_the_zone_that_helps() -> None:
    changes = remedies(topology([[4, 4], [4, 4], [1]], 2, 3))
    assert Change((Add("c", None, 2),), 3, 2) in changes


def _risky(zones: list[list[int]], replicas: int, shards: int | None = None) -> tuple[Topology, Placement]:
    wanted = topology(zones, replicas, shards, allow_zone_risk=True)
    placement = place(wanted)
    assert broken_rules(wanted, placement, zones_too=False) == []
    assert all(f.severity is Severity.WARNING for f in placement.risks)
    return wanted, placement


def test_a_risk_that_was_allowed_but_is_not_needed_is_not_taken() -> None:
    wanted, placement = _risky([[2, 2]] * 3, 1)
    assert placement == place(replace(wanted, allow_zone_risk=False))
    assert placement.risks == ()


def test_a_zone_with_half_of_the_masters_is_named_as_the_one_not_to_lose() -> None:
    wanted, placement = _risky([[4]] * 3, 1, 4)
    assert risk(wanted, placement) == (0, 0)
    (finding,) = placement.risks
    assert finding.code == "zone-majority"
    assert finding.where == "cluster redis, zone a"
    assert "zone a must not be lost: it holds 2 of 4 masters" in finding.what
    assert "set redis_cluster_shards to 3 or 5" in finding.remedy


def test_a_zone_with_every_copy_of_a_shard_is_named_as_the_one_not_to_lose() -> None:
    wanted, placement = _risky([[1] * 10, [1], [1]], 1)
    assert risk(wanted, placement) == (4, 4)
    assert any(
        f.code == "replicas-need-zones" and "zone a must not be lost: every copy of 4 shards is there" in f.what
        for f in placement.risks
    )


def test_a_replica_on_its_master_s_host_is_refused_even_where_zone_risk_is_allowed() -> None:
    with pytest.raises(Refused) as refused:
        place(topology([[9], [1]], 1, allow_zone_risk=True))
    assert {f.code for f in refused.value.findings} == {"replicas-need-hosts"}


def test_two_zones_always_say_which_zone_must_not_be_lost() -> None:
    uneven = place(topology([[3], [3]], 1)).risks
    assert [(f.code, f.where, f.severity) for f in uneven] == [
        ("two-zones", "cluster redis, zone a", Severity.WARNING),
    ]
    even = place(topology([[4], [4]], 1)).risks
    assert [f.where for f in even] == ["cluster redis, zone a", "cluster redis, zone b"]


def test_one_zone_always_says_that_it_must_not_be_lost() -> None:
    (finding,) = place(topology([[2, 2, 2]], 1)).risks
    assert (finding.code, finding.severity) == ("one-zone", Severity.WARNING)


def test_three_good_zones_carry_no_risk() -> None:
    assert place(topology([[2, 2]] * 3, 1)).risks == ()
