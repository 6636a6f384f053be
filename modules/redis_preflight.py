#!/usr/bin/python
"""Looks at one host before Redis is put there, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_preflight
short_description: Look at a host before Redis is put there
version_added: 0.1.0
description:
  - Reads what matters to Redis on a host, and tries the ports of all other hosts of its cluster, in one call.
  - Judges nothing. Role redis_preflight does, when all hosts have looked.
  - A connection that is refused says nothing while no Redis runs at the other end. So a host whose ports are free has
    them listened on for some seconds, by a process of its own that ends by itself. Phase V(prove) tries these again,
    and phase V(end) ends the process and proves the ports free.
  - An action plugin of the same name adds by how much the host's clock is ahead of the controller's, and turns a
    failure into RV(error).
options:
  phase:
    description: What to do.
    type: str
    choices: [look, prove, end]
    required: true
  cluster:
    description: Name of the cluster of the host. For people who read the task.
    type: str
  address:
    description: For V(look), address by which others reach the host.
    type: str
  endpoints:
    description: For V(look), address and port of all that hosts of the cluster must reach; its own are left out.
    type: list
    elements: list
  instances:
    description: For V(look), the instances of the host.
    type: list
    elements: dict
    suboptions:
      port:
        description: Port for clients. The bus port is 10000 higher.
        type: int
        required: true
      listen:
        description: Addresses that it binds.
        type: list
        elements: str
        required: true
      data_dir:
        description: Directory of its data.
        type: path
        required: true
      pidfile:
        description: Path of its pidfile.
        type: path
        required: true
  log_dir:
    description: For V(look), directory of the logs.
    type: path
  servers:
    description: For V(look), where redis-server may be. The first that is there counts.
    type: list
    elements: str
  service:
    description: For V(look), what runs the instances.
    type: str
    choices: [systemd, process]
  listen_for:
    description: For V(look), for how many seconds free ports are listened on. 0 does not.
    type: float
    default: 0
  targets:
    description: For V(prove), address and port of what is to be tried again.
    type: list
    elements: dict
  listener:
    description: For V(end), what V(look) returned.
    type: dict
  timeout:
    description: Bound of each connection, in seconds.
    type: float
    default: 3
attributes:
  check_mode:
    description: Does the same, for it changes nothing. That a free port is listened on for some seconds is no change.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
author:
  - Slotwright
"""

EXAMPLES = r"""
- name: What to ask the hosts
  ansible.builtin.set_fact:
    asked: "{{ groups.redis | slotwright_preflight(hostvars, ansible_play_hosts_all) }}"
  run_once: true

- name: Look at the hosts, and try every connection between them
  redis_preflight: "{{ asked.look[inventory_hostname] | combine({'phase': 'look', 'endpoints': endpoints}) }}"
  vars:
    endpoints: "{{ asked.endpoints.cache }}"
"""

RETURN = r"""
ports:
  description: State of each instance's ports.
  returned: phase look
  type: list
  elements: dict
listener:
  description: Process that listens on the free ports, and these.
  returned: phase look
  type: dict
clock:
  description: By how many seconds its clock is ahead of the controller's, at least and at most.
  returned: phase look
  type: list
  elements: float
refused:
  description: Addresses and ports that refused a connection.
  returned: phases look and prove
  type: list
  elements: list
blocked:
  description: Addresses and ports that could not be connected to for another reason, and that reason.
  returned: phases look and prove
  type: list
  elements: list
said:
  description: Addresses and ports that accepted a connection, and what they said.
  returned: phase prove
  type: list
  elements: list
lasted:
  description: Whether the process was still there.
  returned: phase end
  type: bool
error:
  description: Why nothing of this is there. The task does not fail then.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_files import HostError  # noqa: E402
from ansible.module_utils.slotwright_preflight import look  # noqa: E402
from ansible.module_utils.slotwright_reach import end, prove  # noqa: E402

INSTANCE = {
    "port": {"type": "int", "required": True},
    "listen": {"type": "list", "elements": "str", "required": True},
    "data_dir": {"type": "path", "required": True},
    "pidfile": {"type": "path", "required": True},
}
ARGUMENTS = {
    "phase": {"type": "str", "choices": ["look", "prove", "end"], "required": True},
    "cluster": {"type": "str"},
    "address": {"type": "str"},
    "endpoints": {"type": "list", "elements": "list"},
    "instances": {"type": "list", "elements": "dict", "options": INSTANCE},
    "log_dir": {"type": "path"},
    "servers": {"type": "list", "elements": "str"},
    "service": {"type": "str", "choices": ["systemd", "process"]},
    "listen_for": {"type": "float", "default": 0},
    "targets": {"type": "list", "elements": "dict"},
    "listener": {"type": "dict"},
    "timeout": {"type": "float", "default": 3},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    phase = {"look": look, "prove": prove, "end": end}[module.params["phase"]]
    try:
        module.exit_json(changed=False, **phase(module.params))
    except HostError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
