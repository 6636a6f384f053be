"""Each invariant: a healthy cluster keeps it, and one change breaks it, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.core.invariants import LAG_LIMIT, violations
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import Slots
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, NodeView, Peer, Silence
from slotwright.errors import Finding, Severity
from tests.core.build import THREE_ZONES, blank_view, topology

WANTED = topology(THREE_ZONES)
HEALTHY = simulate(blank_view(WANTED), plan(WANTED, blank_view(WANTED)).steps)
MASTER, REPLICA = "a1:7001", next(n.name for n in HEALTHY.nodes if not n.myself.is_master)


def with_node(name: str, change: Callable[[NodeView], NodeView]) -> ClusterView:
    return ClusterView(tuple(change(n) if n.name == name else n for n in HEALTHY.nodes), HEALTHY.silent)


def with_own_line(name: str, change: Callable[[Peer], Peer]) -> ClusterView:
    """The node's own line changed in every view, as gossip would have it."""
    changed = HEALTHY.by_name[name].id
    return ClusterView(
        tuple(replace(n, peers=tuple(change(p) if p.id == changed else p for p in n.peers)) for n in HEALTHY.nodes)
    )


def with_line_at(observer: str, name: str, change: Callable[[Peer], Peer]) -> ClusterView:
    """What one node alone says of another."""
    seen = HEALTHY.by_name[name].id
    return with_node(
        observer, lambda n: replace(n, peers=tuple(change(p) if p.id == seen else p for p in n.peers))
    )  # fmt: skip


def flags(peer: Peer, *more: str) -> Peer:
    return replace(peer, flags=peer.flags | set(more))


def silent() -> ClusterView:
    node = HEALTHY.by_name[REPLICA]
    return ClusterView(
        tuple(n for n in HEALTHY.nodes if n is not node),
        (Silence(node.name, node.endpoint, "refused", "nothing listens there", "start it"),),
    )


BROKEN = {
    "a slot without owner": (
        with_own_line(MASTER, lambda p: replace(p, slots=p.slots - Slots.of([7]))), "I1", "slots 7"),
    "a state that is not ok": (with_node(MASTER, lambda n: replace(n, state="fail")), "I1", MASTER),
    "a slot with two owners": (
        with_own_line("b1:7001", lambda p: replace(p, slots=p.slots | Slots.of([7]))), "I1", "a1:7001 and b1:7001"),
    "a view of its own": (
        with_line_at("c1:7001", MASTER, lambda p: replace(p, slots=p.slots - Slots.of([7]))), "I2", "c1:7001"),
    "an importing slot": (
        with_own_line(MASTER, lambda p: replace(p, importing=((9000, "x"),))), "I3", MASTER),
    "a migrating slot": (
        with_own_line(MASTER, lambda p: replace(p, migrating=((5, "x"),))), "I3", MASTER),
    "keys in slots of others": (with_node(MASTER, lambda n: replace(n, foreign=Slots.of([6000]))), "I3", MASTER),
    "one epoch twice": (
        with_own_line(MASTER, lambda p: replace(p, config_epoch=HEALTHY.by_name["b1:7001"].myself.config_epoch)),
        "I4", "a1:7001, b1:7001"),
    "a failing node": (with_line_at("c1:7001", MASTER, lambda p: flags(p, "fail?")), "I5", "c1:7001"),
    "a bus link that is down": (
        with_line_at("c1:7001", MASTER, lambda p: replace(p, connected=False)), "I6", "c1:7001"),
    "a bus link one way": (
        with_node("c1:7001", lambda n: replace(
            n, links_out=n.known_ids, links_in=n.known_ids - {HEALTHY.by_name[MASTER].id})), "I6", "c1:7001"),
    "a replica not in sync": (
        with_node(REPLICA, lambda n: replace(n, replication=replace(n.replication, link_up=False))),
        "I7 I8", "shard of"),
    "a replica far behind": (
        with_node("a1:7001", lambda n: replace(n, replication=replace(n.replication, offset=LAG_LIMIT + 1))),
        "I7", "shard of a1:7001"),
    "a node that loads": (with_node(MASTER, lambda n: replace(n, loading=True)), "I9", MASTER),
    "a save that failed": (with_node(MASTER, lambda n: replace(n, persistence_ok=False)), "I9", MASTER),
    "too much memory": (with_node(MASTER, lambda n: replace(n, used_memory=11, maxmemory=10)), "I9", MASTER),
}  # fmt: skip


def test_a_healthy_cluster_breaks_none() -> None:
    assert violations(WANTED, HEALTHY) == ()


@pytest.mark.parametrize("name", BROKEN)
def test_one_change_breaks_that_invariant(name: str) -> None:
    view, code, where = BROKEN[name]
    found = violations(WANTED, view)
    assert {f.code for f in found} == set(code.split()), [str(f) for f in found]
    assert all(f.remedy for f in found)
    assert any(where in f.where for f in found)


def test_a_silent_replica_costs_its_shard_and_its_zone_their_safety() -> None:
    codes = {f.code for f in violations(WANTED, silent())}
    assert codes == {"I5", "I7", "I8"}


def test_a_ghost_is_named() -> None:
    ghost = Peer("f" * 40, "127.99.0.1", 7000, frozenset({"handshake"}), "", 0, False, Slots())
    view = with_node(MASTER, lambda n: replace(n, peers=(*n.peers, ghost)))
    assert [(f.code, "handshake" in f.what) for f in violations(WANTED, view)] == [("I5", True)]


def test_an_unlisted_member_is_named_with_the_line_that_removes_it() -> None:
    stranger = Peer("f" * 40, "127.99.0.1", 7000, frozenset({"master"}), "", 9, True, Slots())
    view = ClusterView(tuple(replace(n, peers=(*n.peers, stranger)) for n in HEALTHY.nodes))
    (found,) = violations(WANTED, view)
    assert (found.code, "127.99.0.1:7000" in found.where) == ("I5", True)
    assert 'redis_cluster_absent: ["127.99.0.1:7000"]' in found.remedy


def moved(zones: dict[str, str]) -> Topology:
    """The same instances, some of them in other zones."""
    return replace(WANTED, instances=tuple(replace(i, zone=zones.get(i.host, i.zone)) for i in WANTED.instances))


def errors(found: tuple[Finding, ...]) -> set[str]:
    return {f.code for f in found if f.severity is Severity.ERROR}


def test_a_zone_with_most_masters_breaks_zone_tolerance() -> None:
    assert "I8" in errors(violations(moved({"b1": "a"}), HEALTHY))


def test_two_zones_are_warned_about_but_are_no_error() -> None:
    wanted = moved({"c1": "a", "c2": "b"})
    found = violations(wanted, HEALTHY)
    assert any(f.code == "I8" and f.severity is Severity.WARNING for f in found)
    assert "I8" not in errors(found)


def test_a_replica_in_the_zone_or_on_the_host_of_its_master_is_named() -> None:
    master = next(m for m in HEALTHY.members.values() if m.id == HEALTHY.by_name[REPLICA].myself.master)
    hosts = {i.name: i.host for i in WANTED.instances}
    zone = next(i.zone for i in WANTED.instances if i.name == master.name)
    assert "I7" in errors(violations(moved({hosts[REPLICA]: zone}), HEALTHY))
    twin = tuple(replace(i, host=hosts[master.name]) if i.name == REPLICA else i for i in WANTED.instances)
    assert any(f.code == "I7" and "host of its master" in f.what
               for f in violations(replace(WANTED, instances=twin), HEALTHY))  # fmt: skip
