"""Random clusters that something has happened to, and random inventories that they are to become."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slotwright.core.placement import place
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.core.steps import Failover, MoveSlots, Remove, Replicate, Step, obstacle
from slotwright.core.topology import Instance, Topology, default_shards
from slotwright.core.view import ClusterView, Peer, Replication, Silence
from slotwright.errors import Refused
from tests.core.build import blank_node, instances


@dataclass
class World:
    """A cluster (view) and what the inventory wants of it now. story: what happened, for a failing test."""

    topology: Topology
    view: ClusterView
    story: list[str] = field(default_factory=list)


def serving(wanted: Topology) -> ClusterView:
    """The cluster as its creation leaves it, with a hundred keys for each slot of every node."""
    blank = ClusterView(tuple(blank_node(i) for i in wanted.instances))
    done = simulate(blank, plan(wanted, blank).steps)
    return with_keys(done)


def with_keys(view: ClusterView) -> ClusterView:
    nodes = []
    for node in view.nodes:
        master = view.by_id.get(node.myself.master, node)
        nodes.append(
            replace(
                node, keys=100 * len(master.myself.slots), used_memory=1_000_000 + 100_000 * len(master.myself.slots)
            )
        )
    return ClusterView(tuple(nodes), view.silent)


def with_blanks(wanted: Topology, view: ClusterView) -> ClusterView:
    """The same view in the order of another inventory, its new instances blank."""
    names = [i.name for i in wanted.everyone]
    silent = {s.instance for s in view.silent}
    new = [i for i in wanted.instances if i.name not in view.by_name and i.name not in silent]
    found = {**view.by_name, **{i.name: blank_node(i) for i in new}}
    return ClusterView(tuple(found[name] for name in names if name in found), view.silent)


def dead(view: ClusterView, *names: str) -> ClusterView:
    """These nodes answer no more, and the others say that they failed."""
    ids = {view.by_name[name].id for name in names}

    def seen(peer: Peer) -> Peer:
        return replace(peer, flags=peer.flags | {"fail"}, connected=False) if peer.id in ids else peer

    nodes = tuple(replace(n, peers=tuple(map(seen, n.peers))) for n in view.nodes if n.id not in ids)
    gone = tuple(Silence(n, view.by_name[n].endpoint, "timeout", "is silent", "look") for n in names)
    return ClusterView(nodes, (*view.silent, *gone))


def own_line(view: ClusterView, name: str, **fields: object) -> ClusterView:
    """Fields of the line that a node has about itself."""
    node = view.by_name[name]
    peers = tuple(replace(p, **fields) if p.id == node.id else p for p in node.peers)  # type: ignore[arg-type]
    return ClusterView(tuple(replace(n, peers=peers) if n is node else n for n in view.nodes), view.silent)


def opened(view: ClusterView, source: str, target: str, *slots: int, both: bool = True) -> ClusterView:
    """A move of these slots was cut off. both: also the source says so."""
    there, here = view.by_name[target], view.by_name[source]
    view = own_line(view, target, importing=tuple((slot, here.id) for slot in slots))
    return own_line(view, source, migrating=tuple((slot, there.id) for slot in slots)) if both else view


def deposed(view: ClusterView, heir: str) -> ClusterView:
    """The heir took over while its master was away, which is back: a master without slots that nobody follows."""
    old = view.by_id[view.by_name[heir].myself.master]
    view = simulate(view, [Failover(heir)])

    def line(peer: Peer) -> Peer:
        return replace(peer, flags=peer.flags - {"slave"} | {"master"}, master="") if peer.id == old.id else peer

    nodes = tuple(replace(n, peers=tuple(map(line, n.peers))) for n in view.nodes)
    nodes = tuple(replace(n, keys=0, replication=Replication("master")) if n.id == old.id else n for n in nodes)
    return ClusterView(nodes, view.silent)


# --- Random ones ----------------------------------------------------------------------------------------------------


def feasible(wanted: Topology) -> bool:
    try:
        place(wanted)
    except Refused:
        return False
    return True


def draw_topology(rng: random.Random) -> Topology:
    while True:
        zones = rng.choice((1, 1, 2, 3, 3, 3, 4, 5))
        most = rng.choice((1, 2, 2, 3))
        hosts = rng.choice((1, 2, 2, 3)) if zones > 1 else rng.choice((2, 3, 4, 6))
        sizes = {chr(97 + z): [rng.randint(1, most) for _ in range(rng.randint(1, hosts))] for z in range(zones)}
        count = sum(map(sum, sizes.values()))
        replicas = rng.choice((0, 1, 1, 1, 2))
        shards = default_shards(count, replicas)
        if shards > 3 and rng.random() < 0.5:
            shards = rng.randint(3, shards)
        wanted = Topology("test", instances(sizes), replicas, shards, settings=())
        if count <= 20 and feasible(wanted):
            return wanted


def draw_next(rng: random.Random, old: Topology) -> Topology:
    """Another inventory that is possible: hosts or zones more or fewer, other shards, other replicas."""
    while True:
        stay = list(old.instances)
        if rng.random() < 0.4:
            part: Callable[[Instance], str] = rng.choice((lambda i: i.zone, lambda i: i.host, lambda i: i.name))
            gone = rng.choice(sorted({part(i) for i in stay}))
            stay = [i for i in stay if part(i) != gone]
        added = []
        if rng.random() < 0.6:
            for n in range(rng.randint(1, 4)):
                zone = rng.choice([*old.zones, "x"])
                host = rng.choice([f"{zone}n{n}", f"{zone}n0", *(i.host for i in old.instances if i.zone == zone)])
                number = 31 + ord(zone[0]) - 97
                name = f"{host}:{9000 + n}"
                added.append(Instance(name, host, zone, f"127.{number}.{100 + n}.{len(host)}", 9000 + n))
        replicas = max(0, old.replicas + rng.choice((0, 0, 0, -1, 1)))
        count = len(stay) + len(added)
        shards = rng.choice((old.shards, old.shards, default_shards(count, replicas), old.shards + rng.choice((-1, 1))))
        names = {i.name for i in stay}
        wanted = replace(
            old,
            instances=(*stay, *added),
            replicas=replicas,
            shards=shards,
            leaving=tuple(i for i in old.instances if i.name not in names),
        )
        if feasible(wanted):
            return wanted


KINDS = ("failover", "failover", "move", "rehome", "reset", "open", "death", "deposed", "astray")


def happen(rng: random.Random, world: World, *, deaths: bool, kinds: tuple[str, ...] = KINDS) -> None:
    """One thing that happens to a cluster."""
    view = world.view
    masters = [n.name for n in view.nodes if n.myself.slots]
    replicas = [n.name for n in view.nodes if n.myself.master in view.by_id]
    step: Step | None = None
    kind = rng.choice(kinds)
    if kind == "failover" and replicas:
        step = Failover(rng.choice(replicas))
    elif kind == "move":
        source, target = rng.choice(masters), rng.choice(masters)
        slots = list(view.by_name[source].myself.slots)
        part = slots[: rng.choice((1, 7, 300, len(slots) // 2))]
        if source != target and len(part) < len(slots):
            step = MoveSlots(source, target, Slots.of(part))
    elif kind == "rehome" and replicas:
        step = Replicate(rng.choice(replicas), rng.choice(masters))
    elif kind == "reset" and replicas:
        name = rng.choice(replicas)
        node = view.by_name[name]
        world.view = simulate(view, [Remove(name, node.id)])
        world.view = with_blanks(world.topology, world.view)
        world.story.append(f"reset {name}")
    elif kind == "open":
        source, target = rng.choice(masters), rng.choice(masters)
        slots = list(view.by_name[source].myself.slots)
        if source != target:
            some = rng.sample(slots, min(len(slots), rng.randint(1, 3)))
            world.view = opened(view, source, target, *sorted(some), both=rng.random() < 0.7)
            world.story.append(f"open {some} {source} -> {target}")
    elif kind == "deposed" and replicas:
        heir, target = rng.choice(replicas), rng.choice(masters)
        old = view.name_of(view.by_name[heir].myself.master)
        if obstacle(Failover(heir), view) is None:
            world.view = deposed(view, heir)
            if target != old:  # a move had begun
                slots = rng.sample(list(view.by_name[old].myself.slots), 1)
                both = rng.random() < 0.5
                world.view = (
                    opened(world.view, old, target, *slots)
                    if both
                    else own_line(world.view, old, migrating=((slots[0], view.by_name[target].id),))
                )
            world.story.append(f"{heir} for {old}, which is back")
    elif kind == "astray":
        holder, *_ = rng.sample(masters, 1)
        slots = rng.sample(range(SLOT_COUNT), 2)
        some = Slots.of(slots) - view.by_name[holder].myself.slots
        nodes = (replace(n, foreign=n.foreign | some) if n.name == holder else n for n in view.nodes)
        world.view = ClusterView(tuple(nodes), view.silent)
        world.story.append(f"{holder} has keys of {some}")
    elif kind == "death" and deaths and replicas:
        name = rng.choice(replicas)
        if rng.random() < 0.5:
            master = view.name_of(view.by_name[name].myself.master)
            if obstacle(Failover(name), view) is None:
                view = simulate(view, [Failover(name)])
                name = master
        world.view = dead(view, name)
        world.story.append(f"death {name}")
    if step and obstacle(step, view) is None:
        world.view = simulate(view, [step])
        world.story.append(step.describe()[:90])


def draw(rng: random.Random, *, deaths: bool = True) -> World:
    """A cluster of up to 20 nodes after up to five events, and an inventory that often is another one."""
    old = draw_topology(rng)
    world = World(old, serving(old))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        happen(rng, world, deaths=deaths)
    if rng.random() < 0.75:
        world.topology = draw_next(rng, old)
    world.view = with_blanks(world.topology, world.view)
    return world


def draw_tiny(rng: random.Random) -> World:
    """A cluster of six or seven nodes in three shards after up to three events; its inventory is the same."""
    while True:
        zones = rng.randint(1, 4)
        sizes: dict[str, list[int]] = {chr(97 + z): [] for z in range(zones)}
        left = rng.randint(6, 7)
        while left:
            size = min(left, rng.randint(1, 2))
            rng.choice(list(sizes.values())).append(size)
            left -= size
        wanted = Topology("test", instances({z: s for z, s in sizes.items() if s}), rng.choice((0, 1, 1)), 3)
        if feasible(wanted):
            break
    world = World(wanted, serving(wanted))
    for _ in range(rng.choice((1, 2, 3))):
        happen(rng, world, deaths=False, kinds=("failover", "rehome", "move"))
    return world
