"""Tell what is there: topology, replication, versions, broken invariants, survival. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slotwright.core.diff import layout
from slotwright.core.guard import forgotten_findings, identity_findings
from slotwright.core.invariants import violations
from slotwright.core.survival import host_survival, survival
from slotwright.core.versions import mixed_versions, version_findings
from slotwright.core.view import ClusterView, NodeView
from slotwright.errors import Finding, Severity
from slotwright.link.connect import Links
from slotwright.link.holdings import with_foreign
from slotwright.link.observe import observe
from slotwright.manager.request import Request, read_request
from slotwright.report.picture import picture_lines

ASKED: dict[str, dict[str, Any]] = {}


def examine(request: Request, links: Links) -> ClusterView:
    return with_foreign(observe(request.topology, links, thorough=True), links)


def findings(request: Request, view: ClusterView) -> tuple[Finding, ...]:
    """All that is wrong or worth knowing, the worst first, each thing once."""
    versions = version_findings(view.nodes, strict=request.strict_versions)
    every = (
        *identity_findings(view, [i.name for i in request.topology.leaving]),
        *forgotten_findings(view),
        *violations(request.topology, view),
        *versions,
        *mixed_versions(view.nodes),
    )
    once = {(f.where, f.what): f for f in reversed(every)}
    return tuple(sorted((f for f in every if once[f.where, f.what] is f), key=lambda f: f.severity.rank))


def result(request: Request, view: ClusterView) -> dict[str, Any]:
    topology = request.topology
    found = findings(request, view)
    return {
        "changed": False,
        "nodes": [_node(n, view) for n in view.nodes],
        "silent": [
            {"name": s.instance, "endpoint": s.endpoint, "kind": s.kind, "detail": s.detail} for s in view.silent
        ],
        "layout": layout(topology, view),
        "healthy": not any(f.severity is Severity.ERROR for f in found),
        "violations": [f.as_dict() for f in found],
        "survival": [row.as_dict() for row in survival(topology, view)],
        "host_survival": [row.as_dict() for row in host_survival(topology, view)],
        "text": picture_lines(topology, view, found),
    }


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_info. It changes nothing, so that check mode is no different."""
    request = read_request(params)
    with Links(request.topology.everyone, request.access) as links:
        return result(request, examine(request, links))


def _node(node: NodeView, view: ClusterView) -> Mapping[str, Any]:
    me = node.myself if node.peers else None
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "id": node.id,
        "flavor": node.flavor,
        "version": node.version,
        "role": "unknown" if me is None else "master" if me.is_master else "replica",
        "master": view.name_of(me.master) if me and me.master else "",
        "slots": str(me.slots) if me else "",
        "config_epoch": me.config_epoch if me else 0,
        "current_epoch": node.current_epoch,
        "cluster_state": node.state,
        "keys": node.keys,
        "link_up": node.replication.link_up,
        "syncing": node.replication.syncing,
        "offset": node.replication.offset,
        "loading": node.loading,
        "used_memory": node.used_memory,
        "maxmemory": node.maxmemory,
        "settings": dict(node.settings),
    }
