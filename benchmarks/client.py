"""What a client feels while something is done to a cluster: redis-py, in a process of its own, which measures."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import quantiles

import redis

OPS = 200  # a second
VALUE = b"x" * 100


@dataclass(frozen=True)
class Latency:
    """In milliseconds; errors: what the client saw, and how often."""

    p50: float
    p99: float
    p999: float
    longest: float
    errors: dict[str, int]


class Client:
    """Reads and writes key:0 to key:<keys - 1>, of all slots. Where keys is 0 it reads keys that are not there."""

    def __init__(self, address: str, port: int, keys: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_work, args=(address, port, keys, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def stop(self) -> Latency:
        self._pipe.send("stop")
        times, errors = self._pipe.recv()
        self._process.join()
        cuts = quantiles(times, n=1000) if len(times) > 1 else [0.0] * 999
        p50, p99, p999 = (1000 * cuts[at] for at in (499, 989, 998))
        return Latency(p50, p99, min(p999, 1000 * max(times)), 1000 * max(times), errors)


def _work(address: str, port: int, keys: int, pipe: Connection) -> None:
    client = redis.RedisCluster(host=address, port=port, socket_timeout=30)
    times: list[float] = []
    errors: dict[str, int] = {}
    for number in range(2000):  # connections to all nodes
        client.get(f"key:{number}")
    pipe.send("ready")
    number, due = 0, time.monotonic()
    while not pipe.poll():
        number += 7919
        begun = time.monotonic()
        try:
            if number % 2 or not keys:
                client.get(f"key:{number % (keys or 100_000)}")
            else:
                client.set(f"key:{number % keys}", VALUE)
        except Exception as error:
            errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
        times.append(time.monotonic() - begun)
        due = max(due + 1 / OPS, begun)
        time.sleep(max(0.0, due - time.monotonic()))
    pipe.send((times, errors))
