"""A controller that dies: `python -m tests.live.doomed` converges a cluster and ends itself by SIGKILL on the way.

Its standard input is a pickled Doom. It prints a line once it begins.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from slotwright.link import apply
from slotwright.link.connect import Link, Links
from slotwright.manager.converge import converge
from slotwright.manager.request import Request
from tests.live.servers import ROOT

Event = Literal["stage", "send", "write"]
"""What is counted: a stage done and verified; the commands of a stage sent and answered, but their effect not yet
awaited; the commands for one node written."""


@dataclass(frozen=True)
class Doom:
    """Die right after this event has happened for the number-th time; before the first one where number is 0."""

    request: Request
    event: Event = "stage"
    number: int = sys.maxsize
    parallel: int = 0

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


def arm(event: Event, number: int, die: Callable[[], None]) -> None:
    """Have this process die() right after the event has happened for the number-th time."""
    count = 0
    sending = False

    def counted(original: Callable[..., Any], *, counts: Callable[[], bool]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal count
            if counts() and number == 0:
                die()
            result = original(*args)
            if counts():
                count += 1
                if count == number:
                    die()
            return result

        return call

    def send(*args: Any) -> None:
        nonlocal sending
        sending = True
        original_send(*args)
        sending = False

    original_send = apply._Run._send
    apply._Run._send = counted(send, counts=lambda: event == "send")  # type: ignore[method-assign]
    apply._Run.stage = counted(apply._Run.stage, counts=lambda: event == "stage")  # type: ignore[method-assign]
    Link._write = counted(Link._write, counts=lambda: event == "write" and sending)  # type: ignore[method-assign]


def main() -> None:
    doom: Doom = pickle.load(sys.stdin.buffer)
    arm(doom.event, doom.number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    print("begun", flush=True)
    with Links(doom.request.topology.instances, doom.request.access) as links:
        converge(doom.request, links, lambda line: None, doom.parallel)


if __name__ == "__main__":
    main()
