"""Role redis_install: servers found, archives side by side, and sources that are built once for all hosts.

What module redis_servers and redis_build refuse is tested without Ansible: tests/live/test_redis_servers.py and
test_redis_build.py.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.programs import OWN, find_headers, pack, tiny_sources, version
from tests.live.servers import ROOT, Servers, binary

LOOPBACK = "127.32"
NOTE_FACTS = """
- ansible.builtin.import_playbook: {playbooks}/install.yml
- hosts: redis
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        dest: "{here}/{{{{ inventory_hostname }}}}.json"
        content: >-
          {{{{ {{"server": redis_install_server, "version": redis_install_server_version,
                 "servers": redis_install_servers}} | to_json }}}}
        mode: "0600"
      changed_when: false
      check_mode: false
"""


@dataclass
class Hosts:
    """Hosts on this machine, each with a directory of versions of its own."""

    directory: Path
    names: list[str] = field(default_factory=lambda: ["h0"])
    variables: dict[str, Any] = field(default_factory=dict)

    def play(self, *options: str) -> tuple[int, str]:
        """playbooks/install.yml: its exit code, and what it says with every run of blanks made one."""
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "redis_install_root": f"{self.directory}/{{{{ inventory_hostname }}}}",
            "redis_install_user": "",
            "redis_install_cache": f"{self.directory}/cache",
        }
        inventory = {"redis": {"vars": common | self.variables, "hosts": dict.fromkeys(self.names)}}
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.directory / "play.yml").write_text(NOTE_FACTS.format(playbooks=ROOT / "playbooks", here=self.directory))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-i", "hosts.yml", *options],
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_REMOTE_TEMP": str(self.directory / "tmp"),
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    def install(self, *options: str) -> str:
        status, said = self.play(*options)
        assert status == 0, said
        return said

    def refused(self, *options: str) -> str:
        status, said = self.play(*options)
        assert status == 2, said
        return said

    def assert_nothing_to_do(self) -> None:
        """In check mode and without it, and in one remote call a host."""
        for options in (["--check"], ["-vvv"]):
            said = self.install(*options)
            assert set(re.findall(r"changed=(\d+)", said)) == {"0"}, said
        assert len(re.findall(r"<h0> EXEC ", said.partition("PLAY [redis]")[0])) == 1, said

    def facts(self, host: str = "h0") -> dict[str, Any]:
        """What the role left behind."""
        found: dict[str, Any] = json.loads((self.directory / f"{host}.json").read_text())
        return found

    def versions(self, host: str = "h0") -> list[str]:
        """Directories below redis_install_root."""
        return sorted(path.name for path in (self.directory / host).glob("*"))


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def test_the_server_that_is_there_is_found_in_one_remote_call(hosts: Hosts) -> None:
    hosts.assert_nothing_to_do()
    facts = hosts.facts()
    assert (facts["server"], facts["version"]) == (OWN, version(OWN))
    assert [server["path"] for server in facts["servers"]] == [OWN]


# --- Archives -------------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_three_versions_lie_side_by_side_and_only_what_is_missing_is_brought(hosts: Hosts) -> None:
    wanted = version(OWN)
    archives = {name: hosts.directory / f"{name}.tar.gz" for name in (wanted, "6.2.14", "8.0.2")}
    hosts.variables = {
        "redis_install_method": "archive",
        "redis_install_version": wanted,
        "redis_install_checksum": pack(archives[wanted], {"bin/redis-server": OWN}),
        "redis_install_archive": str(archives[wanted]),
        "redis_install_also": [
            {
                "version": name,
                "archive": str(archives[name]),
                "checksum": f"sha256:{pack(archives[name], {'redis-server': binary(name)}).upper()}",
            }
            for name in ("6.2.14", "8.0.2")
        ],
    }
    said = hosts.install("--check")
    assert f"Would be installed by method archive: redis-server {wanted}, 6.2.14, 8.0.2" in said
    assert hosts.versions() == []
    foreseen = hosts.facts()

    (hosts.directory / "h0/6.2.14.new/of-a-run-that-died").mkdir(parents=True)
    hosts.install()
    assert hosts.versions() == sorted(archives)
    assert [path.name for path in (hosts.directory / "h0/6.2.14").iterdir()] == ["redis-server"]
    facts = hosts.facts()
    assert facts["server"] == foreseen["server"] == f"{hosts.directory}/h0/{wanted}/bin/redis-server"
    assert facts["version"] == foreseen["version"] == wanted
    assert [(s["version"], s["notify"]) for s in facts["servers"][1:]] == [("6.2.14", False), ("8.0.2", True)]
    for server in facts["servers"]:
        assert version(server["path"]) == server["version"]
        assert Path(server["path"]).stat().st_uid == os.geteuid()
    hosts.assert_nothing_to_do()

    # The archive of a version that is there already is not needed any more.
    archives["6.2.14"].unlink()
    shutil.rmtree(hosts.directory / "h0/8.0.2")
    with archives["8.0.2"].open("r+b") as archive:
        archive.write(b"\0")
    assert f"host h0, version 8.0.2: {archives['8.0.2']} is not the stated one: its SHA-256 is " in hosts.refused()
    archives["8.0.2"].unlink()
    assert f"{archives['8.0.2']} is missing on the controller" in hosts.refused()
    pack(archives["8.0.2"], {"redis-server": binary("8.0.2")})
    hosts.variables["redis_install_also"][1].pop("checksum")
    hosts.install()
    assert hosts.versions() == sorted(archives)


def test_what_was_packed_for_its_owner_alone_can_be_run_by_redis(hosts: Hosts) -> None:
    wanted, archive = version(OWN), hosts.directory / "closed.tar.gz"
    pack(archive, {"bin/redis-server": OWN}, mode=0o700)
    hosts.variables = {
        "redis_install_method": "archive",
        "redis_install_version": wanted,
        "redis_install_archive": str(archive),
    }
    hosts.install()
    assert (hosts.directory / "h0" / wanted / "bin/redis-server").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(shutil.which("valkey-server") is not None, reason="nothing is missing here")
def test_a_unit_that_somebody_wrote_is_not_overwritten_by_the_package(hosts: Hosts) -> None:
    units = hosts.directory / "units"
    units.mkdir()
    (units / "redis.service").write_text("mine")
    (units / "valkey.service").write_text("mine")
    # A package that does not exist, and extra variables, which alone are stronger than a role's own: whatever the role
    # does here, this machine is not touched.
    hosts.variables = {"redis_install_flavor": "valkey", "redis_install_package": "slotwright-no-such-package"}
    said = hosts.refused("-e", f"__redis_install_units={units}")
    assert "its service cannot be masked: " in said
    assert f"{units}/valkey.service" in said
    assert "redis.service" not in said
    assert (units / "valkey.service").read_text() == "mine"


@pytest.mark.soak
def test_versions_of_valkey_lie_beside_each_other_and_another_flavor_is_refused(hosts: Hosts) -> None:
    archives = {name: hosts.directory / f"{name}.tar.gz" for name in ("8.0.1", "8.1.1")}
    for name, archive in archives.items():
        server = binary(f"valkey-{name}")
        pack(archive, {"bin/valkey-server": server, "bin/redis-server": server})  # as `make install` of Valkey has it
    hosts.variables = {
        "redis_install_method": "archive",
        "redis_install_version": "8.0.1",
        "redis_install_archive": str(archives["8.0.1"]),
        "redis_install_also": [{"version": "8.1.1", "archive": str(archives["8.1.1"])}],
    }
    said = hosts.refused()
    assert f"host h0, version 8.0.1: in {archives['8.0.1']} redis-server is Valkey 8.0.1, not Redis. " in said
    assert hosts.versions() == []

    hosts.variables["redis_install_flavor"] = "valkey"
    hosts.install()
    assert hosts.versions() == ["valkey-8.0.1", "valkey-8.1.1"]
    root = hosts.directory / "h0"
    assert hosts.facts()["servers"] == [
        {"version": v, "path": f"{root}/valkey-{v}/bin/valkey-server", "flavor": "valkey", "notify": True, "tls": True}
        for v in archives
    ]
    hosts.assert_nothing_to_do()


# --- Sources --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Method source with the tiny tree. Each build is noted in the file log."""
    find_headers(monkeypatch)
    tarball = hosts.directory / "redis-7.9.1.tar.gz"
    hosts.variables = {
        "redis_install_method": "source",
        "redis_install_version": "7.9.1",
        "redis_install_source": str(tarball),
        "redis_install_checksum": tiny_sources(tarball, hosts.directory / "log"),
    }
    return hosts


def builds(hosts: Hosts) -> int:
    log = hosts.directory / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def cached(hosts: Hosts) -> list[Path]:
    return sorted((hosts.directory / "cache/localhost").glob("*.tar.gz"))


@pytest.mark.soak  # compiles for a minute; tests/live/test_redis_build.py builds too
def test_sources_are_built_once_for_all_hosts_and_for_those_that_come_later(sources: Hosts) -> None:
    assert "Would be installed by method source: redis-server 7.9.1" in sources.install("--check")
    assert (builds(sources), sources.versions()) == (0, [])

    sources.names = ["h0", "h1", "h2"]
    sources.install()
    assert builds(sources) == 1
    assert list((sources.directory / "tmp").iterdir()) == []
    for host in sources.names:
        [server] = sources.facts(host)["servers"]
        assert server["path"] == f"{sources.directory}/{host}/7.9.1/bin/redis-server"
        assert (server["version"], server["notify"], server["tls"]) == ("7.9.1", True, True)
    [archive] = cached(sources)
    checksum = sources.variables["redis_install_checksum"]
    assert archive.name == f"redis-7.9.1-{os.uname().machine}-{checksum[:12]}.tar.gz"
    subprocess.run(["sha256sum", "--check", f"{archive}.sha256"], cwd=archive.parent, check=True)
    sources.assert_nothing_to_do()

    sources.names.append("h3")
    old = sources.directory / "6.2.14.tar.gz"
    pack(old, {"bin/redis-server": binary("6.2.14")})
    sources.variables["redis_install_also"] = [{"version": "6.2.14", "archive": str(old)}]
    sources.install()
    assert (builds(sources), sources.versions("h0"), sources.versions("h3")) == (1, *[["6.2.14", "7.9.1"]] * 2)

    # An archive that is not what was built is not shipped.
    archive.write_bytes(archive.read_bytes()[:-10])
    shutil.rmtree(sources.directory / "h0")
    sources.install()
    assert (builds(sources), cached(sources)) == (2, [archive])

    # Other sources that say the same version.
    tarball = Path(sources.variables["redis_install_source"])
    sources.variables["redis_install_checksum"] = tiny_sources(tarball, sources.directory / "log", NEWS="mended")
    shutil.rmtree(sources.directory / "h0")
    sources.install()
    assert (builds(sources), len(cached(sources))) == (3, 2)


@pytest.fixture
def web(servers: Servers, tmp_path: Path) -> Iterator[str]:
    """A web server of the test's directory."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((servers.address(), 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{server.server_address[0]!s}:{server.server_address[1]}"
        server.shutdown()


def test_sources_from_an_address_must_have_the_stated_checksum(sources: Hosts, web: str) -> None:
    sources.variables["redis_install_source"] = f"{web}/redis-7.9.1.tar.gz"
    checksum = sources.variables["redis_install_checksum"]
    sources.variables["redis_install_checksum"] = "0" * 64
    assert re.search(r"build host localhost: .*checksum .*did not match 0{64}", sources.refused())
    assert (builds(sources), sources.versions()) == (0, [])

    sources.variables["redis_install_checksum"] = f"sha256:{checksum}"
    sources.install()
    assert sources.versions() == ["7.9.1"]


def test_a_build_that_fails_is_tried_once_for_all_hosts_and_leaves_nothing_behind(sources: Hosts) -> None:
    tarball, log = Path(sources.variables["redis_install_source"]), sources.directory / "log"
    makefile = f"all:\n\techo built >>{log}; cc server.c -lnowhere\n"
    sources.variables["redis_install_checksum"] = tiny_sources(tarball, log, Makefile=makefile)
    sources.names = ["h0", "h1"]
    said = sources.refused()
    for host in sources.names:
        assert re.search(rf"fatal: \[{host} -> localhost\]: FAILED! .{{,60}}build host localhost: `make", said), said
    assert "cannot find -lnowhere" in said
    assert (builds(sources), cached(sources), sources.versions()) == (1, [], [])
    assert list((sources.directory / "tmp").iterdir()) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", ["source-7.0.15", "source-8.0.2", "source-valkey-8.1.1"])
def test_real_sources_become_a_server_with_jemalloc_tls_and_systemd(
    hosts: Hosts, servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_headers(monkeypatch)
    flavor = "valkey" if "valkey" in name else "redis"
    hosts.variables = {
        "redis_install_method": "source",
        "redis_install_flavor": flavor,
        "redis_install_version": name.rpartition("-")[2],
        "redis_install_source": binary(name),
    }
    hosts.install()
    [server] = hosts.facts()["servers"]
    assert (server["flavor"], server["version"]) == (flavor, name.rpartition("-")[2])
    assert (server["notify"], server["tls"]) == (True, True)
    node = servers.start(binary=server["path"])
    assert node.client().info("memory")["mem_allocator"].startswith("jemalloc")
    assert node.call("CONFIG", "GET", "tls-protocols") == ["tls-protocols", ""]
