"""Every node's own view, many times a second, for as long as a drill lasts."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.parse import parse_info, parse_nodes
from slotwright.core.timeline import Sample
from slotwright.link.connect import LinkDown, Links

EVERY = 0.1  # seconds from one question to the next
ANSWER = 0.5  # seconds after which a node counts as silent
FRESH = 2  # seconds since a replica heard of its master
AGAIN = 0.3  # seconds between two tries to reach a silent one
_PINGS = re.compile(r"( \d+){2}(?= \d+ (?:connected|disconnected))")  # of CLUSTER NODES: they change all the time


@dataclass
class Watch:
    """What was seen of one node. samples: one for each change. asked: questions; longest: seconds between two."""

    samples: list[Sample]
    asked: int = 0
    longest: float = 0.0


class Observer:
    """A context manager: asks each node on a connection of its own, and a thread of its own, until it is left."""

    def __init__(self, links: Links, names: list[str]) -> None:
        self.watches = {name: Watch([]) for name in names}
        self._links = links
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(name,), daemon=True) for name in names]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def samples(self) -> list[Sample]:
        return sorted((s for watch in self.watches.values() for s in list(watch.samples)), key=lambda s: s.at)

    def _watch(self, name: str) -> None:
        watch, link = self.watches[name], self._links.another(name)
        seen: Any = None
        due = last = time.monotonic()
        while not self._ended.is_set():
            asked = time.time()
            now = time.monotonic()
            watch.longest, last = max(watch.longest, now - last) if watch.asked else 0.0, now
            watch.asked += 1
            said = self._ask(link)
            if said != seen:
                seen = said
                watch.samples.append(_sample(name, asked, said))
            due = max(due + (EVERY if said is not None else AGAIN), time.monotonic())
            self._ended.wait(max(0.0, due - time.monotonic()))
        link.close()

    @staticmethod
    def _ask(link: Any) -> tuple[str, str, str] | None:
        """What the node says, without what changes all the time; None where it does not answer."""
        try:
            link.send([("CLUSTER", "INFO"), ("CLUSTER", "NODES"), ("INFO", "replication")])
            info, nodes, replication = link.receive(3, ANSWER)
        except LinkDown:
            link.close()
            return None
        if any(isinstance(reply, ResponseError) for reply in (info, nodes, replication)):
            return None
        said = parse_info(replication)
        state = parse_info(info).get("cluster_state", "")
        nodes = "\n".join(sorted(_PINGS.sub("", nodes).splitlines()))
        # After a cut the link says up for as long as TCP waits for its next try. The clients write all the time.
        heard = int(said.get("master_last_io_seconds_ago", "-1"))
        link = said.get("master_link_status", "") if heard <= FRESH else "silent"
        return state, nodes, f"{said.get('role')} {link}"


def _sample(name: str, at: float, said: tuple[str, str, str] | None) -> Sample:
    if said is None:
        return Sample(at, name)
    state, nodes, role = said
    own, peers = parse_nodes(_with_pings(nodes))
    me = next(peer for peer in peers if peer.id == own)
    return Sample(
        at,
        name,
        id=own,
        state=state,
        master=role.startswith("master"),
        link_up=role.endswith(" up"),
        slots=me.slots,
        failing=frozenset(p.id for p in peers if "fail" in p.flags),
        suspected=frozenset(p.id for p in peers if "fail?" in p.flags),
    )


def _with_pings(nodes: str) -> str:
    return re.sub(r"(?= \d+ (?:connected|disconnected))", " 0 0", nodes)
