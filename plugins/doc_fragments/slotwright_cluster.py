"""The options that the cluster modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - slotwright (on the controller)
notes:
  - Runs on the controller, with the controller's own Python (C(delegate_to=localhost) and
    C(ansible_python_interpreter={{ ansible_playbook_python }})). The role C(redis_cluster) does that.
options:
  name:
    description: Name of the cluster, for messages.
    type: str
    default: redis
  instances:
    description: Every redis-server process of the cluster.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name for messages and results, by custom C(host:port).
        type: str
        required: true
      host:
        description: Inventory host it runs on. A replica never shares it with its master.
        type: str
        required: true
      zone:
        description: Failure domain (rack, room, availability zone) of the host.
        type: str
        required: true
      address:
        description: IP address that clients, the other nodes and the controller connect to.
        type: str
        required: true
      port:
        description: Client port. The bus port is this plus 10000.
        type: int
        required: true
  leaving:
    description:
      - Instances that are stated as removed, in the form of O(instances), of which none is among them.
      - They hand over what they have, leave the cluster, and are reset. A member that neither list names is reported.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name for messages and results.
        type: str
        required: true
      host:
        description: Host it runs on.
        type: str
        required: true
      zone:
        description: Failure domain of the host; empty where it is not known.
        type: str
        required: true
      address:
        description: IP address by which it is reached.
        type: str
        required: true
      port:
        description: Client port.
        type: int
        required: true
  weights:
    description: By name of an instance, its share of the slots when it is a master, above 0. Others have 1.
    type: dict
    default: {}
  threshold:
    description: Percentage of its slots by which a master may have more or fewer before slots move for that alone.
    type: float
    default: 2
  replicas:
    description: Wanted replicas of each master.
    type: int
    default: 1
  shards:
    description:
      - Wanted number of masters.
      - The default is as many as O(instances) can fill with a master and O(replicas) replicas each.
    type: int
  allow_zone_risk:
    description:
      - Take a layout that breaks the zone rules where no other is possible.
      - The plan and every report then say which zone must not be lost.
    type: bool
    default: false
  strict_versions:
    description: Refuse server versions that lack known security fixes, instead of warning.
    type: bool
    default: false
  settings:
    description:
      - Wanted values of C(cluster-node-timeout) (milliseconds), C(repl-diskless-sync-delay) (seconds) and
        C(cluster-replica-no-failover).
      - While a cluster is created and still empty they are shortened, and put back at the end. Only the
        directives given here are touched; without any, creation takes the servers' own waits.
    type: dict
    default: {}
  username:
    description: ACL user to log in as. The default is Redis's C(default) user.
    type: str
  password:
    description: Password to log in with.
    type: str
  tls_ca:
    description: PEM file on the controller with the CA of the nodes' certificates. Any O(tls_ca), O(tls_cert) or
      O(tls_key) switches TLS on.
    type: path
  tls_cert:
    description: PEM file on the controller with the client certificate.
    type: path
  tls_key:
    description: PEM file on the controller with the key of O(tls_cert).
    type: path
  reach:
    description: Connect to the nodes straight (V(direct)), or by way of their hosts' SSH servers (V(ssh)).
    type: str
    choices: [direct, ssh]
    default: direct
  ssh:
    description: With O(reach=ssh), how to log in to each host. What is left out comes from the user's ssh
      configuration.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Inventory host.
        type: str
        required: true
      hostname:
        description: What to connect to.
        type: str
        required: true
      port:
        description: Port of the SSH server.
        type: int
      user:
        description: User to log in as.
        type: str
      key_file:
        description: Private key on the controller.
        type: path
      password:
        description: Password, where no key serves.
        type: str
      common_args:
        description: Further arguments of the ssh command, as in C(ansible_ssh_common_args).
        type: str
        default: ""
  latency_budget_ms:
    description:
      - While slots move, all but one in a hundred requests of clients shall take no longer (milliseconds). Probes
        measure it all the time, and the moves are made gentler where it is not kept. 0 for as fast as it goes.
    type: float
    default: 0
  keys_per_second:
    description: How many keys may move a second, over all nodes. 0 for no limit.
    type: float
    default: 0
  mb_per_second:
    description: How much memory (in 1,000,000 bytes) may move a second, over all nodes. 0 for no limit.
    type: float
    default: 0
  strategy:
    description:
      - V(classic) moves keys by C(MIGRATE), on every version. V(atomic) lets the servers move whole ranges of slots
        (Redis 8.4, Valkey 9.0), and refuses nodes that cannot. V(auto) takes V(atomic) where all can and no limit is
        given.
    type: str
    choices: [auto, classic, atomic]
    default: auto
  move_big_keys:
    description: Move keys also where that would block two nodes for more than a quarter of C(cluster-node-timeout).
      Without it their slots stay where they are, and the run says which.
    type: bool
    default: false
  timeout:
    description: Upper bound of every single wait, in seconds.
    type: float
    default: 60
  connect_timeout:
    description: Upper bound of connecting to a node, in seconds.
    type: float
    default: 5
"""
