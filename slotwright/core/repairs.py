"""What playbooks/fix.yml does before the ordinary plan: repairs of what that plan does not see, or refuses.

Safest first. A repair loses nothing, unless it needs words that the operator types (ALLOW), which say what it may lose.
All repairs come from one look at the nodes: who owns a slot follows from who holds its keys, then from epochs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from slotwright.core.ownership import Held, Ownership
from slotwright.core.simulate import simulate
from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView, Member, NodeView, Peer, union
from slotwright.errors import Finding

ALLOW = {
    "lose-keys-of-dead-masters": "slots whose master is away with no replica go to others: what it holds is lost, also "
    "when it comes back",
    "lose-unreplicated-writes": "a replica takes over without a vote: writes that its master had not sent it are lost",
    "lose-keys-at-dead-targets": "slots that were moving to a node which is away are closed: what had moved is lost",
    "lose-foreign-copies": "where a key has two values, that of the slot's owner stays, and the other is deleted",
}


@dataclass(frozen=True)
class Repair:
    """Something done to one node (its instance name)."""

    node: str

    def describe(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Announce(Repair):
    """CONFIG SET of the address that the node tells others, live: the roles see to its redis.conf."""

    address: str
    port: int

    def describe(self) -> str:
        return f"{self.node}: announce {self.address}:{self.port}"


@dataclass(frozen=True)
class Acquaint(Repair):
    """CLUSTER MEET of members that know the node, but that it does not know (any more)."""

    peers: tuple[str, ...]

    def describe(self) -> str:
        return f"{self.node}: meet {', '.join(self.peers)} again"


@dataclass(frozen=True)
class Close(Repair):
    """CLUSTER SETSLOT STABLE, where a mark belongs to no move that could be ended. why: whose mark it is."""

    slots: Slots
    why: str

    def describe(self) -> str:
        return f"{self.node}: close the slots {self.slots} ({self.why})"


@dataclass(frozen=True)
class Reopen(Repair):
    """CLUSTER SETSLOT IMPORTING, where the owner sends clients on, and keys are there: so they are served again."""

    owner: str
    slots: Slots

    def describe(self) -> str:
        return f"{self.node}: import the slots {self.slots} from {self.owner} again"


@dataclass(frozen=True)
class Forget(Repair):
    """CLUSTER FORGET of an id that has no address, on every node: who sees it fail tells others. Its marks go with it.

    node: one of those that know it.
    """

    id: str

    def describe(self) -> str:
        return f"forget {self.id}, which has no address"


@dataclass(frozen=True)
class Takeover(Repair):
    """CLUSTER FAILOVER TAKEOVER: a replica takes its dead master's slots without a vote."""

    master: str

    def describe(self) -> str:
        return f"{self.node}: take over from {self.master}, which does not answer, without a vote"


@dataclass(frozen=True)
class Adopt(Repair):
    """The node takes slots that nobody claims, by a new config epoch."""

    slots: Slots

    def describe(self) -> str:
        return f"{self.node}: take the slots {self.slots} ({len(self.slots)}), which nobody claims"


@dataclass(frozen=True)
class Seize(Repair):
    """The node takes slots of a dead master, by a new config epoch, and every node is told."""

    slots: Slots
    owner: str

    def describe(self) -> str:
        return f"{self.node}: take the slots {self.slots} ({len(self.slots)}) of {self.owner}, which does not answer"


@dataclass(frozen=True)
class BringKeys(Repair):
    """Keys of the owner's slots go to it, compared with what it has. overrule: its copies win where they differ."""

    owner: str
    slots: Slots
    overrule: bool = False

    def describe(self) -> str:
        more = ", of two values keep that of the owner" if self.overrule else ""
        return f"{self.node}: bring the keys of slots {self.slots} to their owner {self.owner}{more}"


@dataclass(frozen=True)
class Disclaim(Repair):
    """CLUSTER DELSLOTS of slots that are another node's, once their keys have gone there."""

    owner: str
    slots: Slots

    def describe(self) -> str:
        return f"{self.node}: give up the claim to slots {self.slots} ({len(self.slots)}), which are {self.owner}'s"


@dataclass(frozen=True)
class Bump(Repair):
    """CLUSTER BUMPEPOCH: the node gets a config epoch of its own, newer than all, and so all believe what it says."""

    reason: str

    def describe(self) -> str:
        return f"{self.node}: take a new config epoch ({self.reason})"


@dataclass(frozen=True)
class Look:
    """What one look finds: the nodes' views, and keys where they are in doubt."""

    view: ClusterView
    held: Held


@dataclass(frozen=True)
class Repairs:
    """Repairs in order, and what is not repaired: each refusal says why, and what would allow it."""

    steps: tuple[Repair, ...]
    refusals: tuple[Finding, ...]

    def describe(self) -> tuple[str, ...]:
        return tuple(step.describe() for step in self.steps)


def repairs(topology: Topology, look: Look, allow: Collection[str] = ()) -> Repairs:
    """Pure, deterministic, total. allow: words of ALLOW."""
    of = Ownership(look.view, look.held)
    dead = list(_dead_owners(of, allow))
    foreign = list(_foreign(of, allow))
    served = not any(isinstance(entry, Finding) for entry in dead)
    every = [
        *_addresses(topology, look.view),
        *_strangers(look.view),
        *_phantoms(look.view),
        *_misleading(of),
        *_dead_targets(look.view, allow),
        *_cut_off(look.view),
        *dead,
        *(Adopt(name, slots) for name, slots in _adopters(of, bool(foreign)).items()),
        *(step if served else _unserved(step) for step in foreign),
        *(_claims(of) if served else ()),
        *_epochs(of),
    ]
    return Repairs(
        tuple(entry for entry in every if isinstance(entry, Repair)),
        tuple(entry for entry in every if isinstance(entry, Finding)),
    )


def mended(look: Look, steps: Collection[Repair]) -> ClusterView:
    """The view once the repairs are done and the gossip has settled: what the ordinary plan then starts from."""
    nodes = {n.name: n for n in look.view.nodes}
    highest = max((p.config_epoch for n in look.view.nodes for p in n.peers), default=0)
    newest = max((n.current_epoch for n in look.view.nodes), default=highest)

    def bumped(line: Peer) -> int:
        """Who has the highest config epoch already, gets no other."""
        nonlocal highest, newest
        if line.config_epoch != highest or not highest:
            highest = newest = max(highest, newest) + 1
        return highest

    def change(name: str, **fields: object) -> None:
        node = nodes[name]
        line = replace(node.myself, **fields)  # type: ignore[arg-type]
        nodes[name] = replace(node, peers=tuple(line if p.id == node.id else p for p in node.peers))

    for step in steps:
        me = nodes[step.node].myself
        match step:
            case Announce(address=address, port=port):
                change(step.node, address=address, port=port)
            case Close(slots=slots):
                left = {
                    "migrating": tuple(m for m in me.migrating if m[0] not in slots),
                    "importing": tuple(m for m in me.importing if m[0] not in slots),
                }
                change(step.node, **left)
            case Reopen(owner=owner, slots=slots):
                change(step.node, importing=(*me.importing, *((slot, nodes[owner].id) for slot in slots)))
            case Forget(id=node_id):
                for name, node in list(nodes.items()):
                    nodes[name] = replace(node, peers=tuple(p for p in node.peers if p.id != node_id))
                    left = {
                        "migrating": tuple(m for m in node.myself.migrating if m[1] != node_id),
                        "importing": tuple(m for m in node.myself.importing if m[1] != node_id),
                    }
                    change(name, **left)
            case Adopt(slots=slots) | Seize(slots=slots):
                change(step.node, slots=me.slots | slots, config_epoch=bumped(me))
                if isinstance(step, Seize):
                    _take_away(nodes, step.owner, slots, look.view)
            case Takeover(master=master):
                old = look.view.named_members[master]
                flags = me.flags - {"slave"} | {"master"}
                change(step.node, flags=flags, master="", slots=old.peer.slots, config_epoch=bumped(me))
                _take_away(nodes, master, old.peer.slots, look.view)
            case Disclaim(slots=slots):
                change(step.node, slots=me.slots - slots)
            case Bump():
                change(step.node, config_epoch=bumped(me))
            case BringKeys(owner=owner, slots=slots):
                count = sum(look.held.get(step.node, {}).get(slot, 0) for slot in slots)
                was = nodes[step.node]
                nodes[step.node] = replace(was, keys=was.keys - count, foreign=was.foreign - slots)
                nodes[owner] = replace(nodes[owner], keys=nodes[owner].keys + count)
    return simulate(replace(look.view, nodes=tuple(nodes.values())), ())


def _take_away(nodes: dict[str, NodeView], owner: str, slots: Slots, view: ClusterView) -> None:
    """A dead member's slots are another's now, in every node's eyes."""
    dead = view.named_members[owner].id

    def less(peer: Peer) -> Peer:
        return replace(peer, slots=peer.slots - slots) if peer.id == dead else peer

    for name, node in nodes.items():
        nodes[name] = replace(node, peers=tuple(map(less, node.peers)))


def _addresses(topology: Topology, view: ClusterView) -> Iterator[Repair]:
    for node in view.nodes:
        if node.peers and node.name in topology and misaddressed(topology, node):
            yield Announce(node.name, topology[node.name].address, topology[node.name].port)


def misaddressed(topology: Topology, node: NodeView) -> bool:
    """Whether a node tells others another address than the inventory's. One that stands alone knows none."""
    wanted = topology[node.name]
    return node.myself.address not in ("", wanted.address) or node.myself.port != wanted.port


def strangers(view: ClusterView) -> Iterator[tuple[NodeView, NodeView]]:
    """Pairs of one cluster of which the second knows the first, but is not known to it."""
    for ids in view.components:
        inside = [n for n in view.nodes if n.id in ids]
        for node in inside:
            for other in inside:
                if other.id not in node.by_id and node.id in other.known_ids:
                    yield node, other


def _strangers(view: ClusterView) -> Iterator[Repair]:
    unknown: dict[str, list[str]] = {}
    for node, other in strangers(view):
        unknown.setdefault(node.name, []).append(other.name)
    yield from (Acquaint(name, tuple(peers)) for name, peers in unknown.items())


def _phantoms(view: ClusterView) -> Iterator[Repair]:
    """Ids that never had an address, nor own a slot: a mark named them. (One with an address once is a ghost.)"""
    known = {
        peer.id: node.name
        for node in reversed(view.nodes)
        for peer in node.peers
        if not peer.port and not peer.is_ghost
    }
    owners = {peer.id for node in view.nodes for peer in node.peers if peer.slots}
    yield from (Forget(name, node_id) for node_id, name in sorted(known.items()) if node_id not in owners)


def _misleading(of: Ownership) -> Iterator[Repair]:
    """Importing marks that name another than the owner, or while the owner sends its clients elsewhere.

    And migrating marks whose target does not import, though it has keys: there it is to import again.
    """
    view = of.view
    sent = {slot: (node, other) for node in of.masters for slot, other in node.myself.migrating}
    for node in of.masters:
        wrong: list[int] = []
        for slot, source in node.myself.importing:
            owner = of.owner_of(slot)
            elsewhere = slot in sent and sent[slot][0].name == owner and sent[slot][1] != node.id
            if owner and owner != node.name and (view.by_name[owner].id != source or elsewhere):
                wrong.append(slot)
        if wrong:
            yield Close(node.name, Slots.of(wrong), "their owner does not send them here")
    reopened: dict[tuple[str, str], list[int]] = {}
    for slot, (node, other) in sorted(sent.items()):
        target = view.by_id.get(other)
        if target is None or slot not in node.myself.slots or slot in target.myself.slots:
            continue
        if of.held.get(target.name, {}).get(slot) and not any(s == slot for s, _ in target.myself.importing):
            reopened.setdefault((target.name, node.name), []).append(slot)
    yield from (Reopen(target, owner, Slots.of(slots)) for (target, owner), slots in reopened.items())


def _cut_off(view: ClusterView) -> Iterator[Finding]:
    for node in view.nodes:
        master = view.by_id.get(node.myself.master) if node.peers else None
        if master and master.myself.is_master and not node.replication.link_up and not node.replication.syncing:
            yield Finding(
                "replica-link-down", f"node {node.name} ({node.endpoint})",
                f"has no replication link to its master {master.name}, though both answer",
                "see its log: a wrong masterauth or masteruser, or a closed port; run playbooks/configure.yml",
            )  # fmt: skip


def dead_targets(view: ClusterView) -> Iterator[tuple[NodeView, Member, Slots]]:
    """Owners, members that do not answer, and the slots that are on their way from the one to the other."""
    for node in view.nodes:
        by_target: dict[str, list[int]] = {}
        for slot, other in node.myself.migrating if node.peers else ():
            if other in view.members and not view.members[other].alive and view.members[other].peer.port:
                by_target.setdefault(other, []).append(slot)
        yield from ((node, view.members[i], Slots.of(slots)) for i, slots in by_target.items())


def _dead_targets(view: ClusterView, allow: Collection[str]) -> Iterator[Repair | Finding]:
    for node, target, slots in dead_targets(view):
        if "lose-keys-at-dead-targets" in allow:
            yield Close(node.name, slots, f"{target.name} does not answer")
        else:
            yield _refusal(
                "open-to-dead-node", f"node {node.name} ({node.endpoint})",
                f"was moving the slots {slots} to {target.name}, which does not answer and may hold keys of them",
                f"start {target.name}", "lose-keys-at-dead-targets",
            )  # fmt: skip


def _dead_owners(of: Ownership, allow: Collection[str]) -> Iterator[Repair | Finding]:
    masters = [n for n in of.masters if n.myself.slots]
    for node_id, slots in of.away.items():
        owner, heirs = of.view.members[node_id], of.heirs(node_id)
        if heirs and "lose-unreplicated-writes" in allow:
            yield Takeover(heirs[0].name, owner.name)
        elif heirs:
            yield _refusal(
                "owner-away", f"slots {slots}",
                f"belong to {owner.name}, which does not answer; {heirs[0].name} has a copy, and got no votes",
                f"start {owner.name}, or as many masters as make a majority", "lose-unreplicated-writes",
            )  # fmt: skip
        elif masters and "lose-keys-of-dead-masters" in allow:
            parts = _dealt(slots, len(masters))
            fewest = sorted(masters, key=lambda n: (len(n.myself.slots), n.name))
            yield from (Seize(n.name, part, owner.name) for n, part in zip(fewest, parts, strict=True) if part)
        else:
            yield _refusal(
                "owner-away", f"slots {slots}",
                f"belong to {owner.name}, which does not answer and has no replica that does",
                f"start {owner.name}", "lose-keys-of-dead-masters",
            )  # fmt: skip


def _dealt(slots: Slots, parts: int) -> list[Slots]:
    every, found = list(slots), []
    for left in range(parts, 0, -1):
        size = -(-len(every) // left)
        found.append(Slots.of(every[:size]))
        del every[:size]
    return found


def _adopters(of: Ownership, foreign: bool) -> dict[str, Slots]:
    """Slots that nobody names, and of which nobody has keys, are the ordinary plan's to give.

    But keys can be brought only while all slots are served: then each goes to the owner of the one before it.
    """
    found = dict(of.adopters())
    if not foreign:
        return found
    free = of.unclaimed - union(found.values())
    for first, last in free.ranges():
        before = (of.owner_of(slot) for slot in (*range(first - 1, -1, -1), *range(last + 1, SLOT_COUNT)))
        if name := next((name for name in before if name), None):
            found[name] = found.get(name, Slots()) | Slots.span(first, last)
    return found


def _unserved(step: BringKeys) -> Finding:
    return Finding(
        "foreign-keys", f"node {step.node}",
        f"holds keys of slots {step.slots}, which are {step.owner}'s",
        "first see to the slots that nobody serves: keys move only while all slots are served",
    )  # fmt: skip


def _foreign(of: Ownership, allow: Collection[str]) -> Iterator[BringKeys]:
    """Where holder and owner know each other, or both claim the slots; open slots are the ordinary plan's."""
    adopted = dict(of.adopters())
    for name, owner, slots in _strays(of, adopted):
        node, other = of.view.by_name[name], of.view.by_name[owner]
        slots -= Slots.of(slot for slot, source in node.myself.importing if _fits(node, other, slot, source))
        slots -= Slots.of(slot for slot, target in other.myself.migrating if target == node.id)
        if slots and (other.id in node.known_ids or slots <= node.myself.slots) and node.myself.is_master:
            yield BringKeys(name, owner, slots, "lose-foreign-copies" in allow)


def _fits(node: NodeView, owner: NodeView, slot: int, source: str) -> bool:
    """Whether the ordinary plan brings back what an importing node has of the slot."""
    targets = {target for s, target in owner.myself.migrating if s == slot}
    return source == owner.id and targets <= {node.id}


def _strays(of: Ownership, adopted: dict[str, Slots]) -> Iterator[tuple[str, str, Slots]]:
    yield from of.strays()
    for owner, slots in adopted.items():
        for name, held in of.held.items():
            mine = Slots.of(slot for slot, count in held.items() if count and slot in slots)
            if mine and name != owner:
                yield name, owner, mine


def _claims(of: Ownership) -> Iterator[Repair]:
    yield from (Disclaim(c.other, c.owner, c.slots) for c in of.contests)


def _epochs(of: Ownership) -> Iterator[Repair]:
    """New epochs, for owners whose slots others see elsewhere, and of several with one epoch for all but the last."""
    doubted = {owner.name for _, owner, _ in of.astray()} | {c.owner for c in of.contests}
    shared: dict[int, list[str]] = {}
    for node in (n for n in of.masters if n.myself.slots):
        shared.setdefault(node.myself.config_epoch, []).append(node.name)
    newest = {n.id: max(p.config_epoch for p in n.peers) for n in of.masters}
    # Of those that share the newest one Redis itself gives one a newer, and BUMPEPOCH gives none.
    equal = {
        name
        for epoch, names in shared.items()
        for name in sorted(names)[:-1]
        if epoch < newest[of.view.by_name[name].id]
    }
    adopters = of.adopters()
    for node in of.masters:
        if node.name in doubted and node.name not in adopters:
            yield Bump(node.name, "others see its slots elsewhere")
        elif node.name in equal:
            yield Bump(node.name, f"it shares {node.myself.config_epoch} with another master")


def _refusal(code: str, where: str, what: str, remedy: str, word: str) -> Finding:
    line = f"""ansible-playbook playbooks/fix.yml -e '{{"redis_fix_allow": ["{word}"]}}'"""
    return Finding(code, where, what, f"{remedy}; or, knowing that {ALLOW[word]}: {line}")
