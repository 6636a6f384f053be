"""Module redis_instances: several servers on one host, environment, limits, masters that have to wait."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from slotwright.errors import Refused
from tests.live.machine import HostError, Machine, installed, slotwright_service
from tests.live.servers import Server, Servers, binary, make_cluster, wait_until

LOOPBACK = "127.31"


@pytest.fixture
def machine(servers: Servers, tmp_path: Path) -> Iterator[Machine]:
    one = Machine(tmp_path / "machine", servers.address())
    yield one
    one.close()


@pytest.fixture
def old(machine: Machine) -> dict[str, Any]:
    return installed(binary("6.2.14"), "6.2.14")


@pytest.fixture
def new(machine: Machine) -> dict[str, Any]:
    entry: dict[str, Any] = machine.given()["servers"][0]
    return entry


def program(machine: Machine, port: int = 7001) -> str:
    """The file that the instance's process runs."""
    return str(Path(f"/proc/{machine.pid(port)}/exe").readlink())


def kill(machine: Machine, port: int = 7001) -> None:
    pid = machine.pid(port)
    os.kill(pid, signal.SIGKILL)
    wait_until("the process is gone", lambda: not Path(f"/proc/{pid}/cwd").exists())


def test_a_running_instance_keeps_its_server_with_that_servers_redis_conf_and_says_what_waits(
    machine: Machine, old: dict[str, Any], new: dict[str, Any]
) -> None:
    machine.converge(servers=[old])
    link = machine.conf().parent / "redis-server"
    upgrade = {"servers": [new, old], "node_config": {"hz": 20}}
    for changed in (True, False):
        result = machine.converge(**upgrade)
        [one] = result["instances"]
        assert result["changed"] == changed
        assert (one["server"], one["server_version"], one["version_pending"]) == (old["path"], "6.2.14", "7.0.15")
        assert one["restart_pending"]
        assert link.readlink() == Path(old["path"])
        assert {"hz 20", "cluster-migration-barrier 999"} <= set(machine.conf().read_text().splitlines())

    machine.converge(state="stopped")
    foreseen = machine.converge(check=True, **upgrade)
    assert {"before_header": str(link), "after_header": str(link), "before": old["path"] + "\n"}.items() <= next(
        entry.items() for entry in foreseen["diff"] if entry["before_header"] == str(link)
    )
    [one] = machine.converge(**upgrade)["instances"]
    assert (one["server"], one["version_pending"], one["restart_pending"]) == (new["path"], "", False)
    assert program(machine) == os.path.realpath(new["path"])
    assert "cluster-allow-replica-migration no" in machine.conf().read_text().splitlines()


def test_the_instance_at_one_port_runs_another_version(
    machine: Machine, old: dict[str, Any], new: dict[str, Any]
) -> None:
    machine.ports = [7001, 7002]
    canary = {"servers": [new, old], "port_version": {"7002": "6.2.14"}}
    machine.converge(**canary)
    assert [program(machine, port) for port in (7001, 7002)] == [os.path.realpath(s["path"]) for s in (new, old)]
    assert not machine.converge(**canary)["changed"]
    first, second = machine.converge(servers=[new, old])["instances"]
    assert (first["version_pending"], second["version_pending"]) == ("", "7.0.15")


def test_a_version_that_is_not_there_is_refused_before_the_host_is_asked(machine: Machine) -> None:
    with pytest.raises(Refused, match=r"host h1, redis_node_port_version\[7001\]: version 9\.9\.9 is not installed"):
        machine.converge(port_version={7001: "9.9.9"})


def test_an_instance_whose_server_is_none_of_the_hosts_is_left_as_it_is_with_a_warning(
    machine: Machine, old: dict[str, Any], new: dict[str, Any]
) -> None:
    machine.converge(servers=[old])
    before = machine.conf().read_text()
    result = machine.converge(servers=[new], node_config={"hz": 20})
    [one] = result["instances"]
    assert (one["running"], one["version_pending"], one["restart_pending"]) == (True, "7.0.15", True)
    assert machine.conf().read_text() == before
    assert f"h1:7001 runs {old['path']}, which is none of this host's servers" in result["warnings"][0]
    assert "redis_install_also" in result["warnings"][0]


def test_a_link_that_was_lost_leads_to_the_server_that_runs(
    machine: Machine, old: dict[str, Any], new: dict[str, Any]
) -> None:
    machine.converge(servers=[old])
    link = machine.conf().parent / "redis-server"
    link.unlink()
    machine.converge(servers=[new, old])
    assert link.readlink() == Path(old["path"])


def test_a_crashed_instance_that_systemd_is_bringing_back_keeps_its_server(
    machine: Machine,
    old: dict[str, Any],
    new: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slotwright_service, "BOOTED", tmp_path)
    monkeypatch.setattr(slotwright_service, "UNITS", tmp_path)
    directory = machine.serve_units(tmp_path / "systemd", started="active")
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    machine.converge(servers=[old])
    kill(machine)
    (directory / "state").write_text("activating\n")
    result = machine.converge(servers=[new, old])
    [one] = result["instances"]
    assert (one["started"], one["running"], one["version_pending"]) == (False, True, "7.0.15")
    assert program(machine) == os.path.realpath(old["path"])
    assert not {entry["before_header"] for entry in result["diff"]} - {"systemd"}


AWKWARD = 'a "b" \\ $HOME %i é'


def test_the_environment_reaches_the_server(machine: Machine, new: dict[str, Any], tmp_path: Path) -> None:
    wrapper = tmp_path / "redis-server"  # Redis itself overwrites what /proc would tell
    wrapper.write_text(f'#!/bin/sh\nprintf %s "$AWKWARD" >{tmp_path}/seen\nexec {new["path"]} "$@"\n')
    wrapper.chmod(0o755)
    machine.converge(servers=[installed(str(wrapper))], environment={"AWKWARD": AWKWARD})
    assert (tmp_path / "seen").read_text() == AWKWARD


def test_another_environment_waits_for_a_restart(machine: Machine) -> None:
    machine.converge(environment={"AWKWARD": AWKWARD})
    again = machine.converge(environment={"AWKWARD": AWKWARD})
    assert (again["changed"], again["instances"][0]["restart_pending"]) == (False, False)
    other = machine.converge(environment={})
    assert (other["changed"], other["instances"][0]["restart_pending"]) == (True, True)


def test_what_the_kernel_was_asked_for_and_what_it_gave_is_returned(machine: Machine) -> None:
    result = machine.converge(node_config={"maxclients": 100})
    files = result["instances"][0]["limits"]["open_files"]
    assert files["asked"] == 132
    assert files["got"] >= 132
    assert result["warnings"] == []


def test_where_the_kernel_gives_less_a_warning_says_how_many_clients_redis_takes(machine: Machine) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    result = machine.converge(node_config={"maxclients": most})
    taken = int(machine.call("CONFIG", "GET", "maxclients")["maxclients"])
    assert taken < most
    assert f"Redis takes at most {taken} clients" in result["warnings"][0]


def test_a_limit_that_only_waits_for_a_restart_is_nobody_elses_fault(machine: Machine) -> None:
    machine.options = {"node_config": {"maxclients": 100}}
    machine.converge()
    pid = machine.pid()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (132, 132))
    [warning] = machine.converge(node_config={"maxclients": 200})["warnings"]
    assert "What is now in place counts from the next start on" in warning
    assert "container" not in warning


@pytest.fixture
def cluster(machine: Machine) -> list[Server]:
    """Three masters and their replicas on one host, which keep nothing on disk; the first shard has a key."""
    machine.ports = list(range(7001, 7007))
    machine.options = {"cluster_config": {"appendonly": False, "save": "", "cluster-node-timeout": 1000}}
    machine.converge()
    nodes = [Server(machine.address, port, Path(), "redis-server", {}, cast(Any, None)) for port in machine.ports]
    make_cluster(nodes, masters=3)
    nodes[0].call("SET", "{b}", "x")
    wait_until("the replica has the key", lambda: nodes[3].call("DBSIZE") == 1)
    return nodes


def test_masters_that_wait_for_replicas_of_the_same_host_do_not_hold_these_up(
    machine: Machine, cluster: list[Server]
) -> None:
    for port in machine.ports:
        kill(machine, port)
    assert all(one["started"] for one in machine.converge()["instances"])


def test_a_killed_master_without_persistence_comes_back_as_a_replica_with_all_keys(
    machine: Machine, cluster: list[Server]
) -> None:
    kill(machine)
    assert machine.converge()["instances"][0]["started"]
    wait_until("it has the key", lambda: cluster[0].call("DBSIZE") == 1)
    assert cluster[0].call("ROLE")[0] == "slave"


def test_a_master_that_must_not_start_fails_the_run_with_the_replica_and_the_ways_out(
    machine: Machine, cluster: list[Server]
) -> None:
    cluster[3].call("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    kill(machine)
    with pytest.raises(HostError) as refused:
        machine.converge(timeout=9)
    assert refused.value.finding["where"] == "h1:7001"
    assert f"its replica {machine.address}:7004 holds 1 keys" in refused.value.finding["remedy"]
    (machine.data("start-empty")).touch()
    assert machine.converge()["instances"][0]["started"]
