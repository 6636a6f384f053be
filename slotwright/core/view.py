"""What the nodes said: each node's own view is kept, so that disagreement, open slots, ghosts and clones are data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.errors import Finding

GHOST_FLAGS = frozenset({"handshake", "noaddr"})
FAIL_FLAGS = frozenset({"fail", "fail?"})


@dataclass(frozen=True)
class Peer:
    """One line of CLUSTER NODES: a member as some node sees it. `master` is an id, empty for a master.

    importing and migrating hold (slot, id of the other end); only a node's own line has them.
    """

    id: str
    address: str
    port: int
    flags: frozenset[str]
    master: str
    config_epoch: int
    connected: bool
    slots: Slots
    importing: tuple[tuple[int, str], ...] = ()
    migrating: tuple[tuple[int, str], ...] = ()

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def is_master(self) -> bool:
        return "master" in self.flags

    @property
    def is_ghost(self) -> bool:
        """Not (or no longer) a real member: a handshake under way or a node whose address was lost."""
        return bool(self.flags & GHOST_FLAGS)

    def says_more_than(self, other: Peer) -> bool:
        """Of two lines about one node that is silent, which one to believe."""

        def weight(line: Peer) -> tuple[bool, int, bool, bool]:
            return bool(line.slots), line.config_epoch, bool(line.master), not line.is_ghost

        return weight(self) > weight(other)

    @property
    def failing(self) -> bool:
        return bool(self.flags & FAIL_FLAGS)


@dataclass(frozen=True)
class Replication:
    """What INFO replication says. offset: bytes of the replication stream. received: of a full sync under way."""

    role: str = "master"
    link_up: bool = False
    syncing: bool = False
    offset: int = 0
    online_replicas: int = 0
    received: int = 0


@dataclass(frozen=True)
class NodeView:
    """What one node said of itself (all fields) and of the others (`peers`, itself included).

    functions: names of its function libraries, sorted; None where nobody asked.
    foreign: slots of which this master holds keys, though it does not own them; empty where nobody asked.
    """

    name: str
    endpoint: str
    id: str
    run_id: str
    version: str
    flavor: str
    cluster_enabled: bool
    state: str
    current_epoch: int
    peers: tuple[Peer, ...]
    keys: int
    replication: Replication = Replication()
    loading: bool = False
    persistence_ok: bool = True
    used_memory: int = 0
    maxmemory: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    links_out: frozenset[str] | None = None
    links_in: frozenset[str] | None = None
    functions: tuple[str, ...] | None = None
    foreign: Slots = field(default_factory=Slots)

    @cached_property
    def by_id(self) -> Mapping[str, Peer]:
        return {p.id: p for p in self.peers}

    @property
    def myself(self) -> Peer:
        return self.by_id[self.id]

    @cached_property
    def known_ids(self) -> frozenset[str]:
        """Ids of all members this node knows, itself included; ghosts are not members."""
        return frozenset(p.id for p in self.peers if p.flags.isdisjoint(GHOST_FLAGS))

    @property
    def isolated(self) -> bool:
        """It knows no other node: only then does Redis let a config epoch be set."""
        return len(self.known_ids) <= 1

    def setting(self, directive: str) -> str | None:
        return dict(self.settings).get(directive)


@dataclass(frozen=True)
class Silence:
    """An instance that did not answer, why, and what to do about it.

    kind: refused, timeout, auth, tls, ssh, no-route, protocol, closed, turned-away or loading.
    loaded: bytes, while it is loading.
    """

    instance: str
    endpoint: str
    kind: str
    detail: str
    remedy: str
    loaded: int = 0

    @property
    def finding(self) -> Finding:
        code = {"auth": "wrong-password", "loading": "loading"}.get(self.kind, "not-reachable")
        return Finding(code, f"node {self.instance} ({self.endpoint})", self.detail, self.remedy)


@dataclass(frozen=True)
class Member:
    """A member of the cluster in its own words, or, if it is silent, in those of the nodes that know it.

    name is the instance's name, or "<id>@<address>" for a member that the inventory does not have.
    """

    name: str
    peer: Peer
    node: NodeView | None

    @property
    def id(self) -> str:
        return self.peer.id

    @property
    def alive(self) -> bool:
        return self.node is not None


@dataclass(frozen=True)
class ClusterView:
    """All answers, in the inventory's order, and the instances that were silent.

    forgotten: nodes that answer, but are no part of the cluster any more (see without_forgotten).
    """

    nodes: tuple[NodeView, ...]
    silent: tuple[Silence, ...] = ()
    forgotten: tuple[NodeView, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, NodeView]:
        return {n.name: n for n in self.nodes}

    @cached_property
    def by_id(self) -> Mapping[str, NodeView]:
        return {n.id: n for n in self.nodes}

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """Every id that any node knows or has, to the member it stands for.

        Of a member that does not answer counts the line that says most: gossip tells newcomers neither the slots nor
        the master of a dead node. Ghosts are left out, unless they own slots: those are lost for the moment, not free.
        What a node that answers claims with a newer config epoch is no longer another's (Redis's own rule): who imports
        a slot hears nothing of its owners, and may name one who has long gone.
        """
        found: dict[str, Member] = {n.id: Member(n.name, n.myself, n) for n in self.nodes if n.peers}
        silent = {s.endpoint: s.instance for s in self.silent}
        claims = [member.peer for member in found.values() if member.peer.slots]
        lines: dict[str, Peer] = {}
        for peer in (p for n in self.nodes for p in n.peers if p.id not in found):
            if newer := union(c.slots for c in claims if c.config_epoch > peer.config_epoch) & peer.slots:
                peer = replace(peer, slots=peer.slots - newer)
            if peer.id not in lines or peer.says_more_than(lines[peer.id]):
                lines[peer.id] = peer
        for peer in lines.values():
            if peer.slots or not peer.is_ghost:
                name = silent.get(peer.endpoint, f"{peer.id[:8]}@{peer.endpoint}")
                found[peer.id] = Member(name, peer, None)
        return found

    @cached_property
    def named_members(self) -> Mapping[str, Member]:
        return {m.name: m for m in self.members.values()}

    @cached_property
    def unlisted(self) -> tuple[Member, ...]:
        """Members that the inventory does not name: neither answering nor at a silent instance's address."""
        listed = {n.name for n in self.nodes} | {s.instance for s in self.silent}
        return tuple(m for m in self.members.values() if m.name not in listed and not m.peer.is_ghost)

    @cached_property
    def former(self) -> tuple[Member, ...]:
        """What nodes that answer were before they were reset: known at their address, with another id, without slots.

        A moment later the others have found that out, and know it without an address.
        """
        endpoints = {n.endpoint for n in self.nodes}
        return tuple(m for m in self.unlisted if not m.peer.slots and m.peer.endpoint in endpoints)

    @cached_property
    def lost_owners(self) -> tuple[Member, ...]:
        """Nodes without an address that own slots: they are away, and what they hold may come back with them."""
        return tuple(m for m in self.members.values() if m.peer.is_ghost and m.peer.slots)

    @cached_property
    def components(self) -> tuple[frozenset[str], ...]:
        """Groups of ids that know each other, directly or through others; the one with most slots first.

        A node that knows others who answer but do not know it is not one of theirs: gossip never mends that (it is
        what remains when a node dies while it joins, and of one that was forgotten but not reset).
        """
        left = dict.fromkeys(n.id for n in self.nodes)
        found: list[set[str]] = []
        while left:
            first = next(iter(left))
            del left[first]
            group, reached = {first}, [first]
            while reached:
                node = self.by_id[reached.pop()]
                group |= {known for known in node.known_ids if known not in self.by_id}
                near = [known for known in left.keys() & node.known_ids if node.id in self.by_id[known].known_ids]
                group.update(near)
                reached += near
                for known in near:
                    del left[known]
            joined = [other for other in found if not other.isdisjoint(group)]
            found = [other for other in found if other.isdisjoint(group)] + [group.union(*joined)]
        order = {n.id: i for i, n in enumerate(self.nodes)}

        def rank(ids: frozenset[str]) -> tuple[int, int, int]:
            slots = sum(len(self.members[i].peer.slots) for i in ids if i in self.members)
            return (-slots, -len(ids), min(order.get(i, len(order)) for i in ids))

        return tuple(sorted(map(frozenset, found), key=rank))

    @cached_property
    def linked(self) -> tuple[frozenset[str], ...]:
        """The components of those that answer, parted further: into groups of nodes that can reach each other.

        A node with a new address reaches those whose address is as it was, and they learn its own from it. Two nodes
        that both have a new one have lost each other, though each knows the other's id, unless a third knows both.
        """
        groups = []
        for ids in self.components:
            left = {n.id: n for n in self.nodes if n.id in ids}
            while left:
                reached = [left.pop(next(iter(left)))]
                group = {reached[0].id}
                while reached:
                    node = reached.pop()
                    for known in node.known_ids & left.keys():
                        other = left[known]
                        if node.id in other.known_ids and not (_lost(node, other) and _lost(other, node)):
                            group.add(known)
                            reached.append(left.pop(known))
                groups.append(frozenset(group))
        return tuple(groups)

    def stands_alone(self, node: NodeView) -> bool:
        """No node that answers, nor any other member, is in one group with it."""
        return any(ids == {node.id} for ids in self.components)

    @cached_property
    def owners(self) -> Mapping[str, Slots]:
        """Slots by member id, as each living member claims them for itself (silent ones: as others see them)."""
        return {m.id: m.peer.slots for m in self.members.values() if m.peer.slots}

    @cached_property
    def unowned(self) -> Slots:
        """Slots that no node that answers claims for itself, nor anybody claims for one that does not.

        What a node does not claim it does not serve, and those that believe it does are never told by gossip.
        """
        return ALL_SLOTS - union(self.owners.values())

    @cached_property
    def believed(self) -> Mapping[str, Slots]:
        """Unowned slots that others take for those of a master that answers, by its name."""
        lines = [(p, self.by_id[p.id]) for n in self.nodes for p in n.peers if p.id in self.by_id and p.slots]
        said: dict[str, list[Slots]] = {}
        for peer, node in lines:
            if not peer.slots <= node.myself.slots:
                said.setdefault(node.name, []).append(peer.slots)
        found = {name: union(slots) & self.unowned for name, slots in said.items()}
        return {name: slots for name, slots in found.items() if slots and self.by_name[name].myself.is_master}

    def without_forgotten(self, leaving: Collection[str]) -> ClusterView:
        """The view without those of `leaving` (names) that were forgotten while they were down, and are back.

        Such a one knows the members, none of whom knows it, owns no slots and is no replica of a member; each slot has
        an owner that answers. Its keys and open slots are of the time when it went away: what became of them since is
        known to the others.
        """
        staying = {known for n in self.nodes if n.name not in leaving for known in (n.id, *n.by_id)}
        members = {n.id: n for n in self.nodes if n.id in staying}
        told = {known for n in members.values() for known in n.by_id}
        gone = tuple(
            n
            for n in self.nodes
            if n.peers
            and n.id not in told
            and n.known_ids & members.keys()
            and not n.myself.slots
            and n.myself.master not in members
        )
        if not gone or union(n.myself.slots for n in self.nodes if n.peers and n not in gone) != ALL_SLOTS:
            return self
        return replace(self, nodes=tuple(n for n in self.nodes if n not in gone), forgotten=gone)

    def replicas_of(self, master_id: str) -> tuple[Member, ...]:
        return tuple(m for m in self.members.values() if m.peer.master == master_id)

    def name_of(self, node_id: str) -> str:
        member = self.members.get(node_id)
        return member.name if member else node_id[:8]


def _lost(node: NodeView, other: NodeView) -> bool:
    """Whether the node looks for the other at an address that is no longer its own.

    Redis says "connected" as soon as it tries to, so that this alone proves little. An address that the inventory does
    not have may be what the other announces (behind NAT).
    """
    line = node.by_id[other.id]
    if line.endpoint == other.endpoint:
        return False
    return line.endpoint != other.myself.endpoint or not line.connected or line.failing


def union(many: Iterable[Slots]) -> Slots:
    mask = 0
    for slots in many:
        mask |= slots.mask
        if mask == ALL_SLOTS.mask:
            break
    return Slots(mask)
