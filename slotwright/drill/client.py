"""A client of the cluster under test: writes and reads with redis-py, and notes what became of each call.

It runs on the controller, and on hosts of every zone as a file of its own (see bundle.py): the standard library,
redis-py, and nothing of Slotwright. Its configuration is one JSON document on standard input:

    name, drill     of this client and of the drill: both are in the names of its keys
    seeds           [[address, port], ...]: nodes that it may ask where the slots are
    shards          {name of the master: [hash tags of some of its slots]}
    mode            "keys": each write is a key of its own. "counters": INCR, one counter for each hash tag
    writes, reads   a second
    lasts           seconds after which it ends by itself
    expiry          seconds after which Redis deletes a key that nobody could clean up
    timeout         seconds for each call
    source          address that it calls from; "" for any
    orphaned        false: it ends with the process that has started it
    ledger, stop    paths: of what it writes, and of a file whose appearance ends it
    username, password, tls ({ca, cert, key})   as far as they are needed

Each line of the ledger is a JSON list: ["w" or "r", begun, ended, shard, tag, number, outcome, what]. Times are seconds
since the epoch. outcome: "ok"; "failed": the write was refused, or never sent; "unknown": it was sent, and no answer
came. Of a read "stale" too: what had been acknowledged was not there, or something older. what: the error, for a
counter the number that INCR answered, of a stale read what was read.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

PREFIX = "slotwright:drill"
WRITERS = 8
REMEMBERED = 64  # acknowledged keys of a writer that its reader looks at
BEHIND = 0.1  # seconds that a writer makes up for; what it missed before that it leaves out
OPEN = 3.0  # seconds between two tries to begin
# What is raised before anything was sent, or is an answer that refuses.
_REFUSED = (redis.ResponseError, redis.exceptions.ClusterDownError, redis.exceptions.SlotNotCoveredError)


def key_of(drill: str, client: str, tag: str, number: int | None) -> str:
    """The key of a write; number None: the counter."""
    return f"{PREFIX}:{drill}:{client}:{{{tag}}}:{'count' if number is None else number}"


def value_of(drill: str, client: str, tag: str, number: int) -> str:
    return f"{drill}/{client}/{tag}/{number}"


def outcome_of(error: Exception) -> str:
    """Whether a call that ended so may have been done: "unknown", else "failed"."""
    if isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
        return "failed" if "connecting to" in str(error) else "unknown"
    return "failed" if isinstance(error, _REFUSED) else "unknown"


class Client:
    """A writer and a reader for each shard, or for some shards where there are many: one that hangs holds up few."""

    def __init__(self, config: dict[str, Any], ledger: IO[str], connection: type | None = None) -> None:
        self.config, self._ledger, self._connection = config, ledger, connection
        self.drill, self.name = config["drill"], config["name"]
        self.counters = config["mode"] == "counters"
        self.ended = threading.Event()
        self._lock = threading.Lock()
        shards = list(config["shards"].items())
        self._groups = [
            [(shard, tag) for shard, tags in shards[first::WRITERS] for tag in tags]
            for first in range(min(WRITERS, len(shards)))
        ]
        # Acknowledged numbers, the newest last.
        self._known: dict[str, list[int]] = {tag: [] for group in self._groups for _, tag in group}

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, args=part) for part in self._parts()]
        for thread in threads:
            thread.start()
        stop = Path(self.config["stop"])
        parent, end = os.getppid(), time.monotonic() + self.config["lasts"]
        while time.monotonic() < end and not stop.exists() and any(t.is_alive() for t in threads):
            if os.getppid() != parent and not self.config.get("orphaned"):
                break
            time.sleep(0.1)
        self.ended.set()
        for thread in threads:
            thread.join()

    def _parts(self) -> Iterator[tuple[Any, list[tuple[str, str]], float]]:
        every = sum(map(len, self._groups))
        for act, rate in ((self._write, self.config["writes"]), (self._read, self.config["reads"])):
            for group in self._groups if rate else ():
                yield act, group, rate * len(group) / every

    def _work(self, act: Any, tags: list[tuple[str, str]], rate: float) -> None:
        client = self._open()
        due = time.monotonic()
        for number in count(1):
            if self.ended.is_set():
                return
            shard, tag = tags[number % len(tags)]
            act(client, shard, tag, number)
            due = max(due + 1 / rate, time.monotonic() - BEHIND)
            self.ended.wait(max(0.0, due - time.monotonic()))

    def _open(self) -> Any:
        """Waits for a node that can tell where the slots are."""
        while True:
            try:
                return cluster(self.config, self._connection)
            except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
                if self.ended.wait(OPEN):
                    print(f"no node of the cluster has answered: {error}", file=sys.stderr)
                    raise SystemExit from error

    def _write(self, client: Any, shard: str, tag: str, number: int) -> None:
        key = key_of(self.drill, self.name, tag, None if self.counters else number)
        begun, what = time.time(), ""
        try:
            if self.counters:
                what = str(client.incr(key))
            else:
                client.set(key, value_of(self.drill, self.name, tag, number), ex=self.config["expiry"])
            outcome = "ok"
        except Exception as error:  # whatever a client may see is noted
            outcome, what = outcome_of(error), _short(error)
        self._note("w", begun, shard, tag, number, outcome, what)
        if outcome == "ok":
            known = self._known[tag]
            known.append(int(what) if self.counters else number)
            del known[:-REMEMBERED]

    def _read(self, client: Any, shard: str, tag: str, number: int) -> None:
        known = list(self._known[tag])
        if not known:
            return
        asked = known[-1] if self.counters else random.choice(known)
        begun, what = time.time(), ""
        try:
            read = client.get(key_of(self.drill, self.name, tag, None if self.counters else asked))
            if self.counters:
                good = read is not None and int(read) >= asked
            else:
                good = read == value_of(self.drill, self.name, tag, asked)
            outcome, what = ("ok", "") if good else ("stale", repr(read)[:100])
        except Exception as error:
            outcome, what = "failed", _short(error)
        self._note("r", begun, shard, tag, asked, outcome, what)

    def _note(self, kind: str, begun: float, shard: str, tag: str, number: int, outcome: str, what: str) -> None:
        entry = [kind, round(begun, 4), round(time.time(), 4), shard, tag, number, outcome, what]
        with self._lock:
            self._ledger.write(json.dumps(entry) + "\n")


def cluster(config: dict[str, Any], connection: type | None = None) -> Any:
    """A cluster client that asks once: a call that is tried again might be done twice, or be called refused."""
    options: dict[str, Any] = {}
    tls = config.get("tls") or {}
    kind: type = SSLConnection if tls else Connection
    if connection is not None:
        kind = connection
    elif tls:
        files = {"ssl_ca_certs": tls.get("ca"), "ssl_certfile": tls.get("cert"), "ssl_keyfile": tls.get("key")}
        options |= {"ssl_check_hostname": False, **{name: path for name, path in files.items() if path}}
    if config.get("source"):
        kind = _calling_from(kind, config["source"])
    trouble: Exception | None = None
    for address, port in config["seeds"]:
        try:
            # from_url, because the constructor drops connection_class.
            return redis.RedisCluster.from_url(
                f"redis://{address}:{port}",
                connection_class=kind,
                username=config.get("username"),
                password=config.get("password"),
                decode_responses=True,
                protocol=2,
                socket_timeout=config["timeout"],
                socket_connect_timeout=config["timeout"],
                retry=Retry(NoBackoff(), 0),
                **options,
            )
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            trouble = error
    raise trouble or redis.exceptions.RedisClusterException("no node is named")


def _calling_from(kind: type, source: str) -> type:
    """The connection, bound to an address of this host: on loopback it tells one host from another."""

    class Bound(kind):  # type: ignore[misc]
        def _connect(self) -> socket.socket:
            plain = socket.create_connection
            made = plain((self.host, self.port), self.socket_connect_timeout, (source, 0))
            made.settimeout(self.socket_timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._wrap_socket_with_ssl(made) if issubclass(kind, SSLConnection) else made

    return Bound


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:120]


def main() -> None:
    config = json.load(sys.stdin)
    with Path(config["ledger"]).open("w", buffering=1) as ledger:
        Client(config, ledger).run()


if __name__ == "__main__":
    main()
