"""What Redis prints is read right, of every version."""

from __future__ import annotations

import pytest

from slotwright.core.parse import count_keys, flavor_and_version, parse_info, parse_links, parse_nodes, replication
from slotwright.core.slots import Slots

NODES = """\
07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected
67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 disconnected 5461-10922 7 [93-<-e7d1]
e7d1 ::1:30001@31001,,tls-port=0,shard-id=69bc myself,master - 0 0 1 connected 0-100 [77->-67ed] [78->-67ed]
6ec2 :0@0 master,noaddr,fail - 1426238316232 1426238316232 6 disconnected
9f00 127.0.0.1:30009@31009 handshake - 0 0 0 disconnected
"""


def test_a_line_gives_id_endpoint_role_master_epoch_and_slots() -> None:
    own, peers = parse_nodes(NODES)
    by_id = {p.id: p for p in peers}
    assert own == "e7d1"
    assert (by_id["07c3"].endpoint, by_id["07c3"].is_master, by_id["07c3"].master) == ("127.0.0.1:30004", False, "e7d1")
    assert (by_id["67ed"].config_epoch, by_id["67ed"].connected) == (2, False)
    assert by_id["67ed"].slots == Slots.parse("7 5461-10922")


def test_ipv6_and_the_extra_fields_of_redis_7_leave_the_address_whole() -> None:
    _, peers = parse_nodes(NODES)
    assert (peers[2].address, peers[2].port) == ("::1", 30001)


def test_open_slots_are_read_with_their_other_end_and_are_not_owned_slots() -> None:
    _, peers = parse_nodes(NODES)
    assert peers[2].migrating == ((77, "67ed"), (78, "67ed"))
    assert peers[1].importing == ((93, "e7d1"),)
    assert peers[2].slots == Slots.parse("0-100")


def test_handshakes_and_lost_addresses_are_ghosts_and_failed_nodes_are_failing() -> None:
    _, peers = parse_nodes(NODES)
    assert [p.is_ghost for p in peers] == [False, False, False, True, True]
    assert [p.failing for p in peers] == [False, False, False, True, False]


def test_a_line_in_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a line of CLUSTER NODES"):
        parse_nodes("ERR This instance has cluster support disabled")


def test_keys_are_counted_over_all_databases() -> None:
    assert count_keys(parse_info("# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\ndb11:keys=7,expires=1\r\n")) == 12


def test_valkey_is_told_from_redis_by_its_own_name() -> None:
    valkey = parse_info("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n")
    assert flavor_and_version(valkey) == ("valkey", "8.0.1")
    assert flavor_and_version(parse_info("redis_version:7.0.15\r\n")) == ("redis", "7.0.15")


def test_replication_of_a_master_and_of_a_replica() -> None:
    replicas = "slave0:ip=1,state=online,offset=1\nslave1:ip=2,state=wait_bgsave\n"
    master = replication(parse_info(f"role:master\n{replicas}master_repl_offset:9\n"))
    assert (master.role, master.online_replicas, master.offset) == ("master", 1, 9)
    replica = replication(
        parse_info("role:slave\nmaster_link_status:up\nmaster_sync_in_progress:1\nslave_repl_offset:7\nmaster_repl_offset:9\n")
    )  # fmt: skip
    assert (replica.role, replica.link_up, replica.syncing, replica.offset) == ("slave", True, True, 7)


def test_links_are_sorted_by_direction() -> None:
    reply = [["direction", "to", "node", "aa", "events", "r"], ["direction", "from", "node", "bb", "events", "r"]]
    assert parse_links(reply) == (frozenset({"aa"}), frozenset({"bb"}))
