"""The smoke test of a check: it finds what a client would feel, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.link.access import Access
from slotwright.manager.smoke import KEYS, PREFIX, Smoke, smoke
from tests.live.corruptions import MASTERS, World, start_world
from tests.live.servers import Servers, wait_until

LOOPBACK = "127.46"


@pytest.fixture
def world(servers: Servers) -> World:
    one = start_world(servers)
    wait_until("all replicas are known", lambda: len(one.site.look().nodes) == 6)
    return one


def smoked(world: World, then: Callable[[], None] = lambda: None) -> Smoke:
    with world.site.links() as links:
        return smoke(world.site.look(), links, then)


def left(world: World) -> list[str]:
    return [key for node in world.all for key in node.client().scan_iter(f"{PREFIX}*")]


def test_it_writes_and_reads_on_every_master_and_its_replicas_and_leaves_nothing(world: World) -> None:
    before = world.data()
    done = smoked(world)
    assert done.findings == []
    assert done.masters == len(MASTERS)
    assert {what: len(took) for what, took in done.latencies.items() if what != "replica read"} == {
        "write": KEYS * 3, "read": KEYS * 3, "multi-key": 3, "pipeline": 3, "wait": 3, "CROSSSLOT": 1,
        "delete": KEYS * 3,
    }  # fmt: skip
    assert len(done.latencies["replica read"]) >= 3
    wait_until("the replicas have deleted them too", lambda: not left(world), timeout=5)
    assert world.data() == before
    assert "passed" in done.lines()[0]


def test_keys_expire_by_themselves_when_nobody_is_left_to_delete_them(world: World) -> None:
    lives: list[int] = []

    def look() -> None:
        for node in world.all:
            if node.call("ROLE")[0] == "master":
                lives.extend(node.call("TTL", key) for key in node.client().scan_iter(f"{PREFIX}*"))

    assert smoked(world, look).ok
    assert len(lives) >= KEYS
    assert all(0 < seconds <= 60 for seconds in lives)


def test_it_cleans_up_when_it_fails_half_way(world: World) -> None:
    def spoil() -> None:
        for node in world.all:
            if node.call("ROLE")[0] == "master":
                for key in node.client().scan_iter(f"{PREFIX}*"):
                    node.call("DEL", key)
                    node.call("LPUSH", key, "not what was written")

    done = smoked(world, spoil)
    assert {f.code for f in done.findings} == {"smoke-failed"}
    assert all("WRONGTYPE" in f.what for f in done.findings)
    assert "FAILED" in done.lines()[0]
    wait_until("nothing is left", lambda: not left(world), timeout=5)


def test_writes_that_are_refused_are_told_with_their_error_and_remedy(world: World) -> None:
    world["b1"].call("CONFIG", "SET", "min-replicas-to-write", 3)
    done = smoked(world)
    [finding] = done.findings
    assert finding.where.startswith("node b1:7000")
    assert "NOREPLICAS" in finding.what
    assert "min-replicas-to-write" in finding.remedy
    assert done.masters == 2


def test_a_slot_that_nobody_serves_is_felt(world: World) -> None:
    for node in world.all:
        node.call("CLUSTER", "DELSLOTS", world.slot("a1", 40, keys=False))
    wait_until("it is felt", lambda: "cluster_state:fail" in world["b1"].call("CLUSTER", "INFO"))
    findings = smoked(world).findings
    assert any("CLUSTERDOWN" in f.what or "not covered" in f.what for f in findings), findings
    assert all("which slots are not served" in f.remedy for f in findings), findings


def test_it_logs_in_as_the_user_of_the_inventory(world: World) -> None:
    for node in world.all:
        node.call("ACL", "SETUSER", "tester", "on", ">secret", "~slotwright:*", "+@all")
    site = world.site
    access = Access(username="tester", password="secret", connect_timeout=2.0)
    world.site = replace(site, request=replace(site.request, access=access))
    assert smoked(world).findings == []
