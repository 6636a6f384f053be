"""What taking a cluster down would destroy, and every reason not to. The hosts are another module's matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slotwright.core.view import ClusterView, Member
from slotwright.errors import Finding, Refused, Severity
from slotwright.link.connect import Links
from slotwright.link.lock import Lock
from slotwright.link.observe import observe
from slotwright.manager.request import Request, read_request

ASKED: dict[str, dict[str, Any]] = {
    "confirm": {"type": "str", "default": ""},
    "abandon": {"type": "list", "elements": "str", "default": []},
    "remove_data": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Doomed:
    """What there is to destroy. abandoned: members that are none of the inventory's, and are left behind."""

    view: ClusterView
    abandoned: tuple[Member, ...]
    remove_data: bool

    @property
    def masters(self) -> int:
        return sum(bool(n.peers) and n.myself.is_master and bool(n.myself.slots) for n in self.view.nodes)

    @property
    def keys(self) -> int:
        """Those of masters: replicas have no others."""
        return sum(n.keys for n in self.view.nodes if not n.peers or n.myself.is_master)

    @property
    def bytes(self) -> int:
        """Memory of all nodes."""
        return sum(n.used_memory for n in self.view.nodes)


def examine(request: Request, confirm: str, abandon: Sequence[str], links: Links, *, remove_data: bool) -> Doomed:
    """Look at what would be destroyed. Raises Refused, or Locked where another controller is at work on it.

    confirm: the cluster's name, typed. abandon: "address:port" of members that may be left behind.
    """
    name = request.topology.name
    if confirm != name:
        what = f"is not confirmed: its name is to be typed, and «{confirm}» was" if confirm else "is not confirmed"
        raise Refused([Finding("not-confirmed", f"cluster {name}", what, f"-e redis_destroy_cluster={name}")])
    view = observe(request.topology, links)
    view = replace(view, nodes=(*view.nodes, *view.forgotten))
    left = tuple(m for m in view.unlisted if m.peer.endpoint not in abandon)
    if left:
        raise Refused(_foreign(m) for m in left)
    with Lock(links, links.up):
        return Doomed(view, view.unlisted, remove_data)


def _foreign(member: Member) -> Finding:
    slots = f" and owns {len(member.peer.slots)} slots" if member.peer.slots else ""
    return Finding(
        "unlisted-member",
        f"node {member.peer.endpoint} (id {member.id})",
        f"is a member of the cluster but not in the inventory{slots}: it would be left behind, of a broken cluster",
        "add its host to the inventory; or, if it is to be left so, "
        f"-e redis_destroy_abandon={member.peer.endpoint} (several: parted by commas)",
    )


def result(request: Request, doomed: Doomed) -> dict[str, Any]:
    """As the module returns it."""
    view = doomed.view
    findings = [
        Finding("silent", f"node {s.instance} ({s.endpoint})", s.detail, "", Severity.INFO) for s in view.silent
    ] + [
        Finding("abandoned", f"node {m.peer.endpoint} (id {m.id})", "is left behind", "", Severity.WARNING)
        for m in doomed.abandoned
    ]
    return {
        "changed": False,
        "hosts": list(dict.fromkeys(i.host for i in request.topology.everyone)),
        "nodes": [_node(doomed, i.name) for i in request.topology.everyone],
        "keys": doomed.keys,
        "bytes": doomed.bytes,
        "text": _lines(request, doomed),
        "findings": [f.as_dict() for f in findings],
    }


def _node(doomed: Doomed, name: str) -> dict[str, Any]:
    node = doomed.view.by_name.get(name)
    role = "silent" if node is None else "master" if not node.peers or node.myself.is_master else "replica"
    return {
        "name": name,
        "role": role,
        "keys": node.keys if node else 0,
        "bytes": node.used_memory if node else 0,
    }


def _lines(request: Request, doomed: Doomed) -> list[str]:
    nodes = [_node(doomed, i.name) for i in request.topology.everyone]
    running = [n for n in nodes if n["role"] != "silent"]
    name = request.topology.name
    head = f"Cluster {name}: {len(running)} of {len(nodes)} instances answer, {doomed.masters} of them masters with "
    head += f"slots; {doomed.keys} keys, {doomed.bytes} bytes of memory."
    files = "Their data directories and logs are removed: the keys are lost for good."
    kept = "Their data directories stay: site.yml brings the cluster back with its keys. -e redis_destroy_data=true "
    kept += "removes them too."
    lines = [
        head,
        "All of them are stopped, and their configuration is removed.",
        files if doomed.remove_data else kept,
    ]
    width = max(len(n["name"]) for n in nodes)
    lines += [f"  {n['name']:<{width}}  {n['role']:<7}  {n['keys']} keys, {n['bytes']} bytes" for n in running]
    lines += [f"  {s.instance:<{width}}  silent   {s.detail}" for s in doomed.view.silent]
    lines += [f"  {m.peer.endpoint} is left behind: the inventory does not name it" for m in doomed.abandoned]
    return lines


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_destroy. It changes nothing, so that check mode is no different."""
    request = read_request(params)
    with Links(request.topology.everyone, request.access) as links:
        doomed = examine(request, params["confirm"], params["abandon"], links, remove_data=params["remove_data"])
        return result(request, doomed)
