"""One controller at a time: a lock that is nothing but named connections, so that a dead controller cannot keep it.

A key could not be written while the cluster is down, nor before there is one; a connection can always be named. Whoever
wants the lock opens one connection to every node that answers, names it, and then lists the connections of that node:
if another one there has such a name, it lets go. Of two that come at the same time at least one sees the other, on
every node that both reach; so never two of them hold it. (Both may let go: then they try again at different times.)

A connection ends with its process. Where nobody tells the server (a host without power, a broken network), it has been
idle for LEASE seconds, since its holder sends a PING every BEAT, and counts no longer. A holder that could not do so
for that long knows that it may have lost the lock, and stops.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any

from redis.exceptions import ResponseError

from slotwright.errors import SlotwrightError
from slotwright.link.connect import CONNECT_THREADS, Link, LinkDown, Links

PREFIX = "slotwright-lock:"
LEASE, BEAT = 30.0, 3.0  # seconds
TRIES = 4
PAUSE = 0.3  # seconds between two tries, at the least


class Locked(SlotwrightError):
    """Another controller is at work. Nothing was changed."""


class Lock(AbstractContextManager["Lock"]):
    """Held while the block runs. Raises Locked, or SlotwrightError where a node does not let us see who holds it."""

    def __init__(self, links: Links, names: Iterable[str]) -> None:
        # What may stand in the name of a client; colons part its fields.
        who = re.sub(r"[^!-9;-~]", "-", f"{getpass.getuser()}@{socket.gethostname()}")
        self.name = f"{PREFIX}{who}:{os.getpid()}:{secrets.token_hex(4)}"
        self._links = [links.another(name) for name in names]
        self._end = threading.Event()
        self._beaten = 0.0
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Lock:
        try:
            self._take()
        except BaseException:
            self._let_go()
            raise
        self._beaten = time.monotonic()
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._heart.join()
        self._let_go()

    def prove(self) -> None:
        """Raises SlotwrightError where the lock may have been lost. To be asked before each change."""
        silent = time.monotonic() - self._beaten
        if silent > LEASE - BEAT:
            raise SlotwrightError(
                f"this controller stood still for {silent:.0f} s, so that another one may have begun meanwhile",
                remedy="run again",
                code="lock-lost",
            )

    def _take(self) -> None:
        for number in range(TRIES):
            others = self._others()
            if not others:
                return
            self._let_go()
            # Not both at the same time again. Who comes later than a running controller, gives up soon.
            time.sleep(PAUSE * (number + 1) + secrets.randbelow(1000) / 1000 * PAUSE)
        where, name, address = others[0]
        who = name.removeprefix(PREFIX).rpartition(":")[0].replace(":", ", process ")
        raise Locked(
            f"another controller is at work on this cluster: {who} (connected to {where} from {address})",
            remedy=f"wait until it has ended; what a dead one leaves expires by itself within {LEASE:g} s",
            code="locked",
        )

    def _others(self) -> list[tuple[str, str, str]]:
        """Name ourselves on every node; then who else has such a name: node, name, address."""
        with ThreadPoolExecutor(min(CONNECT_THREADS, len(self._links) or 1)) as pool:
            list(pool.map(Link.open, self._links))
        self._ask(("CLIENT", "SETNAME", self.name))
        found = []
        for link, reply in self._ask(("CLIENT", "LIST")):
            for client in (dict(w.partition("=")[::2] for w in line.split()) for line in reply.splitlines()):
                name = client.get("name", "")
                if name.startswith(PREFIX) and name != self.name and float(client.get("idle", 0)) < LEASE:
                    found.append((link.instance.name, name, client.get("addr", "?")))
        return found

    def _ask(self, command: tuple[str, ...]) -> list[tuple[Link, Any]]:
        """The replies of all nodes that answer, which are asked together."""
        asked, replies = [], []
        for link in (link for link in self._links if link.up):
            with suppress(LinkDown):
                link.send([command])
                asked.append(link)
        for link in asked:
            with suppress(LinkDown):
                [reply] = link.receive(1)
                if isinstance(reply, ResponseError):
                    raise _not_allowed(link, command, reply)
                replies.append((link, reply))
        return replies

    def _let_go(self) -> None:
        for link in self._links:
            link.close()

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            begun = time.monotonic()
            if self._ask(("PING",)):
                self._beaten = begun


def _not_allowed(link: Link, command: tuple[str, ...], reply: ResponseError) -> SlotwrightError:
    kind = "|".join(command[:2]).lower()
    return SlotwrightError(
        f"{kind} was answered with: {reply}",
        where=f"node {link.instance.name} ({link.instance.endpoint})",
        remedy=f"ACL SETUSER … +{kind} there (docs/access.md); it shows whether another controller is at work",
        code="not-allowed",
    )
