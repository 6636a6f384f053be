"""Servers that move slots by themselves: whole tasks, and whatever ends one leaves all as it was, or done."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from slotwright.core.slots import SLOT_COUNT
from slotwright.errors import Refused, SlotwrightError
from slotwright.link.migrate import Limits, Paused, Progress
from slotwright.manager.converge import settled_view
from tests.live.doomed_move import Doom, Graveyard
from tests.live.moves import Cluster, start_cluster
from tests.live.servers import Servers, binary, wait_settled, wait_until
from tests.live.workload import Workload

LOOPBACK = "127.49"
ATOMIC = Limits(strategy="atomic")


@pytest.fixture(params=["8.6.3", "valkey-9.1.2"])
def server(request: pytest.FixtureRequest) -> str:
    return binary(str(request.param))


def tasks(cluster: Cluster) -> int:
    """How many tasks of the servers are known, over all nodes."""
    words = (
        ("MIGRATION", "STATUS", "ALL") if cluster.nodes[0].binary.endswith("redis-server") else ("GETSLOTMIGRATIONS",)
    )
    return sum(len(node.call("CLUSTER", *words)) for node in cluster.nodes)


def test_slots_move_in_tasks_and_no_client_sees_an_error(server: str, servers: Servers) -> None:
    cluster = start_cluster(servers, binary=server, replicas="d")
    cluster.fill(range(0, SLOT_COUNT, 8), keys=20, size=100)
    before = cluster.data()
    shown: list[Progress] = []
    with Workload(cluster.nodes[0]) as load:
        cluster.move(cluster.share(), limits=ATOMIC, show=shown.append)
        time.sleep(0.5)
    load.assert_kept()
    assert load.errors == []
    assert tasks(cluster)
    assert (shown[-1].slots, shown[-1].keys) == (4095, shown[-1].keys_total)
    assert len(cluster.slots("d1")) == 4095
    after = cluster.data()
    assert {key: after[key] for key in before} == before
    # And back; a classic move of the same slots is possible as well.
    cluster.move([cluster.step("d1", "a1", list(cluster.slots("d1"))[:1000])], limits=Limits(strategy="classic"))
    cluster.move([cluster.step("d1", "a1", list(cluster.slots("d1"))[:1000])])
    cluster.assert_whole()


def test_stopped_a_task_is_cancelled_and_a_further_run_does_it(server: str, servers: Servers) -> None:
    cluster = start_cluster(servers, binary=server)
    cluster.fill(range(0, 4000), keys=3, size=8000)
    before = cluster.data()
    steps = [cluster.step("a1", "d1", range(4000))]
    known, stop = tasks(cluster), threading.Event()
    error: list[BaseException] = []

    def move() -> None:
        try:
            cluster.move(steps, limits=ATOMIC, stop=stop)
        except SlotwrightError as trouble:
            error.append(trouble)

    moving = threading.Thread(target=move)
    moving.start()
    wait_until("a task is known", lambda: tasks(cluster) > known)
    begun = time.monotonic()
    stop.set()
    moving.join()
    assert time.monotonic() - begun < 2
    assert not error or isinstance(error[0], Paused)
    assert len(cluster.slots("d1")) == (0 if error else 4000)
    assert cluster.data() == before
    cluster.move(steps, limits=ATOMIC)
    assert len(cluster.slots("d1")) == 4000
    assert cluster.data() == before
    cluster.assert_whole()


@pytest.mark.soak
def test_killed_at_some_command_one_run_finishes_the_move(server: str, servers: Servers) -> None:
    """The task goes on without its controller: who comes next waits for its end."""
    cluster = start_cluster(servers, binary=server)
    cluster.fill(range(0, 4000), keys=2, size=8000)
    before = cluster.data()
    steps = [cluster.step("a1", "d1", range(4000))]
    back = [cluster.step("d1", "a1", range(4000))]
    access = cluster.site.request.access
    with Graveyard() as graveyard:
        whole = graveyard.bury(Doom(cluster.site.topology, access, steps, strategy="atomic"))
        assert whole.status == 0
        cluster.move(back)
        for number in range(1, whole.written + 1, max(1, whole.written // 30)):
            end = graveyard.bury(Doom(cluster.site.topology, access, steps, number, strategy="atomic"))
            assert end.status in (-signal.SIGKILL, 0)
            with cluster.site.links() as links:
                settled_view(cluster.site.request, links)
            cluster.move(steps, limits=ATOMIC)
            assert (cluster.open_slots(), len(cluster.slots("d1"))) == ([], 4000)
            assert cluster.data() == before
            cluster.move(back)
    cluster.assert_whole()


@pytest.mark.soak
@pytest.mark.parametrize("end", ["a1", "d1"])
def test_an_end_that_restarts_meanwhile_is_waited_for(end: str, server: str, servers: Servers) -> None:
    cluster = start_cluster(servers, binary=server, config={"appendonly": True, "cluster-node-timeout": 5000})
    cluster.fill(range(0, 4000), keys=3, size=8000)
    before = cluster.data()
    steps = [cluster.step("a1", "d1", range(4000))]
    known = tasks(cluster)
    error: list[BaseException] = []

    def move() -> None:
        try:
            cluster.move(steps, limits=ATOMIC)
        except SlotwrightError as trouble:
            error.append(trouble)

    moving = threading.Thread(target=move)
    moving.start()
    wait_until("a task is known", lambda: tasks(cluster) > known)
    cluster[end].kill()
    cluster[end].start_again()
    cluster[end].wait_ready()
    moving.join()
    wait_settled(cluster.nodes)
    if error:
        cluster.move(steps, limits=ATOMIC)
    assert len(cluster.slots("d1")) == 4000
    assert cluster.data() == before
    cluster.assert_whole()


def test_who_cannot_is_refused_and_auto_takes_the_other_way(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(10))
    steps = [cluster.step("a1", "d1", range(10))]
    with pytest.raises(Refused) as refused:
        cluster.move(steps, limits=ATOMIC)
    assert {f.code for f in refused.value.findings} == {"not-atomic"}
    cluster.move(steps)
    assert len(cluster.slots("d1")) == 10
