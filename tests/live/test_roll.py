"""Rolling restarts, upgrades and rollbacks of real servers, under load, cut off, and with what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from slotwright.errors import Refused, SlotwrightError
from slotwright.manager import configure, roll
from slotwright.manager.request import ARGUMENTS
from tests.live.machine import HostError, load
from tests.live.rolls import PORT, Fleet, fleet
from tests.live.servers import Server, Servers, wait_until
from tests.live.workload import Workload
from tests.playbooks.test_roles import _as_documented, _without_words

LOOPBACK = "127.56"
SIX = "a1 a2 b1 b2 c1 c2"
NINE = "a1 a2 a3 b1 b2 b3 c1 c2 c3"

Make = Callable[..., Fleet]


@pytest.fixture
def make(servers: Servers, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as closing:

        def made(hosts: str = SIX, *, replicas: int = 1, version: str = "7.0.15") -> Fleet:
            one = fleet(servers, tmp_path, hosts, replicas=replicas, version=version)
            closing.callback(one.close)
            one.create()
            return one

        yield made


def load_on(one: Fleet, **options: int) -> Workload:
    first = next(iter(one.machines.values()))
    return Workload(Server(first.address, PORT, first.directory, "", {}, None), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "asked"), [("redis_cluster_roll", roll.ASKED), ("redis_config", configure.ASKED)])
def test_the_documentation_of_the_modules_is_their_argument_spec(name: str, asked: dict[str, Any]) -> None:
    documented = yaml.safe_load(load(f"modules/{name}.py").DOCUMENTATION)["options"]
    assert _as_documented({k: v for k, v in asked.items() if k != "progress"}) == _without_words(documented)
    assert not set(asked) & set(ARGUMENTS)


def zones(hosts: set[str]) -> list[str]:
    return sorted(host[0] for host in hosts)


def restarts(turns: list[roll.Turn]) -> list[tuple[str, ...]]:
    return [turn.wave.restarts for turn in turns if turn.wave]


def test_a_configuration_that_needs_a_restart_comes_in_four_waves_and_no_client_sees_an_error(
    make: Make, tried: Callable[[str], None]
) -> None:
    one = make()
    masters = one.masters()
    ids = {n.name: n.run_id for n in one.look().nodes}
    one.config["io-threads"] = 2
    with load_on(one, writers=3) as load:
        turns = one.roll("restart")
    load.assert_kept()
    assert load.errors == []
    tried(f"{len(turns) - 1} waves: {load.describe()}")
    assert len(restarts(turns)) == 4
    assert sorted(name for wave in restarts(turns) for name in wave) == sorted(ids)
    assert all(n.run_id != ids[n.name] for n in one.look().nodes)
    assert zones(one.masters()) == zones(masters), "the roles are not back"
    assert one.roll("restart") == []


def test_an_upgrade_stops_at_the_point_of_no_return_goes_back_and_forward(
    make: Make, tried: Callable[[str], None]
) -> None:
    one = make()
    masters = one.masters()
    with load_on(one, writers=3) as load:
        one.state("8.0.2")
        turns = one.roll("upgrade")
        canary = restarts(turns)[0]
        assert [turn.canary for turn in turns[:3]] == [True, True, False]
        assert restarts(turns)[:2] == [canary] * 2 and len(canary) == 1
        assert turns[-1].held
        versions = one.versions()
        assert {versions[host] for host in masters} == {"7.0.15"}
        assert {version for host, version in versions.items() if host not in masters} == {"8.0.2"}
        assert one.roll("upgrade")[-1].held, "it does not stay there"
        assert one.versions() == versions

        one.state("7.0.15")
        one.roll("rollback")
        assert set(one.versions().values()) == {"7.0.15"}

        one.state("8.0.2")
        one.roll("upgrade", commit=True)
        assert set(one.versions().values()) == {"8.0.2"}
        assert zones(one.masters()) == zones(masters)
        one.state("7.0.15")
        with pytest.raises(Refused, match="the point of no return has been passed"):
            one.roll("rollback")
        assert set(one.versions().values()) == {"8.0.2"}
    load.assert_kept()
    assert load.errors == []
    tried(f"7.0.15 to 8.0.2, back, and again: {load.describe()}")


@pytest.mark.soak  # two minutes
@pytest.mark.parametrize("path", [("6.2.14", "7.0.15", "8.0.2"), ("valkey-8.0.1", "valkey-9.1.2")])
def test_nine_nodes_in_three_zones_go_from_version_to_version_and_nothing_is_lost(
    make: Make, path: tuple[str, ...], tried: Callable[[str], None]
) -> None:
    one = make(NINE, replicas=2, version=path[0])
    masters = one.masters()
    with load_on(one, writers=4) as load:
        for version in path[1:]:
            one.state(version)
            turns = one.roll("upgrade", commit=True)
            assert not turns[-1].held
            assert set(one.versions().values()) == {version.rpartition("-")[2]}
            assert zones(one.masters()) == zones(masters)
    load.assert_kept()
    assert load.errors == []
    tried(f"{' to '.join(path)}: {load.describe()}")


@pytest.mark.soak  # a minute
def test_cut_off_after_any_wave_another_run_goes_on(make: Make) -> None:
    """Each run does one wave, and dies before it has seen whether all is well."""
    one = make()
    masters = one.masters()
    one.state("8.0.2")
    seen: list[int] = []
    for _ in range(20):
        turns = one.roll("upgrade", commit=True, most_turns=1)
        seen.append(list(one.versions().values()).count("8.0.2"))
        if not turns or turns[-1].wave is None:
            break
    # A run of its own proves the canary anew, until a second replica has the new version.
    assert seen[0] == 1 and max(seen) == 1, seen
    one.roll("upgrade", commit=True, most_turns=3)
    for _ in range(8):
        turns = one.roll("upgrade", commit=True, most_turns=1)
    assert set(one.versions().values()) == {"8.0.2"}
    assert one.roll("upgrade") == []
    one.roll("restart")
    assert len(one.masters()) == len(masters)


def test_a_version_that_does_not_take_its_redis_conf_stops_it_before_anything_is_stopped(make: Make) -> None:
    one = make()
    one.config["list-max-ziplist-size"] = "-2"
    one.state("8.0.2")
    one.config["slave-announced-by-nobody"] = "yes"
    ids = {n.name: n.run_id for n in one.look().nodes}
    with pytest.raises(HostError) as refused:
        one.roll("upgrade")
    assert refused.value.finding["code"] == "conf-refused"
    assert {n.name: n.run_id for n in one.look().nodes} == ids
    del one.config["slave-announced-by-nobody"]
    assert one.roll("upgrade")[-1].held


def test_a_replica_that_does_not_get_in_sync_stops_it_at_the_gate_and_the_cluster_serves(make: Make) -> None:
    one = make()
    one.timeout = 5.0
    one.config["io-threads"] = 2
    broken: list[str] = []

    def no_link(turn: roll.Turn) -> None:
        """As a password that only half of the nodes know would do."""
        if not broken and turn.wave:
            broken.append(turn.wave.restarts[0].partition(":")[0])
            one.machines[broken[0]].call("CONFIG", "SET", "masterauth", "wrong", "masteruser", "nobody")
            one.machines[broken[0]].call("CLIENT", "KILL", "TYPE", "master")

    with load_on(one) as load:
        with pytest.raises(SlotwrightError) as stopped:
            one.roll("restart", then=no_link)
        assert "healthy before the next one goes down" in str(stopped.value)
        assert f"not in sync: {broken[0]}:{PORT}" in str(stopped.value)
        one.machines[broken[0]].call("CONFIG", "SET", "masterauth", "", "masteruser", "")
        one.timeout = 60.0
        one.roll("restart")
    load.assert_kept()
    assert load.errors == []
    assert one.roll("restart") == []


def test_a_master_that_does_not_hand_over_stops_it_and_is_not_restarted(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make()
    one.config["io-threads"] = 2
    ids = {n.name: n.run_id for n in one.look().nodes}
    masters = one.masters()
    for host in one.machines:  # a failover that nobody carries out
        one.machines[host].call("ACL", "SETUSER", "default", "-cluster|failover")
    with load_on(one) as load, pytest.raises((Refused, SlotwrightError)) as stopped:
        one.roll("restart")
    assert "failover" in str(stopped.value).lower()
    load.assert_kept()
    assert load.errors == []
    assert one.masters() == masters
    now = {n.name: n.run_id for n in one.look().nodes}
    assert {name.partition(":")[0] for name in ids if ids[name] != now[name]}.isdisjoint(masters)
    for host in one.machines:
        one.machines[host].call("ACL", "SETUSER", "default", "+cluster|failover")
    one.roll("restart")
    wait_until("all are restarted", lambda: one.roll("restart") == [])
