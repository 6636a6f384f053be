#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: make a Redis Cluster what the inventory says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Create and converge a zone-aware Redis Cluster
description:
  - Brings running Redis nodes to the wanted cluster - membership, config epochs, slots and replicas.
  - Asks every node for its view, computes a plan, executes it stage by stage, and verifies each stage by asking
    again. Succeeds only once every node that answers sees every role, its replicas are in sync, and all slots are
    served. Members that are down are reported, and left as they are.
  - A replica never shares host or zone with its master, and no zone holds a majority of masters.
  - Whatever an interrupted run left half-made is finished. A second run changes nothing.
  - Refuses, before anything is changed, nodes that hold keys, belong to another cluster, share a node id, are not
    in cluster mode or do not answer. A node that is gone from the inventory is reported, never removed.
version_added: 0.1.0
extends_documentation_fragment:
  - slotwright_cluster
  - slotwright_progress
attributes:
  check_mode:
    description: Returns the very plan that a run would execute, and the layout that it would end with.
    support: full
  diff_mode:
    description: The layout before and after, as text.
    support: full
options:
  phase:
    description:
      - V(converge) does the work.
      - V(preflight) only validates and plans, and never changes anything.
      - In check mode and in V(preflight) instances on whose port nothing listens count as blank nodes to come, for
        the roles start them in between.
    type: str
    choices: [converge, preflight]
    default: converge
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Create a cluster of three shards in three zones
  redis_cluster:
    name: cache
    replicas: 1
    password: "{{ vault_redis_password }}"
    instances:
      - {name: "a1:6379", host: a1, zone: a, address: 192.0.2.11, port: 6379}
      - {name: "a2:6379", host: a2, zone: a, address: 192.0.2.12, port: 6379}
      - {name: "b1:6379", host: b1, zone: b, address: 192.0.2.21, port: 6379}
      - {name: "b2:6379", host: b2, zone: b, address: 192.0.2.22, port: 6379}
      - {name: "c1:6379", host: c1, zone: c, address: 192.0.2.31, port: 6379}
      - {name: "c2:6379", host: c2, zone: c, address: 192.0.2.32, port: 6379}
  delegate_to: localhost
  run_once: true

- name: Show what would be done, from the inventory
  redis_cluster: "{{ item }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  check_mode: true
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan:
  description: The steps, in order. Empty where the cluster is as it should be.
  returned: success
  type: list
  elements: dict
  sample: [{"step": "Replicate", "node": "b1:6379", "text": "b1:6379: replicate a1:6379"}]
plan_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
cost:
  description:
    - What the plan costs from where the cluster is - C(slots), C(keys) and C(bytes) that move, C(syncs) (full copies
      of a master's data) and C(sync_bytes), C(failovers), C(removals), the expected C(seconds), and what that assumes.
    - Keys and bytes are estimates.
  returned: success
  type: dict
cost_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
departed:
  description: Those of O(leaving) that are no members any more, hold nothing, and may be stopped.
  returned: success
  type: list
  elements: str
layout:
  description: Shards in slot order with master, replicas, zones and hosts, as they are after the plan.
  returned: success
  type: list
  elements: dict
layout_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
survival:
  description: For every zone what is left when it is lost - masters, quorum, slots, redundancy.
  returned: success
  type: list
  elements: dict
survival_text:
  description: The same as a table in lines.
  returned: success
  type: list
  elements: str
findings:
  description: What is wrong or worth knowing - code, where, what, remedy, severity. On failure, every reason.
  returned: always
  type: list
  elements: dict
findings_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
spares:
  description: Instances that no shard may take under the placement rules. They are not joined.
  returned: success
  type: list
  elements: str
log:
  description: What was done, with its duration.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("converge")


if __name__ == "__main__":
    main()
