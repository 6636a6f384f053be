"""The roles and playbooks on a small inventory of their own: the demo's variables at other addresses."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import yaml

from slotwright.core.variables import BY_NAME
from tests.inventories.corpus import read_as_ansible_does
from tests.live.machine import Machine, load
from tests.live.programs import pack
from tests.live.servers import Monitor, Server, Servers

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parents[1] for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
LOOPBACK = "127.22"


@dataclass
class Play:
    """What ansible-playbook said. changed: of all hosts together."""

    status: int
    said: str

    @property
    def changed(self) -> int:
        return sum(int(n) for n in re.findall(r"ok=\d+ +changed=(\d+)", self.said))


@dataclass
class Site:
    """An inventory with two hosts in each zone, everything of it below directory."""

    directory: Path
    addresses: list[str]
    variables: dict[str, Any] = field(default_factory=dict)

    def write(self) -> Path:
        inventory = self.directory / "inventory"
        (inventory / "group_vars/redis").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "inventory/demo/group_vars/redis.yml", inventory / "group_vars/redis/a.yml")
        (inventory / "group_vars/redis/b.yml").write_text(yaml.safe_dump(self.variables))
        hosts = {
            f"h{n}": {"redis_node_zone": "abcd"[n // 2], "redis_node_address": address}
            for n, address in enumerate(self.addresses)
        }
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"redis": {"hosts": hosts}}))
        return inventory

    def play(self, playbook: str, *options: str) -> Play:
        command = self.command(playbook, *options)
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        return Play(done.returncode, done.stdout + done.stderr)

    def command(self, playbook: str, *options: str) -> list[str]:
        return [str(Path(sys.executable).parent / "ansible-playbook"), playbook, "-i", str(self.write()), *options]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "SLOTWRIGHT_DEMO_DIR": str(self.nodes),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @property
    def nodes(self) -> Path:
        """Where the demo's variables put all files of the nodes."""
        return self.directory / "nodes"

    def call(self, *words: str) -> list[Any]:
        """What each node answers."""
        answers = []
        for address in self.addresses:
            password = self.variables.get("redis_cluster_password")
            with redis.Redis(address, 7001, password=password, decode_responses=True) as client:
                answers.append(client.execute_command(*words))
        return answers

    def running(self) -> list[Server]:
        """The nodes that the playbook started, for Monitor."""
        return [Server(address, 7001, self.nodes, "redis-server", {}, cast(Any, None)) for address in self.addresses]

    def close(self) -> None:
        for number, address in enumerate(self.addresses):
            host = Machine(self.nodes / f"h{number}", address)
            host.close()


@pytest.fixture
def site(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    """Six hosts: as many as a cluster with one replica needs."""
    one = Site(tmp_path, [servers.address() for _ in range(6)])
    yield one
    one.close()


@pytest.fixture
def pair(site: Site) -> Site:
    """Two hosts of the six, for what is no matter of the cluster."""
    del site.addresses[2:]
    return site


def test_site_check_run_check_run(site: Site) -> None:
    foreseen = site.play("site.yml", "--check", "--diff")
    assert foreseen.status == 0, foreseen.said
    assert "take the unowned slots" in foreseen.said
    assert not site.nodes.exists()

    done = site.play("site.yml")
    assert done.status == 0, done.said
    assert done.changed == 6 + 1
    assert all("cluster_state:ok" in info for info in site.call("CLUSTER", "INFO"))

    with Monitor(site.running()) as watch:
        for options in (["--check"], []):
            again = site.play("site.yml", *options)
            assert (again.status, again.changed) == (0, 0), again.said
    assert watch.commands, "nothing was watched"
    assert watch.mutating == []

    # Who Ansible becomes on the hosts is no matter of the controller.
    site.variables = {"ansible_become": False}
    shown = site.play("playbooks/info.yml", "--become", "--become-user=nobody", "-e", "ansible_become_exe=/nowhere/su")
    assert (shown.status, shown.changed) == (0, 0), shown.said

    site.variables = {}
    wiped = site.play("site.yml", "-e", "redis_node_state=absent", "-e", "redis_node_remove_data=true")
    assert wiped.status != 0
    assert "all of its instances are stated as removed" in wiped.said
    assert "playbooks/destroy.yml" in wiped.said
    assert all("cluster_state:ok" in info for info in site.call("CLUSTER", "INFO"))


@pytest.mark.soak  # a minute
def test_a_run_limited_to_one_host_sees_the_whole_cluster(site: Site) -> None:
    assert site.play("site.yml").status == 0
    limited = site.play("site.yml", "--limit", "h3")
    assert (limited.status, limited.changed) == (0, 0), limited.said
    assert "nothing to do: the cluster is as the inventory says" in limited.said


def test_an_inventory_without_hosts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("redis: {hosts: {}}\n")
    done = Site(tmp_path, []).play("site.yml")
    assert done.status == 2, done.said
    assert "redis" in done.said
    assert "refused" in done.said or "no host" in done.said


def test_a_second_run_makes_at_most_three_remote_calls_a_host(pair: Site) -> None:
    pair.play("playbooks/configure.yml")
    again = pair.play("playbooks/configure.yml", "-vvv")
    calls = re.findall(r"^<h0> EXEC ", again.said, re.MULTILINE)
    assert 1 <= len(calls) <= 3, again.said


def test_no_password_is_shown_however_loudly_ansible_speaks(site: Site) -> None:
    site.variables = {"redis_cluster_password": "open-sesame-71"}
    for options in (["--check", "--diff"], ["--diff"]):
        done = site.play("site.yml", "-vvv", *options)
        assert done.status == 0, done.said
        assert "open-sesame-71" not in done.said
    assert set(site.call("PING")) == {True}


def test_a_bad_directive_stops_the_host_with_redis_own_words_and_starts_nothing(site: Site) -> None:
    site.variables = {"redis_node_config": {"maxmemory-policy": "forget-all"}}
    done = site.play("site.yml")
    assert done.status != 0
    assert "redis-server refuses line" in done.said
    assert "`maxmemory-policy forget-all`" in done.said
    assert not site.nodes.exists()


def test_a_changed_directive_restarts_nothing_and_says_so(pair: Site) -> None:
    pair.play("playbooks/configure.yml")
    before = [info["process_id"] for info in pair.call("INFO", "server")]
    pair.variables = {"redis_node_config": {"io-threads": 2}}
    done = pair.play("playbooks/configure.yml")
    assert done.changed == 2
    assert "h0:7001 waits for a restart: io-threads" in done.said
    assert [info["process_id"] for info in pair.call("INFO", "server")] == before


def test_stop_wants_to_be_told_and_then_leaves_nothing(pair: Site) -> None:
    pair.play("playbooks/configure.yml")
    everything = ["-e", "redis_node_state=absent", "-e", "redis_node_remove_data=true"]
    asked = pair.play("playbooks/stop.yml", *everything)
    assert asked.status != 0
    assert "Say so with -e redis_stop_confirm=yes" in asked.said
    # Who leaves a cluster runs until that has let it go: it is not for configure.yml to stop it.
    left = pair.play("playbooks/configure.yml", *everything)
    assert (left.status, left.changed) == (0, 0)
    assert len(pair.call("PING")) == 2

    without_server = ["-e", "redis_install_bin_dir=/nowhere", "-e", "redis_install_version=6.2.0"]
    stopped = pair.play("playbooks/stop.yml", *everything, *without_server, "-e", "redis_stop_confirm=yes")
    assert stopped.status == 0, stopped.said
    assert [path for path in pair.nodes.rglob("*") if path.is_file()] == []
    with pytest.raises(redis.ConnectionError):
        pair.call("PING")


@pytest.fixture
def archive(pair: Site) -> Path:
    """A tarball with this machine's own redis-server in bin."""
    server = shutil.which("redis-server")
    assert server, "redis-server is not on PATH"
    path = pair.directory / "redis.tar.gz"
    checksum = pack(path, {"bin/redis-server": server})
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    pair.variables = {
        "redis_install_method": "archive",
        "redis_install_version": said.partition("v=")[2].split()[0],
        "redis_install_archive": str(path),
        "redis_install_checksum": f"sha256:{checksum}",
        "redis_install_root": "{{ demo_dir }}/{{ inventory_hostname }}/opt",
        "redis_install_user": "",
    }
    return path


def test_an_archive_is_unpacked_once_and_its_server_runs(pair: Site, archive: Path) -> None:
    assert pair.play("playbooks/configure.yml").status == 0
    server = pair.nodes / "h0/opt" / pair.variables["redis_install_version"] / "bin/redis-server"
    pid = pair.call("INFO", "server")[0]["process_id"]
    assert Path(f"/proc/{pid}/exe").readlink() == server
    assert server.stat().st_uid == os.geteuid()
    again = pair.play("playbooks/configure.yml")
    assert (again.status, again.changed) == (0, 0), again.said


def test_a_version_without_a_server_is_refused(pair: Site, archive: Path) -> None:
    (pair.nodes / "h0/opt" / pair.variables["redis_install_version"]).mkdir(parents=True)
    done = pair.play("playbooks/install.yml")
    assert done.status != 0
    assert "after the installation there is no" in re.sub(r"\s+", " ", done.said)


def test_the_prod_inventory_is_good_and_carries_six_shards(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventory/prod", tmp_path / "prod")
    secrets = tmp_path / "prod/group_vars/redis/vault.yml"
    secrets.write_text("---\nvault_redis_cluster_password: open-sesame-71\n")
    [cluster] = read_as_ansible_does(tmp_path / "prod").clusters
    assert (cluster.topology.name, cluster.topology.shards, cluster.topology.replicas) == ("orders", 6, 2)
    assert len(cluster.topology.instances) == 18


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_has_one_list_of_variables(role: Path) -> None:
    options = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    assert set(defaults) <= set(options)
    for of_playbooks in (
        "redis_cluster_hosts",
        "redis_reshard_hosts",
        "redis_restart_hosts",
        "redis_drill_hosts",
    ):  # theirs to set, no inventory's
        options.pop(of_playbooks, None)
    assert set(options) <= set(BY_NAME)
    for name, option in options.items():
        assert tuple(option.get("choices", ())) == BY_NAME[name].choices, name
        if name in defaults and BY_NAME[name].default is not None:
            assert defaults[name] == BY_NAME[name].default, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_of_a_role_is_current(role: Path) -> None:
    spec = importlib.util.spec_from_file_location("role_readmes", ROOT / "tools/role_readmes.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (role / "README.md").read_text() == tool.readme(role), "run python tools/role_readmes.py"


def test_the_documentation_of_the_host_module_is_its_argument_spec() -> None:
    module = load("modules/redis_instances.py")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert _as_documented(module.ON_THE_CONTROLLER | module.ON_THE_HOST) == _without_words(documented)


def _as_documented(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            **{key: value for key, value in spec.items() if key not in ("options", "no_log")},
            **({"suboptions": _as_documented(spec["options"])} if "options" in spec else {}),
        }
        for name, spec in arguments.items()
    }


def _without_words(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            **{key: value for key, value in option.items() if key not in ("description", "suboptions")},
            **({"suboptions": _without_words(option["suboptions"])} if "suboptions" in option else {}),
        }
        for name, option in options.items()
    }
