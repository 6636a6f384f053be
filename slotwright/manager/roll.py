"""Restart instances wave by wave, with what is new in place: another configuration, another version, or the old one.

This is the controller's half: it says what goes down next, and hands masters over before. Who restarts is the host
(module redis_instances); a play goes back and forth between the two. Nothing is remembered: what is left to do is what
the nodes say, so that a play that was cut off is gone on with by another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from slotwright.core.diff import layout_lines, survival_lines
from slotwright.core.handover import restore
from slotwright.core.invariants import violations
from slotwright.core.plan import Plan
from slotwright.core.survival import survival
from slotwright.core.upgrade import Version, one_way, path_findings, snapshots
from slotwright.core.versions import series
from slotwright.core.view import ClusterView, NodeView
from slotwright.core.waves import Rolling, Wave, waves
from slotwright.errors import Finding, Refused, Severity
from slotwright.link.commands import forbidden
from slotwright.link.connect import Links
from slotwright.link.observe import observe, wait_until
from slotwright.manager.handover import Handing
from slotwright.manager.progress import PROGRESS, Told
from slotwright.manager.request import Request, read_request

AGAIN = 0.3  # seconds; what is healthy is so in two looks
# What handing over changes by itself, and what is no matter of a restart.
_NO_GATE = frozenset({"I8"})


@dataclass(frozen=True)
class Pending:
    """An instance that is to be restarted. It has been once it has another run_id, or the version that it shall have.

    version: None where it keeps the one that it runs.
    """

    name: str
    run_id: str
    version: Version | None
    reasons: tuple[str, ...] = ()

    def done(self, node: NodeView | None) -> bool:
        if node is None:
            return False
        if self.version:
            return (node.flavor, node.version) == self.version
        return bool(self.run_id) and node.run_id != self.run_id


@dataclass(frozen=True)
class Asked:
    """kind: restart, upgrade (replicas first, a canary, a point of no return), or rollback.

    most: instances of a zone at a time, 0 for any number. commit: go on past the point of no return. untested: jumps
    between versions that nobody has tried are allowed. canary: how often the new version has yet to be started for a
    proof; a run that was cut off proves it anew.
    """

    pending: tuple[Pending, ...]
    kind: str = "restart"
    most: int = 1
    commit: bool = False
    untested: bool = False
    canary: int = 0

    @property
    def upgrades(self) -> bool:
        return self.kind == "upgrade"


@dataclass(frozen=True)
class Turn:
    """What comes next. wave: None where nothing is left, or the point of no return is reached (held)."""

    wave: Wave | None
    canary: bool = False
    held: bool = False
    done: int = 0
    left: int = 0
    failovers: tuple[str, ...] = ()
    changed: bool = False


# --- What is left ---------------------------------------------------------------------------------------------------


def left(asked: Asked, view: ClusterView) -> tuple[Pending, ...]:
    return tuple(one for one in asked.pending if not one.done(view.by_name.get(one.name)))


def _targets(asked: Asked) -> set[Version]:
    return {one.version for one in asked.pending if one.version}


def _runs(view: ClusterView, versions: set[Version]) -> list[str]:
    """Names of the instances that run one of these versions."""
    return [node.name for node in view.nodes if (node.flavor, node.version) in versions]


def _jumps(asked: Asked, view: ClusterView) -> list[tuple[str, Version, Version]]:
    nodes = [(p, view.by_name[p.name]) for p in left(asked, view) if p.version and p.name in view.by_name]
    return [(p.name, (n.flavor, n.version), p.version) for p, n in nodes if p.version]


def _no_return(asked: Asked, view: ClusterView) -> tuple[Version, Version] | None:
    """From and to where the next promotion is a point of no return; None where it is none, or has been passed."""
    owners = {view.members[i].name for i in view.owners}
    if not asked.upgrades or owners & set(_runs(view, _targets(asked))):
        return None
    jumps = [(old, new) for _, old, new in _jumps(asked, view) if one_way(old, new)]
    return jumps[0] if jumps else None


def roll(request: Request, asked: Asked, view: ClusterView, *, first: bool = False) -> Rolling:
    pending = frozenset(p.name for p in left(asked, view))
    return waves(request.topology, view, pending, most=asked.most, replicas_first=asked.kind != "restart", first=first)


# --- Gates ----------------------------------------------------------------------------------------------------------


def unhealthy(request: Request, view: ClusterView) -> list[str]:
    """What must not be, before anything goes down and before it goes on."""
    broken = [f for f in violations(request.topology, view) if f.code not in _NO_GATE]
    return [str(f).rstrip(".") for f in broken if f.severity is Severity.ERROR]


def gate(request: Request, links: Links) -> ClusterView:
    """A view in which all is well, and was a moment ago. Raises SlotwrightError that names what is not."""
    look = partial(observe, request.topology, links, thorough=True)
    for _ in range(2):
        view = wait_until(
            partial(unhealthy, request),
            look,
            seconds=request.timeout,
            purpose="the cluster to be healthy before the next one goes down",
            remedy="nothing more was stopped, and what runs serves. Mend that (its log is in redis_node_log_dir)",
        )
        time.sleep(AGAIN)
    return view


def _refuse(asked: Asked, view: ClusterView) -> tuple[Finding, ...]:
    """Findings worth knowing. Raises Refused where it must not begin."""
    found = tuple(path_findings(_jumps(asked, view), untested=asked.untested)) if asked.upgrades else ()
    errors = [f for f in found if f.severity is Severity.ERROR]
    if asked.kind == "rollback":
        errors += _too_late(asked, view)
    if errors:
        raise Refused(errors)
    return found


def _too_late(asked: Asked, view: ClusterView) -> list[Finding]:
    """Masters that have taken writes as a newer version cannot go back, nor can anybody copy them as an older one."""
    old = {p.version for p in asked.pending if p.version}
    masters = [view.by_name[m.name] for m in (view.members[i] for i in view.owners) if m.name in view.by_name]
    newer = [n for n in masters for v in old if one_way(v, (n.flavor, n.version))]
    if not newer:
        return []
    names = ", ".join(sorted({n.name for n in newer}))
    version, target = (newer[0].flavor, newer[0].version), next(iter(old))
    what = (
        f"run {newer[0].version} already, so that the point of no return has been passed: "
        f"{snapshots(target, version)}, and what was written since then may be of kinds that it does not know"
    )
    remedy = (
        "go forward (playbooks/upgrade.yml with -e redis_upgrade_commit=true); the only way back is a new cluster of "
        f"{target[1]} and a backup from before, or an export of the keys by an application"
    )
    return [Finding("no-way-back", f"masters {names}", what, remedy)]


# --- The turns ------------------------------------------------------------------------------------------------------


def foresee(request: Request, asked: Asked, links: Links) -> tuple[Rolling, ClusterView, tuple[Finding, ...]]:
    """All waves, as they will come. Raises Refused with every reason not to begin."""
    view = observe(request.topology, links)
    if not left(asked, view):
        return Rolling(), view, ()
    view = gate(request, links)
    findings = _refuse(asked, view)
    rolling = roll(request, asked, view)
    steps = [step for wave in rolling.waves for step in wave.failovers]
    if refusals := rolling.refusals or forbidden(steps, view, links):
        raise Refused(refusals)
    return rolling, view, findings


def turn(request: Request, asked: Asked, links: Links, told: Told) -> Turn:
    """Gate, hand over what is in the way, and say what goes down now.

    Raises SlotwrightError: a gate that stays shut, a failover that does not come about. The cluster serves then.
    """
    view = gate(request, links)
    _refuse(asked, view)
    rest = left(asked, view)
    done = len(asked.pending) - len(rest)
    if not rest:
        made = restore(request.topology, view)
        if made.refusals:
            raise Refused(made.refusals)
        if made.steps:
            Handing(request, links, told.line).do(made, view)
        return Turn(None, done=done, failovers=tuple(s.describe() for s in made.steps), changed=bool(made.steps))
    rolling = roll(request, asked, view, first=True)
    if rolling.refusals:
        raise Refused(rolling.refusals)
    [wave] = rolling.waves
    if asked.upgrades and asked.canary:
        new = _runs(view, _targets(asked))
        if len(new) <= 1 and not wave.failovers:
            canary = new[0] if new and not view.by_name[new[0]].myself.slots else wave.restarts[0]
            return Turn(Wave(request.topology[canary].zone, (), (canary,)), canary=True, done=done, left=len(rest))
    if wave.failovers and not asked.commit and _no_return(asked, view):
        return Turn(None, held=True, done=done, left=len(rest))
    if wave.failovers:
        # One of an older version cannot copy the new master; with the new version, in a moment, it can.
        Handing(request, links, told.line, excused=wave.restarts).do(Plan(wave.failovers), view)
    return Turn(
        wave,
        done=done,
        left=len(rest),
        failovers=tuple(s.describe() for s in wave.failovers),
        changed=bool(wave.failovers),
    )


# --- For the module -------------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "phase": {"type": "str", "choices": ["plan", "next"], "default": "plan"},
    "kind": {"type": "str", "choices": ["restart", "upgrade", "rollback"], "default": "restart"},
    "pending": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "run_id": {"type": "str", "default": ""},
            "flavor": {"type": "str", "choices": ["redis", "valkey"], "default": "redis"},
            "version": {"type": "str", "default": ""},
            "reasons": {"type": "list", "elements": "str", "default": []},
        },
    },
    "max_unavailable": {"type": "int", "default": 1},
    "commit": {"type": "bool", "default": False},
    "untested": {"type": "bool", "default": False},
    "canary": {"type": "int", "default": 0},
    **PROGRESS,
}


def read_asked(params: Mapping[str, Any], request: Request) -> Asked:
    """Of the pending instances those of this cluster."""
    pending = [
        Pending(
            one["name"],
            one["run_id"],
            (one["flavor"], one["version"]) if one["version"] else None,
            tuple(one["reasons"]),
        )
        for one in params["pending"]
        if one["name"] in request.topology
    ]
    if params["max_unavailable"] < 0:
        what = f"{params['max_unavailable']} is below 0"
        raise Refused([Finding("max-unavailable", "max_unavailable", what, "state 1 or more, or 0 for a whole zone")])
    return Asked(
        tuple(pending), params["kind"], params["max_unavailable"], params["commit"], params["untested"],
        params["canary"],
    )  # fmt: skip


def _as_dict(one: Pending) -> dict[str, Any]:
    flavor, version = one.version or ("redis", "")
    return {
        "name": one.name,
        "run_id": one.run_id,
        "flavor": flavor,
        "version": version,
        "reasons": list(one.reasons),
    }


def _wave(wave: Wave, request: Request) -> dict[str, Any]:
    ports: dict[str, list[int]] = {}
    for name in wave.restarts:
        ports.setdefault(request.topology[name].host, []).append(request.topology[name].port)
    return {
        "zone": wave.zone,
        "restarts": list(wave.restarts),
        "failovers": [step.describe() for step in wave.failovers],
        "ports": ports,
        "text": wave.describe(),
    }


def _plan_text(asked: Asked, rolling: Rolling, view: ClusterView) -> list[str]:
    if not rolling.waves:
        return ["nothing to do: no instance is to be restarted"]
    lines = []
    rest = left(asked, view)
    for one in rest:
        node = view.by_name.get(one.name)
        reasons = ", ".join(one.reasons) or "it was asked for"
        was = f" ({node.flavor} {node.version})" if node else ""
        lines.append(f"  {one.name}{was}: {reasons}")
    lines = [f"{len(rest)} of {len(asked.pending)} instances are left to be restarted:", *sorted(lines)]
    lines.append(f"{len(rolling.waves)} waves, each of one zone, never two instances of a shard at a time:")
    gap = _no_return(asked, view)
    for number, wave in enumerate(rolling.waves, 1):
        if wave.failovers and gap:
            lines += [f"  --- {text}" for text in no_return_text(gap, asked.commit)]
            gap = None
        lines += [f"  {number}. {step.describe()}" for step in wave.failovers]
        lines.append(f"  {number}. zone {wave.zone}: restart {', '.join(wave.restarts)}")
    if asked.upgrades and rolling.waves and not rolling.waves[0].failovers:
        lines.append("  The first of them is the canary: it is restarted alone, and twice.")
    lines.append("  At the end the roles go back to where the layout wants them.")
    return lines


def no_return_text(jump: tuple[Version, Version], commit: bool) -> list[str]:
    old, new = jump
    lines = [f"POINT OF NO RETURN: from here on masters run {new[1]}; {snapshots(old, new)}."]
    if not commit:
        lines += [
            f"The play stops here: all masters run {old[1]}, their replicas {new[1]}. That may be kept for days.",
            f"On: -e redis_upgrade_commit=true. Back: playbooks/rollback.yml -e redis_install_version={old[1]}.",
        ]
    return lines


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_roll."""
    request = read_request(params)
    asked = read_asked(params, request)
    with Links(request.topology.everyone, request.access) as links:
        if check_mode or params["phase"] == "plan":
            return _planned(request, asked, links)
        with Told(params["progress"]) as told:
            next_turn = turn(request, asked, links, told)
        view = observe(request.topology, links)
    return _turned(request, asked, next_turn, view)


def _planned(request: Request, asked: Asked, links: Links) -> dict[str, Any]:
    rolling, view, findings = foresee(request, asked, links)
    ids = {node.name: node.run_id for node in view.nodes}
    pending = [_as_dict(one) | {"run_id": one.run_id or ids.get(one.name, "")} for one in left(asked, view)]
    text = _plan_text(asked, rolling, view)
    return {
        "changed": bool(rolling.waves),
        "pending": pending,
        "waves": [_wave(wave, request) for wave in rolling.waves],
        "plan_text": text,
        "findings": [f.as_dict() for f in findings],
        "findings_text": [f"{f.severity.value}: {f}" for f in findings],
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in text) if rolling.waves else ""},
    }


def _turned(request: Request, asked: Asked, next_turn: Turn, view: ClusterView) -> dict[str, Any]:
    jump = _no_return(asked, view)
    wave = next_turn.wave
    if wave:
        text = [f"{next_turn.done} of {len(asked.pending)} done. {wave.describe()}"]
    elif next_turn.held and jump:
        text = no_return_text(jump, commit=False)
    else:
        text = [f"all {next_turn.done} instances have been restarted", *next_turn.failovers]
    zones = survival(request.topology, view)
    return {
        "changed": next_turn.changed,
        "wave": _wave(wave, request) if wave else {},
        "canary": next_turn.canary,
        "held": next_turn.held,
        "done": wave is None,
        "text": text,
        "versions": _versions(view.nodes),
        "versions_text": ", ".join(f"{count} × {version}" for version, count in _versions(view.nodes).items()),
        "layout_text": layout_lines(request.topology, view),
        "survival_text": survival_lines(zones),
    }


def _versions(nodes: Sequence[NodeView]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in nodes:
        name = f"{node.flavor} {node.version}"
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: series(item[0].split()[1])))
