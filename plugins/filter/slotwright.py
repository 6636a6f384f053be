"""Filters that turn inventory variables into what the modules and roles of Slotwright take.

Ansible loads this file in every worker of every task. So the library is imported only where a filter is used: that
takes 0.08 s, which a play with 30 hosts would spend a thousand times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

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


def slotwright_clusters(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    from slotwright.manager.inventory import arguments, inventory_of

    try:
        inventory = inventory_of(hosts, hostvars)
    except Refused as refused:
        lines = "\n".join(f"- {finding}" for finding in refused.findings)
        raise AnsibleFilterError(f"The inventory is refused, and no host was touched:\n{lines}") from None
    return [arguments(cluster, hostvars) for cluster in inventory.clusters]


def slotwright_refusals(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Why slotwright_clusters would fail, a line for each reason; empty where it would not."""
    from slotwright.manager.inventory import inventory_of

    try:
        inventory_of(hosts, hostvars)
    except Refused as refused:
        return [f"- {finding}" for finding in refused.findings]
    return []


def slotwright_staying_ports(host: str, hostvars: Mapping[str, Any]) -> list[int]:
    """The ports of the host's instances that are not stated as removed."""
    from slotwright.manager.inventory import staying

    return staying([host], hostvars).get(host, [])


def slotwright_of_cluster(
    entries: Sequence[str], cluster: str, hosts: Sequence[str], hostvars: Mapping[str, Any], strangers_of: str = ""
) -> list[str]:
    """Those that name a host or an instance of the cluster; strangers go to the cluster that is named for them."""
    from slotwright.manager.inventory import clusters_of

    names = clusters_of(hosts, hostvars)
    several = sorted(set(names.values()))
    found = []
    for entry in entries:
        host = entry if entry in names else entry.rpartition(":")[0]
        if host not in names and len(several) > 1 and strangers_of not in several:
            known = ", ".join(several)
            raise AnsibleFilterError(
                f"{entry} is in no host's name: say of which cluster, -e redis_remove_from={known}"
            )
        if names.get(host, strangers_of or several[0]) == cluster:
            found.append(entry)
    return found


def slotwright_successor_problems(
    successors: str, leaving: str, hosts: Sequence[str], hostvars: Mapping[str, Any]
) -> list[str]:
    """Why these cannot take the place of those; both with commas between them. Empty where they can."""
    from slotwright.manager.inventory import clusters_of

    coming, going = ([part.strip() for part in text.split(",") if part.strip()] for text in (successors, leaving))
    names = clusters_of(hosts, hostvars)
    host_of = {entry: entry if entry in names else entry.rpartition(":")[0] for entry in (*coming, *going)}
    if not coming:
        return ["nobody is named to take the place: -e redis_with=… (without a successor: remove_node.yml)"]
    problems = [
        f"{entry} is no host, and no host:port, of the group redis" for entry in coming if host_of[entry] not in names
    ]
    problems += [f"{entry} is itself to leave" for entry in coming if entry in going or host_of[entry] in going]
    clusters = {names[host] for host in host_of.values() if host in names}
    if len(clusters) > 1:
        problems.append(f"they are of several clusters: {', '.join(sorted(clusters))}")
    return problems


def slotwright_ports_at(instances: Sequence[str], host: str) -> list[int]:
    """The ports of those instances ("host:port") that are the host's."""
    return [int(port) for at, _, port in (name.rpartition(":") for name in instances) if at == host]


def slotwright_machines(
    hosts: Sequence[str], hostvars: Mapping[str, Any], check: bool = True
) -> dict[str, dict[str, Any]]:
    """Options of module redis_host for each of the hosts. Each depends on all of them, so they are read once.

    check: fail where the inventory cannot be built.
    """
    from slotwright.manager.machine import machines

    try:
        return machines(hosts, hostvars, check=check)
    except Refused as refused:
        raise AnsibleFilterError(f"The inventory is refused, and nothing was changed on any host:\n{refused}") from None


def slotwright_pending(hosts: Sequence[str], hostvars: Mapping[str, Any], kind: str = "restart") -> list[Any]:
    """Option pending of module redis_cluster_roll, from what the hosts have reported in this run."""
    from slotwright.manager.pending import pending

    return pending(hosts, hostvars, kind)


def slotwright_other_version(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Names of the instances that wait for another version."""
    from slotwright.manager.pending import other_version

    return other_version(hosts, hostvars)


def slotwright_settings(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[Any]:
    """Option wanted of module redis_config, from what the hosts have reported in this run."""
    from slotwright.manager.pending import settings

    return settings(hosts, hostvars)


def slotwright_restart_asked(words: str, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What playbooks/restart.yml restarts: pending, ports by host, and resumed. words: zones, hosts, instances."""
    from dataclasses import asdict

    from slotwright.manager.pending import asked

    try:
        return asdict(asked(words, hosts, hostvars))
    except Refused as refused:
        raise AnsibleFilterError(f"Nothing was changed: {refused}") from None


def slotwright_reshard(said: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Options of module redis_cluster_slots for each cluster that is meant by what is said to playbooks/reshard.yml."""
    from slotwright.core.asked import chosen, options

    try:
        names = chosen([c["name"] for c in clusters], str(said.get("cluster") or ""), several=False)
        goal = options({name: value for name, value in said.items() if name != "cluster"})
    except Refused as refused:
        raise AnsibleFilterError(f"Nothing was changed: {refused}") from None
    return [{**cluster, **goal} for cluster in clusters if cluster["name"] in names]


def slotwright_drills(said: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The name of the cluster, and what is struck, one after the other, by what is said to playbooks/drill.yml."""
    from slotwright.core.drill_asked import drills

    try:
        name, asked = drills(said, clusters)
    except Refused as refused:
        raise AnsibleFilterError(f"Nothing was struck: {refused}") from None
    return {"name": name, "drills": asked}


def slotwright_drill_records(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What module redis_fault has returned last, by host; only of those that have a record."""
    found = {host: (hostvars[host].get("__redis_node_faulted") or {}).get("record") for host in hosts}
    return {host: record for host, record in found.items() if record}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "slotwright_clusters": slotwright_clusters,
            "slotwright_drill_records": slotwright_drill_records,
            "slotwright_drills": slotwright_drills,
            "slotwright_machines": slotwright_machines,
            "slotwright_of_cluster": slotwright_of_cluster,
            "slotwright_other_version": slotwright_other_version,
            "slotwright_pending": slotwright_pending,
            "slotwright_ports_at": slotwright_ports_at,
            "slotwright_reshard": slotwright_reshard,
            "slotwright_refusals": slotwright_refusals,
            "slotwright_restart_asked": slotwright_restart_asked,
            "slotwright_settings": slotwright_settings,
            "slotwright_staying_ports": slotwright_staying_ports,
            "slotwright_successor_problems": slotwright_successor_problems,
        }
