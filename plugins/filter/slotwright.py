"""Filters that turn inventory variables into what the modules and roles of Slotwright take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import Undefined, UndefinedError

from slotwright.core.inventory import Cluster, Inventory, read_inventory
from slotwright.core.variables import Unreadable
from slotwright.errors import Refused

DOCUMENTATION = """
name: slotwright_clusters
short_description: The clusters of an inventory, validated
description:
  - Reads the inventory variables of the given hosts, checks them, and returns one entry for each cluster.
  - Fails with every finding, one a line, when the inventory cannot be built.
positional: hostvars
options:
  _input:
    description: Names of all hosts of the inventory that carry Redis instances, also of those out of reach.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = """
- name: Show the clusters
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
"""

RETURN = """
_value:
  description: For each cluster the arguments of the module redis_cluster. What is not set is left out.
  type: list
  elements: dict
"""

_CONNECTION_PREFIXES = (
    "ansible_connection",
    "ansible_host",
    "ansible_password",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_",
    "ansible_user",
)


def slotwright_clusters(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        inventory = inventory_of(hosts, hostvars)
    except Refused as refused:
        lines = "\n".join(f"- {finding}" for finding in refused.findings)
        raise AnsibleFilterError(f"The inventory is refused, and no host was touched:\n{lines}") from None
    return [_arguments(cluster, hostvars) for cluster in inventory.clusters]


def inventory_of(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> Inventory:
    """read_inventory with the variables that Ansible holds and the files that the controller has. Raises Refused."""
    variables = {host: _evaluated(hostvars[host]) for host in hosts}
    return read_inventory(hosts, variables, lambda path: Path(path).expanduser().is_file())


def _arguments(cluster: Cluster, hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What is not set is left out, for a module takes null for a value."""
    topology = cluster.topology
    arguments = {
        "name": topology.name,
        "instances": [
            {"name": i.name, "host": i.host, "zone": i.zone, "address": i.address, "port": i.port}
            for i in topology.instances
        ],
        "replicas": topology.replicas,
        "shards": cluster.shards,
        "username": cluster.username,
        "password": cluster.password,
        "tls_ca": cluster.tls_ca,
        "tls_cert": cluster.tls_cert,
        "tls_key": cluster.tls_key,
        "reach": cluster.reach,
        "ssh": _ssh(topology.hosts, hostvars) if cluster.reach == "ssh" else None,
        "timeout": cluster.timeout,
        "allow_zone_risk": topology.allow_zone_risk,
        "strict_versions": cluster.strict_versions,
        "settings": dict(topology.settings),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _ssh(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    # paramiko is slow to import, and Ansible loads this file in every worker.
    from slotwright.link.ssh import ssh_target

    return {host: asdict(ssh_target({"inventory_hostname": host, **_evaluated(hostvars[host])})) for host in hosts}


def _evaluated(lazy: Mapping[str, Any]) -> dict[str, Any]:
    """A host's Redis and connection variables as plain values. Templates are evaluated one by one on access."""
    return {name: _plain(lazy, name) for name in lazy if _ours(name)}


def _ours(name: str) -> bool:
    return name.lower().startswith(("redis_", "redis-")) or name.startswith(_CONNECTION_PREFIXES)


def _plain(container: Any, key: Any) -> Any:
    """The value at key, without Ansible's lazy containers and tags; Unreadable where it cannot be evaluated."""
    try:
        value = container[key]
        if isinstance(value, Undefined):
            str(value)  # raises, and says what is undefined
    except (AnsibleError, UndefinedError) as error:
        return Unreadable(str(error))
    if isinstance(value, dict):
        return {_untagged(k): _plain(value, k) for k in value}
    if isinstance(value, list):
        return [_plain(value, index) for index in range(len(value))]
    return _untagged(value)


def _untagged(value: Any) -> Any:
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"slotwright_clusters": slotwright_clusters}
