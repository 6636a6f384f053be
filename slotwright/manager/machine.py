"""What module redis_host wants to know of one host and its cluster, out of the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from slotwright.core.firewall import rules_for
from slotwright.core.hosts import Notes, read_host
from slotwright.core.inventory import read_inventory
from slotwright.manager.inventory import evaluated


def machine(host: str, hosts: Sequence[str], hostvars: Mapping[str, Any], networks: Sequence[str]) -> dict[str, Any]:
    """The options of module redis_host that depend on how the instances of this host and the others are described.

    hosts: all of the inventory. networks: redis_host_client_networks of this host. Raises Refused and ValueError.
    """
    variables = {name: evaluated(hostvars[name]) for name in hosts}
    read_inventory(hosts, variables)
    members = [read_host(name, variables[name], Notes()) for name in hosts]
    mine = next(member for member in members if member.name == host)
    return {
        "user": mine.values["redis_node_user"],
        "group": mine.values["redis_node_group"],
        "service": mine.values["redis_node_service"],
        "conf_dir": mine.values["redis_node_conf_dir"],
        "rules": asdict(rules_for(host, members, networks)),
        # Over a local connection there is no session to see the controller by, and nothing to let in.
        "admit_controller": mine.raw.get("redis_cluster_reach") != "ssh" and not mine.is_local,
    }
