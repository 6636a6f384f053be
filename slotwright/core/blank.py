"""Nodes that are still to be started, as they will be at their first start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from slotwright.core.slots import Slots
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, NodeView, Peer, Silence


def blank(instance: Instance) -> NodeView:
    """A node that is still to be started, as it will be at its first start."""
    future = f"to-be-created:{instance.name}"
    me = Peer(future, instance.address, instance.port, frozenset({"master"}), "", 0, True, Slots())
    return NodeView(
        name=instance.name,
        endpoint=instance.endpoint,
        id=future,
        run_id="",
        version="",
        flavor="",
        cluster_enabled=True,
        state="fail",
        current_epoch=0,
        peers=(me,),
        keys=0,
    )


def with_blanks(
    topology: Topology, view: ClusterView, kinds: frozenset[str]
) -> tuple[ClusterView, tuple[Silence, ...]]:
    """Take silent instances of these kinds, unless they are members already, for blank ones to come.

    Returns the view with them, and the silences so taken.
    """
    wanted = {i.name for i in topology.instances}
    coming = tuple(
        s for s in view.silent if s.kind in kinds and s.instance not in view.named_members and s.instance in wanted
    )
    names = {s.instance for s in coming}
    found: Mapping[str, NodeView] = dict(view.by_name) | {name: blank(topology[name]) for name in names}
    nodes = tuple(found[i.name] for i in topology.everyone if i.name in found)
    return replace(view, nodes=nodes, silent=tuple(s for s in view.silent if s.instance not in names)), coming
