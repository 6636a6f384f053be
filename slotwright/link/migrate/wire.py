"""A raw connection to one node: packed commands out, replies in, as bytes. Made for hundreds of thousands of keys.

What a node lists as an array of keys is, byte for byte, what MIGRATE takes as its last arguments: keys are cut out of
the reply with their length in front (a *bulk*) and sent on without being decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from slotwright.link.connect import Link
from slotwright.link.stream import Stream

_READ = 256 * 1024
_DOLLAR, _MINUS = b"$-"


@dataclass(frozen=True)
class Failure:
    """An error reply."""

    text: str


Reply = bytes | int | list["Reply"] | Failure | None


@lru_cache(maxsize=65536)  # slots, ids and words come again and again
def bulk(value: bytes | str | int) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    return b"$%d\r\n%b\r\n" % (len(data), data)


def command(*words: bytes | str | int) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def commands(before: Sequence[str], values: Iterable[int], after: Sequence[str | int] = ()) -> list[bytes]:
    """A command for each value, the words before and after it being the same for all."""
    count = len(before) + 1 + len(after)
    head, tail = b"*%d\r\n" % count + b"".join(map(bulk, before)), b"".join(map(bulk, after))
    return [b"%b%b%b" % (head, bulk(value), tail) for value in values]


def content(key: bytes) -> bytes:
    """The key itself, of a bulk."""
    return key[key.index(b"\r\n") + 2 : -2]


@lru_cache(maxsize=65536)  # most keys are as large as others
def _number(line: bytes) -> int:
    """-1 for an error, and for what is no number in one line a ValueError."""
    if line[:1] == b"-":
        return -1
    if line[:1] != b":":
        raise ValueError(line)
    return int(line[1:])


class Wire:
    """One connection of its own, opened and logged in by a Link. Raises LinkDown once the node does not answer."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._out: list[bytes] = []
        self._data = b""
        self._at = 0

    def open(self) -> None:
        """Connect anew. Raises LinkDown."""
        self._out, self._data, self._at = [], b"", 0
        self.link.reopen()

    def close(self) -> None:
        self.link.close()

    def send(self, packed: Iterable[bytes]) -> None:
        """Packed commands, one each. They are written together, at the latest when a reply is waited for."""
        self._out += packed

    def flush(self) -> None:
        with self.link.raw() as stream:
            self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        out, self._out = self._out, []
        stream.sendall(b"".join(out))

    def ask(self, *packed: bytes) -> list[Reply]:
        """Write all commands, read all their replies. At most some hundred at once: see `ask_many`."""
        self.send(packed)
        return self.receive(len(packed))

    def ask_many(self, packed: Sequence[bytes], at_once: int = 1000) -> list[Reply]:
        """As `ask`, with at most `at_once` commands unread at a time."""
        replies: list[Reply] = []
        for first in range(0, len(packed), at_once):
            replies += self.ask(*packed[first : first + at_once])
        return replies

    def ask_expecting(self, packed: bytes, expected: bytes, count: int) -> list[Reply] | None:
        """Write commands, read their `count` replies; None where these are, byte for byte, what is expected."""
        self.send([packed])
        while len(held := self._data[self._at : self._at + len(expected)]) < len(expected):
            if not expected.startswith(held):
                return self.receive(count)
            self._fill(None)
        if held != expected:
            return self.receive(count)
        self._at += len(expected)
        return None

    def ask_numbers(self, packed: Sequence[bytes], at_once: int = 1000) -> list[int]:
        """As `ask_many`, for replies that are numbers; -1 for any other."""
        numbers: list[int] = []
        for first in range(0, len(packed), at_once):
            some = packed[first : first + at_once]
            numbers += self.ask_number_each(b"".join(some), len(some))
        return numbers

    def ask_number_each(self, packed: bytes, count: int) -> list[int]:
        """The numbers that `count` commands are answered with, which are packed together; -1 for any other answer."""
        self.send([packed])
        numbers: list[int] = []
        while (missing := count - len(numbers)) > 0:
            lines = self._data[self._at :].split(b"\r\n", missing)
            rest = lines.pop()
            try:
                numbers += list(map(_number, lines))
            except ValueError:  # a string or an array takes more than a line: one by one
                return numbers + [reply if isinstance(reply, int) else -1 for reply in self.receive(missing)]
            self._data, self._at = rest, 0
            if len(numbers) < count:
                self._fill(None)
        return numbers

    def receive(self, count: int = 1, timeout: float | None = None) -> list[Reply]:
        """The next `count` replies; arrays of strings are lists of bulks. timeout (seconds) is for each piece."""
        return [self._reply(timeout) for _ in range(count)]

    def _fill(self, timeout: float | None) -> None:
        with self.link.raw(timeout) as stream:
            if self._out:
                self._flush(stream)
            more = stream.recv(_READ)
            if not more:
                raise ConnectionError("the node closed the connection")
        self._data = self._data[self._at :] + more
        self._at = 0

    def _line(self, timeout: float | None) -> bytes:
        while (end := self._data.find(b"\r\n", self._at)) < 0:
            self._fill(timeout)
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def _reply(self, timeout: float | None) -> Reply:
        line = self._line(timeout)
        kind, rest = line[:1], line[1:]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            return Failure(rest.decode(errors="replace"))
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self._bytes(timeout, size)
        return self._elements(timeout, size)

    def _elements(self, timeout: float | None, count: int) -> list[Reply]:
        """Strings stay bulks, so that they can be sent on as they are."""
        found: list[Reply] = []
        data, at = self._data, self._at
        head, whole = b"?", 0  # of the one before: many keys are as long as the next
        while len(found) < count:
            if not data.startswith(head, at):
                end = data.find(b"\r\n", at)
                if end >= 0 and data[at] == _DOLLAR and data[at + 1] != _MINUS:
                    head = data[at : end + 2]
                    whole = len(head) + int(head[1:]) + 2
                else:
                    whole = len(data) + 1
            after = at + whole
            if after <= len(data):
                found.append(data[at:after])
                at = after
                continue
            # The rare ones: cut off by the end of what was read, or no string at all.
            self._data, self._at = data, at
            found.append(self._element(timeout))
            data, at, head = self._data, self._at, b"?"
        self._data, self._at = data, at
        return found

    def _element(self, timeout: float | None) -> Reply:
        while (end := self._data.find(b"\r\n", self._at)) < 0:
            self._fill(timeout)
        if self._data[self._at] != _DOLLAR or self._data[self._at + 1] == _MINUS:
            return self._reply(timeout)
        whole = end - self._at + 4 + int(self._data[self._at + 1 : end])
        while len(self._data) - self._at < whole:
            self._fill(timeout)
        element = self._data[self._at : self._at + whole]
        self._at += whole
        return element

    def _bytes(self, timeout: float | None, size: int) -> bytes:
        pieces, missing = [], size + 2
        while (held := len(self._data) - self._at) < missing:
            pieces.append(self._data[self._at :])
            missing -= held
            self._data, self._at = b"", 0
            self._fill(timeout)
        pieces.append(self._data[self._at : self._at + missing])
        self._at += missing
        return b"".join(pieces)[:-2]
