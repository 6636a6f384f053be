#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: say which instances of a Redis Cluster are to be restarted next, and make way for that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_roll
short_description: Which instances of a Redis Cluster are restarted next
description:
  - The controller's half of a rolling restart, upgrade or rollback. It says in which waves the O(pending) instances go
    down, and before each wave waits until the cluster is healthy and hands masters over to replicas that have been
    restarted. Module M(redis_instances) restarts them, on their hosts.
  - A wave is one zone's. No two instances of a shard are in it, replicas go before their master, and no order has fewer
    waves. Where all stand in one zone, hosts count as zones.
  - With O(kind=upgrade) the replicas of all shards come first, the very first of them alone, as a canary. Before the
    first promotion of a master of the new version it stops (RV(held)), unless O(commit) says to go on.
  - Nothing is remembered. An instance has been restarted when it has another run_id than the stated one, or runs the
    version that it shall run.
  - It restarts nothing itself, and a cluster that is not healthy within O(timeout) stops it.
version_added: 0.4.0
extends_documentation_fragment:
  - slotwright_cluster
  - slotwright_progress
attributes:
  check_mode:
    description: As with O(phase=plan).
    support: full
  diff_mode:
    description: The waves, as text.
    support: full
options:
  phase:
    description:
      - V(plan) returns all waves and changes nothing.
      - V(next) waits until all is well, hands over what is in the way, and returns the next wave. When nothing is left,
        the roles go back to where the layout wants them.
    type: str
    choices: [plan, next]
    default: plan
  kind:
    description:
      - V(restart) takes the fewest waves.
      - V(upgrade) and V(rollback) take all replicas first. A V(rollback) is refused once a master runs the newer
        version.
    type: str
    choices: [restart, upgrade, rollback]
    default: restart
  pending:
    description: Instances that are to be restarted. Those of other clusters are passed over.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance, C(host:port).
        type: str
        required: true
      run_id:
        description: What it has before its restart, as O(phase=plan) returns it. Empty where that is still to come.
        type: str
        default: ""
      flavor:
        description: Whose server it shall run.
        type: str
        choices: [redis, valkey]
        default: redis
      version:
        description: Version that it shall run. Empty where it keeps its own.
        type: str
        default: ""
      reasons:
        description: Why, for the plan.
        type: list
        elements: str
        default: []
  max_unavailable:
    description: How many instances of a zone may be down at a time. 0 for all of them.
    type: int
    default: 1
  commit:
    description: Go on past the point of no return.
    type: bool
    default: false
  untested:
    description: Allow a jump between versions that nobody has tried.
    type: bool
    default: false
  canary:
    description: How many more times the first replica with the new version is to be started alone.
    type: int
    default: 0
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: The waves of an upgrade
  redis_cluster_roll: "{{ item | combine({'kind': 'upgrade', 'pending': pending}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  vars:
    pending:
      - {name: "a1:6379", version: 8.0.2}
      - {name: "b1:6379", version: 8.0.2}
"""

RETURN = r"""
waves:
  description: All waves, in order - zone, restarts, failovers, ports (by host), text.
  returned: O(phase=plan)
  type: list
  elements: dict
pending:
  description: O(pending) without those that have been restarted, each with its run_id.
  returned: O(phase=plan)
  type: list
  elements: dict
plan_text:
  description: The plan as lines for people, with the reasons and the point of no return.
  returned: O(phase=plan)
  type: list
  elements: str
findings:
  description: What is worth knowing - code, where, what, remedy, severity. On failure, every reason.
  returned: always
  type: list
  elements: dict
findings_text:
  description: The same as lines for people.
  returned: O(phase=plan)
  type: list
  elements: str
wave:
  description: What is to be restarted now, as in RV(waves). Empty when RV(done).
  returned: O(phase=next)
  type: dict
canary:
  description: Whether this wave is the canary.
  returned: O(phase=next)
  type: bool
held:
  description: Whether it stops at the point of no return.
  returned: O(phase=next)
  type: bool
done:
  description: Whether nothing more is to be restarted in this run.
  returned: O(phase=next)
  type: bool
text:
  description: The same as lines for people.
  returned: O(phase=next)
  type: list
  elements: str
versions:
  description: How many instances run which version.
  returned: O(phase=next)
  type: dict
  sample: {"redis 7.0.15": 3, "redis 8.0.2": 6}
versions_text:
  description: The same as a line for people.
  returned: O(phase=next)
  type: str
layout_text:
  description: Shards in slot order, as lines for people.
  returned: O(phase=next)
  type: list
  elements: str
survival_text:
  description: For every zone what is left when it is lost, as a table in lines.
  returned: O(phase=next)
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("roll")


if __name__ == "__main__":
    main()
