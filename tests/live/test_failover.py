"""Handing a master over to its replica loses nothing; and what else becomes of replicas, and of function libraries."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from slotwright.core.plan import Plan
from slotwright.core.steps import Failover, LoadFunctions, Replicate, Step
from slotwright.core.view import ClusterView
from slotwright.errors import SlotwrightError
from slotwright.link.apply import apply
from slotwright.link.failover import fail_over
from slotwright.link.functions import load
from tests.live.clusters import Site, start_site, without_haste
from tests.live.moves import key_of
from tests.live.servers import Servers, wait_settled, wait_until
from tests.live.workload import Workload

LOOPBACK = "127.41"
LIBRARY = "#!lua name={0}\nredis.register_function('{0}_f', function(keys, args) return {1} end)"


def start_cluster(servers: Servers, timeout: float = 20.0) -> Site:
    site = start_site(servers, config={"cluster-node-timeout": 1000}, timeout=timeout)
    site = site.with_settings({"cluster-node-timeout": "1000"})
    site.converge()
    without_haste(site)
    return site


def do(site: Site, *steps: Step, told: list[str] | None = None) -> ClusterView:
    lines = [] if told is None else told
    with site.links() as links:
        wait = site.request.timeout
        return apply(site.topology, site.look(), Plan(steps), links, timeout=wait, report=lines.append)


def a_replica_and_its_master(site: Site) -> tuple[str, str]:
    return next((name, role.master) for name, role in site.roles().items() if role.master)


# --- Failover -------------------------------------------------------------------------------------------------------


def test_under_load_nothing_acknowledged_is_lost_and_all_nodes_see_it(
    servers: Servers, tried: Callable[[str], None]
) -> None:
    site = start_cluster(servers)
    pairs = [(name, role.master) for name, role in site.roles().items() if role.master]
    with Workload(site.nodes[0], writers=3, readers=2) as load:
        time.sleep(0.5)
        do(site, *(Failover(replica) for replica, _ in pairs))
        time.sleep(0.5)
    tried(f"{len(pairs)} failovers: {load.describe()}")
    load.assert_kept()
    assert load.errors == []
    roles = site.roles()
    assert dict(pairs) == {role.master: name for name, role in roles.items() if role.master}
    assert not site.errors()


def test_a_master_is_handed_over_and_back_although_the_others_vote_only_once_in_a_while(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    before = site.roles()
    told: list[str] = []
    do(site, Failover(replica), told=told)
    do(site, Failover(master), told=told)
    assert site.roles() == before
    assert all("done in" in line or "again in 2 s" in line or "waits" in line for line in told), told


def test_who_takes_over_again_at_once_is_elected_anew(servers: Servers) -> None:
    """Else votes for the first failover count again: two masters, one with an old config epoch, until gossip ends it.

    What is acknowledged by that one meanwhile is lost.
    """
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    told: list[str] = []
    for node in site.nodes:
        node.call("CONFIG", "SET", "cluster-node-timeout", 3000)  # votes count for twice that
    with Workload(site.nodes[0]) as load:
        for name in (replica, master, replica):
            do(site, Failover(name), told=told)
    load.assert_kept()
    assert load.errors == []
    log = (site[replica].dir / "redis.log").read_text()
    assert log.count("Starting a failover election") == log.count("Failover election won") == 2
    assert sum("waits" in line for line in told) == 1, told


def test_a_replica_that_is_not_in_sync_does_not_take_over(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    before, view = site.roles(), site.look()
    site[replica].call("CONFIG", "SET", "masterauth", "wrong")
    site[master].call("CONFIG", "SET", "requirepass", "other")
    site[master].call("CLIENT", "KILL", "TYPE", "replica")
    wait_until("its link is down", lambda: "master_link_status:down" in site[replica].call("INFO", "replication"))
    site[master].call("CONFIG", "SET", "requirepass", "")
    with site.links() as links, pytest.raises(SlotwrightError, match="its link is") as refused:
        fail_over(Failover(replica), view, links, timeout=0.0, report=print)
    assert refused.value.findings[0].code == "not-in-sync"
    assert site.roles() == before


def test_without_a_master_that_answers_a_failover_is_refused_and_says_why(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    view = site.look()
    site[master].pause()
    with site.links() as links, pytest.raises(SlotwrightError, match="no master, or does not answer"):
        fail_over(Failover(replica), view, links, timeout=0.5, report=print)
    site[master].resume()
    wait_settled(site.nodes)


# --- Replicas that get another master -------------------------------------------------------------------------------


def test_two_replicas_change_places_one_after_the_other(servers: Servers) -> None:
    """At no moment are both out of sync. Each sync takes a second, so that the two would meet."""
    site = start_cluster(servers)
    site.fill(2000)
    (one, first), (other, second) = [(n, r.master) for n, r in site.roles().items() if r.master][:2]
    for name in (first, second):
        site[name].call("CONFIG", "SET", "rdb-key-save-delay", 1500)  # microseconds, for each of about 670 keys
        site[name].call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    copies: list[int] = []
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.05):
            copies.append(sum("master_link_status:up" in site[n].call("INFO", "replication") for n in (one, other)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    do(site, Replicate(one, second), Replicate(other, first))
    end.set()
    watcher.join()
    assert min(copies) == 1
    roles = site.roles()
    assert (roles[one].master, roles[other].master) == (second, first)
    assert site.count() == 2000


def test_a_large_first_sync_is_waited_for_as_long_as_it_comes_nearer(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    other = next(r.master for r in site.roles().values() if r.master not in ("", master))
    slot = next(iter(site.look().by_name[other].myself.slots))
    for number in range(200):
        site[other].call("SET", key_of(slot, number), os.urandom(40_000))
    site[other].call("CONFIG", "SET", "rdb-key-save-delay", 20_000)  # microseconds: 4 s in all
    site[other].call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    begun = time.monotonic()
    do(site.patient(2), Replicate(replica, other))
    assert time.monotonic() - begun > 3
    assert site.roles()[replica].master == other


# --- Functions ------------------------------------------------------------------------------------------------------


def test_a_new_master_gets_the_libraries_of_another_one_and_keeps_its_own(servers: Servers) -> None:
    site = start_cluster(servers)
    source, target = sorted({role.master for role in site.roles().values() if role.master})[:2]
    for name in ("alpha", "beta"):
        site[source].call("FUNCTION", "LOAD", LIBRARY.format(name, 2))
    site[target].call("FUNCTION", "LOAD", LIBRARY.format("beta", 1))
    site[target].call("FUNCTION", "LOAD", LIBRARY.format("own", 1))
    assert site.look().by_name[source].functions == ("alpha", "beta")
    with site.links() as links:
        load([LoadFunctions(target, source)], links)
        load([LoadFunctions(target, source)], links)
    assert site.look().by_name[target].functions == ("alpha", "beta", "own")
    assert site[target].call("FCALL", "beta_f", 0) == 2
