"""What a slot move promises: nothing lost, no client disturbed, and it says what it cannot do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.errors import Refused, SlotwrightError
from slotwright.link.access import Access, Tls
from slotwright.link.migrate import FailedOver, Limits, Paused, Progress
from slotwright.link.migrate.board import RAMP
from slotwright.link.migrate.engine import _Move
from slotwright.link.migrate.pair import Pair
from tests.live.moves import Cluster, key_of, raw_client, start_cluster, tag
from tests.live.servers import Monitor, Server, Servers, binary, wait_until
from tests.live.test_connect import Certificates
from tests.live.workload import Workload

LOOPBACK = "127.41"


# --- What clients see -----------------------------------------------------------------------------------------------


def test_under_load_nothing_is_lost_and_no_client_sees_an_error(servers: Servers, tried: Callable[[str], None]) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(0, 16384, 3), keys=2)
    before = cluster.data()
    with Workload(cluster.nodes[0], writers=2, readers=2) as load:
        time.sleep(0.3)
        cluster.move(cluster.share())
        time.sleep(0.3)
    tried(load.describe())
    load.assert_kept()
    assert load.errors == []
    assert {k: v for k, v in cluster.data().items() if not k.startswith(b"ledger")} == before
    assert [len(cluster.slots(name)) for name in ("a1", "b1", "c1", "d1")] == [4096, 4096, 4097, 4095]
    cluster.assert_whole()


def test_a_client_that_knows_nothing_of_a_new_master_meets_it_by_moved(
    servers: Servers, tried: Callable[[str], None]
) -> None:
    """redis-py 8.1 fails when ASK names a master that it has not heard of. Here they are older than it.

    Chance decides whether one of them does. That few slots are open at a time, so that it is seldom, is certain.
    """
    cluster = start_cluster(servers, empty="")
    cluster.fill(range(0, 16384, 2), keys=3)
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def watch(node: Server) -> None:
        while not over.is_set():
            words = next(line for line in node.call("CLUSTER", "NODES").splitlines() if "myself" in line).split()[8:]
            marks = [word for word in words if word.startswith("[")]
            seen.append((len(Slots.parse(" ".join(word for word in words if word not in marks))), len(marks)))

    with Workload(cluster.nodes[0], keys=2000, writers=2, readers=2) as load:
        time.sleep(0.5)
        cluster = cluster.with_master("d1", servers)
        watcher = threading.Thread(target=watch, args=(cluster["d1"],))
        watcher.start()
        cluster.move(cluster.share())
        over.set()
        watcher.join()
        time.sleep(0.3)
    beginning = [(owned, marks) for owned, marks in seen if owned < 16 * RAMP]
    tried(f"{load.describe()}; {len(beginning)} looks while it owned less than {16 * RAMP} slots")
    load.assert_kept()
    assert load.errors == []
    assert any(marks for _, marks in beginning)
    assert [each for each in beginning if each[1] > 3 * max(1, each[0] // RAMP)] == []  # three nodes send to it


# --- What arrives ---------------------------------------------------------------------------------------------------


def test_keys_of_every_kind_arrive_as_they_were(servers: Servers) -> None:
    cluster = start_cluster(servers)
    slot = 5
    t = tag(slot)
    node = cluster["a1"].client()
    node.set(f"{t}string", "x")
    node.setbit(f"{t}bits", 1000, 1)
    node.pfadd(f"{t}hll", *range(500))
    node.rpush(f"{t}list", *range(2000))
    node.sadd(f"{t}set", *range(2000))
    node.sadd(f"{t}names", *(f"member-{n}" for n in range(2000)))
    node.zadd(f"{t}zset", {f"m{n}": n for n in range(2000)})
    node.hset(f"{t}hash", mapping={f"f{n}": n for n in range(2000)})
    node.geoadd(f"{t}geo", [13.36, 38.11, "Palermo"])
    for number in range(200):
        node.xadd(f"{t}stream", {"n": number})
    node.xgroup_create(f"{t}stream", "group", id="0")
    node.xreadgroup("group", "reader", {f"{t}stream": ">"}, count=50)
    raw = raw_client(cluster["a1"])
    for key in (
        b"",
        b"\r\n",
        b"$5\r\nhello\r\n",
        bytes(range(256)),
        b"\xff\xfe",
        b" blank ",
        "schlüssel".encode(),
        b"k" * 5000,
    ):
        raw.set(t.encode() + key, key)
    node.set(f"{t}soon", "x", px=3_600_000)
    before, ttl = cluster.data(), node.pttl(f"{t}soon")
    cluster.move([cluster.step("a1", "d1", [slot])])
    assert cluster.data() == before
    assert len(before) == 19
    assert cluster["d1"].call("DBSIZE") == 19
    assert 0 <= ttl - cluster["d1"].client().pttl(f"{t}soon") < 60_000
    assert cluster["d1"].client().xpending(f"{t}stream", "group")["pending"] == 50
    cluster.assert_whole()


def test_keys_that_have_expired_hold_nothing_up(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster["a1"].call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    for number in range(500):
        cluster["a1"].call("SET", key_of(7, number), "x", "PX", "1")
    cluster["a1"].call("SET", key_of(7, "kept"), "x")
    wait_until("they have expired", lambda: cluster["a1"].call("PTTL", key_of(7, 499)) == -2)
    cluster.move([cluster.step("a1", "d1", [7])])
    assert list(cluster.data()) == [key_of(7, "kept").encode()]
    cluster.assert_whole()


def test_slots_with_many_keys_and_none_arrive_and_progress_is_told(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill([0], keys=20_000)
    cluster.fill(range(1, 200, 2), keys=20)
    before = cluster.data()
    told: list[Progress] = []
    cluster.move([cluster.step("a1", "d1", range(200))], show=told.append)
    assert cluster.data() == before
    assert (told[-1].slots, told[-1].slots_total) == (200, 200)
    assert (told[-1].keys, told[-1].keys_total) == (22_000, 22_000)
    assert told[-1].bytes > 22_000 * 20
    assert told[-1].eta == 0
    cluster.assert_whole()


def test_a_second_run_of_the_same_move_changes_nothing(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(10))
    steps = [cluster.step("a1", "d1", range(10))]
    cluster.move(steps)
    before = cluster.data()
    with Monitor(cluster.nodes) as monitor:
        cluster.move(steps)
    assert monitor.mutating == []
    assert cluster.data() == before
    cluster.assert_whole()


def test_many_pairs_at_a_time_take_config_epochs_of_their_own(servers: Servers) -> None:
    cluster = start_cluster(servers, empty="def")
    cluster.fill(range(0, 16384, 8))
    before = cluster.data()
    cluster.move(cluster.share(["d1", "e1", "f1"]))
    assert cluster.data() == before
    assert {len(cluster.slots(name)) for name in ("d1", "e1", "f1")} == {2730}
    cluster.assert_whole()


def test_a_master_is_drained_of_all_its_slots(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(0, 16384, 5))
    before = cluster.data()
    slots = list(cluster.slots("c1"))
    half = len(slots) // 2
    cluster.move([cluster.step("c1", "a1", slots[:half]), cluster.step("c1", "b1", slots[half:])])
    assert cluster.data() == before
    assert cluster["c1"].call("DBSIZE") == 0
    assert cluster.slots("c1") == Slots()
    cluster.assert_whole()


# --- What is on both sides ------------------------------------------------------------------------------------------


def plant(cluster: Cluster, slot: int, key: str, *words: str | bytes | int) -> None:
    """Put a key on d1 although the slot is a1's, as a MIGRATE leaves it that has failed after the target had it.

    d1 owns a slot by then: a master that owns none, and has keys in no open slot, has them from another life.
    """
    cluster.move([cluster.step("b1", "d1", [6000])])
    a1, d1 = cluster["a1"], cluster["d1"]
    d1.call("CLUSTER", "SETSLOT", slot, "IMPORTING", a1.id())
    with d1.client().pipeline(transaction=False) as pipe:
        pipe.execute_command("ASKING")
        pipe.execute_command(words[0], key, *words[1:])
        pipe.execute()
    d1.call("CLUSTER", "SETSLOT", slot, "STABLE")


@pytest.mark.parametrize("kind", ["string", "hash", "set"])
def test_a_key_that_is_on_both_sides_with_the_same_value_is_no_obstacle(kind: str, servers: Servers) -> None:
    """Large hashes and sets too, of which each node has its own order."""
    cluster = start_cluster(servers)
    slot, key = 9, key_of(9)
    words: list[str | int] = ["SET", "same"]
    if kind == "hash":
        words = ["HSET", *(word for n in range(1000) for word in (f"field-{n}", n))]
    elif kind == "set":
        words = ["SADD", *(f"member-{n}" for n in range(1000))]
    cluster["a1"].call(words[0], key, *words[1:])
    before = cluster.data()
    plant(cluster, slot, key, *words)
    cluster.move([cluster.step("a1", "d1", [slot])])
    assert cluster.data() == before
    cluster.assert_whole()


def test_a_key_with_two_values_stops_its_slot_and_is_named_and_all_others_arrive(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(100), keys=5)
    plant(cluster, 40, key_of(40, 2), "SET", "another")
    with pytest.raises(SlotwrightError, match="different values") as stopped:
        cluster.move([cluster.step("a1", "d1", range(41))])
    assert key_of(40, 2) in str(stopped.value)
    assert stopped.value.findings[0].code == "busy-key"
    assert set(cluster.slots("d1")) >= set(range(30))
    with cluster.client() as client:
        for slot in range(100):
            for number in range(5):
                assert client.get(key_of(slot, number)) == f"{slot}-{number}-".ljust(20, "x").encode()
    cluster["d1"].client().pipeline(transaction=False).execute_command("ASKING").execute_command(
        "DEL", key_of(40, 2)
    ).execute()
    cluster.move([cluster.step("a1", "d1", range(41))])
    assert cluster.slots("d1") == Slots.of([*range(41), 6000])
    cluster.assert_whole()


def test_a_key_made_after_a_slot_was_counted_is_not_left_behind_where_another_slot_stops_the_move(
    servers: Servers,
) -> None:
    """The slot counted no key when the move began, and is not looked at again before the other one fails."""
    cluster = start_cluster(servers)
    cluster.fill([9], keys=1)
    plant(cluster, 9, key_of(9), "SET", "another")
    steps = [cluster.step("a1", "d1", [9, 11])]
    with cluster.site.links() as links:
        moving = _Move(steps, cluster.site.topology, cluster.site.look(), links, 20, print, Limits(), threading.Event())
        pair = Pair(moving.carrier("a1:7000", "d1:7000"), {9: 1, 11: 0}, moving.board)
        pair._look((9, 11))
        cluster["a1"].call("SET", key_of(11), "late")
        with pytest.raises(SlotwrightError, match="different values"):
            pair._move((9, 11))
    with cluster.client() as client:
        wait_until("the key is there", lambda: client.get(key_of(11)) == b"late")
    assert cluster.open_slots() == [f"[9->-{cluster['d1'].id()}]", f"[9-<-{cluster['a1'].id()}]"]


# --- What is too big ------------------------------------------------------------------------------------------------


def test_a_big_key_moves_alone(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill([3], keys=50)
    cluster["a1"].client().hset(key_of(3, "big"), mapping={f"f{n}": "x" * 1000 for n in range(3000)})
    before = cluster.data()
    cluster.move([cluster.step("a1", "d1", [3])])
    assert cluster["a1"].client().info("commandstats")["cmdstat_migrate"]["calls"] >= 2
    assert cluster.data() == before
    cluster.assert_whole()


def test_a_key_that_would_block_its_nodes_too_long_stays_and_is_named_unless_told(servers: Servers) -> None:
    cluster = start_cluster(servers, config={"cluster-node-timeout": 1000})
    cluster.fill(range(20), keys=5)
    cluster["a1"].call("SET", key_of(3, "huge"), "x" * 20_000_000)
    before = cluster.data()
    with pytest.raises(Refused) as refused:
        cluster.move([cluster.step("a1", "d1", range(20))])
    assert [f.code for f in refused.value.findings] == ["big-key"]
    assert key_of(3, "huge") in str(refused.value)
    assert cluster.slots("d1") == Slots.span(0, 19) - Slots.of([3])
    assert cluster.data() == before
    cluster.assert_whole()
    cluster.move([cluster.step("a1", "d1", range(20))], limits=Limits(move_big=True))
    assert cluster.slots("d1") == Slots.span(0, 19)
    assert cluster.data() == before
    cluster.assert_whole()


def test_a_target_without_room_is_refused_before_anything_is_changed(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(200), keys=20, size=1000)
    used = cluster["d1"].client().info("memory")["used_memory"]
    cluster["d1"].call("CONFIG", "SET", "maxmemory", used + 2_000_000)
    before = cluster.data()
    with pytest.raises(Refused) as refused:
        cluster.move([cluster.step("a1", "d1", range(200))])
    assert [f.code for f in refused.value.findings] == ["target-full"]
    assert (cluster.slots("d1"), cluster.open_slots(), cluster.data()) == (Slots(), [], before)


def test_a_target_that_gets_full_on_the_way_leaves_no_slot_open(servers: Servers) -> None:
    """The sample before did not see the one fat slot."""
    cluster = start_cluster(servers)
    cluster.fill(range(400), keys=2)
    cluster["a1"].call("SET", key_of(201), "x" * 900_000)
    cluster["a1"].call("SET", key_of(203), "x" * 900_000)
    used = cluster["d1"].client().info("memory")["used_memory"]
    cluster["d1"].call("CONFIG", "SET", "maxmemory", used + 1_500_000)
    before = cluster.data()
    with pytest.raises(SlotwrightError) as full:
        cluster.move([cluster.step("a1", "d1", range(400))])
    assert [f.code for f in full.value.findings] == ["target-full"]
    assert 0 < len(cluster.slots("d1")) < 400
    assert (cluster.open_slots(), cluster.data()) == ([], before)
    cluster["d1"].call("CONFIG", "SET", "maxmemory", 0)
    cluster.move([cluster.step("a1", "d1", range(400))])
    assert cluster.data() == before
    cluster.assert_whole()


NEEDED = (
    "+ping +info +role +client|setname +config|get +acl|whoami +acl|dryrun +cluster|nodes +cluster|info +cluster|links "
    "+cluster|countkeysinslot +cluster|getkeysinslot +cluster|setslot +memory|usage +migrate +restore-asking +select "
    "+asking +dump +type +pttl +hgetall +smembers +bgrewriteaof +bgsave"
)
"""docs/access.md: what the user of the controller needs on every node to move slots."""

# --- How the nodes are reached --------------------------------------------------------------------------------------


@pytest.mark.parametrize("username", [None, "mover"])
def test_nodes_with_a_password_or_a_user(username: str | None, servers: Servers) -> None:
    config: dict[str, object] = {"requirepass": "secret", "masterauth": "secret"}
    if username:
        config["user"] = [f"mover on >secret ~* resetchannels -@all {NEEDED}"]
    cluster = start_cluster(servers, config=config, access=Access(username, "secret", connect_timeout=2.0))  # type: ignore[arg-type]
    cluster.fill(range(50))
    before = cluster.data()
    cluster.move([cluster.step("a1", "d1", range(50))])
    assert cluster.data() == before
    assert cluster.slots("d1") == Slots.span(0, 49)


def test_nodes_with_tls(servers: Servers, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls", servers.address())
    config = {**certificates.config, "tls-cluster": True, "tls-replication": True}
    tls = Tls(certificates.ca, certificates.cert, certificates.key)
    cluster = start_cluster(servers, config=config, access=Access(tls=tls, connect_timeout=2.0))
    cluster.fill(range(50))
    cluster.move([cluster.step("a1", "d1", range(50))])
    assert cluster["d1"].call("DBSIZE") == 500
    assert cluster.slots("d1") == Slots.span(0, 49)


def test_servers_of_6_2(servers: Servers) -> None:
    cluster = start_cluster(servers, binary=binary("6.2.14"), old=True)
    cluster.fill(range(100))
    cluster.move([cluster.step("a1", "d1", range(100))])
    assert cluster["d1"].call("DBSIZE") == 1000
    assert cluster.slots("d1") == Slots.span(0, 99)
    cluster.assert_whole()


# --- What happens on the way ----------------------------------------------------------------------------------------


class Moving:
    """A move in a thread of its own: `with Moving(cluster, steps) as moving: moving.begun(); …; moving.end()`."""

    def __init__(self, cluster: Cluster, steps: Sequence[MoveSlots], **options: Any) -> None:
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self._cluster, self._target = cluster, steps[0].target
        self._thread = threading.Thread(target=self._move, args=(steps, {"stop": self.stop, **options}), daemon=True)

    def _move(self, steps: Sequence[MoveSlots], options: dict[str, Any]) -> None:
        try:
            self._cluster.move(steps, **options)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Moving:
        self._owned = len(self._cluster.slots(self._target.partition(":")[0]))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the move hangs"

    def begun(self, slots: int) -> None:
        """So many slots have moved."""
        name = self._target.partition(":")[0]
        wait_until("some slots have moved", lambda: len(self._cluster.slots(name)) >= self._owned + slots, every=0.005)
        assert self._thread.is_alive(), "the move was faster than its test"


MANY = range(0, 3000)


def start_moving(servers: Servers, **options: Any) -> tuple[Cluster, dict[bytes, str]]:
    """Four masters, of which a and d have a replica, that write all down; keys in MANY slots of a."""
    config = {"appendonly": True, "cluster-node-timeout": 1000}
    cluster = start_cluster(servers, owners="abcd", empty="", replicas="ad", config=config)
    cluster.fill(MANY, keys=20, size=200)
    return cluster, cluster.data()


@pytest.mark.parametrize("name", ["a1", "d1"])
def test_an_end_that_restarts_is_waited_for_and_the_move_goes_on(name: str, servers: Servers) -> None:
    cluster, before = start_moving(servers)
    with Moving(cluster, [cluster.step("a1", "d1", MANY)]) as moving:
        moving.begun(200)
        cluster[name].kill()
        cluster[name].start_again()
    assert moving.error is None or isinstance(moving.error, FailedOver), moving.error
    assert cluster.open_slots() == []
    assert cluster.data() == before
    cluster.assert_whole()


@pytest.mark.parametrize("shard", ["a", "d"])
def test_after_a_failover_of_an_end_what_is_open_is_finished_and_the_rest_is_left_to_a_new_plan(
    shard: str, servers: Servers
) -> None:
    cluster, before = start_moving(servers)
    with Moving(cluster, [cluster.step("a1", "d1", MANY)]) as moving:
        moving.begun(200)
        cluster[f"{shard}2"].call("CLUSTER", "FAILOVER")
    assert isinstance(moving.error, FailedOver), moving.error
    assert cluster.open_slots() == []
    assert cluster.data() == before
    source, target = ("a2", "d1") if shard == "a" else ("a1", "d2")
    cluster.move([cluster.step(source, target, cluster.slots(source) & Slots.of(MANY))])
    assert Slots.of(MANY) <= cluster.slots(target)
    assert cluster.data() == before
    cluster.assert_whole()


def test_told_to_stop_it_closes_what_is_open_within_two_seconds_and_goes_on_later(servers: Servers) -> None:
    cluster, before = start_moving(servers)
    with Moving(cluster, [cluster.step("a1", "d1", MANY)]) as moving:
        moving.begun(200)
        moving.stop.set()
        asked = time.monotonic()
    assert time.monotonic() - asked < 2
    assert isinstance(moving.error, Paused), moving.error
    assert cluster.open_slots() == []
    assert 200 <= len(cluster.slots("d1") & Slots.of(MANY)) < len(MANY)
    assert cluster.data() == before
    cluster.move([cluster.step("a1", "d1", MANY)])
    assert Slots.of(MANY) <= cluster.slots("d1")
    assert cluster.data() == before
    cluster.assert_whole()


def test_while_a_replica_is_not_in_sync_no_further_slot_is_opened(servers: Servers) -> None:
    cluster, before = start_moving(servers)
    with Moving(cluster, [cluster.step("a1", "d1", MANY)], limits=Limits(keys=6000)) as moving:
        moving.begun(50)
        cluster["d2"].pause()  # noticed when a look at it has had no answer: how soon, the machine's load says
        moved = -1
        deadline = time.monotonic() + 15
        while (now := len(cluster.slots("d1"))) != moved:
            assert time.monotonic() < deadline, f"slots still move while d2 does not answer: {now}"
            moved = now
            time.sleep(1)
        assert len(cluster.slots("d1") & Slots.of(MANY)) < len(MANY)
        cluster["d2"].resume()
    assert moving.error is None
    assert cluster.data() == before
