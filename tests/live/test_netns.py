"""The private network that other tests block packets in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.netns import Net
from tests.live.servers import wait_until
from tests.live.sshd import keygen

LISTEN = "import socket, time; s = socket.create_server(('', 17001)); print('up', flush=True); time.sleep(60)"


def test_only_what_is_blocked_is_blocked_and_only_until_it_is_unblocked(tmp_path: Path) -> None:
    with Net(tmp_path, hosts=2, zones=2) as net:
        one, two, three, _ = net.hosts
        assert [h.address for h in net.hosts] == ["10.33.1.1", "10.33.1.2", "10.33.2.1", "10.33.2.2"]
        assert one.reach(two.address, 17001) == "refused"
        for host in (one, two):
            listener = host.start([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
            assert listener.stdout and listener.stdout.readline() == "up\n"
        assert one.reach(two.address, 17001) == "open"
        for verdict, seen in (("drop", "blocked"), ("reject", "refused"), ("reject with tcp reset", "refused")):
            for at in (one, two):
                net.block(one, two, 17001, verdict, at=at)
                assert one.reach(two.address, 17001) == seen, (verdict, at.name)
                assert two.reach(one.address, 17001) == "open"
                assert three.reach(two.address, 17001) == "open"
                net.unblock(one, two, 17001)
                assert one.reach(two.address, 17001) == "open"


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_where_networks_cannot_be_made_a_test_is_skipped_but_in_ci_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(outcome, match="iproute2"):
        Net(tmp_path, hosts=1)


def test_hosts_are_reached_by_ssh_and_nothing_is_left(tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    with Net(tmp_path, hosts=1) as net:
        [host] = net.hosts
        gate = host.sshd(key)
        login = f"{gate.user}@{gate.address}"
        options = [
            "-p",
            str(gate.port),
            "-i",
            str(key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        script = "hostname; cat /etc/machine-id; setsid sleep 600 >&- 2>&- & echo $!"
        said = net.controller.run(["ssh", *options, login, script])
        name, machine, daemon = said.stdout.split()
        assert name == host.name
        assert machine == (host.directory / "machine-id").read_text().strip()
        assert Path("/proc", daemon).exists()
    wait_until("nothing is left of it", lambda: not Path("/proc", daemon).exists())
