"""What a node without data has on disk.

CLUSTER RESET empties a replica's memory and not its append-only file: killed and started again, the node would have all
of its old keys back, among them what was changed or deleted since (measured: Redis 7.0). As a master it would serve
them. So before an empty master gets slots its file is written anew, from its memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from redis.exceptions import ResponseError

from slotwright.core.parse import parse_info
from slotwright.errors import SlotwrightError
from slotwright.link.connect import LinkDown, Links

POLL = 0.05
# Bytes of an append-only file that never held a key, and more.
EMPTY = 200
_BUSY = ("in progress", "already")


def write_anew(names: Iterable[str], links: Links, *, timeout: float, if_large: bool = False) -> None:
    """Returns when the file that each of these nodes would load is as its memory is.

    timeout (seconds) bounds the wait. if_large: only where there is more in it than an empty node has. Raises
    SlotwrightError, or LinkDown.
    """
    with writing_anew(names, links, timeout=timeout, if_large=if_large):
        pass


@contextmanager
def writing_anew(names: Iterable[str], links: Links, *, timeout: float, if_large: bool = False) -> Iterator[None]:
    """As write_anew: begun on entry, waited for at the end, so that other nodes can be asked things meanwhile."""
    waiting = {}
    for name, said in _info(names, links).items():
        if not if_large or (said.get("aof_enabled") == "1" and int(said.get("aof_current_size", 0)) > EMPTY):
            waiting[name] = said.get("aof_enabled") == "1"
    begun: set[str] = set()
    _begin(waiting, begun, links)
    yield
    deadline = time.monotonic() + timeout
    while waiting:
        _begin({name: aof for name, aof in waiting.items() if name not in begun}, begun, links)
        for name, said in _info(begun & waiting.keys(), links).items():
            aof = waiting[name]
            busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled") if aof else ("rdb_bgsave_in_progress",)
            if any(said.get(field, "0") != "0" for field in busy):
                continue
            if said.get("aof_last_bgrewrite_status" if aof else "rdb_last_bgsave_status") != "ok":
                raise SlotwrightError(
                    "could not write its data anew, and would have old keys back after a crash",
                    where=f"node {name}",
                    remedy="see its log, and the space in its data directory; no slot was moved to it",
                    code="cannot-save",
                )
            del waiting[name]
        if waiting and time.monotonic() > deadline:
            raise SlotwrightError(
                f"waited {timeout:g} s for it to write its data anew, which it is still at",
                where=f"node {min(waiting)}",
                remedy="see its log; then run again",
                code="timeout",
            )
        if waiting:
            time.sleep(POLL)


def _begin(aof: Mapping[str, bool], begun: set[str], links: Links) -> None:
    """aof: by name, whether the node has an append-only file. One that is at it already is told again later."""
    told = {name: [("BGREWRITEAOF",) if append else ("BGSAVE",)] for name, append in aof.items()}
    for name, answer in links.ask(told).items():
        if isinstance(answer, LinkDown):
            raise answer
        if not isinstance(answer[0], ResponseError):
            begun.add(name)
        elif not any(word in str(answer[0]) for word in _BUSY):
            raise SlotwrightError(
                f"{told[name][0][0]} was answered with: {answer[0]}",
                where=f"node {name}",
                remedy="mend that, then run again",
                code="command-refused",
            )


def _info(names: Iterable[str], links: Links) -> dict[str, dict[str, str]]:
    found = {}
    for name, answer in links.ask({name: [("INFO", "persistence")] for name in names}).items():
        if isinstance(answer, LinkDown):
            raise answer
        found[name] = parse_info(answer[0]) if isinstance(answer[0], str) else {}
    return found
