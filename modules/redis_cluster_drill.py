#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the controller's part of a failure drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_drill
short_description: Lose a zone, a host or an instance of a Redis Cluster on purpose, and count what was lost
description:
  - The controller's part of C(playbooks/drill.yml). The hosts strike themselves, and heal by themselves
    (M(redis_fault)); clients run on hosts of every zone (M(redis_drill_client)) and on the controller.
  - O(phase=plan) asks the live cluster whether it survives what is to be struck, and foretells what will happen. It
    refuses a drill that the layout would not survive, unless O(anyway) says so in words, and any drill of a cluster
    that is not whole.
  - O(phase=run) calls the cluster and watches every node from before the fault until the layout is restored, which it
    does by plain failovers.
  - O(phase=report) reads back every write, deletes the drill's keys, and only them, judges, and writes
    C(report.json) and C(report.html).
version_added: 0.5.0
extends_documentation_fragment:
  - slotwright_cluster
  - slotwright_progress
attributes:
  check_mode:
    description: With O(phase=plan) nothing is written down. The other phases need a run.
    support: partial
  diff_mode:
    description: There is never a difference.
    support: none
options:
  phase:
    description:
      - What is to be done. V(unfinished) tells which drills of the cluster an earlier controller has left.
      - V(alone) fails while another controller is at work on the cluster, as with a drill of its own.
    type: str
    choices: [alone, plan, run, report, unfinished]
    default: plan
  zone:
    description: With O(phase=plan), the zone that is struck. Just one of this, O(host) and O(instance) is given.
    type: str
    default: ""
  host:
    description: The host that is struck.
    type: str
    default: ""
  instance:
    description: The instance that is struck, as C(host:port).
    type: str
    default: ""
  fault:
    description:
      - V(stop) - the instances are stopped as an operator does it. V(kill) - SIGKILL. V(freeze) - SIGSTOP.
      - V(partition) - the hosts are cut off from all other hosts of the cluster, not from the controller.
        V(partition-one-way) - what they send is dropped. V(bus-only) - only the cluster bus is cut.
      - V(reboot) - the hosts are booted anew.
    type: str
    choices: [stop, kill, freeze, partition, partition-one-way, bus-only, reboot]
    default: kill
  seconds:
    description: How long the fault lasts, in seconds. Each host ends it by itself.
    type: float
    default: 30.0
  writes:
    description: Writes a second of each client.
    type: float
    default: 100.0
  reads:
    description: Reads a second of each client.
    type: float
    default: 50.0
  workload:
    description:
      - V(keys) - each write is a key of its own, so that every single one is accounted for.
      - V(counters) - INCR, in the manner of the consistency test of Redis's cluster tutorial.
    type: str
    choices: [keys, counters]
    default: keys
  during:
    description:
      - V(reshard) - while the fault lasts, slots move to and fro between a shard that is struck and one that is not, so
        that it strikes a move half-way. In the end they are where the inventory wants them.
    type: str
    choices: ["", reshard]
    default: ""
  clients:
    description: Hosts on which clients may run. The first of each zone is taken.
    type: list
    elements: str
    default: []
  max_write_gap:
    description: Objective - seconds for which no write to a shard may succeed, at the most.
    type: float
  max_lost:
    description: Objective - acknowledged writes of the drill that may be lost, at the most.
    type: int
  max_redundancy:
    description: Objective - seconds from the heal until every replica is in sync again, at the most.
    type: float
  anyway:
    description: The words that allow a drill which the layout does not survive. The refusal says them.
    type: str
    default: ""
  history:
    description: Directory of the controller where drills are kept, in a directory for each cluster.
    type: path
    required: true
  id:
    description:
      - With O(phase=run) and O(phase=report), which drill. For a report, empty means all that are unfinished.
      - With O(phase=plan), what the drill is to be called. When empty, by the time.
    type: str
    default: ""
  at:
    description: With O(phase=run), when the fault begins, in seconds since the epoch.
    type: float
    default: 0.0
  records:
    description: With O(phase=report), what M(redis_fault) returned, by host.
    type: dict
    default: {}
  cut_short:
    description: With O(phase=report), why the drill was cut short. Empty where it was not.
    type: str
    default: ""
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: What would happen if zone b were lost now
  redis_cluster_drill: "{{ cluster | combine({'zone': 'b', 'history': '/var/lib/drills'}) }}"
  delegate_to: localhost
  run_once: true
  check_mode: true
"""

RETURN = r"""
drill:
  description: With O(phase=plan), what is planned - id, instances, shards, prediction, clients.
  returned: phase is plan
  type: dict
directory:
  description: Where its files are.
  returned: phase is plan
  type: str
ports:
  description: By host the ports of the instances that are struck.
  returned: phase is plan
  type: dict
cuts:
  description: For faults of the network, by host what is cut off from what.
  returned: phase is plan
  type: dict
words:
  description: What an operator types to confirm it.
  returned: phase is plan
  type: str
plan_text:
  description: The plan for people, a line an element.
  returned: phase is plan
  type: list
  elements: str
findings_text:
  description: What is worth knowing of the cluster before.
  returned: phase is plan
  type: list
  elements: str
history_text:
  description: Former drills, a line each.
  returned: phase is plan
  type: list
  elements: str
prediction:
  description: Whether it survives, seconds until FAIL, longest gap of writes, most acknowledged writes lost.
  returned: phase is plan
  type: dict
survival:
  description: What is left without what is struck.
  returned: phase is plan
  type: dict
unfinished:
  description: Drills of this cluster that have no report - id, directory, and the hosts that have a client.
  returned: phase is unfinished
  type: list
  elements: dict
trouble:
  description: With O(phase=run), why it was not seen through; empty where it was.
  returned: phase is run
  type: str
log:
  description: What happened, a line an element.
  returned: phase is run
  type: list
  elements: str
drills:
  description: With O(phase=report), each report without its series, as in C(report.json).
  returned: phase is report
  type: list
  elements: dict
passed:
  description: Whether all of them passed.
  returned: phase is report
  type: bool
text:
  description: The reports for people, a line an element.
  returned: phase is report
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("drill")


if __name__ == "__main__":
    main()
