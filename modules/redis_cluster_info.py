#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: tell what a Redis Cluster looks like, and what is wrong with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_info
short_description: Observe a Redis Cluster - topology, replication, health, survival
description:
  - Asks every node of the inventory for its view and tells what they said, which invariants are broken, and what
    would be left if a zone or a host were lost. Changes nothing.
  - Nodes that do not answer are part of the answer, not an error.
version_added: 0.1.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: The same as a run. Nothing is changed in either.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Look at the clusters of the inventory
  redis_cluster_info: "{{ item }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  register: looked

- name: Stop where one of them is not healthy
  ansible.builtin.assert:
    that: looked.results | map(attribute='healthy') is all
"""

RETURN = r"""
nodes:
  description: Every node that answered - name, id, version, role, master, slots, epochs, replication, memory.
  returned: success
  type: list
  elements: dict
silent:
  description: Instances that did not answer, and why.
  returned: success
  type: list
  elements: dict
layout:
  description: Shards in slot order with master, replicas, zones and hosts.
  returned: success
  type: list
  elements: dict
healthy:
  description: Whether no invariant is broken.
  returned: success
  type: bool
violations:
  description: Broken invariants (code I1 to I9) and other findings - code, where, what, remedy, severity.
  returned: success
  type: list
  elements: dict
survival:
  description: For every zone what is left when it is lost.
  returned: success
  type: list
  elements: dict
host_survival:
  description: The same for every host.
  returned: success
  type: list
  elements: dict
text:
  description: The readable picture, a line an element.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("info")


if __name__ == "__main__":
    main()
