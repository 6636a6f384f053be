"""Module redis_host on hosts with networks of their own: what it makes of them, and who may then connect to whom."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slotwright.errors import Refused
from slotwright.manager.machine import machines
from tests.live.boxes import PORT, ROOT, Box, inventory_of
from tests.live.netns import Host, Net
from tests.live.servers import wait_until

BUS = PORT + 10000
SYSCTL = "sysctl.d/99-redis-cluster.conf"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    """Three hosts of a cluster, a client, a stranger, and net.controller, which is no node either."""
    with Net(tmp_path, hosts=5, prefix="10.34") as one:
        yield one


@pytest.fixture
def box(net: Net) -> Box:
    return Box(net.hosts[0], inventory_of(net.hosts[:3]))


def serve(host: Host, *addresses: str) -> None:
    """A cluster node at the host's address."""
    at = addresses or (host.address,)
    directory = host.directory / "redis"
    directory.mkdir(exist_ok=True)
    options = f"--port {PORT} --cluster-enabled yes --protected-mode no --dir {directory} --save"
    host.start(["redis-server", "--bind", *at, *options.split(), ""], stdout=subprocess.DEVNULL)
    wait_until("the node listens", lambda: host.reach(at[0], BUS) == "open")


def told(result: dict[str, Any]) -> str:
    """The finding of a run that was refused."""
    assert "finding" in result, result
    return f"{result['finding']['what']}; {result['finding']['remedy']}"


CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
print("connected", flush=True)
for line in sys.stdin:
    connection.sendall(b"PING\\r\\n")
    print(connection.recv(64).decode().strip(), flush=True)
"""


class Client:
    """A connection that stays open."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [*host.inside, sys.executable, "-c", CLIENT, address, str(port)]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **pipes)  # type: ignore[call-overload]
        assert self.process.stdout.readline() == "connected\n"

    def ping(self) -> str:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline().strip())


# --- one call, once --------------------------------------------------------------------------------------------------


def test_check_run_check_run_changes_exactly_once(box: Box) -> None:
    foreseen = box.converge(check=True)
    assert foreseen["changed"]
    assert sorted(path.name for path in box.etc.iterdir()) == []
    assert (box.rules, box.vm("overcommit_memory")) == ("", "0")
    done = box.converge()
    assert done["diff"] == foreseen["diff"]
    for check in (True, False):
        again = box.converge(check=check)
        assert (again["changed"], again["diff"]) == (False, [])


def test_only_root_may(box: Box) -> None:
    done = box.host.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", ROOT / "tests/live/run_machine.py"],
        input=json.dumps({"options": {}, "check": False}),
    )
    finding = json.loads(done.stdout)["finding"]
    assert finding["code"] == "not-root"
    assert "ansible_become" in finding["remedy"]


def test_the_account_is_made_without_shell_and_home_and_an_old_one_is_kept(box: Box) -> None:
    box.converge()
    made = next(line for line in (box.etc / "passwd").read_text().splitlines() if line.startswith("redis-of-tests:"))
    assert made.endswith(":/nonexistent:/usr/sbin/nologin")
    kept = made.replace("/usr/sbin/nologin", "/bin/sh")
    (box.etc / "passwd").write_text((box.etc / "passwd").read_text().replace(made, kept))
    assert not box.converge()["changed"]


def test_limits_are_raised_for_redis_without_systemd_only(box: Box) -> None:
    box.converge()
    assert not (box.etc / "security").exists()
    box.converge(service="process")
    limits = (box.etc / "security/limits.d/redis-cluster.conf").read_text()
    assert "\nredis-of-tests - nofile 65536\n" in limits


@pytest.mark.parametrize(
    "said", ["is held by somebody else: cannot lock /etc/group; try again later", "already exists"]
)
def test_an_account_that_somebody_else_is_just_making_is_waited_for(box: Box, said: str) -> None:
    # The first call fails, and where it is not for the lock the group is there then.
    real = shutil.which("groupadd", path="/usr/sbin:/sbin")
    makes = "" if "lock" in said else f'"{box.host.directory}/real" "$@"; '
    fails = (
        f"[ -e {box.host.directory}/once ] || {{ touch {box.host.directory}/once; {makes}echo {said!r} >&2; exit 9; }}"
    )
    (box.host.directory / "real").write_bytes(Path(str(real)).read_bytes())
    (box.host.directory / "real").chmod(0o755)
    (box.host.directory / "fake").write_text(f'#!/bin/sh\n{fails}\nexec {box.host.directory}/real "$@"\n')
    (box.host.directory / "fake").chmod(0o755)
    box.host.run(["mount", "--bind", box.host.directory / "fake", str(real)])
    assert box.converge()["changed"]
    assert "redis-of-tests:" in (box.etc / "group").read_text()
    assert not box.converge()["changed"]


# --- kernel settings -------------------------------------------------------------------------------------------------


def test_kernel_settings_are_set_at_once_and_for_the_next_boot(box: Box) -> None:
    done = box.converge(sysctl={"vm.swappiness": 5, "net.ipv4.tcp_keepalive_time": 111})
    assert (box.vm("overcommit_memory"), box.vm("swappiness")) == ("1", "5")
    assert box.host.run(["cat", "/proc/sys/net/ipv4/tcp_keepalive_time"]).stdout == "111\n"
    lines = (box.etc / SYSCTL).read_text().splitlines()
    assert {"vm.overcommit_memory = 1", "vm.swappiness = 5", "net.ipv4.tcp_keepalive_time = 111"} <= set(lines)
    assert {"name": "vm.swappiness", "asked": "5", "got": "5"} in done["settings"]


def test_a_larger_backlog_is_kept_unless_the_inventory_states_another(box: Box) -> None:
    somaxconn = Path("/proc/sys/net/core/somaxconn")
    box.host.run(["sh", "-c", f"echo 60000 >{somaxconn}"])
    box.converge()
    assert box.host.run(["cat", somaxconn]).stdout == "60000\n"
    assert "net.core.somaxconn = 60000\n" in (box.etc / SYSCTL).read_text()
    box.converge(sysctl={"net.core.somaxconn": 5000})
    assert box.host.run(["cat", somaxconn]).stdout == "5000\n"


def test_what_the_kernel_refuses_is_told_with_asked_and_got_and_changes_nothing(box: Box) -> None:
    box.host.run(["mount", "-o", "remount,bind,ro", "/proc/sys/vm"])
    box.converge()
    for check in (True, False):
        again = box.converge(check=check, sysctl={"vm.no_such_thing": 1})
        [said] = [warning for warning in again["warnings"] if "the kernel keeps what it has" in warning]
        assert said.startswith("h11: ")
        assert "vm.swappiness is 60, not 1 (read-only, as in a container)" in said
        assert "vm.no_such_thing is missing, not 1 (this kernel has no such setting)" in said
        assert {"name": "vm.swappiness", "asked": "1", "got": "60"} in again["settings"]
        assert [one["before_header"] for one in again["diff"]] == [f"/etc/{SYSCTL}"]
    assert not box.converge(sysctl={"vm.no_such_thing": 1})["changed"]


def test_who_else_sets_a_kernel_setting_is_named(box: Box) -> None:
    box.converge()
    (box.etc / "sysctl.d/50-others.conf").write_text("vm.swappiness=60\n")
    (box.host.directory / "vm/swappiness").write_text("60\n")
    done = box.converge()
    assert any("/etc/sysctl.d/50-others.conf sets it too" in warning for warning in done["warnings"])
    assert box.vm("swappiness") == "1"


def test_huge_pages_for_everybody_end_and_never_is_left_alone(box: Box) -> None:
    box.converge()
    assert box.huge_pages == "always [madvise] never\n"
    box.huge_pages = "always madvise [never]\n"
    assert not box.converge()["changed"]


# --- who may connect -------------------------------------------------------------------------------------------------


def test_nodes_reach_the_bus_and_strangers_do_not(net: Net, box: Box) -> None:
    serve(box.host)
    box.converge()
    one, peer, stranger = box.host, net.hosts[1], net.hosts[4]
    assert [host.reach(one.address, BUS) for host in (one, peer, stranger)] == ["open", "open", "blocked"]
    assert [host.reach(one.address, PORT) for host in (one, peer, stranger)] == ["open", "open", "open"]


def test_clients_come_from_their_networks_from_nodes_and_from_the_host_itself(net: Net, box: Box) -> None:
    serve(box.host)
    box.converge(networks=["192.0.2.0/24", f"{net.hosts[3].address}/32"])
    reached = [host.reach(box.host.address, PORT) for host in net.hosts]
    assert reached == ["open", "open", "open", "open", "blocked"]
    assert net.hosts[3].reach(box.host.address, BUS) == "blocked"


@pytest.mark.parametrize("scrubbed", [[], ["env", "-i"]], ids=["by-itself", "through-sudo"])
def test_the_controller_comes_in_as_its_ssh_session_shows_it(net: Net, box: Box, scrubbed: list[str]) -> None:
    serve(box.host)
    session = f"{net.controller.address} 40022 {box.host.address} 22"
    box.shell = ["env", f"SSH_CONNECTION={session}", "sh", "-c", '"$@"; exit $?', "sh", *scrubbed]
    networks = ["192.0.2.0/24"]
    box.converge(networks=networks, admit_controller=False)
    assert net.controller.reach(box.host.address, PORT) == "blocked"
    box.converge(networks=networks, admit_controller=True)
    assert net.controller.reach(box.host.address, PORT) == "open"
    assert net.controller.reach(box.host.address, BUS) == "blocked"
    assert not box.converge(networks=networks, admit_controller=True)["changed"]


@pytest.mark.parametrize("session", ["fd34::99 40022 fd34::1 22", "10.34.1.5 40022 10.34.1.1 22"])
def test_the_controller_comes_in_from_its_own_address_whatever_its_ssh_session_goes_through(
    net: Net, box: Box, session: str
) -> None:
    serve(box.host)
    box.shell = ["env", f"SSH_CONNECTION={session}", "sh", "-c", '"$@"; exit $?', "sh"]
    box.stated["controller"] = net.controller.address
    networks = ["192.0.2.0/24"]
    box.converge(networks=networks, admit_controller=True)
    assert net.controller.reach(box.host.address, PORT) == "open"
    assert net.controller.reach(box.host.address, BUS) == "blocked"
    assert not box.converge(networks=networks, admit_controller=True)["changed"]


def test_the_controller_knows_its_own_address_on_each_route(net: Net) -> None:
    net.controller.run(["ip", "address", "add", "fd34::99/64", "dev", "bridge", "nodad"])
    ask = "from tests.live.boxes import own_address; import sys; print(*map(repr, map(own_address, sys.argv[1:])))"
    told = net.controller.run([sys.executable, "-c", ask, net.hosts[0].address, "fd34::1", "127.0.0.9", "203.0.113.1"])
    assert told.stdout.split() == [repr(net.controller.address), "'fd34::99'", "'127.0.0.1'", "''"]


def test_a_run_from_another_controller_says_whom_it_takes_away_unless_the_inventory_names_both(
    net: Net, box: Box
) -> None:
    first, second = net.controller.address, net.hosts[4].address
    box.shell = ["unshare", "--pid", "--fork", "--mount-proc", "env", "-u", "SSH_CONNECTION"]
    box.shell += ["sh", "-c", '"$@"; exit $?', "sh"]

    def warned(controller: str, networks: list[str]) -> tuple[bool, list[str]]:
        box.stated["controller"] = controller
        done = box.converge(networks=networks, admit_controller=True)
        return done["changed"], [said for said in done["warnings"] if "lets these in any more" in said]

    assert warned(first, ["192.0.2.0/24"]) == (True, [])
    [[said]] = [warnings for changed, warnings in [warned(second, ["192.0.2.0/24"])] if changed]
    assert f"any more: {first}. " in said
    assert "name it in redis_host_client_networks" in said
    assert warned(second, ["192.0.2.0/24"]) == (False, [])
    assert warned(first, [first, second]) == (True, [])
    assert warned(second, [first, second]) == (False, [])


def test_a_controller_that_cannot_be_seen_is_told_of(box: Box) -> None:
    box.stated["controller"] = ""
    # Its parents are not those of this test, which may have been started over SSH.
    box.shell = ["unshare", "--pid", "--fork", "--mount-proc", "env", "-u", "SSH_CONNECTION"]
    box.shell += ["sh", "-c", '"$@"; exit $?', "sh"]
    done = box.converge(check=True, networks=["192.0.2.0/24"], admit_controller=True)
    assert any("set redis_cluster_reach to ssh" in warning for warning in done["warnings"])


def test_other_ports_and_other_addresses_are_nobodys_business(net: Net, box: Box) -> None:
    box.host.run(["ip", "address", "add", "10.34.7.7/32", "dev", "eth0"])
    net.hosts[4].run(["ip", "route", "add", "10.34.7.7/32", "dev", "eth0"])
    serve(box.host, box.host.address, "10.34.7.7")
    box.host.start([sys.executable, "-m", "http.server", "--bind", box.host.address, "22"], stderr=subprocess.DEVNULL)
    box.converge(networks=["192.0.2.0/24"])
    stranger = net.hosts[4]
    wait_until("another service answers", lambda: stranger.reach(box.host.address, 22) == "open")
    assert stranger.reach(box.host.address, BUS) == "blocked"
    assert stranger.reach("10.34.7.7", BUS) == "open"


def test_every_address_that_redis_binds_is_guarded(net: Net, box: Box) -> None:
    box.host.run(["ip", "address", "add", "10.34.7.7/32", "dev", "eth0"])
    for host in (net.hosts[1], net.hosts[4]):
        host.run(["ip", "route", "add", "10.34.7.7/32", "dev", "eth0"])
    serve(box.host, box.host.address, "10.34.7.7")
    for bind in ("*", f"{box.host.address} 10.34.7.7"):
        box.hostvars = inventory_of(net.hosts[:3], redis_node_config={"bind": bind})
        box.converge()
        assert net.hosts[4].reach("10.34.7.7", BUS) == "blocked"
        assert net.hosts[1].reach("10.34.7.7", BUS) == "open"


def test_ipv6_is_guarded_as_ipv4_is(net: Net, box: Box) -> None:
    for number, host in enumerate(net.hosts, 1):
        host.run(["ip", "address", "add", f"fd34::{number}/64", "dev", "eth0", "nodad"])
    box.hostvars = inventory_of(net.hosts[:3])
    for number, variables in enumerate(box.hostvars.values(), 1):
        variables["redis_node_address"] = f"fd34::{number}"
    serve(box.host, "fd34::1")
    box.converge(networks=["fd34::4/127"])
    assert [host.reach("fd34::1", PORT) for host in net.hosts] == ["open"] * 4 + ["open"]
    box.converge(networks=["fd34::4"])
    assert [host.reach("fd34::1", PORT) for host in net.hosts] == ["open"] * 4 + ["blocked"]
    assert [host.reach("fd34::1", BUS) for host in net.hosts] == ["open"] * 3 + ["blocked"] * 2
    assert not box.converge(networks=["fd34::4"])["changed"]


def test_a_node_that_joins_is_let_in_by_the_next_run(net: Net, box: Box) -> None:
    serve(box.host)
    box.converge()
    assert net.hosts[3].reach(box.host.address, BUS) == "blocked"
    box.hostvars = inventory_of(net.hosts[:4])
    box.converge()
    assert net.hosts[3].reach(box.host.address, BUS) == "open"


# --- nobody is cut off -----------------------------------------------------------------------------------------------


def test_who_is_connected_and_could_not_come_back_stops_the_run(net: Net, box: Box) -> None:
    serve(box.host)
    client = Client(net.hosts[4], box.host.address, PORT)
    before = box.rules
    for check in (True, False):
        refused = told(box.converge(check=check, networks=["192.0.2.0/24"]))
        assert f"{net.hosts[4].address} (port {PORT}, 1 connection)" in refused
        assert "redis_host_client_networks" in refused
    assert (box.rules, sorted(box.etc.iterdir()), client.ping()) == (before, [], "+PONG")


def test_connections_that_exist_outlive_rules_that_would_refuse_them(net: Net, box: Box) -> None:
    serve(box.host)
    client = Client(net.hosts[4], box.host.address, PORT)
    done = box.converge(networks=["192.0.2.0/24"], confirm=True)
    assert any(net.hosts[4].address in warning for warning in done["warnings"])
    assert net.hosts[4].reach(box.host.address, PORT) == "blocked"
    assert client.ping() == "+PONG"
    # Nothing changes, so nobody is asked again, and the rules may be replaced as often as one likes.
    assert not box.converge(networks=["192.0.2.0/24"])["changed"]
    box.converge(networks=["192.0.2.0/25"], confirm=True)
    assert client.ping() == "+PONG"


def test_a_node_that_the_inventory_does_not_name_is_not_cut_off(net: Net, box: Box) -> None:
    serve(box.host)
    Client(net.hosts[3], box.host.address, BUS)
    refused = told(box.converge())
    assert f"{net.hosts[3].address} (port {BUS}, the cluster bus, 1 connection)" in refused
    assert "name all nodes of the cluster in the inventory" in refused
    assert box.rules == ""


def test_who_is_let_in_by_the_new_rules_stops_nothing(net: Net, box: Box) -> None:
    serve(box.host)
    clients = [Client(host, box.host.address, PORT) for host in net.hosts[:4]]
    clients.append(Client(net.hosts[1], box.host.address, BUS))
    assert "finding" not in box.converge(networks=[f"{net.hosts[3].address}/32"])
    assert [client.ping() for client in clients[:4]] == ["+PONG"] * 4


# --- beside the rules of others --------------------------------------------------------------------------------------


def test_rules_that_were_flushed_or_changed_by_hand_come_back(net: Net, box: Box) -> None:
    box.converge()
    wanted = box.rules
    table = "inet redis-cluster_redis_10.34.1.1"
    for command in (
        ["flush", "ruleset"],
        [f"add element {table} peers4 {{ 192.0.2.9 }}"],
        [f"flush chain {table} input"],
    ):
        box.host.run(["nft", *command])
        assert box.rules != wanted
        assert box.converge(check=True)["diff"] == box.converge()["diff"] != []
        assert box.rules == wanted


def test_without_namespaces_to_try_rules_in_a_missing_table_is_still_noticed(box: Box) -> None:
    box.host.run(["mount", "--bind", "/bin/false", shutil.which("unshare") or ""])
    box.converge()
    wanted = box.rules
    for check in (True, False):
        assert not box.converge(check=check)["changed"]
    box.host.run(["nft", "flush", "ruleset"])
    assert box.converge()["changed"]
    assert box.rules == wanted != ""


def test_the_file_alone_brings_the_rules_back(box: Box) -> None:
    box.converge(networks=["192.0.2.0/24"])
    wanted = box.rules
    for _ in range(2):
        unit = (ROOT / "templates/redis-cluster-firewall.service").read_text()
        shell = next(line for line in unit.splitlines() if line.startswith("ExecStart=/bin/sh -c "))
        box.host.run(["sh", "-c", shell.partition("-c ")[2].strip("'").replace("$$", "$")])
        assert box.rules == wanted
        box.host.run(["nft", "flush", "ruleset"])


def test_tables_of_others_are_left_alone_and_one_that_drops_is_named(box: Box) -> None:
    others = (
        "table inet filter { chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }"
    )
    box.host.run(["nft", others])
    before = box.rules
    done = box.converge()
    [warning] = [w for w in done["warnings"] if "chain input of table inet filter drops" in w]
    assert f"no rule for port {PORT}, {BUS}" in warning
    assert before.strip() in box.rules
    box.host.run(["nft", f"add rule inet filter input tcp dport {{ {PORT - 1}-{PORT + 1}, {BUS} }} accept"])
    assert not [w for w in box.converge()["warnings"] if "drops" in w]


def test_two_clusters_on_one_machine_have_tables_of_their_own(net: Net, box: Box) -> None:
    box.converge()
    ours = box.rules
    box.hostvars = inventory_of([box.host, *net.hosts[3:]], redis_cluster_name="other", redis_node_ports=[7002])
    box.converge()
    assert ours.strip() in box.rules
    assert "table inet redis-cluster_other_10.34.1.1" in box.rules
    assert len(list((box.etc / "nftables.d").iterdir())) == 2


def test_a_cluster_that_is_given_another_name_is_not_shut_out_by_its_old_rules(net: Net, box: Box) -> None:
    serve(box.host)
    box.converge()
    box.hostvars = inventory_of(net.hosts[:4], redis_cluster_name="other")
    foreseen = box.converge(check=True)
    assert box.converge()["diff"] == foreseen["diff"]
    assert net.hosts[3].reach(box.host.address, BUS) == "open"
    assert [file.stem for file in (box.etc / "nftables.d").iterdir()] == ["redis-cluster_other_10.34.1.1"]
    assert not box.converge()["changed"]


def test_none_means_no_rules_not_even_those_of_earlier_runs(box: Box) -> None:
    box.converge()
    done = box.converge(firewall="none")
    assert (done["firewall"], box.rules, list((box.etc / "nftables.d").iterdir())) == ("none", "", [])
    assert not box.converge(firewall="none")["changed"]


def test_a_firewall_that_is_not_there_is_refused(box: Box) -> None:
    refused = told(box.converge(firewall="firewalld"))
    assert "firewalld is not installed" in refused
    assert not (box.etc / "passwd").exists()


def test_rules_that_nft_does_not_take_are_refused_with_its_own_words(box: Box) -> None:
    box.stated["nft_file"] = "table inet x {\n  chain y { nonsense; }\n}\n"
    for check in (True, False):
        assert "syntax error" in told(box.converge(check=check))
    assert (box.rules, sorted(box.etc.iterdir())) == ("", [])


def test_absent_takes_away_what_present_made_but_the_account(box: Box) -> None:
    box.converge(service="process")
    foreseen = box.converge(state="absent", check=True)
    assert box.converge(state="absent")["diff"] == foreseen["diff"] != []
    assert box.rules == ""
    left = {str(path.relative_to(box.etc)) for path in box.etc.rglob("*") if path.is_file()}
    assert {name for name in left if "redis" in name} == set()
    assert "redis-of-tests" in (box.etc / "passwd").read_text()
    assert not box.converge(state="absent")["changed"]


def test_absent_leaves_what_another_cluster_on_the_machine_needs(net: Net, box: Box) -> None:
    box.converge()
    kept = box.rules
    box.hostvars = inventory_of([box.host, *net.hosts[3:]], redis_cluster_name="other", redis_node_ports=[7002])
    box.converge()
    conf = box.etc / "redis-cluster/7001/redis.conf"
    conf.parent.mkdir(parents=True)
    conf.touch()
    box.converge(state="absent")
    assert box.rules == kept
    assert (box.etc / SYSCTL).exists()


def test_absent_leaves_what_a_cluster_with_another_directory_needs(net: Net, box: Box) -> None:
    """Two clusters on one machine, each with a redis_node_conf_dir of its own, in one inventory."""
    neighbour = "beside"
    other = {**box.hostvars[box.host.name], "redis_cluster_name": "other", "redis_node_conf_dir": "/etc/redis-other"}
    both = {**box.hostvars, neighbour: {**other, "redis_node_ports": [7002]}}
    options = machines(list(both), both, check=False)
    assert options[box.host.name]["conf_dirs"] == ["/etc/redis-cluster", "/etc/redis-other"]
    assert options[neighbour]["conf_dirs"] == options[box.host.name]["conf_dirs"]
    box.converge()
    conf = "/etc/redis-other/7002/redis.conf"
    box.host.run(["sh", "-ec", f"mkdir -p {Path(conf).parent}; touch {conf}"])
    shared = {"state": "absent", "conf_dirs": options[box.host.name]["conf_dirs"]}
    box.converge(**shared)
    assert (box.etc / SYSCTL).exists()
    box.host.run(["rm", conf])
    box.converge(**shared)
    assert not (box.etc / SYSCTL).exists()


@pytest.mark.parametrize("name", ["machine", "filter"])
def test_the_code_for_the_host_is_python_3_8(name: str) -> None:
    ast.parse((ROOT / f"plugins/module_utils/slotwright_{name}.py").read_text(), feature_version=(3, 8))


def test_what_is_taken_down_need_not_be_a_cluster_but_each_host_must_say_what_there_is() -> None:
    stated: dict[str, Any] = {"redis_node_zone": "a", "redis_node_address": "10.34.0.1"}
    with pytest.raises(Refused, match="cannot form a cluster"):
        machines(["lone"], {"lone": stated})
    assert machines(["lone"], {"lone": stated}, check=False)["lone"]["conf_dirs"] == ["/etc/redis-cluster"]
    for name, value in (("redis_node_conf_dir", 7), ("redis_node_address", "somewhere")):
        with pytest.raises(Refused, match=name):
            machines(["lone"], {"lone": {**stated, name: value}}, check=False)
