"""Module redis_instances restarts what it is told to restart, and knows what a redis.conf means to its server."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.live.machine import HostError, Machine, installed
from tests.live.servers import Servers, binary, version_of, wait_until

LOOPBACK = "127.22"


@pytest.fixture
def machine(servers: Servers, tmp_path: Path) -> Iterator[Machine]:
    one = Machine(tmp_path / "machine", servers.address())
    yield one
    one.close()


def own_slots(machine: Machine, *slots: int) -> None:
    machine.call("CLUSTER", "ADDSLOTS", *slots)
    wait_until("nodes.conf says so", lambda: str(slots[-1]) in machine.data("nodes.conf").read_text())


@pytest.mark.parametrize("version", ["6.2.14", "", "valkey-8.0.1"])
def test_what_a_redis_conf_means_is_what_the_running_server_says(machine: Machine, version: str) -> None:
    """Units, lists, defaults and names of old: all that the two do not agree in would be set again and again."""
    server = binary(version) if version else shutil.which("redis-server")
    assert server
    machine.options = {"servers": [installed(server, ".".join(map(str, version_of(server))))]}
    config = {
        "maxmemory": "64mb",
        "save": ["3600 1", "300 100"],
        "client-output-buffer-limit": ["replica 1mb 1mb 0", "pubsub 8mb 2mb 60"],
        "hash-max-ziplist-entries": 77,
        "slave-priority": 50,
        "notify-keyspace-events": "KEA",
        "maxclients": 500,
    }
    [instance] = machine.converge(node_config=config)["instances"]
    with redis.Redis(machine.address, 7001, decode_responses=True) as client:
        running = client.config_get("*")
    assert instance["settings"]["maxmemory"] == str(64 << 20)
    assert len(instance["settings"]) > 100
    assert {n: (v, running[n]) for n, v in instance["settings"].items() if running[n] != v} == {}
    assert {"io-threads", "appenddirname" if version != "6.2.14" else "cluster-enabled"} & set(instance["fixed"])
    assert not set(instance["fixed"]) & {"maxmemory", "appendonly", "appendfsync", "cluster-node-timeout", "save"}
    assert not {"requirepass", "masterauth"} & set(instance["settings"])


def test_a_second_run_asks_no_server_what_a_redis_conf_means(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.converge()
    first = machine.converge(node_config={"maxmemory": "96mb"})  # differs from what it was started with
    monkeypatch.setattr(sys.modules["ansible.module_utils.slotwright_settings"], "_asked", None)
    second = machine.converge(node_config={"maxmemory": "96mb"})
    assert second["instances"][0]["settings"] == first["instances"][0]["settings"]
    assert not second["changed"]


def test_only_what_is_named_is_restarted_and_runs_with_what_is_new(machine: Machine) -> None:
    machine.ports = [7001, 7002]
    machine.converge()
    pids = [machine.pid(port) for port in machine.ports]
    new = {"io-threads": 2}
    foreseen = machine.converge(node_config=new, restart=[7002], check=True)
    assert foreseen["changed"] and [machine.pid(port) for port in machine.ports] == pids
    done = machine.converge(node_config=new, restart=[7002])
    assert machine.pid(7001) == pids[0] and machine.pid(7002) != pids[1]
    assert [i["started"] for i in done["instances"]] == [False, True]
    assert [i["restart_reasons"] for i in done["instances"]] == [["io-threads"], []]
    assert not machine.converge(node_config=new)["changed"]


def test_a_restart_that_was_asked_for_is_wanted_until_it_has_come_about(machine: Machine) -> None:
    machine.converge()
    assert machine.converge(want_restart=[7001])["instances"][0]["restart_reasons"] == ["asked for"]
    assert machine.converge()["instances"][0]["restart_reasons"] == ["asked for"]
    assert machine.converge(restart=[7001])["instances"][0]["restart_reasons"] == []


def test_a_master_that_owns_slots_is_never_restarted(machine: Machine) -> None:
    machine.converge()
    own_slots(machine, 1, 2, 3)
    pid = machine.pid()
    with pytest.raises(HostError) as refused:
        machine.converge(restart=[7001])
    assert refused.value.finding["code"] == "is-master"
    assert machine.pid() == pid


def test_what_the_server_will_not_take_is_refused_before_it_is_stopped(machine: Machine) -> None:
    machine.converge()
    pid = machine.pid()
    with pytest.raises(HostError) as refused:
        machine.converge(node_config={"maxmemory-policy": "forget-all"}, restart=[7001])
    assert refused.value.finding["code"] == "conf-refused"
    assert machine.pid() == pid


def test_another_version_comes_with_a_restart_and_the_way_back_without_its_data(machine: Machine) -> None:
    old, new = shutil.which("redis-server"), binary("8.0.2")
    assert old
    servers = [installed(new, "8.0.2"), installed(old)]
    machine.converge(servers=servers[::-1])
    node = machine.call("CLUSTER", "MYID")
    assert machine.converge(servers=servers)["instances"][0]["restart_reasons"] == ["version 8.0.2"]
    up = machine.converge(servers=servers, restart=[7001])["instances"][0]
    assert (up["server_version"], up["restart_reasons"]) == ("8.0.2", [])
    assert machine.data("nodes.conf.7.0.15").exists()
    machine.call("BGREWRITEAOF")
    wait_until("its own format is on the disk", lambda: list(machine.data("appendonlydir").glob("*.2.base.rdb")))
    with pytest.raises(HostError):  # 7.0 cannot read it
        machine.converge(servers=servers[::-1], restart=[7001], timeout=5)
    # It is down, and its data are of the newer version: as a run leaves it that dies in the middle of a rollback.
    machine.converge(servers=servers)
    machine.converge(state="stopped", servers=[])
    cut_off = machine.converge(servers=servers[::-1], fresh=True)["instances"][0]
    assert (cut_off["server_version"], machine.call("CLUSTER", "MYID")) == ("7.0.15", node)
    machine.converge(servers=servers, restart=[7001])
    down = machine.converge(servers=servers[::-1], restart=[7001], fresh=True)["instances"][0]
    assert down["server_version"] == "7.0.15"
    assert machine.call("CLUSTER", "MYID") == node
    assert list(machine.data("data-of-8.0.2").glob("appendonlydir"))


def test_a_replica_that_writes_its_first_aof_is_asked_to_stop_until_it_does(machine: Machine, servers: Servers) -> None:
    """Redis refuses to end then, and forgets that it was asked to."""
    other = Machine(machine.directory.parent / "other", servers.address())
    try:
        for one in (machine, other):
            one.converge()
        own_slots(other, *range(100))
        machine.call("CLUSTER", "MEET", other.address, 7001)
        wait_until("they know each other", lambda: str(machine.call("CLUSTER", "NODES")).count("connected") == 2)
        with redis.Redis(other.address, 7001) as client:
            slot0 = [f"{{{tag}}}" for tag in range(4000) if client.cluster("keyslot", str(tag)) < 100]
            other.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
            wait_until("it serves", lambda: client.set(slot0[0], 1))
            for number in range(500):
                client.set(f"{slot0[0]}:{number}", number)
        machine.call("CONFIG", "SET", "rdb-key-save-delay", "4000")
        machine.call("CLUSTER", "REPLICATE", other.call("CLUSTER", "MYID"))
        wait_until("it writes its first AOF", lambda: "Background append only file rewriting" in _log(machine))
        begun = time.monotonic()
        machine.converge(restart=[7001])
        assert time.monotonic() - begun < 15
        assert "can't exit" in _log(machine)
    finally:
        other.close()


def _log(machine: Machine) -> str:
    return (machine.directory / "log/7001.log").read_text()
