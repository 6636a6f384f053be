"""Connections to other hosts, and a process that others may connect to for some seconds.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_process import BUS_PORT_OFFSET, find_process, refuse_taken_ports
else:
    from ansible.module_utils.slotwright_process import BUS_PORT_OFFSET, find_process, refuse_taken_ports

Endpoint = Tuple[str, int]
AT_ONCE = 400  # connections that are tried at a time: few enough for any limit on open files or half-open connections
NAME = "redis-preflight"  # of a listener; at most 15 characters, comm(5)
END_WITHIN = 5.0  # seconds until a listener that was told to end must be gone


@dataclass(frozen=True)
class Place:
    """As much of an instance as is needed to see whether it runs, and whether it could."""

    port: int
    listen: Sequence[str]
    data_dir: Path
    pidfile: Path

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Place:
        return cls(options["port"], options["listen"], Path(options["data_dir"]), Path(options["pidfile"]))

    @property
    def name(self) -> str:
        return f"port {self.port}"


@dataclass
class Seen:
    """said: [address, port, what was read there]; refused: [address, port]; blocked: [address, port, why]."""

    said: list[Any]
    refused: list[Any]
    blocked: list[Any]


def connect_all(endpoints: Sequence[Endpoint], timeout: float, *, listen_to: bool = False) -> Seen:
    """Tries all at once, each for `timeout` seconds. listen_to: and reads what is said there."""
    seen = Seen([], [], [])
    # Each connection is an open file: up to what is allowed without asking.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for start in range(0, len(endpoints), AT_ONCE):
        _connect(endpoints[start : start + AT_ONCE], timeout, listen_to, seen)
    return seen


def _connect(endpoints: Sequence[Endpoint], timeout: float, listen_to: bool, seen: Seen) -> None:
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
        said: dict[Endpoint, bytes] = {}
        for endpoint in endpoints:
            sock = sockets.enter_context(socket_for(endpoint[0]))
            sock.setblocking(False)
            number = sock.connect_ex(endpoint)
            if number in (0, errno.EINPROGRESS):
                selector.register(sock, selectors.EVENT_WRITE, endpoint)
            else:
                _failed(endpoint, number, seen)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                assert isinstance(key.fileobj, socket.socket)
                connection, endpoint = key.fileobj, key.data
                if endpoint not in said:
                    number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if number or not listen_to:
                        selector.unregister(connection)
                        connection.close()
                        _failed(endpoint, number, seen)
                    else:
                        said[endpoint] = b""
                        selector.modify(connection, selectors.EVENT_READ, endpoint)
                else:
                    heard = b""
                    with contextlib.suppress(OSError):  # cut off: what was said before counts
                        heard = connection.recv(256)
                    said[endpoint] += heard
                    if not heard:
                        selector.unregister(connection)
        waiting = {key.data for key in selector.get_map().values()}
    seen.said += [[*endpoint, text.decode(errors="replace")] for endpoint, text in said.items()]
    seen.blocked += [[*endpoint, f"no answer within {timeout:g} s"] for endpoint in sorted(waiting - set(said))]


def _failed(endpoint: Endpoint, number: int, seen: Seen) -> None:
    if number == errno.ECONNREFUSED:
        seen.refused.append([*endpoint])
    elif number:
        seen.blocked.append([*endpoint, os.strerror(number).lower()])


def socket_for(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)


def listen(places: Sequence[Place], seconds: float) -> dict[str, Any]:
    """A process of its own listens on the free ports of these, and says its token to whoever connects.

    It ends by itself when the time is over, whatever becomes of us: no Redis ever finds its port taken for long.
    """
    secret = secrets.token_hex(16)
    sockets = list(_bound(places))
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        # Not a return, not an exception: we are a copy of the module, which must not go on twice.
        try:
            os.setsid()
            if os.fork() == 0:
                os.write(into, str(os.getpid()).encode())
                detach(one.fileno() for one in sockets)
                Path("/proc/self/comm").write_text(NAME)
                _serve(sockets, _token(os.getpid(), secret).encode(), time.monotonic() + seconds)
        finally:
            os._exit(0)
    os.close(into)  # or we would wait for ever for a child that ended without a word
    os.waitpid(child, 0)
    pid = int(os.read(out, 32))
    os.close(out)
    for each_socket in sockets:
        each_socket.close()
    return {"pid": pid, "start": _start(pid), "token": _token(pid, secret)}


def _token(pid: int, secret: str) -> str:
    """What a listener says: to the hosts that it is the one, and to a later run whom to end."""
    return f"{NAME} {pid} {secret}"


def _bound(places: Sequence[Place]) -> Iterator[socket.socket]:
    for place in places:
        for address in place.listen:
            for port in (place.port, place.port + BUS_PORT_OFFSET):
                one = socket_for(address)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if ":" in address:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((address, port))
                one.listen(512)
                one.setblocking(False)
                yield one


def detach(files: Iterable[int]) -> None:
    """Whoever waits for the end of our output must not wait for us."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    kept = {0, 1, 2, *files}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                os.close(int(name))


def _serve(sockets: Sequence[socket.socket], token: bytes, until: float) -> None:
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        while time.monotonic() < until:
            for key, _ in selector.select(until - time.monotonic()):
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(OSError):  # of one who has gone already
                    caller, _ = key.fileobj.accept()
                    with caller:
                        caller.send(token)


def prove(options: Mapping[str, Any]) -> dict[str, Any]:
    """Tries its targets, who say their token to whoever connects."""
    targets = [(target["address"], target["port"]) for target in options["targets"]]
    return asdict(connect_all(targets, options["timeout"], listen_to=True))


def end(options: Mapping[str, Any]) -> dict[str, Any]:
    """Ends the listener, and proves that its ports are free. lasted: whether it was still there. Raises HostError."""
    listener = options["listener"]
    pid, start = listener["pid"], listener["start"]
    lasted = start is not None and _start(pid) == start
    if lasted:
        _terminate(pid, start)
    for place in map(Place.of, listener["instances"]):
        if not find_process(place):
            refuse_taken_ports(place)
    return {"lasted": lasted, "token": listener["token"]}


def end_forgotten(place: Place) -> bool:
    """Ends a listener that an earlier run left at these ports. False where there is none that we may end."""
    ports = (place.port, place.port + BUS_PORT_OFFSET)
    endpoints = [({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(at, at), port) for at in place.listen for port in ports]
    for _, _, said in connect_all(endpoints, 1, listen_to=True).said:
        name, _, rest = said.partition(" ")
        pid = rest.partition(" ")[0]
        if name != NAME or not pid.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone by now, or not ours to end
            # Whoever listens may say what he likes; nobody but root and its owner gives a process its name.
            if Path(f"/proc/{pid}/comm").read_text().strip() == NAME:
                _terminate(int(pid), _start(int(pid)))
                return True
    return False


def _terminate(pid: int, start: int | None) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_WITHIN
    while _start(pid) == start is not None and time.monotonic() < deadline:
        time.sleep(0.01)


def _start(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when there is none. A zombie is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(stat[19]) if stat[0] != "Z" else None
