"""What would have the loss of a zone or a host survived that is not now: cheapest first, each tried before it is said.

A remedy is named only where the loss is survived once it has been done to the view: simulate() does the steps, and
survival is asked again. What is out of sync stays so in that view, and what is silent stays silent, unless the remedy
names it. So the order is: wait for a sync, failovers, start what is down, site.yml, another inventory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations, count, islice, pairwise
from typing import Literal

from slotwright.core import remedies as inventory
from slotwright.core.blank import blank
from slotwright.core.capacity import LEAST_SHARDS, Capacity
from slotwright.core.cost import cost
from slotwright.core.handover import empty, named, restore
from slotwright.core.placement import place
from slotwright.core.plan import Plan, plan
from slotwright.core.remedies import Add, Change, capacity_of, describe
from slotwright.core.simulate import simulate
from slotwright.core.steps import Failover, Replicate, Step
from slotwright.core.survival import Copies, Survival, copies, host_names, in_sync, survival, without, zone_names
from slotwright.core.survival import host_survival as survival_of_hosts
from slotwright.core.topology import Instance, Topology, default_shards
from slotwright.core.view import ClusterView, Member, NodeView, Replication
from slotwright.errors import Refused

Part = Literal["zone", "host"]
Kind = Literal["failover", "wait", "start", "empty", "site", "inventory", "none"]
"""Cheapest first. none: nothing was found that helps; the remedy then says what stands in the way."""

_ORDER: tuple[Kind, ...] = ("failover", "wait", "start", "empty", "site", "inventory", "none")
# Of more names than this not the fewest are looked for: each try may cost a plan.
_FEW = 6
# How many instances, or hosts, are added in search of an inventory that would do.
_GROWTH = 12
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
# Why a node is silent, where starting it is what to do.
_DOWN = frozenset({"refused", "timeout", "no-route", "closed"})


@dataclass(frozen=True)
class Remedy:
    """One way to have the loss of a zone or host (lost) survived.

    waits: replicas that must get in sync first. starts: instances that must answer first. changes: alternatives for the
    inventory, each enough by itself. what, remedy: words, without a final full stop.
    """

    part: Part
    lost: str
    kind: Kind
    what: str
    remedy: str
    waits: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {"part": self.part, "lost": self.lost, "kind": self.kind, "what": self.what, "remedy": self.remedy}


def ways_out(topology: Topology, view: ClusterView) -> tuple[Remedy, ...]:
    """For every zone, then every host, whose loss is not survived: what mends that, cheapest first. Never nothing."""
    search = _Search(topology, view)
    found: list[Remedy] = []
    parts: tuple[tuple[Part, tuple[Survival, ...]], ...] = (
        ("zone", survival(topology, view)),
        ("host", survival_of_hosts(topology, view)),
    )
    for part, rows in parts:
        for row in rows:
            if not row.survives and view.owners:
                found += search.ways(part, row)
    return tuple(found)


def changed(topology: Topology, change: Change) -> Topology:
    """The inventory with the change: new instances have made-up hosts and addresses, a new zone a made-up name."""
    zones, added = len(topology.zones), []
    for number, add in enumerate(change.add, start=1):
        zones += add.zone is None
        zone = f"new zone {zones}" if add.zone is None else add.zone
        host = add.host or f"new host {number}"
        added += [Instance(f"{host}:{n}", host, zone, f"new-{number}", n) for n in range(1, add.count + 1)]
    return replace(topology, instances=(*topology.instances, *added), shards=change.shards, replicas=change.replicas)


def joined(topology: Topology, view: ClusterView) -> ClusterView:
    """The view with a blank node for every instance that it does not have: neither answering nor silent."""
    known = view.by_name.keys() | {s.instance for s in view.silent}
    new = {i.name: blank(i) for i in topology.instances if i.name not in known}
    nodes: dict[str, NodeView] = {**view.by_name, **new}
    return replace(view, nodes=tuple(nodes[i.name] for i in topology.everyone if i.name in nodes))


def returned(topology: Topology, view: ClusterView, names: Iterable[str]) -> ClusterView:
    """The view once these silent instances answer: a member as the others know it, one that is none as a blank node."""
    if not (back := frozenset(names)):
        return view
    model = max(view.nodes, key=lambda n: len(n.known_ids))
    nodes: dict[str, NodeView] = dict(view.by_name)
    for name in back:
        member = view.named_members.get(name)
        nodes[name] = _as_known(name, member, model) if member else blank(topology[name])
    silent = tuple(s for s in view.silent if s.instance not in back)
    ordered = tuple(nodes[i.name] for i in topology.everyone if i.name in nodes)
    return simulate(replace(view, nodes=ordered, silent=silent), ())


def _as_known(name: str, member: Member, model: NodeView) -> NodeView:
    line = replace(member.peer, flags=member.peer.flags - {"fail", "fail?"}, connected=True)
    peers = tuple(line if p.id == member.id else p for p in model.peers)
    return replace(
        model,
        name=name,
        endpoint=line.endpoint,
        id=member.id,
        run_id="",
        peers=peers if line in peers else (*peers, line),
        keys=0,
        used_memory=0,
        foreign=type(model.foreign)(),
        replication=Replication("slave" if line.master else "master"),
    )


class _Search:
    """Tries what could mend a loss. What does not depend on which loss it is, is done once."""

    def __init__(self, topology: Topology, view: ClusterView) -> None:
        self.topology, self.view = topology, view
        self.lame = frozenset(
            m.name for m in view.members.values() if m.alive and m.peer.master in view.owners and not in_sync(m)
        )
        useful = {i.name for i in topology.instances}
        useful |= {m.name for m in view.members.values() if m.peer.slots or m.peer.master in view.owners}
        self.silent = tuple(s.instance for s in view.silent if s.instance in useful) if view.nodes else ()
        self.state = cache(self._state)
        self.restored = cache(self._restored)
        self.planned = cache(self._planned)
        self.grown = cache(self._grown)
        self.changes = cache(self._changes)

    # --- What would be there

    def _state(self, waits: frozenset[str], starts: frozenset[str]) -> ClusterView:
        """The view once these replicas are in sync and these instances answer."""
        if not waits and not starts:
            return self.view
        return self._lamed(simulate(returned(self.topology, self.view, starts), ()), self.lame - waits)

    def _lamed(self, view: ClusterView, lame: frozenset[str], steps: Sequence[Step] = ()) -> ClusterView:
        """The view in which replicas that are out of sync stay it: simulate() has them in sync. A new copy is whole."""
        still = lame - {step.node for step in steps if isinstance(step, Replicate)}
        nodes = tuple(
            replace(n, replication=replace(n.replication, link_up=False)) if n.name in still else n for n in view.nodes
        )
        return replace(view, nodes=nodes) if still else view

    def _after(self, made: Plan, waits: frozenset[str], starts: frozenset[str]) -> ClusterView | None:
        """The view after a plan that begins where these wait and start. None where it cannot be counted on."""
        lame = self.lame - waits
        if made.refusals or not made.steps or any(isinstance(s, Failover) and s.node in lame for s in made.steps):
            return None
        return self._lamed(simulate(self.state(waits, starts), made.steps), lame, made.steps)

    def _restored(self, waits: frozenset[str], starts: frozenset[str]) -> tuple[Plan, ClusterView | None]:
        """The failovers of that plan alone. Where it has none, it is not made a second time."""
        if not any(isinstance(step, Failover) for step in self.planned(waits, starts)[0].steps):
            return Plan(), None
        made = restore(self.topology, self.state(waits, starts))
        return made, self._after(made, waits, starts)

    def _planned(self, waits: frozenset[str], starts: frozenset[str]) -> tuple[Plan, ClusterView | None]:
        made = plan(self.topology, self.state(waits, starts))
        return made, self._after(made, waits, starts)

    def _grown(self, change: Change, waits: frozenset[str], starts: frozenset[str]) -> ClusterView | None:
        """The view after site.yml with a changed inventory."""
        wanted = changed(self.topology, change)
        begin = joined(wanted, self.state(waits, starts))
        made, lame = plan(wanted, begin), self.lame - waits
        if made.refusals or any(isinstance(s, Failover) and s.node in lame for s in made.steps):
            return None
        return self._lamed(simulate(begin, made.steps), lame, made.steps)

    # --- What mends it

    def ways(self, part: Part, row: Survival) -> list[Remedy]:
        names = (zone_names if part == "zone" else host_names)(self.topology, row.lost)
        what = self._why(row, names)

        def mended(view: ClusterView | None) -> bool:
            return view is not None and without(row.lost, names, copies(view)).survives

        def remedy(kind: Kind, words: str, waits: Iterable[str] = (), starts: Iterable[str] = ()) -> Remedy:
            return Remedy(part, row.lost, kind, what, words, tuple(sorted(waits)), tuple(sorted(starts)))

        none: frozenset[str] = frozenset()
        made, after = self.restored(none, none)
        if mended(after):
            return [remedy("failover", f"run {_RESTORE}: {self._failovers(made, self.view)}")]
        found = []
        if lasting := self._lasting(mended):
            waits, starts, again = lasting
            words = self._first(waits, starts) + (f", then run {_RESTORE}" if again else "")
            found.append(remedy("start" if starts else "wait", words, waits, starts))
        if words := self._emptied(part, row.lost, names, mended):
            found.append(remedy("empty", words))
        if site := self._site(mended):
            waits, starts = site
            if not lasting or len(waits) + len(starts) < len(lasting[0]) + len(lasting[1]):
                first = self._first(waits, starts)
                made, _ = self.planned(*site)
                price = ", ".join(cost(self.state(*site), made.steps).lines())
                run = "run site.yml" + (f" ({price})" if price else "")
                found.append(remedy("site", f"{first}, then {run}" if first else run, waits, starts))
        if not lasting and not site:
            found += self._inventory(part, row, what, mended)
        if not found or all(way.kind == "empty" for way in found):
            found.append(remedy("none", self._obstacle()))
        return sorted(found, key=lambda way: _ORDER.index(way.kind))

    def _lasting(self, mended: _Asked) -> tuple[frozenset[str], frozenset[str], bool] | None:
        """The replicas to wait for and the instances to start, and whether failovers must follow."""
        for again in (False, True):
            for starts in self._starts:
                waits = self.lame
                if not waits and not starts:
                    continue

                def holds(waits: frozenset[str], starts: frozenset[str], again: bool = again) -> bool:
                    return mended(self.restored(waits, starts)[1] if again else self.state(waits, starts))

                if holds(waits, starts):
                    return (*_fewest(waits, starts, holds, again), again)
        return None

    def _site(self, mended: _Asked) -> tuple[frozenset[str], frozenset[str]] | None:
        none: frozenset[str] = frozenset()

        def holds(waits: frozenset[str], starts: frozenset[str]) -> bool:
            return mended(self.planned(waits, starts)[1])

        for waits, starts in dict.fromkeys([(none, none), *((self.lame, starts) for starts in self._starts)]):
            if holds(waits, starts):
                return _fewest(waits, starts, holds, True)
        return None

    @cached_property
    def _starts(self) -> tuple[frozenset[str], ...]:
        """Nobody is started, or all are that are silent."""
        return tuple(dict.fromkeys((frozenset[str](), frozenset(self.silent))))

    def _emptied(self, part: Part, lost: str, names: frozenset[str], mended: _Asked) -> str:
        """For the time being: the part is emptied of masters, at the cost of others."""
        made = empty(self.topology, self.view, names)
        after = self._after(made, frozenset(), frozenset())
        if after is None or not mended(after):
            return ""
        try:
            word = lost if named(self.topology, [lost]) == names else ",".join(sorted(names))
        except Refused:
            word = ",".join(sorted(names))
        words = f"if it is to go down on purpose, run playbooks/failover.yml -e redis_failover_from={word} first: "
        words += self._failovers(made, self.view)
        worse = [
            f"{kind} {then.lost}"
            for kind, ask in (("zone", survival), ("host", survival_of_hosts))
            for now, then in zip(ask(self.topology, self.view), ask(self.topology, after), strict=True)
            if now.survives and not then.survives
        ]
        return words + (f"; then {_list(worse)} must not be lost" if worse else "")

    def _inventory(self, part: Part, row: Survival, what: str, mended: _Asked) -> Iterator[Remedy]:
        """Other inventories; those that need nobody to be started before those that do."""
        strict = replace(self.topology, allow_zone_risk=False)
        left = self.changes(part)
        states = dict.fromkeys([(frozenset[str](), frozenset[str]()), *((self.lame, s) for s in self._starts)])
        for waits, starts in states:
            held = tuple(c for c in left if mended(self.grown(c, waits, starts)))
            left = tuple(c for c in left if c not in held)
            if held:
                first = self._first(waits, starts)
                words = (f"{first}, then " if first else "") + f"{_words(strict, held, part)}; then run site.yml"
                yield Remedy(
                    part, row.lost, "inventory", what, words, tuple(sorted(waits)), tuple(sorted(starts)), held
                )

    def _changes(self, part: Part) -> tuple[Change, ...]:
        """Changes of the inventory with whose best placement every zone (or host) may be lost."""

        def does(change: Change) -> bool:
            return _ideal_survives(changed(self.topology, change), part)

        found = list(dict.fromkeys(c for c in _candidates(self.topology, part, does) if does(c)))
        best: dict[tuple[int, int], Change] = {}
        for change in sorted(found, key=lambda c: sum(a.count for a in c.add)):
            best.setdefault((change.shards, change.replicas), change)
        return tuple(best.values())

    # --- Words

    def _why(self, row: Survival, names: frozenset[str]) -> str:
        """Why the loss is not survived, with names and numbers."""
        shards, words = copies(self.view), []
        if not row.quorum:
            there = [s.master for s in shards if s.master in names]
            away = [s.master for s in shards if s.master not in names and not s.alive]
            if there:
                words.append(f"{len(there)} of {len(shards)} masters {_be(there)} there ({_list(there)})")
            if away:
                words.append(f"{_list(away)} {_do(away)} not answer")
            words.append(f"{row.masters_left} of {len(shards)} masters would be left, {row.masters_needed} are needed")
        if row.slots_lost:
            gone = [s for s in shards if (s.master in names or not s.alive) and names.issuperset(s.others)]
            more = f"; and {len(gone) - 3} more" if len(gone) > 3 else ""
            each = "; ".join(f"{s.master}: {self._without_copy(s, names)}" for s in gone[:3])
            words.append(f"{row.slots_lost} slots would have no copy ({each}{more})")
        return "; ".join(words)

    def _without_copy(self, shard: Copies, names: frozenset[str]) -> str:
        master = self.view.named_members[shard.master]
        replicas = self.view.replicas_of(master.id)
        if not replicas:
            return "no replica"

        def state(replica: Member) -> str:
            if not replica.alive:
                return "does not answer"
            return "is not in sync" if not in_sync(replica) else "is there too"

        return ", ".join(f"its replica {r.name} {state(r)}" for r in replicas[:3])

    def _failovers(self, made: Plan, view: ClusterView) -> str:
        steps = [step for step in made.steps if isinstance(step, Failover)]
        each = [f"{s.node} takes over from {view.name_of(view.by_name[s.node].myself.master)}" for s in steps]
        return f"{len(steps)} failover{'s' * (len(steps) != 1)} ({_list(each)})"

    def _first(self, waits: Iterable[str], starts: Iterable[str]) -> str:
        """What must come first, by name."""
        why = {s.instance: s for s in self.view.silent}
        down = sorted(name for name in starts if why[name].kind in _DOWN)
        deaf = sorted(name for name in starts if why[name].kind not in _DOWN)
        words = [f"start {_list(down)}"] if down else []
        words += [f"have {name} answer ({why[name].detail})" for name in deaf]
        for name in sorted(waits):
            master = self.view.name_of(self.view.by_name[name].myself.master)
            words.append(f"wait until {name} is in sync with {master} (its log says what hinders it)")
        return ", ".join(words)

    def _obstacle(self) -> str:
        """What is to be said where nothing helps."""
        made, _ = self.planned(self.lame, frozenset(self.silent))
        if made.refusals:
            return f"site.yml refuses to change this cluster: {str(made.refusals[0]).removesuffix('.')}"
        return "nothing was found that helps: no run with this inventory, and no small change of it"


_Asked = Callable[[ClusterView | None], bool]
_RESTORE = "playbooks/failover.yml -e redis_failover_restore=true"


def _fewest(
    waits: frozenset[str], starts: frozenset[str], holds: Callable[[frozenset[str], frozenset[str]], bool], dear: bool
) -> tuple[frozenset[str], frozenset[str]]:
    """As few of them as will do: names are left out one by one. dear: each try costs a plan."""
    if dear and len(waits) + len(starts) > _FEW:
        return waits, starts
    for name in sorted(starts):
        if holds(waits, starts - {name}):
            starts -= {name}
    for name in sorted(waits):
        if holds(waits - {name}, starts):
            waits -= {name}
    return waits, starts


# --- Other inventories ----------------------------------------------------------------------------------------------


def _candidates(topology: Topology, part: Part, does: Callable[[Change], bool]) -> Iterator[Change]:
    """Changes that may help, the smaller ones of a kind first."""
    strict = replace(topology, allow_zone_risk=False)
    if capacity_of(strict).broken():
        yield from inventory.remedies(strict)
    wanted = strict
    if not topology.replicas:
        wanted = replace(strict, replicas=1)
        if not capacity_of(wanted).broken():
            yield Change((), topology.shards, 1)
        else:
            yield from (c for c in inventory.remedies(wanted) if c.replicas)
    default = max(LEAST_SHARDS, default_shards(len(topology.instances), wanted.replicas))
    for shards in dict.fromkeys((topology.shards, default, LEAST_SHARDS)):
        asked = replace(wanted, shards=shards)
        ways = [_more_zones(asked)] if part == "zone" or len(topology.zones) == 2 else []
        ways += [_more_hosts(asked)] if part == "host" else []
        found: list[Change] = []
        for way in ways:
            fit = (c for c in way if not capacity_of(changed(strict, c)).broken() and does(c))
            found += islice(fit, 1)
        yield from found
        if found:
            return


def _more_zones(topology: Topology) -> Iterator[Change]:
    """So many new zones that the loss of any leaves a majority (three, or four for four shards), few instances first.

    Where there are as many zones already, there are none.
    """
    wanted = 3
    while Capacity(((1,),) * wanted, topology.shards, 0).minority * wanted < topology.shards:
        wanted += 1
    missing = wanted - len(topology.zones)
    for total in range(missing, _GROWTH + 1) if missing > 0 else ():
        for cuts in combinations(range(1, total), missing - 1):
            sizes = [end - begin for begin, end in pairwise((0, *cuts, total))]
            yield Change(tuple(Add(None, None, n) for n in sizes), topology.shards, topology.replicas)


def _more_hosts(topology: Topology) -> Iterator[Change]:
    """New hosts, in the zones that have fewest instances: fewest instances first, and of these on fewest hosts."""
    sizes = {zone: sum(i.zone == zone for i in topology.instances) for zone in topology.zones}
    for total in range(1, _GROWTH + 1):
        for hosts in range(1, total + 1):
            if total % hosts:
                continue
            grown, adds = dict(sizes), []
            for _ in range(hosts):
                zone = min(grown, key=lambda z: grown[z])
                grown[zone] += total // hosts
                adds.append(Add(zone, None, total // hosts))
            yield Change(tuple(adds), topology.shards, topology.replicas)


def _ideal_survives(topology: Topology, part: Part) -> bool:
    """Whether any zone (or host) may be lost with the best placement of this inventory."""
    if capacity_of(topology).broken(topology.allow_zone_risk):
        return False
    shards = [Copies(s.master, True, 1, s.replicas) for s in place(topology).shards]
    places = topology.zones if part == "zone" else topology.hosts
    names = zone_names if part == "zone" else host_names
    return all(without(one, names(topology, one), shards).survives for one in places)


def _words(topology: Topology, changes: Sequence[Change], part: Part) -> str:
    """The changes as alternatives. describe() says one new zone at a time, and leaves open which host it takes."""

    def is_plain(change: Change) -> bool:
        places = [a for a in change.add if a.host is None]
        return not places or (part == "zone" and len([a for a in places if a.zone is None]) <= 1)

    plain = [c for c in changes if is_plain(c)]
    ways = [describe(topology, plain)] if plain else []
    for change in (c for c in changes if c not in plain):
        whole = Add(None, None, sum(a.count for a in change.add))
        settings = describe(topology, [replace(change, add=(whole,))]).partition(" and set ")[2]
        ways.append(f"add {_added(topology, change.add)}" + (f" and set {settings}" if settings else ""))
    return ", or ".join(ways)


def _added(topology: Topology, adds: Sequence[Add]) -> str:
    words, zones = [], count(len(topology.zones))
    for add in adds:
        instances = f"{add.count} instance{'s' * (add.count > 1)}"
        if add.zone is None:
            words.append(f"a {_ORDINALS[next(zones)]} zone with {instances}")
        elif add.host is None:
            words.append(f"a new host in zone {add.zone} with {instances}")
        else:
            words.append(f"{instances} on host {add.host}")
    return _list(words)


def _list(names: Sequence[str]) -> str:
    shown = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"
