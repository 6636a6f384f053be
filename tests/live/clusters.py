"""Sites for tests: what an inventory wants, over real servers, and what the servers then say of themselves.

def test_x(servers):                  # the fixture of tests/conftest.py
    site = start_site(servers)        # six blank nodes on six hosts in three zones, one replica a shard
    site.converge()
    assert_sound(site)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import redis

from slotwright.core.redis_conf import DEFAULT_SETTINGS
from slotwright.core.simulate import unsettled
from slotwright.core.topology import Instance, Topology, default_shards
from slotwright.core.view import ClusterView
from slotwright.errors import Severity
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.link.observe import observe
from slotwright.manager import converge as manager
from slotwright.manager import info
from slotwright.manager.request import Request
from tests.live.servers import PORT, ROOT, Server, Servers, Value, layout, wait_until

ZONES: Mapping[str, Sequence[int]] = {"a": (1, 1), "b": (1, 1), "c": (1, 1)}
"""By zone, the number of instances on each of its hosts: host a1 has one, …"""

ACCESS = Access(connect_timeout=2.0)


@dataclass(frozen=True)
class Role:
    """What a node is, in every node's words: the name of its master ("" for a master), and its slots."""

    master: str
    slots: str


@dataclass(frozen=True)
class Site:
    """An inventory (request) and the server of each instance by its name, "a1:7000"."""

    request: Request
    servers: Mapping[str, Server]

    @property
    def topology(self) -> Topology:
        return self.request.topology

    @property
    def nodes(self) -> list[Server]:
        return list(self.servers.values())

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def links(self) -> Links:
        return Links(self.topology.everyone, self.request.access)

    def foresee(self) -> manager.Outcome:
        with self.links() as links:
            return manager.foresee(self.request, links)

    def converge(self, parallel: int = 0) -> manager.Outcome:
        with self.links() as links:
            return manager.converge(self.request, links, lambda line: None, parallel)

    def patient(self, seconds: float) -> Site:
        """The same site with another bound of each wait."""
        return replace(self, request=replace(self.request, timeout=seconds))

    def with_settings(self, settings: Mapping[str, str]) -> Site:
        """The same site with other values for the settings that a creation puts back."""
        wanted = tuple(sorted((DEFAULT_SETTINGS | settings).items()))
        return replace(self, request=replace(self.request, topology=replace(self.topology, settings=wanted)))

    def fill(self, keys: int) -> None:
        """Write key:0 … with an ordinary cluster client."""
        node = self.nodes[0]
        with redis.RedisCluster(host=node.address, port=node.port) as client:
            for number in range(keys):
                client.set(f"key:{number}", number)

    def count(self) -> int:
        """Keys on all living masters."""
        living = [node for node in self.nodes if node.alive]
        return sum(node.call("DBSIZE") for node in living if node.call("ROLE")[0] == "master")

    def look(self) -> ClusterView:
        with self.links() as links:
            return observe(self.topology, links)

    def errors(self) -> list[str]:
        """What redis_cluster_info finds wrong now. Warnings are left out."""
        with self.links() as links:
            found = info.findings(self.request, info.examine(self.request, links))
        return [str(finding) for finding in found if finding.severity is Severity.ERROR]

    def roles(self) -> dict[str, Role]:
        """By name, what every node is. Fails unless all nodes say the same."""
        views = [self._roles_seen_by(node) for node in self.nodes]
        assert all(view == views[0] for view in views), views
        return views[0]

    def _roles_seen_by(self, node: Server) -> dict[str, Role]:
        names = {node.name: name for name, node in self.servers.items()}
        lines = [line.split() for line in layout(node)]
        by_id = {ident: names[place] for ident, place, *_ in lines}
        return {by_id[i]: Role(by_id.get(master, ""), " ".join(slots)) for i, _, _, master, _, *slots in lines}

    def settings(self) -> dict[str, dict[str, str]]:
        """By name, the live value of every directive but replicaof, which a cluster sets itself."""
        found = {}
        for name, node in self.servers.items():
            flat = node.call("CONFIG", "GET", "*")
            live = dict(zip(flat[::2], flat[1::2], strict=True))
            found[name] = {k: v for k, v in live.items() if k not in ("replicaof", "slaveof")}
        return found

    def resized(self, more: Mapping[str, Server], **wanted: Any) -> Site:
        """The same inventory with more instances, "<host>:<port>" each in the zone that its host's first letter is."""
        added = tuple(_instance(name, node) for name, node in more.items())
        topology = replace(self.topology, instances=(*self.topology.instances, *added), **wanted)
        return Site(replace(self.request, topology=topology), {**self.servers, **more})

    def without(self, *names: str, **wanted: Any) -> Site:
        """The same inventory, in which these instances are stated as removed."""
        topology = self.topology
        stay = tuple(i for i in topology.instances if i.name not in names)
        go = tuple(i for i in topology.instances if i.name in names)
        topology = replace(topology, instances=stay, leaving=(*topology.leaving, *go), **wanted)
        return replace(self, request=replace(self.request, topology=topology))

    def those_that_stay(self) -> Site:
        """The inventory once those that have left are named no more."""
        topology = replace(self.topology, leaving=())
        return Site(replace(self.request, topology=topology), {i.name: self[i.name] for i in topology.instances})

    def wait_quiet(self) -> None:
        """Until the nodes agree with each other and their replicas are in sync."""
        wait_until("nothing changes by itself", lambda: _still(unsettled(self.look())))


def site_of(
    nodes: Mapping[str, Server],
    *,
    replicas: int = 1,
    shards: int | None = None,
    access: Access = ACCESS,
    timeout: float = 30.0,
) -> Site:
    """An inventory of these servers, by instance name "<host>:<port>". The host's first letter is its zone."""
    instances = tuple(_instance(name, node) for name, node in nodes.items())
    topology = Topology(
        "test",
        instances,
        replicas,
        shards or default_shards(len(instances), replicas),
        settings=tuple(sorted(DEFAULT_SETTINGS.items())),
    )
    return Site(Request(topology, access, timeout, strict_versions=False), nodes)


def start_site(
    servers: Servers,
    zones: Mapping[str, Sequence[int]] = ZONES,
    *,
    config: Mapping[str, Value] | None = None,
    binary: str = "redis-server",
    suffix: str = "",
    **options: Any,
) -> Site:
    """Start blank nodes in zones (see ZONES) with the settings that an operator's nodes have; options of site_of.

    Host 1 of zone a is "a1" + suffix.
    """
    settings: dict[str, Value] = {**DEFAULT_SETTINGS, **(config or {})}
    nodes = {}
    for zone, hosts in zones.items():
        for number, count in enumerate(hosts, start=1):
            address = servers.address()
            for port in range(PORT, PORT + count):
                nodes[f"{zone}{number}{suffix}:{port}"] = servers.start(
                    address, port, config=settings, binary=binary, wait=False
                )
    for node in nodes.values():
        node.wait_ready()
    return site_of(nodes, **options)


def _instance(name: str, node: Server) -> Instance:
    host = name.partition(":")[0]
    return Instance(name, host, host[0], node.address, node.port)


def at_other_addresses(site: Site) -> Site:
    """The inventory as it is once its servers have other addresses than when it was made."""
    instances = tuple(_instance(name, node) for name, node in site.servers.items())
    return replace(site, request=replace(site.request, topology=replace(site.topology, instances=instances)))


def _still(lacking: Sequence[str]) -> bool:
    assert not lacking, lacking
    return True


def meet(site: Site, *names: str) -> None:
    """Each of these nodes meets the next one, by raw commands; nothing is waited for."""
    for one, other in pairwise(names):
        site[one].call("CLUSTER", "MEET", site[other].address, site[other].port)


def know_each_other(site: Site, *names: str) -> None:
    """These nodes have met, by raw commands, and the handshakes are over."""
    meet(site, *names)
    for name in names:
        wait_until(f"{name} knows {len(names)} nodes", partial(_knows, site[name], len(names)))


def _knows(node: Server, count: int) -> bool:
    lines = node.call("CLUSTER", "NODES").splitlines()
    return len(lines) == count and not any("handshake" in line for line in lines)


def without_haste(site: Site) -> None:
    """Wait until the nodes have forgotten "nofailover". A creation sets it for its own time; Redis gossips it."""
    wait_until("nobody says nofailover", lambda: not any("nofailover" in str(layout(node)) for node in site.nodes))


def assert_sound(site: Site) -> None:
    """All that is promised of a cluster that was made, asked without the product's own code, then with it."""
    roles = site.roles()
    at = {instance.name: instance for instance in site.topology.instances}
    masters = [at[name] for name, role in roles.items() if not role.master]
    assert len(masters) == site.topology.shards, roles
    for name, role in roles.items():
        if role.master:
            assert at[name].host != at[role.master].host, f"{name} is on the host of its master: {roles}"
            assert at[name].zone != at[role.master].zone, f"{name} is in the zone of its master: {roles}"
            link = site[name].client().info("replication")["master_link_status"]
            assert link == "up", f"{name}: replication link is {link}"
    replicas = Counter(role.master for role in roles.values() if role.master)
    # Where there are more instances than shards need, some have one replica more.
    least, more = divmod(len(roles) - len(masters), len(masters))
    assert least >= site.topology.replicas, roles
    assert sorted(replicas[m.name] for m in masters) == [least] * (len(masters) - more) + [least + 1] * more, roles
    assert max(Counter(m.zone for m in masters).values()) <= (len(masters) - 1) // 2, f"no majority is left: {masters}"
    epochs = [line.split()[4] for line in layout(site.nodes[0]) if "master" in line.split()[2]]
    assert len(set(epochs)) == len(masters), f"config epochs: {epochs}"
    assert_clean(site)
    # Redis remakes a bus link that was silent for half a node timeout, which a creation makes 0.25 s.
    wait_until(f"redis_cluster_info finds nothing wrong with {site.nodes[0].name}", partial(_healthy, site), timeout=10)


def _healthy(site: Site) -> bool:
    found = site.errors()
    assert not found, found
    return True


def assert_clean(site: Site) -> None:
    """redis-cli --cluster check, asked of every node, has nothing to say."""
    access = site.request.access
    command = ["redis-cli"]
    if access.tls:
        files = {"--cacert": access.tls.ca, "--cert": access.tls.cert, "--key": access.tls.key}
        command += ["--tls", *(str(word) for option in files.items() for word in option)]
    for node in site.nodes:
        done = subprocess.run(
            [*command, "--cluster", "check", node.name],
            env=os.environ | ({"REDISCLI_AUTH": access.password} if access.password else {}),
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "All 16384 slots covered" in said, said
        assert "[WARNING]" not in said and "[ERR]" not in said, said


def run_module(arguments: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """redis_cluster as Ansible calls it: a process of its own with its arguments as JSON."""
    return subprocess.run(
        [sys.executable, "-m", "tests.live.module", "modules/redis_cluster.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
