"""redis_cluster_reach: ssh, with a controller that stands outside and may talk to the hosts by SSH and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.netns import Net
from tests.live.sshd import keygen
from tests.playbooks.test_preflight import BUS, PORT, Fleet


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Fleet]:
    """Six hosts that drop whatever the controller sends to their Redis ports."""
    with Net(tmp_path, hosts=2, zones=3) as net:
        for host in net.hosts:
            for port in (PORT, BUS):
                net.block(net.controller, host, port)
        yield Fleet(net, tmp_path, keygen(tmp_path / "key"))


@pytest.mark.soak  # a minute and a half; without plays: tests/live/test_ssh.py
def test_a_cluster_is_made_through_ssh_where_its_ports_are_closed_to_the_controller(outside: Fleet) -> None:
    controller, hosts = outside.net.controller, outside.net.hosts
    direct = outside.play("site.yml")
    assert (direct.status, direct.changed) == (2, 0)
    for host in hosts:
        assert (
            f"node {host.name}:{PORT} ({host.address}:{PORT}): {host.address}:{PORT} did not answer in time. Look"
            in (direct.text)
        )
    assert "a firewall drops packets" in direct.text
    assert not outside.nodes.exists()

    outside.variables["redis_cluster_reach"] = "ssh"
    first = outside.play("site.yml")
    assert (first.status, first.changed) == (0, len(hosts) + 1), first.said
    assert {controller.reach(host.address, port) for host in hosts for port in (PORT, BUS)} == {"blocked"}
    redis_cli = ["redis-cli", "-h", hosts[0].address, "-p", str(PORT), "--no-auth-warning", "-a", "open sesame"]
    assert "cluster_state:ok" in hosts[-1].run([*redis_cli, "CLUSTER", "INFO"]).stdout

    second = outside.play("site.yml")
    assert (second.status, second.changed) == (0, 0), second.said
