"""Makes a play die. Python imports this by itself wherever its directory is on PYTHONPATH: in ansible-playbook, in its
workers, and in the process of a module.

SLOTWRIGHT_TEST_KILL="<k> <pid> …": the module redis_cluster does one step at a time; once it has done and verified k
steps, itself and all its ancestors up to that process (which stays) are killed by SIGKILL.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

TARGET = "slotwright.link.apply"


def ancestors(pid: int, stop: int) -> Iterator[int]:
    """pid, its parent, and so on; stop is left out. Raises FileNotFoundError where stop is no ancestor."""
    while pid != stop:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def die(stop: int) -> None:
    for pid in reversed(list(ancestors(os.getpid(), stop))):
        os.kill(pid, signal.SIGKILL)


def arm(apply: Any, steps: int, stop: int) -> None:
    stages, stage = apply._stages, apply._Run.stage
    done = 0

    def stage_and_die(*args: Any) -> Any:
        nonlocal done
        if done == steps:
            die(stop)
        view = stage(*args)
        done += 1
        if done == steps:
            die(stop)
        return view

    apply._Run.stage = stage_and_die
    apply._stages = lambda steps, parallel: stages(steps, 1)


class Armed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the target as it is, then arms it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != TARGET:
            return None
        self.real = importlib.machinery.PathFinder.find_spec(name, path)
        assert self.real
        return importlib.machinery.ModuleSpec(name, self, origin=self.real.origin)

    def exec_module(self, module: ModuleType) -> None:
        assert self.real and self.real.loader
        self.real.loader.exec_module(module)
        steps, stop, *_ = os.environ["SLOTWRIGHT_TEST_KILL"].split()
        arm(module, int(steps), int(stop))


if "SLOTWRIGHT_TEST_KILL" in os.environ:
    sys.meta_path.insert(0, Armed())
