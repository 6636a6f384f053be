#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: have the slots of a Redis Cluster where they are wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_slots
short_description: Have the slots of a Redis Cluster where they are wanted
description:
  - States where slots are to be, and moves them there with their keys, while clients go on - evenly by slots, keys,
    bytes or CPU, by weights, in stated ranges, from one master to another, or away from a node.
  - As few slots move as can be. Once they are where they should be, a run changes nothing.
  - A move that was cut off, by whatever, is taken up by the next run from what the nodes say. So is one that was paused
    (Ctrl-C, SIGINT or SIGTERM); no slot is left open by that.
  - Refuses, before anything is changed, nodes that are not who they should be, slots that nobody owns, commands that
    an ACL forbids, and targets without memory for what would come.
version_added: 0.3.0
extends_documentation_fragment:
  - slotwright_cluster
  - slotwright_progress
attributes:
  check_mode:
    description:
      - Returns the very moves that a run would make, and the layout that it would end with.
      - By V(cpu) a run measures anew, and may find another distribution.
    support: full
  diff_mode:
    description: The layout before and after, as text.
    support: full
options:
  state:
    description:
      - V(balanced) - every master has its share, by O(by) and by weight, within O(threshold).
      - V(placed) - the O(ranges) are where they are stated; all other slots stay.
      - V(moved) - each of the O(moves) has been made.
      - V(drained) - no master that O(drain) names owns a slot.
      - V(repaired) - no slot is open. What was half moved goes back to its owner.
    type: str
    choices: [balanced, placed, moved, drained, repaired]
    default: balanced
  by:
    description:
      - What is balanced. V(bytes) is memory, as the server counts it by slot where it does (C(CLUSTER SLOT-STATS)),
        else the keys of a slot times the mean C(MEMORY USAGE) of some.
      - V(cpu) needs Redis 8.2 or Valkey 8.0 with C(cluster-slot-stats-enabled yes), and is measured for 10 seconds.
    type: str
    choices: [slots, keys, bytes, cpu]
    default: slots
  weights_by_name:
    description:
      - With O(state=balanced), weights of instances (C(host:port)), hosts or zones. The most specific name counts, and
        O(weights) where none is given.
      - A master with weight 0 gives all its slots away.
    type: dict
    default: {}
  ranges:
    description: With O(state=placed), the slots of each instance that is named, as C(0-5460,5462).
    type: dict
    default: {}
  moves:
    description: With O(state=moved), what is to go where. Just one of C(slots), C(count) and C(bytes) is given.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the request. Needed with C(count) and C(bytes), since a second run would move as many again.
          - Under this name the first run writes the slots that it has chosen into the cluster (key
            C(slotwright:request:NAME)), before it moves any; further runs finish these, and then do nothing.
        type: str
      from:
        description: Master that gives.
        type: str
        required: true
      to:
        description: Master that gets.
        type: str
        required: true
      slots:
        description: These slots, as C(0-99,200).
        type: str
      count:
        description: So many slots, the last that it has.
        type: int
      bytes:
        description: As many of its last slots as hold so much memory, as C(200MB).
        type: str
  drain:
    description: With O(state=drained), instances (C(host:port)), hosts or zones. The other masters share their slots.
    type: list
    elements: str
    default: []
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Every master has as many bytes as its weight says, within five per cent
  redis_cluster_slots: "{{ item | combine({'by': 'bytes', 'threshold': 5}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true

- name: A hundred slots go from one master to another, within a latency budget
  redis_cluster_slots: "{{ item | combine(wanted) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  vars:
    wanted:
      state: moved
      moves: [{name: relieve-a1, from: "a1:6379", to: "b1:6379", count: 100}]
      latency_budget_ms: 2

- name: No slot is open
  redis_cluster_slots: "{{ item | combine({'state': 'repaired'}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan:
  description: The moves, in order. Empty where there is nothing to do.
  returned: success
  type: list
  elements: dict
  sample: [{"step": "MoveSlots", "node": "a1:6379", "text": "a1:6379: move slots 5361-5460 (100) to b1:6379"}]
plan_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
slots_moved:
  description: How many slots the plan moves or closes.
  returned: success
  type: int
slots_least:
  description: No way to what is asked for moves fewer. By keys, bytes and CPU a bound, which may not be reached.
  returned: success
  type: int
summary:
  description: What was moved, and how fast, in a sentence. Empty in check mode and where nothing was to do.
  returned: success
  type: str
progress:
  description: The same as numbers (slots, keys, bytes, seconds, keys_per_second, pairs).
  returned: success
  type: dict
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
  description: For every zone what is left when it is lost.
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
  description: Always empty.
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
    run_verb("reshard")


if __name__ == "__main__":
    main()
