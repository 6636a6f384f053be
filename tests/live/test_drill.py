"""Drills of real clusters without Ansible: what is foretold, what is measured, and what is found to be lost."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from slotwright.core.ledger import read_ledger
from slotwright.core.topology import Instance, Topology
from slotwright.drill.client import key_of
from slotwright.drill.files import Files
from slotwright.errors import Refused
from slotwright.link.access import Access
from slotwright.link.lock import Locked
from slotwright.manager import drill
from slotwright.manager.handover import Asked, hand_over
from slotwright.manager.request import Request, complete
from tests.live.clusters import Site, start_site
from tests.live.drills import Stage, arguments, described
from tests.live.servers import Servers, wait_settled

LOOPBACK = "127.60"
TIMEOUT = 2.0
HASTY = {"cluster-node-timeout": int(1000 * TIMEOUT), "repl-diskless-sync-delay": 0}
LASTING = {**HASTY, "appendonly": True}


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Stage:
    """Six nodes in three zones, one replica a shard."""
    return staged(servers, tmp_path)


def staged(servers: Servers, directory: Path, zones: Any = None, *, risk: bool = False, lasting: bool = True) -> Stage:
    """A cluster with a short node timeout. risk: also where it would not survive the loss of every zone. lasting: what
    is written is on disk."""
    made = start_site(servers, zones or {"a": (1, 1), "b": (1, 1), "c": (1, 1)}, config=LASTING if lasting else HASTY)
    wanted = {**dict(made.topology.settings), **{name: str(value) for name, value in HASTY.items()}}
    topology = replace(made.topology, settings=tuple(sorted(wanted.items())), allow_zone_risk=risk)
    site = replace(made, request=replace(made.request, topology=topology))
    site.converge()
    return Stage(site, directory / "history")


def keys_left(site: Site) -> list[str]:
    return [key for node in site.nodes for key in node.client().scan_iter("slotwright:drill:*", count=1000)]


def test_a_zone_that_is_killed_is_replaced_as_foretold_and_nothing_is_lost(stage: Stage) -> None:
    before = stage.site["a1:7000"].call("CLUSTER", "NODES")
    client = redis.RedisCluster(host=stage.site.nodes[0].address, port=7000, decode_responses=True)
    client.set("somebody:else", "untouched")
    report = stage.drill(zone="a", fault="kill", seconds=12.0, max_lost=0, max_write_gap=12.0)
    print(json.dumps(described(report)))
    assert (report["verdict"], report["reasons"]) == ("passed", [])
    [struck] = [shard for shard in report["shards"] if shard["struck"]]
    assert struck["new_master"]
    # Before it comes back by itself. How near it is to what is foretold, benchmarks/drill.py says on a quiet machine.
    assert TIMEOUT < struck["write_gap"] < 11
    assert report["moments"]["fail_seen"] <= report["moments"]["promoted"] < 11
    assert set(report["losses"]["by_client"]) == {"controller", "a1", "b1", "c1"}
    assert report["losses"]["acknowledged"] > 2000
    assert report["observed"]["longest_pause"] < 1
    assert keys_left(stage.site) == []
    assert client.get("somebody:else") == "untouched"
    # The roles are where they were.
    masters = {line.split()[0] for line in before.splitlines() if "master" in line}
    after = stage.site["a1:7000"].call("CLUSTER", "NODES")
    assert {line.split()[0] for line in after.splitlines() if "master" in line} == masters
    page = Files(stage.directory / "test" / report["id"]).page.read_text()
    assert "PASSED" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("workload", ["keys", pytest.param("counters", marks=pytest.mark.soak)])
def test_planted_losses_are_found_to_the_key(stage: Stage, workload: str) -> None:
    planted: dict[str, str] = {}

    def plant(files: Files) -> None:
        """Behind the drill's back: some acknowledged keys are deleted, some are altered."""
        lines = files.ledger("b1").read_text().splitlines()
        done = [call for call in read_ledger("b1", lines) if call.acknowledged]
        client = redis.RedisCluster(host=stage.site.nodes[2].address, port=7000, decode_responses=True)
        if workload == "counters":
            key = key_of(files.id, "b1", done[0].tag, None)
            planted[key] = "lost 3"
            client.decr(key, 3)
            return
        for call in done[10:15]:
            planted[key_of(files.id, "b1", call.tag, call.number)] = "lost"
        for call in done[50:53]:
            planted[key_of(files.id, "b1", call.tag, call.number)] = "altered"
        for key, what in planted.items():
            assert client.delete(key) if what == "lost" else client.set(key, "something else")

    stage.between = plant
    report = stage.drill(instance="c2:7000", fault="stop", seconds=2.0, workload=workload, max_lost=0)
    found = {entry["key"]: entry["what"] for entry in report["losses"]["keys"]}
    if workload == "counters":
        [(key, what)] = planted.items()
        assert set(found) == {key}
        assert found[key].startswith(what)
        assert report["losses"]["lost"] == 3
    else:
        assert found == planted
        assert (report["losses"]["lost"], report["losses"]["altered"]) == (5, 3)
    assert report["verdict"] == "failed"
    assert keys_left(stage.site) == []


def test_a_zone_with_most_masters_is_refused_and_forced_there_is_no_failover_until_it_returns(stage: Stage) -> None:
    site = stage.site
    with site.links() as links:
        view = site.look()
        moved = next(r.name for m in view.owners for r in view.replicas_of(m)
                     if site.topology[r.name].zone == "a" and site.topology[view.name_of(m)].zone != "a")  # fmt: skip
        hand_over(site.request, Asked(promote=(moved,)), links, lambda line: None)
    with pytest.raises(Refused) as refused:
        stage.plan(zone="a", fault="kill", seconds=9.0)
    assert "no failover: no majority of masters is left" in str(refused.value)
    words = "test may be down while zone a is"
    assert words in str(refused.value)
    report = stage.drill(zone="a", fault="kill", seconds=9.0, anyway=words)
    assert report["prediction"]["write_gap"] is None
    assert report["moments"]["promoted"] is None or report["moments"]["promoted"] > 9
    assert all(shard["write_gap"] > 9 - TIMEOUT for shard in report["shards"]), described(report)
    assert min(shard["write_gap"] for shard in report["shards"] if shard["struck"]) > 8.5
    assert report["losses"]["lost"] == 0
    # And the layout that a drill leaves is the one that the inventory wants.
    assert len({site.topology[site.look().name_of(m)].zone for m in site.look().owners}) == 3


@pytest.mark.soak
def test_of_two_zones_the_larger_is_refused_and_forced_nothing_fails_over(servers: Servers, tmp_path: Path) -> None:
    stage = staged(servers, tmp_path, {"a": (1, 1, 1), "b": (1, 1, 1)}, risk=True)
    site = stage.site
    view = site.look()
    masters = [site.topology[view.name_of(m)].zone for m in view.owners]
    larger = max("ab", key=masters.count)
    with pytest.raises(Refused) as refused:
        stage.plan(zone=larger, fault="freeze", seconds=8.0)
    assert "no majority of masters is left" in str(refused.value)
    report = stage.drill(zone=larger, fault="freeze", seconds=8.0, anyway=f"test may be down while zone {larger} is")
    assert report["moments"]["promoted"] is None
    assert report["longest_write_gap"] > 7.5
    assert report["losses"]["lost"] == 0


@pytest.mark.soak
def test_two_zones_after_each_other_are_survived_because_the_roles_went_back(stage: Stage) -> None:
    for zone in "ab":
        report = stage.drill(zone=zone, fault="kill", seconds=8.0, max_lost=0)
        assert report["verdict"] == "passed", described(report)
        assert next(s for s in report["shards"] if s["struck"])["new_master"]


def test_nodes_that_keep_nothing_on_disk_are_not_killed_whatever_is_said(servers: Servers, tmp_path: Path) -> None:
    stage = staged(servers, tmp_path, lasting=False)
    for fault in ("kill", "stop", "reboot"):
        with pytest.raises(Refused) as refused:
            stage.plan(zone="a", fault=fault, anyway="test may be down while zone a is")
        assert [finding.where for finding in refused.value.findings] == ["node a1:7000", "node a2:7000"]
    stage.plan(zone="a", fault="freeze")


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_zone_that_is_lost_while_slots_move_leaves_no_slot_open_and_loses_nothing(stage: Stage, fault: str) -> None:
    report = stage.drill(zone="a", fault=fault, seconds=8.0, during="reshard", max_lost=0)
    print(json.dumps(described(report)), report["log"])
    assert (report["verdict"], report["reasons"]) == ("passed", [])
    assert any("slots moved" in text for _, text in report["log"])
    assert stage.site.errors() == []
    assert keys_left(stage.site) == []


@pytest.mark.soak
def test_while_it_runs_another_controller_is_kept_out(stage: Stage) -> None:
    seen: list[str] = []

    def try_meanwhile() -> None:
        time.sleep(7)
        params = {**drill_arguments(stage), "phase": "alone"}
        try:
            drill.main(params, check_mode=False)
        except Locked as locked:
            seen.append(str(locked))

    other = threading.Thread(target=try_meanwhile)
    other.start()
    stage.drill(instance="c2:7000", fault="kill", seconds=14.0)
    other.join()
    assert len(seen) == 1 and "another controller is at work on this cluster" in seen[0]
    assert drill.main({**drill_arguments(stage), "phase": "alone"}, check_mode=False) == {"changed": False}


def drill_arguments(stage: Stage) -> dict[str, Any]:
    """As Ansible hands them to the module."""
    instances = [
        {"name": i.name, "host": i.host, "zone": i.zone, "address": i.address, "port": i.port}
        for i in stage.request.topology.instances
    ]
    return {**complete({"name": "test", "instances": instances}), **arguments(stage.request, stage.directory)}


def test_a_cluster_that_is_not_whole_is_refused(stage: Stage) -> None:
    stage.site["c2:7000"].kill()
    with pytest.raises(Refused) as refused:
        stage.plan(zone="a", fault="kill")
    assert "a drill of a cluster that is not whole is an outage" in str(refused.value)
    assert not (stage.directory / "test").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing is named"),
        ({"zone": "a", "host": "a1"}, "zone and host are named"),
        ({"zone": "q"}, "there is no zone q"),
        ({"instance": "a1:7000", "fault": "partition"}, "partition strikes a whole host"),
        ({"zone": "a", "seconds": 0.0}, "0 is not above 0"),
    ],
)
def test_what_is_not_clear_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Before anything is asked of the nodes: there are none."""
    instances = [Instance(f"{zone}1:7000", f"{zone}1", zone, "127.60.0.1", 7000 + at) for at, zone in enumerate("abc")]
    request = Request(Topology("test", tuple(instances), 0, 3), Access(), 1.0, False)
    defaults = {name: spec.get("default") for name, spec in drill.ASKED.items()}
    with pytest.raises(Refused) as refused:
        drill.read_asked({**defaults, "history": str(tmp_path), **options}, request)
    assert said in str(refused.value)


@pytest.mark.soak
def test_a_drill_that_is_cut_short_says_so_and_leaves_no_key(stage: Stage) -> None:
    def stop_soon() -> None:
        time.sleep(6)
        stage.told.stop.set()

    threading.Thread(target=stop_soon).start()
    report = stage.drill(zone="b", fault="kill", seconds=8.0)
    assert report["verdict"] == "incomplete"
    assert "cut short" in report["reasons"][0]
    print(report["findings"], report["reasons"])
    assert keys_left(stage.site) == []
    wait_settled(stage.site.nodes)
