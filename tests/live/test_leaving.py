"""Who is stated as removed is let go once it is gone, not before; and one that comes back is sent away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.core.steps import Remove
from slotwright.manager import converge as manager
from tests.live import changes
from tests.live.changes import CONFIG, KEYS, made
from tests.live.clusters import Site
from tests.live.servers import PORT, Servers, wait_until

LOOPBACK = "127.45"


def departed(site: Site, converge: Callable[[], manager.Outcome]) -> list[str]:
    """What the module returns as those that may be stopped."""
    return list(manager.result(site.request, converge())["departed"])


def of_a_dead_master(servers: Servers) -> Site:
    return next(changes.deaths(servers)).site


def of_a_dead_replica(servers: Servers) -> Site:
    site = made(servers)
    victim = next(name for name, role in site.roles().items() if role.master)
    site[victim].kill()
    return site.resized({f"{victim[0]}8:{PORT}": servers.start(config=CONFIG)}).without(victim)


@pytest.mark.parametrize("start", [of_a_dead_replica, of_a_dead_master])
def test_one_that_was_removed_dead_and_is_back_is_sent_away_by_one_run(
    start: Callable[[Servers], Site], servers: Servers
) -> None:
    site = start(servers)
    [leaver] = site.topology.leaving
    assert departed(site, site.converge) == [leaver.name]

    zombie = site[leaver.name]
    zombie.start_again()
    zombie.wait_ready()
    # A master hears that its slots have another owner, and follows that one.
    wait_until("it follows", lambda: zombie.call("ROLE")[0] == "slave", timeout=30)
    foretold = site.foresee().plan
    back = site.converge()
    assert back.plan == foretold
    assert [type(step) for step in back.plan.steps] == [Remove]
    assert manager.result(site.request, back)["departed"] == [leaver.name]
    assert zombie.call("DBSIZE") == 0
    assert not site.converge().changed
    assert site.those_that_stay().count() == KEYS


def test_a_member_that_is_stated_at_a_wrong_address_is_not_taken_for_gone(servers: Servers) -> None:
    site = made(servers).resized({f"c8:{PORT}": servers.start(config=CONFIG)}, shards=3)
    site.converge()
    leaver = f"c8:{PORT}"
    shrunk = site.without(leaver, shards=3)
    elsewhere = tuple(replace(i, address=servers.address()) for i in shrunk.topology.leaving)
    wrong = replace(shrunk, request=replace(shrunk.request, topology=replace(shrunk.topology, leaving=elsewhere)))
    assert departed(wrong, wrong.foresee) == []
    assert departed(shrunk, shrunk.converge) == [leaver]
