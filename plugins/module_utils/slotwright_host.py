"""All Redis instances of one host: files, processes and service, made to be as they are described.

Runs on the host: standard library only, Python 3.8 and later. Nothing here speaks to the cluster, and nothing here
restarts an instance that is running.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BUS_PORT_OFFSET = 10000
SYSTEMD = Path("/run/systemd/system")  # there exactly while systemd is the init system: sd_booted(3)
UNIT_FILE = Path("/etc/systemd/system/redis-cluster@.service")
_SECRET_LINE = re.compile(
    r"^(?P<name>\s*(?:requirepass|masterauth|tls-key-file-pass|tls-client-key-file-pass|user)\s).*$",
    re.MULTILINE | re.IGNORECASE,
)
_POLL = 0.05


class HostError(Exception):
    """Something is wrong on the host: what, at which instance, and what to do next."""

    def __init__(self, code: str, where: str, what: str, remedy: str) -> None:
        self.finding = {"code": code, "where": where, "what": what, "remedy": remedy, "severity": "error"}
        super().__init__(f"{where}: {what}. {remedy[:1].upper()}{remedy[1:]}.")


@dataclass(frozen=True)
class Instance:
    """One redis-server as the controller describes it.

    listen: addresses it binds. content: the text of redis.conf, secrets still as marks.
    """

    name: str
    port: int
    listen: tuple[str, ...]
    tls: bool
    content: str
    conf: Path
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
            content=options["content"],
            conf=Path(options["conf"]),
            data_dir=Path(options["data_dir"]),
            logfile=Path(options["logfile"]),
            pidfile=Path(options["pidfile"]),
        )

    @property
    def rewrite(self) -> Path:
        return self.data_dir / "rewrite.conf"

    @property
    def unit(self) -> str:
        return f"redis-cluster@{self.port}.service"


@dataclass(frozen=True)
class Account:
    """Who Redis runs as. When we are not root it is whoever we are, and nothing changes its owner."""

    uid: int
    gid: int
    switch: bool

    @classmethod
    def of(cls, user: str, group: str, *, fallback: bool) -> Account:
        """fallback: take our own account where that one is missing: before anything is installed, and to stop."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), switch=False)
        try:
            return cls(pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid, switch=True)
        except KeyError:
            if fallback:
                return cls(os.geteuid(), os.getegid(), switch=False)
            what = f"there is no user {user} or no group {group}"
            remedy = "make them, or set redis_node_user and redis_node_group to those that Redis shall run as"
            raise HostError("no-user", socket.gethostname(), what, remedy) from None

    def become(self) -> None:
        """For subprocess's preexec_fn. Redis's files are its own business: umask 077."""
        os.umask(0o077)
        if self.switch:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)


@dataclass(frozen=True)
class Process:
    """A process proved to be an instance's. A recycled pid has another start time."""

    pid: int
    start: int


@dataclass
class Outcome:
    """What was done (in check mode: what would be done), and what stands there now."""

    changed: bool = False
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)

    def note(self, header: str, before: str, after: str) -> None:
        self.changed = True
        self.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})


@dataclass
class Host:
    """The wanted state of the host. check: only find out what would change."""

    instances: Sequence[Instance]
    server: str
    service: str
    account: Account
    before_start: Path
    before_start_content: str
    unit_content: str
    secrets: Mapping[str, str]
    timeout: float
    check: bool
    outcome: Outcome = field(default_factory=Outcome)
    _files: dict[str, list[str]] = field(default_factory=dict)

    def start(self) -> Outcome:
        """Directories, files, service, running processes. Everything is proved before the first file is replaced."""
        if self.service == "systemd" and not SYSTEMD.is_dir():
            what = "systemd does not run here, but redis_node_service is systemd"
            raise HostError("no-systemd", socket.gethostname(), what, "set redis_node_service to process for this host")
        installed = self._installed()
        running = {i.name: find_process(i) for i in self.instances}
        to_start = [i for i in self.instances if not running[i.name]]
        for instance in to_start:
            refuse_taken_ports(instance)
        for instance in self.instances:
            if installed and _read(instance.conf) != self._content(instance):
                validate(self.server, self._content(instance), instance, self.account, self.timeout)
        self._directories()
        for instance in self.instances:
            self._file(instance.conf, self._content(instance), 0o640, instance.name)
            if not instance.rewrite.exists():
                self._file(instance.rewrite, "", 0o600, instance.name, owner=self.account.uid)
        self._file(self.before_start, self.before_start_content, 0o755)
        if self.service == "systemd":
            self._systemd()
        for instance in to_start:
            self.outcome.note(instance.name, "stopped\n", "running\n")
        if not self.check:
            self._start_processes(to_start)
            running.update((i.name, _proved(i)) for i in to_start)
        for instance in self.instances:
            self._report(instance, running[instance.name], started=instance in to_start, server_version=installed)
        return self.outcome

    def stop(self, *, remove: bool, remove_data: bool) -> Outcome:
        """Stops the instances; remove: also takes their configuration away, remove_data: and all they stored."""
        for instance in self.instances:
            process = find_process(instance)
            if process or self._unit_is_up(instance):
                self.outcome.note(instance.name, "running\n", "stopped\n")
                if not self.check:
                    self._stop_process(instance, process)
            if remove and self.service == "systemd" and UNIT_FILE.exists() and not self.check:
                _systemctl("disable", "--quiet", instance.unit)
            doomed = [instance.conf.parent] if remove else []
            doomed += [instance.data_dir, instance.logfile] if remove_data else []
            for path in doomed:
                self._remove(path, instance.name)
            self._report(instance, None, started=False, server_version="")
        if remove:
            self._remove_when_last()
        return self.outcome

    def _installed(self) -> str:
        """Version of the server. Empty in check mode on a host where it would have been installed by now."""
        if self.check and not Path(self.server).exists():
            self.outcome.warnings.append(f"{self.server} is not installed yet: redis.conf could not be tried with it")
            return ""
        return server_version(self.server)

    def _content(self, instance: Instance) -> str:
        text = instance.content
        for mark, secret in self.secrets.items():
            text = text.replace(mark, secret)
        return text

    def _directories(self) -> None:
        ours = 0 if self.account.switch else self.account.uid
        for instance in self.instances:
            for path in (instance.conf.parent.parent, instance.conf.parent, instance.data_dir.parent):
                self._directory(path, 0o750, ours)
            for path in (instance.data_dir, instance.logfile.parent):
                self._directory(path, 0o750, self.account.uid)
            self._directory(instance.pidfile.parent, 0o755, self.account.uid)

    def _directory(self, path: Path, mode: int, uid: int) -> None:
        there = path.is_dir()
        if there and _same(path, mode, uid, self.account):
            return
        if not there and not self.check:
            path.mkdir(mode=mode, parents=True)
        self._changed(str(path))
        if not self.check:
            _own(path, mode, uid, self.account)

    def _file(self, path: Path, content: str, mode: int, name: str = "", owner: int | None = None) -> bool:
        """Puts the file there as a whole or not at all. Without an owner it is root's (not root: ours)."""
        uid = owner if owner is not None else 0 if self.account.switch else self.account.uid
        before = _read(path)
        if before == content:
            if not _same(path, mode, uid, self.account):
                self._changed(str(path), name)
                if not self.check:
                    _own(path, mode, uid, self.account)
            return False
        self._changed(str(path), name)
        self.outcome.note(str(path), mask(before or ""), mask(content))
        if not self.check:
            descriptor, new = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
            with os.fdopen(descriptor, "w") as stream:
                stream.write(content)
                stream.flush()
                # By descriptor: whoever may write to the directory could have put a link at the name by now.
                _own(stream.fileno(), mode, uid, self.account)
                os.fsync(stream.fileno())
            Path(new).replace(path)
        return True

    def _changed(self, path: str, name: str = "") -> None:
        self.outcome.changed = True
        for instance in self.instances:
            if name in ("", instance.name):
                self._files.setdefault(instance.name, []).append(path)

    def _remove(self, path: Path, name: str = "") -> None:
        if path.exists():
            self._changed(str(path), name)
            self.outcome.note(str(path), "there\n", "removed\n")
            if not self.check:
                shutil.rmtree(str(path)) if path.is_dir() else path.unlink()

    def _remove_when_last(self) -> None:
        """Takes away what the instances share, where no other instance of the host is left to need it."""
        root = self.before_start.parent
        if root.is_dir() and not [p for p in root.iterdir() if p.is_dir() and (p / "redis.conf").exists()]:
            self._remove(self.before_start)
            if self.service == "systemd" and UNIT_FILE.exists():
                self._remove(UNIT_FILE)
                if not self.check:
                    _systemctl("daemon-reload")
        for instance in self.instances:
            files = (instance.conf.parent, instance.data_dir, instance.logfile, instance.pidfile)
            for path in (file.parent for file in files):
                if not self.check and path.is_dir() and not any(path.iterdir()):
                    path.rmdir()

    def _systemd(self) -> None:
        if self._file(UNIT_FILE, self.unit_content, 0o644) and not self.check:
            _systemctl("daemon-reload")
        units = [i.unit for i in self.instances]
        # One line a unit, none at all while the template unit is not there.
        states = dict(zip(units, _run(["systemctl", "is-enabled", *units]).stdout.split()))
        missing = [unit for unit in units if states.get(unit) != "enabled"]
        if missing:
            before, after = ("".join(f"{unit} {state}\n" for unit in missing) for state in ("not enabled", "enabled"))
            self.outcome.note("systemd", before, after)
            if not self.check:
                _systemctl("enable", "--quiet", *missing)

    def _start_processes(self, instances: Sequence[Instance]) -> None:
        """All at once, then waits for each: the slowest decides, not the sum."""
        for instance in instances:
            if self.service == "systemd":
                _systemctl("start", "--no-block", instance.unit)
            else:
                self._launch([str(self.before_start), str(instance.data_dir), str(instance.conf)], instance)
                self._launch([self.server, str(instance.rewrite), "--include", str(instance.conf)], instance)
        deadline = time.monotonic() + self.timeout
        for instance in instances:
            # Redis listens a moment before it takes its title, by which its process is proved to be the one.
            while not (answers(instance) and find_process(instance)):
                if time.monotonic() > deadline and answers(instance):
                    break
                if time.monotonic() > deadline:
                    what = f"it did not answer at {connect_address(instance)}:{instance.port} within {self.timeout:g} s"
                    remedy = f"read the end of its log:\n{self._last_words(instance)}"
                    raise HostError("not-started", instance.name, what, remedy)
                time.sleep(_POLL)
            while self.service == "systemd" and (state := self._unit_state(instance)) != "active":
                if time.monotonic() > deadline:
                    what = f"it answers, but after {self.timeout:g} s {instance.unit} is not active but {state}"
                    remedy = (
                        "take a redis-server that is built with libsystemd: the unit has Type=notify, and any other "
                        "never says that it is ready. If it is still loading its data, wait, or raise "
                        f"redis_node_timeout. The end of its log:\n{self._last_words(instance)}"
                    )
                    raise HostError("not-active", instance.name, what, remedy)
                time.sleep(_POLL)

    def _launch(self, command: Sequence[str], instance: Instance) -> None:
        done = _run(command, preexec_fn=self.account.become, cwd="/", timeout=self.timeout)
        if done.returncode:
            said = "\n".join(filter(None, (done.stdout.strip(), done.stderr.strip()))) or self._last_words(instance)
            what = f"{command[0]} ended with status {done.returncode}"
            raise HostError("not-started", instance.name, what, f"it said:\n{said}")

    def _last_words(self, instance: Instance) -> str:
        if self.service == "systemd":
            journal = _run(["journalctl", "--no-pager", "-n", "8", "-o", "cat", "-u", instance.unit]).stdout
        else:
            journal = ""
        log = (_read(instance.logfile) or "").splitlines()[-8:]
        return "\n".join(filter(None, [journal.strip(), *log])) or f"(nothing in {instance.logfile})"

    def _unit_state(self, instance: Instance) -> str:
        return _run(["systemctl", "is-active", instance.unit]).stdout.strip()

    def _unit_is_up(self, instance: Instance) -> bool:
        """Whether systemd runs the unit or is about to: also while it is activating, as between two failed starts."""
        if self.service != "systemd" or not SYSTEMD.is_dir():
            return False
        return self._unit_state(instance) not in ("inactive", "failed", "unknown", "")

    def _stop_process(self, instance: Instance, process: Process | None) -> None:
        if self._unit_is_up(instance):
            _systemctl("stop", "--no-block", instance.unit)
        elif process and find_process(instance) == process:  # of no unit: redis_node_service was `process` before
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.timeout
        while (process and find_process(instance) == process) or self._unit_is_up(instance):
            if time.monotonic() > deadline:
                what = f"it did not end within {self.timeout:g} s of SIGTERM"
                remedy = f"wait for it to save its data, then run again; its log is {instance.logfile}"
                raise HostError("not-stopped", instance.name, what, remedy)
            time.sleep(_POLL)

    def _report(self, instance: Instance, process: Process | None, *, started: bool, server_version: str) -> None:
        self.outcome.instances.append(
            {
                "name": instance.name,
                "port": instance.port,
                "pid": process.pid if process else None,
                "running": process is not None,
                "started": started,
                "changed_files": self._files.get(instance.name, []),
                "restart_pending": process is not None and self._restart_pending(instance, process),
                "server_version": server_version,
            }
        )

    def _restart_pending(self, instance: Instance, process: Process) -> bool:
        # A server that was replaced at its own path reads "… (deleted)" there.
        if os.readlink(f"/proc/{process.pid}/exe") != os.path.realpath(self.server):
            return True
        started_with = (_read(instance.data_dir / "redis.conf.started") or "").split(" ")[0].strip()
        return started_with != hashlib.sha256(self._content(instance).encode()).hexdigest()


def converge(options: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """From the options of module redis_instances to what it returns. Raises HostError."""
    if not options["instances"]:
        what, remedy = "no instances were handed over", "set action_plugins in ansible.cfg to plugins/action"
        raise HostError("no-instances", "redis_instances", what, remedy)
    try:
        host = Host(
            instances=[Instance.from_options(one) for one in options["instances"]],
            server=options["server"],
            service=options["service"],
            account=Account.of(
                options["user"],
                options["group"],
                fallback=options["state"] != "started" or (check and not Path(options["server"]).exists()),
            ),
            before_start=Path(options["conf_dir"], "before-start"),
            before_start_content=options["before_start"],
            unit_content=options["unit"],
            secrets=options["secrets"] or {},
            timeout=options["timeout"],
            check=check,
        )
        if options["state"] == "started":
            outcome = host.start()
        else:
            outcome = host.stop(
                remove=options["state"] == "absent",
                remove_data=options["state"] == "absent" and options["remove_data"],
            )
    except PermissionError as error:
        what = f"not allowed: {error.strerror} at {error.filename}"
        remedy = "become root (ansible_become: true), or choose directories that this user may write to"
        raise HostError("not-allowed", socket.gethostname(), what, remedy) from error
    except OSError as error:
        what = " at ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        remedy = "see what stands at this path and whether its file system is full or read-only, then run again"
        raise HostError("os-error", socket.gethostname(), what, remedy) from error
    return asdict(outcome)


def find_process(instance: Instance) -> Process | None:
    """The running process of the instance, None when there is none.

    The pidfile only names a candidate, and so does the listening port: the proof is the process's working directory,
    which is the instance's data directory, and its title. A pid which another process has got since proves nothing.
    """
    for pid in _candidates(instance):
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


def _proved(instance: Instance) -> Process:
    process = find_process(instance)
    if process is None:
        what = f"something answers at port {instance.port}, but it is not the process that was started"
        raise HostError("not-started", instance.name, what, f"see who listens there, and read {instance.logfile}")
    return process


def refuse_taken_ports(instance: Instance) -> None:
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


def _not_free(instance: Instance, address: str, port: int, use: str, error: OSError) -> HostError:
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
        for path in (Path(scratch), Path(scratch, "dir"), candidate):
            _own(path, 0o700 if path.is_dir() else 0o600, account.uid, account)
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


def mask(text: str) -> str:
    """A redis.conf with the values of secret directives hidden."""
    return _SECRET_LINE.sub(r"\g<name>********", text)


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
    said = _run([server, "--version"]).stdout
    found = re.search(r"\bv=(\S+)", said)
    if not found:
        remedy = "set redis_install_bin_dir to the directory of a working redis-server"
        raise HostError("no-server", server, f"it does not say its version: {said.strip() or 'no output'}", remedy)
    return found[1]


def _candidates(instance: Instance) -> Iterator[int]:
    text = (_read(instance.pidfile) or "").strip()
    if text.isdigit():
        yield int(text)
    yield from _listeners(instance.port)


def _listeners(port: int, address: str = "") -> Iterator[int]:
    """Pids that listen on the port, at this or any address, as far as we may see them."""
    here = (_kernel_address(address), "00000000", "0" * 32)
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (_read(Path(table)) or "").splitlines()[1:]:
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


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _same(path: Path, mode: int, uid: int, account: Account) -> bool:
    stat = path.stat()
    owned = not account.switch or (stat.st_uid, stat.st_gid) == (uid, account.gid)
    return owned and stat.st_mode & 0o7777 == mode


def _own(path: Path | int, mode: int, uid: int, account: Account) -> None:
    """path: of a directory entry that only we can replace, or else a file descriptor."""
    if account.switch:
        os.chown(path, uid, account.gid)
    os.chmod(path, mode)  # noqa: PTH101


def _systemctl(*words: str) -> None:
    done = _run(["systemctl", *words])
    if done.returncode:
        what = f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}"
        remedy = "see `journalctl -xe`; on a host without systemd set redis_node_service to process"
        raise HostError("systemd", socket.gethostname(), what, remedy)


def _run(command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **more)
    except FileNotFoundError:
        what, remedy = f"there is no {command[0]}", "install it, or correct its path"
        raise HostError("no-program", socket.gethostname(), what, remedy) from None
    except subprocess.TimeoutExpired:
        what = f"{command[0]} did not end within {more['timeout']:g} s"
        remedy = "find out what holds it up, or raise redis_node_timeout"
        raise HostError("timeout", socket.gethostname(), what, remedy) from None
