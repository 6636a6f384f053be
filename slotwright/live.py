"""Showing how far a module has come while it runs: for the action plugins of long modules."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHOW_EVERY = 2.0  # seconds between two lines about a move; what is done is shown at once
LOOK_EVERY = 0.2


@contextmanager
def live(display: Callable[[str], object], prefix: str) -> Iterator[dict[str, Any]]:
    """The option `progress` for a module that runs on this machine, and lines for people meanwhile.

    Where the block is left early, the module is told to pause.
    """
    directory = Path(tempfile.mkdtemp(prefix="slotwright-"))
    path = directory / "progress.jsonl"
    path.touch()
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(path, ended, lambda text: display(prefix + text)), daemon=True)
    reader.start()
    try:
        yield {"path": str(path), "pid": os.getpid()}
    except BaseException:
        (directory / "progress.jsonl.stop").touch()
        ended.set()
        raise  # the directory stays: the module looks there for the word to pause
    ended.set()
    reader.join()
    shutil.rmtree(directory, ignore_errors=True)


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
