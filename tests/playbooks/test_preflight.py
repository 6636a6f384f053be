"""playbooks/preflight.yml and site.yml on hosts of a private network, reached by real SSH."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.boxes import Box
from tests.live.netns import Host, Net
from tests.live.servers import ROOT, wait_until
from tests.live.sshd import Sshd, keygen

PORT, BUS = 7001, 17001
# What is so on the machine that runs the tests, and no matter here: all its hosts are one kernel with one clock.
OF_THIS_MACHINE = [
    "same-kernel", "system", "time-sync", "version-floor", "overcommit", "swappiness", "swap-used", "thp", "cpus",
    "memory", "memory-headroom", "memory-in-use", "data-disk", "log-disk",
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    severity: str
    code: str
    where: str
    what: str
    remedy: str


@dataclass
class Done:
    """What ansible-playbook said, and how long it took."""

    status: int
    said: str
    seconds: float

    @property
    def text(self) -> str:
        """Without line breaks and columns."""
        return re.sub(r"\s+", " ", self.said)

    @property
    def report(self) -> list[str]:
        """The lines of what was found."""
        said = self.said.partition("Report | What was found")[2].partition("TASK [")[0]
        return [line.strip() for line in said.partition("msg:")[2].splitlines() if line.strip(" |-")]

    @property
    def rows(self) -> list[Row]:
        said = self.said.partition("Report | What was found")[2].partition("TASK [")[0]
        lines = said.splitlines()
        head = next((line for line in lines if line.split() == ["where", "what", "remedy"]), "")
        starts = [head.find(word) for word in ("where", "what", "remedy")]
        rows: list[list[list[str]]] = []
        for line in lines[lines.index(head) + 2 :] if head else ():
            cells = [line[: starts[0]], line[starts[0] : starts[1]], line[starts[1] : starts[2]], line[starts[2] :]]
            if cells[0].strip() in ("error", "warning", "info"):
                rows.append([[], [], [], []])
            elif line.strip().startswith("Accepted: ") or not line.strip():
                break
            for cell, words in zip(rows[-1], cells, strict=True):
                cell += words.split()
        return [Row(*cells[0], *(" ".join(words) for words in cells[1:])) for cells in rows]

    @property
    def changed(self) -> int:
        return sum(int(n) for n in re.findall(r"ok=\d+ +changed=(\d+)", self.said))

    def calls(self, host: Host) -> int:
        """Commands that Ansible ran there, with -vvv."""
        return len(re.findall(rf"^<{re.escape(host.address)}> SSH: EXEC", self.said, re.MULTILINE))


@dataclass
class Fleet:
    """Hosts in three zones, each with an sshd, and a controller that runs the playbooks."""

    net: Net
    directory: Path
    key: Path
    variables: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Sshd] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sockets = tempfile.mkdtemp(prefix="ssh")  # the path of a socket must be short
        weakref.finalize(self, shutil.rmtree, self._sockets, ignore_errors=True)
        for host in self.net.hosts:
            self.gates[host.name] = host.sshd(self.key)

    def command(self, playbook: str, *options: str) -> tuple[list[str], dict[str, Any]]:
        """And where to run it."""
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": self._sockets,
            "SLOTWRIGHT_DEMO_DIR": str(self.nodes),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = ["ansible-playbook", playbook, "-i", str(self._inventory()), *options]
        return command, {"cwd": ROOT, "env": environment}

    def play(self, playbook: str, *options: str) -> Done:
        command, place = self.command(playbook, *options)
        started = time.monotonic()
        done = self.net.controller.run(command, check=False, **place)
        return Done(done.returncode, done.stdout + done.stderr, time.monotonic() - started)

    @property
    def nodes(self) -> Path:
        return self.directory / "nodes"

    def _inventory(self) -> Path:
        inventory = self.directory / "inventory"
        (inventory / "group_vars/redis").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "inventory/demo/group_vars/redis.yml", inventory / "group_vars/redis/a.yml")
        known = self.directory / "known_hosts"
        known.write_text("".join(gate.known_hosts for gate in self.gates.values()))
        common = {
            "ansible_connection": "ssh",
            "ansible_user": next(iter(self.gates.values())).user,
            "ansible_port": next(iter(self.gates.values())).port,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o ConnectTimeout=3",
            "redis_cluster_password": "open sesame",
            "redis_preflight_accept": OF_THIS_MACHINE,
            "redis_preflight_timeout": 2,
        }
        (inventory / "group_vars/redis/b.yml").write_text(yaml.safe_dump(common | self.variables))
        hosts = {
            host.name: {"redis_node_zone": f"z{host.name[1]}", "ansible_host": host.address} for host in self.net.hosts
        }
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"redis": {"hosts": hosts}}))
        return inventory

    def listening(self) -> list[str]:
        """Hosts where something listens at the port or the bus port, and answers the controller."""
        return [
            h.name
            for h in self.net.hosts
            for port in (PORT, BUS)
            if self.net.controller.reach(h.address, port) == "open"
        ]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """As many hosts as a cluster with one replica needs."""
    with Net(tmp_path, hosts=2, zones=3) as net:
        yield Fleet(net, tmp_path, keygen(tmp_path / "key"))


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Fleet]:
    """One host in each zone, for what is no matter of the cluster."""
    with Net(tmp_path, hosts=1, zones=3) as net:
        yield Fleet(net, tmp_path, keygen(tmp_path / "key"), {"redis_cluster_replicas": 0})


def test_one_blocked_bus_port_is_named_within_seconds_and_stops_site_before_anything_is_changed(
    fleet: Fleet, tried: Callable[[str], None]
) -> None:
    one, *_, other = fleet.net.hosts
    fleet.net.block(one, other, BUS)
    alone = fleet.play("playbooks/preflight.yml")
    tried(f"a blocked bus port between two of six hosts was named after {alone.seconds:.1f} s")
    assert alone.status != 0
    [row] = alone.rows
    assert (row.severity, row.code, row.where) == ("error", "blocked", f"{one.name} → {other.name}")
    assert row.what.startswith(
        f"no connection to {other.address} port 17001 (the cluster bus: 7001 + 10000): no answer"
    )
    assert row.remedy.startswith(f"open 17001/tcp for {one.name} ({one.address}) in the firewalls")
    assert "Nothing was changed." in alone.text
    site = fleet.play("site.yml")
    assert site.status != 0
    assert site.rows == alone.rows
    assert site.changed == 0
    assert not fleet.nodes.exists()
    assert fleet.listening() == []


@pytest.mark.soak  # a minute
def test_on_a_running_cluster_it_takes_one_call_a_host_and_says_one_line(fleet: Fleet) -> None:
    first = fleet.play("playbooks/preflight.yml", "-vvv")
    assert first.status == 0, first.said
    assert [first.calls(host) for host in fleet.net.hosts] == [3] * 6
    done = fleet.play("site.yml")
    assert done.status == 0, done.said
    for options in (["-vvv"], ["-vvv", "--check"]):
        again = fleet.play("playbooks/preflight.yml", *options)
        assert (again.status, again.changed) == (0, 0), again.said
        assert again.report[0] == "6 hosts, 60 connections between them: all is fine"
        assert again.rows == []
        assert [again.calls(host) for host in fleet.net.hosts] == [1] * 6

    one, other, *_ = fleet.net.hosts
    fleet.net.block(other, one, BUS, "reject with tcp reset")
    refused = fleet.play("site.yml")
    assert refused.status != 0
    [row] = refused.rows
    assert (row.code, row.where) == ("blocked", f"{other.name} → {one.name}")
    assert row.what.endswith("it is refused although something listens there")
    accept = json.dumps({"redis_preflight_accept": [*OF_THIS_MACHINE, "blocked"]})
    accepted = fleet.play("playbooks/preflight.yml", "-e", accept)
    assert accepted.status == 0, accepted.said
    assert accepted.report[1].startswith(f"Accepted: {other.name} → {one.name}: no connection to")


def test_a_host_that_is_down_is_one_warning_and_holds_nothing_up(trio: Fleet) -> None:
    *_, away = trio.net.hosts
    away.run(["ip", "link", "set", "eth0", "down"])
    done = trio.play("playbooks/preflight.yml")
    [row] = done.rows
    assert (row.severity, row.code, row.where) == ("warning", "no-answer", f"host {away.name}")
    assert row.what == "Ansible does not reach it, nor do others reach its Redis ports"
    assert done.status == 4, "ansible's own word for hosts that were not reached"


def test_with_limit_the_others_are_only_looked_at_from_outside(trio: Fleet) -> None:
    one, other, last = trio.net.hosts
    limit = ["--limit", f"{one.name},{other.name}"]
    done = trio.play("playbooks/preflight.yml", *limit, "-vvv")
    assert done.status == 0, done.said
    assert done.report[0] == "2 hosts, 8 connections between them: all is fine"
    assert done.calls(last) == 0
    trio.net.block(one, last, BUS)
    trio.net.block(one, other, BUS)
    done = trio.play("playbooks/preflight.yml", *limit)
    assert done.status != 0
    assert [(row.severity, row.where) for row in done.rows] == [
        ("error", f"{one.name} → {other.name}"),
        ("warning", f"host {last.name}"),
    ]
    assert done.rows[1].what == f"is left out of this run, and {one.name} cannot reach it"


def test_what_one_host_cannot_say_is_one_error_beside_what_the_others_say(trio: Fleet) -> None:
    one, other, lame = trio.net.hosts
    trio.net.block(one, other, BUS)
    python = f"{{{{ '/bin/false' if inventory_hostname == '{lame.name}' else '{sys.executable}' }}}}"
    trio.variables |= {"ansible_python_interpreter": python}
    done = trio.play("playbooks/preflight.yml")
    assert done.status != 0 and done.rows, done.said
    assert [(row.severity, row.code, row.where) for row in done.rows] == [
        ("error", "blocked", f"{one.name} → {other.name}"),
        ("warning", "not-looked", f"host {lame.name}"),
    ]


def test_a_host_that_does_not_let_ansible_become_root_holds_nobody_up(trio: Fleet) -> None:
    *_, lame = trio.net.hosts
    sudo = trio.directory / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    only_there = f"{{{{ inventory_hostname == '{lame.name}' }}}}"
    trio.variables |= {"ansible_become": only_there, "ansible_become_exe": str(sudo), "ansible_become_user": "nobody"}
    done = trio.play("playbooks/preflight.yml", "-vvv")
    assert done.status == 0, done.said
    assert [(row.severity, row.code, row.where) for row in done.rows] == [
        ("warning", "not-looked", f"host {lame.name}"),
    ]
    assert "Missing sudo password" in done.rows[0].what
    assert trio.listening() == []
    [ssh] = set(re.findall(r"ServerAliveInterval=\S+ -o ServerAliveCountMax=\S+", done.said))
    assert ssh == "ServerAliveInterval=10 -o ServerAliveCountMax=3"
    for kept in ("ControlMaster=auto", "ControlPersist=60s", "UserKnownHostsFile="):
        assert f"-o {kept}" in done.said


def test_a_controller_that_dies_leaves_no_listener_behind_for_long(trio: Fleet) -> None:
    command, place = trio.command("playbooks/preflight.yml")
    dying = trio.net.controller.start(command, start_new_session=True, **place)
    wait_until("all hosts listen", lambda: len(trio.listening()) == 6, timeout=120)
    os.killpg(dying.pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until("no host listens", lambda: not trio.listening(), timeout=60)
    # 10 s, 1 s for each host, and twice redis_preflight_timeout
    assert time.monotonic() - killed < 10 + 3 + 4 + 5


@pytest.mark.skipif(os.geteuid() != 0, reason="role redis_host has to be root")
@pytest.mark.soak  # four plays: a minute
def test_fix_mends_what_redis_host_sets_and_shows_what_is_left(trio: Fleet) -> None:
    for host in trio.net.hosts:
        Box(host, {})  # its own /etc and kernel settings: overcommit_memory 0, swappiness 60, huge pages always
    ignored = ["same-machine", *(code for code in OF_THIS_MACHINE if code not in ("overcommit", "thp"))]
    trio.variables |= {"redis_host_manage": True, "redis_host_firewall": "none", "redis_preflight_accept": ignored}
    before = trio.play("playbooks/preflight.yml")
    assert before.status == 0, before.said
    assert [(row.severity, row.code, row.where) for row in before.rows] == [
        ("warning", "overcommit", "all 3 hosts"),
        ("warning", "thp", "all 3 hosts"),
    ]
    assert before.rows[0].remedy.startswith("site.yml sets it (role redis_host)")
    foreseen = trio.play("playbooks/preflight.yml", "--check", "-e", "redis_preflight_fix=true")
    assert (foreseen.status, foreseen.rows) == (0, before.rows), foreseen.said
    mended = trio.play("playbooks/preflight.yml", "-e", "redis_preflight_fix=true")
    assert (mended.status, mended.rows) == (0, []), mended.said
