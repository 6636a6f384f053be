"""A host for tests of module redis_instances: everything that the role gives it, with directories under tmp_path."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import redis

from tests.live import module as module  # what load() loads finds plugins/module_utils by it
from tests.live.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> ModuleType:
    """A plugin as a Python module. Ansible finds these by directory; they are in no package."""
    name = path.replace("/", "_").removesuffix(".py")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


# A service manager for one instance, on machines without systemd. File `state` is what is-active says; to start or to
# stop writes it, `main` is its process where a test writes one, and `log` has every call.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"{here}/log"
case $1 in
  is-active) cat "{here}/state" ;;
  show) case $2 in *MainPID) cat "{here}/main" 2>&- ;; esac ;;
  start) echo {started} >"{here}/state"
    cd "{conf}/7001"
    ./redis-server "{data}/7001/rewrite.conf" --include "$PWD/redis.conf" --daemonize yes --supervised no ;;
  stop) [ ! -e "{pidfile}" ] || kill "$(cat "{pidfile}")"; echo inactive >"{here}/state" ;;
esac
"""

for name in ("files", "process", "service", "restart", "settings", "host"):  # each imports those before it
    # The name under which Ansible hands it to the module.
    sys.modules[f"ansible.module_utils.slotwright_{name}"] = load(f"plugins/module_utils/slotwright_{name}.py")
slotwright_files = sys.modules["ansible.module_utils.slotwright_files"]
slotwright_process = sys.modules["ansible.module_utils.slotwright_process"]
HostError = slotwright_files.HostError
slotwright_service = sys.modules["ansible.module_utils.slotwright_service"]
slotwright_host = sys.modules["ansible.module_utils.slotwright_host"]
rendered: Callable[[str, dict[str, Any]], dict[str, Any]] = load("plugins/action/redis_instances.py").rendered


def installed(server: str, version: str = "7.0.15") -> dict[str, Any]:
    """An entry of the option servers."""
    return {"path": server, "version": version, "notify": False}


def given(**options: Any) -> dict[str, Any]:
    """The options of module redis_instances as the role gives them, with its defaults."""
    return {
        "state": "started",
        "service": "process",
        "servers": [installed("/usr/bin/redis-server")],
        "environment": {},
        "conf_dir": "/etc/redis-cluster",
        "data_dir": "/var/lib/redis-cluster",
        "log_dir": "/var/log/redis-cluster",
        "run_dir": "/run/redis-cluster",
        "user": "redis",
        "group": "redis",
        "timeout": 20,
        "data": "keep",
        "restart": [],
        "want_restart": [],
        "fresh": False,
        "template": str(ROOT / "templates/redis.conf.j2"),
        "unit_template": str(ROOT / "templates/redis-cluster@.service.j2"),
        "templates": str(ROOT / "templates"),
        **options,
    }


@dataclass
class Machine:
    """One host with instances at `ports` of its address. Close it: its servers are daemons and outlive the test."""

    directory: Path
    address: str
    ports: list[int] = field(default_factory=lambda: [7001])
    options: dict[str, Any] = field(default_factory=dict)

    def converge(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """What module redis_instances returns. Raises HostError."""
        given = self.given(**options)
        result: dict[str, Any] = slotwright_host.converge(given | rendered("h1", given), check=check)
        return result

    def given(self, **options: Any) -> dict[str, Any]:
        """The options as a task gives them."""
        places = {f"{kind}_dir": str(self.directory / kind) for kind in ("conf", "data", "log", "run")}
        whoever = {"user": getpass.getuser(), "group": getpass.getuser()}
        server = shutil.which("redis-server")
        assert server, "redis-server is not on PATH"
        own = {"address": self.address, "ports": self.ports, "servers": [installed(server)], **places, **whoever}
        return given(**{**own, **self.options, **options})

    def serve_units(self, directory: Path, *, started: str) -> Path:
        """Puts commands systemctl and journalctl into the directory. started: the state of a unit after its start."""
        directory.mkdir()
        (directory / "state").write_text("inactive\n")
        options = self.given(service="systemd")
        pidfile = self.directory / "run/7001.pid"
        told = {"data": options["data_dir"], "conf": options["conf_dir"]}
        (directory / "systemctl").write_text(SYSTEMCTL.format(here=directory, started=started, pidfile=pidfile, **told))
        (directory / "journalctl").write_text("#!/bin/sh\n")
        for command in ("systemctl", "journalctl"):
            (directory / command).chmod(0o755)
        self.options["service"] = "systemd"
        return directory

    def conf(self, port: int = 7001) -> Path:
        return self.directory / "conf" / str(port) / "redis.conf"

    def data(self, name: str, port: int = 7001) -> Path:
        return self.directory / "data" / str(port) / name

    def pid(self, port: int = 7001) -> int:
        return int((self.directory / "run" / f"{port}.pid").read_text())

    def call(self, *words: str | int, port: int = 7001, password: str | None = None) -> Any:
        with redis.Redis(self.address, port, password=password, decode_responses=True) as client:
            return client.execute_command(*words)

    def close(self) -> None:
        """Also servers that have taken their pidfile away and are still about to end."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The next test may get this address.
        wait_until("its servers are gone", lambda: not list(self._processes()))

    def _processes(self) -> Iterator[int]:
        """Those that work in its directories, as servers do in that of their data."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if (process / "cwd").readlink().is_relative_to(self.directory):
                    yield int(process.name)
