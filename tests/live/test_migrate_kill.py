"""Whatever ends a slot move, and wherever: one more run leaves no slot open, and no key lost or there twice."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest

from slotwright.core.slots import Slots
from slotwright.core.steps import Failover, MoveSlots
from slotwright.link.failover import fail_over as take_over
from tests.live.doomed_move import Doom, Graveyard
from tests.live.moves import Cluster, key_of, start_cluster
from tests.live.servers import Servers, Value, wait_settled
from tests.soak import SOAK

LOOPBACK = "127.41"
SEED = 20261121
POINTS = 10_000 if SOAK else 15
FAULTY_POINTS = POINTS if SOAK else 2  # for each fault
# A master votes for one replica of a shard in two node timeouts.
FRAIL: dict[str, Value] = {"appendonly": True, "cluster-node-timeout": 1000}
SLOTS = range(100, 106)
KEYS = {100: 0, 101: 3, 102: 0, 103: 100, 104: 1, 105: 10}


@pytest.fixture
def graveyard() -> Iterator[Graveyard]:
    with Graveyard() as running:
        yield running


def fill(cluster: Cluster) -> None:
    node = cluster["a1"].client()
    for slot, keys in KEYS.items():
        for number in range(keys):
            node.set(key_of(slot, number), f"{slot}-{number}" * 300)  # about 2 kB: several calls
    node.rpush(key_of(104, "list"), *range(1000))
    node.set(key_of(105, "soon"), "x", px=3_600_000)


def doomed(cluster: Cluster, steps: Sequence[MoveSlots], number: int, how: signal.Signals = signal.SIGKILL) -> Doom:
    return Doom(cluster.site.topology, cluster.site.request.access, steps, number, how)


def points(total: int, wanted: int) -> list[int]:
    """Points to die at: all of them, or so many at random."""
    every = range(1, total + 1)
    return list(every) if wanted >= total else sorted(random.Random(SEED).sample(every, wanted))


def planned(cluster: Cluster, shard: str) -> list[MoveSlots]:
    """What a new plan would do: bring each of the slots from its owner to the shard's master, whoever that is now."""
    view = cluster.site.look()
    target = next(n for n in view.nodes if n.name.startswith(shard) and n.myself.is_master)
    wanted = Slots.of(SLOTS)
    steps = []
    for node in view.nodes:
        marked = {s for s, _ in (*node.myself.migrating, *node.myself.importing)} if node is not target else set()
        slots = node.myself.slots & wanted | Slots.of(marked)
        if slots and node is not target:
            steps.append(MoveSlots(node.name, target.name, slots))
    return steps


def test_killed_at_any_command_one_run_finishes_the_move(
    servers: Servers, graveyard: Graveyard, tried: Callable[[str], None]
) -> None:
    """The target owns no slot before, so that its first one has to be chosen and made known too."""
    cluster = start_cluster(servers)
    fill(cluster)
    before = cluster.data()
    steps = [cluster.step("a1", "d1", SLOTS)]
    back = [cluster.step("d1", "a1", SLOTS)]
    whole = graveyard.bury(doomed(cluster, steps, 0))
    assert whole.status == 0
    assert cluster.data() == before
    cluster.move(back)
    chosen = points(whole.written, POINTS)
    for number in chosen:
        assert graveyard.bury(doomed(cluster, steps, number)).status == -signal.SIGKILL
        owned = cluster.slots("d1")
        assert not owned or 100 in owned or 102 in owned, f"its first slot had keys: {owned}"
        cluster.move(steps)
        assert (cluster.open_slots(), cluster.slots("d1")) == ([], Slots.of(SLOTS)), f"killed at {number}"
        assert cluster.data() == before, f"killed at {number}"
        cluster.move(back)
        assert (cluster.open_slots(), cluster.slots("d1")) == ([], Slots()), f"killed at {number}"
    tried(
        f"{len(chosen)} of {whole.written} points to kill -9 a slot move at: "
        "all finished by one run, 0 keys lost or doubled"
    )
    cluster.assert_whole()


# --- … and one of the two ends has an accident at the same point ---------------------------------------------------


def master_of(cluster: Cluster, shard: str) -> str:
    return next(f"{shard}{n}" for n in "12" if cluster[f"{shard}{n}"].call("ROLE")[0] == "master")


def restart(cluster: Cluster, shard: str) -> None:
    cluster[master_of(cluster, shard)].kill()
    for name in (f"{shard}1", f"{shard}2"):
        if not cluster[name].alive:
            cluster[name].start_again()
            cluster[name].wait_ready()


def fail_over(cluster: Cluster, shard: str) -> None:
    """By the product's own step, which tries again where the other masters did not vote."""
    replica = f"{shard}{3 - int(master_of(cluster, shard)[1])}"
    with cluster.site.links() as links:
        port = cluster.nodes[0].port
        take_over(Failover(f"{replica}:{port}"), cluster.site.look(), links, timeout=20, report=print)


FAULTS: dict[str, tuple[Callable[[Cluster, str], None], str]] = {
    "source-restarted": (restart, "a"),
    "target-restarted": (restart, "d"),
    "source-failed-over": (fail_over, "a"),
    "target-failed-over": (fail_over, "d"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_killed_while_an_end_has_an_accident_one_run_finishes_the_move(
    fault: str, servers: Servers, graveyard: Graveyard, tried: Callable[[str], None]
) -> None:
    act, shard = FAULTS[fault]
    cluster = start_cluster(servers, owners="abcd", empty="", replicas="ad", config=FRAIL)
    fill(cluster)
    before = cluster.data()
    whole = graveyard.bury(doomed(cluster, planned(cluster, "d"), 0))
    cluster.move(planned(cluster, "a"))
    chosen = points(whole.written, FAULTY_POINTS)
    for number in chosen:
        assert graveyard.bury(doomed(cluster, planned(cluster, "d"), number)).status == -signal.SIGKILL
        act(cluster, shard)
        wait_settled(cluster.nodes, half_moved=True)
        cluster.move(planned(cluster, "d"))
        assert cluster.open_slots() == [], f"killed at {number}"
        assert Slots.of(SLOTS) <= cluster.slots(master_of(cluster, "d")), f"killed at {number}"
        assert cluster.data() == before, f"killed at {number}"
        cluster.move(planned(cluster, "a"))
        assert cluster.data() == before, f"killed at {number}"
    tried(f"{len(chosen)} of {whole.written} points to kill -9 a slot move at, and {fault}: all finished by one run")
    cluster.assert_whole()


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_interrupted_at_any_command_no_slot_is_left_open(
    servers: Servers, graveyard: Graveyard, tried: Callable[[str], None]
) -> None:
    cluster = start_cluster(servers)
    fill(cluster)
    before = cluster.data()
    steps = [cluster.step("a1", "d1", SLOTS)]
    back = [cluster.step("d1", "a1", SLOTS)]
    whole = graveyard.bury(doomed(cluster, steps, 0))
    cluster.move(back)
    chosen = points(whole.written, POINTS)
    paused = 0
    for number in chosen:
        status = graveyard.bury(doomed(cluster, steps, number, signal.SIGINT)).status
        assert status in (0, 130), f"interrupted at {number}: ended with {status}"  # 0: it had just done all
        paused += status == 130
        assert cluster.open_slots() == [], f"interrupted at {number}"
        assert cluster.data() == before, f"interrupted at {number}"
        cluster.move(steps)
        assert cluster.slots("d1") == Slots.of(SLOTS)
        assert cluster.data() == before, f"interrupted at {number}"
        cluster.move(back)
    assert paused
    tried(f"{len(chosen)} of {whole.written} points to interrupt a slot move at: {paused} paused, no slot left open")
