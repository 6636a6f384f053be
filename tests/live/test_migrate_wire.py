"""Replies come back whole, however they are cut to pieces on their way (slotwright/link/migrate/wire.py)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from slotwright.core.topology import Instance
from slotwright.link.connect import LinkDown, Links
from slotwright.link.migrate.wire import Failure, Wire, bulk, command, content
from tests.live.clusters import ACCESS
from tests.live.moves import key_of, tag
from tests.live.servers import Server, Servers, wait_until

LOOPBACK = "127.41"
SLOT = 7


@pytest.fixture
def server(servers: Servers) -> Server:
    node = servers.start()
    node.call("CLUSTER", "ADDSLOTS", *range(16384))
    wait_until("it serves", lambda: "cluster_state:ok" in node.call("CLUSTER", "INFO"))
    return node


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Links([Instance("a1:7000", "a1", "a", server.address, server.port)], ACCESS) as links:
        wire = Wire(links.another("a1:7000"))
        yield wire
        wire.close()


def in_pieces(wire: Wire, size: int) -> None:
    """From now on the wire gets no more than so many bytes at a time."""
    wire.open()
    with wire.link.raw() as stream:
        connection = wire.link._connection

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(stream, name)

        def recv(self, _: int) -> bytes:
            return stream.recv(size)

    connection._stream = Slow()  # type: ignore[assignment]


PIECES = (1, 2, 3, 7, 64, 1_000_000)


def test_every_kind_of_reply_whole_or_in_pieces(wire: Wire) -> None:
    keys = [key_of(SLOT, n) for n in range(50)] + [f"{tag(SLOT)}\r\n$3\r\nabc\r\n", f"{tag(SLOT)}{'k' * 5000}"]
    assert wire.ask_many([command("SET", key, "x") for key in keys], 10) == [b"OK"] * 52
    for size in PIECES:
        in_pieces(wire, size)
        [listed, count, missing, nothing, wrong, echo] = wire.ask(
            command("CLUSTER", "GETKEYSINSLOT", SLOT, 100),
            command("CLUSTER", "COUNTKEYSINSLOT", SLOT),
            command("GET", "nothing"),
            command("CLUSTER", "GETKEYSINSLOT", SLOT + 1, 100),
            command("GET"),
            command("ECHO", "e" * 70_000),
        )
        assert isinstance(listed, list)
        assert sorted(content(key) for key in listed if isinstance(key, bytes)) == sorted(key.encode() for key in keys)
        assert (count, missing, nothing, echo) == (52, None, [], b"e" * 70_000)
        assert isinstance(wrong, Failure) and "wrong number of arguments" in wrong.text


def test_numbers_with_errors_and_other_replies_among_them(wire: Wire) -> None:
    wire.ask(command("SET", "s", "a\r\n:5\r\nb"))
    asked = [command("STRLEN", "s"), command("STRLEN"), command("GET", "s"), command("STRLEN", "t"), command("PING")]
    for size in PIECES:
        in_pieces(wire, size)
        assert wire.ask_numbers(asked * 3, 4) == [8, -1, -1, 0, -1] * 3
        assert wire.ask(command("PING")) == [b"PONG"]


def test_what_a_node_answers_in_an_array_of_arrays(wire: Wire) -> None:
    [role] = wire.ask(command("ROLE"))
    assert isinstance(role, list)
    assert (role[0], role[2]) == (bulk("master"), [])


def test_a_node_that_ends_is_told_as_such(server: Server, wire: Wire) -> None:
    assert wire.ask(command("PING")) == [b"PONG"]
    server.kill()
    with pytest.raises(LinkDown):
        wire.ask(command("PING"))
    with pytest.raises(LinkDown):
        wire.ask(command("PING"))
    server.restart()
    wire.open()
    assert wire.ask(command("PING")) == [b"PONG"]


def test_a_node_that_hangs_is_given_up_on_in_time(server: Server, wire: Wire) -> None:
    wire.ask(command("PING"))
    server.pause()
    threading.Timer(5, server.resume).start()
    wire.send([command("PING")])
    with pytest.raises(LinkDown):
        wire.receive(1, timeout=0.3)
