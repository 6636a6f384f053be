"""playbooks/destroy.yml: only what was named, only what was typed, and as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import yaml

from tests.live.machine import Machine
from tests.live.servers import Servers
from tests.playbooks.test_roles import Play, Site

LOOPBACK = "127.47"
PORTS = {"cache": 7001, "queue": 7101}


@dataclass
class Machines(Site):
    """Three machines with an instance of each of two clusters. unreachable: inventory hosts out of Ansible's reach."""

    unreachable: tuple[str, ...] = ()

    def write(self) -> Path:
        path = super().write()
        hosts = {}
        for cluster, port in PORTS.items():
            for number, address in enumerate(self.addresses):
                hosts[f"{cluster}-{number}"] = own = {
                    "redis_cluster_name": cluster,
                    "redis_cluster_replicas": 0,
                    "redis_node_zone": "abc"[number],
                    "redis_node_address": address,
                    "redis_node_ports": [port],
                }
                if f"{cluster}-{number}" in self.unreachable:
                    own |= {"ansible_connection": "ssh", "ansible_host": address, "ansible_port": 1}
        (path / "hosts.yml").write_text(yaml.safe_dump({"redis": {"hosts": hosts}}))
        return path

    def destroy(self, cluster: str, *options: str) -> Play:
        return self.play("playbooks/destroy.yml", "-e", f"redis_destroy_cluster={cluster}", *options)

    def running(self, cluster: str) -> list[int]:  # type: ignore[override]
        """The numbers of the machines where an instance of this cluster answers."""
        return [n for n, address in enumerate(self.addresses) if _answers(address, PORTS[cluster])]

    def fill(self, cluster: str, keys: int) -> None:
        with redis.RedisCluster(self.addresses[0], PORTS[cluster]) as client:
            for number in range(keys):
                client.set(f"key:{number}", number)

    def count(self, cluster: str) -> int:
        found = 0
        for address in self.addresses:
            with redis.Redis(address, PORTS[cluster]) as client:
                found += int(client.dbsize())
        return found

    def files(self, cluster: str) -> list[str]:
        found = self.nodes.glob(f"{cluster}-*/**/*")
        return sorted({path.relative_to(self.nodes).parts[1] for path in found if path.is_file()})

    def close(self) -> None:
        for cluster in PORTS:
            for number, address in enumerate(self.addresses):
                Machine(self.nodes / f"{cluster}-{number}", address).close()


def _answers(address: str, port: int) -> bool:
    try:
        with redis.Redis(address, port, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def machines(servers: Servers, tmp_path: Path) -> Iterator[Machines]:
    one = Machines(tmp_path, [servers.address() for _ in range(3)])
    for playbook in ("playbooks/configure.yml", "playbooks/cluster.yml"):
        made = one.play(playbook)
        assert made.status == 0, made.said
    for cluster in PORTS:
        one.fill(cluster, 100)
    yield one
    one.close()


ALL = [0, 1, 2]


@pytest.mark.soak
def test_only_the_cluster_that_was_named_goes_and_a_host_out_of_reach_is_named(machines: Machines) -> None:
    """Both clusters are on the same machines."""
    refused = machines.destroy("cach", "-e", "redis_destroy_data=true")
    assert refused.status != 0
    assert "one of: cache, queue" in refused.said
    assert "TASK [redis_node" not in refused.said

    foreseen = machines.destroy("cache", "--check", "-e", "redis_destroy_data=true")
    assert (foreseen.status, foreseen.changed) == (0, 3), foreseen.said
    assert "3 of 3 instances answer, 3 of them masters with slots; 100 keys" in foreseen.said
    assert "the keys are lost for good" in foreseen.said
    assert (machines.running("cache"), machines.running("queue")) == (ALL, ALL)

    before = machines.files("queue")
    machines.unreachable = ("cache-1",)
    done = machines.destroy("cache", "-e", "redis_destroy_data=true")
    assert (done.status, done.changed) == (4, 2), done.said  # 4: Ansible's own, for unreachable hosts
    assert "NOT DONE on cache-1" in done.said
    assert (machines.running("cache"), machines.running("queue")) == ([1], ALL)
    machines.unreachable = ()
    rest = machines.destroy("cache", "-e", "redis_destroy_data=true")
    assert (rest.status, rest.changed) == (0, 1), rest.said
    assert (machines.running("cache"), machines.files("cache")) == ([], [])
    assert (machines.files("queue"), machines.count("queue")) == (before, 100)


@pytest.mark.soak
def test_without_a_word_about_its_data_a_cluster_comes_back_with_its_keys(machines: Machines) -> None:
    for options in ((), ("-e", "redis_destroy_cluster=")):
        refused = machines.play("playbooks/destroy.yml", *options)
        assert refused.status != 0
        assert "one of: cache, queue" in refused.said

    done = machines.destroy("cache")
    assert (done.status, done.changed) == (0, 3), done.said
    assert "Their data directories stay" in done.said
    assert (machines.running("cache"), machines.running("queue")) == ([], ALL)
    assert machines.files("cache") == ["data", "log"]

    again = machines.destroy("cache")
    assert (again.status, again.changed) == (0, 0), again.said

    for playbook in ("playbooks/configure.yml", "playbooks/cluster.yml"):
        back = machines.play(playbook)
        assert back.status == 0, back.said
    assert machines.count("cache") == machines.count("queue") == 100
