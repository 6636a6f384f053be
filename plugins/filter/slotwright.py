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


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "slotwright_clusters": slotwright_clusters,
            "slotwright_machines": slotwright_machines,
            "slotwright_refusals": slotwright_refusals,
        }
