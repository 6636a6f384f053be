#!/usr/bin/python
"""Makes the Redis instances of one host what they are described to be, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_instances
short_description: Configure and start all Redis instances of a host
version_added: 0.1.0
description:
  - Makes the directories, redis.conf, service and running processes of all Redis instances of a host what the options
    say, in one call, however many instances there are.
  - An action plugin of the same name runs first, on the controller. It merges the directives of cluster, host and
    instance, renders O(template) for each instance and hands the texts over. Where an option says "on the controller",
    the action plugin uses it up.
  - A redis.conf that differs is first read by the real redis-server, without port, cluster or data. If that refuses
    it, its own words are returned and no file of any instance is replaced.
  - "Redis has two files: its own C(<data_dir>/<port>/rewrite.conf), where CONFIG REWRITE writes, and the role's
    C(<conf_dir>/<port>/redis.conf), which it may not write and which it reads last. What the inventory states wins at
    every start; what CONFIG REWRITE saved beyond that lasts."
  - A running instance is restarted only where O(restart) names it, and never while it is a master that owns slots.
    RV(instances.restart_pending) says where a restart is wanted, and RV(instances.settings) what the instance is to run
    with; module M(redis_config) sets that live.
  - A master whose memory does not come back whole (no AOF) is not started before its peers were asked. It waits while a
    replica of it cannot be asked, or holds what the master would lose, until that has taken over. The file
    C(<data_dir>/<port>/start-empty) permits one start all the same.
  - An instance is not started while something else listens on its port or bus port, nor when it is a known cluster
    member, or has data, and its nodes.conf is empty, cut short or gone (it would come up as a stranger). The
    file C(<conf_dir>/<port>/member) says where the data of a known member are.
options:
  state:
    description:
      - V(started) configures and starts. V(stopped) stops, and a reboot does not start it again.
      - V(absent) stops and removes the configuration, and with O(data=remove) all data.
    type: str
    choices: [started, stopped, absent]
    default: started
  service:
    description:
      - V(systemd) runs C(redis-cluster@<port>.service).
      - V(process) runs daemons with a pidfile, for machines without systemd. They do not come back after a reboot.
    type: str
    choices: [systemd, process]
    default: systemd
  servers:
    description:
      - On the controller, the servers that are installed on the host, the one first that instances shall run. To stop
        instances none is needed.
      - Each instance has a link, C(<conf_dir>/<port>/redis-server), and is started through it. The link of an instance
        that does not run is pointed at its server; that of a running one stays, so that a crash brings back the same
        server.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the program on the host.
        type: str
        required: true
      version:
        description: Its version, as V(7.0.15). Decides which directives are written.
        type: str
        required: true
      notify:
        description: Whether it was built with libsystemd, and can tell systemd that it is ready.
        type: bool
        default: false
  port_version:
    description: On the controller, version of the instance at a port, where it is another than that of the first of
      O(servers). It must be among these.
    type: dict
  address:
    description: On the controller, address that the instances bind and announce.
    type: str
    required: true
  ports:
    description: On the controller, one instance is made for each port.
    type: list
    elements: int
    required: true
  cluster_config:
    description: On the controller, directives of redis.conf for all instances of the cluster.
    type: dict
  node_config:
    description: On the controller, directives for all instances of the host. Stronger than O(cluster_config).
    type: dict
  port_config:
    description: On the controller, directives for single instances, by port. Stronger than O(node_config).
    type: dict
  username:
    description: On the controller, user with which replicas log in to their master, unless it is the default user.
    type: str
  password:
    description: On the controller, password of clients and replicas.
    type: str
  tls:
    description: On the controller, paths on the host of V(ca), V(cert) and V(key). Without them there is no TLS.
    type: dict
  template:
    description: On the controller, path of the template of redis.conf.
    type: path
    required: true
  unit_template:
    description: On the controller, path of the template of the systemd unit.
    type: path
    required: true
  templates:
    description: On the controller, directory with the other files, the drop-in of the unit and the scripts that guard
      every start.
    type: path
    required: true
  environment:
    description: Environment variables of every instance. Not for secrets, they are shown.
    type: dict
  conf_dir:
    description: Directory of the configuration on the host.
    type: path
    required: true
  data_dir:
    description: Directory of the data, with a directory of its own for each port.
    type: path
    required: true
  log_dir:
    description: Directory of the logs.
    type: path
    required: true
  run_dir:
    description: Directory of the pidfiles.
    type: path
    required: true
  user:
    description: User that Redis runs as. Without root it is ignored, and Redis runs as whoever runs the module.
    type: str
    default: redis
  group:
    description: Group that Redis runs as. As O(user).
    type: str
    default: redis
  data:
    description:
      - With O(state=absent), what becomes of the data of the instances.
      - V(keep) leaves it, so that they come back with it. V(remove) takes data and logs away.
      - V(aside) renames the data directory, for instances that have left their cluster; should they join it again, they
        start as new ones.
    type: str
    choices: [keep, aside, remove]
    default: keep
  restart:
    description:
      - Ports of instances that are stopped, given what is new, and started again. Everything is proved before the first
        of them is stopped. Where the server is of another version then, C(nodes.conf.<version>) keeps nodes.conf as the
        old one wrote it.
      - An instance that its own nodes.conf knows as a master with slots is refused.
    type: list
    elements: int
    default: []
  want_restart:
    description: Ports of instances that are to be restarted some time. RV(instances.restart_pending) says so until they
      are started again, by whomever.
    type: list
    elements: int
    default: []
  fresh:
    description:
      - With O(restart), the instances begin without data, and copy those of their masters. For replicas that get an
        older version, which cannot read what the newer one wrote.
      - The data are put aside, into C(<data_dir>/<port>/data-of-<version>). nodes.conf stays.
    type: bool
    default: false
  timeout:
    description: Bound of each wait, in seconds.
    type: float
    default: 30
  instances:
    description: The instances, from the action plugin.
    type: list
    elements: dict
    suboptions:
      name:
        description: The inventory's name of the host, a colon, and the port.
        type: str
        required: true
      port:
        description: Port for clients. The bus port is 10000 higher.
        type: int
        required: true
      listen:
        description: Addresses that it binds.
        type: list
        elements: str
        required: true
      tls:
        description: Whether it speaks TLS.
        type: bool
        required: true
      candidates:
        description: For each server that it may run, the wanted one first, what it gets with that.
        type: list
        elements: dict
        required: true
        suboptions:
          server:
            description: Path of the program.
            type: str
            required: true
          version:
            description: Its version.
            type: str
            required: true
          content:
            description: Text of redis.conf with marks where the secrets belong.
            type: str
            required: true
          drop_in:
            description: Text of the drop-in of the systemd unit.
            type: str
            required: true
          open_files:
            description: How many files it may have to open.
            type: int
            required: true
      conf:
        description: Path of redis.conf.
        type: path
        required: true
      environment:
        description: Path of its environment file.
        type: path
        required: true
      link:
        description: Path of the link to its server.
        type: path
        required: true
      data_dir:
        description: Data directory of the instance.
        type: path
        required: true
      logfile:
        description: Path of its log.
        type: path
        required: true
      pidfile:
        description: Path of its pidfile.
        type: path
        required: true
  secrets:
    description: From the action plugin, the secret for each mark in the texts.
    type: dict
  unit:
    description: From the action plugin, text of the systemd unit.
    type: str
    default: ""
  before_start:
    description: From the action plugin, text of the script that guards every start.
    type: str
    default: ""
  ask_peers:
    description: From the action plugin, text of the script that asks the peers before a master without AOF starts.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would change, and tries a changed redis.conf with the real server, but changes nothing.
    support: full
  diff_mode:
    description: Before and after of each file and each process, secrets hidden.
    support: full
author:
  - Slotwright
"""

EXAMPLES = r"""
- name: Two instances on a host with systemd
  redis_instances:
    servers:
      - {path: /opt/redis/7.2.7/bin/redis-server, version: 7.2.7, notify: true}
      - {path: /opt/redis/7.4.2/bin/redis-server, version: 7.4.2, notify: true}
    port_version:
      7002: 7.4.2
    address: 10.0.1.11
    ports: [7001, 7002]
    cluster_config:
      maxmemory: 2gb
      save: ["3600 1", "300 100"]
    port_config:
      7002:
        maxmemory: 4gb
    template: "{{ playbook_dir }}/templates/redis.conf.j2"
    unit_template: "{{ playbook_dir }}/templates/redis-cluster@.service.j2"
    templates: "{{ playbook_dir }}/templates"
"""

RETURN = r"""
instances:
  description: What stands there now. In check mode, what would stand there.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the instance.
      type: str
    port:
      description: Its port.
      type: int
    pid:
      description: Process, null when it does not run.
      type: int
    running:
      description: Whether it runs.
      type: bool
    started:
      description: Whether this call started it.
      type: bool
    changed_files:
      description: Paths that this call made, changed or removed for the instance.
      type: list
      elements: str
    server:
      description: Path of the server that it is linked to, with which it would come back after a crash.
      type: str
    server_version:
      description: Version of that server. Empty when the instance was stopped, nothing is installed yet, or the server
        is none of O(servers).
      type: str
    version_pending:
      description: Version that the instance shall run instead, and gets when it is started next by this module. Empty
        where it runs the right one.
      type: str
    restart_pending:
      description: Whether something is in place that only a restart makes count.
      type: bool
    restart_reasons:
      description: What that is. Names of directives, C(redis-server), C(environment), C(version ...), C(asked for), or
        C(redis.conf) where nobody knows any more what it was started with.
      type: list
      elements: str
    settings:
      description: The value of each directive, as CONFIG GET shows it, that redis.conf and what CONFIG REWRITE saved
        give it. Secrets, paths and ports are left out.
      type: dict
    fixed:
      description: Those of the directives that CONFIG SET does not take.
      type: list
      elements: str
    limits:
      description: What the kernel was asked to grant the process, and what it granted, by name, V(open_files) and under
        systemd V(oom_score_adj). Each has C(asked) and C(got). Empty for what does not run. Where it got less,
        there is a warning, and nothing fails.
      type: dict
  sample:
    - name: redis-a1:7001
      port: 7001
      pid: 4711
      running: true
      started: false
      changed_files: []
      server: /opt/redis/7.2.7/bin/redis-server
      server_version: 7.2.7
      version_pending: ""
      restart_pending: false
      restart_reasons: []
      settings: {maxmemory: "2147483648", io-threads: "1"}
      fixed: [io-threads]
      limits:
        open_files: {asked: 10128, got: 10128}
        oom_score_adj: {asked: -900, got: -900}
findings:
  description: What was wrong, as a list with one entry.
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_files import HostError  # noqa: E402
from ansible.module_utils.slotwright_host import converge  # noqa: E402

CANDIDATE = {
    "server": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "content": {"type": "str", "required": True},
    "drop_in": {"type": "str", "required": True},
    "open_files": {"type": "int", "required": True},
}
INSTANCE = {
    "name": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "listen": {"type": "list", "elements": "str", "required": True},
    "tls": {"type": "bool", "required": True},
    "candidates": {"type": "list", "elements": "dict", "required": True, "options": CANDIDATE},
    "conf": {"type": "path", "required": True},
    "environment": {"type": "path", "required": True},
    "link": {"type": "path", "required": True},
    "data_dir": {"type": "path", "required": True},
    "logfile": {"type": "path", "required": True},
    "pidfile": {"type": "path", "required": True},
}
SERVER = {
    "path": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "notify": {"type": "bool", "default": False},
}
ON_THE_CONTROLLER = {
    "servers": {"type": "list", "elements": "dict", "default": [], "options": SERVER},
    "port_version": {"type": "dict"},
    "address": {"type": "str", "required": True},
    "ports": {"type": "list", "elements": "int", "required": True},
    "cluster_config": {"type": "dict"},
    "node_config": {"type": "dict"},
    "port_config": {"type": "dict"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "tls": {"type": "dict"},
    "template": {"type": "path", "required": True},
    "unit_template": {"type": "path", "required": True},
    "templates": {"type": "path", "required": True},
    "data_dir": {"type": "path", "required": True},
    "log_dir": {"type": "path", "required": True},
    "run_dir": {"type": "path", "required": True},
}
ON_THE_HOST = {
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "service": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
    "environment": {"type": "dict"},
    "conf_dir": {"type": "path", "required": True},
    "user": {"type": "str", "default": "redis"},
    "group": {"type": "str", "default": "redis"},
    "data": {"type": "str", "choices": ["keep", "aside", "remove"], "default": "keep"},
    "restart": {"type": "list", "elements": "int", "default": []},
    "want_restart": {"type": "list", "elements": "int", "default": []},
    "fresh": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 30},
    "instances": {"type": "list", "elements": "dict", "options": INSTANCE},
    "secrets": {"type": "dict", "no_log": True},
    "unit": {"type": "str", "default": ""},
    "before_start": {"type": "str", "default": ""},
    "ask_peers": {"type": "str", "default": ""},
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
