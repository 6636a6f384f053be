"""Byte streams to the nodes' ports, and the reason why there is none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Literal, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError

Kind = Literal["refused", "timeout", "auth", "tls", "ssh", "no-route", "protocol", "closed", "turned-away"]


class Unreached(RedisConnectionError):
    """Raised where a stream cannot be opened, in redis-py's family so that its own clients understand it."""

    def __init__(self, kind: Kind, detail: str, remedy: str) -> None:
        super().__init__(f"{detail}. {remedy}")
        self.kind, self.detail, self.remedy = kind, detail, remedy


class Stream(Protocol):
    """The part of a socket that redis-py uses."""

    def sendall(self, data: Any, /) -> Any: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


Dial = Callable[[str, int], Stream]


START_IT = "start the instance, or correct its address and port"
_CAUSES: tuple[tuple[type[OSError], Kind, str, str], ...] = (
    (
        ssl.SSLError,
        "tls",
        "{0} failed: {1}",
        "check redis_node_tls, the CA, and that the client certificate is signed by a CA that the node trusts",
    ),
    (
        TimeoutError,
        "timeout",
        "{0} did not answer in time",
        "look whether the process hangs, a firewall drops packets (redis_cluster_reach: ssh goes around "
        "it), or (with TLS) the port is one without TLS",
    ),
    (ConnectionRefusedError, "refused", "nothing listens on {0}", START_IT),
    (ConnectionError, "closed", "{0} closed the connection", "look at its log, and whether it expects TLS"),
    (OSError, "no-route", "there is no way to {0}: {1}", "correct redis_node_address, or the routing"),
)


def explain(error: OSError, endpoint: str) -> Unreached:
    """Say in our words why endpoint is not reached, or no longer."""
    kind, what, remedy = next((k, w, r) for cause, k, w, r in _CAUSES if isinstance(error, cause))
    return Unreached(kind, what.format(endpoint, error), remedy)


def direct(context: ssl.SSLContext | None, timeout: float) -> Dial:
    """Opens TCP connections, with TLS where a context is given. Raises Unreached."""

    def dial(address: str, port: int) -> Stream:
        endpoint = f"{address}:{port}"
        try:
            plain = socket.create_connection((address, port), timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise explain(error, endpoint) from error
        try:
            return context.wrap_socket(plain, server_hostname=address) if context else plain
        except OSError as error:
            raise explain(error, f"the TLS of {endpoint}") from error

    return dial
