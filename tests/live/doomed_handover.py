"""A controller that dies while it hands masters over: `python -m tests.live.doomed_handover`.

Its standard input is a pickled Doom. It prints a line once it begins.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

from slotwright.link.connect import Links
from slotwright.manager import handover
from slotwright.manager.handover import Asked
from slotwright.manager.request import Request
from tests.live.servers import ROOT


@dataclass(frozen=True)
class Doom:
    """Die once `number` failovers are done: each verified in all views, or only said to be done by the node itself."""

    request: Request
    asked: Asked
    number: int
    event: Literal["verified", "sent"] = "verified"

    def run(self) -> int:
        """The exit status of the controller, a process of its own; -9 where it died."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.live.doomed_handover"],
            cwd=ROOT,
            input=pickle.dumps(self),
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        return done.returncode


def arm(doom: Doom) -> None:
    count = 0

    def counted(original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            if doom.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **options)
            count += 1
            if count == doom.number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if doom.event == "verified":
        handover.Handing.one = counted(handover.Handing.one)  # type: ignore[method-assign]
    else:
        handover.fail_over = counted(handover.fail_over)


def main() -> None:
    doom: Doom = pickle.load(sys.stdin.buffer)
    arm(doom)
    with Links(doom.request.topology.everyone, doom.request.access) as links:
        handover.hand_over(doom.request, doom.asked, links, print)


if __name__ == "__main__":
    main()
