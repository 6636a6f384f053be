"""The redis-server of one instance: its process, its sockets, and whether it takes a redis.conf.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Account, HostError, mask, read, read_untrusted, run
else:
    from ansible.module_utils.slotwright_files import Account, HostError, mask, read, read_untrusted, run

BUS_PORT_OFFSET = 10000


class Place(Protocol):
    """As much of an instance as its process and its ports are known by."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def listen(self) -> Sequence[str]: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def pidfile(self) -> Path: ...


@dataclass(frozen=True)
class Candidate:
    """A server that an instance may run, and what it gets with that one.

    content: the text of redis.conf, secrets still as marks. drop_in: that of the systemd unit.
    open_files: so many need its maxclients, SPARE_FILES among them, without which Redis does not lower maxclients yet.
    """

    SPARE_FILES: ClassVar[int] = 96
    OWN_FILES: ClassVar[int] = 32

    server: str
    version: str
    content: str
    drop_in: str
    open_files: int


@dataclass(frozen=True)
class Instance:
    """One redis-server as the controller describes it.

    listen: addresses it binds. candidates: the wanted one first. link: leads to the server that it is started with.
    """

    name: str
    port: int
    listen: tuple[str, ...]
    tls: bool
    candidates: tuple[Candidate, ...]
    conf: Path
    environment: Path
    link: Path
    data_dir: Path
    logfile: Path
    pidfile: Path

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Instance:
        return cls(
            name=options["name"],
            port=options["port"],
            listen=tuple(options["listen"]),
            tls=options["tls"],
            candidates=tuple(Candidate(**one) for one in options["candidates"]),
            conf=Path(options["conf"]),
            environment=Path(options["environment"]),
            link=Path(options["link"]),
            data_dir=Path(options["data_dir"]),
            logfile=Path(options["logfile"]),
            pidfile=Path(options["pidfile"]),
        )

    @property
    def rewrite(self) -> Path:
        return self.data_dir / "rewrite.conf"

    @property
    def nodes(self) -> Path:
        return self.data_dir / "nodes.conf"

    @property
    def marker(self) -> Path:
        """Away from the data: says that the instance is a known member, and where its data are."""
        return self.conf.parent / "member"

    @property
    def wanted(self) -> Path:
        """There while a restart was asked for and has not come about."""
        return self.data_dir / "restart-wanted"

    @property
    def unit(self) -> str:
        return f"redis-cluster@{self.port}.service"


@dataclass(frozen=True)
class Process:
    """A process proved to be an instance's. A recycled pid has another start time."""

    pid: int
    start: int


def find_process(instance: Place) -> Process | None:
    """The running process of the instance, None when there is none.

    The pidfile only names a candidate, and so does the listening port: the proof is the process's working directory,
    which is the instance's data directory, and its title. A pid which another process has got since proves nothing.
    """
    for pid in _pids_to_try(instance):
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd")
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ours = cwd == os.path.realpath(instance.data_dir) and "-server" in title and f":{instance.port}" in title
        if ours and stat[0] != "Z":
            return Process(pid, int(stat[19]))
    return None


def proved(instance: Instance) -> Process:
    process = find_process(instance)
    if process is None:
        what = f"something answers at port {instance.port}, but it is not the process that was started"
        raise HostError("not-started", instance.name, what, f"see who listens there, and read {instance.logfile}")
    return process


def refuse_lost_data(instance: Instance) -> None:
    """Raises HostError for a known member whose data are not where they were: it would come up blank, as a stranger.

    Where its data are, but not its nodes.conf, before-start refuses, and knows more.
    """
    text = read(instance.marker)
    if text is None:
        return
    was = Path(text.strip())
    if os.path.realpath(was) == os.path.realpath(instance.data_dir):
        traces = ("nodes.conf", "nodes.conf.before-start", "appendonlydir", "appendonly.aof", "dump.rdb")
        if any((instance.data_dir / name).exists() for name in traces):
            return
        what = f"it is a known cluster member with its data in {was}, but there is no nodes.conf"
    else:
        if instance.nodes.exists() and not (was / "nodes.conf").exists():
            return  # they were moved
        what = f"it is a known cluster member with its data in {was}, and shall now have them in {instance.data_dir}"
    remedy = (
        "mount it, put the path back (redis_node_data_dir), or move the data there, so that none stay behind. "
        f"To start a new member instead, remove {instance.marker}"
    )
    raise HostError("data-elsewhere", instance.name, what, remedy)


def refuse_taken_ports(instance: Place) -> None:
    """Raises HostError where the port or the bus port of an instance that is to be started is not free."""
    for address in instance.listen:
        for port, use in ((instance.port, "its port"), (instance.port + BUS_PORT_OFFSET, "its cluster bus port")):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((address, port))
                    # Two sockets with SO_REUSEADDR may bind one place; only one may listen there.
                    probe.listen(1)
                except OSError as error:
                    raise _not_free(instance, address, port, use, error) from None


def _not_free(instance: Place, address: str, port: int, use: str, error: OSError) -> HostError:
    if error.errno == errno.EADDRINUSE:
        who = " and ".join(f"pid {pid} ({_command(pid)})" for pid in _listeners(port, address)) or "another process"
        what = f"{who} already listens on {address}:{port}, {use}"
        return HostError("port-taken", instance.name, what, "stop it, or choose another port in redis_node_ports")
    if error.errno == errno.EADDRNOTAVAIL:
        what = f"{address} is not an address of this host"
        remedy = "correct redis_node_address, or set `bind` in redis_node_config where clients see another address"
        return HostError("address-not-here", instance.name, what, remedy)
    what = f"cannot listen on {address}:{port}, {use}: {error.strerror}"
    return HostError("port-unusable", instance.name, what, "choose another port in redis_node_ports")


def validate(server: str, content: str, instance: Instance, account: Account, timeout: float) -> None:
    """Lets the real redis-server read the file, without port, cluster or data. Raises HostError with its own words."""
    scratch = tempfile.mkdtemp(prefix="redis-conf-")
    try:
        candidate = Path(scratch, "redis.conf")
        # Redis enters `dir` and opens `logfile` while it reads; these may not exist yet, and must not be touched.
        for ours in (instance.data_dir, instance.logfile):
            content = re.sub(rf"(?m)^(dir|logfile) {re.escape(str(ours))}$", rf"\1 {scratch}/\1", content)
        Path(scratch, "dir").mkdir()
        candidate.write_text(content)
        # The outermost last: once it is the account's, what stands at a name in it may be a link to anywhere.
        for path in (candidate, Path(scratch, "dir"), Path(scratch)):
            account.own(path, 0o700 if path.is_dir() else 0o600, account.uid)
        overrides = {
            "port": "0",
            "unixsocket": f"{scratch}/socket",
            "cluster-enabled": "no",
            "dir": scratch,
            "pidfile": f"{scratch}/pid",
            "daemonize": "no",
            "supervised": "no",
            "save": "",
            "appendonly": "no",
            "logfile": "",
            "loglevel": "notice",
            "syslog-enabled": "no",
        }
        if instance.tls:
            overrides["tls-port"] = "0"
        command = [
            server,
            str(candidate),
            *(word for name, value in overrides.items() for word in (f"--{name}", value)),
        ]
        said = _read_until_ready(command, account.become, timeout)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if said is not None:
        remedy = "correct this directive in the inventory"
        raise HostError("conf-refused", instance.name, _complaint(said, content), remedy)


def _read_until_ready(command: Sequence[str], become: Callable[[], None], timeout: float) -> str | None:
    """What the server says when it does not come up, None when it does. The server is stopped in either case."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, preexec_fn=become, cwd="/"
        )
        try:
            deadline = time.monotonic() + timeout
            while True:
                ended = process.poll() is not None
                out.seek(0)
                said = out.read()
                if "ready to accept connections" in said.lower():
                    return None
                if ended or time.monotonic() > deadline:
                    return said if ended else f"{said}\nnot ready within {timeout:g} s"
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()


def _complaint(said: str, content: str) -> str:
    """Redis's own words, with the line of redis.conf that they are about. Secrets are masked."""
    at = re.search(r"at line (\d+)\s*\n>>> (.*)\n(.*)", said)
    if at:
        return f"redis-server refuses line {at[1]} of redis.conf, `{mask(at[2].strip(chr(39)))}`: {at[3].strip()}"
    tail = [line.strip() for line in said.splitlines() if line.strip()][-3:]
    for secret in re.findall(r"^\s*(?:requirepass|masterauth|\S+-file-pass)\s+(\S+)", content, re.MULTILINE):
        tail = [line.replace(secret, "********") for line in tail]
    return f"redis-server does not start with this redis.conf: {' / '.join(tail)}"


def answers(instance: Instance) -> bool:
    """Whether a Redis answers at the port, be it only with -NOAUTH or -LOADING. With TLS: whether it accepts."""
    try:
        with socket.create_connection((connect_address(instance), instance.port), timeout=1) as connection:
            if instance.tls:
                return True
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-"))
    except OSError:
        return False


def connect_address(instance: Instance) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(instance.listen[0], instance.listen[0])


def server_version(server: str) -> str:
    """The version that the binary says it is."""
    said = run([server, "--version"]).stdout
    found = re.search(r"\bv=(\S+)", said)
    if not found:
        remedy = "set redis_install_bin_dir to the directory of a working redis-server"
        raise HostError("no-server", server, f"it does not say its version: {said.strip() or 'no output'}", remedy)
    return found[1]


def _pids_to_try(instance: Place) -> Iterator[int]:
    text = (read_untrusted(instance.pidfile) or "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        yield int(text)
    yield from _listeners(instance.port)


def _listeners(port: int, address: str = "") -> Iterator[int]:
    """Pids that listen on the port, at this or any address, as far as we may see them."""
    here = (_kernel_address(address), "00000000", "0" * 32)
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (read(Path(table)) or "").splitlines()[1:]:
            fields = row.split()
            local, _, number = fields[1].partition(":")
            if fields[3] == "0A" and int(number, 16) == port and (not address or local in here):
                sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        with contextlib.suppress(OSError):
            if any(os.readlink(entry.path) in sockets for entry in os.scandir(process / "fd")):
                yield int(process.name)


def _kernel_address(address: str) -> str:
    """As /proc/net/tcp writes it: words of four bytes in the machine's own order. Empty for a host name."""
    with contextlib.suppress(OSError):
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        words = (int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4))
        return "".join(f"{word:08X}" for word in words)
    return ""


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "unknown command"


def limits(process: Process) -> dict[str, int] | None:
    """What the kernel grants the process, None when it has ended: open_files, oom_score_adj, and most_files.

    Up to the last it may raise the first.
    """
    try:
        granted = Path(f"/proc/{process.pid}/limits").read_text()
        score = int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())
    except OSError:
        return None
    files = re.search(r"^Max open files +(\S+) +(\S+)", granted, re.MULTILINE)
    assert files
    soft, hard = (sys.maxsize if word == "unlimited" else int(word) for word in files.groups())
    return {"open_files": soft, "most_files": hard, "oom_score_adj": score}
