"""Module redis_fault in tests: one call, as Ansible makes it."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.servers import ROOT, wait_until

COMMAND = (sys.executable, "-m", "tests.live.module", "modules/redis_fault.py")
SOON = 6.0  # seconds: a call of the module takes one on two slow cores, and more beside other tests


class Refused(Exception):
    """What the module failed with. code: of its finding."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["msg"])
        self.code = answer["findings"][0]["code"] if "findings" in answer else ""


@dataclass
class Drills:
    """Drills of one host. inside: what stands before a command so that it runs there."""

    directory: Path
    conf_dir: Path
    inside: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def call(self, state: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """What the module returns. Raises Refused."""
        command, told = self.command(state, check=check, **options)
        done = subprocess.run(command, cwd=ROOT, input=told, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        if answer.get("failed"):
            raise Refused(answer)
        return answer

    def command(self, state: str, *, check: bool = False, **options: Any) -> tuple[list[str], str]:
        """And what it is given on standard input."""
        whoever = {"user": getpass.getuser(), "group": getpass.getuser(), "service": "process", "timeout": 20}
        places = {"directory": str(self.directory), "conf_dir": str(self.conf_dir)}
        given = {"state": state, **whoever, **places, **self.options, **options, "_ansible_check_mode": check}
        return [*self.inside, *COMMAND], json.dumps({"ANSIBLE_MODULE_ARGS": given})

    def arm(self, kind: str, *ports: int, seconds: float = 2, soon: float = SOON, **options: Any) -> dict[str, Any]:
        """The record of a drill that begins `soon`. Without ports, of that at 7001."""
        told = {"drill": "d1", "kind": kind, "ports": list(ports or [7001]), "seconds": seconds, **options}
        answer = self.call("armed", **{"at": time.time() + soon, **told})
        assert answer["changed"]
        record: dict[str, Any] = answer["record"]
        return record

    def state(self) -> dict[str, Any]:
        """The record as it lies on the disk."""
        read: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return read

    def healer(self) -> int:
        pid: int = self.state()["healer"][0]
        return pid

    def kill_healer(self) -> None:
        pid = self.healer()
        os.kill(pid, signal.SIGKILL)
        wait_until("the healer is gone", lambda: not Path(f"/proc/{pid}/fd/0").exists())

    def close(self) -> None:
        """Heals nothing: what is struck is the test's own, and ends with it."""
        with contextlib.suppress(FileNotFoundError, KeyError):
            pid = self.healer()
            # SIGTERM would have it start servers again.
            if Path(f"/proc/{pid}/comm").exists() and Path(f"/proc/{pid}/comm").read_text() == "redis-drill\n":
                os.kill(pid, signal.SIGKILL)
