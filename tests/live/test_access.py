"""The Redis permissions that docs/access.md lists are enough, each is needed, and lacking ones are found out first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slotwright.core.repairs import Acquaint, Adopt, Announce, BringKeys, Close, Disclaim, Forget, Takeover
from slotwright.core.slots import Slots
from slotwright.core.steps import Configure
from slotwright.errors import Refused
from slotwright.link.access import Access
from slotwright.link.commands import refused_commands
from slotwright.link.mend import needed
from slotwright.link.observe import observe
from slotwright.manager import fix
from tests.live.clusters import Site, start_site
from tests.live.moves import key_of
from tests.live.servers import Servers, wait_until

LOOPBACK = "127.28"
DOCUMENT = Path(__file__).parents[2] / "docs/access.md"
RULES = re.search(r"ACL SETUSER slotwright (.+)", DOCUMENT.read_text())[1].split()  # type: ignore[index]
CHANGES = ["config|set", "cluster|meet", "cluster|addslotsrange", "cluster|set-config-epoch", "cluster|replicate"]


def site_with_user(servers: Servers, rules: list[str]) -> Site:
    site = start_site(servers, access=Access("slotwright", "secret", connect_timeout=2.0))
    for node in site.nodes:
        node.call("ACL", "SETUSER", "slotwright", *rules)
    return site


def test_the_documented_user_can_look_and_create(servers: Servers) -> None:
    site = site_with_user(servers, RULES)
    assert site.converge().changed
    wait_until("redis_cluster_info finds nothing wrong", lambda: not site.errors(), timeout=10)
    assert not site.converge().changed


@pytest.mark.parametrize("command", CHANGES)
def test_a_user_that_lacks_one_command_is_refused_before_the_first_change(servers: Servers, command: str) -> None:
    site = site_with_user(servers, [*RULES, "+acl|whoami", "+acl|dryrun", f"-{command}"])
    before = [node.call("CLUSTER", "INFO") for node in site.nodes]
    with pytest.raises(Refused) as refused:
        site.converge()
    assert {f.code for f in refused.value.findings} == {"not-allowed"}
    assert all(f"+{command}" in f.remedy for f in refused.value.findings)
    assert [node.call("CLUSTER", "INFO") for node in site.nodes] == before


def test_a_user_that_may_not_ask_for_settings_creates_without_hurry(servers: Servers) -> None:
    rules = [r for r in RULES if r not in ("+config|get", "+config|set")]
    site = site_with_user(servers, rules)
    assert not any(isinstance(step, Configure) for step in site.foresee().plan.steps)


REPAIRS = {
    "config|set": Announce("a1:7000", "127.0.0.1", 7000),
    "cluster|meet": Acquaint("a1:7000", ("b1:7000",)),
    "cluster|forget": Forget("a1:7000", "f" * 40),
    "cluster|failover": Takeover("a1:7000", "b1:7000"),
    "cluster|bumpepoch": Adopt("a1:7000", Slots.of([5])),
    "cluster|setslot": Close("a1:7000", Slots.of([5]), "whose"),
    "cluster|delslots": Disclaim("a1:7000", "b1:7000", Slots.of([5])),
    "unlink": BringKeys("a1:7000", "b1:7000", Slots.of([5])),
    "exists": BringKeys("b1:7000", "a1:7000", Slots.of([5])),
}


def test_what_repairs_need_is_asked_for_before_the_first_of_them(servers: Servers) -> None:
    site = site_with_user(servers, RULES)
    with site.links() as links:
        view = observe(site.topology, links)
        assert refused_commands((needed(step, view) for step in REPAIRS.values()), view, links) == ()
        for command, step in REPAIRS.items():
            site["a1:7000"].call("ACL", "SETUSER", "slotwright", f"-{command}")
            found = refused_commands([needed(step, view)], view, links)
            assert [(f.code, f"+{command}" in f.remedy, "a1:7000" in f.where) for f in found] == [
                ("not-allowed", True, True)
            ], command
            site["a1:7000"].call("ACL", "SETUSER", "slotwright", f"+{command}")


def test_fix_changes_nothing_where_the_acl_would_stop_it_half_way(servers: Servers) -> None:
    site = site_with_user(servers, RULES)
    site.converge()
    wait_until("it is sound", lambda: not site.errors(), timeout=10)
    holder, owner = [node for node in site.nodes if node.call("ROLE")[0] == "master"][:2]
    slot = next(int(s[0]) for s in owner.call("CLUSTER", "SLOTS") if s[2][2] == owner.id())
    stray, name = key_of(slot, 1), next(n for n, node in site.servers.items() if node is holder)
    holder.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.id())
    with holder.client() as client, client.pipeline(transaction=False) as pipe:
        pipe.execute_command("ASKING").execute_command("SET", stray, "here").execute()
    holder.call("CLUSTER", "SETSLOT", slot, "STABLE")
    holder.call("ACL", "SETUSER", "slotwright", "-migrate")

    def fixed() -> fix.Fix:
        with site.links() as links:
            return fix.fix(site.request, links, lambda line: None)

    with pytest.raises(Refused) as refused:
        fixed()
    assert [(f.code, name in f.where, "+migrate" in f.remedy) for f in refused.value.findings] == [
        ("not-allowed", True, True)
    ]
    assert (holder.call("DBSIZE"), owner.call("DBSIZE")) == (1, 0)
    holder.call("ACL", "SETUSER", "slotwright", "+migrate")
    assert len(fixed().repairs) == 1
    assert (holder.call("DBSIZE"), owner.call("DBSIZE")) == (0, 1)
