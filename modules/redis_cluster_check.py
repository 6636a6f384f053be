#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say all that is wrong with a Redis Cluster, and what to do about it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_check
short_description: Check the health of a Redis Cluster
description:
  - Asks every node several times, and tells all that is wrong - slots without an owner or with two, open slots of each
    kind, foreign keys, ghosts and clones, disagreement, replicas, links, epochs, persistence, memory, versions, drift
    of the configuration, and zones or hosts that must not be lost.
  - Every finding has its severity, place and remedy, and names the errors that clients get from it.
  - Tells also what redis_cluster_fix would do. Changes nothing, but for O(smoke).
version_added: 0.1.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: The same as a run, without the smoke test.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
options:
  polls:
    description: How many looks, half a second apart. What only some of them show is reported as not settled.
    type: int
    default: 2
  smoke:
    description:
      - Also let a cluster-aware client write, read (from replicas too), use hash tags, commands of several keys and
        pipelines on every master, and see that CROSSSLOT is refused.
      - Its keys begin with C(slotwright:smoke:), are deleted at the end, and expire after a minute in any case.
    type: bool
    default: false
  config:
    description: Directives that the inventory sets for all nodes. Live values that differ are reported.
    type: dict
    default: {}
  inventory:
    description: What C(-i) is in the command lines that remedies name.
    type: str
    default: ""
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Check the clusters of the inventory
  redis_cluster_check: "{{ item | combine({'smoke': true}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  register: checked

- name: Stop where one of them is not healthy
  ansible.builtin.assert:
    that: checked.results | map(attribute='healthy') is all
"""

RETURN = r"""
healthy:
  description: Whether there is no finding of severity error.
  returned: success
  type: bool
counts:
  description: Number of findings by severity.
  returned: success
  type: dict
findings:
  description: The worst first - code, where, what, remedy, severity, invariant (I1 to I10), client_errors.
  returned: success
  type: list
  elements: dict
layout:
  description: Shards in slot order with master, replicas, zones and hosts.
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
smoke:
  description: Outcome and latencies (milliseconds) of the smoke test. Empty without it.
  returned: success
  type: dict
text:
  description: The findings as a table, a line an element.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("check")


if __name__ == "__main__":
    main()
