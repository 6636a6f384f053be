"""The inventory as Ansible holds it: its own parsing, precedence and templating, then slotwright.core.inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from jinja2 import Undefined, UndefinedError

from slotwright.core.inventory import Cluster, Inventory, read_inventory
from slotwright.core.topology import Topology
from slotwright.core.values import Unreadable

GROUP = "redis"
_CONNECTION_PREFIXES = (
    "ansible_connection",
    "ansible_host",
    "ansible_password",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_",
    "ansible_user",
)


def load(source: str) -> list[dict[str, Any]]:
    """The arguments of the module redis_cluster for each cluster of the inventory at `source`. Raises Refused."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[source])
    hostvars = HostVars(manager, VariableManager(loader=loader, inventory=manager), loader)
    hosts = [host.name for host in manager.get_hosts(GROUP)]
    return [arguments(cluster, hostvars) for cluster in inventory_of(hosts, hostvars).clusters]


def inventory_of(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> Inventory:
    """read_inventory with the variables that Ansible holds and the files that the controller has. Raises Refused."""
    variables = {host: evaluated(hostvars[host]) for host in hosts}
    return read_inventory(hosts, variables, lambda path: Path(path).expanduser().is_file())


def arguments(cluster: Cluster, hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the module redis_cluster. What is not set is left out: a module takes null for a value."""
    topology = cluster.topology
    arguments = {
        "name": topology.name,
        "instances": list(map(asdict, topology.instances)),
        "leaving": list(map(asdict, topology.leaving)),
        "weights": dict(topology.weights),
        "threshold": 100 * topology.slack,
        "replicas": topology.replicas,
        "shards": cluster.shards,
        "username": cluster.username,
        "password": cluster.password,
        "tls_ca": cluster.tls_ca,
        "tls_cert": cluster.tls_cert,
        "tls_key": cluster.tls_key,
        "reach": cluster.reach,
        "ssh": _ssh(topology, hostvars) if cluster.reach == "ssh" else None,
        "timeout": cluster.timeout,
        "allow_zone_risk": topology.allow_zone_risk,
        "strict_versions": cluster.strict_versions,
        "settings": dict(topology.settings),
        **dict(cluster.reshard),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def staying(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The ports of each host whose instances are not stated as removed; hosts without any are left out.

    For playbooks, before anything was checked: what cannot be read counts as staying.
    """
    found = {}
    for host in hosts:
        lazy = hostvars[host]
        state, ports, absent = (plain(lazy, name) if name in lazy else None for name in _STATED)
        named = {str(entry) for entry in absent} if isinstance(absent, list) else set()
        if state == "absent" or host in named:
            continue
        kept = [p for p in ports if f"{host}:{p}" not in named] if isinstance(ports, list) else ports or [6379]
        if kept:
            found[host] = kept
    return found


def clusters_of(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """The name of each host's cluster, before anything was checked."""
    name = "redis_cluster_name"
    return {host: str(plain(hostvars[host], name) if name in hostvars[host] else "redis") for host in hosts}


_STATED = ("redis_node_state", "redis_node_ports", "redis_cluster_absent")


def _ssh(topology: Topology, hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each host is logged in to. What stands on no host of the inventory is reached through the first one."""
    # paramiko is slow to import, and Ansible loads this file in every worker.
    from slotwright.link.ssh import ssh_target

    hosts = list(dict.fromkeys(i.host for i in topology.everyone))
    through = {host: host if host in hostvars else topology.hosts[0] for host in hosts}
    targets = {h: ssh_target({"inventory_hostname": h, **evaluated(hostvars[h])}) for h in set(through.values())}
    return [{"host": host, **asdict(targets[through[host]])} for host in hosts]


def evaluated(lazy: Mapping[str, Any]) -> dict[str, Any]:
    """A host's Redis and connection variables as plain values. Templates are evaluated one by one on access."""
    return {name: plain(lazy, name) for name in lazy if _ours(name)}


def _ours(name: str) -> bool:
    return name.lower().startswith(("redis_", "redis-")) or name.startswith(_CONNECTION_PREFIXES)


def plain(container: Any, key: Any) -> Any:
    """The value at key, without Ansible's lazy containers and tags; Unreadable where it cannot be evaluated."""
    try:
        value = container[key]
        if isinstance(value, Undefined):
            str(value)  # raises, and says what is undefined
    except (AnsibleError, UndefinedError) as error:
        return Unreadable(str(error))
    if isinstance(value, dict):
        return {_untagged(k): plain(value, k) for k in value}
    if isinstance(value, list):
        return [plain(value, index) for index in range(len(value))]
    return _untagged(value)


def _untagged(value: Any) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value
