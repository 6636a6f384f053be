"""Clients of a cluster while something is done to it, and a ledger of what was acknowledged to them.

    with Workload(site.nodes[0]) as load:      # writes, and reads back, with ordinary redis-py clients
        site.converge()
    load.assert_kept()                         # 0 lost, 0 altered; load.errors is what the clients saw

redis-py (8.1) raises AttributeError where ASK names a node that it has not heard of: with a master that is new to the
cluster that may happen to whoever did not meet it by MOVED before. Nothing on the cluster's side can rule it out, so
that these are counted apart, in load.unheard.

Each key belongs to one writer, who counts up in it. So a key may hold the last number that was acknowledged, or a later
one that was attempted and ended in an error (it may have arrived nevertheless): everything else is lost or altered.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import redis

from tests.live.servers import Server

OPS = 300  # a second and client: the cores are for the cluster


@dataclass
class _Entry:
    """A key's numbers: the last one acknowledged, the last one attempted."""

    acknowledged: int = 0
    attempted: int = 0


class Workload:
    """`writers` threads write `keys` keys each; a reader checks them meanwhile. Every client has its own connection."""

    def __init__(self, node: Server, *, keys: int = 300, writers: int = 1, ops: int = OPS, readers: int = 1) -> None:
        self.node, self.ops = node, ops
        self.acknowledged = self.read = 0
        self.errors: list[str] = []
        self.unheard: list[str] = []
        self.stale: list[str] = []
        self.longest = 0.0
        self._ledgers = [{f"ledger:{w}:{k}": _Entry() for k in range(keys)} for w in range(writers)]
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(ledger,), daemon=True) for ledger in self._ledgers]
        self._threads += [threading.Thread(target=self._check, args=(r,), daemon=True) for r in range(readers)]

    def __enter__(self) -> Workload:
        """Every key has been written once when this returns."""
        with self._client() as client:
            for ledger in self._ledgers:
                for key, entry in ledger.items():
                    entry.attempted = 1
                    client.set(key, 1)
                    entry.acknowledged = 1
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    def _client(self) -> redis.RedisCluster:
        return redis.RedisCluster(host=self.node.address, port=self.node.port, socket_timeout=5, decode_responses=True)

    def _turns(self) -> Iterator[None]:
        """One after the other, as many a second as there should be."""
        due = time.monotonic()
        while not self._end.is_set():
            begun = time.monotonic()
            yield
            self.longest = max(self.longest, time.monotonic() - begun)
            due = max(due + 1 / self.ops, begun - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))

    def _write(self, ledger: dict[str, _Entry]) -> None:
        rng = random.Random(len(ledger))
        names = list(ledger)
        client = self._client()
        for _ in self._turns():
            key = rng.choice(names)
            entry = ledger[key]
            entry.attempted += 1
            try:
                client.set(key, entry.attempted)
            except Exception as error:  # whatever a client may see is counted
                self._saw(f"SET {key}", error)
            else:
                entry.acknowledged = entry.attempted
                self.acknowledged += 1
        client.close()

    def _check(self, number: int) -> None:
        rng = random.Random(number)
        names = [(key, entry) for ledger in self._ledgers for key, entry in ledger.items()]
        client = self._client()
        for _ in self._turns():
            key, entry = rng.choice(names)
            least = entry.acknowledged
            try:
                value = client.get(key)
            except Exception as error:
                self._saw(f"GET {key}", error)
                continue
            self.read += 1
            if value is None or not least <= int(value) <= entry.attempted:
                self.stale.append(f"{key}: {value} read, at least {least} had been acknowledged")
        client.close()

    def _saw(self, what: str, error: Exception) -> None:
        known = isinstance(error, AttributeError) and "'redis_connection'" in str(error)
        (self.unheard if known else self.errors).append(f"{what}: {type(error).__name__}: {error}")

    def wrong(self) -> list[str]:
        """Keys that do not hold what was acknowledged last, nor what was attempted later."""
        found = []
        with self._client() as client:
            for ledger in self._ledgers:
                for key, entry in ledger.items():
                    value = client.get(key)
                    if value is None or not entry.acknowledged <= int(value) <= entry.attempted:
                        found.append(f"{key}: {value}, but {entry.acknowledged} was acknowledged last")
        return found

    def assert_kept(self) -> None:
        """Nothing acknowledged was lost or altered, and readers never saw anything older."""
        assert self.wrong() == []
        assert self.stale == []

    def describe(self) -> str:
        return (
            f"{self.acknowledged} writes acknowledged, {self.read} reads, {len(self.errors)} errors, "
            f"{len(self.unheard)} of redis-py's own, {len(self.wrong())} lost or altered, "
            f"longest wait {1000 * self.longest:.0f} ms"
        )
