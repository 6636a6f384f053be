"""From inventory variables to clusters that can be built, or to the complete list of what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from slotwright.core.hosts import Address, Member, Notes, directive_problems, listed_names, plain, read_host
from slotwright.core.placement import place
from slotwright.core.redis_conf import DEFAULT_SETTINGS
from slotwright.core.topology import BUS_PORT_OFFSET, Instance, Topology, default_shards
from slotwright.core.values import Variable, WrongValueError, in_words, read
from slotwright.core.variables import TABLE
from slotwright.errors import Finding, Refused

_REDIS_OWN_DEFAULTS = {**DEFAULT_SETTINGS, "cluster-node-timeout": "15000"}
_SETTING_PATTERNS = {
    "cluster-node-timeout": (r"[1-9]\d{2,}", "write milliseconds, 100 or more"),
    "repl-diskless-sync-delay": (r"\d+", "write seconds, 0 or more"),
    "cluster-replica-no-failover": (r"yes|no", "write yes or no"),
}
_SSH_CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")


RESHARD = ("latency_budget_ms", "keys_per_second", "mb_per_second", "strategy", "move_big_keys")


@dataclass(frozen=True)
class Cluster:
    """One cluster of the inventory: what it shall be, and how the controller talks to it.

    shards: as stated, None when the inventory leaves it to the number of instances. timeout: seconds. reshard: how hard
    slot moves may press the nodes, by the names of RESHARD.
    """

    topology: Topology
    shards: int | None
    username: str | None
    password: str | None = field(repr=False)
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    reach: str
    timeout: float
    strict_versions: bool
    reshard: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Inventory:
    """All clusters, sorted by name."""

    clusters: tuple[Cluster, ...]


def read_inventory(
    hosts: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    file_exists: Callable[[str], bool] = lambda path: True,
) -> Inventory:
    """Check everything that can be known without touching a host. Raises Refused with all findings, not the first.

    hostvars: the evaluated variables of each host; `Unreadable` stands for those that could not be evaluated.
    file_exists: tells whether the controller has a file.
    """
    if not hosts:
        raise Refused([_EMPTY_GROUP])
    notes = Notes()
    members = [read_host(host, hostvars[host], notes) for host in hosts]
    clusters = {}
    for name in sorted({m.cluster for m in members}):
        mine = [m for m in members if m.cluster == name]
        clusters[name] = _read_cluster(name, mine, notes, file_exists)
    _check_machines(members, notes)
    findings = list(notes.findings())
    for name, cluster in clusters.items():
        if cluster is not None and not notes.concern(m.name for m in members if m.cluster == name):
            try:
                place(cluster.topology)
            except Refused as refused:
                findings += refused.findings
    if not findings:
        findings = [_open_to_all(name) for name in clusters if _is_open(name, members)]
    if findings:
        raise Refused(findings)
    return Inventory(tuple(c for c in clusters.values() if c is not None))


_EMPTY_GROUP = Finding(
    "empty-group",
    "group redis",
    "it has no hosts",
    "name the hosts under the group redis, each with redis_node_zone, and check that -i names the right inventory",
)


def _is_open(cluster: str, members: Sequence[Member]) -> bool:
    """Whether anybody who reaches the nodes could log in without a password, and the inventory does not say so.

    Redis itself then turns away all clients from other machines (protected-mode), the other nodes included.
    """
    mine = [m for m in members if m.cluster == cluster]
    login = (mine[0].raw.get("redis_cluster_password"), mine[0].raw.get("redis_cluster_username") or "default")
    if all(m.address and plain(m.address).is_loopback for m in mine) or (login[0] and login[1] == "default"):
        return False
    levels = [d for m in mine for d in (m.raw.get("redis_cluster_config"), m.values.get("redis_node_config"))]
    return not any(isinstance(d, Mapping) and not _CLOSES.isdisjoint(d) for d in levels)


_CLOSES = frozenset({"aclfile", "user", "protected-mode"})
"""Directives by which an inventory says itself who may log in."""


def _open_to_all(cluster: str) -> Finding:
    return Finding(
        "open-to-all",
        f"cluster {cluster}, redis_cluster_password",
        "without a password for the default user Redis turns away every client from another machine, and without "
        "protected-mode it would let everybody in",
        "set redis_cluster_password (and leave redis_cluster_username out), or state who may log in with the "
        "directives user or aclfile, or set protected-mode to false in redis_cluster_config behind a firewall",
    )


def _read_cluster(
    name: str, members: Sequence[Member], notes: Notes, file_exists: Callable[[str], bool]
) -> Cluster | None:
    values = {v.name: _agreed(name, v, members, notes) for v in TABLE if v.agree}
    for problem in directive_problems(values["redis_cluster_config"] or {}):
        notes.cluster(name, members, "redis_cluster_config", *problem)
    _check_access(name, values, members, notes)
    _check_zone_spelling(name, members, notes)
    _check_loopback(name, members, notes)
    _check_files(name, values, members, notes, file_exists)
    settings = _settings(name, values["redis_cluster_config"] or {}, members, notes)
    if notes.concern(m.name for m in members):
        return None
    leaving = leavers(name, members, values["redis_cluster_absent"] or [], notes)
    if notes.concern(m.name for m in members):
        return None
    gone = {instance.name for instance in leaving}
    staying = [(m, i) for m in members for i in m.instances if i.name not in gone]
    if not staying:
        what = "all of its instances are stated as removed"
        remedy = "leave some; to take the whole cluster down there is playbooks/destroy.yml"
        notes.cluster(name, members, "redis_node_state", "nobody-stays", what, remedy)
        return None
    weights = ((i.name, m.weight(i.port)) for m, i in staying)
    replicas, shards = values["redis_cluster_replicas"], values["redis_cluster_shards"]
    topology = Topology(
        name,
        tuple(i for _, i in staying),
        replicas,
        shards or default_shards(len(staying), replicas),
        values["redis_cluster_allow_zone_risk"],
        tuple(settings.items()),
        leaving,
        tuple((instance, weight) for instance, weight in weights if weight != 1),
        values["redis_cluster_threshold"] / 100,
    )
    return Cluster(
        topology,
        shards,
        values["redis_cluster_username"],
        values["redis_cluster_password"],
        values["redis_cluster_tls_ca"],
        values["redis_cluster_tls_cert"],
        values["redis_cluster_tls_key"],
        values["redis_cluster_reach"],
        values["redis_cluster_timeout"],
        values["redis_cluster_strict_versions"],
        tuple((name, values[f"redis_reshard_{name}"]) for name in RESHARD),
    )


def leavers(cluster: str, members: Sequence[Member], stated: Sequence[str], notes: Notes) -> tuple[Instance, ...]:
    """The instances that are stated as removed: by redis_node_state, or named in redis_cluster_absent (`stated`).

    One that the inventory does not name stands on a host of its own, whose name is its address.
    """
    by_host = {m.name: m.instances for m in members}
    known = {i.name: i for some in by_host.values() for i in some}
    by_endpoint = {i.endpoint: i.name for i in known.values()}
    found = {i.name: i for m in members if m.leaves for i in m.instances}
    for entry in stated:
        if entry in by_host:
            found |= {i.name: i for i in by_host[entry]}
        elif entry in known:
            found[entry] = known[entry]
        elif entry in by_endpoint:
            what = f"{entry} is the address of {by_endpoint[entry]}, which the inventory names"
            notes.cluster(cluster, members, _ABSENT, "not-a-stranger", what, f"write {by_endpoint[entry]}")
        elif stranger := _stranger(entry):
            found[entry] = stranger
        else:
            near = difflib.get_close_matches(entry, [*by_host, *known], n=1)
            remedy = f"write {near[0]}, if that is meant" if near else "name a host, host:port, or IP address:port"
            what = f"{entry} is no host and no instance of the cluster"
            notes.cluster(cluster, members, _ABSENT, "unknown-instance", what, remedy)
    return tuple(found.values())


_ABSENT = "redis_cluster_absent"


def _stranger(entry: str) -> Instance | None:
    address, _, port = entry.rpartition(":")
    try:
        ip_address(address)
    except ValueError:
        return None
    valid = port.isdecimal() and 1 <= int(port) <= 65535
    return Instance(entry, address, "", address, int(port)) if valid else None


def _agreed(cluster: str, variable: Variable, members: Sequence[Member], notes: Notes) -> Any:
    """The one value that all hosts of a cluster have, None where they have none or it is wrong."""
    good: dict[str, tuple[Any, list[str]]] = {}
    bad: dict[tuple[str, str, str], list[Member]] = {}
    for member in members:
        try:
            value = read(variable, member.raw.get(variable.name))
        except WrongValueError as wrong:
            bad.setdefault((wrong.code, wrong.what, wrong.remedy), []).append(member)
        else:
            good.setdefault(repr(value), (value, []))[1].append(member.name)
    for (code, what, remedy), owners in bad.items():
        if len(owners) == len(members):
            notes.cluster(cluster, members, variable.name, code, what, remedy)
        else:
            for member in owners:
                notes.host(member.name, variable.name, code, what, remedy)
    if len(good) > 1:
        shown = (
            f"{'one value' if variable.secret and v else in_words(v)} on {listed_names(hosts)}"
            for v, hosts in good.values()
        )
        notes.cluster(
            cluster,
            members,
            variable.name,
            "differs",
            f"all hosts of a cluster must agree, but it is {' and '.join(shown)}",
            "set it once for all of them, in group_vars",
        )
    return next(iter(good.values()))[0] if len(good) == 1 and not bad else None


def _check_access(cluster: str, values: Mapping[str, Any], members: Sequence[Member], notes: Notes) -> None:
    def note(variable: str, code: str, what: str, remedy: str) -> None:
        notes.cluster(cluster, members, variable, code, what, remedy)

    def stated(variable: str) -> bool:
        return any(m.raw.get(variable) is not None for m in members)

    cert, key = stated("redis_cluster_tls_cert"), stated("redis_cluster_tls_key")
    if cert != key:
        here, gone = ("redis_cluster_tls_cert", "redis_cluster_tls_key")[:: 1 if cert else -1]
        note(here, "tls-pair", f"it is set without {gone}", f"set {gone} too, or neither")
    if values["redis_node_tls"] and not stated("redis_cluster_tls_ca"):
        note(
            "redis_node_tls",
            "tls-without-ca",
            "TLS is on, but redis_cluster_tls_ca is not set, so the controller cannot tell the nodes from an impostor",
            "set redis_cluster_tls_ca to the CA certificate's path on the controller",
        )
    if values["redis_node_tls"] is False and stated("redis_cluster_tls_ca"):
        note(
            "redis_cluster_tls_ca",
            "tls-not-on",
            "the controller would speak TLS to nodes that do not",
            "set redis_node_tls to true, or leave the redis_cluster_tls_ variables out",
        )
    if stated("redis_cluster_username") and not stated("redis_cluster_password"):
        note(
            "redis_cluster_username",
            "username-without-password",
            "a user is named, but no password",
            "set redis_cluster_password, or leave the user out",
        )
    if values["redis_cluster_reach"] == "ssh":
        for member in members:
            connection = str(member.raw.get("ansible_connection") or "ssh")
            if connection not in _SSH_CONNECTIONS:
                notes.host(
                    member.name,
                    "redis_cluster_reach",
                    "reach-needs-ssh",
                    f"reach ssh goes through the host's SSH, but its ansible_connection is {connection}",
                    "use reach direct, or connect to the host by ssh",
                )


def _check_files(
    cluster: str,
    values: Mapping[str, Any],
    members: Sequence[Member],
    notes: Notes,
    file_exists: Callable[[str], bool],
) -> None:
    def missing(path: str) -> tuple[str, str, str] | None:
        problem = "file-missing", f"the controller has no file {path}", "put it there, or correct the path"
        return None if file_exists(path) else problem

    for variable in (v for v in TABLE if v.kind == "file"):
        if variable.agree and (path := values[variable.name]) and (problem := missing(path)):
            notes.cluster(cluster, members, variable.name, *problem)
    for member in members:
        paths = {v.name: member.values.get(v.name) for v in TABLE if v.kind == "file" and not v.agree}
        also = member.values.get("redis_install_also") or []
        paths |= {f"redis_install_also[{entry['version']}]": entry["archive"] for entry in also}
        if member.values.get("redis_install_method") == "source":
            source = member.values.get("redis_install_source") or ""
            paths["redis_install_source"] = source if source.startswith(("/", "~/")) else None
        for name, path in paths.items():
            if path and (problem := missing(path)):
                notes.host(member.name, name, *problem)


def _check_zone_spelling(cluster: str, members: Sequence[Member], notes: Notes) -> None:
    spellings: dict[str, dict[str, None]] = {}
    for member in members:
        if member.zone:
            spellings.setdefault(re.sub(r"[\s_-]+", "", member.zone.lower()), {})[member.zone] = None
    for ways in spellings.values():
        if len(ways) > 1:
            counts = Counter(m.zone for m in members if m.zone in ways)
            usual, *others = sorted(ways, key=lambda zone: (-counts[zone], zone))
            for member in members:
                if member.zone in others:
                    notes.host(
                        member.name,
                        "redis_node_zone",
                        "zone-spelling",
                        f"zone {in_words(member.zone)} and zone {in_words(usual)} would count as two zones",
                        f"write {usual}, if that is meant",
                    )


def _check_loopback(cluster: str, members: Sequence[Member], notes: Notes) -> None:
    local = [m for m in members if m.address and plain(m.address).is_loopback]
    wide = [m for m in members if m.address and not plain(m.address).is_loopback]
    if local and wide:
        for member in local:
            notes.host(
                member.name,
                "redis_node_address",
                "loopback-mixed",
                f"{member.address} is reached from its own machine only, but {wide[0].name} has {wide[0].address}",
                "write the IP address by which the other nodes reach this host",
            )


def _check_machines(members: Sequence[Member], notes: Notes) -> None:
    """No two inventory names for one machine in one cluster, no two instances at one place in the whole inventory."""
    by_address: dict[Address, list[Member]] = {}
    by_machine: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        if member.address:
            by_address.setdefault(plain(member.address), []).append(member)
            if not member.is_here:
                by_machine.setdefault(member.machine, []).append(member)
    for address, twins in by_address.items():
        _check_one_address(str(address), twins, notes)
    _check_kernel_settings(members, notes)
    for (machine, _), twins in by_machine.items():
        addresses = {plain(m.address) for m in twins if m.address}
        if len(addresses) > 1 and _contradict(twins):
            _note_two_names("ansible_host", "two-names-one-machine", machine, twins, notes)


def _check_kernel_settings(members: Sequence[Member], notes: Notes) -> None:
    """One machine has one kernel: names of it that state other settings would take turns."""
    by_place: dict[Any, list[Member]] = {}
    for member in members:
        managed = member.values.get("redis_host_manage")
        if managed is None:
            managed = member.values.get("redis_node_service") == "systemd"
        if managed and "redis_host_sysctl" in member.values:
            by_place.setdefault("here" if member.is_local else member.machine, []).append(member)
            if member.address:
                by_place.setdefault(plain(member.address), []).append(member)
    disagree = {
        member.name
        for twins in by_place.values()
        if len({str(sorted((k, str(v)) for k, v in m.values["redis_host_sysctl"].items())) for m in twins}) > 1
        for member in twins
    }
    for name in (member.name for member in members if member.name in disagree):
        notes.host(
            name,
            "redis_host_sysctl",
            "differs",
            "each machine has one set of kernel settings, but several of its names state different ones",
            "set the same on all names of a machine",
        )


def _check_one_address(address: str, twins: Sequence[Member], notes: Notes) -> None:
    counts = Counter(port for m in twins for port in m.ports)
    shared = sorted(port for port, count in counts.items() if count > 1)
    if shared:
        for member in twins:
            if not set(shared).isdisjoint(member.ports):
                notes.host(
                    member.name,
                    "redis_node_address",
                    "duplicate-endpoint",
                    f"each would run an instance at {address} port {', '.join(map(str, shared))}",
                    "give each host its own address",
                )
    elif len(twins) > 1 and _contradict(twins):
        _note_two_names("redis_node_address", "two-names-one-address", address, twins, notes)
    else:
        for port in sorted(port for port in counts if port + BUS_PORT_OFFSET in counts):
            bus_port = port + BUS_PORT_OFFSET
            pair = [m for m in twins if port in m.ports or bus_port in m.ports]
            for member in pair if len(pair) > 1 else ():
                notes.host(
                    member.name,
                    "redis_node_ports",
                    "bus-port-clash",
                    f"at {address}, port {bus_port} is the cluster bus port of the instance at {port}",
                    f"use another port than {bus_port}",
                )


def _contradict(twins: Sequence[Member]) -> bool:
    """Several names for one machine are a lie within one cluster, or when they stand in different zones."""
    return len({m.cluster for m in twins}) < len(twins) or len({m.zone for m in twins}) > 1


def _note_two_names(variable: str, code: str, machine: str, twins: Sequence[Member], notes: Notes) -> None:
    ports = sorted({port for m in twins for port in m.ports})
    for member in twins:
        notes.host(
            member.name,
            variable,
            code,
            f"they are one machine ({machine}), so a master and its replica could fall together",
            f"keep one of the names, with redis_node_ports: {ports}, or correct the addresses",
        )


def _settings(
    cluster: str, cluster_config: Mapping[str, Any], members: Sequence[Member], notes: Notes
) -> dict[str, str]:
    settings = {}
    for directive, default in DEFAULT_SETTINGS.items():
        found: dict[str, list[str]] = {}
        for member in members:
            for port in member.ports:
                by_port = member.values.get("redis_node_port_config") or {}
                levels = (
                    cluster_config,
                    member.values.get("redis_node_config"),
                    by_port.get(port, by_port.get(str(port))),
                )
                merged = {k: v for level in levels if isinstance(level, dict) for k, v in level.items()}
                value = _as_redis_prints(directive, merged.get(directive, default))
                found.setdefault(value, []).append(f"{member.name}:{port}")
        pattern, remedy = _SETTING_PATTERNS[directive]
        for value in found:
            if not re.fullmatch(pattern, value):
                notes.cluster(
                    cluster,
                    members,
                    "redis_cluster_config",
                    "directive-value",
                    f"{directive} cannot be {value}",
                    remedy,
                )
        if len(found) > 1:
            shown = " and ".join(f"{value} on {listed_names(names)}" for value, names in found.items())
            notes.cluster(
                cluster,
                members,
                "redis_node_config",
                "differs",
                f"all instances of a cluster must agree on {directive}, but it is {shown}",
                "set it once, in redis_cluster_config",
            )
        settings[directive] = next(iter(found), default)
    return settings


def _as_redis_prints(directive: str, value: Any) -> str:
    """null leaves the directive out of redis.conf, so that Redis's own default holds."""
    if value is None:
        return _REDIS_OWN_DEFAULTS[directive]
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
