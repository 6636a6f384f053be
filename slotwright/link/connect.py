"""Links to the Redis nodes of one cluster: over TCP, over TLS, or (slotwright.link.ssh) through SSH."""

# redis-py leaves most of its methods without annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

from redis._parsers import _RESP2Parser
from redis.connection import AbstractConnection, Connection, PythonRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from slotwright.core.topology import Instance
from slotwright.core.view import Silence
from slotwright.errors import SlotwrightError
from slotwright.link.access import Access
from slotwright.link.stream import START_IT, Dial, Stream, Unreached, direct, explain

CLIENT_NAME = "slotwright"
CONNECT_THREADS = 64
# What may be written to a node before its replies are read: a server that limits a client's output buffer
# (client-output-buffer-limit, maxmemory-clients) would cut a longer pipeline off.
WINDOW_COMMANDS = 1000
WINDOW_BYTES = 64 * 1024
# Seconds that a node still gets in `Links.ask` once another node has used up the common time.
GRACE = 0.2

Command = Sequence[Any]


class LinkDown(SlotwrightError):
    """An instance does not answer, or no longer. Its link stays down until it is opened again."""

    def __init__(self, silence: Silence) -> None:
        finding = silence.finding
        super().__init__(finding.what, where=finding.where, remedy=finding.remedy, code=finding.code)
        self.silence = silence


class PlainErrors(_RESP2Parser):
    """Leaves every error reply a ResponseError with the server's own text.

    redis-py turns LOADING, NOAUTH and others into connection errors and would end the connection.
    """

    EXCEPTION_CLASSES: Any = {}  # noqa: RUF012 (redis-py's own attribute)


# What redis-py would say of itself (CLIENT SETINFO) it looks up in files for each connection, in half a millisecond.
_NAMELESS = {"driver_info": None} if "driver_info" in signature(AbstractConnection).parameters else {}


class NodeConnection(Connection):
    """redis-py's connection over a stream that `dial` opens. Never uses hiredis, which needs a real socket."""

    _stream: Stream
    _seconds: float | None

    def __init__(self, *, dial: Dial, **options: Any) -> None:
        self._dial = dial
        super().__init__(**_NAMELESS, **options)

    def _connect(self) -> Stream:
        self._stream = self._dial(self.host, self.port)
        self._stream.settimeout(self.socket_timeout)
        self._seconds = self.socket_timeout
        return self._stream

    def _construct_command_packer(self, packer: Any) -> Any:
        return PythonRespSerializer(self._buffer_cutoff, self.encoder.encode)

    @property
    def connected(self) -> bool:
        return self._sock is not None

    def wait_at_most(self, seconds: float) -> None:
        """Bound each following read and write."""
        if seconds != self._seconds:  # a system call each time
            self._stream.settimeout(seconds)
            self._seconds = seconds


class Link:
    """One instance on one connection (RESP2), connected on first use.

    Replies are str, with surrogateescape, so that binary keys come back unchanged when sent again.
    Once down, a link stays down until `open`: nothing is sent twice, and no restarted node is mistaken for the old.
    """

    def __init__(self, instance: Instance, access: Access, dial: Dial) -> None:
        self.instance = instance
        self.dial = dial
        self._access = access
        self._silence: Silence | None = None
        self._replies: deque[Any] = deque()
        self._unread = self._unread_bytes = 0
        self._connection = NodeConnection(
            dial=dial,
            host=instance.address,
            port=instance.port,
            protocol=2,
            parser_class=PlainErrors,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=access.connect_timeout,
            redis_connect_func=self._greet,
        )

    @property
    def up(self) -> bool:
        return self._connection.connected

    def open(self) -> Silence | None:
        """Connect anew and log in; returns why not, where that fails."""
        self.close()
        try:
            self._ready()
        except LinkDown as down:
            return down.silence
        return None

    def close(self) -> None:
        self._connection.disconnect()
        self._silence = None

    def reopen(self) -> None:
        """Connect anew and log in. Raises LinkDown."""
        if silence := self.open():
            raise LinkDown(silence)

    @contextmanager
    def raw(self, timeout: float | None = None) -> Iterator[Stream]:
        """The bare stream, logged in, for bytes of one's own while no reply is due here. Raises LinkDown.

        timeout (seconds) replaces command_timeout. A block that fails ends the connection.
        """
        self._ready()
        with self._watched():
            self._connection.wait_at_most(timeout or self._access.command_timeout)
            yield self._connection._stream

    def call(self, *args: Any, timeout: float | None = None) -> Any:
        """One command, one reply. Raises ResponseError or LinkDown; timeout (seconds) replaces command_timeout."""
        reply = self.call_or_error(*args, timeout=timeout)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def call_or_error(self, *args: Any, timeout: float | None = None) -> Any:
        """As `call`, with a ResponseError as a value."""
        self.send([args])
        return self.receive(1, timeout)[0]

    def send(self, commands: Sequence[Command]) -> None:
        """Write all commands. Replies are read only where the window is full, and kept. Raises LinkDown."""
        for _ in self.feed(commands):
            self.drain()

    def receive(self, count: int, timeout: float | None = None) -> list[Any]:
        """The next count replies, ResponseErrors among them as values. Raises LinkDown."""
        self._read(count - len(self._replies), timeout or self._access.command_timeout)
        return [self._replies.popleft() for _ in range(count)]

    def feed(self, commands: Sequence[Command]) -> Iterator[bool]:
        """Write a window of commands at a time; yields True where replies must be drained before more is."""
        self._ready()
        window: list[bytes] = []
        for command in commands:
            packed = b"".join(self._connection.pack_command(*command))
            full = self._unread >= WINDOW_COMMANDS or self._unread_bytes + len(packed) > WINDOW_BYTES
            if self._unread and full:
                self._write(window)
                window = []
                yield True
            window.append(packed)
            self._unread += 1
            self._unread_bytes += len(packed)
        self._write(window)

    def drain(self, deadline: float | None = None) -> None:
        """Read and keep every reply that is due, until deadline (time.monotonic) or for command_timeout."""
        rest = self._access.command_timeout if deadline is None else max(GRACE, deadline - time.monotonic())
        self._read(self._unread, rest)

    def _write(self, window: list[bytes]) -> None:
        self._ready()
        with self._watched():
            self._connection.wait_at_most(self._access.command_timeout)
            self._connection.send_packed_command(window, check_health=False)

    def _read(self, count: int, seconds: float) -> None:
        if count > self._unread:
            raise ValueError(f"{self.instance.name}: {count} replies wanted, {self._unread} are due")
        self._ready()
        with self._watched():
            self._connection.wait_at_most(seconds)
            for _ in range(count):
                try:
                    self._replies.append(self._connection.read_response())
                except ResponseError as error:
                    self._replies.append(error)
                self._unread -= 1
        if not self._unread:
            self._unread_bytes = 0

    def _ready(self) -> None:
        if self._silence:
            raise LinkDown(self._silence)
        if not self.up:
            self._replies.clear()
            self._unread = self._unread_bytes = 0
            with self._watched():
                self._connection.connect()

    def _greet(self, connection: NodeConnection) -> None:
        """Log in and leave our name. Own code because redis-py's insists on the name and sends CLIENT SETINFO."""
        connection._parser.on_connect(connection)
        login = (self._access.username, self._access.password)
        greeting: list[tuple[str, ...]] = [("CLIENT", "SETNAME", CLIENT_NAME)]
        if any(part is not None for part in login):
            greeting.insert(0, ("AUTH", *([login[0]] if login[0] else []), login[1] or ""))
        for command in greeting:
            connection.send_command(*command, check_health=False)
            try:
                connection.read_response()
            except ResponseError as error:
                self._judge(command[0], str(error))

    def _judge(self, command: str, answer: str) -> None:
        """A node that refuses to do more than take our name is still a node that answers."""
        endpoint = self.instance.endpoint
        if answer.startswith(("DENIED", "ERR max number of clients")):
            what = f"{endpoint} turns clients away: {answer.partition('.')[0][:120]}"
            raise Unreached("turned-away", what, "give it a password, or see to protected-mode and maxclients there")
        if command == "AUTH" or answer.startswith("NOAUTH"):
            user = self._access.username or "default"
            remedy = "correct redis_cluster_username and redis_cluster_password, or the node's ACL"
            raise Unreached("auth", f"{endpoint} does not let user {user} in: {answer}", remedy)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError) as error:
            self._connection.disconnect()
            why = error if isinstance(error, Unreached) else self._reason(error)
            self._silence = Silence(self.instance.name, self.instance.endpoint, why.kind, why.detail, why.remedy)
            raise LinkDown(self._silence) from error

    def _reason(self, error: Exception) -> Unreached:
        endpoint = self.instance.endpoint
        if isinstance(error, RedisTimeoutError):
            return explain(TimeoutError(), endpoint)
        if isinstance(error, InvalidResponse):
            return Unreached("protocol", f"what listens on {endpoint} is not Redis: {error}", START_IT)
        cause = error if isinstance(error, OSError) else error.__context__
        return explain(cause if isinstance(cause, OSError) else ConnectionError(), endpoint)


class Links(AbstractContextManager["Links"]):
    """All instances of a cluster. Raises SlotwrightError on TLS files that cannot be used."""

    def __init__(self, instances: Sequence[Instance], access: Access) -> None:
        self._access = access
        self._closing = ExitStack()
        context = access.tls.context() if access.tls else None
        hosts = {instance.host for instance in instances}
        if access.ssh is None:
            dials = dict.fromkeys(hosts, direct(context, access.connect_timeout))
        else:
            from slotwright.link.ssh import Gateways  # paramiko is slow to import, and only needed here

            gateways = Gateways(access.ssh, context, access.connect_timeout)
            self._closing.callback(gateways.close)
            dials = {host: gateways.dial(host) for host in hosts}
        self._links = {i.name: Link(i, access, dials[i.host]) for i in instances}

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    @property
    def access(self) -> Access:
        return self._access

    @property
    def up(self) -> tuple[str, ...]:
        """Names of the instances that are connected, in the order given."""
        return tuple(name for name, link in self._links.items() if link.up)

    def open(self) -> Mapping[str, Silence]:
        """Connect to every instance that is not up, many at a time; returns those that do not answer."""
        names = [name for name, link in self._links.items() if not link.up]
        with ThreadPoolExecutor(min(CONNECT_THREADS, len(names) or 1)) as pool:
            results = pool.map(self.reopen, names)
        return {name: silence for name, silence in zip(names, results, strict=True) if silence}

    def reopen(self, name: str) -> Silence | None:
        """Connect anew, as after a restart of the instance; returns why not, where that fails."""
        return self._links[name].open()

    def another(self, name: str) -> Link:
        """One more connection to that instance, not yet open; whoever asks for it closes it."""
        link = self._links[name]
        return Link(link.instance, self._access, link.dial)

    def ask(self, commands: Mapping[str, Sequence[Command]]) -> dict[str, list[Any] | LinkDown]:
        """Put each instance its commands, to all of them at once, and gather the replies.

        ResponseErrors are among the replies as values. A window of commands costs one round trip for the whole
        cluster, and however many instances hang, about one command_timeout.
        """
        down: dict[str, LinkDown] = {}

        def attempt(name: str, act: Callable[[], Any]) -> Any:
            try:
                return act()
            except LinkDown as error:
                down[name] = error
                return None

        feeds = {name: self[name].feed(batch) for name, batch in commands.items()}
        while feeds:
            feeds = {name: feed for name, feed in feeds.items() if attempt(name, partial(next, feed, False))}
            deadline = time.monotonic() + self._access.command_timeout
            for name in commands:
                if name not in down:
                    attempt(name, partial(self[name].drain, deadline))
        return {name: down.get(name) or self[name].receive(len(batch)) for name, batch in commands.items()}

    def connection_class(self) -> type[Connection]:
        """For redis.Redis and redis.RedisCluster (connection_class=…): reaches these instances as these links do."""
        dials = {link.instance.endpoint: link.dial for link in self._links.values()}

        class Reached(NodeConnection):
            def __init__(self, **options: Any) -> None:
                endpoint = f"{options['host']}:{options['port']}"
                if endpoint not in dials:
                    raise Unreached("no-route", f"no instance of the inventory is {endpoint}", "name it there")
                super().__init__(dial=dials[endpoint], **options)

        return Reached

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._closing.close()

    def __exit__(self, *_: object) -> None:
        self.close()
