"""The faults of a drill: how each is done to instances of a host, and how it is undone.

Nothing here waits for the moment, or remembers: see slotwright_healer. Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import HostError, read, run
    from plugins.module_utils.slotwright_process import Instance, Process, answers, find_process
    from plugins.module_utils.slotwright_service import ASK_AGAIN, Daemons, Systemd, systemctl

    # Records for good when each of these ports was struck, or healed: seconds since the epoch.
    Note = Callable[[Mapping[int, float]], None]
else:
    from ansible.module_utils.slotwright_files import HostError, read, run
    from ansible.module_utils.slotwright_process import Instance, Process, answers, find_process
    from ansible.module_utils.slotwright_service import ASK_AGAIN, Daemons, Systemd, systemctl

CUTS = ("partition", "partition-one-way", "bus-only")
KINDS = ("stop", "kill", "freeze", *CUTS, "reboot")
RUNTIME_UNITS = Path("/run/systemd/system")  # empty after a boot
# Drop-ins of all directories are read in the order of their names, so that an operator's own comes before it.
DROP_IN = "zzzz-slotwright-drill.conf"
NO_RESTART = "# A drill keeps it down. Healing takes this file away.\n[Service]\nRestart=no\nRestartForceExitStatus=\n"
_POLL = 0.05
LAUNCH_AGAIN = 2.0  # seconds
NFT_AGAIN = 0.5  # seconds
NFT_WITHIN = 30.0  # seconds


def instance_at(conf_dir: Path, port: int) -> Instance:
    """The instance at the port, by its redis.conf. Raises HostError where there is none."""
    conf = conf_dir / str(port) / "redis.conf"
    text = read(conf)
    if text is None:
        there = ", ".join(sorted(path.parent.name for path in conf_dir.glob("*/redis.conf"))) or "none"
        what = f"there is no instance at port {port}: {conf} is missing. Ports of instances here: {there}"
        raise HostError("unknown-port", socket.gethostname(), what, "name ports of this host")
    stated = _directives(text)
    listen = [{"*": "0.0.0.0", "::*": "::"}.get(word, word) for word in stated.get("bind", []) if word[:1] != "-"]
    data_dir = Path(stated.get("dir", [str(conf.parent)])[0])
    return Instance(
        name=f"{listen[0] if listen else socket.gethostname()}:{port}",
        port=port,
        listen=tuple(listen or ["127.0.0.1"]),
        tls=stated.get("tls-port", ["0"]) == [str(port)],
        candidates=(),
        conf=conf,
        environment=conf.parent / "environment",
        link=conf.parent / "redis-server",
        data_dir=data_dir,
        logfile=Path(stated.get("logfile", [str(data_dir / "redis.log")])[0]),
        pidfile=Path(stated.get("pidfile", [f"/run/redis-cluster/{port}.pid"])[0]),
    )


def _directives(text: str) -> dict[str, list[str]]:
    """The last line of each directive counts. Lines that Redis would not read either are left out."""
    stated = {}
    for line in text.splitlines():
        try:
            words = shlex.split(line.strip()) if not line.lstrip().startswith("#") else []
        except ValueError:
            continue
        if len(words) > 1:
            stated[words[0].lower()] = words[1:]
    return stated


@dataclass(frozen=True)
class Cut:
    """mine: addresses of this host. others: those that they are cut off from. keep: that must never be among these.

    bus_ports: of both sides. Where there are any, only TCP from and to these is cut.
    """

    mine: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    bus_ports: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Cut:
        """Raises ValueError, which names what is no address."""
        addresses = {
            name: tuple(sorted({str(ipaddress.ip_address(one)) for one in options.get(name) or ()}))
            for name in ("mine", "others", "keep")
        }
        return cls(**addresses, bus_ports=tuple(sorted(set(options.get("bus_ports") or ()))))


@dataclass
class Strike:
    """A fault at these instances. struck: what ran at each port when it began; another process is no longer that.

    Each method but `heal` raises HostError.
    """

    instances: Sequence[Instance]
    service: Daemons
    struck: dict[int, Process] = field(default_factory=dict)

    def refuse(self) -> None:
        """Where it could not be done, or not be healed."""
        for instance in self.instances:
            _refuse_unfit(instance)

    def look(self) -> None:
        self.struck = {instance.port: _running(instance) for instance in self.instances}

    def prepare(self) -> None:
        """What takes a while, shortly before."""

    def begin(self, note: Note) -> None:
        """At all instances at once. What was done until it failed is noted too."""
        done = {}
        try:
            for instance in self.instances:
                # The one of before may have been started again since.
                process = self.struck[instance.port] = _running(instance)
                self._hit(instance, process)
                done[instance.port] = time.time()
        finally:
            note(done)

    def _hit(self, instance: Instance, process: Process) -> None:
        raise NotImplementedError

    def tend(self, instances: Sequence[Instance]) -> None:
        """Often, while the fault lasts. instances: those that were struck."""

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        """At these ports, which were struck. Says what went wrong. until: in terms of time.monotonic()."""
        raise NotImplementedError

    def _at(self, ports: Collection[int]) -> list[Instance]:
        return [instance for instance in self.instances if instance.port in ports]


class Freeze(Strike):
    """SIGSTOP: its connections stay, and nothing is answered."""

    def _hit(self, instance: Instance, process: Process) -> None:
        _send(signal.SIGSTOP, instance, process)

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        gone = []
        for instance in self._at(ports):
            process = find_process(instance)
            try:
                if process and _state(process) in "Tt":
                    _send(signal.SIGCONT, instance, process)
            except (HostError, ProcessLookupError):  # it ended just now; the others are healed all the same
                process = None
            if process:
                note({instance.port: time.time()})
            else:
                gone.append(instance)
        # The service manager may be about to bring it back.
        errors = _await_running(gone, until, note)
        return [f"{error}: it ended while it was frozen. Start it (site.yml does), then run again" for error in errors]


class Down(Strike):
    """The process ends, and is started again to heal."""

    def refuse(self) -> None:
        super().refuse()
        if isinstance(self.service, Systemd) and os.geteuid():
            what, remedy = "only root may stop and start units", "become root (ansible_become: true)"
            raise HostError("not-allowed", socket.gethostname(), what, remedy)
        for instance in self.instances:
            if not instance.link.exists():
                what = f"there is no {instance.link}, by which it would be started again"
                raise HostError("no-server", instance.name, what, "run site.yml, which makes it")
        script = self.service.conf_dir / "before-start"
        if not isinstance(self.service, Systemd) and not os.access(script, os.X_OK):
            what = f"there is no {script}, by which they would be started again"
            raise HostError("no-script", socket.gethostname(), what, "run site.yml, which makes it")

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        return _bring_back(self.service, self._at(ports), self.struck, until, note, self.tend)


@dataclass
class Stop(Down):
    """As an operator stops it: SIGTERM, upon which it saves where redis.conf says so.

    Redis refuses to end while it writes its first AOF, and forgets that it was asked: it is asked again each second.
    """

    _asked: float = 0.0

    def _hit(self, instance: Instance, process: Process) -> None:
        self._asked = time.monotonic()
        self.service.end(instance, process)

    def tend(self, instances: Sequence[Instance]) -> None:
        if time.monotonic() > self._asked + ASK_AGAIN:
            self._asked = time.monotonic()
            for instance in instances:
                Daemons.end(self.service, instance, self.struck.get(instance.port))


class Kill(Down):
    """SIGKILL. Under systemd a drop-in keeps it down meanwhile: one of those that are gone after a boot."""

    def prepare(self) -> None:
        if isinstance(self.service, Systemd):
            for path in map(_runtime_drop_in, self.instances):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                path.write_text(NO_RESTART)
            systemctl("daemon-reload")

    def _hit(self, instance: Instance, process: Process) -> None:
        _send(signal.SIGKILL, instance, process)

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        errors = []
        there = [path for path in map(_runtime_drop_in, self.instances) if path.exists()]
        if there and isinstance(self.service, Systemd):
            try:
                for path in there:
                    path.unlink()
                    with contextlib.suppress(OSError):  # somebody else's drop-in is in it
                        path.parent.rmdir()
                systemctl("daemon-reload")
            except (HostError, OSError) as error:
                errors.append(str(error))
        return errors + super().heal(ports, until, note)


@dataclass
class Partition(Strike):
    """Packets between two sides vanish, by one table of its own: what any table drops stays dropped.

    one_way: only those that go out. So no connection is made in either direction, but what needs no answer comes in.
    """

    cut: Cut = field(default_factory=Cut)
    one_way: bool = False
    bus_only: bool = False
    table: str = "slotwright_drill"

    def refuse(self) -> None:
        super().refuse()
        self._refuse_addresses()
        for address in self.cut.mine:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((address, 0))
                except OSError:
                    what = f"{address} of `mine` is not an address of this host"
                    remedy = "name the addresses that packets of its instances carry"
                    raise HostError("address-not-here", socket.gethostname(), what, remedy) from None
        self._nft(self.rules(), "--check")

    def _refuse_addresses(self) -> None:
        cut, here = self.cut, socket.gethostname()
        for one, other in (("others", "keep"), ("mine", "others")):
            both = sorted(set(getattr(cut, one)) & set(getattr(cut, other)))
            if both:
                what = f"{', '.join(both)} cannot be in `{one}` and in `{other}`"
                raise HostError("cut-overlaps", here, what, "leave what must stay reachable out of `others`")
        if not self._pairs():
            what = "nothing would be cut: `mine` and `others` have no addresses of the same family"
            raise HostError("nothing-to-cut", here, what, "name addresses of both sides")
        if self.bus_only and not cut.bus_ports:
            what = "bus-only needs `bus_ports`"
            raise HostError("nothing-to-cut", here, what, "name the bus ports of both sides")

    def begin(self, note: Note) -> None:
        self._nft(self.rules())
        now = time.time()
        note({instance.port: now for instance in self.instances})

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        errors = []
        if ports and run([_program(), "list", "table", "inet", self.table]).returncode:
            errors.append(f"table {self.table} was gone before it was healed: see who flushes the rules of nftables")
        while True:
            try:
                self._nft(f"table inet {self.table}\ndelete table inet {self.table}\n")
                break
            except HostError as error:  # as where another program holds the rules; nothing is worse than to give up
                if time.monotonic() > until:
                    return [*errors, str(error)]
                time.sleep(NFT_AGAIN)
        now = time.time()
        note(dict.fromkeys(ports, now))
        return errors

    def rules(self) -> str:
        """One transaction, also where a table of that name was left. Before connection tracking: nothing is let by."""
        outward, inward = self._rules()
        hooks = "".join(
            f"  chain {hook} {{\n    type filter hook {hook} priority -300; policy accept;\n{lines}  }}\n"
            for hook, lines in (("output", outward), ("input", inward))
            if lines
        )
        forget = f"table inet {self.table}\ndelete table inet {self.table}\n"
        return f"{forget}table inet {self.table} {{\n{hooks}}}\n"

    def _rules(self) -> tuple[str, str]:
        what = [""]
        if self.bus_only:
            ports = _set(map(str, self.cut.bus_ports))
            what = [f"tcp {end} {ports} " for end in ("sport", "dport")]
        outward, inward = [], []
        for family, mine, others in self._pairs():
            for which in what:
                outward.append(f"    {family} saddr {mine} {family} daddr {others} {which}drop\n")
                inward.append(f"    {family} saddr {others} {family} daddr {mine} {which}drop\n")
        return "".join(outward), "" if self.one_way else "".join(inward)

    def _pairs(self) -> list[tuple[str, str, str]]:
        """nft's name of the family, and its addresses of both sides, for each that both have."""
        pairs = []
        for family, v6 in (("ip", False), ("ip6", True)):
            mine, others = ([a for a in side if (":" in a) == v6] for side in (self.cut.mine, self.cut.others))
            if mine and others:
                pairs.append((family, _set(mine), _set(others)))
        return pairs

    def _nft(self, text: str, *options: str) -> None:
        command = [_program(), *options, "-f", "-"]
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=NFT_WITHIN)
        except subprocess.TimeoutExpired:
            what = f"nft did not end within {NFT_WITHIN:g} s"
            raise HostError("nft", socket.gethostname(), what, "find out what holds it up, then run again") from None
        if done.returncode:
            said = done.stderr.strip() or "no word"
            what, remedy = f"nft refuses the rules: {said}", "see whether this kernel has nftables"
            if "not permitted" in said:
                what = f"nft may not change rules here: {said}"
                remedy = "become root (ansible_become: true); a container needs the capability NET_ADMIN"
            raise HostError("nft", socket.gethostname(), what, remedy)


class Reboot(Strike):
    """The host goes down as an operator takes it down. Its units come back by themselves."""

    def refuse(self) -> None:
        super().refuse()
        if not isinstance(self.service, Systemd):
            what = "it would not come back: only units are started by a boot, and redis_node_service is process"
            raise HostError("no-systemd", socket.gethostname(), what, "choose another kind of fault")
        if os.geteuid():
            what, remedy = "only root may reboot", "become root (ansible_become: true)"
            raise HostError("not-allowed", socket.gethostname(), what, remedy)
        for instance in self.instances:
            if run(["systemctl", "is-enabled", instance.unit]).stdout.strip() != "enabled":
                what = f"{instance.unit} is not enabled: a boot would not start it"
                raise HostError("not-enabled", instance.name, what, "run site.yml, which enables it")

    def begin(self, note: Note) -> None:
        now = time.time()
        note({instance.port: now for instance in self.instances})  # there may be no time for it afterwards
        systemctl("reboot")

    def heal(self, ports: Collection[int], until: float, note: Note) -> list[str]:
        return _await_running(self._at(ports), until, note)


def strike_of(kind: str, instances: Sequence[Instance], service: Daemons, cut: Cut, table: str) -> Strike:
    if kind in CUTS:
        one_way, bus_only = kind == "partition-one-way", kind == "bus-only"
        return Partition(instances, service, cut=cut, one_way=one_way, bus_only=bus_only, table=table)
    kinds: dict[str, type[Strike]] = {"stop": Stop, "kill": Kill, "freeze": Freeze, "reboot": Reboot}
    return kinds[kind](instances, service)


def _bring_back(
    service: Daemons,
    instances: Sequence[Instance],
    struck: Mapping[int, Process],
    until: float,
    note: Note,
    tend: Callable[[Sequence[Instance]], None],
) -> list[str]:
    """Starts them, and again where a start fails that may succeed later, as that of a master that waits for a replica.

    One that was told to end and still saves is started when it has ended. systemd itself waits for that.
    """
    said: dict[int, str] = {}
    again = 0.0
    waiting = list(instances)
    while waiting:
        now = time.monotonic()
        ending = [i for i in waiting if struck.get(i.port) and find_process(i) == struck[i.port]]
        tend(ending)
        due = [i for i in waiting if i not in ending and not find_process(i)] if now >= again else []
        # One by one, so that one which fails holds up no other; a daemon is started as soon as its script has ended.
        for group in [[i] for i in due] if isinstance(service, Systemd) else [due] if due else []:
            try:
                service.launch(group)
            except (HostError, OSError) as error:
                said.update((i.port, str(error)) for i in group if not find_process(i))
                if isinstance(service, Systemd) and _goes_down():
                    until = 0.0
            again = time.monotonic() + LAUNCH_AGAIN
        back = [i for i in waiting if i not in ending and find_process(i) and answers(i)]
        note({i.port: time.time() for i in back})
        waiting = [i for i in waiting if i not in back]
        if time.monotonic() > until:
            break
        if waiting:
            time.sleep(_POLL)
    why = "it was told to end and has not, or does not answer"
    return [f"{i.name} is not back: {said.get(i.port, why)}" for i in waiting]


def _goes_down() -> bool:
    """Whether systemd starts nothing any more, for the host is about to go down. A boot starts its units."""
    return run(["systemctl", "is-system-running"]).stdout.strip() == "stopping"


def _await_running(instances: Sequence[Instance], until: float, note: Note) -> list[str]:
    """For those that come back without us. When they were healed is when their process began."""
    waiting = list(instances)
    while waiting:
        for instance in list(waiting):
            process = find_process(instance)
            if process and answers(instance):
                note({instance.port: started_at(process)})
                waiting.remove(instance)
        if time.monotonic() > until:
            break
        if waiting:
            time.sleep(_POLL)
    return [f"{instance.name} does not run" for instance in waiting]


def started_at(process: Process) -> float:
    """Seconds since the epoch."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _running(instance: Instance) -> Process:
    process = find_process(instance)
    if process is None:
        what, remedy = "it does not run", "start it first (site.yml does): a drill begins with all up"
        if os.geteuid():
            what += ", or is of another user, whose processes this one may not look at"
            remedy += ". If it is, become root (ansible_become: true)"
        raise HostError("not-running", instance.name, what, remedy)
    return process


def _refuse_unfit(instance: Instance) -> None:
    """For one that does not run, is frozen already, or is not ours to signal."""
    process = _running(instance)
    if _state(process) in "Tt":
        what = f"its process {process.pid} is stopped already (SIGSTOP, or a debugger)"
        raise HostError("frozen", instance.name, what, f"find out by whom; `kill -CONT {process.pid}` lets it go on")
    try:
        os.kill(process.pid, 0)
    except PermissionError:
        what = f"this user may not send signals to its process {process.pid}"
        raise HostError("not-allowed", instance.name, what, "become root (ansible_become: true)") from None


def _state(process: Process) -> str:
    """A letter, see proc(5). X where it has ended."""
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _send(number: signal.Signals, instance: Instance, process: Process) -> None:
    """To this very process, or to none."""
    if find_process(instance) != process:
        raise HostError("not-running", instance.name, f"its process {process.pid} has ended", "see its log, start it")
    os.kill(process.pid, number)


def _runtime_drop_in(instance: Instance) -> Path:
    return RUNTIME_UNITS / f"{instance.unit}.d" / DROP_IN


def _set(words: Collection[str] | Any) -> str:
    return f"{{ {', '.join(words)} }}"


def _program() -> str:
    """Of root's own directories too: not every login has these on its path."""
    path = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        what, remedy = "there is no nft, by which packets are dropped", "install the package nftables"
        raise HostError("no-nft", socket.gethostname(), what, remedy)
    return path
