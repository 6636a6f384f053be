"""A failure drill before it is run: what is struck, what that should do, and whether it was as good as is wanted.

The times of a failover follow from Redis's cluster.c: a node that owes a pong for the node timeout T is suspected
(it is pinged again at the latest when its last pong is T/2 old), a majority of masters that suspects it makes it FAIL,
and its best replica then waits 500 ms, up to 500 ms more by chance, and a second for each other replica that is ahead
of it, before it asks for votes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from slotwright.core.survival import Survival
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member
from slotwright.errors import Finding, Severity

KINDS = {
    "stop": "stopped as an operator stops them",
    "kill": "killed (SIGKILL)",
    "freeze": "frozen (SIGSTOP)",
    "partition": "cut off from all other hosts of the cluster, both ways",
    "partition-one-way": "heard by no other host of the cluster, though they hear the others",
    "bus-only": "cut off on the cluster bus; clients and replication reach them",
    "reboot": "on hosts that are booted anew",
}
ENDS = ("stop", "kill", "reboot")  # the process; what is not on disk is gone
CUTS = ("partition", "partition-one-way", "bus-only")
GOSSIP = 0.5  # seconds until a majority has heard of each other's suspicion, and until the result of a vote is known
DELAY, CHANCE, RANK = 0.5, 0.5, 1.0  # seconds, see above
VOTE_AGAIN = 2.0  # node timeouts until another vote where the first one is split
IN_FLIGHT = 0.1  # seconds of writes that have been acknowledged and may not have reached a replica
# Node timeouts for which a master that is cut off goes on taking writes. Measured: 1.4.
ALONE = 1.5


@dataclass(frozen=True)
class Span:
    """Seconds: at least, and at the most, where nothing else goes wrong."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:.1f} to {self.most:.1f} s"


@dataclass(frozen=True)
class Prediction:
    """What a drill should show. None: never, while the fault lasts.

    fail: from the fault until the masters that it strikes are FAIL. gap: for which their slots take no writes. other:
    for which those of the other shards do. loss: acknowledged writes that may be lost at the most.
    """

    survives: bool
    verdict: str
    fail: Span | None
    gap: Span | None
    other: Span | None
    loss: int
    lines: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "survives": self.survives,
            "verdict": self.verdict,
            "fail_after": self.fail and self.fail.most,
            "write_gap": self.gap and self.gap.most,
            "other_gap": self.other and self.other.most,
            "worst_loss": self.loss,
            "lines": list(self.lines),
        }


@dataclass(frozen=True)
class Fault:
    """kind: one of KINDS. struck: names of instances. seconds: how long. rate: writes a second to all shards."""

    kind: str
    what: str
    struck: frozenset[str]
    seconds: float
    rate: float


def predict(
    fault: Fault,
    lost: Survival,
    topology: Topology,
    view: ClusterView,
    *,
    node_timeout: float,
    full_coverage: bool,
    min_replicas: int = 0,
) -> Prediction:
    """node_timeout: seconds. full_coverage: cluster-require-full-coverage. min_replicas: min-replicas-to-write."""
    found = _failover(fault, lost, topology, view, node_timeout, full_coverage)
    for struck in (True, False):
        if names := _starved(fault, view, min_replicas, struck=struck):
            what = f"min-replicas-to-write {min_replicas}: {', '.join(names)} take no writes until it is over"
            found = replace(
                found,
                gap=None if struck else found.gap,
                other=found.other if struck else None,
                lines=(*found.lines, what),
            )
    return found


def _starved(fault: Fault, view: ClusterView, min_replicas: int, *, struck: bool) -> list[str]:
    """Masters (those that are struck, or the others) whose shards keep fewer replicas than they need to take writes."""
    found = []
    for master in (view.members[i] for i in view.owners):
        left = [r for r in view.replicas_of(master.id) if r.alive and r.name not in fault.struck]
        if struck == (master.name in fault.struck) and max(0, len(left) - struck) < min_replicas:
            found.append(f"the shard of {master.name}")
    return found


def _failover(
    fault: Fault, lost: Survival, topology: Topology, view: ClusterView, node_timeout: float, full_coverage: bool
) -> Prediction:
    masters = [view.members[i] for i in view.owners]
    struck = [m for m in masters if m.name in fault.struck]
    share = fault.rate / (len(masters) or 1) * len(struck)
    all_of = len(topology.instances)
    lines = [f"{len(fault.struck)} of {all_of} instances are {KINDS[fault.kind]} for {fault.seconds:g} s"]
    if not struck:
        lines.append("no master is among them: no slot is without its master, and redundancy alone is lost")
        return Prediction(True, lost.verdict, None, Span(0, GOSSIP), Span(0, GOSSIP), 0, tuple(lines))
    names = ", ".join(m.name for m in struck)
    lines.append(f"they are the masters of {len(struck)} of {len(masters)} shards: {names}")
    loss = _loss(fault.kind, share, node_timeout)
    if not lost.survives:
        lines.append(_for_good(lost))
        fail = None if not lost.quorum else _until_fail(node_timeout)
        everywhere = full_coverage or not lost.quorum
        return Prediction(False, lost.verdict, fail, None, None if everywhere else Span(0, GOSSIP), loss, tuple(lines))
    fail = _until_fail(node_timeout)
    if fault.seconds < fail.least:
        lines.append(f"it ends before the node timeout of {node_timeout:g} s: no replica takes over")
        gap = Span(0, fault.seconds + node_timeout)
        return Prediction(True, lost.verdict, None, gap, gap if full_coverage else Span(0, GOSSIP), loss, tuple(lines))
    rank = max(_ahead(m, fault.struck, view) for m in struck)
    # On the bus alone the other nodes miss it, and the clients do not, until it stops by itself.
    least = 0.0 if fault.kind == "bus-only" else min(node_timeout + DELAY, fault.seconds)
    gap = Span(least, fail.most + DELAY + CHANCE + rank * RANK + GOSSIP)
    other = Span(0, gap.most - node_timeout) if full_coverage else Span(0, GOSSIP)
    lines.append(f"the others call them FAIL after {fail}; replicas take over, and their slots take writes after {gap}")
    if full_coverage:
        lines.append(f"meanwhile no slot is served (cluster-require-full-coverage yes), for up to {other.most:.1f} s")
    if lost.masters_left == lost.masters_needed and rank:
        again = VOTE_AGAIN * max(2 * node_timeout, 2.0)
        lines.append(
            f"just a majority of masters is left: two replicas that ask at the same time may split the vote, and the "
            f"next one is about {again:.0f} s later (measured: once in 16)"
        )
    lines.append(f"at most about {loss} acknowledged writes of the drill's own may be lost")
    return Prediction(True, lost.verdict, fail, gap, other, loss, tuple(lines))


def _until_fail(node_timeout: float) -> Span:
    return Span(node_timeout, 1.5 * node_timeout + GOSSIP)


def _ahead(master: Member, struck: Collection[str], view: ClusterView) -> int:
    """How many replicas of its own that are left may rank before the one that is chosen."""
    left = [r for r in view.replicas_of(master.id) if r.alive and r.name not in struck]
    return max(0, len(left) - 1)


def _loss(kind: str, rate: float, node_timeout: float) -> int:
    """Writes that the old masters acknowledged and the new ones have not. rate: a second, to the struck masters."""
    if kind in ("stop", "reboot"):
        return 0  # a master that is told to stop waits for its replicas (shutdown-timeout, Redis 7.0 and later)
    seconds = ALONE * node_timeout + GOSSIP if kind in CUTS else IN_FLIGHT
    return int(rate * seconds) + 1


def _for_good(lost: Survival) -> str:
    if not lost.quorum:
        return (
            f"no failover until they return: {lost.masters_left} masters are left, and {lost.masters_needed} are "
            "needed for a vote"
        )
    return f"{lost.slots_lost} slots have no copy elsewhere, and are not served until they return"


# --- Afterwards -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    """What the inventory wants of a drill. limit None: nothing. measured None: it did not come to that."""

    name: str
    unit: str
    limit: float | None
    measured: float | None

    @property
    def met(self) -> bool | None:
        """None where nothing is wanted."""
        if self.limit is None:
            return None
        return self.measured is not None and self.measured <= self.limit

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "limit": self.limit,
            "measured": self.measured,
            "met": self.met,
        }

    def failure(self) -> str:
        if self.measured is None:
            return f"{self.name}: not reached, at most {self.limit:g} {self.unit}".rstrip() + " is wanted"
        return f"{self.name}: {self.measured:g} {self.unit}".rstrip() + f", at most {self.limit:g} is wanted"


def verdict(objectives: Sequence[Objective], broken: Sequence[str], unfinished: str = "") -> tuple[str, list[str]]:
    """passed, failed or incomplete, and why. broken: what is wrong in the end. unfinished: why it was cut short."""
    reasons = [o.failure() for o in objectives if o.met is False]
    reasons += [f"in the end: {what}" for what in broken]
    if unfinished:
        return "incomplete", [unfinished, *reasons]
    return ("failed" if reasons else "passed"), reasons


def forgetful(fault: Fault, volatile: Collection[str]) -> list[Finding]:
    """A refusal, without a way round: a master that comes back empty before a replica was voted in empties it too.

    volatile: names of instances that keep nothing on disk.
    """
    if fault.kind not in ENDS:
        return []
    what = f'keeps nothing on disk (appendonly no, save ""): after drill_fault={fault.kind} it would come back empty'
    what += ", and if it is a master still, its replicas are emptied as well"
    remedy = "set appendonly yes, or take drill_fault=freeze or partition, which end no process"
    return [Finding("would-forget", f"node {name}", what, remedy) for name in sorted(fault.struck & set(volatile))]


def doubts(
    fault: Fault, lost: Survival, prediction: Prediction, broken: Sequence[Finding], said: str, words: str, cluster: str
) -> list[Finding]:
    """Why the drill should not be run. broken: violated invariants. said: what the operator typed; words: what he
    would have to."""
    found = []
    where = f"cluster {cluster}"
    if errors := [f for f in broken if f.severity is Severity.ERROR]:
        remedy = "mend that first: a drill of a cluster that is not whole is an outage"
        found += [Finding("not-whole", f.where or where, f"{f.code}: {f.what}", remedy) for f in errors]
    if not prediction.survives and said != words:
        what = f"does not survive the loss of {fault.what}: {lost.verdict}. " + prediction.lines[-1]
        remedy = (
            f"mend the layout first (playbooks/survival.yml says how); or, to see it fail, say: "
            f"-e 'drill_anyway=\"{words}\"'"
        )
        found.append(Finding("would-not-survive", where, what, remedy))
    return found


def anyway(cluster: str, what: str) -> str:
    """The words that allow a drill which the cluster does not survive."""
    return f"{cluster} may be down while {what} is"


def seeds(view: ClusterView, struck: Collection[str]) -> list[tuple[str, int]]:
    """Address and port of every node, those first that are not struck."""
    ordered = sorted(view.nodes, key=lambda n: (n.name in struck, n.name))
    ends = [n.endpoint.rpartition(":") for n in ordered]
    return [(address, int(port)) for address, _, port in ends]


def pictured(topology: Topology, view: ClusterView) -> dict[str, list[dict[str, str]]]:
    """Who is what, for a picture: name, zone, host, role (master, replica, down), and the master of its shard."""
    nodes = []
    for instance in topology.instances:
        node = view.by_name.get(instance.name)
        role, shard = "down", ""
        if node is not None and node.peers:
            me = node.myself
            role = "master" if me.is_master else "replica"
            shard = node.name if me.is_master else view.name_of(me.master)
        nodes.append(
            {"name": instance.name, "zone": instance.zone, "host": instance.host, "role": role, "shard": shard}
        )
    return {"nodes": nodes}


def tags_of(view: ClusterView, slot_of: Mapping[int, str], each: int) -> dict[str, list[str]]:
    """By master's name `each` hash tags of its slots. slot_of: slot → a tag of it."""
    found = {}
    for node_id, slots in view.owners.items():
        owned = [slot for slot in slots if slot in slot_of]
        found[view.name_of(node_id)] = [slot_of[slot] for slot in owned[:: max(1, len(owned) // each)][:each]]
    return found
