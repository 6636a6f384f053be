"""A client of a failure drill on a host: a process that outlives the module, and ends by itself.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEEDED = (3, 10)  # redis-py's own bound
_POLL = 0.1


def started(params: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """What the module returns. A host whose Python is too old is no failure: others have clients too."""
    if sys.version_info < NEEDED:
        what = "Python {}.{} is here, and redis-py needs {}.{}".format(*sys.version_info[:2], *NEEDED)
        return {"changed": False, "ledger": "", "problem": what}
    if check:
        return {"changed": True, "ledger": "", "problem": ""}
    stopped(params, check=False)
    directory = Path(params["directory"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "stop").unlink() if (directory / "stop").exists() else None
    config = {
        **params["config"],
        "ledger": str(directory / "ledger.jsonl"),
        "stop": str(directory / "stop"),
        "orphaned": True,
        "username": params["username"],
        "password": params["password"],
    }
    with (directory / "client.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, params["bundle"]],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    (directory / "client.pid").write_text(f"{process.pid} {_born(process.pid)}\n")
    assert process.stdin
    process.stdin.write(json.dumps(config).encode())
    process.stdin.close()
    return {"changed": True, "ledger": config["ledger"], "problem": ""}


def stopped(params: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Ends the client where one runs, waits for it, and kills it at last. It is told by pid and time of birth."""
    directory = Path(params["directory"])
    ledger = directory / "ledger.jsonl"
    pid = _running(directory)
    if pid and not check:
        (directory / "stop").touch()
        deadline = time.monotonic() + params["timeout"]
        while _running(directory):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(_POLL)
    log = directory / "client.log"
    said = log.read_text(errors="replace").strip()[-500:] if log.exists() else ""
    return {"changed": bool(pid), "ledger": str(ledger) if ledger.exists() else "", "problem": said}


def _running(directory: Path) -> int:
    """Its pid, 0 where it has ended."""
    try:
        pid, born = (directory / "client.pid").read_text().split()
    except (OSError, ValueError):
        return 0
    return int(pid) if _born(int(pid)) == born else 0


def _born(pid: int) -> str:
    """When the process began, in ticks since the boot; "" for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
