"""What the hosts said of their instances (module redis_instances), as the cluster modules take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotwright.core.handover import named
from slotwright.core.topology import Topology
from slotwright.errors import Finding, Refused
from slotwright.manager.inventory import inventory_of

ASKED_FOR = "asked for"


def reported(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Host and instance, of all hosts that were reached in this run."""
    for host in hosts:
        said = hostvars[host].get("__redis_node_result") or {}
        for instance in said.get("instances") or ():
            yield host, instance


def pending(hosts: Sequence[str], hostvars: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Who waits for a restart. kind: as of module redis_cluster_roll.

    restart: not who waits for another version. upgrade and rollback: only who does.
    """
    found = []
    for host, instance in reported(hosts, hostvars):
        version = instance.get("version_pending", "")
        reasons = list(instance.get("restart_reasons", ()))
        if instance.get("running") and reasons and bool(version) == (kind != "restart"):
            flavor = hostvars[host].get("redis_install_flavor", "redis")
            entry = {"name": instance["name"], "reasons": reasons}
            found.append(entry | ({"flavor": flavor, "version": version} if version else {}))
    return found


def other_version(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Who waits for another version."""
    return [i["name"] for _, i in reported(hosts, hostvars) if i.get("running") and i.get("version_pending")]


def settings(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What module redis_config takes. Not of instances that were started just now, which run with all of it."""
    return [
        {"name": i["name"], "settings": i["settings"], "fixed": i["fixed"]}
        for _, i in reported(hosts, hostvars)
        if i.get("running") and i.get("settings")
    ]


@dataclass(frozen=True)
class Asking:
    """What an operator asks to have restarted. ports: by host. resumed: it is what an earlier run has left."""

    pending: list[dict[str, Any]]
    ports: dict[str, list[int]]
    resumed: bool


def asked(words: str, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> Asking:
    """Instances by zone, host or name (commas between), all where no words are given; what was left goes first.

    Raises Refused for words that mean nothing, and where another version waits: a restart would be an upgrade.
    """
    instances = {i.name: i for c in inventory_of(hosts, hostvars).clusters for i in c.topology.instances}
    left = {i["name"] for _, i in reported(hosts, hostvars) if ASKED_FOR in i.get("restart_reasons", ())}
    said = [word.strip() for word in words.split(",") if word.strip()]
    names = left & set(instances) or set(instances)
    if said and not left:
        names = set(named(Topology("all", tuple(instances.values()), 0, 1), said))
    if waiting := sorted(names & set(other_version(hosts, hostvars))):
        what = f"{', '.join(waiting[:3])} would come back as another version, which redis_install_version states"
        remedy = "run playbooks/upgrade.yml (or rollback.yml), or state the version that runs"
        raise Refused([Finding("version-waits", f"{len(waiting)} instances", what, remedy)])
    ports: dict[str, list[int]] = {}
    for name in sorted(names):
        ports.setdefault(instances[name].host, []).append(instances[name].port)
    return Asking([{"name": n, "reasons": [ASKED_FOR]} for n in sorted(names)], ports, bool(left))
