"""What the library of real servers promises to the tests that use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from tests.live.servers import ROOT, Monitor, Server, Servers, binary, digest, make_cluster, wait_settled, wait_until

LOOPBACK = "127.24"


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_thirty_servers_start_together_quickly(servers: Servers) -> None:
    begin = time.monotonic()
    nodes = servers.start_many(30)
    assert time.monotonic() - begin < 10  # 1 s on a quiet machine with 2 cores; the bound allows for a noisy one
    assert len({node.address for node in nodes}) == 30
    assert {node.call("PING") for node in nodes} == {"PONG"}
    assert {node.client().info("cluster")["cluster_enabled"] for node in nodes} == {1}


def test_no_server_is_left_when_the_test_fails(tmp_path: Path) -> None:
    nodes: list[Server] = []

    def failing_test() -> None:
        with Servers(tmp_path, LOOPBACK) as servers:
            nodes.extend(servers.start_many(2))
            nodes[0].pause()
            raise RuntimeError("the test failed")

    with pytest.raises(RuntimeError, match="the test failed"):
        failing_test()
    assert len(nodes) == 2
    assert not any(running(node.pid) for node in nodes)


def test_no_server_outlives_a_killed_python(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.live.servers import Servers\n"
        f"print(Servers(Path(sys.argv[1]), {LOOPBACK!r}).start().pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as python:
        assert python.stdout is not None
        pid = int(python.stdout.readline())
        assert running(pid)
        os.kill(python.pid, signal.SIGKILL)
    wait_until("the server is gone", lambda: not running(pid), timeout=5)


def test_two_users_of_one_range_never_get_the_same_address(tmp_path: Path) -> None:
    with Servers(tmp_path, LOOPBACK) as one, Servers(tmp_path, LOOPBACK) as other:
        assert len({*(one.address() for _ in range(20)), *(other.address() for _ in range(20))}) == 40


def test_a_bad_directive_fails_with_what_redis_says(servers: Servers) -> None:
    with pytest.raises(AssertionError, match="no-such-directive 1"):
        servers.start(config={"no-such-directive": 1})


def test_another_version_runs_beside_the_system_s_own(servers: Servers) -> None:
    old = servers.start(binary=binary("6.2.14"))
    assert old.client().info("server")["redis_version"] == "6.2.14"
    assert servers.start().client().info("server")["redis_version"] != "6.2.14"


def test_a_restart_keeps_identity_and_data_and_a_pause_hangs(servers: Servers) -> None:
    node = servers.start(cluster=False, config={"appendonly": True, "appendfsync": "always", "requirepass": "secret"})
    node.call("SET", "key", "value")
    node.kill()
    with pytest.raises(redis.ConnectionError):
        node.call("PING")
    node.restart()
    assert node.call("GET", "key") == "value"
    node.pause()
    wait_until("the process is stopped", lambda: " T " in Path(f"/proc/{node.pid}/stat").read_text())
    node.resume()
    assert node.call("PING") == "PONG"


def test_a_made_cluster_is_settled_and_left_alone_keeps_its_digest(servers: Servers) -> None:
    nodes = servers.start_many(6)
    make_cluster(nodes, masters=3)
    before = digest(nodes)
    masters = [node.client().info("replication")["role"] for node in nodes]
    assert masters == ["master"] * 3 + ["slave"] * 3
    nodes[4].restart()
    wait_settled(nodes)
    after = digest(nodes)
    assert [name for name in before if before[name] != after[name]] == [nodes[4].name]  # its run id is new
    nodes[0].client().set("{06S}", 1)  # slot 0
    assert digest(nodes)[nodes[0].name] != before[nodes[0].name]


def test_the_monitor_sees_changes_even_those_that_redis_hides_from_monitor(servers: Servers) -> None:
    node = servers.start()
    with Monitor([node]) as quiet:
        node.call("CLUSTER", "NODES")
        node.call("CONFIG", "GET", "save")
    with Monitor([node]) as busy:
        node.call("CLUSTER", "ADDSLOTS", 1)
        node.call("CONFIG", "SET", "maxmemory", 1000000)
        with pytest.raises(redis.ResponseError):
            node.call("SET", "key", "refused: the cluster is down")
    assert quiet.mutating == []
    assert [seen.command for seen in quiet.commands] == ["CLUSTER NODES"]
    assert {(seen.command, seen.count) for seen in busy.mutating} == {
        ("cluster|addslots", 1),
        ("config|set", 1),
        ("set", 1),
    }
