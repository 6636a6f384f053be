"""All that is wrong with a cluster, told apart: code, place, remedy, and which errors clients get from it.

violations() says whether the invariants hold; here each way to break one has a code and a remedy of its own.
docs/repair.md explains the client errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from slotwright.core.guard import foreign_findings, forgotten_findings, identity_findings
from slotwright.core.invariants import LAG_LIMIT, violations
from slotwright.core.ownership import Ownership
from slotwright.core.repairs import Look, Repairs, misaddressed, strangers
from slotwright.core.slots import ALL_SLOTS, SLOT_COUNT, Slots
from slotwright.core.survival import host_survival
from slotwright.core.topology import Topology
from slotwright.core.versions import mixed_versions, version_findings
from slotwright.core.view import ClusterView, NodeView
from slotwright.errors import Finding, Severity

FIX = "run playbooks/fix.yml"
SITE = "run site.yml"

MEANING: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "slots-uncovered": ("I1", ("CLUSTERDOWN",)),
    "slots-unclaimed": ("I1", ("MOVED loop", "CLUSTERDOWN")),
    "owner-away": ("I1", ("CLUSTERDOWN", "MASTERDOWN")),
    "two-owners": ("I1", ("split brain", "MOVED loop")),
    "state-not-ok": ("I1", ("CLUSTERDOWN",)),
    "no-majority": ("I1", ("CLUSTERDOWN", "MASTERDOWN")),
    "split-view": ("I2", ("MOVED loop", "READONLY")),
    "role-seen-otherwise": ("I2", ("READONLY", "MOVED loop")),
    "not-known": ("I2", ("MOVED loop",)),
    "wrong-address": ("I2", ("MOVED to an address that does not answer",)),
    "slot-moving": ("I3", ("ASK", "TRYAGAIN")),
    "slot-migrating-only": ("I3", ("ASK loop", "TRYAGAIN")),
    "slot-importing-only": ("I3", ("TRYAGAIN",)),
    "slot-open-to-dead": ("I3", ("ASK to an address that does not answer",)),
    "slot-open-to-unknown": ("I3", ("ASK loop",)),
    "slot-open-elsewhere": ("I3", ("ASK loop", "TRYAGAIN")),
    "foreign-keys": ("I3", ("keys that seem to be gone",)),
    "epoch-shared": ("I4", ("MOVED loop",)),
    "epoch-behind": ("I4", ()),
    "ghost-handshake": ("I5", ()),
    "ghost-noaddr": ("I5", ()),
    "node-failing": ("I5", ("CLUSTERDOWN",)),
    "not-reachable": ("I5", ("connection refused or timed out",)),
    "wrong-password": ("I5", ("NOAUTH, WRONGPASS",)),
    "cloned-node": ("I5", ("MOVED loop", "split brain")),
    "same-process": ("I5", ()),
    "cluster-mode-off": ("I5", ("ERR This instance has cluster support disabled",)),
    "identity-lost": ("I5", ()),
    "unlisted-member": ("I5", ()),
    "foreign-cluster": ("I5", ()),
    "forgotten": ("I5", ()),
    "replica-link-down": ("I7", ("MASTERDOWN", "NOREPLICAS")),
    "replica-syncing": ("I7", ("MASTERDOWN", "LOADING")),
    "replica-lags": ("I7", ("stale reads",)),
    "replica-of-replica": ("I7", ("stale reads",)),
    "replica-of-nobody": ("I7", ("READONLY", "MASTERDOWN")),
    "orphaned-master": ("I7", ("NOREPLICAS",)),
    "too-few-replicas": ("I7", ("NOREPLICAS",)),
    "host-must-not-be-lost": ("I8", ()),
    "loading": ("I9", ("LOADING",)),
    "not-saved": ("I9", ("MISCONF",)),
    "not-persistent": ("I9", ()),
    "memory-full": ("I9", ("OOM",)),
    "memory-short": ("I9", ("OOM",)),
    "clients-full": ("I9", ("ERR max number of clients reached",)),
    "config-drift": ("", ()),
    "config-differs": ("", ()),
    "unsettled": ("I10", ("MOVED", "TRYAGAIN")),
    "smoke-failed": ("I10", ()),
    "I6": ("I6", ("CLUSTERDOWN",)),
    "I8": ("I8", ()),
}
"""By code of a finding: the invariant that it breaks, and the errors that clients get from it."""

# Directives in which the nodes of a cluster had better agree.
ALIKE = (
    "appendonly", "cluster-allow-reads-when-down", "cluster-migration-barrier", "cluster-node-timeout",
    "cluster-replica-validity-factor", "cluster-require-full-coverage", "maxmemory", "maxmemory-policy",
    "min-replicas-to-write", "save",
)  # fmt: skip
MEMORY_SHORT = 0.9  # of maxmemory


@dataclass(frozen=True)
class Vitals:
    """What INFO and CONFIG GET say of one node."""

    info: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        text = self.info.get(name, self.config.get(name, "0"))
        return int(text) if text.lstrip("-").isdigit() else 0


def invariant(finding: Finding) -> str:
    return MEANING.get(finding.code, (finding.code if re.fullmatch(r"I\d+", finding.code) else "", ()))[0]


def client_errors(finding: Finding) -> tuple[str, ...]:
    return MEANING.get(finding.code, ("", ()))[1]


def diagnosis(
    topology: Topology,
    look: Look,
    vitals: Mapping[str, Vitals] | None = None,
    wanted: Mapping[str, str] | None = None,
    *,
    strict_versions: bool = False,
) -> tuple[Finding, ...]:
    """Every finding, the worst first. wanted: directives that the inventory sets for all nodes of the cluster."""
    view = look.view
    of = Ownership(view, look.held)
    nodes = [n for n in view.nodes if n.peers]
    told = list(
        chain(
            identity_findings(view),
            _silent(topology, view),
            foreign_findings(topology, view, joining=False, acting=False),
            forgotten_findings(view),
            _coverage(of) if nodes else (),
            _majority(view),
            _states(nodes, of),
            _views(topology, of),
            _open_slots(of),
            _strays(of),
            _epochs(of, nodes),
            _ghosts(nodes, view),
            _replicas(topology, view, vitals or {}),
            _vitals(nodes, vitals or {}),
            _drift(topology, nodes, vitals or {}, wanted or {}),
            _hosts(topology, view),
            version_findings((n for n in nodes if n.version), strict=strict_versions),
            mixed_versions(nodes),
        )
    )
    broken = violations(topology, view) if nodes else ()
    every = [*told, *(v for v in broken if not _covered(v, told))]
    once = {(f.code, f.where, f.what): f for f in every}
    return tuple(sorted(once.values(), key=lambda f: f.severity.rank))


def _covered(generic: Finding, told: Sequence[Finding]) -> bool:
    """Whether a finding with a code of its own says it: of the same invariant, about one of the same nodes or slots."""
    same = [f for f in told if invariant(f) == generic.code]
    names = set(re.findall(r"[^\s,()]+:\d+", generic.where))
    return any(not names or names & set(re.findall(r"[^\s,()]+:\d+", f"{f.where} {f.what}")) for f in same)


def _silent(topology: Topology, view: ClusterView) -> Iterator[Finding]:
    leaving = {i.name for i in topology.leaving}
    for silence in (s for s in view.silent if s.instance not in leaving):
        found = silence.finding
        member = view.named_members.get(silence.instance)
        severity = Severity.WARNING if silence.kind == "loading" else Severity.ERROR
        part = f", a {'master' if member.peer.is_master else 'replica'}" if member else ""
        yield Finding(found.code, found.where, f"{found.what}{part}", found.remedy, severity)


def _coverage(of: Ownership) -> Iterator[Finding]:
    view = of.view
    adopters = of.adopters()
    named = Slots()
    for name, slots in adopters.items():
        named |= slots
        keys = of.keys(name, slots)
        yield Finding(
            "slots-unclaimed", f"slots {slots}",
            f"nobody says that they are its own; {name} "
            + (f"has {keys} keys of them" if keys else "is whom others name"),
            f"{FIX}: {name} takes them",
        )  # fmt: skip
    if free := of.unclaimed - named:
        yield Finding(
            "slots-uncovered", f"slots {free}", f"{len(free)} slots have no owner, and no node has keys of them",
            f"{FIX}: it gives them to masters",
        )  # fmt: skip
    for node_id, slots in of.away.items():
        owner, heirs = view.members[node_id], of.heirs(node_id)
        if owner.peer.is_ghost:
            what = f"belong to the node {node_id}, whose address nobody knows"
            remedy = f"start that node again with its nodes.conf and data; else {FIX}, which says what would be lost"
        elif heirs:
            what = f"belong to {owner.name}, which does not answer; {heirs[0].name} has a copy"
            remedy = f"wait for the failover; if none comes: start {owner.name}, or {FIX}, which says what may be lost"
        else:
            what = f"belong to {owner.name}, which does not answer and has no replica that does"
            remedy = f"start {owner.name}; if its data are gone for good {FIX}, which says what would be lost"
        yield Finding("owner-away", f"slots {slots}", what, remedy)
    for contest in of.contests:
        shares = [f"{n} has {of.keys(n, contest.slots)} keys of them" for n in (contest.owner, contest.other)]
        yield Finding(
            "two-owners", f"nodes {contest.owner} and {contest.other}",
            f"both claim the slots {contest.slots}: {', '.join(shares)}",
            f"{FIX}: it brings all keys to {contest.owner}, comparing those that both have",
        )  # fmt: skip


def _majority(view: ClusterView) -> Iterator[Finding]:
    masters = [view.members[i] for i in view.owners]
    living = [m for m in masters if m.alive]
    if masters and len(living) < len(masters) // 2 + 1:
        away = ", ".join(m.name for m in masters if not m.alive)
        yield Finding(
            "no-majority", "cluster", f"{len(living)} of {len(masters)} masters answer: no failover can be voted",
            f"start {away}; else {FIX}, which says what may be lost",
        )  # fmt: skip


def _states(nodes: Iterable[NodeView], of: Ownership) -> Iterator[Finding]:
    for node in nodes:
        if node.state != "ok" and not of.view.stands_alone(node):
            yield Finding(
                "state-not-ok", _at(node), f"says cluster_state:{node.state}",
                "see which slots are not served, and which masters it cannot reach (CLUSTER NODES on it)",
            )  # fmt: skip


def _views(topology: Topology, of: Ownership) -> Iterator[Finding]:
    for node, owner, slots in of.astray():
        if owner.id in node.by_id:
            yield Finding(
                "split-view", _at(node), f"does not see the slots {slots} at {owner.name}, who owns them",
                f"wait a node timeout for the gossip; if it stays, {FIX}: {owner.name} takes a newer epoch",
            )  # fmt: skip
    for node, other in strangers(of.view):
        yield Finding(
            "not-known", _at(node), f"does not know {other.name}, which knows it",
            f"{FIX}: they meet again",
        )  # fmt: skip
    for node in (n for n in of.view.nodes if n.peers):
        if node.name in topology and misaddressed(topology, node):
            yield Finding(
                "wrong-address", _at(node), f"tells others that its address is {node.myself.endpoint}",
                f"{FIX}; then playbooks/configure.yml, so that its redis.conf says the same",
            )  # fmt: skip
        for peer in node.peers:
            real = of.view.by_id.get(peer.id)
            if real is None or real is node or peer.is_ghost:
                continue
            if peer.endpoint != real.endpoint and not (real.name in topology and misaddressed(topology, real)):
                yield Finding(
                    "wrong-address", _at(node), f"looks for {real.name} at {peer.endpoint}",
                    f"wait for the gossip; if it stays, {SITE}: they meet again",
                )  # fmt: skip
            if peer.is_master != real.myself.is_master or peer.master != real.myself.master:
                seen = "a master" if peer.is_master else f"a replica of {of.view.name_of(peer.master)}"
                yield Finding(
                    "role-seen-otherwise", _at(node), f"takes {real.name} for {seen}, which it is not",
                    "wait a node timeout for the gossip; if it stays, look at the bus links between the two",
                )  # fmt: skip


def _open_slots(of: Ownership) -> Iterator[Finding]:
    """Each kind of mark apart, slots of one kind and one pair of nodes together."""
    view = of.view
    groups: dict[tuple[str, NodeView, str], list[int]] = {}
    for node in (n for n in view.nodes if n.peers):
        for slot, other in node.myself.migrating:
            groups.setdefault((_migrating(view, node, slot, other), node, other), []).append(slot)
        for slot, other in node.myself.importing:
            if kind := _importing(view, node, slot, other):
                groups.setdefault((kind, node, other), []).append(slot)
    for (kind, node, other), slots in groups.items():
        name = view.name_of(other)
        shown = Slots.of(slots)
        what, remedy = {
            "slot-moving": (f"is moving the slots {shown} to {name}", f"if no run is moving them, {FIX}: it ends that"),
            "slot-migrating-only": (
                f"sends clients of the slots {shown} on to {name}, which does not import them",
                f"{FIX}: it brings back what has moved, and closes them",
            ),
            "slot-importing-only": (
                f"imports the slots {shown} from {name}, which does not send them",
                f"{FIX}: it brings back what has moved, and closes them",
            ),
            "slot-open-to-dead": (
                f"has the slots {shown} open to {name}, which does not answer",
                f"start {name}; else {FIX}, which says what may be lost",
            ),
            "slot-open-to-unknown": (
                f"has the slots {shown} open to the node {other}, which is no member", f"{FIX}: it closes them",
            ),
            "slot-open-elsewhere": (
                f"imports the slots {shown} from {name}, which does not own them",
                f"{FIX}: it brings to their owner what it has of them, and closes them",
            ),
        }[kind]  # fmt: skip
        yield Finding(kind, _at(node), what, remedy)


def _migrating(view: ClusterView, node: NodeView, slot: int, other: str) -> str:
    if other not in view.members or not view.members[other].peer.port:
        return "slot-open-to-unknown"
    target = view.by_id.get(other)
    if target is None:
        return "slot-open-to-dead"
    return "slot-moving" if any(s == slot for s, _ in target.myself.importing) else "slot-migrating-only"


def _importing(view: ClusterView, node: NodeView, slot: int, other: str) -> str:
    """Empty where the source says the same, and is told of."""
    if other not in view.members or not view.members[other].peer.port:
        return "slot-open-to-unknown"
    source = view.by_id.get(other)
    if source is None:
        return "slot-open-to-dead"
    if (slot, node.id) in source.myself.migrating:
        return ""
    return "slot-importing-only" if slot in source.myself.slots else "slot-open-elsewhere"


def _strays(of: Ownership) -> Iterator[Finding]:
    contested = Slots()
    for contest in of.contests:
        contested |= contest.slots
    for name, owner, slots in of.strays():
        if slots := slots - contested:
            node = of.view.by_name[name]
            yield Finding(
                "foreign-keys", _at(node),
                f"holds {of.keys(name, slots)} keys of slots {slots}, which are {owner}'s",
                f"{FIX}: it brings them to {owner}, comparing those that both have",
            )  # fmt: skip


def _epochs(of: Ownership, nodes: Sequence[NodeView]) -> Iterator[Finding]:
    by_epoch: dict[int, list[str]] = {}
    for node in (n for n in of.masters if n.myself.slots):
        by_epoch.setdefault(node.myself.config_epoch, []).append(node.name)
    for epoch, names in sorted(by_epoch.items()):
        if len(names) > 1:
            yield Finding(
                "epoch-shared", f"nodes {', '.join(sorted(names))}", f"share the config epoch {epoch}",
                f"wait: Redis resolves it by itself; if it stays, {FIX}",
            )  # fmt: skip
    newest = max((p.config_epoch for n in nodes for p in n.peers), default=0)
    for node in nodes:
        if node.current_epoch < newest and not of.view.stands_alone(node):
            yield Finding(
                "epoch-behind", _at(node), f"is at epoch {node.current_epoch}, and {newest} is in use",
                "wait a node timeout for the gossip; if it stays, look at its bus links",
                Severity.WARNING,
            )  # fmt: skip


def _ghosts(nodes: Iterable[NodeView], view: ClusterView) -> Iterator[Finding]:
    for node in nodes:
        for peer in node.peers:
            if "handshake" in peer.flags:
                yield Finding(
                    "ghost-handshake", _at(node), f"tries to meet {peer.endpoint}, which has not answered yet",
                    "nothing: it gives that up by itself after a node timeout; see who sends CLUSTER MEET",
                    Severity.WARNING,
                )  # fmt: skip
            elif "noaddr" in peer.flags:
                yield Finding(
                    "ghost-noaddr", _at(node), f"knows a node {peer.id} without an address",
                    f"{FIX}: it is forgotten by all" if not peer.slots else "start that node again",
                )  # fmt: skip
            elif peer.failing and peer.id in view.by_id:
                yield Finding(
                    "node-failing", _at(node), f"takes {view.name_of(peer.id)} for failing, which answers us",
                    "open the bus port (port + 10000) between the two hosts, both ways",
                )  # fmt: skip


def _replicas(topology: Topology, view: ClusterView, vitals: Mapping[str, Vitals]) -> Iterator[Finding]:
    counts: dict[str, int] = dict.fromkeys(view.owners, 0)
    for member in view.members.values():
        node, leader = member.node, view.members.get(member.peer.master)
        if member.peer.is_master or node is None:
            continue
        if leader is None or (not leader.alive and leader.id not in view.owners):
            who = "a node that is no member" if leader is None else f"{leader.name}, which does not answer"
            yield Finding(
                "replica-of-nobody", _at(node), f"is a replica of {who}",
                f"{FIX}: it gets a part again",
            )  # fmt: skip
            continue
        if not leader.peer.is_master:
            yield Finding(
                "replica-of-replica", _at(node), f"is a replica of {leader.name}, which is a replica itself",
                f"{FIX}: it gets a part again",
            )  # fmt: skip
            continue
        state, behind = node.replication, 0
        if leader.node:
            behind = leader.node.replication.offset - state.offset
        if state.syncing:
            yield Finding("replica-syncing", _at(node), f"is getting a full copy of {leader.name}",
                          "wait until it has", Severity.WARNING)  # fmt: skip
        elif not state.link_up and leader.alive:
            yield Finding(
                "replica-link-down", _at(node), f"has no replication link to its master {leader.name}",
                "see its log: a wrong masterauth or masteruser, or a closed port; playbooks/configure.yml sets them",
            )  # fmt: skip
        elif behind > LAG_LIMIT:
            yield Finding("replica-lags", _at(node), f"is {behind} bytes behind its master {leader.name}",
                          "see its load and its network; it may need a larger repl-backlog-size")  # fmt: skip
        else:
            counts[leader.id] = counts.get(leader.id, 0) + 1
    for master in (view.members[i] for i in view.owners):
        good = counts[master.id]
        if master.alive and good == 0 and topology.replicas:
            yield Finding(
                "orphaned-master", _of(master.name, master.peer.endpoint), "has no replica in sync",
                f"see to its replicas, where it has any; {FIX}: it gets one from a shard that has more, or a free node",
            )  # fmt: skip
        elif master.alive and good < topology.replicas:
            yield Finding(
                "too-few-replicas", _of(master.name, master.peer.endpoint),
                f"has {good} replicas in sync, {topology.replicas} are wanted",
                f"see to its replicas; {SITE} for missing ones",
            )  # fmt: skip
        needs = vitals[master.name].number("min-replicas-to-write") if master.name in vitals else 0
        if master.alive and needs > good:
            yield Finding(
                "too-few-replicas", _of(master.name, master.peer.endpoint),
                f"takes no writes: {good} replicas are in sync, min-replicas-to-write wants {needs}",
                "see to its replicas, or lower min-replicas-to-write",
            )  # fmt: skip


def _vitals(nodes: Iterable[NodeView], vitals: Mapping[str, Vitals]) -> Iterator[Finding]:
    for node in nodes:
        seen = vitals.get(node.name, Vitals())
        if not node.persistence_ok:
            yield Finding("not-saved", _at(node), "could not save its data the last time",
                          "see its log, and the space and the rights of its data directory")  # fmt: skip
        if seen.config and seen.config.get("save") == "" and seen.config.get("appendonly") == "no":
            yield Finding(
                "not-persistent", _at(node), "keeps nothing on disk: restarted as a master it comes back empty, and "
                "its replicas then copy that", "set appendonly yes, or save, in redis_cluster_config",
                Severity.WARNING,
            )  # fmt: skip
        if node.maxmemory and node.used_memory > node.maxmemory:
            yield Finding("memory-full", _at(node), f"uses {node.used_memory} of its maxmemory {node.maxmemory} bytes",
                          "raise maxmemory, or add a shard")  # fmt: skip
        elif node.maxmemory and node.used_memory > MEMORY_SHORT * node.maxmemory:
            yield Finding("memory-short", _at(node), f"uses {node.used_memory} of its maxmemory {node.maxmemory} bytes",
                          "raise maxmemory, or add a shard, before it is full", Severity.WARNING)  # fmt: skip
        clients, most = seen.number("connected_clients"), seen.number("maxclients")
        if most and clients > MEMORY_SHORT * most:
            yield Finding("clients-full", _at(node), f"has {clients} clients, and takes {most}",
                          "raise maxclients, or see who connects so often (CLIENT LIST)", Severity.WARNING)  # fmt: skip


def _drift(
    topology: Topology, nodes: Sequence[NodeView], vitals: Mapping[str, Vitals], wanted: Mapping[str, str]
) -> Iterator[Finding]:
    for node in nodes:
        live = vitals[node.name].config if node.name in vitals else dict(node.settings)
        for name, value in (dict(wanted) | dict(topology.settings)).items():
            if name in live and not same_value(live[name], value):
                yield Finding(
                    "config-drift", _at(node), f"runs with {name} {live[name]!r}, and the inventory wants {value!r}",
                    f"playbooks/configure.yml writes its redis.conf; {SITE}",
                    Severity.WARNING,
                )  # fmt: skip
    for name in ALIKE:
        found: dict[str, list[str]] = {}
        for node in nodes:
            if name in vitals.get(node.name, Vitals()).config:
                found.setdefault(vitals[node.name].config[name], []).append(node.name)
        if len(found) > 1:
            shown = "; ".join(f"{value!r} on {', '.join(names)}" for value, names in sorted(found.items()))
            yield Finding("config-differs", f"directive {name}", f"is not the same everywhere: {shown}",
                          "set it once, in redis_cluster_config", Severity.WARNING)  # fmt: skip


def same_value(live: str, wanted: str) -> bool:
    """Whether two spellings of a directive's value mean the same: 1gb and 1073741824, yes and Yes, blanks."""
    one, other = (" ".join(v.strip().strip('"').lower().split()) for v in (live, wanted))
    return one == other or (_bytes(one) is not None and _bytes(one) == _bytes(other))


_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


def _bytes(text: str) -> int | None:
    found = re.fullmatch(r"(\d+)([a-z]*)", text)
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None


def _hosts(topology: Topology, view: ClusterView) -> Iterator[Finding]:
    """A host whose loss the cluster does not survive, where its zone's loss is not said already."""
    if view.owners and topology.replicas:
        for lost in host_survival(topology, view):
            if not lost.survives:
                yield Finding(
                    "host-must-not-be-lost", f"host {lost.lost}", f"must not be lost: {lost.verdict}",
                    f"see to a replica in sync on another host for every master on it; {SITE}",
                    Severity.WARNING,
                )  # fmt: skip


def unsettled(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Finding, ...]:
    """I10: what one look found and the other did not, as WARNINGs."""
    passing = {f for f in before if f.severity is Severity.ERROR} ^ {f for f in after if f.severity is Severity.ERROR}
    return tuple(
        Finding("unsettled", f.where, f"was there in one look and not in another: {f.what}",
                "look again; where it comes and goes, see the network and the logs of the nodes", Severity.WARNING)
        for f in passing
    )  # fmt: skip


def mending(found: Repairs, steps: Iterable[str]) -> tuple[Finding, ...]:
    """What fix and then the ordinary plan would do, as INFO."""
    lines = [*found.describe(), *steps]
    return tuple(Finding("would-be-done", "", line, f"{FIX} for it", Severity.INFO) for line in lines)


def score(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each severity."""
    every = list(findings)
    return {s.value: sum(f.severity is s for f in every) for s in Severity}


def covered(view: ClusterView) -> int:
    """Slots with an owner that answers."""
    return SLOT_COUNT - len(ALL_SLOTS - Ownership(view).claimed)


def _at(node: NodeView) -> str:
    return _of(node.name, node.endpoint)


def _of(name: str, endpoint: str) -> str:
    return f"node {name} ({endpoint})"
