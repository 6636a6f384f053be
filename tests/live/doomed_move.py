"""Controllers that die in the middle of a slot move: a process forks one for each job, which ends itself by SIGKILL.

`with Graveyard() as graveyard: graveyard.bury(Doom(…))`. Between any two commands that a move sends lies a point to die
at; those that it writes together are written one by one here, so that it can die between them too.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Topology
from slotwright.link.access import Access
from slotwright.link.connect import Link, Links
from slotwright.link.migrate import Limits, move
from slotwright.link.migrate.limits import Strategy
from slotwright.link.migrate.wire import Wire
from slotwright.link.observe import observe
from tests.live.servers import ROOT


@dataclass(frozen=True)
class Doom:
    """Die right after the command with this number was written; never where it is 0. how: by kill -9 or like Ctrl-C."""

    topology: Topology
    access: Access
    steps: Sequence[MoveSlots]
    number: int = 0
    how: signal.Signals = signal.SIGKILL
    sources: int = 1
    strategy: Strategy = "classic"


@dataclass(frozen=True)
class End:
    """How a controller ended: its exit status (negative: the signal), and the number of commands it had written."""

    status: int
    written: int


class Graveyard:
    def __enter__(self) -> Graveyard:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.doomed_move"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def bury(self, doom: Doom) -> End:
        assert self._process.stdin and self._process.stdout
        pickle.dump(doom, self._process.stdin)
        self._process.stdin.flush()
        return End(*pickle.load(self._process.stdout))


def arm(doom: Doom, told: int) -> None:
    """Count the commands written from now on, tell the number on the pipe, and die when it is reached."""
    count = 0

    def written() -> None:
        nonlocal count
        count += 1
        os.pwrite(told, b"%12d" % count, 0)
        if count == doom.number:
            os.kill(os.getpid(), doom.how)

    def flush(self: Wire) -> None:
        out, self._out = self._out, []
        with self.link.raw() as stream:
            for one in out:
                stream.sendall(one)
                written()

    def write(self: Link, window: list[bytes]) -> None:
        for one in window:
            original(self, [one])
            written()

    original = Link._write
    Wire.flush = flush  # type: ignore[method-assign]
    Link._write = write  # type: ignore[method-assign]


def live(doom: Doom, told: int) -> None:
    with Links(doom.topology.instances, doom.access) as links:
        view = observe(doom.topology, links)
        arm(doom, told)
        limits = Limits(sources=doom.sources, strategy=doom.strategy)
        move(doom.steps, doom.topology, view, links, timeout=20, limits=limits)


def main() -> None:
    while True:
        try:
            doom: Doom = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        told = os.memfd_create("written")
        if not (child := os.fork()):
            status = 1
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
            try:
                live(doom, told)
                status = 0
            except KeyboardInterrupt:
                status = 130
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        written = int(os.pread(told, 12, 0) or 0)
        os.close(told)
        pickle.dump((os.waitstatus_to_exitcode(status), written), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
