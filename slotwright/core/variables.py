"""Every variable that an inventory may set: one table, from which values are checked and the documentation is made."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Kind = Literal["string", "integer", "seconds", "boolean", "ports", "directives", "port directives", "file", "host path"]

_KIND_IN_WORDS: dict[Kind, str] = {
    "string": "a string",
    "integer": "a whole number",
    "seconds": "a number of seconds",
    "boolean": "true or false",
    "ports": "a list of port numbers",
    "directives": "a mapping of redis.conf directives to values",
    "port directives": "a mapping of ports to mappings of redis.conf directives",
    "file": "a path",
    "host path": "a path",
}
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_PLACEHOLDER = re.compile(
    r"(change|replace|fill)[-_ ]?(me|this|it|in)|todo|fixme|tbd|your[-_ ]?\w+|put .* here|x{3,}|\.\.\.|<[^<>]*>",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Variable:
    """One inventory variable.

    agree: every host of one cluster must have the same value.
    low, high: bounds of a number, both included. pattern: what a string must match as a whole, pattern_words says it.
    default: the value when no host sets it; None means "not set". may_be_empty: an empty string is a value.
    """

    name: str
    kind: Kind
    doc: str
    default: Any = None
    required: bool = False
    agree: bool = False
    secret: bool = False
    may_be_empty: bool = False
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = float("inf")
    pattern: str = ""
    pattern_words: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value whose template or vault could not be evaluated."""

    reason: str


class WrongValueError(Exception):
    """A value that cannot be used: code, what and remedy as in Finding."""

    def __init__(self, code: str, what: str, remedy: str) -> None:
        self.code, self.what, self.remedy = code, what, remedy
        super().__init__(what)


TABLE: tuple[Variable, ...] = (
    Variable(
        "redis_cluster_name",
        "string",
        "Name of the cluster that the host belongs to. One inventory may hold several clusters.",
        default="redis",
        pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
        pattern_words="1 to 63 letters, digits, '-', '_' or '.', with a letter or digit first",
    ),
    Variable("redis_cluster_replicas", "integer", "Replicas of each shard.", default=1, agree=True, low=0, high=5),
    Variable(
        "redis_cluster_shards",
        "integer",
        "Number of shards, at least 3. When not set: as many as the instances can fill.",
        agree=True,
        low=3,
        high=1000,
    ),
    Variable(
        "redis_cluster_config",
        "directives",
        "redis.conf directives for every instance of the cluster.",
        default={},
        agree=True,
    ),
    Variable(
        "redis_cluster_username", "string", "ACL user to log in as. When not set: Redis's default user.", agree=True
    ),
    Variable(
        "redis_cluster_password",
        "string",
        "Password of the cluster, for clients and between nodes. Keep it in Ansible Vault.",
        agree=True,
        secret=True,
    ),
    Variable(
        "redis_cluster_tls_ca",
        "file",
        "On the controller: the CA that signed the nodes' certificates. Needed with redis_node_tls.",
        agree=True,
    ),
    Variable("redis_cluster_tls_cert", "file", "On the controller: client certificate.", agree=True),
    Variable("redis_cluster_tls_key", "file", "On the controller: key of the client certificate.", agree=True),
    Variable(
        "redis_cluster_reach",
        "string",
        "How the controller reaches the Redis ports: straight, or through each host's SSH.",
        default="direct",
        agree=True,
        choices=("direct", "ssh"),
    ),
    Variable("redis_cluster_timeout", "seconds", "Bound of every wait.", default=60, agree=True, low=1, high=3600),
    Variable(
        "redis_cluster_allow_zone_risk",
        "boolean",
        "Accept a layout that does not survive the loss of every zone. Every report then names the zones.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_cluster_strict_versions",
        "boolean",
        "Refuse Redis versions below the security floors, which are otherwise a warning.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_node_zone",
        "string",
        "Failure domain of the host: a rack, a room, a cloud zone. No replica shares its master's.",
        required=True,
    ),
    Variable(
        "redis_node_address",
        "string",
        "IP address by which clients, nodes and the controller reach the instances of the host. "
        "When not set: ansible_host or the inventory name, if that is an IP address.",
    ),
    Variable("redis_node_ports", "ports", "One Redis instance is run for each port.", default=[6379]),
    Variable(
        "redis_node_service",
        "string",
        "What keeps the instances running: systemd, or plain processes with a pidfile.",
        default="systemd",
        choices=("systemd", "process"),
    ),
    Variable(
        "redis_node_config",
        "directives",
        "redis.conf directives for every instance of the host; stronger than redis_cluster_config.",
        default={},
    ),
    Variable(
        "redis_node_port_config",
        "port directives",
        "redis.conf directives for the instance at a port; stronger than redis_node_config.",
        default={},
    ),
    Variable(
        "redis_node_tls", "boolean", "TLS for clients, replication and the cluster bus.", default=False, agree=True
    ),
    Variable("redis_node_tls_ca", "host path", "On the host: the CA.", default="/etc/redis-cluster/tls/ca.crt"),
    Variable(
        "redis_node_tls_cert",
        "host path",
        "On the host: the node's certificate.",
        default="/etc/redis-cluster/tls/redis.crt",
    ),
    Variable(
        "redis_node_tls_key",
        "host path",
        "On the host: the certificate's key.",
        default="/etc/redis-cluster/tls/redis.key",
    ),
    Variable("redis_node_conf_dir", "host path", "On the host: redis.conf of each port.", default="/etc/redis-cluster"),
    Variable("redis_node_data_dir", "host path", "On the host: data of each port.", default="/var/lib/redis-cluster"),
    Variable("redis_node_log_dir", "host path", "On the host: logs.", default="/var/log/redis-cluster"),
    Variable("redis_node_run_dir", "host path", "On the host: pidfiles.", default="/run/redis-cluster"),
    Variable("redis_node_user", "string", "User that runs Redis. Without root: whoever logs in.", default="redis"),
    Variable("redis_node_group", "string", "Group that runs Redis. Without root: whoever logs in.", default="redis"),
    Variable("redis_node_timeout", "seconds", "Bound of a start and of a stop.", default=30, low=1, high=3600),
    Variable(
        "redis_node_state",
        "string",
        "What becomes of the instances. absent also takes away the configuration.",
        default="started",
        choices=("started", "stopped", "absent"),
    ),
    Variable("redis_node_remove_data", "boolean", "With state absent: take away all data as well.", default=False),
    Variable("redis_node_template", "file", "On the controller: another template of redis.conf."),
    Variable("redis_node_unit_template", "file", "On the controller: another template of the systemd unit."),
    Variable(
        "redis_install_method",
        "string",
        "system: the redis-server of the host or of its packages. archive: a tarball of binaries.",
        default="system",
        choices=("system", "archive"),
    ),
    Variable(
        "redis_install_version",
        "string",
        "Version of Redis to install. Needed with method archive.",
        pattern=r"\d+\.\d+(\.\d+)?(-[A-Za-z0-9.]+)?",
        pattern_words='a version such as "7.2.16"',
    ),
    Variable(
        "redis_install_bin_dir",
        "host path",
        "With method system: where redis-server is looked for.",
        default="/usr/bin",
    ),
    Variable(
        "redis_install_root",
        "host path",
        "With method archive: the versions are unpacked below it.",
        default="/opt/redis",
    ),
    Variable(
        "redis_install_package", "string", "With method system: the package with redis-server.", default="redis-server"
    ),
    Variable(
        "redis_install_user",
        "string",
        "With method archive: the user that is made for Redis. Empty: none is made.",
        default="redis",
        may_be_empty=True,
    ),
    Variable("redis_install_archive", "file", "On the controller: tarball of binaries, for method archive."),
    Variable(
        "redis_install_checksum",
        "string",
        "SHA-256 of the archive.",
        pattern=r"(sha256:)?[0-9A-Fa-f]{64}",
        pattern_words="64 hexadecimal digits, or sha256: and 64 hexadecimal digits",
    ),
)
RESULTS = ("redis_install_server", "redis_install_server_version")
"""Facts that the roles leave behind: known names, but not for an inventory to set."""
BY_NAME: dict[str, Variable] = {v.name: v for v in TABLE}
PREFIXES = ("redis_cluster_", "redis_node_", "redis_install_")


def read(variable: Variable, value: Any) -> Any:
    """The value in its proper type. Raises WrongValueError.

    As Ansible does, numbers and booleans are taken from strings too ("2", "yes"), for `-e name=value` gives strings.
    Strings are not taken from numbers or booleans: YAML has by then changed what was written (`no`, `1.10`, `007`).
    """
    if isinstance(value, Unreadable):
        raise undefined(value)
    if value is None:
        if variable.required:
            first = variable.doc.partition(".")[0]
            raise WrongValueError("missing", "it is not set", f"set {variable.name} ({first[:1].lower()}{first[1:]})")
        return variable.default
    match variable.kind:
        case "string" | "file" | "host path":
            return _string(variable, value)
        case "integer" | "seconds":
            return _number(variable, value)
        case "boolean":
            return _boolean(variable, value)
        case "ports":
            return _ports(variable, value)
        case "directives" | "port directives":
            if not isinstance(value, dict):
                raise _wrong_type(variable, value)
            return value


def undefined(value: Unreadable) -> WrongValueError:
    what = f"its template or vault text cannot be evaluated: {value.reason.strip().rstrip('.')}"
    return WrongValueError("undefined", what, "define the variables and give the vault password that it needs")


@cache
def meant_by(name: str) -> str | None:
    """The known variable that an unknown one of ours was probably meant to be, "" when there is none near it.

    Ours are all names with one of our prefixes, and those close to a known name. None for known and foreign names.
    """
    plain = name.lower().replace("-", "_")
    if name in BY_NAME or name in RESULTS or not plain.startswith("redis_"):
        return None
    ours = plain.startswith(PREFIXES)
    near = difflib.get_close_matches(plain, BY_NAME, n=1, cutoff=0.8 if ours else 0.86)
    return near[0] if near else "" if ours else None


def in_words(value: Any) -> str:
    """A value as a message shows it: short, and in YAML's words."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _string(variable: Variable, value: Any) -> str:
    if not isinstance(value, str):
        if isinstance(value, bool | int | float):
            shown = "it" if variable.secret else in_words(value)
            what = f"it must be a string, but YAML reads {shown} as a {_type_in_words(value)}"
            raise WrongValueError("wrong-type", what, "put the value in quotes")
        raise _wrong_type(variable, value)
    if variable.may_be_empty and not value:
        return value
    if not value.strip():
        raise WrongValueError(
            "empty-value",
            "it is empty",
            f"give {variable.name} a value, or leave it out for its default"
            if not variable.required
            else f"give {variable.name} a value",
        )
    if "{{" in value or "{%" in value or value.startswith("$ANSIBLE_VAULT"):
        raise WrongValueError(
            "placeholder",
            "it is still a template or a vault text, not a value",
            "write templates plainly and vault texts with the !vault tag, so that Ansible evaluates them",
        )
    if _PLACEHOLDER.fullmatch(value.strip()):
        raise WrongValueError("placeholder", "it is still a placeholder", f"give {variable.name} its real value")
    if _CONTROL.search(value) or (value != value.strip() and not variable.secret):
        raise WrongValueError(
            "bad-string", "it has a line break, a control character or blanks at an end", "take these out"
        )
    if variable.choices and value not in variable.choices:
        near = difflib.get_close_matches(value.lower(), variable.choices, n=1)
        remedy = f"write {near[0]}, if that is meant" if near else f"use {' or '.join(variable.choices)}"
        raise WrongValueError("not-a-choice", f"{in_words(value)} is none of {', '.join(variable.choices)}", remedy)
    if variable.pattern and not re.fullmatch(variable.pattern, value):
        raise WrongValueError(
            "bad-string", f"{in_words(value)} is not of the right form", f"write {variable.pattern_words}"
        )
    if variable.kind in ("file", "host path") and not value.startswith(("/", "~/")):
        raise WrongValueError(
            "relative-path",
            f"{in_words(value)} is relative, and means another file in another working directory",
            'write an absolute path, such as "{{ inventory_dir }}/' + value.removeprefix("./") + '"',
        )
    return value


def _number(variable: Variable, value: Any) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    wanted = (int, float) if variable.kind == "seconds" else (int,)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise _wrong_type(variable, value)
    assert isinstance(value, int | float)
    if not variable.low <= value <= variable.high:
        raise WrongValueError(
            "out-of-range",
            f"{value} is out of range",
            f"use {variable.low:g} to {variable.high:g}{' seconds' * (variable.kind == 'seconds')}",
        )
    return value


def _boolean(variable: Variable, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    if not isinstance(value, bool):
        raise _wrong_type(variable, value)
    return value


def _ports(variable: Variable, value: Any) -> list[int]:
    if not isinstance(value, list):
        hint = f"write [{value}]" if isinstance(value, int | str) and not isinstance(value, bool) else "write a list"
        raise WrongValueError("wrong-type", f"it must be a list of port numbers, not {in_words(value)}", hint)
    if not value:
        raise WrongValueError(
            "empty-value", "the list is empty", "name at least one port, or leave the variable out for [6379]"
        )
    ports = []
    for item in value:
        if isinstance(item, Unreadable):
            raise undefined(item)
        port = int(item) if isinstance(item, str) and item.isdecimal() else item
        if isinstance(port, bool) or not isinstance(port, int):
            raise WrongValueError(
                "wrong-type", f"{in_words(item)} is not a port number", "write ports as whole numbers"
            )
        if not 1 <= port <= 65535:
            raise WrongValueError("port-range", f"port {port} does not exist", "use ports from 1 to 55535")
        if port > 55535:
            raise WrongValueError(
                "bus-port-range",
                f"port {port} leaves no cluster bus port: {port} + 10000 is above 65535",
                "use ports up to 55535",
            )
        if port in ports:
            raise WrongValueError("duplicate-port", f"port {port} is listed twice", "list each port once")
        ports.append(port)
    for port in ports:
        if port + 10000 in ports:
            raise WrongValueError(
                "bus-port-clash",
                f"port {port + 10000} is the cluster bus port of the instance at {port}",
                f"use another port than {port + 10000}",
            )
    return ports


def _wrong_type(variable: Variable, value: Any) -> WrongValueError:
    what = f"it must be {_KIND_IN_WORDS[variable.kind]}, not {_shown(variable, value)}"
    return WrongValueError("wrong-type", what, f"write {_KIND_IN_WORDS[variable.kind]}")


def _shown(variable: Variable, value: Any) -> str:
    return f"a {_type_in_words(value)}" if variable.secret or isinstance(value, dict | list) else in_words(value)


def _type_in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "number", float: "number", str: "string", list: "list", dict: "mapping"}
    return next((word for kind, word in names.items() if isinstance(value, kind)), type(value).__name__)
