"""Asking every node for its view, all of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.parse import (
    count_keys,
    flavor_and_version,
    parse_info,
    parse_libraries,
    parse_links,
    parse_nodes,
    replication,
)
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, NodeView, Silence
from slotwright.errors import SlotwrightError
from slotwright.link.connect import LinkDown, Links

# What Redis does of its own accord with a master that owns no slots any more depends on it.
ALSO_ASKED = ("cluster-allow-replica-migration",)
# Seconds between two looks: as long as a look takes, so that the nodes do something else half of the time.
POLL_LEAST, POLL_MOST = 0.01, 0.1


def observe(topology: Topology, links: Links, *, thorough: bool = False) -> ClusterView:
    """What every instance says now, also those that are to leave. thorough also asks for the bus links.

    Nodes that do not answer are in `silent`; nothing is raised for them. Leavers that were forgotten are `forgotten`.
    """
    instances = topology.everyone
    directives = [*dict.fromkeys((*(name for name, _ in topology.settings), *ALSO_ASKED))]
    questions: list[tuple[str, ...]] = [("INFO",), ("CLUSTER", "NODES"), ("CLUSTER", "INFO"), ("FUNCTION", "LIST")]
    questions += [("CONFIG", "GET", directive) for directive in directives]
    if thorough:
        questions.append(("CLUSTER", "LINKS"))
    links.open()
    answers = links.ask({i.name: questions for i in instances})
    nodes, silent = [], []
    for instance in instances:
        answer = answers[instance.name]
        if isinstance(answer, LinkDown):
            silent.append(answer.silence)
        elif any(str(reply).startswith("LOADING") for reply in answer):
            silent.append(_loading(instance, answer))
        else:
            nodes.append(_node(instance, answer, directives))
    return ClusterView(tuple(nodes), tuple(silent)).without_forgotten({i.name for i in topology.leaving})


def _loading(instance: Instance, answer: Sequence[Any]) -> Silence:
    """While it loads a node answers INFO, but nothing about the cluster."""
    info = parse_info(answer[0]) if isinstance(answer[0], str) else {}
    what = f"is loading its data ({info.get('loading_loaded_perc', '?')} % done)"
    loaded = int(info.get("loading_loaded_bytes", 0))
    return Silence(instance.name, instance.endpoint, "loading", what, "wait until it has, then run again", loaded)


def _node(instance: Instance, answer: Sequence[Any], directives: Sequence[str]) -> NodeView:
    info_reply, nodes_reply, cluster_reply, functions, *rest = answer
    if isinstance(info_reply, ResponseError):
        raise _not_allowed(instance, "INFO", info_reply)
    info = parse_info(info_reply)
    flavor, version = flavor_and_version(info)
    enabled = info.get("cluster_enabled") == "1"
    if enabled and isinstance(nodes_reply, ResponseError):
        raise _not_allowed(instance, "CLUSTER NODES", nodes_reply)
    own, peers = parse_nodes(nodes_reply) if enabled else ("", ())
    cluster = parse_info(cluster_reply) if enabled and isinstance(cluster_reply, str) else {}
    links = parse_links(rest[-1]) if len(rest) > len(directives) and isinstance(rest[-1], list) else (None, None)
    return NodeView(
        name=instance.name,
        endpoint=instance.endpoint,
        id=own,
        run_id=info.get("run_id", ""),
        version=version,
        flavor=flavor,
        cluster_enabled=enabled,
        state=cluster.get("cluster_state", ""),
        current_epoch=int(cluster.get("cluster_current_epoch", 0)),
        peers=peers,
        keys=count_keys(info),
        replication=replication(info),
        loading=info.get("loading", "0") != "0",
        persistence_ok=info.get("rdb_last_bgsave_status") != "err" and info.get("aof_last_write_status") != "err",
        used_memory=int(info.get("used_memory", 0)),
        maxmemory=int(info.get("maxmemory", 0)),
        settings=tuple(sorted(_pairs(rest[: len(directives)]))),
        links_out=links[0],
        links_in=links[1],
        functions=parse_libraries(functions) if isinstance(functions, list) else None,
    )


def _pairs(replies: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """CONFIG GET's flat lists → (directive, value). A user who may not ask has no settings to show."""
    for reply in replies:
        if isinstance(reply, list):
            yield from zip(reply[::2], reply[1::2], strict=True)


def _not_allowed(instance: Instance, command: str, reply: ResponseError) -> SlotwrightError:
    return SlotwrightError(
        f"{command} was answered with: {reply}",
        where=f"node {instance.name} ({instance.endpoint})",
        remedy="give the user of redis_cluster_username the commands listed in docs/access.md",
        code="not-allowed",
    )


def wait_until(
    lacks: Callable[[ClusterView], Sequence[str]],
    look: Callable[[], ClusterView],
    *,
    seconds: float,
    purpose: str,
    remedy: str = "mend that",
) -> ClusterView:
    """Look again until nothing is lacking, for `seconds` at the most, and as long again after each progress of a sync.

    Returns the last view. Raises SlotwrightError that says what was waited for and what was still lacking.
    """
    deadline = time.monotonic() + seconds
    received: dict[str, int] = {}
    while True:
        begun = time.monotonic()
        view = look()
        took = time.monotonic() - begun
        missing = lacks(view)
        if not missing:
            return view
        for name, size in _received(view).items():
            # A sync that begins again and again makes no progress.
            if size > received.get(name, 0):
                received[name] = size
                deadline = max(deadline, time.monotonic() + seconds)
        if time.monotonic() >= deadline:
            state = [f"{name} has received {size} bytes so far" for name, size in _received(view).items()]
            missing = [*missing, *state[:3]]
            shown = "; ".join(missing[:5]) + (f"; and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise SlotwrightError(
                f"waited {seconds:g} s for {purpose}, and still: {shown}",
                remedy=f"{remedy}, then run again: what is done stays done, the rest is picked up from there",
                code="timeout",
            )
        time.sleep(min(POLL_MOST, max(POLL_LEAST, took)))


def _received(view: ClusterView) -> dict[str, int]:
    """Bytes that nodes have got of a full sync, or loaded, by name; of those that are about it."""
    syncing = {n.name: n.replication.received for n in view.nodes if n.replication.syncing}
    return syncing | {s.instance: s.loaded for s in view.silent if s.kind == "loading"}
