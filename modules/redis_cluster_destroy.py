#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what destroying a Redis Cluster would destroy, and every reason not to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_destroy
short_description: Says what destroying a Redis Cluster destroys, or refuses it
description:
  - Looks at every node and says what would be destroyed - nodes, keys, bytes. It changes nothing by itself; the role
    then stops the instances of each host and removes their files with M(redis_instances).
  - Refuses a name that was not typed as it is, and members that the inventory does not name, unless they are stated -
    they would be left behind, of a broken cluster. Refuses too while another controller is at work on the cluster.
  - Nodes that do not answer are listed and hold nothing up.
version_added: 0.2.0
extends_documentation_fragment: slotwright_cluster
attributes:
  check_mode:
    description: It only looks, so that check mode is no different.
    support: full
  diff_mode:
    description: It only looks, so that there is no diff.
    support: none
options:
  confirm:
    description: The name of the cluster, as it was typed.
    type: str
    default: ''
  abandon:
    description: C(address:port) of members that the inventory does not name and that may be left behind.
    type: list
    elements: str
    default: []
  remove_data:
    description: Whether the data is going to be removed too. Only for what is said.
    type: bool
    default: false
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: See what would be destroyed
  redis_cluster_destroy: "{{ item | combine({'confirm': 'cache'}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) | selectattr('name', 'equalto', 'cache') }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
nodes:
  description: Every instance with its role (V(master), V(replica) or V(silent)), keys and bytes of memory.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "a1:6379", "role": "master", "keys": 5461, "bytes": 2097152}]
hosts:
  description: Every inventory host with an instance of the cluster.
  returned: success
  type: list
  elements: str
keys:
  description: Keys of all masters.
  returned: success
  type: int
bytes:
  description: Memory that all nodes use.
  returned: success
  type: int
text:
  description: All of it as lines for people.
  returned: success
  type: list
  elements: str
findings:
  description: Nodes that do not answer, and those left behind. On failure, every reason.
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("destroy")


if __name__ == "__main__":
    main()
