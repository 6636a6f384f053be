"""Hosts and zones are emptied of masters and restored, with nothing lost; and what is done when masters are dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.core.steps import Failover
from slotwright.errors import Refused
from slotwright.link.lock import Lock, Locked
from slotwright.manager import handover
from slotwright.manager.converge import Outcome
from slotwright.manager.handover import Asked, sentence
from tests.conftest import SOAK
from tests.live.clusters import Site, start_site, without_haste
from tests.live.doomed_handover import Doom
from tests.live.servers import Monitor, Servers, layout, wait_until
from tests.live.workload import Workload

LOOPBACK = "127.44"
KEYS = 1000


def start_cluster(servers: Servers, zones: dict[str, tuple[int, ...]] | None = None, **options: object) -> Site:
    site = start_site(
        servers,
        zones or {"a": (1, 1), "b": (1, 1), "c": (1, 1)},
        config={"cluster-node-timeout": 1000},
        timeout=20.0,
        **options,  # type: ignore[arg-type]
    )
    site = site.with_settings({"cluster-node-timeout": "1000"})
    site.converge()
    without_haste(site)
    return site


def foresee(site: Site, asked: Asked) -> Outcome:
    with site.links() as links:
        return handover.foresee(site.request, asked, links)


def hand_over(site: Site, asked: Asked) -> Outcome:
    with site.links() as links:
        return handover.hand_over(site.request, asked, links, lambda line: None)


def refused(site: Site, asked: Asked) -> Refused:
    with pytest.raises(Refused) as error:
        hand_over(site, asked)
    with pytest.raises(Refused) as foretold:
        foresee(site, asked)
    assert [f.code for f in foretold.value.findings] == [f.code for f in error.value.findings]
    return error.value


def masters(site: Site) -> list[str]:
    return sorted({role.master for role in site.roles().values() if role.master})


def replica_of(site: Site, master: str) -> str:
    return next(name for name, role in site.roles().items() if role.master == master)


def living(site: Site) -> Site:
    """Only the servers that live."""
    return replace(site, servers={name: node for name, node in site.servers.items() if node.alive})


def owners(site: Site) -> dict[str, str]:
    """By name who owns which slots, as those say that live."""
    view = site.look()
    return {view.name_of(node_id): str(slots) for node_id, slots in view.owners.items()}


def told_dead(site: Site, observer: str, *victims: str) -> bool:
    lines = site[observer].call("CLUSTER", "NODES").splitlines()
    return all(any(site[v].name in line and "fail" in line.split()[2] for line in lines) for v in victims)


# --- Maintenance ----------------------------------------------------------------------------------------------------


def test_a_host_and_a_zone_are_emptied_stopped_and_restored_under_load_and_nothing_acknowledged_is_lost(
    servers: Servers, tried: Callable[[str], None]
) -> None:
    site = start_cluster(servers)
    first = site.roles()
    one = masters(site)[0]
    failovers = 0
    asked_of = next(node for name, node in site.servers.items() if name[0] != one[0])
    with Workload(asked_of, writers=2, readers=2) as load:
        for word in (one.partition(":")[0], one[0]):
            asked = Asked(empty=(word,))
            foreseen = foresee(site, asked)
            done = hand_over(site, asked)
            assert done.plan.steps == foreseen.plan.steps != ()
            assert {f.code for f in done.findings} == {f.code for f in foreseen.findings}
            assert not [name for name in masters(site) if name.startswith(word)]
            said = handover.result(site.request, asked, done)
            assert said["may_be_stopped"] is True
            assert said["stop_text"].startswith(f"{word} may be stopped: no master is there")
            assert not hand_over(site, asked).changed

            if word == one[0]:
                for name in said["emptied"]:
                    site[name].stop()
                time.sleep(0.5)
                for name in said["emptied"]:
                    site[name].restart()
                site.wait_quiet()
            else:  # masters vote for a shard only once in two node timeouts; its writes would wait for the next vote
                time.sleep(2)

            back = Asked(restore=True)
            foreseen = foresee(site, back)
            assert hand_over(site, back).plan.steps == foreseen.plan.steps != ()
            assert site.roles() == first
            assert not hand_over(site, back).changed
            failovers += len(done.plan.steps) + len(foreseen.plan.steps)
    tried(f"{failovers} failovers: {load.describe()}")
    load.assert_kept()
    assert load.errors == []
    assert not site.converge().changed
    assert not site.errors()


def test_a_replica_by_name_takes_over_and_a_second_run_sends_no_command_that_changes_anything(servers: Servers) -> None:
    site = start_cluster(servers)
    one = masters(site)[0]
    replica = replica_of(site, one)
    asked = Asked(promote=(replica,))
    assert hand_over(site, asked).plan.steps == (Failover(replica),)
    assert site.roles()[one].master == replica
    with Monitor(site.nodes) as watch:
        assert not hand_over(site, asked).changed
        assert foresee(site, Asked(promote=(one,))).changed
    assert watch.commands, "nothing was watched"
    assert watch.mutating == []


@pytest.mark.soak
def test_with_two_replicas_the_masters_of_a_zone_go_to_both_other_zones(servers: Servers) -> None:
    site = start_cluster(servers, {"a": (1, 1, 1, 1, 1), "b": (1, 1, 1, 1, 1), "c": (1, 1, 1, 1, 1)}, replicas=2)
    zone = max("abc", key=lambda z: sum(name[0] == z for name in masters(site)))
    done = hand_over(site, Asked(empty=(zone,)))
    assert len(done.plan.steps) == 2
    counts = sorted(sum(name[0] == z for name in masters(site)) for z in "abc")
    assert counts == [0, 2, 3]
    survivors = {
        row["lost"]: row["survives"] for row in handover.result(site.request, Asked((zone,)), done)["survival"]
    }
    assert survivors[zone] is True


def test_a_zone_without_a_replica_in_sync_outside_is_refused_and_nothing_is_touched(servers: Servers) -> None:
    site = start_cluster(servers)
    one, two, _ = masters(site)
    lost = replica_of(site, one)
    site[lost].kill()
    asked = Asked(empty=(one, two))
    before = owners(site)
    with Monitor([node for node in site.nodes if node.alive]) as watch:
        error = refused(site, asked)
    assert [f.code for f in error.findings] == ["no-replica-in-sync"]
    assert f"node {one}" in str(error) and f"{lost} does not answer" in str(error) and "Start it" in str(error)
    assert watch.mutating == []
    assert owners(site) == before
    assert hand_over(site, Asked(empty=(two,))).changed  # another shard's trouble is no reason to wait


@pytest.mark.soak
def test_a_replica_elsewhere_that_gets_no_link_holds_nothing_up(servers: Servers) -> None:
    site = start_cluster(servers)
    one, two, _ = masters(site)
    broken = replica_of(site, one)
    site[broken].call("CONFIG", "SET", "masterauth", "wrong")
    site[one].call("CONFIG", "SET", "requirepass", "other")
    site[one].call("CLIENT", "KILL", "TYPE", "replica")
    wait_until("its link is down", lambda: "master_link_status:down" in site[broken].call("INFO", "replication"))
    site[one].call("CONFIG", "SET", "requirepass", "")
    site[broken].call("CONFIG", "SET", "masteruser", "nobody")
    site = site.patient(2)
    assert hand_over(site, Asked(empty=(two,))).changed
    assert [f.code for f in refused(site, Asked(empty=(one,))).findings] == ["no-replica-in-sync"]


@pytest.mark.soak
def test_while_another_controller_is_at_work_nothing_is_done(servers: Servers) -> None:
    site = start_cluster(servers)
    before = site.roles()
    with site.links() as links:
        links.open()
        with Lock(links, links.up), pytest.raises(Locked):
            hand_over(site, Asked(empty=(masters(site)[0],)))
    assert site.roles() == before


# --- Killed ---------------------------------------------------------------------------------------------------------


def test_killed_between_any_two_failovers_one_run_does_just_the_rest(
    servers: Servers, tried: Callable[[str], None]
) -> None:
    site = start_cluster(servers)
    site.fill(KEYS)
    points = 0
    rounds = [("verified", k) for k in range(4)] + [("sent", k) for k in range(1, 4)]
    for event, number in rounds if SOAK else [("verified", 1), ("sent", 2)]:
        all_of_them = tuple(masters(site))
        asked = Asked(empty=all_of_them)
        steps = foresee(site, asked).plan.steps
        assert len(steps) == 3
        assert Doom(site.request, asked, number, event).run() == -signal.SIGKILL  # type: ignore[arg-type]
        done = hand_over(site, asked)
        assert done.plan.steps == steps[number:]
        assert not set(all_of_them) & set(masters(site))
        assert not hand_over(site, asked).changed
        assert site.count() == KEYS
        points += 1
    assert Doom(site.request, Asked(empty=tuple(masters(site))), 4).run() == 0  # there is no later point
    tried(f"{points} kill -9 of a controller between failovers: one run each did the rest")


# --- Dead masters ---------------------------------------------------------------------------------------------------


def test_force_wants_words_and_then_the_replica_of_a_dead_master_takes_over(servers: Servers) -> None:
    site = start_cluster(servers)
    site.fill(KEYS)
    for node in site.nodes:  # else Redis would do it before we can
        node.call("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    one, *others = masters(site)
    replica = replica_of(site, one)
    keys = site[one].call("DBSIZE")
    wait_until("the replica has all", lambda: site[replica].call("DBSIZE") == keys)
    site[one].kill()
    wait_until("the others see it", lambda: told_dead(site, others[0], one) and told_dead(site, replica, one))
    assert [f.code for f in refused(site, Asked(empty=(one,))).findings] == ["master-silent"]

    asked = Asked(empty=(one,), mode="force")
    error = refused(site, asked)
    assert [f.code for f in error.findings] == ["not-confirmed"]
    words = sentence(site.request, "force")
    assert words == "may lose acknowledged writes of test"
    assert words in str(error)
    assert f"{one} does not answer; {replica} last heard from {one} " in str(error)
    assert "what was acknowledged after that is lost" in str(error)
    assert [f.code for f in refused(site, replace(asked, confirm=words.upper())).findings] == ["not-confirmed"]
    assert site[replica].call("ROLE")[0] == "slave"

    done = hand_over(site, replace(asked, confirm=words))
    assert done.plan.steps == (Failover(replica, "force"),)
    assert site[replica].call("ROLE")[0] == "master"
    assert site.count() == KEYS
    assert not hand_over(site, replace(asked, confirm=words)).changed
    site[one].restart()
    wait_until("the old master follows", lambda: site.roles()[one].master == replica)


def test_a_zone_that_burns_with_the_majority_is_taken_over_and_comes_back_as_replicas(
    servers: Servers, tried: Callable[[str], None]
) -> None:
    site = start_cluster(servers)
    zone = masters(site)[0][0]
    hand_over(site, Asked(empty=(zone,)))  # so that one of the two others has the majority of the masters
    [burning] = [z for z in "abc" if sum(name[0] == z for name in masters(site)) == 2]
    one, two, three = sorted(masters(site), key=lambda name: name[0] != burning)
    site.fill(KEYS)
    wait_until("the replicas have all", lambda: sum(n.call("DBSIZE") for n in site.nodes) == 2 * KEYS)
    heirs = [replica_of(site, one), replica_of(site, two)]
    for name in (one, two):
        site[name].kill()
    wait_until("the rest says fail", lambda: "cluster_state:fail" in site[three].call("CLUSTER", "INFO"))
    burnt = Asked(empty=(burning,))
    assert {f.code for f in refused(site, burnt).findings} == {"no-majority"}
    assert {f.code for f in refused(site, replace(burnt, mode="force")).findings} == {"no-majority"}

    asked = replace(burnt, mode="takeover")
    error = refused(site, asked)
    assert "may lose acknowledged writes of test and split it" in str(error)
    assert "both sides take writes" in str(error)
    assert "1 masters answer and see each other, 2 are needed" in str(error)
    assert [f.code for f in refused(site, replace(asked, confirm=sentence(site.request, "force"))).findings] == [
        "not-confirmed"
    ]

    asked = replace(asked, confirm=sentence(site.request, "takeover"))
    foreseen = foresee(site, asked)
    begun = time.monotonic()
    done = hand_over(site, asked)
    tried(f"majority dead: {len(done.plan.steps)} taken over, all served after {time.monotonic() - begun:.1f} s")
    assert done.plan.steps == foreseen.plan.steps
    assert set(done.plan.steps) == {Failover(name, "takeover") for name in heirs}
    rest = living(site)
    assert all("cluster_state:ok" in node.call("CLUSTER", "INFO") for node in rest.nodes)
    assert rest.count() == KEYS
    rest.fill(KEYS)
    epochs = [line.split()[4] for line in layout(site[three]) if line.split()[5:]]
    assert len(epochs) == len(set(epochs)) == 3, epochs
    assert not hand_over(site, asked).changed

    for name in (one, two):
        site[name].restart()
    wait_until("the old masters follow", lambda: [site.roles()[n].master for n in (one, two)] == heirs)
    wait_until("all is well but for the zones", lambda: not [e for e in site.errors() if "must not be lost" not in e])
    assert site.count() == KEYS
    hand_over(site, Asked(restore=True))
    assert not site.converge().changed
    assert not site.errors()


@pytest.mark.soak
def test_killed_between_two_takeovers_one_run_does_the_rest(servers: Servers) -> None:
    site = start_cluster(servers)
    site.fill(KEYS)
    for node in site.nodes:  # else Redis would do the rest by itself, once it has a majority again
        node.call("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    one, two, three = masters(site)
    wait_until("the replicas have all", lambda: sum(n.call("DBSIZE") for n in site.nodes) == 2 * KEYS)
    for name in (one, two):
        site[name].kill()
    wait_until("the rest says fail", lambda: "cluster_state:fail" in site[three].call("CLUSTER", "INFO"))
    asked = Asked(empty=(one, two), mode="takeover", confirm=sentence(site.request, "takeover"))
    steps = foresee(site, asked).plan.steps
    assert Doom(site.request, asked, 1, "sent").run() == -signal.SIGKILL
    assert hand_over(site, asked).plan.steps == steps[1:]
    assert living(site).count() == KEYS
    assert not hand_over(site, asked).changed


@pytest.mark.soak
def test_of_two_replicas_of_a_dead_master_the_one_with_more_data_takes_over(servers: Servers) -> None:
    site = start_cluster(servers, {"a": (1, 1, 1), "b": (1, 1, 1), "c": (1, 1, 1)}, replicas=2)
    for node in site.nodes:
        node.call("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    one = masters(site)[0]
    poor, rich = sorted(name for name, role in site.roles().items() if role.master == one)
    site[poor].pause()
    site[one].call("CLIENT", "KILL", "TYPE", "replica")
    wait_until("the other one has a link again", lambda: "state=online" in site[one].call("INFO", "replication"))
    site.fill(KEYS)
    at = site[one].call("ROLE")[1]
    wait_until("it has all", lambda: site[rich].call("ROLE")[4] >= at)
    site[one].kill()
    site[poor].resume()
    wait_until("its link is down", lambda: "master_link_status:down" in site[poor].call("INFO", "replication"))
    asked = Asked(empty=(one,), mode="force", confirm=sentence(site.request, "force"))
    assert hand_over(site, asked).plan.steps == (Failover(rich, "force"),)
    assert site.count() == KEYS
