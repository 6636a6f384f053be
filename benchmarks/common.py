"""The judge of the benchmarks: a process of its own that says since when a cluster is usable, whoever made it.

It shares no code with Slotwright: it sends its own bytes and reads the raw answers. Usable (docs/benchmarks.md): on
every node cluster_state is ok, all nodes are known, none is in handshake or flagged fail, and the layout (id, role,
master, slots) is the same as on all others; and the link of every replica to its master is up.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

EVERY = 0.005  # seconds between two looks at the least; after a look that took longer, as long as it took
HOLD = 1.0  # seconds that a cluster must stay usable after the tool has returned
_ASK = b"CLUSTER INFO\r\nCLUSTER NODES\r\nINFO replication\r\n"
_BAD_FLAGS = {"fail", "fail?", "handshake", "noaddr"}

Endpoint = tuple[str, int]
Layout = frozenset[tuple[str, ...]]


class NotUsableError(Exception):
    """A cluster did not become usable in time, or not for good. Says what was lacking last."""


@dataclass(frozen=True)
class Verdict:
    """Times are time.monotonic() seconds.

    since: end of the first look of the row of good looks which then never broke.
    bad_begun, bad_ended: the last look that found something lacking, and what: `lacked`.
    """

    since: float
    bad_begun: float
    bad_ended: float
    lacked: str
    looks: int

    def late(self, returned: float) -> float:
        """Seconds for which the cluster was still not usable after the tool had returned; 0 if it was at once."""
        return self.bad_ended - returned if self.bad_begun >= returned else 0.0


class Judge:
    """Watches the nodes from before the tool starts until it has returned and the cluster has held for HOLD seconds.

    A node that lacks something is asked alone until it does not, so that watching hardly costs the nodes anything.
    Raises NotUsableError where a node cannot be reached.
    """

    def __init__(self, endpoints: Sequence[Endpoint], timeout: float) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_watch, args=(endpoints, timeout, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if (trouble := self._pipe.recv()) is not None:
            raise NotUsableError(trouble)

    def verdict(self, returned: float) -> Verdict:
        """Call once the tool has returned. Raises NotUsableError."""
        self._pipe.send(returned)
        answer = self._pipe.recv()
        self._process.join()
        if isinstance(answer, Verdict):
            return answer
        raise NotUsableError(answer)

    def dismiss(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _watch(endpoints: Sequence[Endpoint], timeout: float, pipe: Connection) -> None:
    with suppress(EOFError, BrokenPipeError):  # the benchmark is gone
        try:
            nodes = [_Node(*endpoint) for endpoint in endpoints]
            pipe.send(None)
            answer: Verdict | str = _follow(nodes, time.monotonic() + timeout, pipe)
        except (NotUsableError, OSError) as error:
            answer = str(error)
        pipe.send(answer)


def _follow(nodes: Sequence[_Node], deadline: float, pipe: Connection) -> Verdict:
    stubborn, lacked, looks = nodes[0], "", 0
    returned = since = None
    bad_begun = bad_ended = 0.0
    while (begun := time.monotonic()) < deadline:
        looks += 1
        found = _first([stubborn], len(nodes)) or _first(nodes, len(nodes))
        ended = time.monotonic()
        if found:
            (stubborn, lacked), since, bad_begun, bad_ended = found, None, begun, ended
        elif since is None:
            since = ended
        if returned is None and pipe.poll():
            returned = pipe.recv()
        if returned is not None and since is not None and begun >= max(returned, since) + HOLD:
            return Verdict(since, bad_begun, bad_ended, lacked, looks)
        time.sleep(max(EVERY, ended - begun))
    raise NotUsableError(f"the cluster is not usable in time; lacking last: {lacked}")


def _first(nodes: Iterable[_Node], size: int) -> tuple[_Node, str] | None:
    """The first node that lacks something, and what."""
    asked = list(nodes)
    for node in asked:
        node.ask()
    common: Layout | None = None
    found = None
    for node in asked:  # all answers are read, also after the first fault
        layout, lacks = node.answer(size)
        common = common or layout
        if not lacks and layout != common:
            lacks = f"{node.name} sees another layout than {asked[0].name}"
        if lacks and not found:
            found = (node, lacks)
    return found


class _Node:
    def __init__(self, address: str, port: int) -> None:
        self.name = f"{address}:{port}"
        self._socket = socket.create_connection((address, port), 5)
        self._replies = self._socket.makefile("rb")

    def ask(self) -> None:
        self._socket.sendall(_ASK)

    def answer(self, size: int) -> tuple[Layout, str]:
        """The layout that the node sees, and what it lacks to be usable ("" for nothing)."""
        info, nodes, replication = (self._reply() for _ in range(3))
        members = [line.split() for line in nodes.splitlines()]
        layout = frozenset(
            (ident, "master" if "master" in flags.split(",") else "slave", master, *slots)
            for ident, _, flags, master, _, _, _, _, *slots in members
        )
        if len(members) != size:
            return layout, f"{self.name} knows {len(members)} of {size} nodes"
        for ident, endpoint, flags, *_ in members:
            if bad := _BAD_FLAGS.intersection(flags.split(",")):
                return layout, f"{self.name} sees {ident[:8]} ({endpoint}) as {', '.join(sorted(bad))}"
        if any(len(entry) == 3 for entry in layout if entry[1] == "master"):
            return layout, f"{self.name} sees a master without slots"
        if "cluster_state:ok" not in info or "cluster_slots_ok:16384" not in info:
            return layout, f"{self.name} does not say cluster_state:ok"
        if "role:slave" in replication and "master_link_status:up" not in replication:
            return layout, f"the link of {self.name} to its master is not up"
        return layout, ""

    def _reply(self) -> str:
        head = self._replies.readline()
        if not head.startswith(b"$"):
            raise NotUsableError(f"{self.name} answers {head!r}")
        return self._replies.read(int(head[1:]) + 2)[:-2].decode()
