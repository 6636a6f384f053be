"""Filters that turn inventory variables into what the modules and roles of Slotwright take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from slotwright.errors import Refused
from slotwright.manager.inventory import arguments, inventory_of

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
    try:
        inventory = inventory_of(hosts, hostvars)
    except Refused as refused:
        lines = "\n".join(f"- {finding}" for finding in refused.findings)
        raise AnsibleFilterError(f"The inventory is refused, and no host was touched:\n{lines}") from None
    return [arguments(cluster, hostvars) for cluster in inventory.clusters]


def slotwright_refusals(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Why slotwright_clusters would fail, a line for each reason; empty where it would not."""
    try:
        inventory_of(hosts, hostvars)
    except Refused as refused:
        return [f"- {finding}" for finding in refused.findings]
    return []


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"slotwright_clusters": slotwright_clusters, "slotwright_refusals": slotwright_refusals}
