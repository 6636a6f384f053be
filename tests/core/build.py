"""Topologies and views for the tests of the core."""

from __future__ import annotations

from dataclasses import replace

from slotwright.core.blank import blank
from slotwright.core.topology import Instance, Topology, default_shards
from slotwright.core.view import ClusterView, NodeView

SETTINGS = (
    ("cluster-node-timeout", "15000"),
    ("cluster-replica-no-failover", "no"),
    ("repl-diskless-sync-delay", "5"),
)


def instances(sizes: dict[str, list[int]]) -> tuple[Instance, ...]:
    """{"a": [2, 1]} is zone a with host a1 of two instances and host a2 of one. Ports start at 7001."""
    return tuple(
        Instance(f"{zone}{h}:{7000 + p}", f"{zone}{h}", zone, f"127.{z}.{h}.1", 7000 + p)
        for z, (zone, hosts) in enumerate(sizes.items(), start=31)
        for h, count in enumerate(hosts, start=1)
        for p in range(1, count + 1)
    )


def topology(
    sizes: dict[str, list[int]],
    replicas: int = 1,
    shards: int | None = None,
    *,
    allow_zone_risk: bool = False,
    settings: tuple[tuple[str, str], ...] = SETTINGS,
) -> Topology:
    all_of_them = instances(sizes)
    wanted = shards if shards is not None else default_shards(len(all_of_them), replicas)
    return Topology("test", all_of_them, replicas, wanted, allow_zone_risk, settings)


def blank_node(instance: Instance, version: str = "7.0.15") -> NodeView:
    node = blank(instance)
    return replace(node, version=version, flavor="redis", run_id=f"run-{instance.name}", settings=SETTINGS)


def blank_view(wanted: Topology) -> ClusterView:
    """Every instance started for the first time."""
    return ClusterView(tuple(blank_node(i) for i in wanted.instances))


THREE_ZONES = {"a": [1, 1], "b": [1, 1], "c": [1, 1]}
