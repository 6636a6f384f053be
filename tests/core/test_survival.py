"""What is left of a cluster when a zone or a host is lost."""

from __future__ import annotations

from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.survival import host_survival, survival
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Silence
from tests.core.build import THREE_ZONES, blank_view, topology


def made(wanted: Topology) -> ClusterView:
    return simulate(blank_view(wanted), plan(wanted, blank_view(wanted)).steps)


def test_three_zones_with_one_replica_each_survive_any_zone_with_bare_shards() -> None:
    wanted = topology(THREE_ZONES)
    rows = survival(wanted, made(wanted))
    assert [(r.lost, r.survives, r.quorum, r.slots_lost) for r in rows] == [(z, True, True, 0) for z in "abc"]
    assert all(r.shards_bare == r.masters_lost + 1 for r in rows)


def test_two_replicas_leave_every_shard_with_a_spare_copy() -> None:
    wanted = topology({z: [1, 1, 1] for z in "abc"}, replicas=2)
    assert [(r.survives, r.shards_bare) for r in survival(wanted, made(wanted))] == [(True, 0)] * 3


def test_without_replicas_the_slots_of_a_zone_are_lost_with_it() -> None:
    wanted = topology({z: [1] for z in "abc"}, replicas=0)
    rows = survival(wanted, made(wanted))
    assert [r.verdict for r in rows] == ["5462 slots lost", "5461 slots lost", "5461 slots lost"]


def test_of_two_zones_the_one_with_most_masters_takes_the_quorum_along() -> None:
    wanted = topology({"a": [1, 1, 1], "b": [1, 1, 1]})
    rows = {r.lost: r for r in survival(wanted, made(wanted))}
    majority = max(rows.values(), key=lambda r: r.masters_lost)
    assert (majority.masters_lost, majority.quorum, majority.survives) == (2, False, False)
    assert "no failover" in majority.verdict
    assert sorted(r.survives for r in rows.values()) == [False, True]


def test_a_zone_without_any_part_may_go() -> None:
    wanted = topology(THREE_ZONES)
    (*_, last) = survival(topology({**THREE_ZONES, "d": [1]}, shards=3), made(wanted))
    assert (last.lost, last.masters_lost, last.survives) == ("d", 0, True)


def test_hosts_are_asked_one_by_one() -> None:
    wanted = topology({z: [2] for z in "abc"})
    assert [r.lost for r in host_survival(wanted, made(wanted))] == ["a1", "b1", "c1"]


def test_what_is_down_already_counts_as_lost() -> None:
    wanted = topology(THREE_ZONES)
    view = made(wanted)
    gone = next(n for n in view.nodes if n.name == "b1:7001")
    left = ClusterView(
        tuple(n for n in view.nodes if n is not gone),
        (Silence(gone.name, gone.endpoint, "timeout", "does not answer", "look"),),
    )
    rows = {r.lost: r for r in survival(wanted, left)}
    assert not rows["a"].quorum
    assert rows["a"].masters_left == 1
