"""The process that does a fault of a drill and heals it, whatever becomes of the controller; and what it writes down.

No fault exists without its healer: it is the healer that does it. Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils import slotwright_service
    from plugins.module_utils.slotwright_files import Account, HostError, read, run
    from plugins.module_utils.slotwright_process import Instance, Process
    from plugins.module_utils.slotwright_reach import detach
    from plugins.module_utils.slotwright_service import Daemons, Systemd
    from plugins.module_utils.slotwright_strike import Cut, Strike, strike_of
else:
    from ansible.module_utils import slotwright_service
    from ansible.module_utils.slotwright_files import Account, HostError, read, run
    from ansible.module_utils.slotwright_process import Instance, Process
    from ansible.module_utils.slotwright_reach import detach
    from ansible.module_utils.slotwright_service import Daemons, Systemd
    from ansible.module_utils.slotwright_strike import Cut, Strike, strike_of

NAME = "redis-drill"  # of the process; at most 15 characters, comm(5)
POLL = 0.1  # seconds within which a healer does what it is told to
PREPARE = 5.0  # seconds before the fault: systemd reads all its units again, which takes a while
SPARED = "-1000"  # never, see proc(5), oom_score_adj
START_WITHIN = 20.0  # seconds until a healer must have said that it is there
BUS = Path("/run/dbus/system_bus_socket")


@dataclass
class Record:
    """What is known of a drill on this host. Times are seconds since the epoch, by this host's clock.

    phase: armed, nothing was done; striking, it may have been; struck, `began` says where; over. processes: pid and
    start of what ran at each port. healer: its pid and start. The rest is what healing needs.
    """

    drill: str
    kind: str
    ports: list[int]
    at: float
    seconds: float
    armed_at: float
    boot_id: str
    table: str
    service: str
    conf_dir: str
    user: str
    group: str
    environment: dict[str, str]
    timeout: float
    cut: dict[str, Any]
    instances: list[dict[str, Any]]
    phase: str = "armed"
    began: dict[str, float] = field(default_factory=dict)
    healed: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    processes: dict[str, list[int]] = field(default_factory=dict)
    healer: list[int] = field(default_factory=list)

    @property
    def deadline(self) -> float:
        return self.at + self.seconds

    @property
    def alive(self) -> bool:
        """Whether its healer lives."""
        return self.boot_id == boot_id() and bool(self.healer) and start_of(self.healer[0]) == self.healer[1]

    @property
    def hit(self) -> list[int]:
        """Ports that are to be healed. Where a healer died in the act, nobody knows which it struck."""
        if self.phase == "striking" and not self.alive:
            return self.ports
        return [port for port in self.ports if str(port) in self.began]

    @property
    def unhealed(self) -> list[int]:
        return [port for port in self.hit if str(port) not in self.healed]

    def strike(self) -> Strike:
        """As it is done, or healed, by whoever reads this."""
        cut = Cut(**{name: tuple(value) for name, value in self.cut.items()})
        instances = [Instance.from_options({**one, "candidates": ()}) for one in self.instances]
        strike = strike_of(self.kind, instances, self._service(), cut, self.table)
        strike.struck = {int(port): Process(*ids) for port, ids in self.processes.items()}
        return strike

    def _service(self) -> Daemons:
        account = Account.of(self.user, self.group, fallback=self.service == "systemd")
        common = (account, Path(self.conf_dir), self.environment, self.timeout)
        return Systemd(*common, "") if self.service == "systemd" else Daemons(*common)


@dataclass(frozen=True)
class Store:
    """The directory of the record. Whoever may write there decides what we do, so it must be ours alone."""

    directory: Path

    @property
    def state(self) -> Path:
        return self.directory / "state.json"

    @property
    def ask(self) -> Path:
        """There when the healer is to heal at once."""
        return self.directory / "heal"

    def load(self) -> Record | None:
        """None where there is none. Raises HostError."""
        if not self.directory.exists():
            return None
        self.refuse()
        text = read(self.state)
        if text is None:
            return None
        try:
            known = {one.name for one in fields(Record)}
            return Record(**{name: value for name, value in json.loads(text).items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            what = f"{self.state} cannot be read as the record of a drill: {error}"
            remedy = "see whether rules (nft list tables) or stopped processes are left, then remove the file"
            raise HostError("bad-record", socket.gethostname(), what, remedy) from None

    def save(self, record: Record) -> None:
        """As a whole or not at all, and for good: the host may go down the next moment."""
        descriptor, new = tempfile.mkstemp(dir=str(self.directory), prefix=".state.")
        with os.fdopen(descriptor, "w") as stream:
            json.dump(asdict(record), stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(new).replace(self.state)
        above = os.open(str(self.directory), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)

    def clear(self) -> None:
        for path in (self.ask, self.state):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def refuse(self) -> None:
        there = os.lstat(str(self.directory))
        ours = there.st_uid in (0, os.geteuid()) and not there.st_mode & 0o022
        if not (stat.S_ISDIR(there.st_mode) and ours):
            what = f"{self.directory} is no directory that only this user, or root, may write to"
            raise HostError("not-ours", socket.gethostname(), what, "remove it: it is made anew")


def boot_id() -> str:
    """Of the kernel, and when its init was started: the kernel of a container goes on when that is booted again."""
    return f"{(read(Path('/proc/sys/kernel/random/boot_id')) or '').strip()}/{start_of(1)}"


def start_of(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when there is none. A zombie is none."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(words[19]) if words[0] != "Z" else None


def since_boot() -> float:
    """Seconds. No clock that is set moves it, and it goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def heal(record: Record, strike: Strike, save: Callable[[], None]) -> None:
    """Notes in the record what was healed when, and what went wrong. Never raises what a host may do to us."""

    def note(times: Mapping[int, float]) -> None:
        record.healed.update((str(port), at) for port, at in times.items())
        save()

    if record.boot_id != boot_id():
        strike.struck = {}  # those of before the boot
    elif record.phase == "striking" and not record.alive:
        # It died in the act: whoever still runs when all signals have come was not struck, or is up again.
        time.sleep(1)
        strike.struck = {}
    try:
        record.errors += strike.heal(record.unhealed, time.monotonic() + record.timeout, note)
    except Exception as error:
        record.errors.append(_words(error))


class Healer:
    """A process of its own. It waits, strikes, waits and heals; told to by SIGTERM or a file, it heals at once."""

    def __init__(self, record: Record, strike: Strike, store: Store) -> None:
        self.record, self.strike, self.store = record, strike, store
        self._told = False
        # From here on no clock that is set makes the fault longer.
        self._begins = since_boot() + record.at - time.time()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._tell)
        score = _spare(SPARED)
        try:
            self._strike()
        except Exception as error:  # whatever it is: what was done is healed
            self.record.errors.append(_words(error))
        if self.record.kind == "reboot" and self.record.began and not self.record.errors:
            self._await_reboot()
        elif self.record.phase != "armed":
            _spare(score)  # what is started now inherits it
            heal(self.record, self.strike, self._save)
        self.record.phase = "over"
        self._save()

    def _strike(self) -> None:
        if not self._until(self._begins - PREPARE):
            return
        self.strike.look()
        self.record.phase = "striking"
        self._note_processes()
        self.store.save(self.record)  # or nobody could heal it in our place
        self.strike.prepare()
        if self._until(self._begins):
            self.strike.begin(self._began)
            self._until(self._begins + self.record.seconds, lambda: self.strike.tend(self.strike.instances))

    def _began(self, times: Mapping[int, float]) -> None:
        self.record.began.update((str(port), at) for port, at in times.items())
        self.record.phase = "struck"
        self._note_processes()
        self._save()

    def _note_processes(self) -> None:
        self.record.processes = {str(port): [one.pid, one.start] for port, one in self.strike.struck.items()}

    def _await_reboot(self) -> None:
        """The end of us is what is to come: SIGTERM, and then all is over. What is on the disk says what happened."""
        while since_boot() < self._begins + self.record.seconds:
            time.sleep(POLL)
            if self._told:
                os._exit(0)
        self.record.errors.append(f"the host did not go down within {self.record.seconds:g} s of `systemctl reboot`")

    def _until(self, moment: float, tend: Callable[[], None] = lambda: None) -> bool:
        """Whether the moment came. False where we are told to heal before it."""
        while not self._told and not self.store.ask.exists():
            left = moment - since_boot()
            if left <= 0:
                return True
            time.sleep(min(left, POLL))
            tend()
        return False

    def _save(self) -> None:
        """A disk that is full must not keep us from healing."""
        try:
            self.store.save(self.record)
        except OSError as error:
            self.record.errors.append(f"the record could not be written: {_words(error)}")

    def _tell(self, *_: object) -> None:
        self._told = True


def start(record: Record, store: Store) -> None:
    """A healer, which lives on without us. Returns when it has written its record. Raises HostError."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        # Not a return, not an exception: we are a copy of the module, which must not go on twice.
        try:
            os.setsid()
            if os.fork() == 0:
                _live(record, store, into)
        finally:
            os._exit(0)
    os.close(into)  # or we would wait for ever for a child that ended without a word
    os.waitpid(child, 0)
    ready, _, _ = select.select([out], [], [], START_WITHIN)
    said = json.loads(os.read(out, 65536) or b"{}") if ready else {}
    os.close(out)
    if "healer" in said:
        record.healer = said["healer"]
        return
    what = f"the process that is to heal did not come to live: {said.get('error', 'it ended without a word')}"
    raise HostError("no-healer", socket.gethostname(), what, "nothing was done; mend that, then run again")


def _live(record: Record, store: Store, into: int) -> None:
    detach([into])
    try:
        os.umask(0o077)
        Path("/proc/self/comm").write_text(NAME)
        _own_scope()
        record.healer = [os.getpid(), start_of(os.getpid()) or 0]
        healer = Healer(record, record.strike(), store)
        store.save(record)
        os.write(into, json.dumps({"healer": record.healer}).encode())
    except Exception as error:
        store.clear()
        os.write(into, json.dumps({"error": _words(error)}).encode())
        return
    os.close(into)
    healer.run()


def _spare(score: str) -> str:
    """How early memory that runs out ends us, where we may say so. What it was before."""
    path = Path("/proc/self/oom_score_adj")
    before = path.read_text()
    with contextlib.suppress(OSError):
        path.write_text(score)
    return before


def _own_scope() -> None:
    """Out of the session by which we came, which logind may end as a whole. Without a bus there is no logind."""
    if not slotwright_service.BOOTED.is_dir() or os.geteuid() or not (BUS.exists() and shutil.which("busctl")):
        return
    pid = os.getpid()
    scope = f"slotwright-drill-{pid}.scope"
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    properties = (
        *("Description", "s", "Heals a drill of Redis Cluster"),
        *("CollectMode", "s", "inactive-or-failed"),
        *("PIDs", "au", "1", str(pid)),
    )
    call = ("StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", "3", *properties, "0")
    done = run(["busctl", "call", *manager, *call])
    until = time.monotonic() + 5
    while not done.returncode and scope not in (read(Path("/proc/self/cgroup")) or ""):
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    else:
        if not done.returncode:
            return
    what = f"systemd did not give the healer a scope of its own: {done.stderr.strip() or 'not within 5 s'}"
    raise HostError("no-scope", socket.gethostname(), what, "see `journalctl -xe`")


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return " at ".join(str(part) for part in (error.strerror, error.filename) if part)
    return str(error) or type(error).__name__
