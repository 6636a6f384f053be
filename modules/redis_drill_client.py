#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: run a client of a failure drill on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_drill_client
short_description: Run a client of a failure drill on a host
description:
  - Starts the client that O(bundle) holds (a Python archive with redis-py in it) as a process of its own, which writes
    a ledger of all its calls, and ends it. It ends by itself at the time that its configuration names, whatever becomes
    of the controller.
version_added: 0.5.0
options:
  state:
    description: V(started) or V(stopped).
    type: str
    choices: [started, stopped]
    default: started
  directory:
    description: Where the client's files are, of this host alone.
    type: path
    required: true
  bundle:
    description: With O(state=started), path of the archive on this host.
    type: path
  config:
    description: With O(state=started), the client's configuration (see C(slotwright/drill/client.py)).
    type: dict
    default: {}
  username:
    description: ACL user of the client.
    type: str
  password:
    description: Its password. It is handed over on standard input, and never written down.
    type: str
  timeout:
    description: Seconds for the client to end.
    type: float
    default: 20.0
attributes:
  check_mode:
    description: Nothing is started or stopped.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Call the cluster from this host
  redis_drill_client:
    directory: /var/lib/slotwright-drill
    bundle: /var/lib/slotwright-drill/client.pyz
    config: "{{ plan.drill.clients[inventory_hostname] }}"
"""

RETURN = r"""
ledger:
  description: With O(state=stopped), path of the ledger on this host; empty where there is none.
  returned: success
  type: str
problem:
  description: Why no client runs here, or what it said in the end; empty where all is well.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_drill_client import started, stopped  # noqa: E402

ARGUMENTS = {
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "directory": {"type": "path", "required": True},
    "bundle": {"type": "path"},
    "config": {"type": "dict", "default": {}},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "timeout": {"type": "float", "default": 20.0},
}


def main() -> None:
    module = AnsibleModule(
        ARGUMENTS, supports_check_mode=True, required_if=[("state", "started", ("bundle", "config"))]
    )
    act = started if module.params["state"] == "started" else stopped
    try:
        module.exit_json(**act(module.params, check=module.check_mode))
    except OSError as error:
        module.fail_json(msg=f"the drill's client: {error.strerror} at {error.filename}. Nothing else was touched.")


if __name__ == "__main__":
    main()
