"""Reading what Redis prints: CLUSTER NODES, CLUSTER LINKS, INFO. Text in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from slotwright.core.slots import Slots
from slotwright.core.view import Peer, Replication


def parse_nodes(text: str) -> tuple[str, tuple[Peer, ...]]:
    """CLUSTER NODES → (id of the node that answered, every line as a Peer). "myself" is dropped from the flags.

    Raises ValueError for a line that is not in Redis's form.
    """
    own, peers = "", []
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) < 8:
            raise ValueError(f"not a line of CLUSTER NODES: {line!r}")
        flags = frozenset(fields[2].split(",")) - {"noflags"}
        if "myself" in flags:
            own = fields[0]
        peers.append(_peer(fields, flags - {"myself"}))
    return own, tuple(peers)


def _peer(fields: Sequence[str], flags: frozenset[str]) -> Peer:
    node_id, endpoint, _, master, _, _, epoch, link = fields[:8]
    address, _, port = endpoint.split(",")[0].split("@")[0].rpartition(":")
    importing, migrating, owned = [], [], []
    for token in fields[8:]:
        if not token.startswith("["):
            owned.append(token)
        elif "-<-" in token:
            slot, _, other = token.strip("[]").partition("-<-")
            importing.append((int(slot), other))
        else:
            slot, _, other = token.strip("[]").partition("->-")
            migrating.append((int(slot), other))
    return Peer(
        id=node_id,
        address=address,
        port=int(port),
        flags=flags,
        master="" if master == "-" else master,
        config_epoch=int(epoch),
        connected=link == "connected",
        slots=Slots.parse(" ".join(owned)),
        importing=tuple(importing),
        migrating=tuple(migrating),
    )


def parse_info(text: str) -> dict[str, str]:
    """INFO or CLUSTER INFO → its `key:value` lines."""
    pairs = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value.strip() for key, _, value in pairs}


def parse_links(reply: Sequence[Sequence[object]]) -> tuple[frozenset[str], frozenset[str]]:
    """CLUSTER LINKS (RESP2: flat lists) → (ids we hold a link to, ids that hold one to us)."""
    found: dict[str, set[str]] = {"to": set(), "from": set()}
    for link in reply:
        entry = dict(zip(link[::2], link[1::2], strict=True))
        found[str(entry["direction"])].add(str(entry["node"]))
    return frozenset(found["to"]), frozenset(found["from"])


def parse_libraries(reply: Sequence[Sequence[object]]) -> tuple[str, ...]:
    """FUNCTION LIST (RESP2: flat lists) → names of the libraries, sorted."""
    entries = (dict(zip(library[::2], library[1::2], strict=True)) for library in reply)
    return tuple(sorted(str(entry["library_name"]) for entry in entries))


def count_keys(info: Mapping[str, str]) -> int:
    """Keys in all databases, from the keyspace lines of INFO ("db0" → "keys=5,expires=0,…")."""
    counts = (re.match(r"keys=(\d+)", value) for key, value in info.items() if re.fullmatch(r"db\d+", key))
    return sum(int(count[1]) for count in counts if count)


def replication(info: Mapping[str, str]) -> Replication:
    role = info.get("role", "master")
    online = sum(1 for k, v in info.items() if re.fullmatch(r"slave\d+", k) and "state=online" in v)
    offset = info.get("slave_repl_offset") if role == "slave" else info.get("master_repl_offset")
    return Replication(
        role=role,
        link_up=info.get("master_link_status") == "up",
        syncing=info.get("master_sync_in_progress", "0") != "0",
        offset=int(offset or 0),
        online_replicas=online,
        received=int(info.get("master_sync_read_bytes", 0)),
    )


def flavor_and_version(info: Mapping[str, str]) -> tuple[str, str]:
    """("redis" or "valkey", "7.0.15"). Valkey also prints the Redis version that it is compatible with."""
    if info.get("server_name") == "valkey" or "valkey_version" in info:
        return "valkey", info.get("valkey_version", "")
    return "redis", info.get("redis_version", "")
