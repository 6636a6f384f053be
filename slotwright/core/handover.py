"""Which replica takes which master's place, where hosts or zones are to hold no masters for a while. Pure.

Every rest of a plan is planned again as it was: for each k, empty(…, simulate(view, steps[:k])) gives steps[k:].
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from slotwright.core.invariants import LAG_LIMIT
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate
from slotwright.core.steps import Failover, Mode, Step, obstacle
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, Member
from slotwright.errors import Finding, Refused, Severity

# Bytes of replication stream. Replicas that differ by less are equally good: a plain failover waits for the rest, and
# a plan that is shown must still be the plan a moment later.
LAG_STEP = 1024 * 1024
# Of a host that is no part of the inventory, and so of a member that it does not name.
_NOWHERE = "?"


def named(topology: Topology, words: Sequence[str], elsewhere: Iterable[Instance] = ()) -> frozenset[str]:
    """Names of the instances that the words mean: hosts, zones, or instances by name or by address:port.

    elsewhere: instances of other clusters, which may be meant as well. Raises Refused for words that mean nothing, or
    two things.
    """
    found: set[str] = set()
    wrong = []
    others = {known for i in elsewhere for known in (i.host, i.zone, i.name, i.endpoint)}
    for word in words:
        on_host = {i.name for i in topology.everyone if i.host == word}
        in_zone = {i.name for i in topology.everyone if i.zone == word}
        itself = {i.name for i in topology.everyone if word in (i.name, i.endpoint)}
        if on_host and in_zone and on_host != in_zone:
            remedy = f"name the instances that you mean: {', '.join(sorted(on_host))} are on the host"
            wrong.append(Finding("ambiguous-name", f"«{word}»", "is the name of a host and of a zone", remedy))
        elif not (on_host or in_zone or itself) and word not in others:
            remedy = f"name one of the hosts ({_few(topology.hosts)}), of the zones ({_few(topology.zones)}), or an "
            remedy += "instance as host:port"
            wrong.append(Finding("unknown-name", f"«{word}»", "is no host, zone or instance of the inventory", remedy))
        found |= on_host | in_zone | itself
    if wrong:
        raise Refused(wrong)
    return frozenset(found)


def empty(
    topology: Topology,
    view: ClusterView,
    emptied: frozenset[str],
    mode: Mode = "plain",
    among: frozenset[str] | None = None,
) -> Plan:
    """Hand over every master among the emptied instances to a replica outside all of them.

    Where a shard can choose, in this order: no zone gets more masters than may be lost with it; masters even over
    zones; then over hosts; the nearer replica (see LAG_STEP); the inventory's order. For a master that does not answer
    the replica that has most of its data is taken, before all else.
    mode: how those are handed over that cannot be handed over plainly. among: only these may take over.
    """
    order = {i.name: n for n, i in enumerate(topology.everyone)}
    stays = {i.name for i in topology.instances if among is None or i.name in among} - emptied
    masters = [m for i in view.owners if (m := view.members[i]).name in emptied]
    masters.sort(key=lambda m: (m.alive, order[m.name]))  # who does not answer first: their slots are not served
    refusals, choices = [], []
    for master in masters:
        outside = [r for r in view.replicas_of(master.id) if r.name in stays]
        fit = _fit(view, master, outside, mode)
        if fit:
            choices.append(_Choice(master, tuple(sorted(fit, key=lambda r: order[r.name]))))
        else:
            refusals.append(_nobody(view, master, outside, mode))
    if refusals:
        return Plan(refusals=tuple(refusals))
    return _plan(topology, view, [r.name for r in _choose(topology, view, choices)], mode)


def promote(topology: Topology, view: ClusterView, names: Iterable[str], mode: Mode = "plain") -> Plan:
    """Have these replicas take their masters' places. Those that are masters already stay it."""
    order = {i.name: n for n, i in enumerate(topology.everyone)}
    replicas, refusals = [], []
    for name in sorted(names, key=order.__getitem__):
        node = view.by_name.get(name)
        if node is None:
            remedy = "start it; or name another replica of the same master"
            refusals.append(Finding("not-reachable", f"node {name}", "does not answer", remedy))
        elif not node.myself.is_master:
            replicas.append(node)
    for node in replicas:
        master = view.members.get(node.myself.master)
        rivals = [r.name for r in replicas if r is not node and r.myself.master == node.myself.master]
        if rivals:
            what = f"has the same master as {rivals[0]}: only one of them can take its place"
            refusals.append(Finding("two-for-one", f"node {node.name}", what, "name one of them"))
        elif master is None or not master.peer.slots:
            what = "has no master whose place it could take" if master is None else f"{master.name} owns no slots"
            refusals.append(Finding("no-shard", f"node {node.name}", what, "run site.yml, which gives it one"))
        elif not _fit(view, master, [view.named_members[node.name]], mode):
            refusals.append(_nobody(view, master, [view.named_members[node.name]], mode))
    if refusals:
        return Plan(refusals=tuple(refusals))
    replicas.sort(key=lambda n: view.members[n.myself.master].alive)
    return _plan(topology, view, [n.name for n in replicas], mode)


def restore(topology: Topology, view: ClusterView) -> Plan:
    """The failovers of the ordinary plan: roles go back to where the layout wants them.

    What else that plan holds is left to site.yml, and so is a failover that must wait for it, or that without it gives
    a zone more masters than it may lose.
    """
    whole = plan(topology, view)
    if whole.refusals:
        return whole
    steps: list[Step] = []
    waiting: list[Step] = []
    at = view
    for step in whole.steps:
        after = simulate(at, [step]) if isinstance(step, Failover) and not obstacle(step, at) else None
        if after is None or (waiting and _excess(topology, after) > _excess(topology, at)):
            waiting.append(step)
        else:
            steps.append(step)
            at = after
    findings = list(whole.findings)
    if waiting:
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        what = f"is to be changed by more than failovers, which is not done here: «{waiting[0].describe()}»{more}"
        remedy = "playbooks/plan.yml shows all of it, site.yml does it"
        findings.append(Finding("more-to-do", f"cluster {topology.name}", what, remedy, Severity.WARNING))
    return Plan(tuple(steps), findings=tuple(findings), spares=whole.spares)


def may_be_stopped(topology: Topology, view: ClusterView, emptied: frozenset[str]) -> tuple[bool, str]:
    """Whether the emptied instances may all be stopped as the view is, and why, in words."""
    owners = [view.members[i] for i in view.owners]
    inside = [m.name for m in owners if m.name in emptied]
    if inside:
        verb = "is a master" if len(inside) == 1 else "are masters"
        return False, f"must not be stopped: {', '.join(inside)} {verb} there"
    down = [m for m in owners if not m.alive]
    if down:
        return False, f"should not be stopped: {_few([m.name for m in down])} does not answer, and owns slots"
    bare = sum(not any(_in_sync(m, r) and r.name not in emptied for r in view.replicas_of(m.id)) for m in owners)
    words = "may be stopped: no master is there, and every slot is served elsewhere"
    if bare:
        words += f"; {bare} of {len(owners)} shards have a single copy until it is back"
    return True, words


def majority(view: ClusterView) -> tuple[int, int]:
    """Masters that can vote together, as far as they say, and how many are needed."""
    owners = [view.members[i] for i in view.owners]
    alive = [m for m in owners if m.node is not None]

    def seen_by(voter: Member) -> int:
        known = voter.node.by_id if voter.node else {}
        return sum(m.id in known and not known[m.id].failing for m in alive)

    return max(map(seen_by, alive), default=0), len(owners) // 2 + 1


# --- Who is fit -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """A master that goes, and the replicas that may take its place, in the inventory's order."""

    master: Member
    replicas: tuple[Member, ...]


def _fit(view: ClusterView, master: Member, replicas: Sequence[Member], mode: Mode) -> list[Member]:
    """Those in sync with a master that answers; else, where more than a plain failover is allowed, the fullest."""
    answers, needed = majority(view)
    if answers >= needed and (synced := [r for r in replicas if _in_sync(master, r)]):
        return synced
    if mode == "plain" or (mode == "force" and answers < needed):
        return []
    able = [r for r in replicas if _has_data(view, r)]
    most = max((_offset(r) for r in able), default=0)
    return [r for r in able if _offset(r) == most]


def _in_sync(master: Member, replica: Member) -> bool:
    if master.node is None or replica.node is None or replica.node.loading:
        return False
    mine = replica.node.replication
    return mine.link_up and not mine.syncing and _lag(master, replica) <= LAG_LIMIT


def _lag(master: Member, replica: Member) -> int:
    return max(0, _offset(master) - _offset(replica))


def _offset(member: Member) -> int:
    return member.node.replication.offset if member.node else 0


def _has_data(view: ClusterView, replica: Member) -> bool:
    """Not in the middle of a copy, nor left without one: a replica that begins a full sync loses its offset.

    Where no node has a key, there is none to lose.
    """
    node = replica.node
    if node is None or node.loading or node.replication.syncing:
        return False
    return bool(node.replication.offset or node.keys) or not any(n.keys for n in view.nodes)


def _nobody(view: ClusterView, master: Member, replicas: Sequence[Member], mode: Mode) -> Finding:
    where = f"node {master.name}"
    answers, needed = majority(view)
    if not replicas:
        what = "is a master, and no replica of it is outside what is to be emptied"
        remedy = "name less to be emptied; or give its shard one more replica elsewhere (redis_cluster_replicas) first"
        return Finding("no-replica-outside", where, what, remedy)
    if answers < needed and mode != "takeover":
        what = f"cannot be voted out: {answers} masters answer and see each other, {needed} are needed"
        remedy = "start the others; or, if they are gone for good, -e redis_failover_mode=takeover"
        return Finding("no-majority", where, what, remedy)
    if not master.alive and mode == "plain":
        what = "is a master and does not answer: nothing can be handed over"
        remedy = "start it; or wait for Redis's own failover, which comes after the node timeout; or, if it never "
        remedy += "comes, -e redis_failover_mode=force"
        return Finding("master-silent", where, what, remedy)
    whys = ", ".join(f"{r.name} {_why_not(view, master, r)}" for r in replicas)
    what = f"is a master without a replica that could take its place: {whys}"
    remedy = "start it, or wait until it is in sync (its log says what hinders it), then run again"
    return Finding("no-replica-in-sync", where, what, remedy)


def _why_not(view: ClusterView, master: Member, replica: Member) -> str:
    node = replica.node
    if node is None:
        return "does not answer"
    if node.loading:
        return "is loading its data"
    if node.replication.syncing:
        return "is copying its master's data"
    if not _has_data(view, replica):
        return "has no data"
    if not node.replication.link_up:
        return "has no link to its master"
    return f"is {_lag(master, replica)} bytes behind"


# --- The choice -----------------------------------------------------------------------------------------------------


def _choose(topology: Topology, view: ClusterView, choices: Sequence[_Choice]) -> list[Member]:
    """One replica for each choice, see empty(): a flow of least cost, shard → host → zone, exact.

    Each master adds what its zone and its host have it cost, which never falls as they fill; so successive cheapest
    paths are optimal (Ahuja, Magnanti, Orlin: Network Flows, 9.7 and 14.5). One number holds all criteria, each with
    a weight above all that those below it can sum up to.
    """
    stay = [view.members[i].name for i in view.owners]
    gone = {c.master.name for c in choices}
    zones = Counter(_zone(topology, name) for name in stay if name not in gone)
    hosts = Counter(_host(topology, name) for name in stay if name not in gone)
    limit = zone_limit(topology, len(stay))
    most = max((len(c.replicas) for c in choices), default=0) + 1
    near: int = most ** len(choices)
    by_host = near * (len(choices) * (LAG_LIMIT // LAG_STEP + 1) + 1)
    by_zone = by_host * (len(stay) * len(stay) + 1)
    beyond = by_zone * (len(stay) * len(stay) + 1)

    def pair(number: int, rank: int) -> int:
        choice = choices[number]
        behind = min(_lag(choice.master, choice.replicas[rank]), LAG_LIMIT) if choice.master.alive else 0
        order: int = most ** (len(choices) - 1 - number)
        return behind // LAG_STEP * near + rank * order

    def to_zone(masters: int) -> int:
        return beyond * (masters >= limit) + by_zone * (2 * masters + 1)

    def to_host(masters: int) -> int:
        return by_host * (2 * masters + 1)

    places = list(dict.fromkeys(_host(topology, r.name) for c in choices for r in c.replicas))
    rooms = list(dict.fromkeys(_zone(topology, r.name) for c in choices for r in c.replicas))
    room_of: dict[int, int] = {}
    ranks: list[dict[int, int]] = []  # by choice: place → rank of its best replica there
    for number, choice in enumerate(choices):
        best: dict[int, int] = {}
        for rank, replica in enumerate(choice.replicas):
            place = places.index(_host(topology, replica.name))
            room_of[place] = rooms.index(_zone(topology, replica.name))
            if place not in best or pair(number, rank) < pair(number, best[place]):
                best[place] = rank
        ranks.append(best)
    chosen: dict[int, int] = {}  # choice → place

    def residual(node: _Node) -> Iterator[tuple[_Node, int]]:
        level, at = node
        if level == _SHARD:
            yield from (((_HOST, p), pair(at, rank)) for p, rank in ranks[at].items() if chosen.get(at) != p)
        elif level == _HOST:
            yield (_ZONE, room_of[at]), to_host(hosts[places[at]])
            yield from (((_SHARD, c), -pair(c, ranks[c][at])) for c, place in chosen.items() if place == at)
        elif level == _ZONE:
            yield (_END, 0), to_zone(zones[rooms[at]])
            used = sorted(place for place in set(chosen.values()) if room_of[place] == at)
            yield from (((_HOST, place), -to_host(hosts[places[place]] - 1)) for place in used)

    for number in range(len(choices)):
        path = _cheapest((_SHARD, number), residual)
        for (level, tail), (above, head) in pairwise(path):
            if (level, above) == (_SHARD, _HOST):
                chosen[tail] = head
            elif (level, above) == (_HOST, _ZONE):
                hosts[places[tail]] += 1
            elif (level, above) == (_ZONE, _HOST):
                hosts[places[head]] -= 1
            elif above == _END:
                zones[rooms[tail]] += 1
    return [choice.replicas[ranks[number][chosen[number]]] for number, choice in enumerate(choices)]


_Node = tuple[int, int]
"""What it is (a choice, a host, a zone, or the end), and its number."""
_SHARD, _HOST, _ZONE, _END = range(4)


def _cheapest(start: _Node, residual: Callable[[_Node], Iterable[tuple[_Node, int]]]) -> list[_Node]:
    """The cheapest path to the end (Bellman, Ford, Moore); there is no cycle of negative cost."""
    near: dict[_Node, int] = {start: 0}
    came: dict[_Node, _Node] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for head, cost in residual(node):
            reach = near[node] + cost
            if head not in near or reach < near[head]:
                near[head], came[head] = reach, node
                if head not in queue:
                    queue.append(head)
    path = [(_END, 0)]
    while path[-1] != start:
        path.append(came[path[-1]])
    return path[::-1]


# --- The plan -------------------------------------------------------------------------------------------------------


def _plan(topology: Topology, view: ClusterView, replicas: Sequence[str], mode: Mode) -> Plan:
    """One failover a shard. Those who take over from the dead, first, may be what the others need for a vote."""
    steps: list[Failover] = []
    at = view
    answers, needed = majority(view)
    for name in replicas:
        node = view.named_members[name]
        master = view.members[node.peer.master]
        gentle = answers >= needed and _in_sync(master, node)
        steps.append(Failover(name, "plain" if gentle else mode))
        if not gentle:
            at = simulate(at, steps[-1:])
            answers, needed = majority(at)
    return Plan(tuple(steps), findings=(*_harsh(view, steps), *_too_full(topology, view, replicas)))


def _harsh(view: ClusterView, steps: Sequence[Failover]) -> Iterator[Finding]:
    answers, needed = majority(view)
    if answers >= needed and any(step.mode == "takeover" for step in steps):
        what = f"is not needed: {answers} masters answer and see each other, and {needed} are enough for a vote"
        remedy = "take -e redis_failover_mode=force, unless it was tried and failed"
        yield Finding("takeover-not-needed", "redis_failover_mode=takeover", what, remedy, Severity.WARNING)
    for step in steps:
        master = view.members[view.by_name[step.node].myself.master]
        seen = [n for n in view.nodes if master.id in n.by_id and n.id != master.id]
        if step.mode != "plain" and not master.alive and not any(n.by_id[master.id].failing for n in seen):
            what = "does not answer here, but no node says that it failed: it may live, and take writes that are lost"
            remedy = "wait a node timeout and look again; be sure that it is stopped before it is taken over"
            yield Finding("master-may-live", f"node {master.name}", what, remedy, Severity.WARNING)


def _too_full(topology: Topology, view: ClusterView, replicas: Sequence[str]) -> Iterator[Finding]:
    then = _per_zone(topology, view)
    masters = Counter(then)
    for name in replicas:
        masters[_zone(topology, view.members[view.named_members[name].peer.master].name)] -= 1
        masters[_zone(topology, name)] += 1
    limit = zone_limit(topology, masters.total())
    for zone, count in sorted(masters.items()):
        if count > limit and count > then[zone]:
            yield Finding(
                "zone-too-full",
                f"zone {zone}",
                f"then has {count} of {masters.total()} masters: while this lasts, losing it leaves no majority, and "
                "no failover",
                "bring back what is emptied soon, then run playbooks/failover.yml -e redis_failover_restore=true",
                Severity.WARNING,
            )


def zone_limit(topology: Topology, masters: int) -> int:
    """How many masters a zone may have so that the others are a majority; any number where there are two zones."""
    return (masters + 1) // 2 - 1 if len(topology.zones) >= 3 else masters


def _excess(topology: Topology, view: ClusterView) -> int:
    masters = _per_zone(topology, view)
    limit = zone_limit(topology, masters.total())
    return sum(max(0, count - limit) for count in masters.values())


def _per_zone(topology: Topology, view: ClusterView) -> Counter[str]:
    return Counter(_zone(topology, view.members[i].name) for i in view.owners)


def _zone(topology: Topology, name: str) -> str:
    return topology[name].zone if name in topology else _NOWHERE


def _host(topology: Topology, name: str) -> str:
    return topology[name].host if name in topology else _NOWHERE


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
