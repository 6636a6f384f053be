"""Who works on which pair of nodes at a time."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from slotwright.link.migrate.board import Board, Reowned, Stopped
from slotwright.link.migrate.carry import Job
from slotwright.link.migrate.pair import Pair

THREADS, WAITING = 16, 64  # pairs at a time: ours, and those where the servers work and we wait
WAIT = 0.5  # seconds until it is asked again whether another pair may be worked


class Worker(Protocol):
    """One pair of nodes. Raises Stopped, Reowned (only Pair) or SlotwrightError."""

    def run(self) -> None: ...


class Crew:
    """All jobs, as many at a time as may be, each by a thread. The first failure ends all.

    No node gives and takes at the same time: between a target's NODE and the source's, the source still claims the
    slot. If it then gets a newer epoch by a slot that it takes itself, the target believes it, and deletes the slot's
    keys (seen once in 14 runs with Redis 7.0).
    """

    def __init__(self, jobs: Iterable[Job], board: Board, worker: Callable[[Job], Worker]) -> None:
        self.failures: list[Exception] = []
        self.reowned: list[Pair] = []
        self._board, self._worker = board, worker
        self._waiting = [job for job in jobs if job.counts]
        self._sources: Counter[str] = Counter()
        self._targets: Counter[str] = Counter()
        self._changed = threading.Condition()
        count = min(WAITING if all(job.atomic for job in self._waiting) else THREADS, len(self._waiting))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def working(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        _step_back()
        while (job := self._take()) is not None:
            worker = self._worker(job)
            try:
                worker.run()
            except Stopped:
                pass  # told to end; nothing is open
            except Reowned:
                assert isinstance(worker, Pair)
                self.reowned.append(worker)
                self._board.failed.set()
            except Exception as error:
                self.failures.append(error)
                self._board.failed.set()
            self._put_back(job)

    def _take(self) -> Job | None:
        """The next job, once there is one that may begin; None where there is none left."""
        with self._changed:
            while (job := self._ready()) is None and self._waiting:
                self._changed.wait(WAIT)
            if job is not None:
                self._waiting.remove(job)
                self._sources[job.source.name] += 1
                self._targets[job.target.name] += 1
                self._board.worked = {*+self._sources, *+self._targets}
            return job

    def _put_back(self, job: Job) -> None:
        with self._changed:
            self._sources[job.source.name] -= 1
            self._targets[job.target.name] -= 1
            self._board.worked = {*+self._sources, *+self._targets}
            if self._board.ending:
                self._waiting.clear()
            self._changed.notify_all()

    def _ready(self) -> Job | None:
        """The largest of the jobs that may begin now."""
        if +self._sources and self._board.pacer.one_pair:
            return None
        free = (
            job
            for job in self._waiting
            if self._sources[job.source.name] < (job.together or 1)
            and self._targets[job.target.name] < (job.together or self._board.pacer.sources)
            and not self._sources[job.target.name]
            and not self._targets[job.source.name]
        )
        return max(free, key=lambda job: sum(job.counts.values()) + len(job.counts), default=None)


def _step_back() -> None:
    """Let what else runs on this machine, which may well be a node, go before this thread."""
    with suppress(OSError, AttributeError):  # Linux only: elsewhere a thread has no priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
