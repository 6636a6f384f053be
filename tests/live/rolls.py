"""Hosts with one instance each, of any version, that are rolled from one to another: both halves, without Ansible."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView
from slotwright.link.connect import Links
from slotwright.link.observe import observe
from slotwright.manager import converge as manager
from slotwright.manager import roll
from slotwright.manager.progress import Told
from slotwright.manager.request import Request, complete, read_request
from tests.live.machine import Machine, installed
from tests.live.servers import Servers, binary

PORT = 7001
HASTY = {"cluster-node-timeout": 2000, "repl-diskless-sync-delay": 0}


def server(version: str) -> dict[str, Any]:
    """An entry of redis_install_servers. 7.0.15 is this machine's own."""
    path = shutil.which("redis-server") if version == "7.0.15" else binary(version)
    assert path
    return installed(path, version.rpartition("-")[2])


@dataclass
class Fleet:
    """machines: by host; host a1 is in zone a. version: the one that is stated now."""

    machines: Mapping[str, Machine]
    replicas: int
    version: str
    earlier: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(
        default_factory=lambda: {"cluster-node-timeout": 2000, "repl-diskless-sync-delay": 0}
    )
    timeout: float = 60.0

    @property
    def topology(self) -> Topology:
        instances = [Instance(f"{h}:{PORT}", h, h[0], m.address, PORT) for h, m in self.machines.items()]
        return Topology("cache", tuple(instances), self.replicas, len(instances) // (self.replicas + 1))

    @property
    def request(self) -> Request:
        settings = {
            k: str(v) for k, v in self.config.items() if k in ("cluster-node-timeout", "repl-diskless-sync-delay")
        }
        wanted = self.topology
        return read_request(
            complete(
                {
                    "name": "cache",
                    "instances": [
                        {"name": i.name, "host": i.host, "zone": i.zone, "address": i.address, "port": i.port}
                        for i in wanted.instances
                    ],
                    "replicas": self.replicas,
                    "settings": settings | {"cluster-replica-no-failover": "no"},
                    "timeout": self.timeout,
                }
            )
        )

    def links(self) -> Links:
        return Links(self.topology.everyone, self.request.access)

    def configure(self, host: str, **options: Any) -> dict[str, Any]:
        servers = [server(v) for v in (self.version, *self.earlier)]
        [instance] = self.machines[host].converge(servers=servers, node_config=self.config, **options)["instances"]
        found: dict[str, Any] = instance
        return found

    def pending(self) -> list[dict[str, Any]]:
        """What each host says, as slotwright_pending gives it."""
        found = []
        for host in self.machines:
            said = self.configure(host)
            if said["restart_pending"]:
                version = said["version_pending"]
                flavor = {"flavor": "valkey" if self.version.startswith("valkey") else "redis", "version": version}
                entry = {"name": f"{host}:{PORT}", "run_id": "", "reasons": said["restart_reasons"], "flavor": "redis"}
                found.append(entry | {"version": ""} | (flavor if version else {}))
        return found

    def create(self) -> None:
        for host in self.machines:
            self.configure(host)
        with self.links() as links:
            manager.converge(self.request, links, lambda line: None)

    def state(self, version: str) -> None:
        """From now on another version is stated; the one of before stays installed."""
        self.earlier = [self.version, *(v for v in self.earlier if v not in (self.version, version))]
        self.version = version

    def asked(self, kind: str, **options: Any) -> roll.Asked:
        params = {"pending": self.pending(), "kind": kind, "max_unavailable": 0, "commit": False, "untested": False}
        params |= {"canary": 2 if kind == "upgrade" else 0, **options}
        return roll.read_asked(params, self.request)

    def plan(self, asked: roll.Asked) -> tuple[roll.Asked, Sequence[Any]]:
        """What is asked with run ids, and the waves."""
        with self.links() as links:
            rolling, view, _ = roll.foresee(self.request, asked, links)
        return with_ids(asked, view), rolling.waves

    def roll(
        self, kind: str, *, most_turns: int = 99, then: Callable[[roll.Turn], None] = lambda turn: None, **options: Any
    ) -> list[roll.Turn]:
        """As the playbook does it. then: called after each wave. most_turns: the play is cut off after so many."""
        asked, waves = self.plan(self.asked(kind, **options))
        turns: list[roll.Turn] = []
        while waves and len(turns) < most_turns:
            with self.links() as links, Told(None) as told:
                turn = roll.turn(self.request, asked, links, told)
            turns.append(turn)
            if turn.wave is None:
                break
            for name in turn.wave.restarts:
                self.configure(name.partition(":")[0], restart=[PORT], fresh=kind == "rollback")
            if turn.canary:
                asked = roll.Asked(
                    asked.pending, asked.kind, asked.most, asked.commit, asked.untested, asked.canary - 1
                )
            then(turn)
        return turns

    def look(self) -> ClusterView:
        with self.links() as links:
            return observe(self.topology, links)

    def versions(self) -> dict[str, str]:
        return {n.name.partition(":")[0]: n.version for n in self.look().nodes}

    def masters(self) -> set[str]:
        view = self.look()
        return {view.members[i].name.partition(":")[0] for i in view.owners}

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()


def with_ids(asked: roll.Asked, view: ClusterView) -> roll.Asked:
    ids = {n.name: n.run_id for n in view.nodes}
    pending = tuple(roll.Pending(p.name, p.run_id or ids[p.name], p.version, p.reasons) for p in asked.pending)
    return replace(asked, pending=pending)


def fleet(servers: Servers, directory: Path, hosts: str, *, replicas: int, version: str) -> Fleet:
    """hosts: "a1 a2 b1". Started and made a cluster by create()."""
    machines = {host: Machine(directory / host, servers.address()) for host in hosts.split()}
    return Fleet(machines, replicas, version)
