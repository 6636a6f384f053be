#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: empty hosts or zones of masters, give roles back, let replicas take over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_failover
short_description: Hand masters of a Redis Cluster over to their replicas
description:
  - With O(empty) a host or a zone is emptied of masters for maintenance. Every master there is handed over by a plain
    C(CLUSTER FAILOVER), which loses nothing, to a replica in sync outside of all that is to be emptied.
  - With O(restore) the roles go back to where the layout wants them. With O(promote) a replica takes its master's
    place.
  - No zone gets so many masters that the others lack a majority, where that can be had; masters are spread evenly over
    zones and hosts. One failover after the other, each seen by all nodes before the next begins.
  - Refuses, before anything is changed, a master without a replica that could take its place. A second run changes
    nothing. One that was cut off is finished by running it again.
version_added: 0.2.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: Returns the very plan that a run would execute, and the layout that it would end with.
    support: full
  diff_mode:
    description: The layout before and after, as text.
    support: full
options:
  empty:
    description: Inventory hosts, zones, or instances (C(host:port)) that shall hold no masters.
    type: list
    elements: str
    default: []
  promote:
    description: Instances (C(host:port)) that shall take their masters' places.
    type: list
    elements: str
    default: []
  restore:
    description:
      - Do the failovers of the plan that M(redis_cluster) would make. What else that plan holds is left to it.
      - Just one of O(empty), O(promote) and O(restore) is to be given.
    type: bool
    default: false
  mode:
    description:
      - The harshest way that is allowed. Each master is handed over in the gentlest way that can do it.
      - V(force) does not ask a master that does not answer, or with which its replica is not in sync. The other masters
        vote. What had not reached the replica is lost.
      - V(takeover) asks nobody; for a cluster that has lost the majority of its masters. Where the old masters still
        live elsewhere, the cluster is split, and what they take from then on is lost too.
      - Of a master that does not answer the replica is taken that has most of its data.
    type: str
    choices: [plain, force, takeover]
    default: plain
  confirm:
    description: The words that allow V(force) and V(takeover). The refusal without them says what may be lost, and
      gives them.
    type: str
    default: ''
  elsewhere:
    description: Instances of other clusters of the inventory. What only they have is no mistake in O(empty) and
      O(promote).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the instance.
        type: str
        required: true
      host:
        description: Inventory host it runs on.
        type: str
        required: true
      zone:
        description: Zone of the host.
        type: str
        required: true
      address:
        description: IP address of the instance.
        type: str
        required: true
      port:
        description: Client port.
        type: int
        required: true
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Empty a zone of masters before its machines are stopped
  redis_cluster_failover: "{{ item | combine({'empty': ['zone-b']}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true

- name: Give the masters back
  redis_cluster_failover: "{{ item | combine({'restore': true}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan:
  description: The failovers, in order. Empty where there is nothing to do.
  returned: success
  type: list
  elements: dict
  sample: [{"step": "Failover", "node": "b1:6379", "text": "b1:6379: take over from its master"}]
plan_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
emptied:
  description: Names of the instances that O(empty) means.
  returned: success
  type: list
  elements: str
may_be_stopped:
  description: Whether all of RV(emptied) may be stopped now.
  returned: success
  type: bool
stop_text:
  description: The same in words, with what is left meanwhile. Empty without O(empty).
  returned: success
  type: str
cost:
  description: What the plan costs.
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
  description: For every zone what is left when it is lost, with the roles as they are after the plan.
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
  description: With O(restore), instances that no shard may take.
  returned: success
  type: list
  elements: str
log:
  description: What was done.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("handover")


if __name__ == "__main__":
    main()
