"""What reaching Redis through SSH promises, with real sshd and redis-server processes."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis

from slotwright.core.topology import Instance
from slotwright.core.view import Silence
from slotwright.link.access import Access, SshTarget, Tls
from slotwright.link.connect import LinkDown, Links
from slotwright.link.ssh import ssh_target
from tests.live.clusters import run_module
from tests.live.servers import Server, Servers, make_cluster
from tests.live.sshd import Sshd, keygen
from tests.live.test_connect import Certificates

LOOPBACK = "127.21"
ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A controller: a key, an ssh configuration, known hosts, and the sshds that it starts."""

    def __init__(self, directory: Path, servers: Servers, stack: ExitStack) -> None:
        self.directory, self.servers, self._stack = directory, servers, stack
        self.key = keygen(directory / "id_user")
        self.config, self.known_hosts = directory / "ssh_config", directory / "known_hosts"
        self.known_hosts.touch()
        self.configure()

    def configure(self, *hosts: str, **settings: str) -> None:
        """Write the ssh configuration: settings for all hosts, after those for single hosts."""
        everywhere = {
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "none",
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            **settings,
        }
        for_all = "".join(f"  {key} {value}\n" for key, value in everywhere.items())
        self.config.write_text("".join(f"Host {host}\n" for host in hosts) + f"Host *\n{for_all}")

    def sshd(self, name: str = "gate", known: bool = True, **settings: Any) -> Sshd:
        sshd = self._stack.enter_context(Sshd(self.directory / name, self.servers.address(), self.key, **settings))
        if known:
            with self.known_hosts.open("a") as file:
                file.write(sshd.known_hosts)
        return sshd

    def target(self, sshd: Sshd, args: str = "", **options: Any) -> SshTarget:
        return SshTarget(sshd.address, sshd.port, common_args=f"-F {self.config} {args}", **options)

    def links(self, through: SshTarget, *nodes: Server, **access: Any) -> Links:
        """Links to instances that are all on one host, gate."""
        instances = [Instance(f"gate:{n}", "gate", "z", node.address, node.port) for n, node in enumerate(nodes)]
        given = {"connect_timeout": 5.0, "command_timeout": 5.0, **access}
        return Links(instances, Access(ssh={"gate": through}, **given))

    def silence(self, through: SshTarget, node: Server, **access: Any) -> Silence:
        with self.links(through, node, **access) as links:
            return links.open()["gate:0"]


@pytest.fixture
def site(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, servers, stack)


# --- Reaching -------------------------------------------------------------------------------------------------------


def test_all_instances_of_a_host_are_reached_by_one_login(site: Site) -> None:
    nodes, gate = site.servers.start_many(5), site.sshd()
    with site.links(site.target(gate), *nodes) as links:
        assert links.open() == {}
        answers = links.ask({name: [("CLUSTER", "MYID")] for name in links.up})
        assert answers == {f"gate:{n}": [node.id()] for n, node in enumerate(nodes)}
    assert gate.logins == 1


def test_16384_commands_and_large_values_pass_through(site: Site) -> None:
    node = site.servers.start(cluster=False)
    with site.links(site.target(site.sshd()), node, command_timeout=30.0) as links:
        link = links["gate:0"]
        link.send([("ECHO", number) for number in range(16384)])
        assert link.receive(16384) == [str(number) for number in range(16384)]
        assert link.call("SET", "large", "x" * 3_000_000) == "OK"
        assert link.call("GET", "large") == "x" * 3_000_000


def test_tls_and_a_password_work_through_ssh(site: Site, tmp_path: Path) -> None:
    pem = Certificates(tmp_path / "pem", "127.21.0.1")
    node = site.servers.start(config={**pem.config, "requirepass": "secret"})
    tls = Tls(pem.ca, pem.cert, pem.key)
    with site.links(site.target(site.sshd()), node, tls=tls, password="secret", command_timeout=30.0) as links:
        link = links["gate:0"]
        assert link.call("CLUSTER", "MYID") == node.id()
        link.send([("ECHO", "x" * 1000)] * 3000 + [("ECHO", "y" * 1_000_000)])
        assert link.receive(3001) == ["x" * 1000] * 3000 + ["y" * 1_000_000]
        node.kill()
        with pytest.raises(LinkDown, match="closed the connection"):
            link.call("PING")


def test_redis_pys_own_cluster_client_runs_through_ssh(site: Site) -> None:
    nodes, gate = site.servers.start_many(3), site.sshd()
    make_cluster(nodes, masters=3)
    with site.links(site.target(gate), *nodes) as links:
        reached = links.connection_class()
        client = redis.RedisCluster.from_url(
            f"redis://{nodes[0].name}", connection_class=reached, decode_responses=True
        )
        values = {f"key-{number}": str(number) for number in range(50)}
        for key, value in values.items():
            client.set(key, value)
        assert {key: client.get(key) for key in values} == values
        client.close()
    assert gate.logins == 1


def test_a_chain_of_jump_hosts_is_gone_through_and_each_is_logged_in_to_once(site: Site) -> None:
    nodes = site.servers.start_many(2)
    first, second, a, b = (site.sshd(name) for name in ("first", "second", "a", "b"))
    site.configure(f"second\n  HostName {second.address}\n  Port {second.port}")
    jump = f"-J {first.user}@{first.address}:{first.port},second"
    instances = [Instance(f"{n}:7000", n, "z", x.address, x.port) for n, x in zip("ab", nodes, strict=True)]
    ssh = {"a": site.target(a, jump), "b": site.target(b, jump)}
    with Links(instances, Access(ssh=ssh)) as links:
        assert links.open() == {}
        assert links.ask({name: [("CLUSTER", "MYID")] for name in links.up}) == {
            "a:7000": [nodes[0].id()],
            "b:7000": [nodes[1].id()],
        }
    assert [sshd.logins for sshd in (first, second, a, b)] == [1, 1, 1, 1]


def test_a_jump_host_from_the_users_configuration_is_used(site: Site) -> None:
    node, jump, gate = site.servers.start(), site.sshd("jump"), site.sshd()
    site.configure(f"{gate.address}\n  ProxyJump {jump.address}:{jump.port}")
    with site.links(site.target(gate), node) as links:
        assert links["gate:0"].call("PING") == "PONG"
    assert jump.logins == 1


def test_a_proxy_command_is_used_and_ended(site: Site) -> None:
    node, jump, gate = site.servers.start(), site.sshd("jump"), site.sshd()
    command = f"ssh -F {site.config} -p {jump.port} -W %h:%p {jump.address}"
    with site.links(site.target(gate, f"-o ProxyCommand='{command}'"), node) as links:
        assert links["gate:0"].call("PING") == "PONG"
        assert (jump.logins, gate.logins) == (1, 1)
        assert processes_with(str(site.config))
    assert processes_with(str(site.config)) == []


def processes_with(text: str) -> list[str]:
    """Ids of the processes that have this in their arguments."""
    found = subprocess.run(["pgrep", "-f", "--", text], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_a_key_that_only_the_agent_can_unlock_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.key = keygen(site.directory / "locked", passphrase="secret")
    site.configure(IdentitiesOnly="no")
    node, gate = site.servers.start(), site.sshd()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(site.directory / "agent"))
    locked = site.silence(site.target(gate), node)
    assert locked.kind == "ssh"
    assert "a key with a passphrase must be in the agent" in locked.remedy
    assert str(site.key) in locked.detail
    ask = site.directory / "askpass"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o700)
    command = ["setpriv", "--pdeathsig", "KILL", "ssh-agent", "-D", "-a", str(site.directory / "agent")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout is not None
            agent.stdout.readline()  # it listens
            answers = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(["ssh-add", "-q", str(site.key)], env={**os.environ, **answers}, check=True)
            with site.links(site.target(gate), node) as links:
                assert links["gate:0"].call("PING") == "PONG"
        finally:
            agent.terminate()


def test_a_lost_login_is_made_again_when_its_link_is_opened_again(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    with site.links(site.target(gate), node) as links:
        assert links["gate:0"].call("PING") == "PONG"
        gate.close()
        with pytest.raises(LinkDown):
            links["gate:0"].call("PING")
        silence = links.reopen("gate:0")
        assert silence is not None
        assert silence.kind == "ssh"
        gate.start()
        assert links.reopen("gate:0") is None
        assert links["gate:0"].call("PING") == "PONG"
    assert gate.logins == 2


# --- Host keys ------------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_refused_and_not_noted(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd(known=False)
    silence = site.silence(site.target(gate), node)
    assert silence.kind == "ssh"
    assert f"the host key of {gate.user}@{gate.address} port 2222 is not in known_hosts" in silence.detail
    assert "SHA256:" in silence.detail
    assert gate.logins == 0
    assert site.known_hosts.read_text() == ""


def test_another_host_key_than_the_known_one_is_refused_whatever_the_settings(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd(known=False)
    other = keygen(site.directory / "other").with_suffix(".pub").read_text()
    site.known_hosts.write_text(f"[{gate.address}]:{gate.port} {other}")
    for args in ("", "-o StrictHostKeyChecking=accept-new", "-o StrictHostKeyChecking=no"):
        silence = site.silence(site.target(gate, args), node)
        assert silence.kind == "ssh"
        assert "shows another host key" in silence.detail
        assert "ssh-keygen -R" in silence.remedy
    assert gate.logins == 0


@pytest.mark.parametrize("word", ["accept-new", "no"])
def test_a_new_host_is_trusted_and_noted_only_where_the_user_says_so(site: Site, word: str) -> None:
    node, gate = site.servers.start(), site.sshd(known=False)
    noted = site.directory / "not-yet-there" / "known_hosts"
    site.configure(UserKnownHostsFile=str(noted))
    with site.links(site.target(gate, f"-o StrictHostKeyChecking={word}"), node) as links:
        assert links.open() == {}
    assert noted.read_text().split()[:3] == gate.known_hosts.split()[:3]
    with site.links(site.target(gate), node) as links:
        assert links.open() == {}


def test_a_revoked_host_key_is_refused_even_where_new_ones_are_trusted(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    key = gate.known_hosts.partition(" ")[2]
    with site.known_hosts.open("a") as file:
        file.write(f"@revoked * {key}")
    for args in ("", "-o StrictHostKeyChecking=accept-new"):
        assert "revoked there" in site.silence(site.target(gate, args), node).detail


def test_known_hosts_may_be_hashed_patterns_or_under_an_alias(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    key = gate.known_hosts.partition(" ")[2]
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(site.known_hosts)], check=True, capture_output=True)
    assert gate.address not in site.known_hosts.read_text()
    pattern, alias = f"[127.21.*]:{gate.port} {key}", f"some-alias {key}"
    for line, args in ((None, ""), (pattern, ""), (alias, "-o HostKeyAlias=some-alias")):
        if line:
            site.known_hosts.write_text(line)
        with site.links(site.target(gate, args), node) as links:
            assert links.open() == {}


def test_a_host_with_several_keys_is_known_by_any_of_them(site: Site) -> None:
    ecdsa = keygen(site.directory / "ecdsa", kind="ecdsa")
    node, gate = site.servers.start(), site.sshd(known=False, HostKey=str(ecdsa))
    with site.known_hosts.open("a") as file:
        file.write(f"[{gate.address}]:{gate.port} {ecdsa.with_suffix('.pub').read_text()}")
    with site.links(site.target(gate), node) as links:
        assert links.open() == {}


# --- What goes wrong: why -------------------------------------------------------------------------------------------


def test_a_key_that_is_not_authorised_is_told_with_user_and_key(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    wrong = keygen(site.directory / "wrong")
    site.configure(IdentityFile=str(wrong))
    silence = site.silence(site.target(gate), node)
    assert silence.kind == "ssh"
    assert f"{gate.user}@{gate.address} port 2222 does not let us in" in silence.detail
    assert str(wrong) in silence.detail
    assert "authorized_keys" in silence.remedy


def test_key_user_and_port_given_by_ansible_win_over_the_configuration(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    site.configure(IdentityFile=str(site.directory / "missing"), Port="1", User="nobody")
    with site.links(site.target(gate, user=gate.user, key_file=str(site.key)), node) as links:
        assert links.open() == {}


def test_a_password_that_sshd_does_not_want_is_not_shown(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    site.configure(IdentityFile=str(site.directory / "missing"))
    target = site.target(gate, password="ssh-secret")
    silence = site.silence(target, node)
    assert silence.kind == "ssh"
    assert "ssh-secret" not in repr(silence) + repr(target)


def test_a_host_without_sshd_is_told_once_for_all_its_instances(site: Site) -> None:
    nodes, gate = site.servers.start_many(3), site.sshd()
    gate.close()
    with site.links(site.target(gate), *nodes) as links:
        silences = links.open()
    assert {silence.kind for silence in silences.values()} == {"ssh"}
    assert f"SSH to {gate.user}@{gate.address} port 2222 failed: " in silences["gate:0"].detail
    assert "Connection refused" in silences["gate:0"].detail


def test_a_hanging_sshd_is_given_up_on_in_time(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    gate.signal(signal.SIGSTOP)
    begin = time.monotonic()
    silence = site.silence(site.target(gate), node, connect_timeout=0.5)
    assert time.monotonic() - begin < 5
    assert silence.kind == "ssh"


def test_an_unreachable_jump_host_is_named(site: Site) -> None:
    node, jump, gate = site.servers.start(), site.sshd("jump"), site.sshd()
    jump.close()
    silence = site.silence(site.target(gate, f"-J {jump.address}:{jump.port}"), node)
    assert silence.kind == "ssh"
    assert f"SSH to {jump.user}@{jump.address} port 2222 failed" in silence.detail


def test_a_host_that_its_jump_host_cannot_reach_is_named(site: Site) -> None:
    node, jump, gate = site.servers.start(), site.sshd("jump"), site.sshd()
    gate.close()
    silence = site.silence(site.target(gate, f"-J {jump.address}:{jump.port}"), node)
    assert silence.kind == "ssh"
    assert f"jump host [{jump.address}]:2222 cannot connect to {gate.address}:2222" in silence.detail


@pytest.mark.parametrize("setting", [{"AllowTcpForwarding": "no"}, {"PermitOpen": "127.21.0.1:1"}])
def test_a_host_that_may_not_forward_is_told_with_the_remedy(site: Site, setting: dict[str, Any]) -> None:
    node, gate = site.servers.start(), site.sshd(**setting)
    silence = site.silence(site.target(gate), node)
    assert silence.kind == "ssh"
    assert f"sshd of host gate may not forward to {node.name}" in silence.detail
    assert "AllowTcpForwarding" in silence.remedy


def test_a_closed_port_behind_the_host_is_refused_like_a_near_one(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    node.kill()
    silence = site.silence(site.target(gate), node)
    assert (silence.kind, silence.detail) == ("refused", f"host gate cannot connect to {node.name} (Connect failed)")


def test_of_many_ports_refused_at_once_each_is_known_to_be_refused(site: Site) -> None:
    """paramiko keeps one reason for all channels of a login; without care the others would look like time-outs."""
    gate, address = site.sshd(), site.servers.address()
    instances = [Instance(f"gate:{port}", "gate", "z", address, port) for port in range(9000, 9060)]
    with Links(instances, Access(ssh={"gate": site.target(gate)}, connect_timeout=5.0, command_timeout=5.0)) as links:
        assert {silence.kind for silence in links.open().values()} == {"refused"}


def test_a_hanging_node_behind_the_host_is_given_up_on_in_time(site: Site) -> None:
    nodes, gate = site.servers.start_many(3), site.sshd()
    with site.links(site.target(gate), *nodes, connect_timeout=1.0, command_timeout=1.0) as links:
        links.open()
        for node in nodes[:2]:
            node.pause()
        begin = time.monotonic()
        answers = links.ask({name: [("PING",)] for name in ("gate:0", "gate:1", "gate:2")})
        assert time.monotonic() - begin < 3
        assert answers["gate:2"] == ["PONG"]
        assert {name: silence.kind for name, silence in links.open().items()} == {
            "gate:0": "timeout",
            "gate:1": "timeout",
        }


def test_a_wrong_ca_or_password_is_told_as_without_ssh(site: Site, tmp_path: Path) -> None:
    gate = site.target(site.sshd())
    ours, theirs = (Certificates(tmp_path / name, "127.21.0.1") for name in ("ours", "theirs"))
    node = site.servers.start(config={**ours.config, "requirepass": "secret"})
    wrong_ca = site.silence(gate, node, tls=Tls(theirs.ca, ours.cert, ours.key))
    assert wrong_ca.kind == "tls"
    assert "CERTIFICATE_VERIFY_FAILED" in wrong_ca.detail
    assert site.silence(gate, node, tls=Tls(ours.ca)).kind == "tls"
    assert site.silence(gate, node, tls=Tls(ours.ca, ours.cert, ours.key), password="wrong").kind == "auth"


def test_settings_that_ssh_does_not_accept_are_told_with_its_own_words(site: Site) -> None:
    node, gate = site.servers.start(), site.sshd()
    silence = site.silence(site.target(gate, "-o NoSuchOption=1"), node)
    assert silence.kind == "ssh"
    assert "Bad configuration option: nosuchoption" in silence.detail
    assert "ansible_ssh_common_args" in silence.remedy


# --- Ansible's variables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostvars", "target"),
    [
        ({"inventory_hostname": "a"}, SshTarget("a")),
        ({"inventory_hostname": "a", "ansible_host": "10.0.0.1"}, SshTarget("10.0.0.1")),
        (
            {
                "inventory_hostname": "a",
                "ansible_port": "2222",
                "ansible_user": "ops",
                "ansible_ssh_private_key_file": "~/key",
                "ansible_password": "secret",
            },
            SshTarget("a", 2222, "ops", "~/key", "secret"),
        ),
        (
            {
                "inventory_hostname": "a",
                "ansible_private_key_file": "/key",
                "ansible_ssh_args": "-C",
                "ansible_ssh_common_args": "-J b",
                "ansible_ssh_extra_args": "-4",
            },
            SshTarget("a", key_file="/key", common_args="-C -J b -4"),
        ),
        (
            {"inventory_hostname": "a", "ansible_host_key_checking": False, "ansible_ssh_common_args": ""},
            SshTarget("a", common_args="-o StrictHostKeyChecking=no"),
        ),
    ],
)
def test_ansibles_variables_become_a_target(hostvars: dict[str, Any], target: SshTarget) -> None:
    assert ssh_target(hostvars) == target


# --- As an Ansible module -------------------------------------------------------------------------------------------


def test_a_cluster_is_made_through_ssh_alone_and_no_result_is_masked(site: Site, tmp_path: Path) -> None:
    """Ansible masks the values of secret options wherever they appear: a port or a user must not be one."""
    nodes, gate = site.servers.start_many(6), site.sshd()
    instances = [
        {"name": f"{zone}{n}:7000", "host": f"{zone}{n}", "zone": zone, "address": node.address, "port": node.port}
        for (zone, n), node in zip(((z, n) for z in "abc" for n in (1, 2)), nodes, strict=True)
    ]
    target = {k: v for k, v in asdict(site.target(gate, user=getpass.getuser())).items() if v is not None}
    arguments = {
        "instances": instances,
        "reach": "ssh",
        "ssh": [{"host": i["host"], **target} for i in instances],
        "_ansible_remote_tmp": str(tmp_path),
    }
    done = run_module(arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["changed"]
    assert "****" not in done.stdout
    assert gate.logins == 1
    assert all("cluster_state:ok" in node.call("CLUSTER", "INFO") for node in nodes)
