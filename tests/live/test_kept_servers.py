"""Module redis_kept_servers: what a package brought is kept before the package manager replaces it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import programs as programs  # loads the library of the module
from tests.live.machine import Machine, installed
from tests.live.servers import Servers, binary

LOOPBACK = "127.31"
slotwright_servers: Any = sys.modules["ansible.module_utils.slotwright_servers"]


@pytest.fixture
def machine(servers: Servers, tmp_path: Path) -> Iterator[Machine]:
    """Started with a server as a package brings it: one path for all."""
    one = Machine(tmp_path / "machine", servers.address())
    system = tmp_path / "usr/bin/redis-server"
    system.parent.mkdir(parents=True)
    own = shutil.which("redis-server")
    assert own
    shutil.copy(Path(own).resolve(), system)
    one.options["servers"] = [installed(str(system))]
    one.converge()
    yield one
    one.close()


def keep(machine: Machine, tmp_path: Path, *, check: bool = False) -> list[dict[str, str]]:
    found: list[dict[str, str]] = slotwright_servers.keep(
        str(machine.directory / "conf"), str(tmp_path / "opt"), check=check
    )
    return found


def test_it_is_kept_once_and_nothing_is_restarted(machine: Machine, tmp_path: Path) -> None:
    pid, link = machine.pid(), machine.conf().with_name("redis-server")
    foreseen = keep(machine, tmp_path, check=True)
    assert not (tmp_path / "opt").exists()
    assert keep(machine, tmp_path) == foreseen
    kept = tmp_path / "opt/7.0.15/bin/redis-server"
    assert [one["to"] for one in foreseen] == [str(kept)]
    assert (link.readlink(), machine.pid()) == (kept, pid)
    assert kept.read_bytes() == (tmp_path / "usr/bin/redis-server").read_bytes()
    assert keep(machine, tmp_path) == []


@pytest.mark.parametrize("replaced_first", [False, True])
def test_a_package_that_is_replaced_brings_its_version_with_a_restart_and_there_is_a_way_back(
    machine: Machine, tmp_path: Path, replaced_first: bool
) -> None:
    system = tmp_path / "usr/bin/redis-server"
    new = shutil.copy(binary("8.0.2"), tmp_path / "new")
    if not replaced_first:
        keep(machine, tmp_path)
    Path(new).replace(system)
    keep(machine, tmp_path)
    kept = installed(str(tmp_path / "opt/7.0.15/bin/redis-server"))
    servers = [installed(str(system), "8.0.2"), kept]
    assert machine.converge(servers=servers)["instances"][0]["restart_reasons"][0] == "version 8.0.2"
    [linked] = slotwright_servers.linked(str(machine.directory / "conf"), {str(system)})
    assert (linked.version, linked.path) == ("7.0.15", kept["path"])
    up = machine.converge(servers=servers, restart=[7001])["instances"][0]
    assert (up["server_version"], up["restart_reasons"]) == ("8.0.2", [])
    back = machine.converge(servers=servers[::-1], restart=[7001], fresh=True)["instances"][0]
    assert (back["server_version"], back["restart_reasons"]) == ("7.0.15", [])
