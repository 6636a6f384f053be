"""playbooks/drill.yml on hosts of a private network, reached by real SSH, where packets are really dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.live.netns import Net
from tests.live.servers import wait_until
from tests.live.sshd import keygen
from tests.playbooks.drills import DRILL, NODE_TIMEOUT, NOTHING, PORT, SECONDS, Ground, line
from tests.soak import SOAK

SLACK = 1.5  # seconds that a gap may be longer than foretold, on two slow cores


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One cluster for all tests, for each leaves it as it was."""
    directory = tmp_path_factory.mktemp("ground")
    with Net(directory, hosts=2, zones=3) as net:
        made = Ground(net, directory, keygen(directory / "key"))
        made.begin()
        yield made


def whole(report: dict[str, Any], ground: Ground) -> None:
    """It was seen through, as it was foretold, and has left nothing."""
    assert (report["verdict"], report["reasons"], report["findings"]) == ("passed", [], []), line(report)
    assert ground.left() == NOTHING
    for shard in report["shards"] if SOAK else ():  # as nothing else runs then
        assert shard["write_gap"] < shard["predicted_write_gap"] + SLACK, line(report)
    assert report["losses"]["lost"] <= report["prediction"]["worst_loss"], line(report)
    assert report["losses"]["altered"] == 0


def replaced(report: dict[str, Any], zone: str) -> None:
    """The zone's masters were called FAIL, and other zones have served in their place."""
    [struck] = [shard for shard in report["shards"] if shard["struck"]]
    assert struck["shard"].startswith(f"h{zone[1]}")
    assert not struck["new_master"].startswith(f"h{zone[1]}")
    assert NODE_TIMEOUT / 2 < struck["fail_seen"] < struck["promoted"] < report["seconds"]
    # Where only the bus is cut, clients and its replica reach the old master until it stops by itself.
    assert report["fault"] == "bus-only" or struck["write_gap"] > NODE_TIMEOUT / 2


def test_nothing_is_struck_unless_it_is_confirmed_and_a_zone_that_is_cut_off_is_replaced(
    ground: Ground, tried: Callable[[str], None]
) -> None:
    foreseen = ground.play(DRILL, "--check", *ground.options("zone z2", "partition"))
    assert (foreseen.status, foreseen.changed) == (0, 0), foreseen.said
    assert f"zone z2 is lost for {SECONDS:g} s" in foreseen.text
    assert "the others call them FAIL after" in foreseen.text
    for confirm in (None, "drill demo zone z3"):
        unwanted = ground.play(DRILL, *ground.options("zone z2", "partition", drill_confirm=confirm))
        assert (unwanted.status, unwanted.changed) == (2, 0), unwanted.said
        assert "Nothing was struck: this drill was not confirmed." in unwanted.text
    assert ground.left() == NOTHING
    assert not ground.history.exists()

    here, other = ground.of_zone("z2")[0], ground.of_zone("z1")[0]
    theirs = {f"somebody:{n}": f"else {n}" for n in range(20)}
    for key, value in theirs.items():
        ground.call(here, "SET", key, value)
    before = ground.layout()
    with ground.drilling("zone z2", "partition") as drill:
        heals = ground.await_struck(drill, ground.of_zone("z2"))
        assert "slotwright_drill_" in here.run(["nft", "list", "ruleset"]).stdout
        assert "slotwright" not in other.run(["nft", "list", "ruleset"]).stdout
        assert [here.reach(other.address, PORT), other.reach(here.address, PORT + 10000)] == ["blocked"] * 2
        assert ground.ssh(here, "hostname") == here.name
        assert time.time() < heals, "this machine is too slow for the test"
        done = drill.ended()
    assert done.status == 0, done.said
    report = ground.report()
    tried(line(report))
    tried(f"drill.yml took {done.seconds:.0f} s")
    whole(report, ground)
    replaced(report, "z2")
    assert set(report["losses"]["by_client"]) == {"controller", "h11", "h21", "h31"}
    assert all(client["acknowledged"] > 100 for client in report["losses"]["by_client"].values())
    losers = {name for name, client in report["losses"]["by_client"].items() if client["lost"]}
    assert losers <= {"controller", "h21"}, report["losses"]["by_client"]
    assert ground.layout() == before
    assert {key: ground.call(other, "GET", key) for key in theirs} == theirs
    assert "PASSED" in done.said
    assert "PASSED" in (ground.history / report["id"] / "report.html").read_text()


@pytest.mark.soak  # a minute
def test_where_one_host_cannot_be_armed_none_is_struck(ground: Ground) -> None:
    """It has no nft."""
    armed, lame = ground.of_zone("z2")
    nothing = ground.directory / "nothing"
    nothing.touch(mode=0o644)
    nft = lame.run(["sh", "-c", "readlink -f $(command -v nft)"]).stdout.strip()
    lame.run(["mount", "--bind", nothing, nft])
    try:
        done = ground.drill("zone z2", "partition")
    finally:
        lame.run(["umount", nft])
    assert done.status == 2, done.said
    assert "there is no nft, by which packets are dropped" in done.text
    assert "zone z2 is struck" not in done.text
    report = ground.report()
    assert (report["verdict"], report["reasons"]) == ("incomplete", ["it failed before the end"])
    assert report["moments"]["fail_seen"] is None
    assert ground.left() == NOTHING
    assert ground.call(armed, "PING") == "PONG"


@pytest.mark.parametrize("fault", ["partition", "kill"])
@pytest.mark.timeout(600)
@pytest.mark.soak  # two minutes and a half each
def test_hosts_heal_without_their_controller_and_the_next_run_tells_what_became_of_the_drill(
    ground: Ground, fault: str, tried: Callable[[str], None]
) -> None:
    before, zone, earlier = ground.layout(), ground.of_zone("z2"), len(ground.reports())
    with ground.drilling("zone z2", fault) as drill:
        heals = ground.await_struck(drill, zone)
        time.sleep(max(0.0, heals - 5 - time.time()))  # the others have replaced it
        killed = ground.kill_controller()
        assert time.time() < heals - 1, "this machine is too slow for the test"
    assert not ground.healthy(zone)
    wait_until("the hosts heal", lambda: ground.healthy(zone), timeout=30)
    late = time.time() - heals
    assert late < 2
    assert ground.rules() == ""
    assert ground.clients() == ["h11", "h21", "h31"]
    assert len(ground.keys()) > 100
    assert len(ground.reports()) == earlier

    done = ground.drill("zone z2", fault)
    assert done.status == 0, done.said
    said = done.text.index("INCOMPLETE: zone z2"), done.text.index("the controller died in the middle of it")
    assert max(said) < done.text.index(f"zone z2 is lost for {SECONDS:g} s") < done.text.index("PASSED: zone z2")
    cut_off, report = ground.reports()[earlier:]
    assert (cut_off["verdict"], cut_off["reasons"]) == ("incomplete", ["the controller died in the middle of it"])
    assert set(cut_off["losses"]["by_client"]) == {"controller", "h11", "h21", "h31"}
    assert cut_off["losses"]["acknowledged"] > 1000
    [struck] = [shard for shard in cut_off["shards"] if shard["struck"]]
    assert NODE_TIMEOUT / 2 < struck["write_gap"] < struck["predicted_write_gap"] + SLACK
    tried(f"{killed} processes of the controller were killed, and the hosts healed {late:.1f} s after their time")
    tried(line(cut_off))
    tried(line(report))
    whole(report, ground)
    replaced(report, "z2")
    assert ground.layout() == before


@pytest.mark.timeout(600)
@pytest.mark.soak  # two minutes
def test_two_zones_after_each_other_and_then_there_is_nothing_to_do(
    ground: Ground, tried: Callable[[str], None]
) -> None:
    before, earlier = ground.layout(), len(ground.reports())
    confirmed = ["drill demo zone z1", "drill demo zone z2"]
    done = ground.drill("zone z1", "freeze", drill_zone=None, drill_sequence=["z1", "z2"], drill_confirm=confirmed)
    assert done.status == 0, done.said
    for report, zone in zip(ground.reports()[earlier:], ("z1", "z2"), strict=True):
        tried(line(report))
        whole(report, ground)
        replaced(report, zone)
    assert ground.layout() == before
    again = ground.play("site.yml")
    assert (again.status, again.changed) == (0, 0), again.said


@pytest.mark.parametrize(
    ("struck", "fault", "workload"),
    [
        ("host h31", "partition", "counters"),
        ("instance h11:7001", "kill", "counters"),
        ("instance h12:7001", "freeze", "keys"),
    ],
)
@pytest.mark.soak  # a minute each
def test_a_host_and_an_instance(
    ground: Ground, struck: str, fault: str, workload: str, tried: Callable[[str], None]
) -> None:
    before = ground.layout()
    done = ground.drill(struck, fault, redis_drill_workload=workload)
    assert done.status == 0, done.said
    report = ground.report()
    tried(line(report))
    whole(report, ground)
    masters = [shard["shard"] for shard in report["shards"] if shard["struck"]]
    if "h12" in struck:
        assert masters == []
        assert report["longest_write_gap"] < 1.5
    else:
        replaced(report, f"z{struck.partition(' h')[2][0]}")
    assert ground.layout() == before


TABLE = [
    (fault, zone)
    for fault in ("stop", "kill", "freeze", "partition", "partition-one-way", "bus-only")
    for zone in ("z1", "z2", "z3")
]


@pytest.mark.timeout(5400)
@pytest.mark.soak  # 36 drills: 40 minutes
def test_each_fault_of_each_zone_twice(ground: Ground, tried: Callable[[str], None]) -> None:
    before = ground.layout()
    wrong = []
    for fault, zone in TABLE * 2:
        done = ground.drill(f"zone {zone}", fault)
        report = ground.report()
        tried(line(report))
        print(line(report), f"{done.seconds:.0f} s", flush=True)
        try:
            assert done.status == 0, done.said
            whole(report, ground)
            replaced(report, zone)
            assert ground.layout() == before
        except AssertionError as error:
            print(f"  {error}", flush=True)
            wrong.append(f"{fault} {zone}: {error}")
    assert wrong == []
