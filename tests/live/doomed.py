"""A controller that dies: `python -m tests.live.doomed` converges a cluster and ends by SIGKILL on the way.

Its standard input is a pickled Doom. It prints a line once it begins, and one when it ends by itself.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from slotwright.errors import SlotwrightError
from slotwright.link import apply
from slotwright.link.connect import Link, Links
from slotwright.link.migrate.wire import Wire
from slotwright.manager.converge import converge
from slotwright.manager.request import Request
from tests.live.servers import ROOT

Event = Literal["stage", "send", "write", "act"]
"""What is counted: a stage done and verified; the commands of a stage sent and answered, but their effect not yet
awaited; the commands for one node written; a command that changes something written while slots move, a failover is
made, members leave or functions are loaded."""

CHANGING = (b"SETSLOT", b"MIGRATE", b"RESET", b"FORGET", b"FAILOVER", b"RESTORE", b"BGREWRITEAOF")

FAILED = 3
"""The exit status of a controller that ended with an error of its own, and not with a traceback."""


@dataclass(frozen=True)
class Doom:
    """Kill right after this event has happened for the number-th time; before the first one where number is 0.

    victim: the process that is killed; 0: the controller itself.
    """

    request: Request
    event: Event = "stage"
    number: int = sys.maxsize
    parallel: int = 0
    victim: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        """The controller as a process of its own, which has begun when this returns."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.doomed"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin and process.stdout
        with process.stdin as stdin:
            stdin.write(pickle.dumps(self))
        assert process.stdout.readline() == b"begun\n", process.stdout.read()
        return process


@dataclass(frozen=True)
class End:
    """status: 0, FAILED or -SIGKILL. counts: of each event, where it ended by itself. error: what it then said."""

    status: int
    counts: Mapping[str, int]
    error: str


class Graveyard:
    """A process that forks one for each controller: to start Python for each takes longer than what it does."""

    def __enter__(self) -> Graveyard:
        command = [sys.executable, "-m", "tests.live.doomed", "many"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()

    def bury(self, doom: Doom) -> End:
        """How it ends. Fails where that is by a traceback."""
        assert self._process.stdin and self._process.stdout
        pickle.dump(doom, self._process.stdin)
        self._process.stdin.flush()
        status, said = pickle.load(self._process.stdout)
        if status in (0, FAILED):
            told = json.loads(said.splitlines()[-1])
            return End(status, told["counts"], told["error"])
        assert status == -signal.SIGKILL, f"ended with {status}: {said}"
        return End(status, {}, "")


def changes(packed: bytes) -> bool:
    """Whether a command changes anything: else there were too many points that are alike."""
    return any(word in packed[:80] for word in CHANGING)


def arm(event: Event, number: int, die: Callable[[], None]) -> Mapping[str, int]:
    """Have die() called right after the event has happened for the number-th time. Returns the counts, which go on."""
    counts = Counter[str]()
    busy = Counter[str]()  # what the controller is in
    lock = threading.Lock()

    def happened(what: str) -> None:
        with lock:
            counts[what] += 1
            due = what == event and counts[what] == number
        if due:
            die()

    def within(what: str, original: Callable[..., Any], ends: str = "") -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if ends == event and number == 0:
                die()
            busy[what] += 1
            try:
                result = original(*args)
            finally:
                busy[what] -= 1
            if ends:
                happened(ends)
            return result

        return call

    def write(self: Link, window: list[bytes]) -> None:
        if busy["act"]:
            for one in window:
                original_write(self, [one])
                if changes(one):
                    happened("act")
        else:
            original_write(self, window)
            if busy["send"]:
                happened("write")

    def flush(self: Wire) -> None:
        out, self._out = self._out, []
        with self.link.raw() as stream:
            for one in out:
                stream.sendall(one)
                if changes(one):
                    happened("act")

    original_write = Link._write
    Link._write = write  # type: ignore[method-assign]
    Wire.flush = flush  # type: ignore[method-assign]
    apply._Run._send = within("send", apply._Run._send, "send")  # type: ignore[method-assign]
    apply._Run._act = within("act", apply._Run._act)  # type: ignore[method-assign]
    apply._Run.stage = within("stage", apply._Run.stage, "stage")  # type: ignore[method-assign]
    return counts


def live(doom: Doom) -> int:
    counts = arm(doom.event, doom.number, lambda: os.kill(doom.victim or os.getpid(), signal.SIGKILL))
    print("begun", flush=True)
    error = ""
    try:
        with Links(doom.request.topology.everyone, doom.request.access) as links:
            converge(doom.request, links, lambda line: None, doom.parallel)
    except SlotwrightError as failure:
        error = str(failure)
    print(json.dumps({"counts": counts, "error": error}), flush=True)
    return FAILED if error else 0


def bury_many() -> None:
    """Dooms on standard input, one after the other; for each its status and what it said on standard output."""
    while True:
        try:
            doom: Doom = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        said = os.memfd_create("said")
        if not (child := os.fork()):
            os.dup2(said, 1)
            os.dup2(said, 2)
            status = 1
            try:
                status = live(doom)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        text = os.pread(said, 1_000_000, 0).decode()
        os.close(said)
        pickle.dump((os.waitstatus_to_exitcode(status), text), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["many"]:
        bury_many()
    else:
        sys.exit(live(pickle.load(sys.stdin.buffer)))
