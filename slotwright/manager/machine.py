"""What module redis_host wants to know of each host and its cluster, out of the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from slotwright.core.firewall import rules_for
from slotwright.core.hosts import Member, Notes, read_host
from slotwright.core.inventory import read_inventory
from slotwright.errors import Refused
from slotwright.manager.inventory import evaluated


def machines(hosts: Sequence[str], hostvars: Mapping[str, Any], *, check: bool = True) -> dict[str, dict[str, Any]]:
    """For each host the options of module redis_host that depend on how instances are described, its own and others.

    hosts: all of the inventory. Raises Refused where it cannot be built; without `check`, for what is taken down, only
    where a host's own variables are wrong, and so do not tell what there is.
    """
    variables = {name: evaluated(hostvars[name]) for name in hosts}
    if check:
        read_inventory(hosts, variables)
    notes = Notes()
    members = [read_host(name, variables[name], notes) for name in hosts]
    if findings := list(notes.findings()):
        raise Refused(findings)
    return {member.name: _machine(member, members) for member in members}


def _machine(mine: Member, members: Sequence[Member]) -> dict[str, Any]:
    return {
        "address": str(mine.address),
        "user": mine.values["redis_node_user"],
        "group": mine.values["redis_node_group"],
        "service": mine.values["redis_node_service"],
        # Of all clusters on the machine: what they share goes with the last of them.
        "conf_dirs": sorted(
            {
                member.values["redis_node_conf_dir"]
                for member in members
                if member.machine == mine.machine or member.address == mine.address
            }
        ),
        "rules": asdict(rules_for(mine, members)),
        # Over a local connection there is no session to see the controller by, and nothing to let in.
        "admit_controller": mine.raw.get("redis_cluster_reach") != "ssh" and not mine.is_local,
    }
