#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a fault of a drill on one host, which heals itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_fault
short_description: Do a fault of a drill to instances of a host, and heal it
description:
  - V(armed) starts a process on the host, the healer, and returns. At O(at) the healer does the fault, and after
    O(seconds) it heals it. Neither needs the controller or a connection to it.
  - There is no fault without a living healer, for it is the healer that does it. SIGTERM makes it heal at once. It has
    its own session and, under systemd, its own scope, and where it may it is spared when memory runs out.
  - Should the healer itself be killed, V(healed) heals in its place, from the record that the healer has written.
    A reboot heals packets, stopped processes and units; instances with O(service=process) wait for V(healed).
  - Everything that can be refused is refused before there is a healer.
version_added: 0.5.0
options:
  state:
    description:
      - V(armed) has the fault done, and healed when its time is over. The same drill is not armed twice, and another
        is refused while one is here. The record of one that is over is replaced.
      - V(healed) has it healed at once if it is not over yet, waits until it is, returns the record and removes it.
        Without a record it changes nothing.
      - V(observed) returns the record, and changes nothing.
    type: str
    choices: [armed, healed, observed]
    required: true
  drill:
    description: Id of the drill. With V(healed) it may be left out; another drill is refused.
    type: str
  kind:
    description:
      - V(stop) stops as an operator does, with C(systemctl stop), or SIGTERM with O(service=process). Redis saves its
        data then, where its redis.conf says so, and may take a while to end. Healing starts it.
      - V(kill) kills with SIGKILL. It stays down until it is healed, although its unit says C(Restart=). Healing starts
        it.
      - V(freeze) stops its process, which keeps its connections and answers nothing. Healing lets it go on.
      - V(partition) drops all packets between addresses of O(cut.mine) and O(cut.others), both ways.
      - V(partition-one-way) drops those from O(cut.mine) to O(cut.others). What these send comes in, but no answer goes
        out, so that no new connection is made in either direction.
      - V(bus-only) drops only TCP from and to O(cut.bus_ports) between them, both ways.
      - V(reboot) reboots the host. Its instances come back by themselves.
    type: str
    choices: [stop, kill, freeze, partition, partition-one-way, bus-only, reboot]
  ports:
    description: Ports of the instances of this host that are struck. With a partition, those that are cut off.
    type: list
    elements: int
  at:
    description: When it begins, in seconds since the epoch by the clock of this host, which RV(now) tells. At most
      a second ago, and at most ten minutes ahead.
    type: float
  seconds:
    description: For how long it lasts, at most an hour. A clock that is set meanwhile changes nothing.
    type: float
  cut:
    description: Who is cut off from whom, with a partition. Addresses are IPv4 or IPv6, and no names.
    type: dict
    suboptions:
      mine:
        description: Addresses of this host that packets of its instances carry.
        type: list
        elements: str
        required: true
      others:
        description: Addresses of the other side.
        type: list
        elements: str
        required: true
      keep:
        description: Addresses that must stay reachable, as the controller's. Refused where one is in O(cut.others).
        type: list
        elements: str
        default: []
      bus_ports:
        description: Bus ports of both sides. Only for V(bus-only).
        type: list
        elements: int
        default: []
  service:
    description: What runs the instances. As option O(service) of M(redis_instances).
    type: str
    choices: [systemd, process]
    default: systemd
  conf_dir:
    description: Directory of the configuration of the instances. Where an instance listens, and where its data and its
      pidfile are, is read in its redis.conf.
    type: path
    default: /etc/redis-cluster
  user:
    description: User that Redis runs as, with O(service=process). Without root it is ignored.
    type: str
    default: redis
  group:
    description: Group that Redis runs as. As O(user).
    type: str
    default: redis
  environment:
    description: Environment variables of every instance, with O(service=process).
    type: dict
  directory:
    description: Directory of the record, which only root (or who runs this) may write to. Hosts that are addresses of
      one machine need one each.
    type: path
    default: /var/lib/slotwright-drill
  timeout:
    description: Bound of healing, in seconds. With V(armed), for the healer to start instances; with V(healed), for
      the healer to end, and then for healing in its place.
    type: float
    default: 60
attributes:
  check_mode:
    description: Refuses what would be refused, says what would be done, and starts no healer.
    support: full
  diff_mode:
    description: The fault that is here, before and after, as one line.
    support: full
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: What the clock of the host says
  redis_fault:
    state: observed
  register: seen

- name: Kill two instances in ten seconds, for twenty
  redis_fault:
    state: armed
    drill: 2026-03-01-a
    kind: kill
    ports: [7001, 7002]
    at: "{{ seen.now + 10 }}"
    seconds: 20

- name: Cut a host of one zone off from the other zones
  redis_fault:
    state: armed
    drill: 2026-03-01-b
    kind: partition
    ports: [7001, 7002]
    at: "{{ seen.now + 10 }}"
    seconds: 30
    cut:
      mine: [10.0.1.11]
      others: [10.0.2.11, 10.0.3.11]
      keep: [10.0.9.1]

- name: Heal whatever is there
  redis_fault:
    state: healed
"""

RETURN = r"""
now:
  description: The host's clock, in seconds since the epoch.
  returned: success
  type: float
boot_id:
  description: Of the kernel that runs now, with the start of its init, which a container has of its own.
  returned: success
  type: str
record:
  description: What is known of the drill. Null where there is none. With V(healed), as it was before it was removed.
  returned: success
  type: dict
  contains:
    drill:
      description: Its id.
      type: str
    kind:
      description: What is done.
      type: str
    ports:
      description: To whom.
      type: list
      elements: int
    at:
      description: When it was to begin.
      type: float
    seconds:
      description: For how long.
      type: float
    phase:
      description: V(armed), nothing was done yet; V(striking), from five seconds before it begins; V(struck); V(over).
      type: str
    armed_at:
      description: When it was armed.
      type: float
    began:
      description: When it really began, by port. A port that is missing was not struck.
      type: dict
    healed:
      description: When the instance went on, or answered again, by port. With a partition, when the rules were gone.
      type: dict
    deadline:
      description: When healing begins at the latest.
      type: float
    errors:
      description: What went wrong. What could not be done at one port was healed at all.
      type: list
      elements: str
    healer_alive:
      description: Whether the process that does it and heals it is there.
      type: bool
    now:
      description: As RV(now).
      type: float
    boot_id:
      description: As RV(boot_id), when it was armed.
      type: str
    rebooted:
      description: Whether the host was rebooted since.
      type: bool
  sample:
    drill: 2026-03-01-a
    kind: kill
    ports: [7001]
    at: 1772323200.0
    seconds: 20.0
    phase: over
    armed_at: 1772323190.2
    began: {"7001": 1772323200.0007}
    healed: {"7001": 1772323220.31}
    deadline: 1772323220.0
    errors: []
    healer_alive: false
    now: 1772323225.0
    boot_id: 3b1b9d3e-6a1c-4a4e-9f0e-0d1a3f6c2f11/1
    rebooted: false
findings:
  description: What was wrong, as a list with one entry.
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_fault import DIRECTORY, apply  # noqa: E402
from ansible.module_utils.slotwright_files import HostError  # noqa: E402
from ansible.module_utils.slotwright_strike import KINDS  # noqa: E402

CUT = {
    "mine": {"type": "list", "elements": "str", "required": True},
    "others": {"type": "list", "elements": "str", "required": True},
    "keep": {"type": "list", "elements": "str", "default": []},
    "bus_ports": {"type": "list", "elements": "int", "default": []},
}
ARGUMENTS = {
    "state": {"type": "str", "choices": ["armed", "healed", "observed"], "required": True},
    "drill": {"type": "str"},
    "kind": {"type": "str", "choices": list(KINDS)},
    "ports": {"type": "list", "elements": "int"},
    "at": {"type": "float"},
    "seconds": {"type": "float"},
    "cut": {"type": "dict", "options": CUT},
    "service": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
    "conf_dir": {"type": "path", "default": "/etc/redis-cluster"},
    "user": {"type": "str", "default": "redis"},
    "group": {"type": "str", "default": "redis"},
    "environment": {"type": "dict"},
    "directory": {"type": "path", "default": DIRECTORY},
    "timeout": {"type": "float", "default": 60},
}


def main() -> None:
    armed = ("state", "armed", ["drill", "kind", "ports", "at", "seconds"])
    module = AnsibleModule(ARGUMENTS, required_if=[armed], supports_check_mode=True)
    try:
        module.exit_json(**apply(module.params, check=module.check_mode))
    except HostError as error:
        module.fail_json(msg=str(error), findings=[error.finding])


if __name__ == "__main__":
    main()
