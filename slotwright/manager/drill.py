"""Lose a zone, a host or an instance on purpose, under load, and count what was lost.

The roles strike (redis_fault) and run the clients on the hosts (redis_drill_client); here is what the controller does
before (plan), meanwhile (manager/drill_run.py) and afterwards (manager/drill_report.py).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from slotwright.core.drill import (
    CUTS,
    KINDS,
    Fault,
    Prediction,
    anyway,
    doubts,
    forgetful,
    pictured,
    predict,
    seeds,
    tags_of,
)
from slotwright.core.invariants import violations
from slotwright.core.slots import SLOT_COUNT
from slotwright.core.survival import Survival, loss
from slotwright.core.topology import Instance, natural
from slotwright.core.view import ClusterView
from slotwright.drill.bundle import write_bundle
from slotwright.drill.client import PREFIX
from slotwright.drill.files import Files, all_of, reports
from slotwright.errors import Finding, Refused
from slotwright.link.commands import refused_commands
from slotwright.link.connect import LinkDown, Links
from slotwright.link.lock import Lock
from slotwright.link.waits import node_timeout
from slotwright.manager import drill_moves, drill_report, drill_run
from slotwright.manager.info import examine
from slotwright.manager.progress import PROGRESS, Told
from slotwright.manager.request import Request, read_request
from slotwright.manager.smoke import PREFIX as SMOKE
from slotwright.report.drill_text import compare_lines

TAGS = 8  # hash tags of a shard whose slots a client writes to
EXPIRY = 3600  # seconds after the end of a drill until Redis deletes what nobody could clean up
TAIL = 600  # seconds after the fault within which the cluster has to be whole again: clients go on as long
CALL = 1.0  # seconds for a call of a client
# What the user must be allowed: the clients', the smoke test's in the end, and to bring the roles back.
_NEEDED: list[tuple[str | int, ...]] = [
    *((word, f"{PREFIX}:x", *more) for word, *more in (("SET", "v"), ("GET",), ("INCR",), ("UNLINK",))),
    *((word, f"{SMOKE}:x", *more) for word, *more in (("MGET",), ("APPEND", "v"), ("DEL",))),
    ("WAIT", 0, 1),
    ("READONLY",),
    ("COMMAND",),
    ("ROLE",),
    ("CLUSTER", "SLOTS"),
    ("CLUSTER", "FAILOVER"),
]

ASKED: dict[str, dict[str, Any]] = {
    "phase": {"type": "str", "choices": ["alone", "plan", "run", "report", "unfinished"], "default": "plan"},
    "zone": {"type": "str", "default": ""},
    "host": {"type": "str", "default": ""},
    "instance": {"type": "str", "default": ""},
    "fault": {"type": "str", "choices": list(KINDS), "default": "kill"},
    "seconds": {"type": "float", "default": 30.0},
    "writes": {"type": "float", "default": 100.0},
    "reads": {"type": "float", "default": 50.0},
    "workload": {"type": "str", "choices": ["keys", "counters"], "default": "keys"},
    "during": {"type": "str", "choices": ["", "reshard"], "default": ""},
    "clients": {"type": "list", "elements": "str", "default": []},
    "max_write_gap": {"type": "float"},
    "max_lost": {"type": "int"},
    "max_redundancy": {"type": "float"},
    "anyway": {"type": "str", "default": ""},
    "history": {"type": "path", "required": True},
    "id": {"type": "str", "default": ""},
    "at": {"type": "float", "default": 0.0},
    "records": {"type": "dict", "default": {}},
    "cut_short": {"type": "str", "default": ""},
    **PROGRESS,
}


@dataclass(frozen=True)
class Asked:
    """struck: names of instances. what: they, in words. hosts: where clients may run."""

    fault: Fault
    workload: str
    reads: float
    hosts: tuple[str, ...]
    history: Path
    anyway: str
    id: str = ""
    during: str = ""


def read_asked(params: Mapping[str, Any], request: Request) -> Asked:
    """Raises Refused where it is not clear what is to be struck, or with what."""
    topology = request.topology
    parts = {kind: params[kind] for kind in ("zone", "host", "instance") if params[kind]}
    known = {"zone": topology.zones, "host": topology.hosts, "instance": tuple(i.name for i in topology.instances)}
    findings = []
    if len(parts) != 1:
        what = "nothing is named that is to be struck" if not parts else f"{' and '.join(parts)} are named"
        remedy = "say one of -e drill_zone=…, -e drill_host=…, -e drill_instance=<host:port>"
        raise Refused([Finding("what-to-strike", "drill", what, remedy)])
    [(kind, name)] = parts.items()
    if name not in known[kind]:
        findings.append(Finding("what-to-strike", f"drill_{kind}", f"there is no {kind} {name}",
                                f"name one of {', '.join(known[kind])}"))  # fmt: skip
    for field in ("seconds", "writes"):
        if params[field] <= 0:
            findings.append(Finding("drill", f"redis_drill_{field}", f"{params[field]:g} is not above 0", "give more"))
    if params["seconds"] > 3600:
        findings.append(Finding("drill", "redis_drill_seconds", "a fault lasts an hour at the most", "give less"))
    if kind == "instance" and params["fault"] in (*CUTS, "reboot"):
        what = f"{params['fault']} strikes a whole host"
        findings.append(Finding("what-to-strike", "drill_fault", what, "say drill_host, or another drill_fault"))
    if findings:
        raise Refused(findings)
    part = "name" if kind == "instance" else kind
    struck = frozenset(i.name for i in topology.instances if getattr(i, part) == name)
    fault = Fault(params["fault"], f"{kind} {name}", struck, params["seconds"], params["writes"])
    return Asked(
        fault,
        params["workload"],
        params["reads"],
        tuple(params["clients"]),
        Path(params["history"]).expanduser() / topology.name,
        params["anyway"],
        params["id"],
        params["during"],
    )


@dataclass(frozen=True)
class Planned:
    view: ClusterView
    lost: Survival
    prediction: Prediction
    node_timeout: float
    clients: dict[str, dict[str, Any]]
    broken: tuple[Finding, ...]


def foresee(request: Request, asked: Asked, links: Links) -> Planned:
    """Nothing is changed. Raises Refused with every reason not to run."""
    topology = request.topology
    view = examine(request, links)
    fault = asked.fault
    lost = loss(fault.what, fault.struck, topology, view)
    places = _places(asked, request)
    all_rates = replace(fault, rate=fault.rate * len(places))
    timeout, full = node_timeout(links, *(n.name for n in view.nodes)), _full_coverage(view, links)
    prediction = predict(
        all_rates,
        lost,
        topology,
        view,
        node_timeout=timeout,
        full_coverage=full,
        min_replicas=_min_replicas(view, links),
    )
    broken = violations(topology, view)
    words = anyway(topology.name, fault.what)
    # Where the layout cannot be what I8 wants, that is what the prediction is about.
    whole = [f for f in broken if f.code != "I8"]
    refusals = doubts(fault, lost, prediction, whole, asked.anyway, words, topology.name)
    refusals += refused_commands([{node.name: _NEEDED for node in view.nodes}], view, links)
    if refusals := [*refusals, *forgetful(fault, _volatile(view, links))]:
        raise Refused(refusals)
    return Planned(view, lost, prediction, timeout, _clients(asked, view, places), broken)


def _places(asked: Asked, request: Request) -> dict[str, Instance | None]:
    """Who calls: the controller, and of each zone the first host that can. By name; None is the controller."""
    found: dict[str, Instance | None] = {"controller": None}
    topology = request.topology
    if request.access.tls:  # its files are the controller's
        return found
    gone = {topology[name].host for name in asked.fault.struck} if asked.fault.kind == "reboot" else set()
    for zone in topology.zones:
        able = [i for i in topology.instances if i.zone == zone and i.host in asked.hosts and i.host not in gone]
        if able:
            first = min(able, key=lambda i: natural(i.host))
            found[first.host] = first
    return found


def _clients(asked: Asked, view: ClusterView, places: Mapping[str, Instance | None]) -> dict[str, dict[str, Any]]:
    """The configuration of each client, but for what the drill's own name and time decide."""
    tags = tags_of(view, _slot_tags(), TAGS)
    return {
        name: {
            "name": name,
            "zone": place.zone if place else "",
            "seeds": seeds(view, asked.fault.struck),
            "shards": tags,
            "mode": asked.workload,
            "writes": asked.fault.rate,
            "reads": asked.reads,
            "timeout": CALL,
            "lasts": TAIL + asked.fault.seconds,
            "expiry": int(EXPIRY + TAIL + asked.fault.seconds),
            "source": _source(asked.fault, place),
        }
        for name, place in places.items()
    }


def _source(fault: Fault, place: Instance | None) -> str:
    """On loopback the address is all that tells one host from another. (Protected mode lets in only 127.0.0.1.)"""
    cut = place is not None and fault.kind in CUTS and ip_address(place.address).is_loopback
    return place.address if place and cut else ""


def _slot_tags() -> dict[int, str]:
    """For each slot a hash tag of it."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOT_COUNT:
        found.setdefault(key_slot(b"%d" % number), str(number))
        number += 1
    return found


def _full_coverage(view: ClusterView, links: Links) -> bool:
    answers = links.ask({n.name: [("CONFIG", "GET", "cluster-require-full-coverage")] for n in view.nodes})
    told = [a[0][1] for a in answers.values() if not isinstance(a, LinkDown) and isinstance(a[0], list) and a[0]]
    return "no" not in told or "yes" in told


def _min_replicas(view: ClusterView, links: Links) -> int:
    """The largest min-replicas-to-write of the nodes."""
    answers = links.ask({n.name: [("CONFIG", "GET", "min-replicas-to-write")] for n in view.nodes})
    told = [a[0][1] for a in answers.values() if not isinstance(a, LinkDown) and isinstance(a[0], list) and a[0]]
    return max(map(int, told), default=0)


def _volatile(view: ClusterView, links: Links) -> list[str]:
    """Names of the instances that keep nothing on disk, or do not say so."""
    questions = [("CONFIG", "GET", "appendonly"), ("CONFIG", "GET", "save")]
    answers = links.ask({n.name: questions for n in view.nodes})
    kept = (["appendonly", "no"], ["save", ""])
    return [
        name
        for name, answer in answers.items()
        if isinstance(answer, LinkDown)
        or any(not isinstance(reply, list) for reply in answer)
        or all(reply == nothing for reply, nothing in zip(answer, kept, strict=True))
    ]


def plan(request: Request, asked: Asked, links: Links, *, check: bool) -> dict[str, Any]:
    """The drill as data, written down unless check; and drills that an earlier controller has left unfinished."""
    planned = foresee(request, asked, links)
    topology, fault = request.topology, asked.fault
    files = Files(asked.history / (asked.id or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())))
    struck = [i for i in topology.instances if i.name in fault.struck]
    drill = {
        "id": files.id,
        "cluster": topology.name,
        "planned": time.time(),
        "struck": fault.what,
        "instances": [i.name for i in struck],
        "fault": fault.kind,
        "seconds": fault.seconds,
        "workload": asked.workload,
        "during": asked.during,
        "zones": list(topology.zones),
        "nodes": len(topology.instances),
        "masters": len(planned.view.owners),
        "node_timeout": planned.node_timeout,
        "prediction": planned.prediction.as_dict(),
        "shards": [
            {"shard": planned.view.name_of(node_id), "id": node_id, "slots": str(slots)}
            for node_id, slots in planned.view.owners.items()
        ],
        "before": pictured(topology, planned.view),
        "known": [[f.code, f.where] for f in planned.broken],
        "clients": {name: config | {"drill": files.id} for name, config in planned.clients.items()},
    }
    if not check:
        files.write("plan", drill)
        write_bundle(files.bundle)
    hosts = sorted({i.host for i in struck}, key=natural)
    return {
        "changed": False,
        "drill": drill,
        "directory": str(files.directory),
        "ports": {host: [i.port for i in struck if i.host == host] for host in hosts},
        "cuts": {host: _cut(host, topology.everyone, hosts) for host in hosts} if fault.kind in CUTS else {},
        "words": f"drill {topology.name} {fault.what}",
        "plan_text": _lines(planned, asked, files),
        "findings_text": [f"{f.severity.value}: {f}" for f in planned.broken],
        "prediction": planned.prediction.as_dict(),
        "survival": planned.lost.as_dict(),
    }


def _cut(host: str, everyone: tuple[Instance, ...], struck: Collection[str]) -> dict[str, Any]:
    """What is cut from what at this host: the struck hosts stay together."""
    mine = sorted({i.address for i in everyone if i.host == host})
    together = {i.address for i in everyone if i.host in struck}
    others = sorted({i.address for i in everyone} - together)
    return {"mine": mine, "others": others, "bus_ports": sorted({i.bus_port for i in everyone})}


def _lines(planned: Planned, asked: Asked, files: Files) -> list[str]:
    callers = ", ".join(planned.clients)
    return [
        f"drill {files.id}: {asked.fault.what} is lost for {asked.fault.seconds:g} s",
        *(f"  {line}" for line in planned.prediction.lines),
        f"  clients: {callers}; each {asked.fault.rate:g} writes and {asked.reads:g} reads a second, "
        f"under slotwright:drill:{files.id}:*, which are deleted afterwards",
        *([f"  meanwhile {drill_moves.SLOTS} slots move to and fro between two shards"] if asked.during else []),
        f"  each host heals by itself after {asked.fault.seconds:g} s, whatever becomes of this controller",
        f"  report: {files.page}",
    ]


def unfinished(history: Path) -> list[Files]:
    return [files for files in all_of(history) if not files.finished]


def _to_do(files: Files) -> dict[str, Any]:
    clients = (files.read("plan") or {}).get("clients", {})
    return {
        "id": files.id,
        "directory": str(files.directory.absolute()),
        "clients": [name for name, config in clients.items() if config["zone"]],
    }


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_drill."""
    request = read_request(params)
    if params["phase"] == "plan":
        asked = read_asked(params, request)
        with Links(request.topology.everyone, request.access) as links:
            planned = plan(request, asked, links, check=check_mode)
        return planned | {"history_text": compare_lines(reports(asked.history))}
    history = Path(params["history"]).expanduser() / request.topology.name
    if params["phase"] == "alone":
        with Links(request.topology.everyone, request.access) as links:
            links.open()
            with Lock(links, links.up):
                return {"changed": False}
    if params["phase"] == "unfinished":
        return {"changed": False, "unfinished": [_to_do(files) for files in unfinished(history)]}
    if params["phase"] == "report":
        which = [Files(history / params["id"])] if params["id"] else unfinished(history)
        found = [drill_report.report(request, files, params) for files in which]
        return drill_report.result(found, reports(history))
    files = Files(history / params["id"])
    drill = files.read("plan")
    if drill is None:
        remedy = "plan it first (phase: plan), with the same redis_drill_history"
        raise Refused([Finding("no-such-drill", str(files.directory), "there is no such drill", remedy)])
    with Told(params["progress"]) as told:
        return drill_run.run(request, files, drill, at=params["at"], told=told)
