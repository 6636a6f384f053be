#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: have running instances use what their redis.conf says, without a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_config
short_description: Have running Redis instances use what their redis.conf says
description:
  - Compares what each instance runs with (C(CONFIG GET)) with what its redis.conf means to its server, and sets live
    what differs and can be set live. Restarts nothing.
  - What redis.conf means is what module M(redis_instances) returns. There the server itself was asked, so that units,
    defaults, lists and names of old compare as they are.
  - What somebody set by hand, and did not save with C(CONFIG REWRITE), is set back. It would be gone with the next
    restart all the same.
  - Nothing needs to be written. redis.conf is in place, and is what the next start reads.
version_added: 0.4.0
extends_documentation_fragment:
  - slotwright_cluster
attributes:
  check_mode:
    description: Returns what a run would set, and sets nothing.
    support: full
  diff_mode:
    description: Each directive of each instance, before and after.
    support: full
options:
  wanted:
    description: Instances of this and perhaps other clusters, as RV(redis_instances#module:instances) has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance, C(host:port).
        type: str
        required: true
      settings:
        description: The value of each directive, as C(CONFIG GET) shows it. Empty for an instance that is left alone.
        type: dict
        required: true
      fixed:
        description: Those that C(CONFIG SET) does not take.
        type: list
        elements: str
        default: []
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Run with what redis.conf says
  redis_config: "{{ item | combine({'wanted': wanted}) }}"
  loop: "{{ ansible_play_hosts_all | slotwright_clusters(hostvars) }}"
  loop_control:
    label: "{{ item.name }}"
  delegate_to: localhost
  run_once: true
  vars:
    wanted:
      - {name: "a1:6379", settings: {maxmemory: "2147483648", io-threads: "4"}, fixed: [io-threads]}
"""

RETURN = r"""
set:
  description: What was set, or would be in check mode - name, directive, before, after.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "a1:6379", "directive": "maxmemory", "before": "0", "after": "2147483648"}]
restart:
  description: Reasons for a restart, by instance. What a server did not take live, with its own words.
  returned: success
  type: dict
text:
  description: All of it as lines for people.
  returned: success
  type: list
  elements: str
findings:
  description: What is worth knowing - code, where, what, remedy, severity. On failure, every reason.
  returned: always
  type: list
  elements: dict
findings_text:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.slotwright_controller import run_verb  # noqa: E402


def main() -> None:
    run_verb("configure")


if __name__ == "__main__":
    main()
