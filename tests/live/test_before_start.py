"""A master whose memory does not come back whole, before it is started: templates/redis-cluster-before-start.sh and
ask-peers, with real clusters. Three masters, then their replicas in the same order."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from tests.live.servers import ROOT, Server, Servers, Value, binary, make_cluster, wait_until

LOOPBACK = "127.31"
NO_FAILOVER = {"cluster-replica-no-failover": True}


class Scripts:
    """before-start and ask-peers, beside each other as on a host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, source in {"before-start": "before-start.sh", "ask-peers": "ask-peers.py"}.items():
            shutil.copy(ROOT / f"templates/redis-cluster-{source}", directory / name)
            (directory / name).chmod(0o755)

    def begin(self, server: Server, seconds: float) -> subprocess.Popen[str]:
        for name in ("rewrite.conf", "environment"):  # the module makes them
            (server.dir / name).touch()
        command = [self.directory / "before-start", server.dir, server.dir / "redis.conf", str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, server: Server, seconds: float = 1) -> tuple[int, str]:
        """Status, and what was said."""
        process = self.begin(server, seconds)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def cluster(servers: Servers, binary: str = "redis-server", **config: Value) -> list[Server]:
    """Six nodes with keys on every shard, all of them on the replicas too."""
    config = {"cluster-node-timeout": 2000, "rdb-del-sync-files": True, **config}
    nodes = servers.start_many(6, config=config, binary=binary)
    make_cluster(nodes, masters=3)
    for number, node in enumerate(nodes[:3]):
        node.call("SET", ("{b}", "{c}", "{a}")[number], "x")
        for key in range(9):
            node.call("SET", f"{('{b}', '{c}', '{a}')[number]}{key}", "x")
    for master, replica in zip(nodes[:3], nodes[3:], strict=True):
        assert keys(master) == 10
        wait_until("the replica has all keys", lambda replica=replica: keys(replica) == 10)
    return nodes


def keys(server: Server) -> int:
    return int(server.call("DBSIZE"))


def kill(nodes: Sequence[Server]) -> None:
    for node in nodes:
        node.kill()


def start(scripts: Scripts, nodes: Sequence[Server]) -> None:
    """All at once, as after a power cut: those first that have to wait."""
    before = [(node, scripts.begin(node, 20)) for node in nodes]
    waiting = {node.name for node in nodes}
    end = time.monotonic() + 60
    while waiting and time.monotonic() < end:
        for node, process in before:
            if node.name in waiting and process.poll() is not None:
                assert process.returncode == 0, process.communicate()[0]
                waiting.remove(node.name)
                node.start_again()
        time.sleep(0.05)
    for node in nodes:
        node.wait_ready()


@pytest.mark.parametrize("version", ["", "6.2.14", "valkey-8.0.1"])
def test_a_master_that_lost_its_keys_waits_until_its_replica_has_taken_over(
    servers: Servers, scripts: Scripts, version: str
) -> None:
    nodes = cluster(servers, binary(version) if version else "redis-server")
    master, replica = nodes[0], nodes[3]
    identity = master.id()
    master.kill()
    status, said = scripts.run(master, seconds=20)
    assert status == 0, said
    assert f"its replica {replica.name} holds 10 keys and followed it to the end" in said
    assert replica.call("ROLE")[0] == "master"
    master.start_again()
    master.wait_ready()
    wait_until("it has all keys", lambda: keys(master) == 10)
    assert master.call("ROLE")[0] == "slave"
    assert (master.id(), keys(replica)) == (identity, 10)


def test_without_a_failover_it_is_not_started_and_both_ways_out_work(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers, **NO_FAILOVER)
    master, replica = nodes[0], nodes[3]
    master.kill()
    began = time.monotonic()
    status, said = scripts.run(master, seconds=1)
    assert (status, time.monotonic() - began < 6) == (1, True)
    assert f"refused to start: this master has no AOF to load, and its replica {replica.name} holds 10 keys" in said
    assert "CLUSTER FAILOVER TAKEOVER" in said

    permit = master.dir / "start-empty"
    assert f"`touch {permit}`" in said
    permit.touch()
    assert scripts.run(master)[0] == 0
    assert not permit.exists()
    assert scripts.run(master)[0] == 1

    replica.call("CLUSTER", "FAILOVER", "TAKEOVER")
    assert scripts.run(master, seconds=10)[0] == 0


def test_a_replica_that_does_not_answer_proves_nothing(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers)
    kill([nodes[0], nodes[3]])
    status, said = scripts.run(nodes[0])
    assert status == 1
    assert f"its replica {nodes[3].name} cannot be asked (Connection refused)" in said


def test_a_stranger_at_the_address_of_a_replica_proves_nothing(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers)
    kill([nodes[0], nodes[3]])
    (nodes[3].dir / "nodes.conf").unlink()
    nodes[3].start_again()
    nodes[3].wait_ready()
    status, said = scripts.run(nodes[0])
    assert status == 1
    assert f"its replica {nodes[3].name} cannot be asked (another node answers there)" in said


@pytest.mark.parametrize(
    ("config", "left"),
    [({}, 0), ({"save": "3600 1"}, 10), ({"appendonly": True, "appendfsync": "always"}, 10)],
    ids=["nothing", "RDB", "AOF"],
)
def test_after_a_power_cut_the_whole_cluster_comes_up_by_itself(
    servers: Servers, scripts: Scripts, config: dict[str, Value], left: int
) -> None:
    nodes = cluster(servers, **config)
    if "save" in config:
        for node in nodes:
            node.call("SAVE")
    kill(nodes)
    start(scripts, nodes)
    wait_until("the cluster is ok", lambda: "cluster_state:ok" in nodes[0].call("CLUSTER", "INFO"))
    assert [keys(node) for node in nodes[:3]] == [left] * 3


def test_a_replica_that_keeps_an_aof_is_not_wiped_by_a_master_without(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers)
    replica = nodes[3]
    replica.call("CONFIG", "SET", "appendonly", "yes")
    wait_until("the AOF is written", lambda: replica.client().info("persistence")["aof_rewrite_in_progress"] == 0)
    kill([nodes[0], replica])
    (replica.dir / "redis.conf").write_text((replica.dir / "redis.conf").read_text() + "appendonly yes\n")
    replica.start_again()
    replica.wait_ready()
    assert keys(replica) == 10
    status, said = scripts.run(nodes[0])
    assert status == 1
    assert f"its replica {replica.name} holds 10 keys and keeps an AOF" in said


def test_a_master_with_an_aof_and_a_replica_ask_nobody(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers, appendonly=True)
    kill(nodes)
    (scripts.directory / "ask-peers").unlink()
    assert scripts.run(nodes[0]) == (0, "")
    assert scripts.run(nodes[3]) == (0, "")


def test_an_aof_that_was_only_just_switched_on_holds_nothing(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers, **NO_FAILOVER, save="3600 1")
    nodes[0].call("SAVE")
    nodes[0].kill()
    conf = nodes[0].dir / "redis.conf"
    conf.write_text(conf.read_text() + "appendonly yes\n")
    assert scripts.run(nodes[0])[0] == 1

    # Why: Redis takes no notice of the snapshot then.
    nodes[0].start_again()
    nodes[0].wait_ready()
    assert keys(nodes[0]) == 0


def test_an_aof_that_was_switched_off_is_moved_aside_and_never_loaded(servers: Servers, scripts: Scripts) -> None:
    [node] = servers.start_many(1, config={"appendonly": True})
    node.kill()
    conf, aside = node.dir / "redis.conf", node.dir / "aof.switched-off"
    whole = conf.read_text()
    assert scripts.run(node) == (0, "")
    (node.dir / "appendonly.aof").write_text("of Redis 6")
    for _ in range(2):
        conf.write_text(whole + "appendonly no\n")
        status, said = scripts.run(node)
        assert (status, f"moved to {aside}" in said) == (0, True), said
        assert not (node.dir / "appendonlydir").exists()
        assert scripts.run(node) == (0, "")
        shutil.copytree(aside / "appendonlydir", node.dir / "appendonlydir")
    assert [path.name for path in aside.iterdir()] == ["appendonlydir"]


def test_a_password_is_used_and_never_shown(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers, **NO_FAILOVER, requirepass="open-sesame", masterauth=r'"open-\x73esame"')
    nodes[0].kill()
    status, said = scripts.run(nodes[0])
    assert (status, "holds 10 keys" in said, "sesame" in said) == (1, True, False)
    nodes[3].call("CONFIG", "SET", "requirepass", "another")
    assert "cannot be asked (CLUSTER NODES: NOAUTH" in scripts.run(nodes[0])[1]


def test_peers_that_speak_only_tls_are_asked_so(servers: Servers, scripts: Scripts, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("node")
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    tls: dict[str, Value] = {f"tls-{kind}-file": files[name] for kind, name in (("ca-cert", "ca"), ("cert", "cert"))}
    tls |= {"tls-key-file": files["key"], "tls-cluster": True, "tls-replication": True, "tls-port": 7000}
    nodes = cluster(servers, **NO_FAILOVER, **tls)
    nodes[0].kill()
    assert "holds 10 keys and followed it to the end" in scripts.run(nodes[0])[1]


def test_a_snapshot_older_than_the_replica_is_as_good_as_nothing(servers: Servers, scripts: Scripts) -> None:
    nodes = cluster(servers, **NO_FAILOVER, save="3600 1")
    nodes[0].call("SAVE")
    nodes[0].kill()
    assert scripts.run(nodes[0])[0] == 1


def test_a_master_without_replicas_is_started_at_once(servers: Servers, scripts: Scripts) -> None:
    nodes = servers.start_many(3)
    make_cluster(nodes, masters=3)
    kill(nodes)
    began = time.monotonic()
    assert scripts.run(nodes[0], seconds=30) == (0, "")
    assert time.monotonic() - began < 5


def test_the_hazard_itself(servers: Servers) -> None:
    """What all this is against: without the guard, a quick restart empties master and replica."""
    nodes = cluster(servers)
    nodes[0].kill()
    nodes[0].start_again()
    nodes[0].wait_ready()
    wait_until("the replica has copied the empty master", lambda: keys(nodes[3]) == 0)
    wait_until("all is said to be well", lambda: "cluster_state:ok" in nodes[0].call("CLUSTER", "INFO"))
    assert keys(nodes[0]) == 0
