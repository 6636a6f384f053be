"""Clusters to move slots in: masters that share all slots, one or more that own none, and replicas, by raw commands.

cluster = start_cluster(servers)                  # a1, b1, c1 own a third each, d1 nothing
cluster.move(cluster.share())                     # each gives d1 its part of the slots
cluster.assert_whole()                            # one view, no open slot, no key where it should not be
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import redis
from redis.crc import key_slot

from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.core.steps import MoveSlots
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.link.migrate import move
from tests.live.clusters import ACCESS, Site, site_of
from tests.live.servers import Server, Servers, Value, make_cluster, wait_settled, wait_until

OWNERS = "abc"


@cache
def _tags() -> Mapping[int, str]:
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(key_slot(b"%d" % number), f"{{{number}}}")
        if len(found) == SLOT_COUNT:
            return found
    raise AssertionError


def tag(slot: int) -> str:
    """A hash tag of the slot: "{…}"."""
    return _tags()[slot]


def key_of(slot: int, number: int | str = 0) -> str:
    return f"{tag(slot)}:{number}"


@dataclass(frozen=True)
class Cluster:
    site: Site

    @property
    def nodes(self) -> list[Server]:
        return self.site.nodes

    def __getitem__(self, name: str) -> Server:
        return self.site[f"{name}:{self.nodes[0].port}"]

    def client(self) -> redis.RedisCluster:
        return redis.RedisCluster(host=self.nodes[0].address, port=self.nodes[0].port, decode_responses=False)

    def step(self, source: str, target: str, slots: Iterable[int] | Slots) -> MoveSlots:
        port = self.nodes[0].port
        return MoveSlots(f"{source}:{port}", f"{target}:{port}", Slots.of(slots))

    def share(self, targets: Sequence[str] = ("d1",), part: int | None = None) -> list[MoveSlots]:
        """Each target gets an equal part of the slots (or `part` slots) from each owner, the last ones it has."""
        view = self.site.look()
        givers = [node for node in view.nodes if node.myself.slots]
        each = part or SLOT_COUNT // (len(givers) + len(targets)) // len(givers)
        steps = []
        for node in givers:
            slots = list(node.myself.slots)
            for number, target in enumerate(targets):
                end = len(slots) - number * each
                steps.append(self.step(node.name.partition(":")[0], target, slots[end - each : end]))
        return steps

    def move(self, steps: Sequence[MoveSlots], **options: Any) -> None:
        options = {"timeout": 20.0} | options
        with Links(self.site.topology.instances, self.site.request.access) as links:
            move(steps, self.site.topology, self.site.look(), links, **options)

    def with_master(self, name: str, servers: Servers) -> Cluster:
        """The same cluster with one more master, which owns no slot."""
        node = servers.start(config={"cluster-allow-replica-migration": False})
        self.nodes[0].call("CLUSTER", "MEET", node.address, node.port)
        wait_settled([*self.nodes, node])
        return Cluster(self.site.resized({f"{name}:{node.port}": node}))

    def slots(self, name: str) -> Slots:
        return self.site.look().by_name[f"{name}:{self.nodes[0].port}"].myself.slots

    def open_slots(self) -> list[str]:
        return [word for node in self.nodes if node.alive for word in _nodes(node).split() if word.startswith("[")]

    def fill(self, slots: Iterable[int], keys: int = 10, size: int = 20) -> None:
        """So many keys in each slot, written to their owners in one pipeline each."""
        owners = {slot: node for node in self.nodes for slot in _own_slots(node)}
        by_node: dict[str, tuple[Server, list[tuple[str, str]]]] = {}
        for slot in slots:
            node = owners[slot]
            pairs = by_node.setdefault(node.name, (node, []))[1]
            pairs += [(key_of(slot, n), f"{slot}-{n}-".ljust(size, "x")) for n in range(keys)]
        for node, pairs in by_node.values():
            with node.client().pipeline(transaction=False) as pipe:
                for key, value in pairs:
                    pipe.set(key, value)
                pipe.execute()

    def data(self) -> dict[bytes, str]:
        """Every key of every master with a digest of its value. Fails where two masters hold the same key."""
        found: dict[bytes, str] = {}
        for node in self.nodes:
            if not node.alive or node.call("ROLE")[0] != "master":
                continue
            with raw_client(node) as raw:
                keys = list(raw.scan_iter(count=1000))
                digests = [
                    raw.execute_command("DEBUG", "DIGEST-VALUE", *keys[i : i + 500]) for i in range(0, len(keys), 500)
                ]
            for key, digest in zip(keys, (d for some in digests for d in some), strict=True):
                assert key not in found, f"{key!r} is on two masters"
                found[key] = digest.decode()
        return found

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(sorted(self.data().items())).encode()).hexdigest()

    def assert_whole(self) -> None:
        """All nodes agree, no slot is open, every key is in a slot of its node, no epoch is shared."""
        wait_settled(self.nodes)
        assert self.open_slots() == []
        for node in self.nodes:
            if node.call("ROLE")[0] == "master":
                owned = _own_slots(node)
                strays = [key for key in raw_client(node).scan_iter(count=1000) if key_slot(key) not in owned]
                assert strays == [], f"{node.name} holds keys of others: {strays[:5]}"
        wait_until("epochs differ", lambda: not [e for e in self.site.errors() if "I4" in e or "epoch" in e])


def raw_client(node: Server) -> redis.Redis:
    """Keys and values as bytes."""
    return redis.Redis(node.address, node.port, password=node.config.get("requirepass"))  # type: ignore[arg-type]


def _nodes(node: Server) -> str:
    return str(node.call("CLUSTER", "NODES"))


def _own_slots(node: Server) -> Slots:
    line = next(line for line in _nodes(node).splitlines() if "myself" in line)
    return Slots.parse(" ".join(word for word in line.split()[8:] if not word.startswith("[")))


def start_cluster(
    servers: Servers,
    *,
    owners: str = OWNERS,
    empty: str = "d",
    replicas: str = "",
    config: Mapping[str, Value] | None = None,
    binary: str = "redis-server",
    access: Access = ACCESS,
    old: bool = False,
) -> Cluster:
    """Masters "<letter>1:7000", of which the owners share all slots; "<letter>2" replicates its master.

    old: a server before 7.0, which does not know cluster-allow-replica-migration.
    """
    names = [f"{letter}1" for letter in owners + empty] + [f"{letter}2" for letter in replicas]
    wanted: dict[str, Value] = {"cluster-allow-replica-migration": None if old else False, **(config or {})}
    nodes = dict(zip(names, servers.start_many(len(names), config=wanted, binary=binary), strict=True))
    make_cluster([nodes[f"{letter}1"] for letter in owners], len(owners))
    first, *others = nodes.values()
    for node in others:
        first.call("CLUSTER", "MEET", node.address, node.port)
    for node in nodes.values():
        wait_until(
            f"{node.name} knows all",
            lambda node=node: len(_nodes(node).splitlines()) == len(nodes) and "handshake" not in _nodes(node),
        )  # type: ignore[misc]
    for letter in replicas:
        master = nodes[f"{letter}1"].id()
        wait_until(
            "it replicates",
            lambda letter=letter, master=master: nodes[f"{letter}2"].call("CLUSTER", "REPLICATE", master),
        )  # type: ignore[misc]
    wait_settled(list(nodes.values()))
    return Cluster(
        site_of({f"{n}:{s.port}": s for n, s in nodes.items()}, replicas=0, shards=len(owners), access=access)
    )
