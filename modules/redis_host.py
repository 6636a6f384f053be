#!/usr/bin/python
"""Makes one machine fit for Redis Cluster, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_host
short_description: Make a host fit for Redis Cluster
version_added: 0.1.0
description:
  - Makes account, limits, kernel settings and packet filter of a host what Redis Cluster needs, in one call.
  - An action plugin of the same name runs first, on the controller. It renders the files from O(templates). Where an
    option says "on the controller", the action plugin uses it up.
  - An account that exists is kept as it is.
  - Kernel settings are set at once and at every boot. Of C(net.core.somaxconn) and C(net.ipv4.tcp_max_syn_backlog)
    larger values that are there already are kept, unless O(sysctl) states them.
  - Transparent huge pages become V(madvise), which is all that Redis asks for; V(never) is left as it is.
  - What the kernel refuses, as it does in containers, is a warning that says what was asked and what is there; see
    RV(settings).
  - The packet filter lets all nodes of the cluster connect to the cluster bus ports, and nobody else. The ports for
    clients are for the nodes, the controller and O(rules.networks). Without these they are not closed to anybody, and
    not opened to others than nodes and controller either, where a filter of the host closes them by itself. Its rules
    are about attempts to connect to Redis at this host's own addresses and about nothing else, so no connection that
    exists is cut, and no other port is closed. Rules of others are not touched.
  - Where the rules would keep somebody from connecting again who is connected now, nothing is changed and the module
    fails, unless O(confirm) is set.
  - Other packet filters that are active lose the rules that earlier runs gave them. Where somebody is connected now,
    that wants O(confirm) too.
options:
  state:
    description:
      - V(present) makes all of it.
      - V(absent) takes the rules away and, when no instance is left on the host, the files too. The account stays.
    type: str
    choices: [present, absent]
    default: present
  templates:
    description: On the controller, directory of the templates.
    type: path
    required: true
  sysctl:
    description: On the controller, kernel settings in addition to those of the template, and stronger.
    type: dict
  user:
    description: User that Redis runs as.
    type: str
    required: true
  group:
    description: Group that Redis runs as.
    type: str
    required: true
  service:
    description: What runs the instances. With V(process), a limits.d file raises the number of open files.
    type: str
    choices: [systemd, process]
    required: true
  conf_dirs:
    description:
      - Directories with the configuration of all instances of the machine; with O(state=absent), to see whether any is
        left.
    type: list
    elements: path
    required: true
  firewall:
    description:
      - What filters packets. V(auto) takes firewalld or ufw where one of them is active, else nftables where it can be
        used, else nothing.
      - V(nftables) means a table of its own, in a file below C(/etc/nftables.d) that a unit of its own loads at boot.
      - V(firewalld) means rich rules, for now and for good, without a reload. V(ufw) means rules with a comment.
    type: str
    choices: [auto, nftables, firewalld, ufw, none]
    default: auto
  confirm:
    description: Shut out addresses that are connected now. Their connections stay, new ones are refused.
    type: bool
    default: false
  address:
    description: Where other nodes and the controller connect to Redis on this host.
    type: str
    required: true
  admit_controller:
    description:
      - Whether the controller connects to Redis by itself. Let in are the address that the SSH session shows, and the
        controller's own on its route to O(address).
      - Only the controller of the last run is let in. Where there are several, O(rules.networks) has to name them.
    type: bool
    required: true
  rules:
    description: Who may connect, from the filter P(slotwright_machines#filter).
    type: dict
    required: true
    suboptions:
      name:
        description: Tells these rules from those of another cluster on the same machine.
        type: str
        required: true
      clients:
        description: Pairs of an address of the host and a port for clients. An empty address stands for all of them.
        type: list
        elements: list
        required: true
      bus:
        description: The same for the cluster bus.
        type: list
        elements: list
        required: true
      peers:
        description: Addresses of all nodes of the cluster.
        type: list
        elements: str
        required: true
      networks:
        description: Who else may use the ports for clients. Not given means that no rule is about anybody else.
        type: list
        elements: str
  sysctl_file:
    description: From the action plugin, text of the sysctl.d file.
    type: str
    default: ""
  sysctl_stated:
    description: From the action plugin, names of the settings in O(sysctl).
    type: list
    elements: str
    default: []
  limits_file:
    description: From the action plugin, text of the limits.d file.
    type: str
    default: ""
  thp_unit:
    description: From the action plugin, text of the unit that turns off transparent huge pages.
    type: str
    default: ""
  nft_file:
    description: From the action plugin, text of the rules for nftables.
    type: str
    default: ""
  nft_unit:
    description: From the action plugin, text of the unit that loads them.
    type: str
    default: ""
  controller:
    description: From the action plugin, the controller's own address on its route to O(address). Empty without a route.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would change, and lets nft read the rules, but changes nothing.
    support: full
  diff_mode:
    description: Before and after of each file, kernel setting, account and set of rules.
    support: full
author:
  - Slotwright
"""

EXAMPLES = r"""
- name: A host that is open to one network of clients
  redis_host:
    templates: "{{ playbook_dir }}/templates"
    user: redis
    group: redis
    service: systemd
    conf_dirs: [/etc/redis-cluster]
    sysctl:
      net.core.somaxconn: 8192
    firewall: nftables
    address: 10.0.1.11
    admit_controller: true
    rules:
      name: redis-cluster_cache_10.0.1.11
      clients: [[10.0.1.11, 6379]]
      bus: [[10.0.1.11, 16379]]
      peers: [10.0.1.11, 10.0.2.11, 10.0.3.11]
      networks: [10.9.0.0/16]
"""

RETURN = r"""
settings:
  description: What was asked of the kernel, and what is there now. In check mode, what would be there.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the setting.
      type: str
    asked:
      description: Wanted value.
      type: str
    got:
      description: Value that the kernel has. Empty where it has no such setting.
      type: str
  sample:
    - name: vm.overcommit_memory
      asked: "1"
      got: "1"
firewall:
  description: What filters packets, V(none) where nothing does.
  returned: success
  type: str
findings:
  description: What was wrong, as a list with one entry.
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_files import HostError  # noqa: E402
from ansible.module_utils.slotwright_machine import converge  # noqa: E402

RULES = {
    "name": {"type": "str", "required": True},
    "clients": {"type": "list", "elements": "list", "required": True},
    "bus": {"type": "list", "elements": "list", "required": True},
    "peers": {"type": "list", "elements": "str", "required": True},
    "networks": {"type": "list", "elements": "str"},
}
ON_THE_CONTROLLER = {
    "templates": {"type": "path", "required": True},
    "sysctl": {"type": "dict"},
}
ON_THE_HOST = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "user": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "service": {"type": "str", "choices": ["systemd", "process"], "required": True},
    "conf_dirs": {"type": "list", "elements": "path", "required": True},
    "firewall": {"type": "str", "choices": ["auto", "nftables", "firewalld", "ufw", "none"], "default": "auto"},
    "confirm": {"type": "bool", "default": False},
    "address": {"type": "str", "required": True},
    "admit_controller": {"type": "bool", "required": True},
    "rules": {"type": "dict", "required": True, "options": RULES},
    "sysctl_file": {"type": "str", "default": ""},
    "sysctl_stated": {"type": "list", "elements": "str", "default": []},
    "limits_file": {"type": "str", "default": ""},
    "thp_unit": {"type": "str", "default": ""},
    "nft_file": {"type": "str", "default": ""},
    "nft_unit": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule({**ON_THE_CONTROLLER, **ON_THE_HOST}, supports_check_mode=True)
    try:
        result = converge(module.params, check=module.check_mode)
        for warning in result.pop("warnings"):
            module.warn(warning)
        module.exit_json(**result)
    except HostError as error:
        module.fail_json(msg=str(error), findings=[error.finding])


if __name__ == "__main__":
    main()
