#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say which zones and hosts of a Redis Cluster may be lost now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_survival
short_description: Say which zones and hosts of a Redis Cluster may be lost now
description:
  - Asks every node of the inventory for its view, and tells for every zone, every host and every two hosts what would
    be left if they were lost - a majority of masters, slots with a copy, shards with a spare one.
  - For every zone and host that must not be lost it names what would mend that, cheapest first. Each remedy was tried
    on a model of the cluster before it is named. Pairs of hosts have no remedies.
  - Nodes that do not answer, and replicas that are not in sync, count as lost already. Changes nothing.
version_added: 0.1.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: The same as a run. Nothing is changed in either.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
options:
  inventory:
    description: What C(-i) is in the command lines that remedies name.
    type: str
    default: ""
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Ask what the clusters of the inventory may lose
  redis_cluster_survival: "{{ item }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  register: asked

- name: Stop where a zone or a host must not be lost
  ansible.builtin.assert:
    that: asked.results | map(attribute='survives') is all
"""

RETURN = r"""
zones:
  description:
    - For every zone what is left when it is lost - lost (its name), masters_lost, masters_left, masters_needed, quorum,
      slots_lost, slots_left, shards_without_redundancy, survives, verdict.
  returned: success
  type: list
  elements: dict
hosts:
  description: The same for every host.
  returned: success
  type: list
  elements: dict
pairs:
  description: The same for every two hosts, in one zone or in two. Their C(lost) is "host1 + host2".
  returned: success
  type: list
  elements: dict
pairs_lost:
  description: Those of RV(pairs) that are not survived.
  returned: success
  type: list
  elements: dict
remedies:
  description:
    - What would have a zone or host survived that now is not, cheapest first for each - part (zone or host), lost (its
      name), kind, what (why it is not survived), remedy.
    - kind is failover (roles go back), wait (for replicas to be in sync), start (what is down), empty (of masters,
      for planned work), site (a run of site.yml), inventory (another inventory and a run), or none (nothing helps that
      could be found; remedy says what stands in the way).
  returned: success
  type: list
  elements: dict
survives:
  description: Whether every zone and every host may be lost, one at a time. False where slots have no owner even now.
  returned: success
  type: bool
text:
  description: Tables of zones, of hosts and of up to 20 pairs that must not be lost, then remedies; a line an element.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("survival")


if __name__ == "__main__":
    main()
