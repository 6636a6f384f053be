"""The Redis permissions that docs/access.md lists are enough, each is needed, and lacking ones are found out first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slotwright.core.steps import Configure
from slotwright.errors import Refused
from slotwright.link.access import Access
from tests.live.clusters import Site, start_site
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
