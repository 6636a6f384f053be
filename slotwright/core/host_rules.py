"""What is asked of each host, and of the hosts together, before Redis is put there: one function a question.

A fact that could not be read (None) raises no question. Look.gravity says how much weighs what a host lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import chain

from slotwright.core.looked import Disk, Look, Note, WantedHost, WantedInstance, hosts_in_words
from slotwright.core.topology import BUS_PORT_OFFSET
from slotwright.core.versions import below_floor
from slotwright.errors import Severity

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

# What the roles are tested on (molecule/), and what is known to have the same packages and tools.
TESTED_SYSTEMS = {"debian": ("12", "13")}
ALIKE_SYSTEMS = {"ubuntu": ("24.04",)}
# Part of the data that is written, and so copied, while a save or a full copy to a replica runs. The worst case is
# 1.0: "Redis may use up to 2 times the memory normally used" (redis.io, Redis administration). Half of it is much.
COPY_ON_WRITE = 0.5
# Below this, logs and the AOF have no room for a day of trouble (bytes).
DISK_LEAST = 256 * 2**20
# Files that Redis keeps for itself (server.h, CONFIG_MIN_RESERVED_FDS); with fewer it lowers maxclients.
RESERVED_FILES = 32
# From 10 on, Linux swaps out idle pages although there is memory; role redis_host sets 1.
SWAPPINESS_MOST = 10
# Used so much, swap says that memory was short already.
SWAP_USED_MOST = 0.25
# Seconds. Keys with a time to live carry the moment of their end: after a failover they end so much early or late, and
# logs cannot be laid side by side. A minute is no drift: the clock is not kept at all.
SKEW_WARNING, SKEW_ERROR = 1.0, 60.0

SET_NOW = "site.yml sets it (role redis_host); playbooks/preflight.yml does with -e redis_preflight_fix=true"


def host_notes(wanted: WantedHost, look: Look) -> Iterator[Note]:
    """Everything that can be said of one host alone."""
    if not look.error:
        yield from chain.from_iterable(question(wanted, look) for question in _QUESTIONS)


def _system(wanted: WantedHost, look: Look) -> Iterator[Note]:
    if look.system != "Linux":
        yield Note("system", ERROR, (wanted.name,), f"{look.system} is not supported", "use Linux")
    elif look.os_version not in TESTED_SYSTEMS.get(look.os, ()):
        name = " ".join(filter(None, (look.os, look.os_version))) or "its system"
        what = f"{name} is not one that the roles are tested on"
        if look.os_version in ALIKE_SYSTEMS.get(look.os, ()):
            what += ", but is known to have the same packages"
        tested = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in TESTED_SYSTEMS.items())
        yield Note("system", INFO, (wanted.name,), what, f"try it on one host first; tested are {tested}")
    if wanted.service == "systemd" and look.systemd is False:
        what = "systemd does not run there, but redis_node_service is systemd"
        yield Note("no-systemd", ERROR, (wanted.name,), what, "set redis_node_service: process for it")


def _ports(wanted: WantedHost, look: Look) -> Iterator[Note]:
    for port in look.ports:
        at = f"{port.port} or {port.port + BUS_PORT_OFFSET} (its bus port)"
        if port.state == "taken":
            remedy = "stop it, or choose another port in redis_node_ports"
            yield Note("port-taken", ERROR, (wanted.name,), port.who, remedy)
        elif port.state == "away":
            has = f"; it has {', '.join(look.addresses)}" if look.addresses else ""
            remedy = "correct redis_node_address; where clients see another address, set bind in redis_node_config"
            yield Note("address-not-here", ERROR, (wanted.name,), f"{port.who}{has}", remedy)
        elif port.state == "unusable":
            what = f"cannot listen on port {at}: {port.who}"
            yield Note("port-unusable", ERROR, (wanted.name,), what, "choose another port in redis_node_ports")


def _memory(wanted: WantedHost, look: Look) -> Iterator[Note]:
    limited = [i for i in wanted.instances if i.maxmemory]
    if len(limited) < len(wanted.instances):
        ports = ", ".join(str(i.port) for i in wanted.instances if not i.maxmemory)
        what = f"without maxmemory Redis grows until the kernel kills it (port {ports})"
        yield Note("no-maxmemory", INFO, (wanted.name,), what, "set maxmemory in redis_cluster_config")
    asked = sum(i.maxmemory for i in limited)
    if not asked:
        return
    together = f"maxmemory of its instances is {size(asked)} together"
    if look.memory_total is not None and asked > look.memory_total:
        what = f"{together}, but it has only {size(look.memory_total)} of memory"
        remedy = "lower maxmemory, or run fewer instances there"
        yield Note("memory", look.gravity, (wanted.name,), what, remedy, weight=asked / look.memory_total)
    elif look.memory_total is not None and asked * (1 + COPY_ON_WRITE) > look.memory_total:
        what = (
            f"{together}, of {size(look.memory_total)} of memory; a save may need {COPY_ON_WRITE:.0%} more for pages "
            "written meanwhile"
        )
        remedy = f"leave {size(asked * (1 + COPY_ON_WRITE))} for them: lower maxmemory, or run fewer instances there"
        yield Note("memory-headroom", WARNING, (wanted.name,), what, remedy, weight=asked / look.memory_total)
    coming = sum(i.maxmemory for i in limited if not _runs(look, i))
    if look.memory_available is not None and look.memory_available < coming:
        what = f"maxmemory of instances to be started is {size(coming)}, but only {size(look.memory_available)} is free"
        remedy = "see what else uses memory there (ps aux --sort -rss)"
        yield Note("memory-in-use", WARNING, (wanted.name,), what, remedy, weight=coming - look.memory_available)


def _disk(wanted: WantedHost, look: Look) -> Iterator[Note]:
    for path in look.silent:
        remedy = "a disk or network file system is gone (see dmesg and /proc/mounts): until it is back all hangs there"
        yield Note("dead-disk", WARNING, (wanted.name,), f"{path} does not answer", remedy)
    for disk in look.disks:
        if disk.free < DISK_LEAST:
            what = f"only {size(disk.free)} is free at {disk.path}, where its {disk.use} goes"
            remedy = f"make room: {size(DISK_LEAST)} is the least"
            yield Note(f"{disk.use}-disk", WARNING, (wanted.name,), what, remedy, weight=-disk.free)
        elif disk.use == "data":
            yield from _room_for_data(wanted, look, disk)


def _room_for_data(wanted: WantedHost, look: Look, disk: Disk) -> Iterator[Note]:
    """With every instance full one copy must fit, or the first save fails; and as many as there may be at a time."""
    there = [i for i in wanted.instances if i.port in disk.ports and i.disk_copies]
    one, most = sum(i.maxmemory for i in there), sum(i.maxmemory * i.disk_copies for i in there)
    room = disk.free + (disk.held or 0)
    has = f"{size(room)} is free at {disk.path} or holds its data"
    if room < one:
        what = f"{has}, but to save its instances once takes {size(one)} when they are full"
        remedy = f"give it {size(most)}, lower maxmemory, or turn off save and appendonly"
        yield Note("data-disk", look.gravity, (wanted.name,), what, remedy, weight=one - room)
    elif room < most:
        what = f"{has}, but full instances may take {size(most)} while an AOF at its largest is rewritten beside a dump"
        remedy = "give it so much, or lower maxmemory"
        yield Note("data-disk", WARNING, (wanted.name,), what, remedy, weight=most - room)


def _open_files(wanted: WantedHost, look: Look) -> Iterator[Note]:
    most = max((i.maxclients for i in wanted.instances), default=0)
    if look.open_files is not None and look.open_files < most + RESERVED_FILES:
        what = f"{look.open_files} open files is the most there, but maxclients {most} needs {most + RESERVED_FILES}"
        remedy = "raise the hard limit (nofile, fs.nr_open), or lower maxclients: Redis lowers it by itself, silently"
        yield Note("open-files", WARNING, (wanted.name,), what, remedy, weight=-look.open_files)


def _kernel(wanted: WantedHost, look: Look) -> Iterator[Note]:
    def note(code: str, what: str, remedy: str) -> Note:
        shown = SET_NOW if wanted.managed else f"{remedy}; role redis_host does it where redis_host_manage is true"
        return Note(code, WARNING, (wanted.name,), what, shown, mends=(wanted.name,) if wanted.managed else ())

    if look.thp == "always":
        what = "transparent huge pages are always on: saves copy 2 MiB for each byte written, and clients wait for that"
        yield note("thp", what, "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled")
    if look.overcommit not in (None, 1):
        what = f"vm.overcommit_memory is {look.overcommit}: with much data a save may be refused for lack of memory"
        yield note("overcommit", what, "sysctl vm.overcommit_memory=1")
    backlog = max((i.tcp_backlog for i in wanted.instances), default=0)
    if look.somaxconn is not None and look.somaxconn < backlog:
        what = f"net.core.somaxconn is {look.somaxconn}, and cuts down tcp-backlog {backlog}"
        yield note("somaxconn", what, f"sysctl net.core.somaxconn={backlog}")
    if look.swap_total and look.swappiness is not None and look.swappiness > SWAPPINESS_MOST:
        what = f"vm.swappiness is {look.swappiness}: idle data are swapped out, and come back slowly"
        yield note("swappiness", what, "sysctl vm.swappiness=1")


def _firewall(wanted: WantedHost, look: Look) -> Iterator[Note]:
    if wanted.any_firewall and look.packet_filter is False:
        what = "there is no packet filter: whoever reaches a bus port can join the cluster, for the bus has no password"
        remedy = "install nftables, or set redis_host_firewall: none to say that something else filters"
        yield Note("no-firewall", WARNING, (wanted.name,), what, remedy)


def _swap(wanted: WantedHost, look: Look) -> Iterator[Note]:
    if look.swap_total and look.swap_used is not None and look.swap_used > SWAP_USED_MOST * look.swap_total:
        what = f"{size(look.swap_used)} of {size(look.swap_total)} swap is used: memory was short already"
        remedy = "see what uses memory there (ps aux --sort -rss)"
        yield Note("swap-used", WARNING, (wanted.name,), what, remedy, weight=look.swap_used)


def _cpus(wanted: WantedHost, look: Look) -> Iterator[Note]:
    if look.cpus and look.cpus < len(wanted.instances):
        what = f"{len(wanted.instances)} instances share {look.cpus} CPUs"
        remedy = "run as many instances as it has CPUs at most: when all save at once, some may seem to have failed"
        yield Note("cpus", INFO, (wanted.name,), what, remedy)


def _clock_kept(wanted: WantedHost, look: Look) -> Iterator[Note]:
    if look.clock_synced is False:
        remedy = "run chrony or systemd-timesyncd there: `chronyc tracking`, `timedatectl`"
        yield Note("time-sync", WARNING, (wanted.name,), "the kernel says that nothing keeps its clock right", remedy)


def _version(wanted: WantedHost, look: Look) -> Iterator[Note]:
    version = look.server_version or wanted.version
    reason = below_floor(wanted.flavor, version) if version else None
    if reason:
        severity = look.gravity if wanted.strict_versions else WARNING
        yield Note("version-floor", severity, (wanted.name,), f"{wanted.flavor} {version} {reason[0]}", reason[1])


_QUESTIONS: tuple[Callable[[WantedHost, Look], Iterator[Note]], ...] = (
    _system, _ports, _memory, _disk, _open_files, _kernel, _firewall, _swap, _cpus, _clock_kept, _version,
)  # fmt: skip


def fleet_notes(wanted: Sequence[WantedHost], looks: Mapping[str, Look]) -> Iterator[Note]:
    """What only the hosts together tell."""
    seen = [(w, looks[w.name]) for w in wanted if w.name in looks and not looks[w.name].error]
    yield from _unlooked(wanted, looks, alone=not seen)
    yield from _machines(seen, [w.name for w in wanted])
    yield from _addresses(seen)
    yield from _clocks(seen)
    yield from _mixtures(seen)


Seen = Sequence[tuple[WantedHost, Look]]


def _unlooked(wanted: Sequence[WantedHost], looks: Mapping[str, Look], alone: bool) -> Iterator[Note]:
    """alone: no other host could be looked at either, so there is nothing to go on with."""
    severity = ERROR if alone else WARNING
    others = "" if alone else "; what runs elsewhere is not held up"
    for host in wanted:
        error = looks[host.name].error if host.name in looks else ""
        if "minimum of Python" in error or "interpreter" in error:
            remedy = f"install Python 3.8 or later there, or name one with ansible_python_interpreter{others}"
            yield Note("python", severity, (host.name,), f"its Python will not do: {error}", remedy)
        elif error:
            remedy = f"correct that; ansible-playbook -vvv shows more{others}"
            yield Note("not-looked", severity, (host.name,), f"it could not be looked at: {error}", remedy)


def _machines(seen: Seen, everybody: Sequence[str]) -> Iterator[Note]:
    def note(code: str, severity: Severity, hosts: Sequence[WantedHost], what: str, remedy: str) -> Note:
        names = tuple(w.name for w in hosts)
        return Note(code, severity, names, what, remedy, where=hosts_in_words(names, everybody))

    by_machine: dict[tuple[str, str], list[WantedHost]] = {}
    by_id: dict[str, dict[str, list[WantedHost]]] = {}
    by_kernel: dict[str, dict[str, list[WantedHost]]] = {}
    for wanted, look in seen:
        if look.machine_id and look.boot_id:
            by_machine.setdefault((look.machine_id, look.boot_id), []).append(wanted)
            by_id.setdefault(look.machine_id, {}).setdefault(look.boot_id, []).append(wanted)
            by_kernel.setdefault(look.boot_id, {}).setdefault(look.machine_id, []).append(wanted)
    for twins in by_machine.values():
        zones = _zones(twins)
        # As for the inventory: two clusters may share machines, but not two zones, nor two hosts of one cluster.
        if len(zones) > 1 or len({w.cluster for w in twins}) < len(twins):
            fate = f"zones {zones_in_words(zones)} fail together" if len(zones) > 1 else "replicas stand beside masters"
            what = f"one machine under {len(twins)} names: {fate}"
            remedy = "give a machine one name, with several ports in redis_node_ports"
            yield note("same-machine", ERROR, twins, what, remedy)
    for machine_id, boots in by_id.items():
        if len(boots) > 1:
            what = f"clones: all have the machine id {machine_id}"
            remedy = "on all but one: rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup; reboot"
            yield note("machine-id", WARNING, list(chain(*boots.values())), what, remedy)
    for machines in by_kernel.values():
        sharers = list(chain(*machines.values()))
        zones = _zones(sharers)
        if len(machines) > 1 and (len(zones) > 1 or len({w.cluster for w in sharers}) < len(sharers)):
            fate = f": zones {zones_in_words(zones)} fail together" if len(zones) > 1 else ", which fail together"
            severity = WARNING if len(zones) > 1 else INFO
            remedy = "spread them over machines; for tests this does"
            yield note("same-kernel", severity, sharers, f"containers on one kernel{fate}", remedy)


def _addresses(seen: Seen) -> Iterator[Note]:
    by_address = {wanted.address: wanted for wanted, _ in seen}
    boots = {wanted.name: look.boot_id for wanted, look in seen}
    for wanted, look in seen:
        for address in look.twins:
            other = by_address.get(address)
            # Names of one machine have each other's addresses; that is said already.
            if other and not ip_address(address).is_loopback and boots[other.name] != look.boot_id:
                what = f"has the address {address}, which is {other.name}'s"
                remedy = f"take {address} from one of them: packets go to either"
                yield Note("duplicate-address", ERROR, (wanted.name, other.name), what, remedy, f"host {wanted.name}")


def _clocks(seen: Seen) -> Iterator[Note]:
    """How far a clock is surely off from what most clocks say. Of each is known only that it lies within two bounds."""
    clocks = {wanted.name: look.clock for wanted, look in seen if look.clock}
    gravity = {wanted.name: look.gravity for wanted, look in seen}
    if not clocks:
        return
    # Marzullo's way: the span that lies within most bounds. It starts where one of them starts.
    start = max(sorted(low for low, _ in clocks.values()), key=lambda at: len(_around(at, clocks)))
    agreeing = _around(start, clocks)
    end = min(clocks[name][1] for name in agreeing)
    for name, (low, high) in clocks.items():
        off = max(low - end, start - high)
        if off > SKEW_WARNING:
            severity = gravity[name] if off > SKEW_ERROR else WARNING
            whom = f"those of {len(agreeing)} others" if len(agreeing) > 1 else f"{agreeing[0]}'s"
            what = f"its clock is {off:.1f} s or more {'ahead of' if low > end else 'behind'} {whom}"
            remedy = "set it right with chrony or systemd-timesyncd; after a failover keys expire so much early or late"
            yield Note("clock", severity, (name,), what, remedy, weight=off)


def _around(at: float, clocks: Mapping[str, tuple[float, float]]) -> list[str]:
    return [name for name, (low, high) in clocks.items() if low <= at <= high]


def _mixtures(seen: Seen) -> Iterator[Note]:
    for cluster in sorted({wanted.cluster for wanted, _ in seen}):
        mine = [(w, look) for w, look in seen if w.cluster == cluster]
        systems = {w.name: f"{look.os} {look.os_version or ''}".strip() for w, look in mine}
        servers = {w.name: look.server_version or w.version for w, look in mine}
        for code, severity, kinds in (("mixed-systems", INFO, systems), ("mixed-versions", WARNING, servers)):
            by_kind: dict[str, list[str]] = {}
            for name, kind in kinds.items():
                if kind:
                    by_kind.setdefault(kind, []).append(name)
            if len(by_kind) > 1:
                # The most common kind needs no names.
                usual = max(sorted(by_kind), key=lambda kind: len(by_kind[kind]))
                others = "; ".join(f"{kind} on {', '.join(by_kind[kind])}" for kind in sorted(by_kind) if kind != usual)
                thing = "systems" if code == "mixed-systems" else "servers"
                what = f"different {thing} in cluster {cluster}: {usual} on most, {others}"
                remedy = "bring all to one; while they differ, try every change on one of each"
                yield Note(code, severity, tuple(kinds), what, remedy, where=f"cluster {cluster}")


def _runs(look: Look, instance: WantedInstance) -> bool:
    port = look.port(instance.port)
    return port is not None and port.state in ("running", "silent")


def _zones(hosts: Sequence[WantedHost]) -> list[str]:
    return sorted({w.zone for w in hosts})


def zones_in_words(zones: Sequence[str]) -> str:
    return f"{', '.join(zones[:-1])} and {zones[-1]}"


def size(number: float) -> str:
    """Bytes as people write them: 1536 MiB, 8 GiB, 7.5 GiB."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number / 2**10:.0f} KiB"
