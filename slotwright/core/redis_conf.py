"""redis.conf of one instance: the levels of the inventory merged, directives written as lines, secrets kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from slotwright.errors import Finding, Refused

OWNED_DIRECTIVES: dict[str, str] = {
    "port": "use redis_node_ports",
    "tls-port": "use redis_node_ports and redis_node_tls",
    "tls-cluster": "use redis_node_tls",
    "tls-replication": "use redis_node_tls",
    "tls-ca-cert-file": "use redis_node_tls_ca",
    "tls-cert-file": "use redis_node_tls_cert",
    "tls-key-file": "use redis_node_tls_key",
    "cluster-enabled": "leave it out: every instance is a cluster node",
    "cluster-config-file": "leave it out: the role places nodes.conf in the data directory",
    "cluster-port": "leave it out: the bus port is the port + 10000",
    "cluster-announce-ip": "use redis_node_address",
    "cluster-announce-port": "use redis_node_ports",
    "cluster-announce-tls-port": "use redis_node_ports",
    "cluster-announce-bus-port": "leave it out: the bus port is the port + 10000",
    "replicaof": "leave it out: the plan decides who replicates whom",
    "masterauth": "use redis_cluster_password",
    "masteruser": "use redis_cluster_username",
    "requirepass": "use redis_cluster_password",
    "dir": "use redis_node_data_dir",
    "logfile": "use redis_node_log_dir",
    "pidfile": "use redis_node_run_dir",
    "include": "set the directives themselves",
    "proc-title-template": "leave it out: the role knows its processes by their title",
    "daemonize": "use redis_node_service",
    "supervised": "use redis_node_service",
}
"""Directives that the role writes itself, and what to use instead of setting them."""

DEFAULT_SETTINGS: dict[str, str] = {
    "cluster-node-timeout": "5000",
    "repl-diskless-sync-delay": "5",
    "cluster-replica-no-failover": "no",
}
"""What the role's redis.conf holds, where the inventory says nothing, for the directives that creation changes for
its own duration and then puts back (Topology.settings)."""

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[Scalar] | None

SECRET = frozenset({"requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass", "user"})
"""Directives whose values are never shown: not in a diff, not in a log."""


def merge(levels: Iterable[tuple[str, Mapping[str, Value]]]) -> dict[str, Value]:
    """The directives of all levels, later levels win.

    levels: (where, dict) from cluster over host to instance; where: "host redis-a1, redis_node_config".
    Raises Refused, with every finding, where a level sets a directive which the role owns. Everything else about
    the names and values is the business of `read_inventory`, and in the end of the real redis-server.
    """
    merged: dict[str, Value] = {}
    findings = []
    for where, directives in levels:
        for name, value in directives.items():
            if name.lower() in OWNED_DIRECTIVES:
                what = f"the role itself sets {name}"
                findings.append(Finding("directive-owned", where, what, OWNED_DIRECTIVES[name.lower()]))
            # Of several bind lines Redis takes the last alone.
            merged[name.lower()] = " ".join(map(str, value)) if name == "bind" and isinstance(value, list) else value
    if findings:
        raise Refused(findings)
    return merged


@dataclass
class RedisConf:
    """What the template asks for each directive: `conf("appendonly", true)` gives its line or lines.

    directives: merged, from the inventory; they win over the default that stands in the template.
    secrets: mark in the text → the value it stands for, filled while the template is rendered.
    """

    directives: Mapping[str, Value]
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    _asked: set[str] = field(default_factory=set)

    def __call__(self, name: str, default: Value = None) -> str:
        """Without a default of its own, a directive of DEFAULT_SETTINGS has the one that stands there."""
        self._asked.add(name)
        value = self.directives.get(name, DEFAULT_SETTINGS.get(name) if default is None else default)
        if value is None or value == []:
            return f"# {name}: left out by the inventory"
        return self._lines(name, value)

    def rest(self) -> str:
        """The directives of the inventory for which the template has no place of its own."""
        others = [(n, v) for n, v in self.directives.items() if n not in self._asked and v is not None and v != []]
        return "\n".join(self._lines(name, value) for name, value in others)

    def quoted(self, name: str, value: str) -> str:
        """The line of a directive whose value is one argument, whatever characters it holds."""
        return self._line(name, '"' + "".join(_escape(char) for char in value) + '"')

    def _lines(self, name: str, value: Value) -> str:
        if not isinstance(value, list):
            return self._line(name, value)
        # `save` lines add to each other, also to those which CONFIG REWRITE wrote; `save ""` forgets what came before.
        first: list[Scalar] = [""] if name == "save" else []
        return "\n".join(self._line(name, one) for one in first + value)

    def _line(self, name: str, value: Value) -> str:
        text = _text(value)
        if name in SECRET:
            mark = f"@@secret-{len(self.secrets) + 1}@@"
            self.secrets[mark] = text
            text = mark
        return f"{name} {text}"


def listen_addresses(bind: Value) -> list[str]:
    """The addresses that a `bind` value makes Redis listen on for certain (those with "-" before them are optional)."""
    words = " ".join(str(one) for one in bind) if isinstance(bind, list) else str(bind)
    return [{"*": "0.0.0.0", "::*": "::"}.get(word, word) for word in words.split() if not word.startswith("-")]


def values(content: str, name: str) -> list[str]:
    """What stands behind the directive on each of its lines in a redis.conf."""
    lines = (line.split(None, 1) for line in content.splitlines())
    return [words[1].strip() for words in lines if len(words) == 2 and words[0].lower() == name]


def open_files(content: str) -> int:
    """Files that Redis may have open with this redis.conf: maxclients + 128.

    Source: server.h, CONFIG_FDSET_INCR. 32 are Redis's own (CONFIG_MIN_RESERVED_FDS; with fewer it lowers maxclients),
    96 are spare. Its event loop has just so many places, and the links of the cluster bus count as clients.
    """
    last = values(content, "maxclients")[-1:]
    # What is no number, the real Redis refuses in its own words.
    return (int(last[0]) if last and last[0].isdecimal() else 10000) + 128


def _text(value: Value) -> str:
    """A string is taken as it is: it may hold several words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return '""' if value == "" else str(value)


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode())
