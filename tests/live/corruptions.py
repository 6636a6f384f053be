"""Ways in which a live cluster can be broken, by raw commands and edited files; what must be found, what becomes of it.

Each starts from a sound cluster: masters a1, b1, c1 with a third of the slots each, and their replicas c2, a2, b2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tests.live.clusters import Site, site_of
from tests.live.moves import key_of, raw_client
from tests.live.servers import PORT, Server, Servers, Value, binary, make_cluster, wait_until

NODE_TIMEOUT = 3000  # milliseconds
ORDER = ("a1", "b1", "c1", "c2", "a2", "b2")
MASTERS = ("a1", "b1", "c1")
REPLICA = {"a1": "c2", "b1": "a2", "c1": "b2"}
FIRST = {"a1": 0, "b1": 5461, "c1": 10922}
FILLED = 12  # slots of each master that have keys, from its 10th on
OLD = "6.2.14"  # later ones soon see it themselves where a node believes in an owner who claims nothing
NOBODY = "0123456789abcdef0123456789abcdef01234567"
CONFIG: Mapping[str, Value] = {
    "cluster-allow-replica-migration": False,
    "cluster-node-timeout": NODE_TIMEOUT,
    "repl-diskless-sync-delay": 0,
}

Data = dict[bytes, set[str]]


@dataclass
class World:
    """One cluster, and the servers that a corruption starts besides."""

    site: Site
    servers: Servers
    more: list[Server] = field(default_factory=list)

    def __getitem__(self, name: str) -> Server:
        return self.site[f"{name}:{PORT}"]

    def id(self, name: str) -> str:
        return self[name].id()

    @property
    def all(self) -> list[Server]:
        return [node for node in self.site.nodes if node.alive]

    def slot(self, name: str, number: int = 0, *, keys: bool = True) -> int:
        """A slot of a master, with keys or without."""
        return FIRST[name] + (10 if keys else 1000) + number

    def set_slot(self, name: str, slot: int, *words: str) -> None:
        self[name].call("CLUSTER", "SETSLOT", slot, *words)

    def half_moved(self, source: str, target: str, slot: int, keys: int) -> None:
        """A move as a controller leaves it that dies after some keys."""
        self.set_slot(target, slot, "IMPORTING", self.id(source))
        self.set_slot(source, slot, "MIGRATING", self.id(target))
        for key in self[source].call("CLUSTER", "GETKEYSINSLOT", slot, keys) if keys else ():
            self[source].call("MIGRATE", self[target].address, PORT, key, 0, 1000)

    def stray(self, name: str, owner: str, slot: int, *commands: tuple[str | int, ...]) -> None:
        """Keys of a slot that another node owns: written as if it were on its way here, and then it is not."""
        self.set_slot(name, slot, "IMPORTING", self.id(owner))
        pool = self[name].client().connection_pool
        connection = pool.get_connection()
        try:
            for command in commands:
                for words in (("ASKING",), command):
                    connection.send_command(*words)
                    connection.read_response()
        finally:
            pool.release(connection)
        self.set_slot(name, slot, "STABLE")

    def parted(self, names: Iterable[str]) -> None:
        """These nodes and the others know nothing of each other any more: edited files, since FORGET wears off."""
        inside = {name: self.id(name) for name in names}
        outside = {name: self.id(name) for name in ORDER if name not in inside}
        for name in ORDER:
            self[name].call("SAVE")
        for name in ORDER:
            self[name].kill()
        for ours, theirs in ((inside, outside), (outside, inside)):
            for name in ours:
                path = self[name].dir / "nodes.conf"
                lines = path.read_text().splitlines(keepends=True)
                path.write_text("".join(line for line in lines if not line.startswith(tuple(theirs.values()))))
                self[name].start_again()
        for name in ORDER:
            self[name].wait_ready()
        for name, master in REPLICA.items():
            wait_until("it follows", lambda name=name, master=master: self._follows(master))  # type: ignore[misc]

    def _follows(self, replica: str) -> bool:
        return bool(self[replica].client().info("replication").get("master_link_status") == "up")

    def edited(self, name: str, edit: Callable[[str], str]) -> None:
        """Restarted with another nodes.conf, its data kept."""
        node = self[name]
        node.call("SAVE")
        node.kill()
        path = node.dir / "nodes.conf"
        path.write_text(edit(path.read_text()))
        node.start_again()
        node.wait_ready()

    def newcomer(self) -> Server:
        """One more node, which the inventory does not name; all know it."""
        node = self.servers.start(config=CONFIG)
        self.more.append(node)
        self["a1"].call("CLUSTER", "MEET", node.address, PORT)
        ident = node.id()
        for other in (*self.all, node):
            wait_until(
                "all know the newcomer",
                lambda other=other: ident in other.call("CLUSTER", "NODES") and "handshake" not in other.call("CLUSTER", "NODES"),  # type: ignore[misc]  # noqa: E501
            )  # fmt: skip
        return node

    def data(self) -> Data:
        """Every key of every master that answers, with the digests of its copies."""
        found: Data = {}
        for node in [*self.all, *(n for n in self.more if n.alive)]:
            if node.call("ROLE")[0] != "master":
                continue
            with raw_client(node) as raw:
                keys = list(raw.scan_iter(count=1000))
                digests = raw.execute_command("DEBUG", "DIGEST-VALUE", *keys) if keys else []
            for key, digest in zip(keys, digests, strict=True):
                found.setdefault(key, set()).add(digest.decode())
        return found

    def heal(self) -> None:
        """Start whatever was killed."""
        for node in self.site.nodes:
            if not node.alive:
                node.start_again()
                node.wait_ready()


def start_world(servers: Servers, version: str = "") -> World:
    config = {k: v for k, v in CONFIG.items() if not version or k != "cluster-allow-replica-migration"}
    started = servers.start_many(len(ORDER), config=config, binary=binary(version) if version else "redis-server")
    make_cluster(started, len(MASTERS), timeout=60)
    by_name = dict(zip(ORDER, started, strict=True))
    site = site_of({f"{name}:{PORT}": by_name[name] for name in sorted(by_name)}, timeout=20.0)
    site = site.with_settings({"cluster-node-timeout": str(NODE_TIMEOUT), "repl-diskless-sync-delay": "0"})
    world = World(site, servers)
    for name in MASTERS:
        with world[name].client().pipeline(transaction=False) as pipe:
            for number in range(FILLED):
                slot = world.slot(name, number)
                for n in range(3):
                    pipe.set(key_of(slot, n), f"{slot}-{n}")
                pipe.hset(key_of(slot, "h"), mapping={f"f{i}": i for i in range(20)})
                pipe.sadd(key_of(slot, "s"), *(f"m{i}" for i in range(20)))
                pipe.set(key_of(slot, "t"), "for a while", ex=100_000)
            pipe.execute()
    return world


@dataclass(frozen=True)
class Corruption:
    """finds: code and node (or "") of what check must name. refused: the code with which fix refuses; "" it mends.

    allow: words that make it mend then. away: masters whose keys no living master has before, and loses: after it.
    version: of Redis, where it takes another one than the installed. left: findings that stay, because a
    node stays dead. reuse: the cluster serves for the next corruption.
    """

    name: str
    corrupt: Callable[[World], None]
    finds: tuple[tuple[str, str], ...]
    refused: str = ""
    allow: str = ""
    loses: tuple[str, ...] = ()
    reuse: bool = True
    left: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    version: str = ""


# --- Open slots -----------------------------------------------------------------------------------------------------


def migrating_only(w: World) -> None:
    w.set_slot("a1", w.slot("a1"), "MIGRATING", w.id("b1"))


def importing_only(w: World) -> None:
    w.set_slot("b1", w.slot("a1"), "IMPORTING", w.id("a1"))


def both_open(w: World) -> None:
    w.half_moved("a1", "b1", w.slot("a1"), 0)


def half_the_keys(w: World) -> None:
    w.half_moved("a1", "b1", w.slot("a1"), 3)


def all_the_keys(w: World) -> None:
    w.half_moved("c1", "a1", w.slot("c1"), 100)


def keyless_open(w: World) -> None:
    w.half_moved("c1", "a1", w.slot("c1", keys=False), 0)


def many_open(w: World) -> None:
    for number, (source, target) in enumerate([("a1", "b1"), ("b1", "c1"), ("c1", "a1"), ("a1", "c1")]):
        w.half_moved(source, target, w.slot(source, number), 2)
        w.set_slot(source, w.slot(source, 20 + number, keys=False), "MIGRATING", w.id(target))


def third_importer(w: World) -> None:
    w.half_moved("a1", "b1", w.slot("a1"), 2)
    w.set_slot("c1", w.slot("a1"), "IMPORTING", w.id("a1"))


def importing_from_a_stranger(w: World) -> None:
    w.set_slot("b1", w.slot("a1"), "IMPORTING", w.id("c1"))


def migrating_half_keys_importer_forgot(w: World) -> None:
    w.half_moved("a1", "b1", w.slot("a1"), 3)
    w.set_slot("b1", w.slot("a1"), "STABLE")


def importing_half_keys_source_forgot(w: World) -> None:
    w.half_moved("a1", "b1", w.slot("a1"), 3)
    w.set_slot("a1", w.slot("a1"), "STABLE")


def stale_mark(w: World) -> None:
    """The target took the slot; of the source's two marks one stays (Redis 7.0)."""
    slot = w.slot("a1", keys=False)
    w.half_moved("a1", "b1", slot, 0)
    w.set_slot("b1", slot, "NODE", w.id("b1"))


def copies_on_both(w: World) -> None:
    slot = w.slot("a1")
    w.half_moved("a1", "b1", slot, 0)
    for key in w["a1"].call("CLUSTER", "GETKEYSINSLOT", slot, 100):
        w["a1"].call("MIGRATE", w["b1"].address, PORT, key, 0, 1000, "COPY")


def marked_by_file(own: str) -> Callable[[str], str]:
    return lambda text: re.sub(r"(?m)^(.*myself.*)$", rf"\1 {own}", text)


def migrating_to_nobody(w: World) -> None:
    w.edited("a1", marked_by_file(f"[{w.slot('a1')}->-{NOBODY}]"))


def nobody_is_talked_of(w: World) -> None:
    """Who has been away for a node timeout is in the gossip, also without an address, until most agree that it is."""
    nobody = NOBODY[::-1]  # not one that nodes have just been told to forget
    w.edited("a1", marked_by_file(f"[{w.slot('a1')}->-{nobody}]"))
    others = [node for node in w.site.nodes if node is not w["a1"]]
    wait_until("others have heard", lambda: any(nobody in node.call("CLUSTER", "NODES") for node in others))


def importing_from_nobody(w: World) -> None:
    w.edited("b1", marked_by_file(f"[{w.slot('a1')}-<-{NOBODY}]"))


def migrating_to_the_dead(w: World) -> None:
    node = w.newcomer()
    slot = w.slot("a1")
    node.call("CLUSTER", "SETSLOT", slot, "IMPORTING", w.id("a1"))
    w.set_slot("a1", slot, "MIGRATING", node.id())
    node.kill()


# --- Slots without an owner -----------------------------------------------------------------------------------------


def unowned(w: World, slots: Iterable[int]) -> None:
    some = list(slots)
    for node in w.all:
        node.call("CLUSTER", "DELSLOTS", *some)


def unowned_empty(w: World) -> None:
    unowned(w, range(1100, 1110))


def unowned_with_keys(w: World) -> None:
    unowned(w, [w.slot("a1", n) for n in range(4)])


def unowned_of_all(w: World) -> None:
    unowned(w, [w.slot(name, n) for name in MASTERS for n in range(3)])


def a_whole_share_unowned(w: World) -> None:
    unowned(w, range(FIRST["b1"], FIRST["c1"]))


def owner_gave_up(w: World) -> None:
    w["a1"].call("CLUSTER", "DELSLOTS", w.slot("a1"), w.slot("a1", 1))


def owner_gave_up_empty(w: World) -> None:
    w["a1"].call("CLUSTER", "DELSLOTS", w.slot("a1", keys=False))


def owner_points_elsewhere(w: World) -> None:
    w.set_slot("a1", w.slot("a1", keys=False), "NODE", w.id("b1"))


def owner_with_keys_points_elsewhere(w: World) -> None:
    slot = w.slot("a1")
    w["a1"].call("CLUSTER", "DELSLOTS", slot)
    w.set_slot("a1", slot, "NODE", w.id("b1"))


def no_copy_left(w: World) -> None:
    for name in ("c1", "b2"):
        w[name].call("SAVE")
        w[name].kill()
    wait_until("it is failing", lambda: "cluster_state:fail" in w["a1"].call("CLUSTER", "INFO"))


def no_majority(w: World) -> None:
    for name in ("a1", "b1"):
        w[name].call("WAIT", 1, 2000)
        w[name].kill()
    wait_until("it is failing", lambda: "cluster_state:fail" in w["c1"].call("CLUSTER", "INFO"))


# --- Two owners in two views ----------------------------------------------------------------------------------------


def third_sees_another_owner(w: World) -> None:
    newest_epoch(w, "b1")
    w.set_slot("c1", w.slot("a1"), "NODE", w.id("b1"))


def newest_epoch(w: World, name: str) -> None:
    """Else the true owner's epoch would be the newer one, and gossip mend it at once."""
    w[name].call("CLUSTER", "BUMPEPOCH")
    mine = f" {_epoch(w, name)} connected"
    ident = w.id(name)

    def heard(node: Server) -> bool:
        return any(line.startswith(ident) and mine in line for line in node.call("CLUSTER", "NODES").splitlines())

    wait_until("all know the epoch", lambda: all(heard(node) for node in w.all))


def many_see_another_owner(w: World) -> None:
    newest_epoch(w, "b1")
    for n in range(5):
        w.set_slot("c1", w.slot("a1", n), "NODE", w.id("b1"))


def two_owners(w: World) -> None:
    """The parts forget each other, and the larger one gives slots of the other away; nobody writes there."""
    w.parted(["b1", "a2"])
    w["a1"].call("CLUSTER", "ADDSLOTS", *range(FIRST["b1"], FIRST["b1"] + 100))


def split_brain(w: World) -> None:
    """The same, and both have written."""
    w.parted(["b1", "a2"])
    w["a1"].call("CLUSTER", "ADDSLOTS", *range(FIRST["b1"], FIRST["c1"]))
    wait_until("the larger part serves", lambda: "cluster_state:ok" in w["a1"].call("CLUSTER", "INFO"))
    for n in range(6):
        w["a1"].call("SET", key_of(w.slot("b1", n), "written in the other part"), n)


def split_brain_differing(w: World) -> None:
    split_brain(w)
    w["a1"].call("SET", key_of(w.slot("b1"), 0), "of the other part")


# --- Foreign keys ---------------------------------------------------------------------------------------------------


def foreign_new(w: World) -> None:
    slot = w.slot("a1")
    w.stray("b1", "a1", slot, *(("SET", key_of(slot, f"x{n}"), n) for n in range(250)))


def foreign_same(w: World) -> None:
    slot = w.slot("a1")
    hashed = [word for i in reversed(range(20)) for word in (f"f{i}", i)]
    members = [f"m{i}" for i in reversed(range(20))]
    w.stray(
        "b1", "a1", slot,
        ("SET", key_of(slot, 0), f"{slot}-0"),
        ("HSET", key_of(slot, "h"), *hashed), ("SADD", key_of(slot, "s"), *members),
    )  # fmt: skip


def foreign_differing(w: World) -> None:
    slot = w.slot("a1")
    w.stray("b1", "a1", slot, ("SET", key_of(slot, 0), "another"), ("SET", key_of(slot, "x"), 1))


def foreign_on_two(w: World) -> None:
    slot = w.slot("a1")
    for name in ("b1", "c1"):
        w.stray(name, "a1", slot, ("SET", key_of(slot, f"of {name}"), name))


def foreign_of_several(w: World) -> None:
    for number, (name, owner) in enumerate([("a1", "b1"), ("b1", "c1"), ("c1", "a1"), ("a1", "c1")]):
        slot = w.slot(owner, 30 + number, keys=False)
        w.stray(
            name, owner, slot, ("SET", key_of(slot), name), ("SET", key_of(slot, "b"), b"\xff\x00".decode("latin1"))
        )


def foreign_of_the_unowned(w: World) -> None:
    """Of a slot that nobody owns, two have keys."""
    slot = w.slot("a1")
    w.stray("b1", "a1", slot, ("SET", key_of(slot, "x"), 1))
    unowned(w, [slot])


# --- Epochs, ghosts, who knows whom ---------------------------------------------------------------------------------


def same_epoch(w: World) -> None:
    """Two parts that had forgotten each other have each gone on counting."""
    w.parted(["b1", "a2"])
    for _ in range(50):
        one, other = _epoch(w, "b1"), _epoch(w, "c1")
        if one == other:
            return
        # Who has the newest epoch of its part gets no newer one; so two take turns in the larger part.
        if one < other:
            w.edited("b1", lambda text, other=other: _with_epoch(text, other))  # type: ignore[misc]
        else:
            w.edited("c1", lambda text, one=one: _with_epoch(text, one))  # type: ignore[misc]
    raise AssertionError("no common epoch")


def _with_epoch(text: str, epoch: int) -> str:
    text = re.sub(r"(?m)^(\S+ \S+ myself,master - \d+ \d+) \d+", rf"\1 {epoch}", text)
    return re.sub(r"currentEpoch \d+", lambda m: f"currentEpoch {max(epoch, int(m[0].split()[1]))}", text)


def _epoch(w: World, name: str) -> int:
    line = next(line for line in w[name].call("CLUSTER", "NODES").splitlines() if "myself" in line)
    return int(line.split()[6])


def ghost_without_address(w: World) -> None:
    line = f"{NOBODY} :0@0 master,noaddr - 1700000000000 1700000000000 0 disconnected\n"
    w.edited("c1", lambda text: line + text)


def handshake_with_nobody(w: World) -> None:
    address = w.servers.address()
    w["a1"].call("CLUSTER", "MEET", address, PORT)


def unlisted(w: World) -> None:
    w.newcomer()


def unlisted_dead(w: World) -> None:
    w.newcomer().kill()


def forgotten_by_one(w: World) -> None:
    w["c1"].call("CLUSTER", "FORGET", w.id("a1"))


def replica_forgotten_by_one(w: World) -> None:
    w["a1"].call("CLUSTER", "FORGET", w.id("b2"))


def apart(w: World) -> None:
    w.parted(["b1", "a2"])


# --- Replicas -------------------------------------------------------------------------------------------------------


def orphaned(w: World) -> None:
    w["b2"].call("CLUSTER", "REPLICATE", w.id("a1"))
    wait_until("it follows", lambda: w["b2"].client().info("replication")["master_link_status"] == "up")


def replica_of_a_replica(w: World) -> None:
    old, new = w.id("c1"), w.id("c2")
    w.edited("b2", lambda text: re.sub(rf"(?m)^(.*myself,slave) {old}", rf"\1 {new}", text))


def replica_of_the_removed(w: World) -> None:
    node = w.newcomer()
    ident = node.id()
    w["b2"].call("CLUSTER", "REPLICATE", ident)
    node.kill()
    for other in w.all:
        if other is not w["b2"]:
            other.call("CLUSTER", "FORGET", ident)


def replica_made_master(w: World) -> None:
    w["b2"].call("CLUSTER", "RESET", "SOFT")
    w["a1"].call("CLUSTER", "MEET", w["b2"].address, PORT)
    wait_until("it is an empty master", lambda: "cluster_known_nodes:6" in w["b2"].call("CLUSTER", "INFO"))


def wrong_masterauth(w: World) -> None:
    w["b2"].call("CONFIG", "SET", "masterauth", "not the password")
    w["c1"].call("CLIENT", "KILL", "TYPE", "replica")
    wait_until("it is cut off", lambda: w["b2"].client().info("replication")["master_link_status"] == "down")


def mastership_wandered(w: World) -> None:
    """c2 is master of what was a1's, so that zone c has two of three masters."""
    w["c2"].call("CLUSTER", "FAILOVER")
    wait_until("it has taken over", lambda: w["c2"].call("ROLE")[0] == "master")
    wait_until("it follows", lambda: w["a1"].client().info("replication").get("master_link_status") == "up")


# --- Addresses and identity -----------------------------------------------------------------------------------------


def wrong_port(w: World) -> None:
    w["a2"].call("CONFIG", "SET", "cluster-announce-port", 7999)
    wait_until("the others believe it", lambda: f"{w['a2'].address}:7999@" in w["c1"].call("CLUSTER", "NODES"))


def wrong_address(w: World) -> None:
    address = w.servers.address()
    w["a2"].call("CONFIG", "SET", "cluster-announce-ip", address)
    wait_until("the others believe it", lambda: f"{address}:{PORT}@" in w["c1"].call("CLUSTER", "NODES"))


def cloned(w: World) -> None:
    w["b2"].kill()
    (w["b2"].dir / "nodes.conf").write_text((w["a2"].dir / "nodes.conf").read_text())
    w["b2"].start_again()
    w["b2"].wait_ready()


def identity_lost(w: World) -> None:
    w["b2"].kill()
    (w["b2"].dir / "nodes.conf").unlink()
    w["b2"].start_again()
    w["b2"].wait_ready()


def several_at_once(w: World) -> None:
    half_the_keys(w)
    slot = w.slot("b1", 3)
    w.stray("c1", "b1", slot, ("SET", key_of(slot, "x"), 1))
    unowned(w, [w.slot("c1", 5), w.slot("c1", 40, keys=False)])
    w["a1"].call("CLUSTER", "FORGET", w.id("b2"))


CORRUPTIONS = (
    Corruption("migrating only", migrating_only, (("slot-migrating-only", "a1"),)),
    Corruption("importing only", importing_only, (("slot-importing-only", "b1"),)),
    Corruption("open on both", both_open, (("slot-moving", "a1"),)),
    Corruption("half of the keys moved", half_the_keys, (("slot-moving", "a1"),)),
    Corruption("all keys moved, slot not given", all_the_keys, (("slot-moving", "c1"),)),
    Corruption("a slot without keys, open", keyless_open, (("slot-moving", "c1"),)),
    Corruption("open between many", many_open, (("slot-moving", "a1"), ("slot-moving", "b1"),
               ("slot-migrating-only", "c1"))),
    Corruption("a third one imports", third_importer, (("slot-moving", "a1"), ("slot-importing-only", "c1"))),
    Corruption("importing from who is not the owner", importing_from_a_stranger, (("slot-open-elsewhere", "b1"),)),
    Corruption("half moved, and the target has no mark", migrating_half_keys_importer_forgot,
               (("slot-migrating-only", "a1"), ("foreign-keys", "b1"))),
    Corruption("half moved, and the source has no mark", importing_half_keys_source_forgot,
               (("slot-importing-only", "b1"), ("foreign-keys", "b1"))),
    Corruption("an old mark at the former owner", stale_mark, (("slot-migrating-only", "a1"),)),
    Corruption("open, and the same keys on both", copies_on_both, (("slot-moving", "a1"), ("foreign-keys", "b1"))),
    Corruption("migrating to who is no member", migrating_to_nobody, (("slot-open-to-unknown", "a1"),)),
    Corruption("others have heard of who is no member", nobody_is_talked_of, (("slot-open-to-unknown", "a1"),)),
    Corruption("importing from who is no member", importing_from_nobody, (("slot-open-to-unknown", "b1"),)),
    Corruption("migrating to a dead node", migrating_to_the_dead, (("slot-open-to-dead", "a1"),),
               refused="open-to-dead-node", allow="lose-keys-at-dead-targets", reuse=False, left=("unlisted-member",)),
    Corruption("slots of nobody, without keys", unowned_empty, (("slots-uncovered", ""),)),
    Corruption("slots of nobody, with keys", unowned_with_keys, (("slots-unclaimed", ""),)),
    Corruption("slots of nobody, with keys of all", unowned_of_all, (("slots-unclaimed", ""),)),
    Corruption("all slots of a master are nobody's", a_whole_share_unowned, (("slots-unclaimed", ""),)),
    Corruption("an owner gave slots up, with keys", owner_gave_up, (("slots-unclaimed", ""),)),
    Corruption("an owner gave a slot up, without keys", owner_gave_up_empty, (("slots-unclaimed", ""),)),
    Corruption("two nodes point at each other", owner_points_elsewhere, (("slots-unclaimed", ""),)),
    Corruption("two nodes point at each other, with keys", owner_with_keys_points_elsewhere,
               (("slots-unclaimed", ""),)),
    Corruption("a master and its only replica are dead", no_copy_left, (("owner-away", ""),),
               refused="owner-away", allow="lose-keys-of-dead-masters", loses=("c1",), away=("c1",), reuse=False,
               left=("not-reachable", "orphaned-master", "too-few-replicas", "I8")),
    Corruption("no majority of masters", no_majority, (("no-majority", ""), ("owner-away", "")),
               refused="owner-away", allow="lose-unreplicated-writes", away=("a1", "b1"), reuse=False,
               left=("not-reachable", "orphaned-master", "too-few-replicas", "I8")),
    Corruption("one sees another owner", third_sees_another_owner, (("split-view", "c1"),), version=OLD,
               reuse=False),
    Corruption("one sees other owners of many slots", many_see_another_owner, (("split-view", "c1"),), version=OLD,
               reuse=False),
    Corruption("two owners, one without keys", two_owners, (("two-owners", "a1"), ("two-owners", "b1"))),
    Corruption("split brain, both have written", split_brain, (("two-owners", "b1"),)),
    Corruption("split brain, one key with two values", split_brain_differing, (("two-owners", "b1"),),
               refused="foreign-keys-differ", allow="lose-foreign-copies"),
    Corruption("foreign keys", foreign_new, (("foreign-keys", "b1"),)),
    Corruption("foreign keys that the owner has too", foreign_same, (("foreign-keys", "b1"),)),
    Corruption("a foreign key of another value", foreign_differing, (("foreign-keys", "b1"),),
               refused="foreign-keys-differ", allow="lose-foreign-copies"),
    Corruption("foreign keys of a slot on two nodes", foreign_on_two, (("foreign-keys", "b1"), ("foreign-keys", "c1"))),
    Corruption("foreign keys of several", foreign_of_several, (("foreign-keys", "a1"), ("foreign-keys", "b1"))),
    Corruption("keys of nobody's slot on two nodes", foreign_of_the_unowned, (("slots-unclaimed", ""),)),
    Corruption("two masters with one epoch", same_epoch, (("epoch-shared", "b1"),)),
    Corruption("a ghost without address", ghost_without_address, (("ghost-noaddr", "c1"),)),
    Corruption("a handshake with nobody", handshake_with_nobody, (("ghost-handshake", "a1"),)),
    Corruption("a member that the inventory does not name", unlisted, (("unlisted-member", ""),), reuse=False,
               left=("unlisted-member",)),
    Corruption("the same, dead", unlisted_dead, (("unlisted-member", ""),), reuse=False, left=("unlisted-member",)),
    Corruption("one does not know a master", forgotten_by_one, (("not-known", "c1"),)),
    Corruption("one does not know a replica", replica_forgotten_by_one, (("not-known", "a1"),)),
    Corruption("two parts that forgot each other", apart, (("state-not-ok", "a1"),)),
    Corruption("an orphaned master", orphaned, (("orphaned-master", "c1"),)),
    Corruption("a replica of a replica", replica_of_a_replica, (("replica-of-replica", "b2"),)),
    Corruption("a replica of a removed node", replica_of_the_removed, (("replica-of-nobody", "b2"),),
               refused="unlisted-member", reuse=False),
    Corruption("a replica that became an empty master", replica_made_master, (("orphaned-master", "c1"),)),
    Corruption("a replica with a wrong password", wrong_masterauth, (("replica-link-down", "b2"),),
               refused="replica-link-down", reuse=False),
    Corruption("two masters of three in one zone", mastership_wandered, (("I8", "zone c"),)),
    Corruption("a wrong port is announced", wrong_port, (("wrong-address", "a2"),)),
    Corruption("a wrong address is announced", wrong_address, (("wrong-address", "a2"),)),
    Corruption("a cloned node", cloned, (("cloned-node", "a2"), ("cloned-node", "b2")), refused="cloned-node",
               reuse=False),
    Corruption("a node that lost its identity", identity_lost, (("ghost-noaddr", "a1"),)),
    Corruption("several at once", several_at_once, (("slot-moving", "a1"), ("foreign-keys", "c1"), ("not-known", "a1"),
               ("slots-unclaimed", ""), ("slots-uncovered", ""))),
)  # fmt: skip
