"""One controller at a time, and none that is dead in the way of the next."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from slotwright.errors import SlotwrightError
from slotwright.link import lock
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.link.lock import Lock, Locked
from tests.live.clusters import ACCESS, site_of, start_site
from tests.live.servers import ROOT, Monitor, Server, Servers

LOOPBACK = "127.41"
HOLD = """
import pickle, sys, time
from slotwright.link.connect import Links
from slotwright.link.lock import Lock
instances, access = pickle.load(sys.stdin.buffer)
with Links(instances, access) as links, Lock(links, [i.name for i in instances]):
    print("held", flush=True)
    time.sleep(600)
"""


def links_to(nodes: Sequence[Server], access: Access = ACCESS) -> tuple[Links, list[str]]:
    site = site_of({f"{zone}1:7000": node for zone, node in zip("abcdef", nodes, strict=False)}, access=access)
    return Links(site.topology.instances, access), [i.name for i in site.topology.instances]


def hold(nodes: Sequence[Server]) -> subprocess.Popen[bytes]:
    """A controller of its own which holds the lock."""
    site = site_of({f"{zone}1:7000": node for zone, node in zip("abcdef", nodes, strict=False)})
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin and process.stdout
    with process.stdin as stdin:
        pickle.dump((site.topology.instances, ACCESS), stdin)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_controller_is_told_who_is_at_work_and_a_killed_one_is_in_nobodys_way(servers: Servers) -> None:
    """On blank nodes, which are no cluster yet."""
    nodes = servers.start_many(3)
    process = hold(nodes)
    links, names = links_to(nodes)
    with links:
        with pytest.raises(Locked) as locked, Lock(links, names):
            raise AssertionError("two hold the lock")
        assert f"process {process.pid} " in str(locked.value).replace(",", " ").replace("(", " ")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        with Lock(links, names) as held:
            held.prove()


def test_they_meet_even_if_they_reach_one_node_only_in_common(servers: Servers) -> None:
    nodes = servers.start_many(3)
    first, names = links_to(nodes[:2])
    second, others = links_to(nodes[1:])
    with first, second, Lock(first, names), pytest.raises(Locked), Lock(second, others):
        raise AssertionError("two hold the lock")


def test_nodes_that_do_not_answer_are_left_out(servers: Servers) -> None:
    nodes = servers.start_many(3)
    nodes[0].kill()
    links, names = links_to(nodes)
    with links, Lock(links, names) as held:
        held.prove()


def test_of_many_at_the_same_time_never_two_hold_it_and_all_get_it_in_the_end(servers: Servers) -> None:
    nodes = servers.start_many(2)
    inside, most, wrong = 0, 0, []
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        links, names = links_to(nodes)
        deadline = time.monotonic() + 60
        with links:
            while time.monotonic() < deadline:
                try:
                    with Lock(links, names):
                        with guard:
                            inside += 1
                            most = max(most, inside)
                        time.sleep(0.05)
                        with guard:
                            inside -= 1
                        return
                except Locked:
                    continue
        wrong.append("never got it")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, wrong) == (1, [])


def test_a_holder_that_nobody_hears_of_any_more_loses_it_and_knows(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a host does that has lost its power: its connections stay."""
    monkeypatch.setattr(lock, "LEASE", 2.0)
    monkeypatch.setattr(lock, "BEAT", 0.5)
    nodes = servers.start_many(2)
    process = hold(nodes)
    links, names = links_to(nodes)
    with links:
        process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        while True:
            try:
                with Lock(links, names):
                    break
            except Locked:
                assert time.monotonic() - begun < 30
        process.kill()
        process.wait(10)
        with Lock(links, names) as held:
            held._end.set()
            held._heart.join()
            time.sleep(2)
            with pytest.raises(SlotwrightError, match="another one may have begun"):
                held.prove()


def test_a_user_who_may_not_see_other_clients_is_told_what_to_allow(servers: Servers) -> None:
    node = servers.start(config={"user": ["watcher on >secret -@all +ping +info +client|setname"]})
    links, names = links_to([node], Access("watcher", "secret", connect_timeout=2.0))
    with links, pytest.raises(SlotwrightError, match=r"\+client\|list"), Lock(links, names):
        raise AssertionError("the lock cannot be known to be ours")


def test_while_another_controller_holds_it_a_run_changes_nothing_and_looking_is_free(servers: Servers) -> None:
    site = start_site(servers)
    process = hold(site.nodes)
    with Monitor(site.nodes) as monitor:
        assert site.foresee().plan.steps
        with pytest.raises(Locked):
            site.converge()
    assert monitor.mutating == []
    process.kill()
    process.wait(10)
    assert site.converge().changed
    process = hold(site.nodes)
    assert not site.converge().changed, "where nothing is to be done, nothing is locked"
    process.kill()
    process.wait(10)
