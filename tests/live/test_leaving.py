"""Who is stated as removed is let go once it is gone, not before; and one that comes back is sent away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slotwright.core.steps import MoveSlots, Remove
from slotwright.errors import Refused
from slotwright.link.apply import apply
from slotwright.manager import converge as manager
from tests.live import changes
from tests.live.changes import CONFIG, KEYS, made
from tests.live.clusters import Site
from tests.live.moves import Cluster
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


def test_one_that_died_in_its_own_slot_moves_and_is_back_after_it_was_forgotten_is_left_out(servers: Servers) -> None:
    """It stays a master: its slots went to several. Its open slots are nobody's matter any more."""
    site = made(servers, {"a": (1, 1), "b": (1, 1), "c": (1, 1), "d": (1, 1)})
    name = next(name for name, role in site.roles().items() if name[0] == "d" and not role.master)
    target = next(name for name, role in site.roles().items() if name[0] == "a" and not role.master)
    leaver = site[name]
    mine = next(iter(site.look().by_name[name].myself.slots))
    leaver.call("CLUSTER", "SETSLOT", mine, "MIGRATING", site[target].id())
    leaver.kill()
    shrunk = site.without("d1:7000", "d2:7000", shards=3)
    wait_until("a replica has taken over", lambda: not site.look().named_members[name].peer.slots)
    shrunk.converge()

    leaver.start_again()
    leaver.wait_ready()
    wait_until("it hears who has its slots", lambda: [n.name for n in shrunk.look().forgotten] == [name])
    assert f"[{mine}->-" in leaver.call("CLUSTER", "NODES")
    back = shrunk.converge()
    assert not back.changed
    said = manager.result(shrunk.request, back)
    assert sorted(said["departed"]) == ["d1:7000", "d2:7000"]
    assert [f["code"] for f in said["findings"] if f["where"].startswith(f"node {name}")] == ["forgotten", "has-left"]
    assert shrunk.those_that_stay().count() == KEYS
    leaver.kill()
    assert shrunk.errors() == []


def test_a_target_that_died_in_its_first_move_does_not_leave_with_what_it_had_got(servers: Servers) -> None:
    """It owned no slots yet, so that nobody takes over; its replica has a copy, which would be synced away."""
    site = made(servers).resized({f"{host}:{PORT}": servers.start(config=CONFIG) for host in ("a3", "d1")}, shards=4)
    slot = site.nodes[0].call("CLUSTER", "KEYSLOT", "key:0")
    with site.links() as links:
        start = manager.foresee(site.request, links)
        some = replace(start.plan, steps=tuple(s for s in start.plan.steps if not isinstance(s, MoveSlots)))
        apply(site.topology, start.before, some, links, timeout=30, report=lambda line: None)
    roles = site.roles()
    target = next(name for name, role in roles.items() if not role.master and not role.slots)
    owner = next(node.name for node in site.look().nodes if slot in node.myself.slots)
    follower = next(name for name, role in roles.items() if role.master == target)
    before = Cluster(site).data()
    site[target].call("CLUSTER", "SETSLOT", slot, "IMPORTING", site[owner].id())
    site[owner].call("CLUSTER", "SETSLOT", slot, "MIGRATING", site[target].id())
    keys = site[owner].call("CLUSTER", "GETKEYSINSLOT", slot, 10)
    site[owner].call("MIGRATE", site[target].address, PORT, "", 0, 5000, "KEYS", *keys)
    wait_until("its replica has them", lambda: site[follower].call("DBSIZE") == len(keys) > 0)
    site[target].kill()

    shrunk = site.without(target, shards=3)
    for run in (shrunk.foresee, shrunk.converge):
        with pytest.raises(Refused) as refused:
            run()
        assert [f.code for f in refused.value.findings] == ["leaver-has-keys"]
    site[follower].call("CLUSTER", "FAILOVER", "TAKEOVER")
    shrunk.converge()
    assert not shrunk.converge().changed
    left = shrunk.those_that_stay()
    assert Cluster(left).data() == before
    assert left.errors() == []


def test_a_member_that_is_stated_at_a_wrong_address_is_not_taken_for_gone(servers: Servers) -> None:
    site = made(servers).resized({f"c8:{PORT}": servers.start(config=CONFIG)}, shards=3)
    site.converge()
    leaver = f"c8:{PORT}"
    shrunk = site.without(leaver, shards=3)
    elsewhere = tuple(replace(i, address=servers.address()) for i in shrunk.topology.leaving)
    wrong = replace(shrunk, request=replace(shrunk.request, topology=replace(shrunk.topology, leaving=elsewhere)))
    assert departed(wrong, wrong.foresee) == []
    assert departed(shrunk, shrunk.converge) == [leaver]
