"""Module redis_instances and its library against real redis-server processes."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from slotwright.errors import Refused
from tests.live.machine import (
    ROOT,
    HostError,
    Machine,
    installed,
    rendered,
    slotwright_files,
    slotwright_process,
    slotwright_service,
)
from tests.live.servers import Servers, binary, wait_until

LOOPBACK = "127.22"


@pytest.fixture
def machine(servers: Servers, tmp_path: Path) -> Iterator[Machine]:
    one = Machine(tmp_path / "machine", servers.address())
    yield one
    one.close()


def test_check_run_check_run_changes_exactly_once(machine: Machine) -> None:
    assert machine.converge(check=True)["changed"]
    assert not machine.directory.exists()
    assert machine.converge()["changed"]
    assert not machine.converge(check=True)["changed"]
    second = machine.converge()
    assert not second["changed"]
    assert second["diff"] == []


def test_check_mode_shows_the_diff_that_the_run_then_makes(machine: Machine) -> None:
    assert machine.converge(check=True)["diff"] == machine.converge()["diff"]


def test_each_instance_is_described(machine: Machine) -> None:
    machine.ports = [7001, 7002]
    one, two = machine.converge()["instances"]
    assert (one["name"], two["name"]) == ("h1:7001", "h1:7002")
    assert one["pid"] == machine.pid(7001)
    assert two["pid"] == machine.pid(7002)
    assert one["started"]
    assert one["running"]
    assert not one["restart_pending"]
    assert one["server_version"].startswith("7.")
    assert str(machine.conf(7001)) in one["changed_files"]
    assert str(machine.conf(7002)) not in one["changed_files"]


def test_the_started_server_is_a_cluster_node_at_its_address(machine: Machine) -> None:
    machine.converge()
    assert "cluster_known_nodes:1" in machine.call("CLUSTER", "INFO")
    assert machine.call("CONFIG", "GET", "cluster-announce-ip") == {"cluster-announce-ip": machine.address}


def test_one_more_port_starts_one_more_instance_and_leaves_the_first_alone(machine: Machine) -> None:
    machine.converge()
    pid = machine.pid(7001)
    machine.ports = [7001, 7002]
    first, second = machine.converge()["instances"]
    assert (first["pid"], first["started"], second["started"]) == (pid, False, True)


def test_redis_conf_is_closed_to_others(machine: Machine) -> None:
    machine.converge()
    assert stat.S_IMODE(machine.conf().stat().st_mode) == 0o640
    assert stat.S_IMODE(machine.data("rewrite.conf").stat().st_mode) == 0o600


def test_a_file_with_the_wrong_mode_is_put_right(machine: Machine) -> None:
    machine.converge()
    machine.conf().chmod(0o666)
    assert machine.converge()["changed"]
    assert stat.S_IMODE(machine.conf().stat().st_mode) == 0o640


def test_a_bad_directive_is_refused_in_redis_own_words_and_nothing_is_written(machine: Machine) -> None:
    for check in (True, False):
        with pytest.raises(HostError) as refused:
            machine.converge(check=check, node_config={"maxmemry": "1gb"})
        assert refused.value.finding["code"] == "conf-refused"
        assert refused.value.finding["where"] == "h1:7001"
        assert "of redis.conf, `maxmemry 1gb`: Bad directive" in refused.value.finding["what"]
    assert not machine.directory.exists()


def test_the_line_that_a_refusal_names_is_the_line_of_the_file(machine: Machine) -> None:
    machine.converge(node_config={"maxmemory": "64mb"})
    lines = machine.conf().read_text().splitlines()
    with pytest.raises(HostError, match=f"line {lines.index('maxmemory 64mb') + 1} of redis.conf, `maxmemory 64xb`"):
        machine.converge(node_config={"maxmemory": "64xb"})


def test_one_bad_instance_keeps_the_files_of_all_instances(machine: Machine) -> None:
    machine.ports = [7001, 7002]
    machine.converge()
    before = machine.conf(7001).read_text()
    with pytest.raises(HostError, match="h1:7002"):
        machine.converge(node_config={"maxmemory": "64mb"}, port_config={7002: {"maxmemory": "much"}})
    assert machine.conf(7001).read_text() == before


def test_a_value_that_only_the_starting_server_can_refuse_is_refused_too(machine: Machine) -> None:
    with pytest.raises(HostError, match=r"does not start with this redis\.conf: .*nowhere"):
        machine.converge(node_config={"loadmodule": ["/nowhere/module.so"]})


def test_a_directive_of_the_role_is_refused_before_the_host_is_asked(machine: Machine) -> None:
    with pytest.raises(Refused, match=r"host h1, redis_node_port_config\[7001\]: the role itself sets port"):
        machine.converge(port_config={"7001": {"port": 7002}})


def test_the_instance_wins_over_the_host_and_the_host_over_the_cluster(machine: Machine) -> None:
    machine.converge(
        cluster_config={"maxmemory": "64mb", "hz": 20, "maxmemory-policy": "allkeys-lru"},
        node_config={"maxmemory": "65mb", "hz": 21},
        port_config={7001: {"maxmemory": "66mb"}},
    )
    assert machine.call("CONFIG", "GET", "maxmemory", "hz", "maxmemory-policy") == {
        "maxmemory": str(66 << 20),
        "hz": "21",
        "maxmemory-policy": "allkeys-lru",
    }


def test_a_port_that_something_else_holds_is_refused_with_its_pid(machine: Machine) -> None:
    with socket.create_server((machine.address, 7001)), pytest.raises(HostError) as refused:
        machine.converge(check=True)
    assert refused.value.finding["code"] == "port-taken"
    assert f"pid {os.getpid()} (" in refused.value.finding["what"]
    assert f"{machine.address}:7001, its port" in refused.value.finding["what"]


def test_a_bus_port_that_something_else_holds_is_refused(machine: Machine) -> None:
    with socket.create_server((machine.address, 17001)), pytest.raises(HostError, match="its cluster bus port"):
        machine.converge()
    assert not machine.directory.exists()


def test_an_address_of_another_machine_is_refused(machine: Machine) -> None:
    machine.address = "192.0.2.1"
    with pytest.raises(HostError, match=r"192\.0\.2\.1 is not an address of this host\. Correct redis_node_address"):
        machine.converge()


def test_the_identity_survives_a_stop_and_a_start(machine: Machine) -> None:
    machine.converge()
    identity = machine.call("CLUSTER", "MYID")
    machine.converge(state="stopped")
    machine.converge()
    assert machine.call("CLUSTER", "MYID") == identity


@pytest.mark.parametrize("lives", [1, 3])
@pytest.mark.parametrize("damage", ["empty", "missing", "cut short"])
def test_a_known_member_is_not_started_without_its_nodes_conf(machine: Machine, damage: str, lives: int) -> None:
    machine.converge()
    identity = machine.call("CLUSTER", "MYID")
    for _ in range(1, lives):
        machine.converge(state="stopped")
        machine.converge()
    machine.converge(state="stopped")
    nodes, copy = machine.data("nodes.conf"), machine.data("nodes.conf.before-start")
    whole = nodes.read_text()
    assert copy.exists() == (lives > 1)
    if damage == "missing":
        nodes.unlink()
    else:
        nodes.write_text(whole[: len(whole) // 2] if damage == "cut short" else "")
    remedy = r"Put the copy back \(cp" if lives > 1 else "Put a copy of nodes.conf back or"
    with pytest.raises(HostError, match=f"refused to start: .*{remedy}.*remove nodes.conf, its copy and the data too"):
        machine.converge()
    nodes.write_text(copy.read_text() if lives > 1 else whole)
    machine.converge()
    assert machine.call("CLUSTER", "MYID") == identity


def test_a_known_member_whose_data_are_not_there_is_refused_before_anything_is_touched(
    machine: Machine, tmp_path: Path
) -> None:
    machine.converge()
    identity = machine.call("CLUSTER", "MYID")
    machine.converge(state="stopped")
    machine.data("").rename(tmp_path / "unmounted")
    before_start = [machine.directory / "conf/before-start", machine.data(""), machine.conf(), "1"]
    for check in (True, False):
        with pytest.raises(HostError, match="Mount it, put the path back") as refused:
            machine.converge(check=check)
        assert (refused.value.finding["code"], machine.data("").exists()) == ("data-elsewhere", False)
    machine.data("").mkdir()  # the place where it is mounted
    with pytest.raises(HostError, match="there is no nodes"):
        machine.converge()
    boot = subprocess.run(before_start, capture_output=True, text=True, check=False)
    assert (boot.returncode, "Mount the disk" in boot.stderr) == (1, True)

    machine.data("").rmdir()
    (tmp_path / "unmounted").rename(machine.data(""))
    machine.converge()
    assert machine.call("CLUSTER", "MYID") == identity


def test_another_data_directory_is_refused_until_the_data_were_moved_there(machine: Machine) -> None:
    machine.converge()
    identity = machine.call("CLUSTER", "MYID")
    machine.converge(state="stopped")
    other = machine.directory / "other"
    for copied in (False, True):
        if copied:
            shutil.copytree(machine.data(""), other / "7001")
        with pytest.raises(HostError, match=f"shall now have them in {other}/7001"):
            machine.converge(data_dir=str(other))
    shutil.rmtree(machine.data(""))
    machine.converge(data_dir=str(other))
    assert machine.call("CLUSTER", "MYID") == identity
    assert not machine.converge(data_dir=str(other))["changed"]


def test_without_its_marker_a_member_without_data_is_a_new_one(machine: Machine) -> None:
    machine.converge()
    identity = machine.call("CLUSTER", "MYID")
    machine.converge(state="stopped")
    shutil.rmtree(machine.data(""))
    (machine.conf().parent / "member").unlink()
    machine.converge()
    assert machine.call("CLUSTER", "MYID") != identity


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_nodes_conf_that_redis_may_not_read_is_no_broken_one() -> None:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        data.chmod(0o755)
        script = shutil.copy(ROOT / "templates/redis-cluster-before-start.sh", data)
        (data / "nodes.conf").write_text("vars currentEpoch 0 lastVoteEpoch 0\n")
        (data / "nodes.conf").chmod(0o600)
        command = ["sh", script, name, f"{name}/redis.conf"]
        said = subprocess.run(command, capture_output=True, text=True, check=False, user="nobody", extra_groups=[])
    assert (said.returncode, f"nobody may not read {name}/nodes.conf" in said.stderr) == (1, True), said.stderr


def test_links_and_pipes_that_redis_puts_into_its_directories_are_not_read(machine: Machine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    machine.converge()
    for name in ("redis.conf.started", "redis.conf.running"):
        machine.data(name).unlink()
        os.mkfifo(machine.data(name))
    assert machine.converge(check=True)["instances"][0]["restart_reasons"] == ["redis.conf"]
    machine.converge(state="stopped")
    log = machine.directory / "log/7001.log"
    log.unlink()
    log.symlink_to(secret)
    for name in ("redis.conf.started", "redis.conf.running"):
        machine.data(name).unlink()
    (machine.data("appendonlydir") / "appendonly.aof.manifest").write_text("nonsense\n")
    secret.chmod(0o400)
    with pytest.raises(HostError) as refused:
        machine.converge(timeout=1)
    assert f"nothing in {log}" in refused.value.finding["remedy"]


def test_of_a_long_file_only_the_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a" * 100 + "end")
    assert slotwright_files.read_untrusted(tmp_path / "log", last=4) == "aend"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_in_redis_directory_gets_nobody_elses_file(tmp_path: Path) -> None:
    victim, rewrite = tmp_path / "victim", tmp_path / "rewrite.conf"
    victim.touch(mode=0o600)
    rewrite.symlink_to(victim)
    account = slotwright_files.Account(65534, 65534, switch=True)
    slotwright_files.Files(account, False, slotwright_files.Outcome()).file(rewrite, "", 0o600, uid=65534)
    assert (victim.stat().st_uid, rewrite.is_symlink(), rewrite.stat().st_uid) == (0, False, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_a_redis_conf_is_tried_with_is_handed_over_from_the_inside_out(machine: Machine) -> None:
    handed = []

    class Account(slotwright_files.Account):  # type: ignore[misc, name-defined]
        def own(self, path: Path, mode: int, uid: int) -> None:
            handed.append(path.parent.stat().st_uid)
            super().own(path, mode, uid)

    options = machine.given()
    [described] = rendered("h1", options)["instances"]
    instance = slotwright_process.Instance.from_options(described)
    slotwright_process.validate(
        options["servers"][0]["path"], "port 7001\n", instance, Account(65534, 65534, switch=True), 10
    )
    assert handed == [0, 0, 0]


def test_a_version_that_was_moved_is_tried_before_it_is_linked(machine: Machine, tmp_path: Path) -> None:
    machine.converge()
    machine.converge(state="stopped")
    moved = tmp_path / "redis-server"
    moved.write_text('#!/bin/sh\n[ "$1" != --version ] || exec redis-server --version\necho it cannot run; exit 1\n')
    moved.chmod(0o755)
    with pytest.raises(HostError, match="it cannot run"):
        machine.converge(check=True, servers=[installed(str(moved))])


def test_what_config_rewrite_saves_lasts_and_never_fights_with_the_role(machine: Machine) -> None:
    machine.options = {"node_config": {"maxmemory": "64mb", "save": ["3600 1", "300 100"]}}
    machine.converge()
    machine.call("CONFIG", "SET", "hz", 50)
    machine.call("CONFIG", "SET", "maxmemory", "65mb")
    machine.call("CONFIG", "SET", "save", "10 10")
    machine.call("CONFIG", "REWRITE")
    assert not machine.converge()["changed"]
    machine.converge(state="stopped")
    assert machine.converge()["instances"][0]["started"]
    assert machine.call("CONFIG", "GET", "hz", "maxmemory", "save") == {
        "hz": "50",
        "maxmemory": str(64 << 20),
        "save": "3600 1 300 100",
    }
    assert not machine.converge()["changed"]


def test_a_new_password_wins_over_the_one_that_config_rewrite_saved(machine: Machine) -> None:
    machine.converge(password="old")
    machine.call("CONFIG", "REWRITE", password="old")
    machine.converge(password='new "one" \\')
    machine.converge(state="stopped", password='new "one" \\')
    machine.converge(password='new "one" \\')
    assert machine.call("PING", password='new "one" \\')
    with pytest.raises(redis.AuthenticationError):
        machine.call("PING", password="old")


def test_users_of_the_inventory_and_users_of_config_rewrite_live_together(machine: Machine) -> None:
    machine.options = {"node_config": {"user": ["alice on nopass ~* +@all"]}}
    machine.converge()
    machine.call("ACL", "SETUSER", "bob", "on", "nopass", "+ping")
    machine.call("CONFIG", "REWRITE")
    machine.converge(state="stopped")
    machine.converge()
    assert machine.call("ACL", "USERS") == ["alice", "bob", "default"]


def test_a_module_of_the_inventory_is_not_loaded_twice_after_config_rewrite(machine: Machine, tmp_path: Path) -> None:
    source, library = tmp_path / "m.c", tmp_path / "m.so"
    source.write_text(
        "typedef int (*get)(const char *, void *);"
        "int RedisModule_OnLoad(void **ctx, void *argv, int argc) {"
        "  get api = (get)ctx[0]; int (*set)(void *, const char *, int, int); int (*busy)(const char *);"
        '  api("RedisModule_SetModuleAttribs", &set); api("RedisModule_IsModuleNameBusy", &busy);'
        '  if (busy("m")) return 1; set(ctx, "m", 1, 1); return 0; }'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    machine.options = {"node_config": {"loadmodule": [str(library)]}}
    machine.converge()
    machine.call("CONFIG", "REWRITE")
    machine.converge(state="stopped")
    machine.converge()
    assert "m" in str(machine.call("MODULE", "LIST"))


def test_a_changed_redis_conf_restarts_nothing_and_is_reported(machine: Machine) -> None:
    machine.converge()
    pid = machine.pid()
    changed = machine.converge(node_config={"io-threads": 2, "maxmemory": "64mb"})["instances"][0]
    again = machine.converge(node_config={"io-threads": 2, "maxmemory": "64mb"})["instances"][0]
    assert (changed["pid"], changed["restart_pending"], again["restart_pending"]) == (pid, True, True)
    assert again["restart_reasons"] == ["io-threads"]
    live = machine.converge(node_config={"maxmemory": "64mb"})["instances"][0]
    assert (live["pid"], live["restart_pending"]) == (pid, False)
    assert live["settings"]["maxmemory"] == str(64 << 20)
    back = machine.converge()["instances"][0]
    assert (back["pid"], back["restart_pending"]) == (pid, False)


def test_another_redis_server_restarts_nothing_and_is_reported(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "redis-server"
    first = machine.given()["servers"]
    shutil.copy(Path(first[0]["path"]).resolve(), other)
    machine.converge()
    pid = machine.pid()
    changed = machine.converge(servers=[installed(str(other), "7.0.16"), *first])["instances"][0]
    assert (changed["pid"], changed["restart_pending"], changed["version_pending"]) == (pid, True, "7.0.16")
    assert changed["server"] == first[0]["path"]
    back = machine.converge()["instances"][0]
    assert (back["restart_pending"], back["version_pending"]) == (False, "")


def test_a_server_that_was_replaced_at_its_path_is_reported(machine: Machine, tmp_path: Path) -> None:
    server = tmp_path / "redis-server"
    shutil.copy(Path(machine.given()["servers"][0]["path"]).resolve(), server)
    machine.options = {"servers": [installed(str(server))]}
    assert not machine.converge()["instances"][0]["restart_pending"]
    shutil.copy(server, tmp_path / "new")
    (tmp_path / "new").replace(server)
    replaced = machine.converge()["instances"][0]
    assert (replaced["restart_pending"], replaced["version_pending"]) == (True, "")


def test_any_trouble_with_files_says_what_where_and_what_to_do(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError) as refused:
        machine.converge(conf_dir=str(tmp_path / "file/conf"))
    assert refused.value.finding["code"] == "os-error"
    assert refused.value.finding["what"] == f"Not a directory at {tmp_path}/file/conf/7001/member"


def test_stopping_needs_no_server_and_no_user(machine: Machine) -> None:
    machine.converge()
    gone = {"servers": [], "user": "nobody-yet", "group": "nobody-yet"}
    assert machine.converge(state="stopped", **gone)["changed"]
    with pytest.raises(redis.ConnectionError):
        machine.call("PING")


def test_a_diff_shows_directives_and_hides_secrets(machine: Machine) -> None:
    machine.converge(password="mellon")
    diff = machine.converge(password="sesame", node_config={"maxmemory": "64mb"})["diff"]
    assert len(diff) == 1
    assert "maxmemory 64mb" in diff[0]["after"]
    assert "requirepass ********" in diff[0]["before"]
    assert "requirepass ********" in diff[0]["after"]
    assert "mellon" not in str(diff)
    assert "sesame" not in str(diff)
    assert 'requirepass "sesame"' in machine.conf().read_text()


def test_a_refusal_shows_no_secret(machine: Machine) -> None:
    with pytest.raises(HostError) as refused:
        machine.converge(password="sesame", node_config={"user": ["alice on >mellon nonsense"]})
    assert "sesame" not in str(refused.value)
    assert "mellon" not in str(refused.value)


def test_stopping_ends_only_the_process_that_is_proved_to_be_the_instance(machine: Machine) -> None:
    machine.converge()
    pid = machine.pid()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            (machine.directory / "run/7001.pid").write_text(f"{bystander.pid}\n")
            assert machine.converge(state="stopped")["changed"]
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert not Path(f"/proc/{pid}/cwd").exists()


def test_stopping_twice_changes_once(machine: Machine) -> None:
    machine.converge()
    assert machine.converge(state="stopped", check=True)["changed"]
    assert machine.call("PING")
    assert machine.converge(state="stopped")["changed"]
    assert not machine.converge(state="stopped")["changed"]


def test_a_running_instance_is_known_without_its_pidfile(machine: Machine) -> None:
    machine.converge()
    pid = machine.pid()
    (machine.directory / "run/7001.pid").unlink()
    assert machine.converge()["instances"][0]["pid"] == pid
    machine.converge(state="stopped")
    wait_until("the process is gone", lambda: not Path(f"/proc/{pid}/cwd").exists())


def test_a_killed_instance_is_started_again(machine: Machine) -> None:
    machine.converge()
    identity, pid = machine.call("CLUSTER", "MYID"), machine.pid()
    os.kill(pid, signal.SIGKILL)
    wait_until("the process is gone", lambda: not Path(f"/proc/{pid}/cwd").exists())
    assert machine.converge()["instances"][0]["started"]
    assert machine.call("CLUSTER", "MYID") == identity


def test_absent_keeps_the_data_unless_told(machine: Machine) -> None:
    machine.converge()
    machine.converge(state="absent")
    assert not machine.conf().exists()
    assert machine.data("nodes.conf").exists()
    machine.converge(state="absent", data="remove")
    assert list(machine.directory.iterdir()) == []


def test_data_that_is_set_aside_is_all_there_and_the_instance_starts_as_a_new_one(machine: Machine) -> None:
    for number in (1, 2):
        machine.converge()
        machine.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until("it serves", lambda: "cluster_state:ok" in machine.call("CLUSTER", "INFO"))
        machine.call("SET", "key", number)
        identity = machine.call("CLUSTER", "MYID")
        foreseen = machine.converge(check=True, state="absent", data="aside")
        done = machine.converge(state="absent", data="aside")
        assert foreseen["diff"] == done["diff"] and foreseen["changed"]
        aside = machine.data("").with_name(f"7001.removed-{number}")
        assert identity in (aside / "nodes.conf").read_text()
        assert not machine.converge(state="absent", data="aside")["changed"]
    machine.converge()
    assert machine.call("CLUSTER", "MYID") != identity
    assert machine.call("DBSIZE") == 0


def test_absent_of_one_instance_leaves_the_other(machine: Machine) -> None:
    machine.ports = [7001, 7002]
    machine.converge()
    machine.ports = [7001]
    machine.converge(state="absent", data="remove")
    assert machine.call("PING", port=7002)
    machine.ports = [7002]
    assert not machine.converge()["changed"]


def test_a_server_that_does_not_come_up_is_given_up_after_the_timeout_with_its_last_words(machine: Machine) -> None:
    machine.converge()
    machine.converge(state="stopped")
    append_only = machine.data("appendonlydir")
    (append_only / "appendonly.aof.manifest").write_text("nonsense\n")
    began = time.monotonic()
    with pytest.raises(HostError, match=r"did not answer at .* within 1 s(?s:.*)AOF manifest"):
        machine.converge(timeout=1)
    assert time.monotonic() - began < 5


def test_the_library_can_be_read_by_python_3_8() -> None:
    paths = [*(ROOT / "plugins/module_utils").glob("*.py"), ROOT / "modules/redis_instances.py"]
    for path in (*paths, ROOT / "templates/redis-cluster-ask-peers.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_redis_6_2_runs_with_the_same_template(machine: Machine) -> None:
    machine.options = {"servers": [installed(binary("6.2.14"), "6.2.14")]}
    assert machine.converge()["instances"][0]["server_version"] == "6.2.14"
    assert not machine.converge()["changed"]
    assert machine.call("CONFIG", "GET", "cluster-migration-barrier") == {"cluster-migration-barrier": "999"}


def test_with_tls_only_tls_is_served(machine: Machine, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(machine.address)
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    machine.converge(tls=files)
    with pytest.raises(redis.ConnectionError):
        machine.call("PING")
    with redis.Redis(
        machine.address,
        7001,
        ssl=True,
        ssl_ca_certs=files["ca"],
        ssl_certfile=files["cert"],
        ssl_keyfile=files["key"],
    ) as client:
        assert client.ping()
    assert not machine.converge(tls=files)["changed"]


def test_a_certificate_that_is_not_there_is_refused_before_anything_is_written(machine: Machine) -> None:
    with pytest.raises(HostError, match=r"does not start with this redis\.conf"):
        machine.converge(tls=dict.fromkeys(("ca", "cert", "key"), "/nowhere/file"))
    assert not machine.directory.exists()


def test_check_mode_works_before_redis_is_installed(machine: Machine) -> None:
    machine.options = {"servers": [installed("/nowhere/redis-server")], "user": "nobody-yet", "group": "nobody-yet"}
    foreseen = machine.converge(check=True)
    assert foreseen["changed"]
    assert foreseen["warnings"] == ["/nowhere/redis-server is not installed yet: redis.conf could not be tried with it"]
    with pytest.raises(HostError, match=r"there is no (/nowhere/redis-server|user nobody-yet)"):
        machine.converge()
    assert not machine.directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_check_mode_works_before_there_is_the_user(machine: Machine) -> None:
    foreseen = machine.converge(check=True, user="nobody-yet", group="nobody-yet")
    assert foreseen["changed"]
    [warning] = foreseen["warnings"]
    assert warning.startswith("there is no user nobody-yet or no group nobody-yet yet")


@pytest.mark.skipif(slotwright_service.BOOTED.is_dir(), reason="systemd runs here")
def test_systemd_units_are_refused_where_systemd_does_not_run(machine: Machine) -> None:
    with pytest.raises(HostError, match="Set redis_node_service to process"):
        machine.converge(service="systemd")
    assert not machine.directory.exists()


@pytest.fixture
def units(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `systemctl` for the machine, whose units are never ready. See machine.SYSTEMCTL."""
    monkeypatch.setattr(slotwright_service, "BOOTED", tmp_path)
    monkeypatch.setattr(slotwright_service, "UNITS", tmp_path)
    directory = machine.serve_units(tmp_path / "systemd", started="activating")
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_a_unit_that_never_becomes_active_is_given_up_after_the_timeout(machine: Machine, units: Path) -> None:
    with pytest.raises(HostError, match=r"answers, but after 1 s .* is not active but activating\. .*libsystemd"):
        machine.converge(timeout=1)


def test_a_unit_that_is_activating_is_stopped_by_systemd_with_and_without_a_process(
    machine: Machine, units: Path
) -> None:
    with pytest.raises(HostError, match="Type=notify"):
        machine.converge(timeout=1)
    for _ in range(2):
        (units / "log").write_text("")
        assert machine.converge(state="stopped")["changed"]
        assert "stop --no-block redis-cluster@7001.service" in (units / "log").read_text().splitlines()
        with pytest.raises(redis.ConnectionError):
            machine.call("PING")
        assert not machine.converge(state="stopped")["changed"]
        (units / "state").write_text("activating\n")


def test_a_unit_is_not_left_to_itself_when_the_service_changes(machine: Machine, units: Path) -> None:
    with pytest.raises(HostError, match="Type=notify"):
        machine.converge(timeout=1)
    with pytest.raises(HostError, match="redis_node_service is now process") as refused:
        machine.converge(service="process")
    assert refused.value.finding["code"] == "unit-there"


def test_a_process_that_systemd_does_not_know_is_warned_of(machine: Machine, units: Path) -> None:
    machine.converge(service="process")
    (units / "main").write_text("0\n")
    stranger = f"process {machine.pid()} is not that of redis-cluster@7001.service"
    assert stranger in " ".join(machine.converge()["warnings"])
    (units / "main").write_text(f"{machine.pid()}\n")
    assert stranger not in " ".join(machine.converge()["warnings"])
