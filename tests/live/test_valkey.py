"""Valkey in place of Redis: what is promised of one is promised of the other."""

from __future__ import annotations

from tests.live.clusters import assert_sound, start_site, without_haste
from tests.live.servers import Monitor, Servers, binary, digest

LOOPBACK = "127.32"


def test_six_nodes_of_valkey_become_a_sound_cluster_and_a_second_run_sends_no_mutating_command(
    servers: Servers,
) -> None:
    site = start_site(servers, binary=binary("valkey-8.0.1"))
    settings = site.settings()
    assert site.converge().changed
    assert site.settings() == settings
    assert_sound(site)
    assert {(node.flavor, node.version) for node in site.look().nodes} == {("valkey", "8.0.1")}

    without_haste(site)
    before = digest(site.nodes)
    with Monitor(site.nodes) as monitor:
        outcome = site.converge()
    assert (outcome.changed, outcome.plan.steps) == (False, ())
    assert monitor.mutating == []
    assert digest(site.nodes) == before
