"""The arguments that the cluster modules share, and what they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slotwright.core.topology import Instance, Topology, default_shards
from slotwright.errors import Finding, Refused
from slotwright.link.access import Access, SshTarget, Tls
from slotwright.link.migrate.limits import NO_LIMITS, Limits

_INSTANCE = {
    "name": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "zone": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
}

_SSH = {
    "host": {"type": "str", "required": True},
    "hostname": {"type": "str", "required": True},
    "port": {"type": "int"},
    "user": {"type": "str"},
    "key_file": {"type": "path"},
    "password": {"type": "str", "no_log": True},
    "common_args": {"type": "str", "default": ""},
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "default": "redis"},
    "instances": {"type": "list", "elements": "dict", "required": True, "options": _INSTANCE},
    "leaving": {"type": "list", "elements": "dict", "options": _INSTANCE, "default": []},
    "weights": {"type": "dict", "default": {}},
    "threshold": {"type": "float", "default": 2.0},
    "replicas": {"type": "int", "default": 1},
    "shards": {"type": "int"},
    "allow_zone_risk": {"type": "bool", "default": False},
    "strict_versions": {"type": "bool", "default": False},
    "settings": {"type": "dict", "default": {}},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "tls_ca": {"type": "path"},
    "tls_cert": {"type": "path"},
    "tls_key": {"type": "path"},
    "reach": {"type": "str", "choices": ["direct", "ssh"], "default": "direct"},
    "ssh": {"type": "list", "elements": "dict", "options": _SSH, "default": []},
    "latency_budget_ms": {"type": "float", "default": 0.0},
    "keys_per_second": {"type": "float", "default": 0.0},
    "mb_per_second": {"type": "float", "default": 0.0},
    "strategy": {"type": "str", "choices": ["auto", "classic", "atomic"], "default": "auto"},
    "move_big_keys": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 60.0},
    "connect_timeout": {"type": "float", "default": 5.0},
}


@dataclass(frozen=True)
class Request:
    """What a module was asked for. timeout (seconds) bounds every single wait. limits: of slot moves."""

    topology: Topology
    access: Access
    timeout: float
    strict_versions: bool
    limits: Limits = NO_LIMITS


def read_request(params: Mapping[str, Any]) -> Request:
    instances = _instances(params["instances"])
    replicas = params["replicas"]
    shards = params["shards"] or default_shards(len(instances), replicas)
    settings = tuple(sorted((str(k), str(v)) for k, v in params["settings"].items()))
    topology = Topology(
        params["name"],
        instances,
        replicas,
        shards,
        params["allow_zone_risk"],
        settings,
        _instances(params["leaving"]),
        tuple((str(name), float(weight)) for name, weight in params["weights"].items()),
        params["threshold"] / 100,
    )
    return Request(topology, _access(params), params["timeout"], params["strict_versions"], _limits(params))


def _limits(params: Mapping[str, Any]) -> Limits:
    """Raises Refused where a limit is below 0."""
    names = ("latency_budget_ms", "keys_per_second", "mb_per_second")
    if below := [name for name in names if params[name] < 0]:
        remedy = "give it a number above 0, or 0 for no limit"
        raise Refused([Finding("limit", name, f"{params[name]:g} is below 0", remedy) for name in below])
    budget, keys, megabytes = (params[name] or None for name in names)
    return Limits(
        budget=budget and budget / 1000,
        keys=keys,
        bytes=megabytes and 1e6 * megabytes,
        strategy=params["strategy"],
        move_big=params["move_big_keys"],
    )


def _instances(params: Iterable[Mapping[str, Any]]) -> tuple[Instance, ...]:
    return tuple(Instance(i["name"], i["host"], i["zone"], i["address"], i["port"]) for i in params)


def complete(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults of those left out, as Ansible hands them to a module."""
    return {name: arguments.get(name, spec.get("default")) for name, spec in ARGUMENTS.items()}


def _access(params: Mapping[str, Any]) -> Access:
    wants_tls = any(params[key] for key in ("tls_ca", "tls_cert", "tls_key"))
    return Access(
        username=params["username"],
        password=params["password"],
        tls=Tls(params["tls_ca"], params["tls_cert"], params["tls_key"]) if wants_tls else None,
        connect_timeout=params["connect_timeout"],
        command_timeout=max(params["connect_timeout"], 10.0),
        ssh={one["host"]: _target(one) for one in params["ssh"]} if params["reach"] == "ssh" else None,
    )


def _target(params: Mapping[str, Any]) -> SshTarget:
    return SshTarget(**{name: value for name, value in params.items() if name != "host"})
