"""Who may connect to whom, out of the inventory."""

from __future__ import annotations

from typing import Any

import pytest

from slotwright.core.firewall import Rules, matches, of_family, rules_for
from slotwright.core.hosts import Notes, read_host


def rules(host: str, inventory: dict[str, dict[str, Any]], *networks: str) -> Rules:
    common = {"redis_node_zone": "z", "redis_host_client_networks": list(networks)}
    members = [read_host(name, {**common, **raw}, Notes()) for name, raw in inventory.items()]
    return rules_for(next(member for member in members if member.name == host), members)


def three(**variables: Any) -> dict[str, dict[str, Any]]:
    return {f"h{n}": {"redis_node_address": f"10.0.0.{n}", **variables} for n in (1, 2, 10)}


def test_all_nodes_of_the_cluster_are_peers_and_nobody_of_another() -> None:
    others = {"x1": {"redis_node_address": "10.0.9.1", "redis_cluster_name": "other"}}
    assert rules("h1", three() | others).peers == ("10.0.0.1", "10.0.0.2", "10.0.0.10")
    assert rules("x1", three() | others).peers == ("10.0.9.1",)


def test_each_port_has_a_bus_port_and_they_are_the_hosts_own() -> None:
    found = rules("h2", three(redis_node_ports=[7002, 7001]))
    assert found.clients == (("10.0.0.2", 7001), ("10.0.0.2", 7002))
    assert found.bus == (("10.0.0.2", 17001), ("10.0.0.2", 17002))


def test_without_networks_no_rule_is_about_clients() -> None:
    assert rules("h1", three()).networks is None


def test_networks_are_told_once_and_in_order() -> None:
    found = rules("h1", three(), "2001:db8::/32", "10.2.0.0/16", "10.2.3.0/24", "192.0.2.1", "2001:db8:1::/48")
    assert found.networks == ("10.2.0.0/16", "192.0.2.1", "2001:db8::/32")
    assert of_family(4, found.networks) == ["10.2.0.0/16", "192.0.2.1"]
    assert of_family(6, found.networks) == ["2001:db8::/32"]


@pytest.mark.parametrize(
    ("bind", "addresses"),
    [
        ("10.0.0.1 192.0.2.1", ["10.0.0.1", "192.0.2.1"]),
        (["10.0.0.1", "-::1"], ["10.0.0.1", "::1"]),
        ("*", [""]),
        ("10.0.0.1 ::", ["", "10.0.0.1"]),
        (None, [""]),  # Redis's own default
        ("redis.example.org", [""]),  # what a name stands for is not known here
    ],
)
def test_what_redis_binds_is_what_is_guarded(bind: Any, addresses: list[str]) -> None:
    found = rules("h1", three(redis_node_config={"bind": bind}))
    assert found.clients == tuple((address, 6379) for address in addresses)
    assert found.bus == tuple((address, 16379) for address in addresses)


def test_the_level_nearest_to_the_instance_says_what_it_binds() -> None:
    variables = three(
        redis_node_ports=[1, 2],
        redis_cluster_config={"bind": "*"},
        redis_node_config={"bind": "192.0.2.1"},
        redis_node_port_config={"2": {"bind": "192.0.2.2"}},
    )
    assert rules("h1", variables).clients == (("192.0.2.1", 1), ("192.0.2.2", 2))


def test_a_node_that_connects_from_another_address_is_let_in_from_there_too() -> None:
    variables = three()
    variables["h2"]["redis_node_config"] = {"bind-source-addr": "192.0.2.2"}
    assert rules("h1", variables).peers == ("10.0.0.1", "10.0.0.2", "10.0.0.10", "192.0.2.2")


def test_ipv4_written_as_ipv6_is_what_it_stands_for() -> None:
    variables = three() | {"h3": {"redis_node_address": "::ffff:10.0.0.3"}}
    found = rules("h3", variables)
    assert found.peers[-2:] == ("10.0.0.3", "10.0.0.10")
    assert found.clients == (("10.0.0.3", 6379),)


def test_two_clusters_on_one_machine_have_rules_of_two_names() -> None:
    inventory = three() | {"h1-other": {"redis_node_address": "10.0.0.1", "redis_cluster_name": "other"}}
    assert rules("h1", inventory).name == "redis-cluster_redis_10.0.0.1"
    assert rules("h1-other", inventory).name == "redis-cluster_other_10.0.0.1"


def test_a_name_is_one_that_nft_takes() -> None:
    assert rules("h", {"h": {"redis_node_address": "2001:db8::1"}}).name == "redis-cluster_redis_2001-db8--1"


def test_every_packet_to_an_endpoint_meets_one_expression() -> None:
    assert matches([("10.0.0.1", 7001), ("10.0.0.1", 7002), ("::1", 7001), ("", 7003), ("10.0.0.1", 7003)]) == [
        "ip daddr . tcp dport { 10.0.0.1 . 7001, 10.0.0.1 . 7002 }",
        "ip6 daddr . tcp dport { ::1 . 7001 }",
        "tcp dport { 7003 }",
    ]
