"""One host of the inventory: its variables, read and judged on their own, and the notes taken meanwhile."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from slotwright.core.redis_conf import OWNED_DIRECTIVES, Value, merge
from slotwright.core.topology import Instance
from slotwright.core.values import Unreadable, WrongValueError, in_words, read, undefined
from slotwright.core.variables import BY_NAME, TABLE, meant_by
from slotwright.errors import Finding

_NO_NEAR_NAME = (
    "take it out; docs/inventory.md lists the variables, and a redis.conf directive goes into redis_node_config"
)

# The role owns its directories as a whole: these it would take from everybody else.
_SYSTEM_DIRECTORIES = {
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root"),
    *("/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/dev/shm", "/etc/systemd", "/run/lock"),
    *("/etc/systemd/system", "/run/systemd", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin"),
    *("/usr/share", "/var/cache", "/var/lib", "/var/local", "/var/log", "/var/mail", "/var/opt", "/var/run"),
    *("/var/spool", "/var/tmp", "/usr/local/bin", "/usr/local/lib", "/usr/local/etc"),
}
_OWN_DIRECTORIES = [f"redis_node_{kind}_dir" for kind in ("conf", "data", "log", "run")]

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Member:
    """One host: its own variables, read, and what it says about its cluster, still raw."""

    name: str
    cluster: str
    values: Mapping[str, Any]
    raw: Mapping[str, Any]
    address: Address | None

    @property
    def zone(self) -> Any:
        return self.values.get("redis_node_zone")

    @property
    def ports(self) -> list[int]:
        return self.values.get("redis_node_ports") or []

    @property
    def instances(self) -> list[Instance]:
        return [Instance(f"{self.name}:{port}", self.name, self.zone, str(self.address), port) for port in self.ports]

    @property
    def leaves(self) -> bool:
        """Stated as removed, with all of its instances."""
        return self.values.get("redis_node_state") == "absent"

    def weight(self, port: int) -> float:
        return float(self.values["redis_node_port_weight"].get(port, self.values["redis_node_weight"]))

    @property
    def machine(self) -> tuple[str, str]:
        """What Ansible connects to."""
        return str(self.raw.get("ansible_host") or self.name), str(self.raw.get("ansible_port") or 22)

    def directives(self, port: int) -> dict[str, Value]:
        """What the inventory says of redis.conf of the instance at the port. Raises Refused."""
        by_port = self.values["redis_node_port_config"]
        at_port = by_port.get(port) or by_port.get(str(port)) or {}
        return merge(
            [
                (f"host {self.name}, redis_cluster_config", self.raw.get("redis_cluster_config") or {}),
                (f"host {self.name}, redis_node_config", self.values["redis_node_config"]),
                (f"host {self.name}, redis_node_port_config[{port}]", at_port),
            ]
        )

    @property
    def is_here(self) -> bool:
        """The host is played by the controller itself, as in demos and tests."""
        address = _ip(self.machine[0])
        return self.is_local or self.machine[0] == "localhost" or bool(address and address.is_loopback)

    @property
    def is_local(self) -> bool:
        """Ansible works there without logging in."""
        return self.raw.get("ansible_connection") in ("local", "ansible.builtin.local")


class Notes:
    """Collects findings; one and the same mistake on many hosts becomes one finding that names the hosts."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str, str, str, str], list[str]] = {}

    def host(self, host: str, variable: str, code: str, what: str, remedy: str) -> None:
        self._hosts.setdefault((code, "", variable, what, remedy), []).append(host)

    def wrong(self, host: str, variable: str, wrong: WrongValueError) -> None:
        self.host(host, variable, wrong.code, wrong.what, wrong.remedy)

    def cluster(
        self, cluster: str, members: Iterable[Member], variable: str, code: str, what: str, remedy: str
    ) -> None:
        self._hosts.setdefault((code, cluster, variable, what, remedy), []).extend(m.name for m in members)

    def concern(self, hosts: Iterable[str]) -> bool:
        noted = {h for hosts in self._hosts.values() for h in hosts}
        return not noted.isdisjoint(hosts)

    def findings(self) -> Iterable[Finding]:
        for (code, cluster, variable, what, remedy), hosts in self._hosts.items():
            place = f"cluster {cluster}" if cluster else f"host{'s' * (len(hosts) > 1)} {listed_names(hosts)}"
            yield Finding(code, f"{place}, {variable}" if variable else place, what, remedy)


def read_host(host: str, raw: Mapping[str, Any], notes: Notes) -> Member:
    meant = set()
    for name in raw:
        near = meant_by(name)
        if near is not None:
            meant.add(near)
            remedy = f"write {near}, if that is meant" if near else _NO_NEAR_NAME
            notes.host(host, name, "unknown-variable", "there is no such variable", remedy)
        elif name.startswith("ansible_") and isinstance(raw[name], Unreadable):
            notes.wrong(host, name, undefined(raw[name]))
    values = {}
    described = meant or any(name.startswith("redis_node_") for name in raw)
    if not described:
        notes.host(
            host,
            "",
            "no-variables",
            "the group names it, but no variable describes it",
            "set redis_node_zone (and redis_node_address, unless ansible_host is an IP address), or take it out of "
            "the group",
        )
    for variable in TABLE:
        if not variable.agree:
            try:
                values[variable.name] = read(variable, raw.get(variable.name))
            except WrongValueError as wrong:
                if wrong.code != "missing" or (described and variable.name not in meant):
                    notes.wrong(host, variable.name, wrong)
    address = None
    if described and "redis_node_address" in values:
        address = _read_address(host, values["redis_node_address"], raw, meant, notes)
    _check_directories(host, values, notes)
    _check_directives(host, values, notes)
    _check_versions(host, values, notes)
    _check_weights(host, values, notes)
    return Member(host, values.get("redis_cluster_name") or "redis", values, raw, address)


def _read_address(
    host: str, stated: str | None, raw: Mapping[str, Any], meant: set[str], notes: Notes
) -> Address | None:
    if stated is None:
        login = raw.get("ansible_host") or host
        if isinstance(login, Unreadable) or "redis_node_address" in meant:
            return None
        if not _ip(str(login)):
            notes.host(
                host,
                "redis_node_address",
                "missing",
                f"it is not set, and {in_words(login)}, by which Ansible logs in, is not an IP address",
                "set redis_node_address to the IP address of the host",
            )
            return None
        stated = str(login)
    address = _ip(stated)
    if address is None:
        bare = re.fullmatch(r"\[?([0-9A-Fa-f.:]+?)\]?(?::\d+|/\d+)?", stated)
        remedy = (
            f"write {bare[1]} alone"
            if bare and _ip(bare[1])
            else "write the IP address: cluster nodes know each other by IP address, not by name"
        )
        notes.host(host, "redis_node_address", "address-not-ip", f"{in_words(stated)} is not an IP address", remedy)
    elif address.is_unspecified:
        notes.host(
            host,
            "redis_node_address",
            "address-unusable",
            f"{stated} means every address of a machine, and no other node can connect to it",
            "write the one IP address by which the other nodes reach this host",
        )
    elif address.is_multicast or str(address) == "255.255.255.255" or _needs_scope(address):
        notes.host(
            host,
            "redis_node_address",
            "address-unusable",
            f"{stated} is a multicast, broadcast or link-local address",
            "write the IP address by which the other nodes reach this host",
        )
    else:
        return address
    return None


def _check_directories(host: str, values: Mapping[str, Any], notes: Notes) -> None:
    for name in _OWN_DIRECTORIES:
        path = values.get(name)
        # normpath leaves two slashes at the beginning, as POSIX does.
        if path and "/" + posixpath.normpath(path).lstrip("/") in _SYSTEM_DIRECTORIES:
            what = f"{in_words(path)} is a directory of the whole system, and would be given to Redis alone"
            remedy = f"take a directory of its own, such as {BY_NAME[name].default}"
            notes.host(host, name, "system-directory", what, remedy)


def _check_directives(host: str, values: Mapping[str, Any], notes: Notes) -> None:
    """The host's own directives; those of the cluster are checked once for the cluster."""
    for problem in directive_problems(values.get("redis_node_config") or {}):
        notes.host(host, "redis_node_config", *problem)
    ports = values.get("redis_node_ports")
    for port, directives in (values.get("redis_node_port_config") or {}).items():
        number = int(port) if isinstance(port, str) and port.isdecimal() else port
        label = f"redis_node_port_config[{port}]"
        if isinstance(number, bool) or not isinstance(number, int):
            notes.host(
                host,
                "redis_node_port_config",
                "wrong-type",
                f"its keys must be ports, but {in_words(port)} is none",
                "write {port: {directive: value}}, or use redis_node_config",
            )
        elif ports is not None and number not in ports:
            listed = ", ".join(map(str, ports))
            notes.host(
                host,
                "redis_node_port_config",
                "port-not-listed",
                f"port {port} is not in redis_node_ports ({listed})",
                f"add {port} to redis_node_ports, or correct the port",
            )
        elif isinstance(directives, Unreadable):
            notes.wrong(host, label, undefined(directives))
        elif not isinstance(directives, dict):
            notes.host(
                host,
                label,
                "wrong-type",
                f"it must be a mapping of redis.conf directives, not {in_words(directives)}",
                "write directive: value pairs",
            )
        else:
            for problem in directive_problems(directives):
                notes.host(host, label, *problem)


def _check_versions(host: str, values: Mapping[str, Any], notes: Notes) -> None:
    """What the method of installation needs, and that each instance's version is one that is installed."""
    method = values.get("redis_install_method")
    needed = {"archive": ("redis_install_archive", "redis_install_version")}
    needed["source"] = ("redis_install_source", "redis_install_version")
    for name in needed.get(str(method), ()):
        if name in values and values[name] is None:
            notes.host(host, name, "missing", f"method {method} needs it", f"set {name}")
    source = values.get("redis_install_source") or ""
    if method == "source" and re.match("https?://", source) and not values.get("redis_install_checksum", True):
        what = "it is not set, and the sources come from an address: anybody may have changed them"
        notes.host(host, "redis_install_checksum", "missing", what, "set it to the SHA-256 of the tarball")
    elif method == "source" and source and not re.match("https?://|[/~]", source):
        what = f"{in_words(source)} is neither an absolute path nor an http(s) address"
        notes.host(host, "redis_install_source", "relative-path", what, "write one of these")
    also = [str(entry["version"]) for entry in values.get("redis_install_also") or []]
    for twice in {v for v in also if also.count(v) > 1 or v == values.get("redis_install_version")}:
        what = f"version {twice} stands there twice, or is redis_install_version"
        notes.host(host, "redis_install_also", "duplicate-version", what, "name each version once")
    ports, installed = values.get("redis_node_ports"), {*also, values.get("redis_install_version")}
    for port, version in (values.get("redis_node_port_version") or {}).items():
        label = f"redis_node_port_version[{port}]"
        if ports is not None and port not in ports:
            what = f"port {port} is not in redis_node_ports ({', '.join(map(str, ports))})"
            notes.host(host, label, "port-not-listed", what, f"add {port} to redis_node_ports, or correct the port")
        if "redis_install_also" in values and version not in installed:
            what = f"version {version} is not among those that are installed ({', '.join(also) or 'no others'})"
            notes.host(host, label, "version-not-installed", what, f"name {version} in redis_install_also")


def _check_weights(host: str, values: Mapping[str, Any], notes: Notes) -> None:
    ports = values.get("redis_node_ports")
    for port in values.get("redis_node_port_weight") or {}:
        if ports is not None and port not in ports:
            what = f"port {port} is not in redis_node_ports ({', '.join(map(str, ports))})"
            label = f"redis_node_port_weight[{port}]"
            notes.host(host, label, "port-not-listed", what, f"add {port} to redis_node_ports, or correct the port")


def directive_problems(directives: Mapping[Any, Any]) -> Iterable[tuple[str, str, str]]:
    """(code, what, remedy) for each directive that cannot be written."""
    for name, value in directives.items():
        proper = str(name).strip().lower().replace("_", "-").replace("slave", "replica")
        if not re.fullmatch(r"[a-z][a-z0-9]*([-.][a-z0-9]+)*", proper) or isinstance(name, bool):
            yield "directive-name", f"{in_words(name)} is not the name of a directive", "write it as redis.conf does"
        elif proper in OWNED_DIRECTIVES:
            yield "directive-owned", f"the role itself sets {name}", OWNED_DIRECTIVES[proper]
        elif proper == "bind" and value in (None, "", []):
            yield "wrong-type", "bind must name at least one address", "write redis_node_address's, or * for all"
        elif proper == "unixsocketperm" and isinstance(value, int):
            yield "wrong-type", f"YAML reads unixsocketperm as the number {value}", "write it in quotes, as '0770'"
        elif name != proper:
            yield "directive-name", f"{in_words(name)} is not how a directive is written", f"write {proper}"
        else:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Unreadable):
                    wrong = undefined(item)
                    yield wrong.code, f"{name}: {wrong.what}", wrong.remedy
                elif not isinstance(item, str | int | float | None):
                    yield (
                        "wrong-type",
                        f"the value of {name} must be a string, number, boolean or a list of these",
                        "write what stands behind the directive in redis.conf; a list makes one line of each element",
                    )
                elif isinstance(item, str) and re.search(r"[\x00-\x1f\x7f]", item):
                    yield (
                        "bad-string",
                        f"the value of {name} has a line break",
                        "write a list: one line of each element",
                    )


def _ip(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def plain(address: Address) -> Address:
    """IPv4 addresses written as IPv6 (::ffff:10.0.0.1) are what they stand for."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _needs_scope(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.is_link_local


def listed_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 6 else ", ".join(names)
