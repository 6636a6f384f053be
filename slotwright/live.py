"""Showing how far a module has come while it runs: the action plugin of long modules."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

SHOW_EVERY = 2.0  # seconds between two lines about a move; what is done is shown at once
LOOK_EVERY = 0.2


class LiveAction(ActionBase):
    """Starts the module, and shows how far it has come. Only on the controller itself a file tells that."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._connection.transport != "local" or self._task.check_mode:
            result |= self._execute_module(task_vars=task_vars)
            return result
        with live(self._display.display, f"  {self._task.args.get('name', '')}: ") as progress:
            options = self._task.args | {"progress": progress}
            result |= self._execute_module(module_args=options, task_vars=task_vars)
        return result


@contextmanager
def live(display: Callable[[str], object], prefix: str) -> Iterator[dict[str, Any]]:
    """The option `progress` for a module that runs on this machine, and lines for people meanwhile.

    Where the block is left early, the file goes with it, by which a module that still runs is told to pause.
    """
    with tempfile.TemporaryDirectory(prefix="slotwright-", ignore_cleanup_errors=True) as directory:
        path = Path(directory) / "progress.jsonl"
        path.touch()
        ended = threading.Event()
        reader = threading.Thread(target=_read, args=(path, ended, lambda text: display(prefix + text)), daemon=True)
        reader.start()
        try:
            yield {"path": str(path), "pid": os.getpid()}
        finally:
            ended.set()
            reader.join()


def _read(path: Path, ended: threading.Event, show: Callable[[str], object]) -> None:
    """Lines that are done with, and of the progress the newest."""
    shown = 0.0
    with path.open() as file:
        while True:
            last = ended.wait(LOOK_EVERY)
            newest = None
            for text in file:
                entry = json.loads(text)
                if "line" in entry:
                    show(entry["line"])
                else:
                    newest = entry
            if newest and newest["at"] - shown >= SHOW_EVERY:
                shown = newest["at"]
                show(newest["text"])
            if last:
                return
