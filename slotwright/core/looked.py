"""What a preflight compares: what the inventory wants of a host, what one look at the host found, and what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from slotwright.core.hosts import listed_names
from slotwright.core.redis_conf import Value, listen_addresses
from slotwright.core.topology import BUS_PORT_OFFSET
from slotwright.errors import Finding, Severity

Endpoint = tuple[str, int]
"""IP address and port."""

# Of an instance's data, so many copies may lie on the disk at a time. AOF: a file that has grown to twice its base
# (auto-aof-rewrite-percentage 100), and the new base while it is rewritten. Dump: the old one and the new one, which is
# never written while an AOF is rewritten.
AOF_COPIES, DUMP_COPIES, BOTH_COPIES = 3, 2, 4
_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


@dataclass(frozen=True)
class WantedInstance:
    """maxmemory: bytes, 0 without a limit. disk_copies: how many of its data may lie on the disk at a time."""

    port: int
    listen: tuple[str, ...]
    data_dir: str
    pidfile: str
    maxmemory: int
    maxclients: int
    tcp_backlog: int
    disk_copies: int

    @classmethod
    def of(
        cls, port: int, address: str, directives: Mapping[str, Value], data_dir: str, run_dir: str
    ) -> WantedInstance:
        """Directives that are not stated have the default of templates/redis.conf.j2, or else Redis's own."""

        def number(name: str, default: int) -> int:
            return size_in_bytes(directives.get(name)) or default

        aof = directives.get("appendonly", True) in (True, "yes")
        dump = directives.get("save", True) not in ("", [""], [])
        return cls(
            port=port,
            listen=tuple(listen_addresses(directives.get("bind", address))),
            data_dir=f"{data_dir}/{port}",
            pidfile=f"{run_dir}/{port}.pid",
            maxmemory=number("maxmemory", 0),
            maxclients=number("maxclients", 10000),
            tcp_backlog=number("tcp-backlog", 511),
            disk_copies=BOTH_COPIES if aof and dump else AOF_COPIES if aof else DUMP_COPIES if dump else 0,
        )


def size_in_bytes(value: Value) -> int:
    """As redis.conf has it: 1024, "64mb", "2GB". 0 for what the real Redis would refuse."""
    found = re.fullmatch(r"(\d+)([a-z]*)", str(value).strip().lower())
    return int(found[1]) * _UNITS.get(found[2], 0) if found else 0


@dataclass(frozen=True)
class WantedHost:
    """One host of the inventory.

    playing: this run includes it. managed: role redis_host makes its kernel settings; firewall: and opens its ports;
    any_firewall: by whatever filter is there.
    servers: where its redis-server may be. version: as stated, "" where any will do. accept: codes of findings.
    """

    name: str
    cluster: str
    zone: str
    address: str
    service: str
    playing: bool
    managed: bool
    firewall: bool
    any_firewall: bool
    flavor: str
    version: str
    servers: tuple[str, ...]
    strict_versions: bool
    log_dir: str
    accept: tuple[str, ...]
    timeout: float
    instances: tuple[WantedInstance, ...]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> WantedHost:
        """From as_dict(), after Ansible has made lists of tuples."""
        instances = tuple(WantedInstance(**one | {"listen": tuple(one["listen"])}) for one in raw["instances"])
        lists = {name: tuple(raw[name]) for name in ("servers", "accept")}
        return cls(**{**raw, **lists, "instances": instances})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where other hosts connect to: port and bus port of each instance."""
        return tuple((self.address, p) for i in self.instances for p in (i.port, i.port + BUS_PORT_OFFSET))


@dataclass(frozen=True)
class Port:
    """State of an instance's port and bus port.

    running: the instance's own process is there. free: nothing is, and nothing ever was. taken, away, unusable: why it
    could not listen; `who` says more: the process in the way, or the kernel's words. UNSURE: nothing is there that we
    know of, and nothing of ours may take its place. member: it has a nodes.conf, and so was part of a cluster.
    """

    port: int
    state: str
    who: str = ""
    member: bool = False

    @property
    def is_used(self) -> bool:
        """Whether the instance runs, or did: it may be needed to repair something."""
        return self.state == "running" or self.state in UNSURE or self.member


# down: a member that does not run. starting: systemd is about to start it. silent: its directory does not answer.
UNSURE = ("down", "starting", "silent")


@dataclass(frozen=True)
class Disk:
    """Where directories are, or would be. use: data or log. held: bytes that the data of these ports take there."""

    use: str
    path: str
    free: int
    held: int | None
    ports: tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """One look at a host. None: it could not be read there. Sizes in bytes, times in seconds.

    clock: by how much its clock is ahead of the controller's, at least and at most. open_files: what a process of the
    service may reach. packet_filter: whether there is any. silent: directories that do not answer. twins: addresses of
    other hosts that this one has as well. listener: of its free ports, while they are proved. refused, blocked:
    endpoints of others that it could not connect to; blocked: why.
    """

    system: str = "Linux"
    os: str = ""
    os_version: str | None = None
    systemd: bool | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    swappiness: int | None = None
    thp: str | None = None
    overcommit: int | None = None
    somaxconn: int | None = None
    open_files: int | None = None
    cpus: int | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    clock: tuple[float, float] | None = None
    clock_synced: bool | None = None
    addresses: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    silent: tuple[str, ...] = ()
    packet_filter: bool | None = None
    server_version: str = ""
    ports: tuple[Port, ...] = ()
    listener: str = ""
    admitted: frozenset[Endpoint] | None = None
    tried: int = 0
    refused: frozenset[Endpoint] = frozenset()
    blocked: Mapping[Endpoint, str] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Look:
        """From what module redis_preflight returns."""
        if "error" in raw:
            return cls(error=raw["error"])
        listener = raw["listener"]
        return cls(
            **{name: raw[name] for name in _PLAIN},
            clock=tuple(raw["clock"]) if raw["clock"] else None,
            addresses=tuple(raw["addresses"]),
            twins=tuple(raw["twins"]),
            silent=tuple(raw["silent"]),
            disks=tuple(Disk(**disk | {"ports": tuple(disk["ports"])}) for disk in raw["disks"]),
            ports=tuple(Port(**port) for port in raw["ports"]),
            listener=listener["token"] if listener else "",
            admitted=None if raw["admitted"] is None else _endpoints(raw["admitted"]),
            refused=_endpoints(raw["refused"]),
            blocked={(address, port): why for address, port, why in raw["blocked"]},
        )

    @property
    def gravity(self) -> Severity:
        """Of what the host lacks: it must not stop a run that repairs what is there already."""
        return Severity.WARNING if all(port.is_used for port in self.ports) else Severity.ERROR

    def port(self, number: int) -> Port | None:
        """The state of the instance whose port or bus port this is."""
        return next((p for p in self.ports if number in (p.port, p.port + BUS_PORT_OFFSET)), None)


_PLAIN = (
    "system", "os", "os_version", "systemd", "memory_total", "memory_available", "swap_total", "swap_used",
    "swappiness", "thp", "overcommit", "somaxconn", "open_files", "cpus", "machine_id", "boot_id", "clock_synced",
    "server_version", "packet_filter", "tried",
)  # fmt: skip


def _endpoints(raw: Iterable[Sequence[Any]]) -> frozenset[Endpoint]:
    return frozenset((address, port) for address, port in raw)


@dataclass(frozen=True)
class Note:
    """A finding before it is folded. hosts: whom it concerns. where: if not simply these hosts.

    weight: of notes with a weight that differ in `what` alone, the one with most weight speaks for all.
    mends: hosts on which role redis_host mends it.
    """

    code: str
    severity: Severity
    hosts: tuple[str, ...]
    what: str
    remedy: str
    where: str = ""
    weight: float | None = None
    mends: tuple[str, ...] = ()


def fold(notes: Iterable[Note], everybody: Sequence[str]) -> tuple[Finding, ...]:
    """One finding for the same thing on many hosts, sorted by severity."""
    alike: dict[tuple[str, Severity, str, str, str], list[Note]] = {}
    for note in notes:
        what = note.what if note.weight is None else ""
        alike.setdefault((note.code, note.severity, note.where, note.remedy, what), []).append(note)
    findings = []
    for (code, severity, where, remedy, _), group in alike.items():
        worst = max(group, key=lambda note: note.weight or 0)
        hosts = [h for h in everybody if any(h in note.hosts for note in group)]
        what = worst.what
        if len(hosts) > 1 and len({note.what for note in group}) > 1:
            what += f" (this is {worst.hosts[0]}, the worst of them)"
        findings.append(Finding(code, where or hosts_in_words(hosts, everybody), what, remedy, severity))
    return tuple(sorted(findings, key=lambda f: (f.severity.rank, f.code, f.where, f.what)))


def hosts_in_words(hosts: Sequence[str], everybody: Sequence[str]) -> str:
    if len(hosts) > 2 and len(hosts) == len(everybody):
        return f"all {len(hosts)} hosts"
    return f"host{'s' * (len(hosts) > 1)} {listed_names(hosts)}"
