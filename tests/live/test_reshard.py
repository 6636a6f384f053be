"""Slots are where an operator asks for them: check mode foretells it, one run does it, a second changes nothing."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.errors import Refused, SlotwrightError
from slotwright.link.loads import slot_loads
from slotwright.manager import reshard
from slotwright.manager.progress import LOOK_EVERY, Told
from slotwright.manager.request import complete
from slotwright.manager.requests import PREFIX
from slotwright.manager.reshard import Resharding, read_asked
from tests.live.clusters import Site
from tests.live.moves import Cluster, key_of, start_cluster
from tests.live.servers import Monitor, Servers, binary, wait_settled

LOOPBACK = "127.47"
Said = Mapping[str, Any]


def asked(**said: Any) -> dict[str, Any]:
    return {name: spec.get("default") for name, spec in reshard.ASKED.items()} | said


def move(**said: Any) -> dict[str, Any]:
    entry = dict.fromkeys(("name", "slots", "count", "bytes")) | said.pop("move")
    return asked(state="moved", moves=[entry])


def foresee(site: Site, said: Said) -> dict[str, Any]:
    with site.links() as links:
        run = Resharding(site.request, read_asked(said, site.request), links)
        return reshard.result(site.request, run, run.foresee())


def do(site: Site, said: Said) -> dict[str, Any]:
    with site.links() as links, Told(None) as told:
        run = Resharding(site.request, read_asked(said, site.request), links)
        return reshard.result(site.request, run, run.run(told), told)


def check_run_check_run(site: Site, said: Said) -> dict[str, Any]:
    """The result of the first run: what check mode has foretold. Nothing is left to do then, nor sent."""
    foretold = foresee(site, said)
    done = do(site, said)
    assert (done["plan"], done["layout"]) == (foretold["plan"], foretold["layout"])
    with Monitor(site.nodes) as monitor:
        assert not foresee(site, said)["changed"]
        again = do(site, said)
    assert (again["changed"], again["plan"]) == (False, [])
    assert monitor.mutating == []
    return done


def refused(site: Site, said: Said) -> list[str]:
    with pytest.raises(Refused) as error:
        foresee(site, said)
    with pytest.raises(Refused) as later:
        do(site, said)
    codes = [finding.code for finding in error.value.findings]
    assert codes == [finding.code for finding in later.value.findings]
    return codes


def counts(cluster: Cluster) -> list[int]:
    return [len(cluster.slots(name)) for name in ("a1", "b1", "c1", "d1")]


def test_every_way_to_say_where_slots_shall_be_is_done_once(servers: Servers) -> None:
    """One cluster, one goal after the other; each leaves all keys as they were."""
    cluster = start_cluster(servers)
    site = cluster.site
    cluster.fill(range(0, SLOT_COUNT, 16), keys=3)
    before = cluster.data()

    done = check_run_check_run(site, asked())
    assert counts(cluster) == [4096] * 4
    assert done["slots_moved"] == done["slots_least"] == 4096
    assert "moved 4096 slots" in done["summary"]

    check_run_check_run(site, asked(weights_by_name={"a": 3, "d1:7000": 0}))
    assert counts(cluster) == [9830, 3277, 3277, 0]

    done = check_run_check_run(site, asked(state="placed", ranges={"d1:7000": "0-99,16000-16383", "c1:7000": "200"}))
    assert cluster.slots("d1") == Slots.parse("0-99,16000-16383")
    assert [f["code"] for f in done["findings"] if f["code"] == "not-lasting"]

    check_run_check_run(site, asked(state="drained", drain=["d1"]))
    assert counts(cluster)[3] == 0 and sum(counts(cluster)) == SLOT_COUNT

    some = str(Slots.of(list(cluster.slots("a1"))[:50]))
    check_run_check_run(site, move(move={"from": "a1:7000", "to": "d1:7000", "slots": some}))
    assert str(cluster.slots("d1")) == some

    assert cluster.data() == before
    cluster.assert_whole()


def test_a_request_for_an_amount_is_made_once_under_its_name(servers: Servers) -> None:
    cluster = start_cluster(servers)
    site = cluster.site
    cluster.fill(range(100), keys=10, size=1000)
    wish = {"name": "relieve", "from": "a1:7000", "to": "d1:7000", "count": 100}
    last = Slots.of(list(cluster.slots("a1"))[-100:])

    # Cut off in the middle: what was chosen is remembered, and another run moves the rest of just that.
    with site.links() as links:
        run = Resharding(site.request, read_asked(move(move=wish), site.request), links)
        run.make(site.look())
        assert run.requests
        run.requests.write()
    cluster.move([cluster.step("a1", "d1", list(last)[:30])])
    do(site, move(move=wish))
    assert cluster.slots("d1") == last
    again = do(site, move(move=wish))
    assert (again["changed"], cluster.slots("d1")) == (False, last)
    assert [f["code"] for f in again["findings"] if "request" in f["code"]] == ["request-done"]

    # The same name for something else is refused; another name moves as many again.
    assert refused(site, move(move=wish | {"count": 50})) == ["name-used"]
    check_run_check_run(site, move(move=wish | {"name": "more"}))
    assert len(cluster.slots("d1")) == 200

    # Bytes: the fewest of the last slots that hold them. 10 keys of 1 kB are in each of the slots 0 to 99.
    check_run_check_run(site, asked(state="placed", ranges={"a1:7000": "0-99", "b1:7000": "100-10000"}))
    done = check_run_check_run(site, move(move={"name": "b", "from": "a1:7000", "to": "d1:7000", "bytes": "110kB"}))
    assert 7 <= done["slots_moved"] <= 12
    assert cluster.client().get(PREFIX + "b")

    for wrong, code in (
        ({"from": "a1:7000", "to": "b1:7000", "count": 5}, "no-name"),
        ({"from": "a1:7000", "to": "b1:7000"}, "amount"),
        ({"from": "a1:7000", "to": "b1:7000", "slots": "9-3"}, "amount"),
        ({"from": "a1:7000", "to": "b1:7000", "count": 5, "slots": "1"}, "amount"),
        ({"name": "x", "from": "a1:7000", "to": "b1:7000", "count": 20000}, "too-many"),
        ({"name": "x", "from": "nobody", "to": "b1:7000", "count": 5}, "no-master"),
        ({"from": "a1:7000", "to": "nobody", "slots": "1"}, "unknown-name"),
    ):
        assert refused(site, move(move=wrong)) == [code]
    assert refused(site, asked(state="drained")) == ["what-to-do"]
    assert refused(site, asked(drain=["d1"])) == ["what-to-do"]
    assert refused(site, asked(state="placed", ranges={"a1:7000": "x"})) == ["slots"]
    assert refused(site, asked(by="cpu")) == ["no-slot-stats"]
    cluster.assert_whole()


@pytest.mark.parametrize("by", ["keys", "bytes"])
def test_masters_are_balanced_by_what_slots_hold(by: str, servers: Servers) -> None:
    cluster = start_cluster(servers, empty="")
    heavy = list(range(0, 3000, 10))
    cluster.fill(heavy, keys=20, size=20 if by == "keys" else 2000)
    cluster.fill(range(3000, SLOT_COUNT, 50), keys=2 if by == "keys" else 20, size=20)
    before = cluster.data()
    done = check_run_check_run(cluster.site, asked(by=by, weights_by_name={"a": 1}))
    assert 0 < done["slots_moved"] <= 1.2 * done["slots_least"] + 5
    loads = [node.call("DBSIZE") if by == "keys" else _bytes(cluster, node) for node in cluster.nodes]
    share = sum(loads) / len(loads)
    assert all(abs(load - share) <= 0.05 * share for load in loads), loads
    assert cluster.data() == before
    cluster.assert_whole()


@pytest.mark.parametrize("version", ["8.6.3", pytest.param("valkey-8.0.1", marks=pytest.mark.soak)])
def test_masters_are_balanced_by_the_cpu_that_slots_take(
    version: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve slots of one master are asked for all the time, and as good as nothing else is."""
    config = {"cluster-slot-stats-enabled": True}
    cluster = start_cluster(servers, empty="", binary=binary(version), config=config)
    hot = list(cluster.slots("a1"))[100:1300:100]
    cluster.fill(range(0, SLOT_COUNT, 8), keys=1)
    cluster.fill(hot, keys=1)
    monkeypatch.setattr(reshard, "slot_loads", partial(slot_loads, watch=2.0))
    client = cluster.client()
    with cluster.site.links() as links:
        assert sum(slot_loads("bytes", cluster.site.look(), links).values()) > 0
    with busy(lambda: [client.get(key_of(slot, 0)) for slot in hot]):
        do(cluster.site, asked(by="cpu"))
    shares = [len([slot for slot in hot if slot in cluster.slots(name)]) for name in ("a1", "b1", "c1")]
    assert sum(shares) == 12 and min(shares) >= 3, shares
    cluster.assert_whole()


@contextmanager
def busy(act: Callable[[], object]) -> Iterator[None]:
    """Do it again and again meanwhile."""
    ended = threading.Event()

    def act_on() -> None:
        while not ended.is_set():
            act()

    thread = threading.Thread(target=act_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bytes(cluster: Cluster, node: Any) -> float:
    client = node.client()
    return sum(client.memory_usage(key) for key in client.scan_iter(count=1000))


def test_stopped_in_the_middle_it_has_paused_within_two_seconds_and_goes_on_later(servers: Servers) -> None:
    cluster = start_cluster(servers)
    cluster.fill(range(0, SLOT_COUNT, 2), keys=40, size=200)
    before = cluster.data()
    with cluster.site.links() as links, Told(None) as told:
        run = Resharding(cluster.site.request, read_asked(asked(), cluster.site.request), links)
        ended: list[object] = []

        def reshard_it() -> None:
            try:
                ended.append(run.run(told))
            except SlotwrightError as error:
                ended.append(error)

        thread = threading.Thread(target=reshard_it)
        thread.start()
        while len(cluster.slots("d1")) < 200:
            time.sleep(0.01)
        begun = time.monotonic()
        told.stop.set()
        thread.join()
        assert time.monotonic() - begun < 2
    assert isinstance(ended[0], SlotwrightError) and ended[0].findings[0].code == "paused"
    assert cluster.open_slots() == []
    assert 200 <= len(cluster.slots("d1")) < 4096
    assert do(cluster.site, asked())["changed"]
    assert counts(cluster) == [4096] * 4
    assert cluster.data() == before


def test_a_pause_is_told_by_removing_the_file_of_the_progress_and_it_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    with Told({"path": str(path)}) as told:
        told.line("one")
        assert [json.loads(text)["line"] for text in path.read_text().splitlines()] == ["one"]
        assert not told.stop.wait(3 * LOOK_EVERY)
        path.unlink()
        assert told.stop.wait(10)
        told.line("two")
        assert not path.exists()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SlotwrightError, match="cannot write"), Told({"path": str(tmp_path / "no" / "where")}):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


# --- Half-migrated slots --------------------------------------------------------------------------------------------
# The first four are those of upstream's test of redis-cli's repair. Each: marks at a1 (who owns slot 100) and b1, and
# where the keys of it are.

HALVES: dict[str, tuple[str, str, int, int]] = {
    "migrating and importing, no key moved": ("MIGRATING", "IMPORTING", 10, 0),
    "migrating and importing, some keys moved": ("MIGRATING", "IMPORTING", 5, 5),
    "migrating and importing, all keys moved": ("MIGRATING", "IMPORTING", 0, 10),
    "only importing": ("", "IMPORTING", 10, 0),
    "only migrating": ("MIGRATING", "", 10, 0),
    "only importing, with keys": ("", "IMPORTING", 5, 5),
    "only migrating, with keys at the target": ("MIGRATING", "", 5, 5),
    "migrating and importing, no keys at all": ("MIGRATING", "IMPORTING", 0, 0),
    "only importing, all keys there": ("", "IMPORTING", 0, 10),
}


def test_half_migrated_slots_are_repaired(servers: Servers) -> None:
    cluster = start_cluster(servers, empty="")
    a1, b1 = cluster["a1"], cluster["b1"]
    slots = dict(zip(range(100, 100 + len(HALVES)), HALVES.values(), strict=True))
    expected = {}
    for slot, (source, target, kept, moved) in slots.items():
        b1.call("CLUSTER", "SETSLOT", slot, "IMPORTING", a1.id())
        for number in range(kept + moved):
            key = key_of(slot, number)
            expected[key] = f"value {number}"
            a1.client().set(key, expected[key])
        a1.call("CLUSTER", "SETSLOT", slot, "MIGRATING", b1.id())
        for number in range(moved):
            reply = a1.call("MIGRATE", b1.address, b1.port, key_of(slot, number), 0, 5000)
            assert reply in (b"OK", "OK", True)
        if not source:
            a1.call("CLUSTER", "SETSLOT", slot, "STABLE")
        if not target:
            b1.call("CLUSTER", "SETSLOT", slot, "STABLE")
    wait_settled(cluster.nodes, half_moved=True)
    before = counts_of(cluster)
    done = check_run_check_run(cluster.site, asked(state="repaired"))
    assert done["changed"]
    assert counts_of(cluster) == before  # each slot is back at its owner
    client = cluster.client()
    assert {key: client.get(key).decode() for key in expected} == expected  # type: ignore[union-attr]
    cluster.assert_whole()


def counts_of(cluster: Cluster) -> list[str]:
    return [str(cluster.slots(name)) for name in ("a1", "b1", "c1")]


def test_the_module_takes_these_arguments() -> None:
    assert not set(complete({})) & set(reshard.ASKED)
