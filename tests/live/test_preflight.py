"""Module redis_preflight on hosts of a private network: what they see of each other, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.boxes import Box, inventory_of
from tests.live.machine import load
from tests.live.netns import Host, Net
from tests.live.servers import wait_until

# A file system whose server never says a word: whoever touches it waits, as with NFS when its server is gone.
HANG = """
import ctypes, os, sys, time
fuse = os.open("/dev/fuse", os.O_RDWR)
data = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
done = libc.mount(b"hanging", sys.argv[1].encode(), b"fuse", 0, data)
print("up" if not done else os.strerror(ctypes.get_errno()), flush=True)
time.sleep(600)
"""
RUN = str(Path(__file__).with_name("run_preflight.py"))
PORT, BUS = 7001, 17001


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with Net(tmp_path, hosts=3) as running:
        yield running


def options(host: Host, phase: str, **more: Any) -> dict[str, Any]:
    instance = {
        "port": PORT,
        "listen": [host.address],
        "data_dir": str(host.directory / "data"),
        "pidfile": str(host.directory / "redis.pid"),
    }
    return {
        "phase": phase,
        "address": host.address,
        "service": "process",
        "instances": [instance],
        "log_dir": str(host.directory),
        "servers": ["/usr/bin/redis-server"],
        "endpoints": [],
        "listen_for": 30,
        "timeout": 1,
        **more,
    }


def call(host: Host, phase: str, **more: Any) -> dict[str, Any]:
    done = host.run([sys.executable, RUN], input=json.dumps(options(host, phase, **more)))
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def hanging(host: Host, directory: Path) -> Iterator[None]:
    server = host.start([sys.executable, "-c", HANG, directory], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    if (said := server.stdout.readline()) != "up\n":
        pytest.skip(f"no FUSE here: {said}")
    yield
    server.kill()  # whoever waits for it gets an error then, and ends
    server.wait()


def both_ports(*hosts: Host) -> list[tuple[str, int]]:
    return [(host.address, port) for host in hosts for port in (PORT, BUS)]


def prove(host: Host, *others: Host) -> dict[str, Any]:
    return call(host, "prove", targets=[{"address": a, "port": p} for a, p in both_ports(*others)])


def redis(host: Host, **settings: str) -> None:
    """An instance at the place where options() say that it is."""
    (host.directory / "data").mkdir()
    wanted = {
        "bind": host.address,
        "port": str(PORT),
        "cluster-enabled": "yes",
        "dir": str(host.directory / "data"),
        "pidfile": str(host.directory / "redis.pid"),
        "daemonize": "yes",
        "save": "",
        **settings,
    }
    host.run(["redis-server", *(word for name, value in wanted.items() for word in (f"--{name}", value))])
    address = settings.get("bind", host.address)
    wait_until(f"redis listens at {address}", lambda: host.reach(address, BUS) == "open")


def test_free_ports_are_listened_on_until_told_to_end_and_redis_can_start_at_once(net: Net) -> None:
    one, two, _ = net.hosts
    looked = call(one, "look")
    assert looked["ports"] == [{"port": PORT, "state": "free", "who": "", "member": False}]
    seen = prove(two, one)
    token = looked["listener"]["token"]
    assert seen == {"said": [[one.address, PORT, token], [one.address, BUS, token]], "refused": [], "blocked": []}
    ended = call(one, "end", listener=looked["listener"])
    assert ended == {"lasted": True, "token": token}
    assert two.reach(one.address, PORT) == two.reach(one.address, BUS) == "refused"
    redis(one)
    assert two.reach(one.address, PORT) == "open"


def test_a_listener_ends_by_itself_when_nobody_comes_back_to_end_it(net: Net) -> None:
    one, two, _ = net.hosts
    started = time.monotonic()
    looked = call(one, "look", listen_for=2)
    assert two.reach(one.address, BUS) == "open"
    wait_until("the listener has ended", lambda: two.reach(one.address, BUS) == "refused", timeout=10)
    assert time.monotonic() - started > 1.5
    assert not Path("/proc", str(looked["listener"]["pid"]), "cwd").exists()
    assert call(one, "end", listener=looked["listener"])["lasted"] is False


def test_a_listener_outlives_whoever_had_it_started(net: Net) -> None:
    one, two, _ = net.hosts
    shell = one.start(["sh", "-c", f"{sys.executable} {RUN}; sleep 60"], stdout=subprocess.PIPE, text=True,
                      stdin=subprocess.PIPE, start_new_session=True)  # fmt: skip
    assert shell.stdin and shell.stdout
    shell.stdin.write(json.dumps(options(one, "look")))
    shell.stdin.close()
    assert json.loads(shell.stdout.readline())["listener"]
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    assert shell.stdout.read() == "", "the listener holds the output of its starter"
    assert two.reach(one.address, BUS) == "open"


def test_a_listener_that_an_aborted_run_left_behind_is_ended_by_the_next_run(net: Net) -> None:
    one, two, _ = net.hosts
    left = call(one, "look")["listener"]
    again = call(one, "look")
    assert again["ports"][0]["state"] == "free", again["ports"][0]["who"]
    assert again["listener"]["token"] != left["token"]
    assert {said for _, _, said in prove(two, one)["said"]} == {again["listener"]["token"]}
    assert call(one, "end", listener=again["listener"])["lasted"] is True


def test_whoever_only_claims_to_be_a_listener_or_names_another_process_is_left_alone(net: Net) -> None:
    [one, *_] = net.hosts
    victim = subprocess.Popen(["sleep", "60"])
    claim = f"s.accept()[0].send(b'redis-preflight {victim.pid} 00')"
    liar = f"import socket; s = socket.create_server(('', {BUS})); print('up', flush=True)\nwhile 1: {claim}"
    try:
        liars = one.start([sys.executable, "-c", liar], stdout=subprocess.PIPE, text=True)
        assert liars.stdout and liars.stdout.readline() == "up\n"
        assert call(one, "look")["ports"][0]["state"] == "taken"
        assert victim.poll() is None and liars.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_the_port_of_a_member_that_is_down_is_not_listened_on(net: Net) -> None:
    one, two, _ = net.hosts
    (one.directory / "data").mkdir()
    (one.directory / "data/nodes.conf").touch()
    looked = call(one, "look")
    assert looked["ports"] == [{"port": PORT, "state": "down", "who": "", "member": True}]
    assert looked["listener"] is None
    assert two.reach(one.address, PORT) == "refused"


@pytest.mark.parametrize(("unit", "state"), [("activating", "starting"), ("failed", "free"), ("inactive", "free")])
def test_the_port_of_a_unit_that_systemd_is_about_to_start_is_not_listened_on(
    net: Net, tmp_path: Path, unit: str, state: str
) -> None:
    [one, *_] = net.hosts
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$*" = "is-active redis-cluster@{PORT}.service" ] && echo {unit}\nexit 3\n')
    systemctl.chmod(0o755)
    booted = f"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {sys.executable} {RUN}"
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    given = json.dumps(options(one, "look", service="systemd", listen_for=2))
    looked = json.loads(one.run(["unshare", "--mount", "sh", "-ec", booted], input=given, env=environment).stdout)
    assert looked["ports"][0]["state"] == state
    assert (looked["listener"] is None) == (state == "starting")


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system that hangs is mounted by root")
def test_a_directory_that_does_not_answer_is_said_and_holds_nothing_up(net: Net) -> None:
    one, two, _ = net.hosts
    (one.directory / "data").mkdir()
    with hanging(one, one.directory / "data"):
        started = time.monotonic()
        looked = call(one, "look", endpoints=both_ports(two))
        assert time.monotonic() - started < 10
    assert looked["silent"] == [str(one.directory / "data")]
    assert looked["ports"][0]["state"] == "silent"
    assert looked["listener"] is None
    assert [disk["use"] for disk in looked["disks"]] == ["log"]
    assert looked["refused"] == [list(end) for end in both_ports(two)]


def test_a_host_without_any_packet_filter_says_so(net: Net, tmp_path: Path) -> None:
    [one, *_] = net.hosts
    assert call(one, "look", listen_for=0)["packet_filter"] is True
    (tmp_path / "none").touch(mode=0o644)
    tools = [path for path in ("/usr/sbin/nft", "/usr/sbin/ufw", "/usr/bin/firewall-cmd") if Path(path).exists()]
    hide = "".join(f"mount --bind {tmp_path}/none $(readlink -f {tool}); " for tool in tools)
    given = json.dumps(options(one, "look", listen_for=0))
    script = f"{hide} exec {sys.executable} {RUN}"
    looked = json.loads(one.run(["unshare", "--mount", "sh", "-ec", script], input=given).stdout)
    assert looked["packet_filter"] is False


def test_a_process_that_got_the_pid_of_a_listener_is_left_alone(net: Net) -> None:
    [one, *_] = net.hosts
    looked = call(one, "look")
    other = subprocess.Popen(["sleep", "60"])
    try:
        stale = {**looked["listener"], "pid": other.pid}
        assert "finding" in call(one, "end", listener=stale), "the real listener still has the ports"
        assert other.poll() is None
        assert call(one, "end", listener=looked["listener"])["lasted"] is True
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("verdict", "seen"),
    [
        ("drop", {"blocked": [["10.33.1.2", BUS, "no answer within 1 s"]]}),
        ("reject with icmpx type admin-prohibited", {"blocked": [["10.33.1.2", BUS, "no route to host"]]}),
        ("reject with tcp reset", {"refused": [["10.33.1.2", BUS]]}),
    ],
)
@pytest.mark.parametrize("running", [True, False], ids=["a Redis", "a listener"])
def test_one_blocked_bus_port_is_seen_and_no_other(
    net: Net, verdict: str, seen: dict[str, list[Any]], running: bool
) -> None:
    one, two, three = net.hosts
    if running:
        redis(two)
    else:
        call(two, "look")
    net.block(one, two, BUS, verdict)
    nothing = {"refused": [], "blocked": []}
    for host, expected in ((one, nothing | seen), (three, nothing)):
        looked = call(host, "look", endpoints=both_ports(two), listen_for=0)
        assert {name: looked[name] for name in nothing} == expected, host.name
        proof = prove(host, two)
        assert {name: proof[name] for name in nothing} == expected, host.name


def test_a_redis_of_ours_is_running_and_anybody_else_is_in_the_way(net: Net) -> None:
    one, two, three = net.hosts
    redis(one)
    [port] = call(one, "look")["ports"]
    assert (port["state"], port["member"]) == ("running", True)
    assert call(one, "look")["listener"] is None
    listener = f"import socket; s = socket.create_server(('', {BUS})); print('up', flush=True); s.accept()"
    squatter = two.start([sys.executable, "-c", listener], stdout=subprocess.PIPE, text=True)
    assert squatter.stdout and squatter.stdout.readline() == "up\n"
    [port] = call(two, "look")["ports"]
    assert port["state"] == "taken"
    assert f"pid {squatter.pid} (" in port["who"]
    assert f"already listens on {two.address}:{BUS}, its cluster bus port" in port["who"]
    elsewhere = options(three, "look")["instances"][0] | {"listen": ["10.33.1.77"]}
    [port] = call(three, "look", instances=[elsewhere])["ports"]
    assert (port["state"], port["who"]) == ("away", "10.33.1.77 is not an address of this host")


def test_a_redis_that_listens_elsewhere_is_refused_at_home_too(net: Net) -> None:
    [one, *_] = net.hosts
    redis(one, bind="127.0.0.1")
    looked = call(one, "look")
    assert looked["ports"][0]["state"] == "running"
    assert looked["refused"] == [[one.address, PORT], [one.address, BUS]]


def test_another_hosts_address_is_found_on_the_wrong_host(net: Net) -> None:
    one, two, three = net.hosts
    assert call(one, "look", endpoints=both_ports(two, three))["twins"] == []
    one.run(["ip", "address", "add", f"{two.address}/32", "dev", "eth0"])
    looked = call(one, "look", endpoints=both_ports(two, three))
    assert looked["twins"] == [two.address]
    assert looked["addresses"] == [one.address, two.address]


def test_a_hundred_silent_hosts_take_no_longer_than_one(net: Net) -> None:
    [one, *_] = net.hosts
    one.run(["nft", "add table ip t; add chain ip t c { type filter hook output priority 0; policy accept; }; "
                    "add rule ip t c ip daddr 10.33.9.0/24 drop"])  # fmt: skip
    endpoints = [(f"10.33.9.{n}", port) for n in range(1, 101) for port in (PORT, BUS)]
    started = time.monotonic()
    looked = call(one, "look", endpoints=endpoints, listen_for=0)
    assert len(looked["blocked"]) == 200
    assert time.monotonic() - started < 5


def test_facts_are_what_the_host_says(net: Net) -> None:
    [one, *_] = net.hosts
    (one.directory / "data").mkdir()
    (one.directory / "data/dump.rdb").write_bytes(b"x" * 100_000)
    one.run(["sh", "-c", "echo 128 >/proc/sys/net/core/somaxconn"])
    looked = call(one, "look", listen_for=0)
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert looked["memory_total"] == int(memory["MemTotal"].split()[0]) * 1024
    assert looked["somaxconn"] == 128
    assert looked["machine_id"] == (one.directory / "machine-id").read_text().strip()
    assert looked["addresses"] == [one.address]
    assert looked["clock_synced"] in (True, False)
    assert looked["clock"][0] <= looked["clock"][1] <= time.time()
    said = subprocess.run(["/usr/bin/redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    assert f"v={looked['server_version']} " in said
    data, log = looked["disks"]
    assert (data["use"], data["path"], data["ports"]) == ("data", str(one.directory / "data"), [PORT])
    assert 100_000 <= data["held"] < 200_000
    assert (log["use"], log["path"]) == ("log", str(one.directory))
    assert data["free"] > 0


def test_whom_the_rules_of_redis_host_let_in_is_known_and_whom_not_yet(net: Net) -> None:
    one, two, three = net.hosts
    box = Box(one, inventory_of(net.hosts, redis_node_user="root", redis_node_group="root"))
    endpoints = both_ports(two, three)
    assert call(one, "look", endpoints=endpoints, listen_for=0)["admitted"] is None
    assert "finding" not in box.converge(firewall="nftables")
    one.run(["sh", "-c", f"sed -i 's/, {three.address}//' /etc/nftables.d/*.nft"])  # as before that one joined
    admitted = call(one, "look", endpoints=endpoints, listen_for=0)["admitted"]
    assert sorted(admitted) == [[two.address, PORT], [two.address, BUS]]


@pytest.mark.parametrize("skew", [-5.0, 0.0, 5.0])
def test_a_clock_is_as_much_ahead_as_both_readings_allow(skew: float) -> None:
    """Ours said 100.0 and 101.0 around a look that took from 100.2 to 100.9."""
    low, high = load("plugins/action/redis_preflight.py").ahead(100.0, 100.2 + skew, 100.9 + skew, 101.0)
    assert (round(low, 3), round(high, 3)) == (skew - 0.1, skew + 0.2)


def test_the_documentation_of_the_module_is_its_argument_spec() -> None:
    for name in ("filter", "reach", "preflight"):  # each imports those before it
        sys.modules[f"ansible.module_utils.slotwright_{name}"] = load(f"plugins/module_utils/slotwright_{name}.py")
    module = load("modules/redis_preflight.py")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert _without("description", documented) == _without("", module.ARGUMENTS)


def _without(word: str, options: dict[str, Any]) -> dict[str, Any]:
    """An argument spec says options where documentation says suboptions."""
    found = {}
    for name, option in options.items():
        found[name] = {key.removeprefix("sub"): value for key, value in option.items() if key != word}
        if "options" in found[name]:
            found[name]["options"] = _without(word, found[name]["options"])
    return found


def test_what_a_host_does_not_show_is_unknown(net: Net, tmp_path: Path) -> None:
    """/proc and /sys hidden below an empty directory, as in the strictest of sandboxes."""
    [one, *_] = net.hosts
    hide = f"mount --bind {tmp_path} /sys/kernel && mount --bind {tmp_path} /proc/sys && exec {sys.executable} {RUN}"
    given = json.dumps(options(one, "look", listen_for=0))
    looked = json.loads(one.run(["unshare", "--mount", "sh", "-c", hide], input=given).stdout)
    for name in ("thp", "swappiness", "overcommit", "somaxconn", "boot_id"):
        assert looked[name] is None, name
    assert looked["ports"][0]["state"] == "free"
