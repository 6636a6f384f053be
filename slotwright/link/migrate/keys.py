"""Keys of slots as a node lists them: how many, which, and how large."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from slotwright.core.slots import Slots
from slotwright.errors import SlotwrightError
from slotwright.link.connect import Links
from slotwright.link.migrate.pacer import Pacer
from slotwright.link.migrate.wire import Failure, Reply, Wire, commands, content

# A key of this size (bytes) is moved in a call of its own.
BIG = 1 << 20
# Seconds that these take a node: CLUSTER GETKEYSINSLOT, MEMORY USAGE, CLUSTER COUNTKEYSINSLOT.
LISTING, SIZING, COUNTING = 3e-5, 2e-6, 2e-6
THREADS = 16
LISTED = 100_000  # keys of a slot that are looked at together at the most

Answer = TypeVar("Answer")


class Lost(Exception):
    """An end is not what it was: restarted, failed over, or gone. Who catches this looks anew."""


@dataclass(frozen=True)
class Listing:
    """Keys of a slot (bulks), and the size of each in bytes; -1 or less where it is not known."""

    keys: Sequence[bytes] = ()
    sizes: Sequence[int] = ()

    def split(self) -> tuple[Listing, list[tuple[bytes, int]]]:
        """The small keys, and the big ones."""
        if max(self.sizes, default=0) < BIG:
            return self, []
        pairs = list(zip(self.keys, self.sizes, strict=True))
        small = [(key, size) for key, size in pairs if size < BIG]
        return Listing([k for k, _ in small], [s for _, s in small]), [(k, s) for k, s in pairs if s >= BIG]


def survey(wire: Wire, slots: Sequence[int], pacer: Pacer, limit: int = LISTED) -> dict[int, Listing]:
    """The keys of each slot, and what memory each takes."""
    asked = commands(("CLUSTER", "GETKEYSINSLOT"), slots, (limit,))
    listed = [_keys(reply) for reply in wire.ask_many(asked, min(64, pacer.at_once(LISTING)))]
    ask = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n"
    every = list(chain.from_iterable(listed))
    sizes: list[int] = []
    at_once = pacer.at_once(SIZING)
    for first in range(0, len(every), at_once):
        some = every[first : first + at_once]
        sizes += wire.ask_number_each(ask.join((b"", *some)), len(some))
    found, at = {}, 0
    for slot, keys in zip(slots, listed, strict=True):
        found[slot] = Listing(keys, sizes[at : at + len(keys)])
        at += len(keys)
    return found


def each_node(wanted: Mapping[str, Slots], links: Links, ask: Callable[[Wire, list[int]], Answer]) -> dict[str, Answer]:
    """What ask(wire, slots) finds of these slots on each node, all of them at once, each on a connection of its own.

    Raises SlotwrightError.
    """

    def of(name: str) -> Answer:
        wire = Wire(links.another(name))
        try:
            return ask(wire, list(wanted[name]))
        except Lost as lost:
            raise SlotwrightError(str(lost), where=f"node {name}", remedy="mend that, then run again") from lost
        finally:
            wire.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(wanted, pool.map(of, wanted), strict=True))


def count(wire: Wire, slots: Sequence[int], pacer: Pacer | None = None) -> dict[int, int]:
    """Keys of each slot."""
    at_once = pacer.at_once(COUNTING) if pacer else 1000
    numbers = wire.ask_numbers(commands(("CLUSTER", "COUNTKEYSINSLOT"), slots), at_once)
    if -1 in numbers:
        raise Lost(f"CLUSTER COUNTKEYSINSLOT {slots[numbers.index(-1)]} was refused")
    return dict(zip(slots, numbers, strict=True))


def _keys(reply: Reply) -> list[bytes]:
    if isinstance(reply, list):
        return reply  # type: ignore[return-value]  # strings all
    raise Lost(f"CLUSTER GETKEYSINSLOT was answered with: {shown(reply)}")


def shown(reply: Reply) -> str:
    return reply.text if isinstance(reply, Failure) else repr(reply)


def key_name(key: bytes) -> str:
    """A key for people: what is not printable is escaped, what is long is cut."""
    text = content(key).decode(errors="backslashreplace")
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
