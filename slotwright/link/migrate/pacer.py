"""The pace of a move: how long one command may block a node, how much may be on its way, how much goes a second.

A client whose request comes while a node is busy with a MIGRATE waits until that has ended; several that the node has
read together run one after the other. So what a client feels is the length of the calls, and they are cut to a part of
the budget. What a call will take is known only from those before, and other things share the machine; so a probe, a
request like a client's, is sent to the nodes all the time, and where more than one in a hundred takes longer than the
budget, calls get shorter (down to SHORTEST: below it, a call costs more than its keys), and then rests come between.
Nodes that are not worked at the moment tell how many would be slow anyhow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from slotwright.link.connect import Link, LinkDown, Links
from slotwright.link.migrate.limits import Limits

# Without a budget: one MIGRATE blocks its source for about CALL seconds, and those in flight together for BURST.
CALL, BURST = 0.004, 0.012
IN_FLIGHT = 16
# With one: a call takes at most SHARE of it at the beginning, and two are in flight: one runs, one waits.
SHARE, SHORTEST = 0.33, 0.0003
TWO = 2
EVERY = 0.02  # seconds between two probes of a node
WINDOW = 150  # probes that are judged together
FEWEST = 75
SLOW = 0.01  # the part of the probes that may be slower than the budget
MORE = 0.005  # what more of them is slow than of those to nodes that are not worked is our doing
DOWN, UP = 0.8, 1.1
LOWEST = 0.1
RESTING = 0.5  # below this level rests come between the calls
SEVERAL = 0.9  # above this level several sources are worked at a time
JUDGE_EVERY = 0.25  # seconds
NAP = 0.05  # seconds: the longest sleep before it is asked whether the move is to stop


class Pacer:
    """Shared by all pairs of a move. Times in seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.level = 1.0
        self._free_at = 0.0
        self._lock = threading.Lock()

    @property
    def call(self) -> float:
        """How long one command may block a node."""
        if self._limits.budget is None:
            return CALL
        return max(SHORTEST, min(CALL, SHARE * self._limits.budget * self.level))

    @property
    def burst(self) -> float:
        """How long what is in flight to a node may block it."""
        return BURST if self._limits.budget is None else TWO * self.call

    @property
    def in_flight(self) -> int:
        return IN_FLIGHT if self._limits.budget is None else TWO

    def at_once(self, cost: float) -> int:
        """How many commands that take `cost` each may be sent together."""
        return 1000 if self._limits.budget is None else max(1, int(self.call / cost))

    @property
    def sources(self) -> int:
        """How many may be worked at a time for one target."""
        return self._limits.sources if self._limits.budget is None else 1

    @property
    def one_pair(self) -> bool:
        """Whether just one pair should be worked at a time."""
        return self._limits.budget is not None and self.level < SEVERAL

    def before(self, keys: int, size: int, stopping: Callable[[], bool]) -> None:
        """Wait for our turn to send so many keys of so many bytes together; no longer once stopping() is true."""
        rates = ((keys, self._limits.keys), (size, self._limits.bytes))
        seconds = max((amount / rate for amount, rate in rates if rate), default=0.0)
        if self._limits.budget is not None and self.level < RESTING:
            seconds = max(seconds, self.call * RESTING / self.level)
        if not seconds:
            return
        with self._lock:
            now = time.monotonic()
            due = max(now - NAP, self._free_at)  # what was not used a moment ago may be made up for
            self._free_at = due + seconds
        while (rest := due - time.monotonic()) > 0 and not stopping():
            time.sleep(min(rest, NAP))

    def judge(self, took: Collection[float], anyhow: Collection[float] = ()) -> bool:
        """Adapt to what the last probes took, of nodes that are worked and of others; whether it goes slower now."""
        budget = self._limits.budget
        if budget is None or len(took) < FEWEST:
            return False
        slow, usual = (sum(t > budget for t in times) / (len(times) or 1) for times in (took, anyhow))
        before = self.level
        too_slow = slow > SLOW and slow - usual > MORE
        self.level = max(LOWEST, self.level * DOWN) if too_slow else min(1.0, self.level * UP)
        return self.level < before


class Prober(AbstractContextManager["Prober"]):
    """Asks the nodes as a client would, every EVERY seconds, and tells the pacer. Without a budget it does nothing.

    worked: who gives or takes slots just now.
    """

    def __init__(
        self, names: Iterable[str], links: Links, limits: Limits, pacer: Pacer, worked: Callable[[], Collection[str]]
    ) -> None:
        self._links = {name: links.another(name) for name in names} if limits.budget is not None else {}
        self._pacer, self._worked = pacer, worked
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._probe, daemon=True)

    def __enter__(self) -> Prober:
        if self._links:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        for link in self._links.values():
            link.close()

    def _probe(self) -> None:
        took: deque[float] = deque(maxlen=WINDOW)
        anyhow: deque[float] = deque(maxlen=WINDOW)
        judged = time.monotonic()
        while not self._end.wait(EVERY):
            for name, link in self._links.items():
                with suppress(LinkDown):  # whoever moves slots there finds out, and says so
                    worked = name in self._worked()
                    (took if worked else anyhow).append(_ask(link))
            if time.monotonic() - judged > JUDGE_EVERY:
                judged = time.monotonic()
                if self._pacer.judge(took, anyhow):
                    took.clear()  # what was slow at the old level says nothing of the new one


def _ask(link: Link) -> float:
    if not link.up:
        link.reopen()
    begun = time.monotonic()
    link.call("PING")
    return time.monotonic() - begun
