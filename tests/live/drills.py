"""Drills without Ansible: the same plan, clients, observer and report, over servers of the test, struck by signals.

stage = Stage(start_site(servers), tmp_path)
report = stage.drill(zone="a", fault="kill", seconds=10)
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotwright.drill.files import Files
from slotwright.link.connect import Links
from slotwright.manager import drill, drill_report, drill_run
from slotwright.manager.progress import Told
from slotwright.manager.request import Request
from tests.live.clusters import Site
from tests.live.faults import Drills
from tests.live.rolls import Fleet
from tests.live.servers import Server

LEAD = 5.0  # seconds until all hosts are armed, and the clients have called for a while


def arguments(request: Request, history: Path, **options: Any) -> dict[str, Any]:
    """The options of redis_cluster_drill, with its defaults."""
    defaults = {name: spec.get("default") for name, spec in drill.ASKED.items()}
    hosts = list(request.topology.hosts)
    return {**defaults, "history": str(history), "clients": hosts, **options}


Records = Callable[[], dict[str, Any]]
"""Waits until all is healed; what each host says of it."""


@dataclass
class Stage:
    """between: called after the heal and before the report, with the drill's directory."""

    site: Site
    directory: Path
    between: Callable[[Files], None] = lambda files: None
    told: Told = field(default_factory=lambda: Told(None))

    @property
    def request(self) -> Request:
        return self.site.request

    def plan(self, **options: Any) -> dict[str, Any]:
        params = arguments(self.request, self.directory, **options)
        asked = drill.read_asked(params, self.request)
        with Links(self.request.topology.everyone, self.request.access) as links:
            return drill.plan(self.request, asked, links, check=False)

    def drill(self, **options: Any) -> dict[str, Any]:
        """The report."""
        planned = self.plan(**options)
        files = Files(Path(planned["directory"]))
        made = planned["drill"]
        at = time.time() + LEAD
        with ExitStack() as stack:
            for name, config in made["clients"].items():
                if name != "controller":
                    stack.enter_context(_Calling(files, config))
            records = self.strike(planned, at)
            drill_run.run(self.request, files, made, at=at, told=self.told)
            found = records()
        self.between(files)
        params = arguments(self.request, self.directory, **options) | {"records": found, "id": files.id}
        report = drill_report.report(self.request, files, params)
        drill_report.result([report], [])
        return report

    def strike(self, planned: dict[str, Any], at: float) -> Records:
        records: dict[str, Any] = {}
        struck = threading.Thread(target=self._signal, args=(planned["drill"], at, records))
        struck.start()

        def wait() -> dict[str, Any]:
            struck.join()
            return records

        return wait

    def _signal(self, made: dict[str, Any], at: float, records: dict[str, Any]) -> None:
        fault, heal = FAULTS[made["fault"]]
        time.sleep(max(0.0, at - time.time()))
        servers = {name: self.site[name] for name in made["instances"]}
        began = {name: _timed(fault, server) for name, server in servers.items()}
        time.sleep(max(0.0, at + made["seconds"] - time.time()))
        healed = {name: _timed(heal, server) for name, server in servers.items()}
        for name in servers:
            empty = {"drill": made["id"], "began": {}, "healed": {}, "errors": []}
            record = records.setdefault(name.rpartition(":")[0], empty)
            record["began"][name], record["healed"][name] = began[name], healed[name]


class FleetStage(Stage):
    """Over hosts that redis_instances has set up, struck by module redis_fault."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        super().__init__(None, directory)  # type: ignore[arg-type]
        self.fleet = fleet
        self.faults = {
            host: Drills(directory / "faults" / host, machine.directory / "conf")
            for host, machine in fleet.machines.items()
        }

    @property
    def request(self) -> Request:
        return self.fleet.request

    def strike(self, planned: dict[str, Any], at: float) -> Records:
        made = planned["drill"]
        told = {"drill": made["id"], "kind": made["fault"], "at": at, "seconds": made["seconds"]}

        def arm(host: str) -> None:
            cut = {"cut": planned["cuts"][host]} if host in planned["cuts"] else {}
            self.faults[host].call("armed", ports=planned["ports"][host], **told, **cut)

        with ThreadPoolExecutor(len(planned["ports"])) as pool:
            list(pool.map(arm, planned["ports"]))
        return lambda: {host: self.faults[host].call("healed", timeout=60)["record"] for host in planned["ports"]}


FAULTS: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "kill": (Server.kill, Server.start_again),
    "stop": (Server.stop, Server.start_again),
    "freeze": (Server.pause, Server.resume),
}


def _timed(act: Callable[[Server], None], server: Server) -> float:
    at = time.time()
    act(server)
    return at


class _Calling:
    """A client, run as a host runs it: from the bundle, with nothing else."""

    def __init__(self, files: Files, config: dict[str, Any]) -> None:
        self._stop = files.directory / f"stop-{config['name']}"
        self._config = config | {
            "ledger": str(files.ledger(config["name"])),
            "stop": str(self._stop),
        }
        self._bundle = files.bundle

    def __enter__(self) -> None:
        command = [sys.executable, "-I", "-S", str(self._bundle)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._config))
        self._process.stdin.close()

    def __exit__(self, *_: object) -> None:
        self._stop.touch()
        try:
            assert self._process.wait(60) == 0
        finally:
            self._process.kill()


def described(report: dict[str, Any]) -> dict[str, Any]:
    """What is worth printing of a report."""
    keys = ("verdict", "reasons", "moments", "longest_write_gap", "redundant_after_heal", "overlap", "observed")
    return {key: report[key] for key in keys} | {"losses": report["losses"] | {"keys": len(report["losses"]["keys"])}}
