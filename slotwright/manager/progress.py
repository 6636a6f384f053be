"""How a long module tells how far it has come, and is told to stop."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from slotwright.errors import SlotwrightError
from slotwright.link.migrate import Control, Limits, Progress

PROGRESS: dict[str, dict[str, Any]] = {
    "progress": {
        "type": "dict",
        "options": {"path": {"type": "path", "required": True}, "pid": {"type": "int"}},
    },
}
LOOK_EVERY = 0.2  # seconds between two looks at who reads


class Told(AbstractContextManager["Told"]):
    """Writes JSON lines to a file that somebody reads while a module runs, and lets the module be paused.

    where: path of the file, and pid of who reads it; None for nobody. Each line has the time ("at", seconds since the
    epoch) and either a "line" for people or the fields of a Progress. The move is stopped, so that no slot is left
    open, by SIGINT or SIGTERM, by removing that file, and when the reader is gone: Ctrl-C ends Ansible's worker, but
    not a module that it has started. A second signal ends it at once.
    """

    def __init__(self, where: Mapping[str, Any] | None) -> None:
        self._path = Path(where["path"]) if where else None
        self._pid = (where or {}).get("pid")
        self.stop = threading.Event()
        self.last: Progress | None = None
        self._ended = threading.Event()
        self._closing = ExitStack()

    def __enter__(self) -> Told:
        if self._path:
            try:
                self._path.touch()
            except OSError as error:
                raise SlotwrightError(
                    f"cannot write how far this has come: {error}", where="option progress", remedy="state another path"
                ) from error
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._closing.callback(signal.signal, number, signal.signal(number, self._asked_to_stop))
        if self._path:
            watcher = threading.Thread(target=self._watch, daemon=True)
            watcher.start()
            self._closing.callback(watcher.join)
            self._closing.callback(self._ended.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def control(self, limits: Limits) -> Control:
        return Control(limits, self.show, self.stop)

    def show(self, progress: Progress) -> None:
        self.last = progress
        self._write(progress.as_dict() | {"text": progress.describe()})

    def line(self, text: str) -> None:
        self._write({"line": text})

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._path:
            # A full disk is no reason to leave a move. A file that is gone is not made anew.
            with suppress(OSError), self._path.open("r+") as file:
                file.seek(0, os.SEEK_END)
                file.write(json.dumps({"at": round(time.time(), 2), **entry}) + "\n")

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt  # who asks twice will not wait
        self.stop.set()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            if self._gone() or (self._path and not self._path.exists()):
                self.stop.set()

    def _gone(self) -> bool:
        if self._pid is None:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
