"""Every variable that an inventory may set: one table, from which values are checked and the documentation is made."""

from __future__ import annotations

import difflib
from functools import cache

from slotwright.core.values import CHECKSUM_FORM, VERSION_FORM, Variable

TABLE: tuple[Variable, ...] = (
    Variable(
        "redis_cluster_name",
        "string",
        "Name of the cluster that the host belongs to. One inventory may hold several clusters.",
        default="redis",
        pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
        pattern_words="1 to 63 letters, digits, '-', '_' or '.', with a letter or digit first",
    ),
    Variable("redis_cluster_replicas", "integer", "Replicas of each shard.", default=1, agree=True, low=0, high=5),
    Variable(
        "redis_cluster_shards",
        "integer",
        "Number of shards, at least 3. When not set: as many as the instances can fill.",
        agree=True,
        low=3,
        high=1000,
    ),
    Variable(
        "redis_cluster_absent",
        "strings",
        'Instances that are to leave the cluster: a host of the inventory (all of its instances), "host:port", or '
        '"address:port" of a member that the inventory does not name. Nothing leaves that is not stated, here or by '
        "redis_node_state.",
        default=[],
        agree=True,
    ),
    Variable(
        "redis_cluster_threshold",
        "number",
        "Percentage of its slots by which a master may have more or fewer before slots move for that alone.",
        default=2,
        agree=True,
        low=0,
        high=100,
    ),
    Variable(
        "redis_reshard_latency_budget_ms",
        "number",
        "While slots move, all but one in a hundred requests of clients shall take no longer (milliseconds). 0: as "
        "fast as it goes.",
        default=0,
        agree=True,
        low=0,
        high=10_000,
    ),
    Variable(
        "redis_reshard_keys_per_second",
        "number",
        "Keys that may move a second, over all nodes. 0: no limit.",
        default=0,
        agree=True,
        low=0,
        high=1_000_000_000,
    ),
    Variable(
        "redis_reshard_mb_per_second",
        "number",
        "Megabytes of memory that may move a second, over all nodes. 0: no limit.",
        default=0,
        agree=True,
        low=0,
        high=1_000_000,
    ),
    Variable(
        "redis_reshard_strategy",
        "string",
        "How slots move: classic (MIGRATE, every version), atomic (Redis 8.4, Valkey 9.0), or auto.",
        default="auto",
        agree=True,
        choices=("auto", "classic", "atomic"),
    ),
    Variable(
        "redis_reshard_move_big_keys",
        "boolean",
        "Move keys also where that blocks two nodes for more than a quarter of cluster-node-timeout.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_cluster_config",
        "directives",
        "redis.conf directives for every instance of the cluster.",
        default={},
        agree=True,
    ),
    Variable(
        "redis_cluster_username", "string", "ACL user to log in as. When not set: Redis's default user.", agree=True
    ),
    Variable(
        "redis_cluster_password",
        "string",
        "Password of the cluster, for clients and between nodes. Keep it in Ansible Vault.",
        agree=True,
        secret=True,
    ),
    Variable(
        "redis_cluster_tls_ca",
        "file",
        "On the controller: the CA that signed the nodes' certificates. Needed with redis_node_tls.",
        agree=True,
    ),
    Variable("redis_cluster_tls_cert", "file", "On the controller: client certificate.", agree=True),
    Variable("redis_cluster_tls_key", "file", "On the controller: key of the client certificate.", agree=True),
    Variable(
        "redis_cluster_reach",
        "string",
        "How the controller reaches the Redis ports: straight, or through each host's SSH.",
        default="direct",
        agree=True,
        choices=("direct", "ssh"),
    ),
    Variable("redis_cluster_timeout", "seconds", "Bound of every wait.", default=60, agree=True, low=1, high=3600),
    Variable(
        "redis_cluster_allow_zone_risk",
        "boolean",
        "Accept a layout that does not survive the loss of every zone. Every report then names the zones.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_cluster_strict_versions",
        "boolean",
        "Refuse Redis versions below the security floors, which are otherwise a warning.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_node_zone",
        "string",
        "Failure domain of the host: a rack, a room, a cloud zone. No replica shares its master's.",
        required=True,
    ),
    Variable(
        "redis_node_address",
        "string",
        "IP address by which clients, nodes and the controller reach the instances of the host. "
        "When not set: ansible_host or the inventory name, if that is an IP address.",
    ),
    Variable("redis_node_ports", "ports", "One Redis instance is run for each port.", default=[6379]),
    Variable(
        "redis_node_service",
        "string",
        "What keeps the instances running: systemd, or plain processes with a pidfile.",
        default="systemd",
        choices=("systemd", "process"),
    ),
    Variable(
        "redis_node_config",
        "directives",
        "redis.conf directives for every instance of the host; stronger than redis_cluster_config.",
        default={},
    ),
    Variable(
        "redis_node_port_config",
        "port directives",
        "redis.conf directives for the instance at a port; stronger than redis_node_config.",
        default={},
    ),
    Variable(
        "redis_node_tls", "boolean", "TLS for clients, replication and the cluster bus.", default=False, agree=True
    ),
    Variable("redis_node_tls_ca", "host path", "On the host: the CA.", default="/etc/redis-cluster/tls/ca.crt"),
    Variable(
        "redis_node_tls_cert",
        "host path",
        "On the host: the node's certificate.",
        default="/etc/redis-cluster/tls/redis.crt",
    ),
    Variable(
        "redis_node_tls_key",
        "host path",
        "On the host: the certificate's key.",
        default="/etc/redis-cluster/tls/redis.key",
    ),
    Variable("redis_node_conf_dir", "host path", "On the host: redis.conf of each port.", default="/etc/redis-cluster"),
    Variable("redis_node_data_dir", "host path", "On the host: data of each port.", default="/var/lib/redis-cluster"),
    Variable("redis_node_log_dir", "host path", "On the host: logs.", default="/var/log/redis-cluster"),
    Variable("redis_node_run_dir", "host path", "On the host: pidfiles.", default="/run/redis-cluster"),
    Variable("redis_node_user", "string", "User that runs Redis. Without root: whoever logs in.", default="redis"),
    Variable("redis_node_group", "string", "Group that runs Redis. Without root: whoever logs in.", default="redis"),
    Variable(
        "redis_restart_policy",
        "string",
        "What becomes of instances that only a restart gives what is new: restarted in waves, or only named.",
        default="waves",
        agree=True,
        choices=("waves", "report"),
    ),
    Variable(
        "redis_restart_max_unavailable",
        "integer",
        "How many instances of a zone may be down at a time for a restart. 0 for the whole zone.",
        default=1,
        agree=True,
        low=0,
        high=1000,
    ),
    Variable("redis_node_timeout", "seconds", "Bound of a start and of a stop.", default=30, low=1, high=3600),
    Variable(
        "redis_node_weight",
        "number",
        "Share of the slots that an instance of the host has while it is a master, compared with others.",
        default=1,
        low=0.01,
        high=1000,
    ),
    Variable(
        "redis_node_port_weight",
        "port numbers",
        "The weight of the instance at a port, where it is another than redis_node_weight.",
        default={},
        low=0.01,
        high=1000,
    ),
    Variable(
        "redis_node_state",
        "string",
        "What becomes of the instances. absent: they hand over what they have, leave the cluster, and are stopped; "
        "their configuration goes, their data stay.",
        default="started",
        choices=("started", "stopped", "absent"),
    ),
    Variable("redis_node_remove_data", "boolean", "With state absent: take away all data as well.", default=False),
    Variable("redis_node_template", "file", "On the controller: another template of redis.conf."),
    Variable("redis_node_unit_template", "file", "On the controller: another template of the systemd unit."),
    Variable(
        "redis_node_port_version",
        "port versions",
        "The version of the instance at a port, where it is another than redis_install_version: a canary. It must be "
        "one of redis_install_also.",
        default={},
        **VERSION_FORM,
    ),
    Variable(
        "redis_node_environment",
        "environment",
        "Environment variables of every instance of the host. Not for secrets: they are shown.",
        default={},
    ),
    Variable(
        "redis_host_manage",
        "boolean",
        "Make user, directories, limits, kernel settings and firewall. When not set: with redis_node_service systemd.",
    ),
    Variable(
        "redis_host_sysctl",
        "sysctl",
        "Kernel settings, in addition to those that Redis needs; stronger than these.",
        default={},
    ),
    Variable(
        "redis_host_firewall",
        "string",
        "What filters packets. auto: firewalld or ufw where one of them is active, else nftables where it is there.",
        default="auto",
        choices=("auto", "nftables", "firewalld", "ufw", "none"),
    ),
    Variable(
        "redis_host_client_networks",
        "networks",
        "Who may use the client ports, besides the nodes and the controller of the last run. Name every controller "
        "where there are several. Empty: the ports are neither closed nor opened to anybody else.",
        default=[],
    ),
    Variable(
        "redis_host_firewall_confirm",
        "boolean",
        "Let the firewall shut out addresses that are connected right now. Connections that exist stay.",
        default=False,
    ),
    Variable(
        "redis_preflight_fix",
        "boolean",
        "Where something can be mended, run the whole role redis_host, packet filter included; then look again.",
        default=False,
        agree=True,
    ),
    Variable(
        "redis_preflight_accept",
        "strings",
        "Codes of findings that shall not stop the run. They are still shown.",
        default=[],
        agree=True,
    ),
    Variable(
        "redis_preflight_timeout",
        "seconds",
        "Bound of each connection that one host tries to another.",
        default=3,
        agree=True,
        low=0.1,
        high=60,
    ),
    Variable(
        "redis_install_flavor",
        "string",
        "Whose server: Redis, or Valkey.",
        default="redis",
        agree=True,
        choices=("redis", "valkey"),
    ),
    Variable(
        "redis_install_method",
        "string",
        "system: the server of the host or of its packages. archive: a tarball of binaries. source: a tarball of "
        "sources, built once and shipped to all hosts.",
        default="system",
        choices=("system", "archive", "source"),
    ),
    Variable(
        "redis_install_version",
        "string",
        "Version to install. Needed with the methods archive and source.",
        **VERSION_FORM,
    ),
    Variable(
        "redis_install_also",
        "versions",
        "Further versions to lay beside it, each with version, archive and perhaps checksum.",
        default=[],
    ),
    Variable(
        "redis_drill_seconds",
        "number",
        "How long the fault of a drill lasts. Each host ends it by itself.",
        default=30,
        agree=True,
        low=1,
        high=3600,
    ),
    Variable(
        "redis_drill_writes",
        "number",
        "Writes a second of each client of a drill: one on the controller, and one in each zone.",
        default=100,
        agree=True,
        low=1,
        high=10_000,
    ),
    Variable(
        "redis_drill_reads", "number", "Reads a second of each client.", default=50, agree=True, low=0, high=10_000
    ),
    Variable(
        "redis_drill_workload",
        "string",
        "keys: each write is a key of its own. counters: INCR, as in the consistency test of Redis's cluster tutorial.",
        default="keys",
        agree=True,
        choices=("keys", "counters"),
    ),
    Variable(
        "redis_drill_max_write_gap",
        "number",
        "Objective of a drill: seconds for which no write to a shard may succeed, at the most.",
        agree=True,
        low=0,
        high=3600,
    ),
    Variable(
        "redis_drill_max_lost",
        "integer",
        "Objective: acknowledged writes of the drill that may be lost, at the most.",
        agree=True,
        low=0,
        high=1_000_000_000,
    ),
    Variable(
        "redis_drill_max_redundancy",
        "number",
        "Objective: seconds from the heal until every replica is in sync again, at the most.",
        agree=True,
        low=0,
        high=3600,
    ),
    Variable(
        "redis_drill_history",
        "directory",
        "On the controller: where drills are kept. When not set: ~/.local/state/slotwright/drills.",
        agree=True,
    ),
    Variable(
        "redis_drill_directory",
        "host path",
        "On the host: what a drill needs there. It is taken away afterwards.",
        default="/var/lib/slotwright-drill/{{ inventory_hostname }}",
    ),
    Variable(
        "redis_install_bin_dir",
        "host path",
        "With method system: where the server is looked for.",
        default="/usr/bin",
    ),
    Variable(
        "redis_install_root",
        "host path",
        "The versions of the methods archive and source are put below it.",
        default="/opt/redis",
    ),
    Variable(
        "redis_install_package",
        "string",
        "With method system: the package with the server. When not set: what the distribution calls it.",
    ),
    Variable(
        "redis_install_user",
        "string",
        "The user that is made for Redis where no package brings one. Empty: none is made.",
        default="redis",
        may_be_empty=True,
    ),
    Variable("redis_install_archive", "file", "On the controller: tarball of binaries, for method archive."),
    Variable(
        "redis_install_source",
        "string",
        "For method source: tarball of sources, a path on the controller or an http(s) address.",
    ),
    Variable(
        "redis_install_build_host",
        "string",
        "Inventory name of the host that builds the sources.",
        default="localhost",
        agree=True,
    ),
    Variable(
        "redis_install_cache",
        "directory",
        "On the controller: where built archives are kept. When not set: ~/.cache/slotwright.",
    ),
    Variable(
        "redis_install_checksum",
        "string",
        "SHA-256 of the archive, or with method source of the tarball of sources.",
        **CHECKSUM_FORM,
    ),
)
RESULTS = (
    "redis_install_server",
    "redis_install_server_version",
    "redis_install_servers",
    "redis_preflight_findings",
)
"""Facts that the roles leave behind: known names, but not for an inventory to set."""
BY_NAME: dict[str, Variable] = {v.name: v for v in TABLE}
PREFIXES = ("redis_cluster_", "redis_node_", "redis_host_", "redis_preflight_", "redis_install_", "redis_drill_")


@cache
def meant_by(name: str) -> str | None:
    """The known variable that an unknown one of ours was probably meant to be, "" when there is none near it.

    Ours are all names with one of our prefixes, and those close to a known name. None for known and foreign names.
    """
    plain = name.lower().replace("-", "_")
    if name in BY_NAME or name in RESULTS or not plain.startswith("redis_"):
        return None
    ours = plain.startswith(PREFIXES)
    near = difflib.get_close_matches(plain, BY_NAME, n=1, cutoff=0.8 if ours else 0.86)
    return near[0] if near else "" if ours else None
