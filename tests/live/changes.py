"""What becomes of a cluster in its life, as sites to converge to, one after the other, without end.

    for change in sizes(servers):         # 6 to 9 nodes, 9 to 12, 12 to 9, …
        change.site.converge()

The world (a death, a failover, new addresses) has changed already when a change is yielded, and the cluster is as the
change before wanted it. So the same nodes serve for as many changes as one likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from typing import Any

from tests.live.clusters import ZONES, Site, at_other_addresses, start_site, without_haste
from tests.live.servers import PORT, Server, Servers, Value, wait_until

CONFIG: Mapping[str, Value] = {
    "cluster-node-timeout": 2000,
    "repl-diskless-sync-delay": 0,
    "appendonly": True,
    # A server that is killed keeps what it acknowledged: "everysec" writes up to two seconds late on a busy disk.
    "appendfsync": "always",
    "cluster-allow-replica-migration": False,
}
KEYS = 1000


@dataclass(frozen=True)
class Change:
    """site: the inventory as it is now, of a cluster that is something else. name: what happened. serves: it does."""

    name: str
    site: Site
    serves: bool = True


Changes = Callable[[Servers], Iterator[Change]]


def made(
    servers: Servers,
    zones: Mapping[str, Sequence[int]] = ZONES,
    *,
    config: Mapping[str, Value] = CONFIG,
    **options: Any,
) -> Site:
    """A cluster that serves, and holds keys."""
    site = start_site(servers, zones, config=config, **options)
    site = site.with_settings(
        {name: str(config[name]) for name in ("cluster-node-timeout", "repl-diskless-sync-delay")}
    )
    site.converge()
    without_haste(site)
    site.fill(KEYS)
    return site


class _Pool:
    """Servers by their hosts; those that have left a cluster are blank, and serve again."""

    def __init__(self, servers: Servers, site: Site) -> None:
        self.servers, self.found = servers, dict(site.servers)

    def __call__(self, hosts: Iterable[str]) -> dict[str, Server]:
        names = [f"{host}:{PORT}" for host in hosts]
        for name in names:
            if name not in self.found:
                self.found[name] = self.servers.start(config=CONFIG)
        return {name: self.found[name] for name in names}


def _steps(servers: Servers, site: Site, turns: Iterable[tuple[str, str, str, Mapping[str, int]]]) -> Iterator[Change]:
    """By turns hosts are added and removed, "a1 a2" each."""
    pool = _Pool(servers, site)
    for name, more, fewer, wanted in cycle(turns):
        leaving = [f"{host}:{PORT}" for host in fewer.split()]
        site = site.resized(pool(more.split()), **wanted).without(*leaving)
        yield Change(name, site)
        site = site.those_that_stay()


def sizes(servers: Servers) -> Iterator[Change]:
    """Four zones, because four shards cannot stand in three. Masters and replicas leave."""
    turns = [
        ("6-to-9", "c2 d2 a3", "", {"shards": 4}),
        ("9-to-12", "b3 c3 d3", "", {"shards": 6}),
        ("12-to-9", "", "a1 b1 c1", {"shards": 4}),
        ("9-to-6", "", "a2 d1 b2", {"shards": 3}),
        ("6-to-9", "a1 b1 d1", "", {"shards": 4}),
        ("9-to-12", "a2 b2 c1", "", {"shards": 6}),
        ("12-to-9", "", "c2 d2 a3", {"shards": 4}),
        ("9-to-6", "", "b3 c3 d3", {"shards": 3}),
    ]
    return _steps(servers, made(servers, {"a": (1, 1), "b": (1, 1), "c": (1,), "d": (1,)}), turns)


def replicas(servers: Servers) -> Iterator[Change]:
    turns = [
        ("1-to-2-replicas", "a3 b3 c3", "", {"replicas": 2}),
        ("2-to-1-replicas", "", "a1 b1 c1", {"replicas": 1}),
        ("1-to-2-replicas", "a1 b1 c1", "", {"replicas": 2}),
        ("2-to-1-replicas", "", "a3 b3 c3", {"replicas": 1}),
    ]
    return _steps(servers, made(servers), turns)


def zones(servers: Servers) -> Iterator[Change]:
    turns = [
        ("zone-d-comes", "d1 d2", "", {"shards": 4}),
        ("zone-a-goes", "", "a1 a2", {"shards": 3}),
        ("zone-a-comes", "a1 a2", "", {"shards": 4}),
        ("zone-d-goes", "", "d1 d2", {"shards": 3}),
    ]
    return _steps(servers, made(servers), turns)


def deaths(servers: Servers) -> Iterator[Change]:
    """A master's host dies, a replica takes over, and another host is named in its place."""
    site = made(servers)
    for number in count(3):
        views = site.roles()
        master = sorted(name for name, role in views.items() if not role.master)[number % 3]
        others = [node for name, node in site.servers.items() if name != master]
        dead = site[master].id()
        site[master].kill()
        for node in others:
            wait_until("a replica has taken over", partial(_without_slots, node, dead))
        zone = master[0]
        more = {f"{zone}{number}:{PORT}": servers.start(config=CONFIG)}
        site = site.resized(more).without(master)
        yield Change("host-for-a-dead-one", site)
        site = site.those_that_stay()


def _without_slots(node: Server, ident: str) -> bool:
    """Whether the node sees that one without slots."""
    line = next(line for line in node.call("CLUSTER", "NODES").splitlines() if line.startswith(ident))
    return not line.split()[8:]


def failovers(servers: Servers) -> Iterator[Change]:
    """All masters get into one zone by failovers."""
    site = made(servers, {"a": (1, 1, 1), "b": (1, 1, 1), "c": (1, 1, 1)}, replicas=2)
    for zone in cycle("abc"):
        lost = {role.master for name, role in site.roles().items() if name.startswith(zone) and role.master}
        for master in sorted(lost):
            heir = next(n for n, role in site.roles().items() if role.master == master and n.startswith(zone))
            fail_over(site, heir)
        yield Change("all-masters-in-one-zone", site)


def fail_over(site: Site, heir: str) -> None:
    """By raw commands. A master votes for a shard's replicas only once in two node timeouts."""
    node = site[heir]
    site.wait_quiet()
    for _ in range(5):
        node.call("CLUSTER", "FAILOVER")
        try:
            wait_until(f"{heir} is master", lambda: node.call("ROLE")[0] == "master", timeout=5)
            break
        except AssertionError:
            continue
    site.wait_quiet()


def drift(servers: Servers) -> Iterator[Change]:
    """A replica is made one of the master in its own zone, whose replica elsewhere it had been."""
    site = made(servers)
    for zone in cycle("abc"):
        roles = site.roles()
        name = next(n for n, role in roles.items() if role.master and n.startswith(zone))
        home = next(n for n, role in roles.items() if not role.master and n.startswith(zone))
        site[name].call("CLUSTER", "REPLICATE", site[home].id())
        yield Change("replica-in-its-masters-zone", site)


def addresses(servers: Servers) -> Iterator[Change]:
    """All nodes are stopped, and come back at other addresses with the identity and the data that they had.

    The node timeout is longer, so that no replica takes over while only some have found each other.
    """
    site = made(servers, config={**CONFIG, "cluster-node-timeout": 15000})
    while True:
        for node in site.nodes:
            node.stop()
        for node in site.nodes:
            node.start_at(servers.address())
        for node in site.nodes:
            node.wait_ready()
        site = at_other_addresses(site)
        yield Change("new-addresses", site, serves=False)


EVERY: Mapping[str, Changes] = {
    "sizes": sizes,
    "replicas": replicas,
    "zones": zones,
    "deaths": deaths,
    "failovers": failovers,
    "drift": drift,
    "addresses": addresses,
}
