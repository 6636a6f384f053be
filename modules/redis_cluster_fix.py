#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: mend a broken Redis Cluster, without losing a key unasked."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_fix
short_description: Repair a Redis Cluster
description:
  - Does first what redis_cluster does not, the safest first - gives slots that nobody owns to who has their keys,
    brings foreign keys to their owner and compares those that both have, ends claims of two owners, lets nodes meet
    that forgot each other, corrects announced addresses, clears marks that belong to no move.
  - Then makes the cluster what the inventory says, as redis_cluster does.
  - Refuses what could lose data, and says which word of O(allow) would allow it. What can be done safely is done first.
version_added: 0.1.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: Returns what a run would do. It cannot foretell whether a key that two nodes have has two values.
    support: full
  diff_mode:
    description: The repairs and steps, as text.
    support: full
options:
  allow:
    description:
      - What may be lost. V(lose-keys-of-dead-masters) - slots of a master that is away with all its replicas go to
        others. V(lose-unreplicated-writes) - a replica takes over without a vote. V(lose-keys-at-dead-targets) - slots
        on their way to a node that is away are closed. V(lose-foreign-copies) - of a key with two values, that of the
        slot's owner stays.
    type: list
    elements: str
    default: []
  inventory:
    description: What C(-i) is in the command lines that refusals show.
    type: str
    default: ""
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Mend the clusters of the inventory
  redis_cluster_fix: "{{ item }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan_text:
  description: Repairs, then ordinary steps, in order.
  returned: success
  type: list
  elements: str
repairs:
  description: The repairs alone.
  returned: success
  type: list
  elements: str
log:
  description: What was done, with its duration.
  returned: success
  type: list
  elements: str
findings:
  description: Every refusal - code, where, what, remedy, severity.
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("fix")


if __name__ == "__main__":
    main()
