"""A smoke test: a cluster-aware client writes, reads and provokes, under a prefix of its own, and leaves nothing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from slotwright.core.view import ClusterView, NodeView
from slotwright.errors import Finding
from slotwright.link.connect import LinkDown, Links

PREFIX = "slotwright:smoke"
KEYS = 5  # for each master
# Seconds after which Redis itself deletes what a controller that died has left.
EXPIRY = 60
REPLICA_WAIT = 1.0  # seconds
# AttributeError: redis-py 8.1 raises it where ASK names a node that it has not heard of.
TROUBLE = (redis.RedisError, redis.exceptions.RedisClusterException, LinkDown, OSError, AttributeError)
_TAGS = 400_000  # hash tags that are tried to hit a slot of every master


@dataclass
class Smoke:
    """latencies: milliseconds of each call, by what was done. findings: what failed; none where all is well."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    masters: int = 0
    left: int = 0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.latencies.setdefault(what, []).append(1000 * (time.perf_counter() - begun))

    @property
    def ok(self) -> bool:
        return not self.findings

    def lines(self) -> list[str]:
        head = f"smoke test: {'passed' if self.ok else 'FAILED'} on {self.masters} masters"
        rows = [f"{'':18}{'calls':>6}{'p50 ms':>9}{'max ms':>9}"] if self.latencies else []
        for what, took in self.latencies.items():
            ordered = sorted(took)
            rows.append(f"{what:18}{len(took):6}{ordered[len(took) // 2]:9.2f}{ordered[-1]:9.2f}")
        return [head, *rows]

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "masters": self.masters,
            "keys_left": self.left,
            "latencies_ms": {
                what: {"calls": len(t), "p50": round(sorted(t)[len(t) // 2], 3), "max": round(max(t), 3)}
                for what, t in self.latencies.items()
            },
        }


def smoke(view: ClusterView, links: Links, then: Callable[[], None] = lambda: None) -> Smoke:
    """Bounded by the timeouts of the links. then: called once keys are written (tests break something there)."""
    found = Smoke()
    masters = [n for n in view.nodes if n.peers and n.myself.is_master and n.myself.slots]
    if not masters:
        found.findings.append(_failed("cluster", "no master owns a slot", "run playbooks/fix.yml"))
        return found
    tags = _tags(masters)
    run = secrets.token_hex(6)
    keys = {name: [f"{PREFIX}:{run}:{{{tag}}}:{n}" for n in range(KEYS)] for name, tag in tags.items()}
    try:
        client = _client(masters[0], links)
    except TROUBLE as error:
        remedy = next((r for word, r in _REMEDIES.items() if word in str(error)), "")
        what = f"no cluster client can start there: {error}"[:300]
        found.findings.append(_failed(f"node {masters[0].name} ({masters[0].endpoint})", what, remedy))
        return found
    with client:
        try:
            for node in masters:
                _try(found, node, lambda node=node: _master(found, client, view, links, node, keys[node.name], then))  # type: ignore[misc]
            _try(found, masters[0], lambda: _crossslot(found, client, keys))
        finally:
            found.left = _clean(found, client, [key for some in keys.values() for key in some])
    return found


def _client(node: NodeView, links: Links) -> Any:
    # from_url, because the constructor drops connection_class.
    return redis.RedisCluster.from_url(
        f"redis://{node.endpoint}",
        connection_class=links.connection_class(),
        username=links.access.username,
        password=links.access.password,
        decode_responses=True,
        protocol=2,
        socket_timeout=links.access.command_timeout,
        retry=Retry(NoBackoff(), 3),
    )


def _tags(masters: list[NodeView]) -> dict[str, str]:
    """A hash tag for each master, such that its keys are in a slot of that master."""
    found: dict[str, str] = {}
    for number in count():
        slot = key_slot(b"%d" % number)
        for node in masters:
            if node.name not in found and slot in node.myself.slots:
                found[node.name] = str(number)
        if len(found) == len(masters) or number > _TAGS:
            return found
    raise AssertionError


def _try(found: Smoke, node: NodeView, act: Callable[[], None]) -> None:
    try:
        act()
    except (*TROUBLE, _WrongError) as error:
        text = str(error)
        known = next((word for word in _REMEDIES if word in text), "")
        found.findings.append(_failed(f"node {node.name} ({node.endpoint})", text[:300], _REMEDIES.get(known, "")))


class _WrongError(Exception):
    """An answer that is not what it should be."""


_REMEDIES = {
    "CLUSTERDOWN": "see which slots are not served (above)",
    "not covered": "see which slots are not served (above)",
    "TRYAGAIN": "a slot is half moved: run playbooks/fix.yml",
    "NOREPLICAS": "too few replicas are in sync for min-replicas-to-write",
    "READONLY": "the nodes do not agree who is master: look again in a node timeout",
    "NOPERM": "give the user of redis_cluster_username the commands and keys of a smoke test (docs/repair.md)",
    "OOM": "a node is at its maxmemory, and evicts nothing",
    "MISCONF": "a node cannot save its data: see its log",
}


def _master(
    found: Smoke,
    client: Any,
    view: ClusterView,
    links: Links,
    node: NodeView,
    keys: list[str],
    then: Callable[[], None],
) -> None:
    values = {key: secrets.token_hex(8) for key in keys}
    for key, value in values.items():
        with found.timed("write"):
            client.set(key, value, ex=EXPIRY)
    then()
    for key, value in values.items():
        with found.timed("read"):
            read = client.get(key)
        _expect(read == value, f"{key} was written as {value!r} and reads {read!r}")
    with found.timed("multi-key"):
        read = client.mget(keys)
    _expect(read == list(values.values()), f"MGET of {len(keys)} keys of one hash tag reads {read!r}")
    with found.timed("pipeline"):
        pipe = client.pipeline()
        for key in keys:
            pipe.append(key, "+")
            pipe.get(key)
        read = pipe.execute()
    _expect(read[1::2] == [f"{value}+" for value in values.values()], f"a pipeline reads {read!r}")
    replicas = [m for m in view.replicas_of(node.id) if m.node]
    if replicas:
        with found.timed("wait"):
            at = client.get_node(*_place(node))
            got = client.execute_command("WAIT", len(replicas), int(1000 * REPLICA_WAIT), target_nodes=at)
        got = next(iter(got.values())) if isinstance(got, dict) else got
        _expect(got >= 1, f"no replica confirmed a write within {REPLICA_WAIT:g} s")
    for replica in replicas:
        _replica(found, links, replica.name, keys[0], f"{values[keys[0]]}+")
    found.masters += 1


def _place(node: NodeView) -> tuple[str, int]:
    address, _, port = node.endpoint.rpartition(":")
    return address, int(port)


def _replica(found: Smoke, links: Links, name: str, key: str, value: str) -> None:
    link = links.another(name)
    try:
        link.call("READONLY")
        deadline = time.monotonic() + REPLICA_WAIT
        while True:
            with found.timed("replica read"):
                read = link.call("GET", key)
            if read == value:
                return
            _expect(time.monotonic() < deadline, f"the replica {name} reads {read!r} for {key}, which is {value!r}")
            time.sleep(0.02)
    finally:
        link.close()


def _crossslot(found: Smoke, client: Any, keys: dict[str, list[str]]) -> None:
    """Keys of two slots in one command: the server must refuse it."""
    one, *others = (some[0] for some in keys.values())
    other = others[0] if others else f"{one.replace('{', '(').replace('}', ')')}:other"
    at = client.get_node_from_key(one)
    try:
        with found.timed("CROSSSLOT"), suppress(redis.exceptions.ClusterCrossSlotError):
            client.execute_command("MGET", one, other, target_nodes=at)
            raise _WrongError("MGET of keys in two slots was answered, and not with CROSSSLOT")
    except redis.ResponseError as error:
        _expect("CROSSSLOT" in str(error), f"MGET of keys in two slots was answered with {error}, not CROSSSLOT")


def _clean(found: Smoke, client: Any, keys: list[str]) -> int:
    """How many keys could not be deleted; Redis does it after EXPIRY."""
    left = 0
    for key in keys:
        try:
            with found.timed("delete"):
                client.delete(key)
        except TROUBLE:
            left += 1
    return left


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _WrongError(otherwise)


def _failed(where: str, what: str, remedy: str = "") -> Finding:
    return Finding("smoke-failed", where, what, remedy or "see the other findings, and the log of that node")
