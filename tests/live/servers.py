"""Real redis-server processes for tests, on loopback addresses, none of which outlives the test.

    def test_x(servers):                                # the fixture of tests/conftest.py
        nodes = servers.start_many(6)                   # six blank cluster nodes on six addresses
        make_cluster(nodes, masters=3)
        nodes[0].kill()
        assert nodes[1].call("CLUSTER", "INFO")

Addresses come from a /16 of 127.0.0.0/8. Each one handed out is reserved machine-wide (a bound UDP port which dies
with this process), so that xdist workers and test runs side by side never share one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).resolve().parents[2]
PORT = 7000
START_TIMEOUT = 20.0  # seconds; a start takes 0.05 s on a quiet machine
CLUSTER_TIMEOUT = 30.0  # seconds; Redis itself waits 2 s after a start before a master may say "ok"
_RESERVE_PORT = 17321
_READY = b"Ready to accept connections"

# PR_SET_PDEATHSIG fires when the *thread* that forked ends: one thread that lives as long as Python does them all.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

Value = str | int | float | bool | Sequence[str] | None
"""Of a directive: bool is yes/no, a list is one line per element, None leaves the directive out."""

DEFAULTS: Mapping[str, Value] = {
    "protected-mode": False,
    "daemonize": False,
    "loglevel": "notice",
    "save": "",
    "appendonly": False,
    "repl-diskless-sync": True,
    "repl-diskless-sync-delay": 0,
    "repl-backlog-size": "64kb",
    "cluster-node-timeout": 3000,
    "cluster-config-file": "nodes.conf",
}


@functools.cache
def binary(version: str) -> str:
    """Path of a redis-server of this version, fetched once into .cache/. Fails with the reason if it cannot be had."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/fetch_redis.py"), version], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"redis-server {version} cannot be fetched for this test:\n{done.stderr}"
    return done.stdout.strip()


@functools.cache
def version_of(server: str) -> tuple[int, ...]:
    """Version of a redis-server binary: (7, 0, 15)."""
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" v=(\d+)\.(\d+)\.(\d+)", said)
    assert found, f"{server} --version says {said!r}"
    return tuple(int(part) for part in found.groups())


def wait_until(what: str, holds: Callable[[], object], timeout: float = CLUSTER_TIMEOUT, every: float = 0.02) -> None:
    """Poll until `holds()` is true and raises nothing. Fails naming `what` and the last falsy value or error seen."""
    end = time.monotonic() + timeout
    while True:
        try:
            seen = holds()
            if seen:
                return
        except (redis.RedisError, OSError, AssertionError) as error:
            seen = error
        assert time.monotonic() < end, f"not within {timeout:g} s: {what} (last seen: {seen!r})"
        time.sleep(every)


@dataclass
class Server:
    """One redis-server process. Its files are in `dir`: redis.conf, nodes.conf, redis.log."""

    address: str
    port: int
    dir: Path
    binary: str
    config: Mapping[str, Value]
    process: subprocess.Popen[bytes] = field(repr=False)
    _log_start: int = field(default=0, repr=False)
    _client: redis.Redis | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def name(self) -> str:
        """address:port, as the other nodes see it."""
        return f"{self.address}:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return (self.dir / "redis.log").read_text(errors="replace")

    def client(self) -> redis.Redis:
        """The one client of this server: default user, RESP2, str, no retries. Follows restarts."""
        if self._client is None:
            tls = {}
            if "tls-port" in self.config:
                tls = {
                    "ssl": True,
                    "ssl_check_hostname": False,
                    "ssl_ca_certs": self.config["tls-ca-cert-file"],
                    "ssl_certfile": self.config["tls-cert-file"],
                    "ssl_keyfile": self.config["tls-key-file"],
                }
            self._client = redis.Redis(
                self.address,
                self.port,
                password=self.config.get("requirepass"),  # type: ignore[arg-type]
                decode_responses=True,
                protocol=2,
                socket_timeout=10,
                retry=Retry(NoBackoff(), 0),
                driver_info=None,
                **tls,  # type: ignore[arg-type]
            )
        return self._client

    def call(self, *args: str | int | float | bytes) -> Any:
        """One command, its plain reply: `call("CLUSTER", "NODES")` is the text that Redis sent."""
        pool = self.client().connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*args)
            return connection.read_response()
        except (redis.ConnectionError, redis.TimeoutError):
            connection.disconnect()  # else the next call would read this one's late reply
            raise
        finally:
            pool.release(connection)

    def id(self) -> str:
        """Node id, which stays the same over restarts unless nodes.conf is lost."""
        return str(self.call("CLUSTER", "MYID"))

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and gone when this returns."""
        self._end(signal.SIGTERM)

    def restart(self, binary: str | None = None) -> None:
        """Stop if alive, start again with the same files, wait until ready."""
        self.stop()
        self.start_again(binary)
        self.wait_ready()

    def start_again(self, binary: str | None = None) -> None:
        """Start a server that has ended, with the same files; it may still be loading them afterwards."""
        self.binary = binary or self.binary
        self.process, self._log_start = _spawn(self.binary, self.dir)

    def start_blank(self) -> None:
        """As start_again, of a server that is stopped first; what it had lies beside, in a directory of its own."""
        self.kill()
        aside = self.dir.with_name(f"{self.dir.name}.{time.monotonic_ns()}")
        aside.mkdir()
        for name in ("nodes.conf", "appendonlydir", "dump.rdb"):
            if (self.dir / name).exists():
                (self.dir / name).rename(aside / name)
        self.start_again()

    def start_at(self, address: str) -> None:
        """As start_again, at another address."""
        self.address, self._client = address, None
        self.config = {**self.config, "bind": address, "cluster-announce-ip": address}
        (self.dir / "redis.conf").write_text(render(self.config))
        self.start_again()

    def pause(self) -> None:
        """SIGSTOP: the process hangs, its port still accepts."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait_ready(self) -> None:
        """Until the log says that connections are accepted. Fails with the log's end if the process exits instead."""
        end = time.monotonic() + START_TIMEOUT
        while True:
            exited = not self.alive  # asked before the log is read, so that the log is then complete
            log = (self.dir / "redis.log").read_bytes()[self._log_start :]
            if _READY in log:
                return
            tail = log.decode(errors="replace")[-2000:]
            assert not exited, f"redis-server {self.name} exited with {self.process.returncode}:\n{tail}"
            assert time.monotonic() < end, f"redis-server {self.name} not ready after {START_TIMEOUT:g} s:\n{tail}"
            time.sleep(0.01)

    def _end(self, how: signal.Signals) -> None:
        if self._client is not None:
            self._client.close()
        if self.alive:
            self.process.send_signal(how)
            if how is not signal.SIGKILL:
                self.resume()
            self.process.wait(START_TIMEOUT)


class Servers:
    """All servers of one test: a context manager that leaves no process behind.

    `base` is the /16 that addresses are taken from ("127.24").
    """

    def __init__(self, directory: Path, base: str = "127.24") -> None:
        self.directory = directory
        self.all: list[Server] = []
        self._addresses = _reserve(base)

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every server and give the addresses back."""
        for server in self.all:
            if server.alive:
                server.process.send_signal(signal.SIGKILL)
        for server in self.all:
            server.kill()
        self._addresses.close()

    def address(self) -> str:
        """An address that is nobody else's until this object is closed."""
        return next(self._addresses)

    def start(
        self,
        address: str | None = None,
        port: int = PORT,
        *,
        cluster: bool = True,
        config: Mapping[str, Value] | None = None,
        binary: str = "redis-server",
        wait: bool = True,
    ) -> Server:
        """Start one server. `config` adds to and overrides DEFAULTS. With `tls-port` in it, there is no plain port."""
        address = address or self.address()
        wanted: dict[str, Value] = {
            **DEFAULTS,
            "bind": address,
            "port": 0 if config and "tls-port" in config else port,
            "cluster-enabled": cluster,
            "cluster-announce-ip": address,
            "enable-debug-command": True if version_of(binary) >= (7,) else None,
            **(config or {}),
        }
        directory = self.directory / f"{address}-{port}"
        directory.mkdir(parents=True, exist_ok=True)
        wanted |= {"dir": str(directory), "logfile": str(directory / "redis.log")}
        (directory / "redis.conf").write_text(render(wanted))
        process, log_start = _spawn(binary, directory)
        server = Server(address, port, directory, binary, wanted, process, log_start)
        self.all.append(server)
        if wait:
            server.wait_ready()
        return server

    def start_many(self, count: int, **options: Any) -> list[Server]:
        """Start `count` servers at once, each on its own address; options as for start()."""
        started = [self.start(**options, wait=False) for _ in range(count)]
        for server in started:
            server.wait_ready()
        return started


def render(config: Mapping[str, Value]) -> str:
    """redis.conf as text."""
    lines = []
    for directive, value in config.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                text = ("yes" if one else "no") if isinstance(one, bool) else str(one)
                lines.append(f"{directive} {text}\n" if text else f'{directive} ""\n')
    return "".join(lines)


def _spawn(binary: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where in redis.log its own lines start."""
    log = directory / "redis.log"
    log.touch()
    start = log.stat().st_size

    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", binary, str(directory / "redis.conf")],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
        )

    return _SPAWNER.submit(spawn).result(), start


def _reserve(base: str) -> Generator[str, None, None]:
    """Addresses of the /16, each reserved until this generator is closed; starts where this process id points."""
    held = []
    try:
        start = os.getpid() * 97
        for number in range(start, start + 65536):
            third, fourth = number >> 8 & 255, number & 255
            holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                if 0 < fourth < 255:
                    holder.bind((f"{base}.{third}.{fourth}", _RESERVE_PORT))
                    held.append(holder)
                    yield f"{base}.{third}.{fourth}"
            except OSError:
                holder.close()
        raise AssertionError(f"no free address left in {base}.0.0/16")
    finally:
        for holder in held:
            holder.close()


# --- Clusters -------------------------------------------------------------------------------------------------------


def make_cluster(servers: Sequence[Server], masters: int, timeout: float = CLUSTER_TIMEOUT) -> None:
    """Make a cluster by raw commands: the first `masters` servers share the slots, the rest replicate them in turn.

    Returns when every node says ok, all show the same layout, and every replica link is up.
    """
    ids = [server.id() for server in servers]
    for number, server in enumerate(servers):
        server.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, server in enumerate(servers[:masters]):
        span = range(16384 * number // masters, 16384 * (number + 1) // masters)
        server.call("CLUSTER", "ADDSLOTS", *span)
    for server in servers:
        for peer in servers:
            if peer is not server:
                server.call("CLUSTER", "MEET", peer.address, peer.port)
    for number, server in enumerate(servers[masters:]):
        wait_until(f"{server.name} replicates", functools.partial(_replicate, server, ids[number % masters]), timeout)
    wait_settled(servers, timeout)


def _replicate(server: Server, master: str) -> bool:
    return bool(server.call("CLUSTER", "REPLICATE", master))  # "Unknown node" until gossip has brought the master


def wait_settled(servers: Sequence[Server], timeout: float = CLUSTER_TIMEOUT, *, half_moved: bool = False) -> None:
    """Until all of these servers know just each other, say ok, show one layout, and every replica link is up.

    half_moved: there may be open slots, of which only their two nodes tell. Who imports a slot hears nothing of its
    owner: once that has been replaced, the slot is nobody's in its eyes, and it says fail until it is told.
    """

    def settled() -> bool:
        deaf = {server.name for server in servers if half_moved and "-<-" in server.call("CLUSTER", "NODES")}
        for server in servers:
            said = server.call("CLUSTER", "INFO")
            assert server.name in deaf or "cluster_state:ok" in said, f"{server.name}: cluster_state is not ok"
            assert f"cluster_known_nodes:{len(servers)}\r" in said, f"{server.name}: knows more or fewer nodes"
            link = server.client().info("replication").get("master_link_status", "up")
            assert link == "up", f"{server.name}: replication link is {link}"
        views = {layout(server, marks=not half_moved) for server in servers if server.name not in deaf}
        assert len(views) == 1, f"{len(views)} views of the layout"
        return True

    wait_until("the cluster is settled", settled, timeout, every=0.05)


def layout(server: Server, *, marks: bool = True) -> tuple[str, ...]:
    """CLUSTER NODES as this server sees it, without what changes by itself: one line per node, in order.

    Each line: id, address:port, role flags, master id, config epoch, slots, and with `marks` its own open slots.
    """
    lines = []
    for line in server.call("CLUSTER", "NODES").splitlines():
        ident, address, flags, master, _ping, _pong, epoch, _link, *slots = line.split()
        kept = sorted(set(flags.split(",")) - {"myself", "fail?"})
        place = address.partition("@")[0]
        slots = [word for word in slots if marks or not word.startswith("[")]
        lines.append(" ".join([ident, place, ",".join(kept), master, epoch, *slots]))
    return tuple(sorted(lines))


def digest(servers: Iterable[Server]) -> dict[str, tuple[str, ...]]:
    """What must not change when a cluster is left alone: per server its layout, run id, nodes.conf-independent data
    digest (DEBUG DIGEST) and live configuration (a hash). Compare two with ==."""
    seen = {}
    for server in servers:
        config = repr(sorted(server.call("CONFIG", "GET", "*"))).encode()
        seen[server.name] = (
            *layout(server),
            f"run_id {server.client().info('server')['run_id']}",
            f"data {server.call('DEBUG', 'DIGEST')}",
            f"config {hashlib.sha256(config).hexdigest()}",
        )
    return seen


# --- Watching -------------------------------------------------------------------------------------------------------

# Flagged "admin" by Redis, yet they change nothing that matters (PSYNC and REPLCONF are replication's own).
_HARMLESS_ADMIN = frozenset(
    {
        *(f"acl|{verb}" for verb in ("dryrun", "getuser", "list", "log", "users")),
        *(f"client|{verb}" for verb in ("list", "no-evict")),
        *(f"cluster|{verb}" for verb in ("count-failure-reports", "replicas", "slaves")),
        *(f"latency|{verb}" for verb in ("doctor", "graph", "histogram", "history", "latest")),
        *("config|get", "module|list", "monitor", "psync", "replconf", "slowlog|get", "slowlog|len", "sync"),
    }
)


@dataclass(frozen=True)
class Seen:
    """A command that reached a server while watched; `count` times."""

    server: str
    command: str
    count: int = 1


class Monitor:
    """Watches what servers are asked to do, as a context manager.

    MONITOR never shows commands that Redis flags "admin": CLUSTER MEET, SETSLOT, CONFIG SET and all their kind. So the
    judge is INFO commandstats, which counts every call, refused ones too (Redis ≥ 7.0: older ones do not tell
    subcommands apart). `mutating` has them after the block; `commands` has MONITOR's own lines, arguments and all.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.commands: list[Seen] = []
        self.mutating: list[Seen] = []
        self._mark = f"monitor-ends-{os.getpid()}-{id(self)}"
        self._before: list[dict[str, int]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Monitor:
        for server in self.servers:
            assert version_of(server.binary) >= (7,), f"{server.name}: Monitor needs Redis 7.0 or later"
        self._before = [_calls(server) for server in self.servers]
        for server in self.servers:
            connection = server.client().connection_pool.get_connection()
            connection.send_command("MONITOR")
            connection.read_response()
            thread = threading.Thread(target=self._listen, args=(server, connection), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.call("ECHO", self._mark)
        for thread in self._threads:
            thread.join(START_TIMEOUT)
            assert not thread.is_alive(), "MONITOR did not show its end mark"
        for server, before in zip(self.servers, self._before, strict=True):
            flags = _flags(server)
            for command, count in _calls(server).items():
                more = count - before.get(command, 0)
                if more and _mutates(command, flags[command]):
                    self.mutating.append(Seen(server.name, command, more))

    def _listen(self, server: Server, connection: Any) -> None:
        with suppress(redis.ConnectionError):  # the server was killed: what was seen until then counts
            while True:
                try:
                    line = connection.read_response(disconnect_on_error=False)
                except redis.TimeoutError:
                    continue
                args = [_unquote(part) for part in re.findall(r'"((?:[^"\\]|\\.)*)"', line.partition("]")[2])]
                if args[-1] == self._mark:
                    break
                self.commands.append(Seen(server.name, " ".join(args)))
        connection.disconnect()


def _unquote(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part)


def _mutates(command: str, flags: frozenset[str]) -> bool:
    return "write" in flags or ("admin" in flags and command not in _HARMLESS_ADMIN)


def _calls(server: Server) -> dict[str, int]:
    """Command (with "|subcommand") → calls so far, refused ones too."""
    return {
        name.removeprefix("cmdstat_"): stat["calls"] + stat["rejected_calls"]
        for name, stat in server.client().info("commandstats").items()
    }


def _flags(server: Server) -> dict[str, frozenset[str]]:
    """Command (with "|subcommand") → its flags, as the server itself says."""
    found: dict[str, frozenset[str]] = {}
    rest = list(server.call("COMMAND"))
    while rest:
        entry = rest.pop()
        found[entry[0]] = frozenset(entry[2])
        rest += entry[9]
    return found
