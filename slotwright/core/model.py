"""The choice of a layout as a mixed-integer program: its variables, its rules, its goals. See core/layout.py.

Shards are numbered: the live ones first, then one for each node that may become the master of a new one. A node either
keeps being in the shard whose data it has, or it is one of those that its host gives away; these are only counted, per
host and shard, since it does not matter for rule or cost which of them goes where. Only the answer names them.

Whether a replica is legal depends on where its master stands, so its variables are told apart by the master's zone:
"a replica of this shard while the master is in zone a". Each is bounded by whether the master is there. That makes more
variables, but the program's relaxation is then nearly the program itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from zlib import crc32

from slotwright.core.layout import Freedom, Layout, Part, Question, as_it_is, host_of, ordered, staying_slots, zone_of
from slotwright.core.program import Goal, Program
from slotwright.core.slots import SLOT_COUNT
from slotwright.core.topology import Instance

# Beyond so many copies more than now, replicas of one shard count alike for the evenness over shards.
_MOST_STEPS = 8
# Up to so many pairs of a host and a shard, all of them are looked at at once where some node must change its part.
_FEW_PAIRS = 1500


@dataclass
class _Shard:
    """A shard's variables.

    on: whether there is such a shard. current: its master now; of a new one the node that it is to be made of; None
    where that is not wanted any more. calm: its master is to stay as it is. lead: which of its own nodes is its master;
    head: whether one is that comes from a host. kept: which of its own nodes are replicas while the master is in a
    zone; brought: how many come from a host.
    """

    number: int
    on: int
    current: str | None
    own: list[str]
    new: bool = False
    calm: bool = False
    lead: dict[str, int] = field(default_factory=dict)
    head: dict[str, int] = field(default_factory=dict)
    kept: dict[tuple[str, str], int] = field(default_factory=dict)
    brought: dict[tuple[str, str], int] = field(default_factory=dict)

    @cached_property
    def copies(self) -> list[int]:
        """Their sum is the number of its nodes."""
        return [*self.lead.values(), *self.head.values(), *self.kept.values(), *self.brought.values()]

    @cached_property
    def imported(self) -> list[int]:
        """Their sum is the number of nodes that it gets."""
        return [*self.head.values(), *self.brought.values()]

    @cached_property
    def stay(self) -> dict[str, list[int]]:
        """Variables per own node whose sum says whether it keeps being in the shard."""
        found = {name: [variable] for name, variable in self.lead.items()}
        for (name, _), variable in self.kept.items():
            found.setdefault(name, []).append(variable)
        return found

    def given(self, host: str) -> list[int]:
        """Their sum is the number of nodes that it gets from the host."""
        return self._given.get(host, [])

    @cached_property
    def _given(self) -> dict[str, list[int]]:
        found = {host: [variable] for host, variable in self.head.items()}
        for (host, _), variable in self.brought.items():
            found.setdefault(host, []).append(variable)
        return found


class Model:
    """One program, with the freedom and the rules that it is given. strict: no rule may be broken.

    broken: what each rule is broken by, the worst first: a leaver that stays, since nobody can take its place; replicas
    on their master's host; masters beyond what a zone may have; replicas in their master's zone; copies too few; zones
    without a copy.
    """

    def __init__(self, question: Question, freedom: Freedom, *, strict: bool = True) -> None:
        self.question, self.freedom, self.strict = question, freedom, strict
        self.program = Program()
        self.broken: list[dict[int, float]] = [{} for _ in range(6)]
        q = question
        self.hosts = {i.host: i for i in reversed(q.topology.instances)}
        self.zones = list(q.topology.zones)
        self.apart = q.zoned and strict
        self.live = [self._live(number) for number in range(len(q.shards))]
        if q.dissolved:
            kept = dict.fromkeys((s.on for s in self.live), 1.0)
            self.program.row(kept, len(q.shards) - q.dissolved, len(q.shards) - q.dissolved)
        self.new = [self._new(number, name) for number, name in enumerate(self._candidates(), start=len(self.live))]
        if q.founded:
            self.program.row(dict.fromkeys((s.on for s in self.new), 1.0), q.founded, q.founded)
        self.shards = [*self.live, *self.new]
        self.leavers: dict[int, int] = {}
        room = self._room()
        for shard in self.shards:
            self._variables(shard, room)
            self._master(shard)
            self._replicas(shard)
            if not self.apart:
                self._hosts_apart(shard)
        self._enough()
        self._capacity(room)
        self._majority()

    # --- Variables ---------------------------------------------------------------------------------------------------

    def _live(self, number: int) -> _Shard:
        q = self.question
        on = self.program.var(lower=0 if q.dissolved else 1)
        settled = self.freedom is Freedom.FEW and not self._troubled(number)
        calm = (self.freedom is Freedom.CALM or settled) and q.current[number] is not None
        return _Shard(number, on, q.current[number], q.own[number], calm=calm)

    def _new(self, number: int, founder: str) -> _Shard:
        own = [founder, *self.question.followers.get(founder, ())]
        return _Shard(number, self.program.var(), founder, own, new=True, calm=self.freedom is Freedom.CALM)

    def _candidates(self) -> list[str]:
        """Nodes that may become masters of new shards: empty masters, and replicas where those do not suffice."""
        q = self.question
        empty = [name for name in q.free if name in q.live.empty]
        if not q.founded:
            return []
        if self.freedom < Freedom.ALL and len(empty) >= q.founded:
            return empty
        return q.free if self.freedom < Freedom.FEW else q.nodes

    def _stays(self, shard: _Shard) -> bool:
        """Whether all nodes of a live shard stay in it."""
        if shard.new or self.freedom is Freedom.ALL:
            return False
        return self.freedom < Freedom.FEW or not self._troubled(shard.number)

    def _troubled(self, number: int) -> bool:
        q = self.question
        return not q.sound(number) or len(q.own[number]) > q.topology.replicas + 1

    def _room(self) -> Counter[str]:
        """How many nodes each host may give away: free ones, and those that need not stay."""
        q = self.question
        bound = set() if q.dissolved else {name for s in self.live if self._stays(s) for name in s.own}
        return Counter(q.at[name].host for name in q.nodes if name not in bound)

    def _zone(self, instance: Instance) -> str:
        """The zone by which replicas are told apart; one for all where the zones do not matter for them."""
        return instance.zone if len(self.zones) > 1 else ""

    def _variables(self, shard: _Shard, room: Counter[str]) -> None:
        q, p = self.question, self.program
        calm = shard.calm
        for name in shard.own:
            if not calm:
                shard.lead[name] = p.var()
            elif name == shard.current:
                shard.lead[name] = shard.on
        if not calm:
            shard.head = {host: p.var() for host in room}
        masters = [*(q.at[name] for name in shard.lead), *(self.hosts[host] for host in shard.head)]
        areas = dict.fromkeys(map(self._zone, masters))
        for area in areas:
            for name in shard.own:
                if not (self.apart and self._zone(q.at[name]) == area) and not (calm and name == shard.current):
                    shard.kept[name, area] = p.var()
            for host, most in room.items():
                if not (self.apart and self._zone(self.hosts[host]) == area):
                    shard.brought[host, area] = p.var(most)

    # --- Rules -------------------------------------------------------------------------------------------------------

    def _master(self, shard: _Shard) -> None:
        """One master, and each own node in at most one role; in its role still, where it stays."""
        p = self.program
        leaders = [*shard.lead.values(), *shard.head.values()]
        if not self.strict and shard.current is None:
            self.leavers[shard.number] = variable = p.var()
            self.broken[0][variable] = 1
            leaders.append(variable)
        if shard.on not in leaders:
            p.row({**dict.fromkeys(leaders, 1.0), shard.on: -1}, 0, 0)
        for name, variables in shard.stay.items():
            terms = Counter(dict.fromkeys(variables, 1.0))
            terms[shard.on] -= 1
            founder = shard.new and name == shard.current
            if any(terms.values()):
                p.row(terms, 0 if founder or self._stays(shard) else -inf, 0)

    def _replicas(self, shard: _Shard) -> None:
        """Replicas by the master's zone, all copies and all zones that are asked."""
        q, p = self.question, self.program
        dead = [] if shard.new else [q.at[name] for name in q.shards[shard.number].dead]
        masters = self._masters(shard, self._zone)
        for area, leaders in masters.items():
            here = dict.fromkeys(leaders, 1.0)
            replicas: dict[str, list[int]] = {}
            for (name, where), variable in shard.kept.items():
                if where == area:
                    p.row({variable: 1, **dict.fromkeys(leaders, -1.0)}, -inf, 0)
                    replicas.setdefault(q.at[name].zone, []).append(variable)
            for (host, where), variable in shard.brought.items():
                if where == area:
                    p.row({variable: 1, **dict.fromkeys(leaders, -p.upper[variable])}, -inf, 0)
                    replicas.setdefault(self.hosts[host].zone, []).append(variable)
            beside = replicas.get(area, []) if len(self.zones) > 1 else []
            self.broken[3] |= dict.fromkeys(beside, 1.0)
            need = q.topology.replicas - len(dead)
            if need > 0:
                lack = p.var(need, integral=False)
                self.broken[4][lack] = 1
                every = [v for some in replicas.values() for v in some]
                p.row({**dict.fromkeys(every, 1.0), lack: 1, **dict.fromkeys(here, -need)}, 0, inf)
            if q.covered:
                miss = p.var(q.covered, integral=False)
                self.broken[5][miss] = 1
                covers = {miss: 1.0}
                known = {i.zone for i in dead} - {area}
                for zone in replicas.keys() - {area} - known:
                    covers[cover := p.var(integral=False)] = 1
                    p.row({cover: 1, **dict.fromkeys(replicas[zone], -1.0)}, -inf, 0)
                    p.row({cover: 1, **dict.fromkeys(here, -1.0)}, -inf, 0)
                p.row({**covers, **dict.fromkeys(here, float(len(known) - q.covered))}, 0, inf)

    def _enough(self) -> None:
        """What lacks because a node does not answer, which may come back, breaks no rule; nor any zone that must."""
        q, p = self.question, self.program
        for rule in (4, 5):
            lacking = self.broken[rule]
            self.broken[rule] = {}
            if self.strict and not (q.risky and rule == 5):
                if lacking:
                    p.row(lacking, -inf, q.live.missing)
            elif lacking:
                beyond = p.var(sum(p.upper[v] for v in lacking), integral=False)
                p.row({**lacking, beyond: -1}, -inf, q.live.missing)
                self.broken[rule] = {beyond: 1}

    def _hosts_apart(self, shard: _Shard) -> None:
        """No replica on its master's host."""
        at, masters = self.question.at, self._masters(shard, host_of)
        for name, variables in shard.stay.items():
            lead = shard.lead.get(name)
            there = [v for v in masters.get(at[name].host, ()) if v != lead]
            replica = [v for v in variables if v != lead]
            if there and replica:
                self._on_host(dict.fromkeys((*replica, *there), 1.0), 1)
        for host in dict.fromkeys(host for host, _ in shard.brought):
            replicas = [v for (where, _), v in shard.brought.items() if where == host]
            most = self.program.upper[replicas[0]]
            if host in masters:
                self._on_host({**dict.fromkeys(replicas, 1.0), **dict.fromkeys(masters[host], most)}, most)

    def _on_host(self, terms: dict[int, float], most: float) -> None:
        if not self.strict:
            slack = self.program.var(most, integral=False)
            self.broken[1][slack] = 1
            terms[slack] = -1
        self.program.row(terms, -inf, most)

    def _capacity(self, room: Iterable[str]) -> None:
        """A host gives away what does not stay where it is; no node stays twice."""
        q, p = self.question, self.program
        stays: dict[str, list[int]] = {}
        for shard in self.shards:
            for name, variables in shard.stay.items():
                stays.setdefault(name, []).extend(variables)
        for shard in self.new:
            # It may be in a live shard now, or follow another candidate.
            p.row(dict.fromkeys(stays[shard.own[0]], 1.0), -inf, 1)
        nodes = Counter(q.at[name].host for name in q.nodes)
        rows: dict[str, dict[int, float]] = {host: {} for host in room}
        for host, terms in rows.items():
            for shard in self.shards:
                terms |= dict.fromkeys(shard.given(host), 1.0)
        for name, variables in stays.items():
            if q.at[name].host in rows:
                rows[q.at[name].host] |= dict.fromkeys(variables, 1.0)
        for host, terms in rows.items():
            p.row(terms, -inf, nodes[host])

    def _masters(self, shard: _Shard, place: Callable[[Instance], str]) -> dict[str, list[int]]:
        """Variables per place whose sum says whether the master is there."""
        at, found = self.question.at, dict[str, list[int]]()
        for name, variable in shard.lead.items():
            found.setdefault(place(at[name]), []).append(variable)
        for host, variable in shard.head.items():
            found.setdefault(place(self.hosts[host]), []).append(variable)
        return found

    def _copies(self, shard: _Shard, place: Callable[[Instance], str]) -> dict[str, list[int]]:
        """Variables per place whose sum is the number of copies there."""
        found: dict[str, list[int]] = {}
        for name, variables in shard.stay.items():
            found.setdefault(place(self.question.at[name]), []).extend(variables)
        for host in dict.fromkeys((*shard.head, *(host for host, _ in shard.brought))):
            found.setdefault(place(self.hosts[host]), []).extend(shard.given(host))
        return found

    def _all_masters(self, place: Callable[[Instance], str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for shard in self.shards:
            for where, variables in self._masters(shard, place).items():
                found.setdefault(where, []).extend(variables)
        return found

    def _majority(self) -> None:
        """With three zones or more, no zone has so many masters that the others lack a majority."""
        q, p = self.question, self.program
        if q.most < q.count:
            fixed = q.masters_fixed(zone_of)
            for zone, masters in self._all_masters(zone_of).items():
                terms = dict.fromkeys(masters, 1.0)
                if not self.strict:
                    over = p.var(q.count, integral=False)
                    self.broken[2][over] = 1
                    terms[over] = -1
                p.row(terms, -inf, q.most - fixed[zone])

    # --- Goals -------------------------------------------------------------------------------------------------------

    def solved(self) -> Layout | None:
        """The best layout; None where there is none, or where more freedom might find a better one."""
        q, p = self.question, self.program
        everybody = len(q.nodes)
        broken: list[Goal] = [(cost, everybody * (q.topology.replicas + 1)) for cost in self.broken]
        placed = {v: -1.0 for s in self.shards for v in s.copies}
        goals: list[Goal] = [*broken, (placed, everybody)]
        if q.dissolved:
            goals.append((staying_slots(q, p, [s.on for s in self.live]), SLOT_COUNT))
        goals += [(self._syncs(), everybody), (self._crowd(), q.count), (self._failovers(), 2 * q.count)]
        values = p.reach(*goals)
        if values is None:
            return None
        if self.freedom < Freedom.ALL:
            spares = values[len(broken)] + everybody
            syncs, crowded, failovers = values[-3:]
            above = any(value > least for value, least in zip(values, q.least_broken, strict=False))
            if above or spares or syncs > self._least_syncs():
                return None
            worse = crowded or self._changed(failovers) > sum(name is None for name in q.current)
            if worse and (self.freedom in (Freedom.CALM, Freedom.FEW) or q.gone):
                return None
        self._choose_masters()
        self._choose_replicas()
        return self._answer()

    def _least_syncs(self) -> int:
        """So many nodes get other data whatever is done: all that are free, but for founders, and all that must go."""
        q = self.question
        followers = sorted((len(s.own) - 1 for s in self.new), reverse=True)
        free = len(q.free) - q.founded - sum(followers[: q.founded])
        free += max(0, q.founded - sum(name in q.live.empty for name in q.free))
        if not self.strict or q.risky:
            return free
        needs = [q.needed(number) for number in range(len(q.shards))]
        # What lacks because nodes do not answer needs nobody.
        return max(free + sum(loses for _, loses in needs), sum(gets for gets, _ in needs) - q.live.missing)

    def _syncs(self) -> dict[int, float]:
        detached = {s.on: 1.0 for s in self.new if s.current not in self.question.live.empty}
        return {**{v: 1.0 for s in self.shards for v in s.imported}, **detached}

    def _crowd(self) -> dict[int, float]:
        q, p = self.question, self.program
        fixed, crowd = q.masters_fixed(q.place), dict[int, float]()
        for place, masters in self._all_masters(q.place).items():
            if sum(p.upper[v] for v in masters) + fixed[place] > q.full:
                over = p.var(q.count, integral=False)
                crowd[over] = 1
                p.row({**dict.fromkeys(masters, 1.0), over: -1}, -inf, q.full - fixed[place])
        return crowd

    def _failovers(self) -> dict[int, float]:
        """Shards less those that keep their master; those that there are for certain are left out."""
        cost: dict[int, float] = {}
        for shard in self.shards:
            if shard.calm:
                continue
            if self.program.lower[shard.on] == 0:
                cost[shard.on] = 1
            if shard.current is not None:
                cost[shard.lead[shard.current]] = -1
        return cost

    def _changed(self, value: int) -> int:
        """The failovers, given the value of that cost."""
        return value + sum(self.program.lower[s.on] == 1 and not s.calm for s in self.shards)

    # --- The choice among equals -------------------------------------------------------------------------------------

    def _choose_masters(self) -> None:
        q, p = self.question, self.program
        unchanged = all(s.current is not None and p.amount(s.lead[s.current]) for s in self.live)
        if not unchanged or self.new:
            goals: list[Goal] = []
            for place in (zone_of, host_of):
                fixed, cost = q.masters_fixed(place), dict[int, float]()
                for where, masters in self._all_masters(place).items():
                    most = min(q.count, round(sum(p.upper[v] for v in masters)))
                    cost |= p.squares(dict.fromkeys(masters, 1.0), most, fixed[where])
                goals.append((cost, q.count**2))
            names = self._names()
            goals.append((names, round(q.count * max(names.values(), default=0))))
            takers: dict[int, float] = {}
            for shard in self.shards:
                old = q.shards[shard.number].name if shard.current is None else shard.current
                takers |= {v: _mark(q.at[n].host, old) for n, v in shard.lead.items() if n != shard.current}
                takers |= {v: _mark(host, old) for host, v in shard.head.items()}
            goals.append((takers, round(sum(takers.values()))))
            order = {name: n for n, name in enumerate(q.nodes)}
            ports = {v: float(order[name]) for s in self.shards for name, v in s.lead.items()}
            goals.append((ports, q.count * len(order)))
            p.reach(*goals)
        for shard in self.shards:
            for variable in (shard.on, *shard.lead.values(), *shard.head.values()):
                p.fix(variable, p.amount(variable))

    def _names(self) -> dict[int, float]:
        """Masters on the first hosts of the inventory."""
        weight: dict[str, float] = {}
        for host in self.question.topology.hosts:
            weight[host] = 61.0 * (len(weight) + 1) + crc32(host.encode()) % 61
        at, cost = self.question.at, dict[int, float]()
        for shard in self.shards:
            cost |= {v: weight[at[name].host] for name, v in shard.lead.items()}
            cost |= {v: weight[host] for host, v in shard.head.items()}
        return cost

    def _choose_replicas(self) -> None:
        q, p = self.question, self.program
        there = [s for s in self.shards if p.amount(s.on)]
        if not any(p.total(s.imported) for s in there):
            return
        masters = self._master_names()
        even: dict[int, float] = {}
        for shard in there:
            even |= self._square(shard)
        again: list[dict[int, float]] = [{}, {}]
        pairs: dict[int, float] = {}
        for shard in there:
            for place, cost in zip((zone_of, host_of), again, strict=True):
                for terms in self._copies(shard, place).values():
                    if sum(p.upper[v] for v in terms) > 1:
                        more = p.var(len(q.nodes), integral=False)
                        cost[more] = 1
                        p.row({**dict.fromkeys(terms, 1.0), more: -1}, -inf, 1)
            for host, terms in self._copies(shard, host_of).items():
                pairs |= dict.fromkeys(terms, _mark(host, masters[shard.number]))
        count = len(q.nodes)
        order = {name: float(n - count) for n, name in enumerate(q.nodes)}
        first = {v: order[name] for s in there for name, some in s.stay.items() for v in some}
        p.reach((even, count**2), (again[0], count), (again[1], count), (pairs, 65521 * count), (first, count**2))

    def _square(self, shard: _Shard) -> dict[int, float]:
        """The square of a shard's copies, but linear beyond so many more than the program found last."""
        p, terms = self.program, dict.fromkeys(shard.copies, 1.0)
        most = min(len(self.question.nodes), round(sum(p.upper[v] for v in shard.copies)))
        few = p.total(shard.copies) + _MOST_STEPS
        if most <= few:
            return p.squares(terms, most)
        steps = {p.var(integral=False): 2.0 * k + 1 for k in range(few)}
        steps[p.var(most - few, integral=False)] = 2.0 * few + 1
        p.row({**dict.fromkeys(steps, 1.0), **dict.fromkeys(terms, -1.0)}, 0, 0)
        return steps

    # --- From numbers to names ---------------------------------------------------------------------------------------

    def _givers(self) -> dict[str, list[str]]:
        """Per host the nodes that get another part, in order."""
        q, p, found = self.question, self.program, dict[str, list[str]]()
        staying = {name for s in self.shards for name, some in s.stay.items() if p.total(some)}
        for name in q.nodes:
            if name not in staying:
                found.setdefault(q.at[name].host, []).append(name)
        return found

    def _master_names(self) -> dict[int, str]:
        """The master of each shard, by number. Those that come from elsewhere are the first of their host."""
        q, p, names = self.question, self.program, dict[int, str]()
        givers = self._givers()
        for shard in self.shards:
            if p.amount(shard.on):
                own = [name for name, v in shard.lead.items() if p.amount(v)]
                heads = [host for host, v in shard.head.items() if p.amount(v)]
                if own:
                    names[shard.number] = own[0]
                else:
                    names[shard.number] = givers[heads[0]].pop(0) if heads else q.shards[shard.number].name
        return names

    def _answer(self) -> Layout:
        q, p = self.question, self.program
        order = {i.name: n for n, i in enumerate(q.topology.everyone)}
        masters = self._master_names()
        givers = self._givers()
        for number, master in masters.items():
            if any(map(p.amount, self.shards[number].head.values())):
                givers[q.at[master].host].remove(master)
        members: dict[int, list[str]] = {}
        wanted: dict[str, list[int]] = {}
        for number in sorted(masters, key=lambda n: order[masters[n]]):
            shard, master = self.shards[number], masters[number]
            members[number] = [name for name, some in shard.stay.items() if p.total(some) and name != master]
            for (host, _), variable in shard.brought.items():
                wanted.setdefault(host, []).extend([number] * p.amount(variable))
        spares: list[str] = []
        for host, names in givers.items():
            takers = wanted.get(host, [])
            for number, name in zip(takers, names, strict=False):
                members[number].append(name)
            spares += names[len(takers) :]
        parts = [as_it_is(h) for h in q.fixed]
        for number, names in members.items():
            shard = self.shards[number]
            holder = None if shard.new else q.shards[number]
            replicas = tuple(sorted(names, key=order.__getitem__))
            parts.append(Part(holder, masters[number], replicas, shard.current if shard.new else None))
        dissolved = (*q.gone, *(h for s, h in zip(self.live, q.shards, strict=True) if not p.amount(s.on)))
        return Layout(ordered(q.topology, parts), dissolved, tuple(sorted(spares, key=order.__getitem__)))


def small(question: Question) -> bool:
    """Whether all nodes and shards may be looked at at once."""
    return len(question.topology.hosts) * max(1, len(question.shards)) <= _FEW_PAIRS


def _mark(one: str, other: str) -> float:
    """A number that depends on the two names alone: the fixed order among equals."""
    return float(crc32(f"{one}|{other}".encode()) % 65521)
