"""What is said before a cluster is destroyed, and what is refused. That it is then gone: tests/playbooks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slotwright.errors import Refused
from slotwright.link.lock import Lock, Locked
from slotwright.manager import destroy
from slotwright.manager.destroy import Doomed
from tests.live.clusters import Site, start_site
from tests.live.servers import Monitor, Servers

LOOPBACK = "127.45"
KEYS = 500


def examine(site: Site, confirm: str = "test", abandon: tuple[str, ...] = (), *, data: bool = False) -> Doomed:
    with site.links() as links:
        return destroy.examine(site.request, confirm, abandon, links, remove_data=data)


def refusal(site: Site, confirm: str = "test", abandon: tuple[str, ...] = ()) -> Refused:
    with pytest.raises(Refused) as refused:
        examine(site, confirm, abandon)
    return refused.value


def without(site: Site, *names: str) -> Site:
    """An inventory that does not name these members."""
    stay = tuple(i for i in site.topology.instances if i.name not in names)
    return replace(site, request=replace(site.request, topology=replace(site.topology, instances=stay)))


def test_nodes_keys_and_bytes_are_told_and_nothing_is_changed(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    site.fill(KEYS)
    with Monitor(site.nodes) as watch:
        said = destroy.result(site.request, examine(site))
    assert watch.commands, "nothing was watched"
    assert watch.mutating == []
    assert (said["changed"], said["keys"]) == (False, KEYS)
    assert said["bytes"] > 6 * 500_000
    assert sorted(node["role"] for node in said["nodes"]) == ["master"] * 3 + ["replica"] * 3
    text = "\n".join(said["text"])
    assert f"6 of 6 instances answer, 3 of them masters with slots; {KEYS} keys" in text
    assert "Their data directories stay" in text
    with_data = destroy.result(site.request, examine(site, data=True))
    assert "the keys are lost for good" in "\n".join(with_data["text"])


@pytest.mark.parametrize("typed", ["", "Test", "tes", "test "])
def test_a_name_that_is_not_the_clusters_is_refused_before_any_node_is_asked(servers: Servers, typed: str) -> None:
    site = start_site(servers, {"a": (1,), "b": (1,), "c": (1,)}, replicas=0)
    with Monitor(site.nodes) as watch:
        error = refusal(site, typed)
    assert [f.code for f in error.findings] == ["not-confirmed"]
    assert "-e redis_destroy_cluster=test" in str(error)
    assert watch.commands == []


def test_a_member_that_the_inventory_does_not_name_is_refused_unless_stated(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    part = without(site, "b1:7000")
    stranger = site["b1:7000"].name
    error = refusal(part)
    assert [f.code for f in error.findings] == ["unlisted-member"]
    assert f"redis_destroy_abandon={stranger}" in str(error)
    assert "of a broken cluster" in str(error)
    said = destroy.result(part.request, examine(part, abandon=(stranger,)))
    assert f"{stranger} is left behind" in "\n".join(said["text"])


def test_nodes_that_do_not_answer_are_named_and_hold_nothing_up(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    site["a1:7000"].kill()
    said = destroy.result(site.request, examine(site))
    assert [n["name"] for n in said["nodes"] if n["role"] == "silent"] == ["a1:7000"]
    assert "5 of 6 instances answer" in said["text"][0]
    for node in site.nodes:
        node.kill()
    gone = destroy.result(site.request, examine(site))
    assert (gone["keys"], {n["role"] for n in gone["nodes"]}) == (0, {"silent"})


@pytest.mark.soak
def test_while_another_controller_is_at_work_it_is_refused(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    with site.links() as links:
        links.open()
        with Lock(links, links.up), pytest.raises(Locked):
            examine(site)
