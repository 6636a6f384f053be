"""A check of a live cluster changes nothing, names what is wrong by code and place, and says what a fix would do."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from slotwright.errors import Finding, Severity
from slotwright.manager import check
from tests.live.corruptions import World, half_the_keys, start_world, third_importer, unowned_empty
from tests.live.servers import Monitor, Servers, digest, wait_until
from tests.live.test_fix import errors, foreseen

LOOPBACK = "127.47"


@pytest.fixture
def world(servers: Servers) -> World:
    one = start_world(servers)
    wait_until("it is sound", lambda: not errors(checked(one)), timeout=20)
    return one


def checked(world: World, **options: object) -> check.Checked:
    with world.site.links() as links:
        return check.check(world.site.request, links, **options)  # type: ignore[arg-type]


def found(world: World, code: str, **options: object) -> list[Finding]:
    return [f for f in checked(world, **options).findings if f.code == code]


def test_it_changes_nothing_also_where_much_is_wrong(world: World) -> None:
    third_importer(world)
    unowned_empty(world)
    wait_until("it is felt", lambda: "cluster_state:fail" in world["c1"].call("CLUSTER", "INFO"))
    before = digest(world.all)
    with Monitor(world.all) as monitor:
        told = checked(world)
    assert not told.healthy
    assert monitor.mutating == []
    assert digest(world.all) == before


def test_it_is_healthy_with_the_warnings_that_its_settings_earn(world: World) -> None:
    told = checked(world)
    assert told.healthy
    warned = {f.code for f in told.findings if f.severity is Severity.WARNING}
    assert "not-persistent" in warned


def test_it_says_what_a_fix_would_do(world: World) -> None:
    half_the_keys(world)
    lines = [f.what for f in checked(world).findings if f.code == "would-be-done"]
    assert lines == list(foreseen(world).lines)
    assert lines


def test_the_result_is_json_and_a_table_with_the_worst_first(world: World) -> None:
    world.half_moved("a1", "b1", world.slot("a1"), 2)
    told = check.result(world.site.request, checked(world), inventory="inventory/prod")
    assert json.loads(json.dumps(told)) == told
    [moving] = [f for f in told["findings"] if f["code"] == "slot-moving"]
    assert moving["invariant"] == "I3"
    assert moving["client_errors"] == ["ASK", "TRYAGAIN"]
    assert "ansible-playbook -i inventory/prod playbooks/fix.yml" in moving["remedy"]
    ranks = [[s.value for s in Severity].index(f["severity"]) for f in told["findings"]]
    assert ranks == sorted(ranks)
    text = "\n".join(told["text"])
    assert "NOT healthy" in text and "slot-moving (I3)" in text and "TRYAGAIN" in text
    assert all(len(line) <= 120 for line in told["text"])


SETTINGS: dict[str, tuple[Callable[[World], None], str, str]] = {
    "maxmemory below what is used": (
        lambda w: w["a1"].call("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1000),
        "memory-full", "a1"),
    "maxmemory nearly used": (
        lambda w: w["a1"].call(
            "CONFIG", "SET", "maxmemory", int(w["a1"].client().info("memory")["used_memory"] * 1.05)),
        "memory-short", "a1"),
    "another node timeout": (
        lambda w: w["b1"].call("CONFIG", "SET", "cluster-node-timeout", 4000), "config-drift", "b1"),
    "nodes that differ": (
        lambda w: w["b2"].call("CONFIG", "SET", "appendonly", "yes"), "config-differs", "appendonly"),
    "too few replicas to write": (
        lambda w: w["c1"].call("CONFIG", "SET", "min-replicas-to-write", 2), "too-few-replicas", "c1"),
}  # fmt: skip


def test_settings_that_will_hurt_are_named(world: World) -> None:
    for name, (change, code, where) in SETTINGS.items():
        change(world)
        wait_until(name, lambda: any(where in f.where for f in found(world, code)), timeout=5)  # noqa: B023


def test_values_that_the_inventory_wants_are_compared_with_the_live_ones(world: World) -> None:
    drifted = found(world, "config-drift", wanted={"maxmemory": "1mb", "appendonly": "no", "unknown-to-redis": "1"})
    assert len(drifted) == len(world.all)
    assert all("maxmemory" in f.what and "'1mb'" in f.what for f in drifted)


def test_a_dead_master_is_named_and_then_its_failover_makes_it_healthy_but_for_the_dead(world: World) -> None:
    world["a1"].call("WAIT", 1, 2000)
    world["a1"].kill()
    [silent] = found(world, "not-reachable")
    assert "a1:7000" in silent.where and silent.severity is Severity.ERROR
    wait_until("the failover", lambda: not found(world, "owner-away"), timeout=30)
    assert {f.code for f in checked(world).findings if f.severity is Severity.ERROR} <= {
        "not-reachable", "orphaned-master", "too-few-replicas", "I8", "I7",
    }  # fmt: skip


def test_nobody_answers(world: World) -> None:
    for node in world.all:
        node.kill()
    told = checked(world)
    assert not told.healthy
    assert {f.code for f in told.findings if f.severity is Severity.ERROR} == {"not-reachable"}
    assert check.result(world.site.request, told)["text"]
