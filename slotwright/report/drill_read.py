"""A drill as it was written down (JSON) → typed values.

Total: whatever is missing, None or of another type becomes None or empty, and never an exception. Times are seconds
since the epoch in `began`, `ended`, `fault_at` and in losses and log lines; all others are seconds after the fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERDICTS = ("passed", "failed", "incomplete")
PHASES = ("before", "during", "after")
MOMENTS = {
    "first_error": "first error",
    "fail_seen": "FAIL seen",
    "promoted": "promoted",
    "healed": "healed",
    "redundant": "redundant",
    "restored": "restored",
}
_SENSELESS = 1e15  # no time and no count is as large; sums and logarithms stay finite
_SHORTEST_STEP = 1e-3
_COUNTS = ("acknowledged", "failed", "unknown", "lost", "altered", "failed_present", "unknown_present", "stale_reads")


@dataclass(frozen=True)
class Prediction:
    survives: bool | None
    verdict: str
    fail_after: float | None
    write_gap: float | None
    never: bool
    """Said to end never: a write gap of None in a prediction that says the cluster does not survive."""
    other_gap: float | None
    worst_loss: int | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """Writes by what was told of them and what was found afterwards, and reads that were behind."""

    acknowledged: int | None
    failed: int | None
    unknown: int | None
    lost: int | None
    altered: int | None
    failed_present: int | None
    unknown_present: int | None
    stale_reads: int | None


@dataclass(frozen=True)
class Shard:
    name: str
    slots: str
    struck: bool
    predicted_write_gap: float | None
    never: bool
    write_gap: float | None
    read_gap: float | None
    promoted: float | None
    new_master: str
    counts: Counts
    errors: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Bucket:
    writes_ok: int
    writes_bad: int
    reads_ok: int
    reads_bad: int
    max_ms: float | None


@dataclass(frozen=True)
class Series:
    """What each shard answered, in buckets of `step` seconds from `begin` on."""

    begin: float
    step: float
    shards: Mapping[str, tuple[Bucket, ...]]


@dataclass(frozen=True)
class Node:
    name: str
    zone: str
    host: str
    role: str
    shard: str


@dataclass(frozen=True)
class Loss:
    key: str
    what: str
    at: float | None
    shard: str


@dataclass(frozen=True)
class Objective:
    name: str
    unit: str
    limit: float | None
    measured: float | None
    met: bool | None


@dataclass(frozen=True)
class Drill:
    id: str
    cluster: str
    began: float | None
    ended: float | None
    struck: str
    fault: str
    seconds: float | None
    instances: tuple[str, ...]
    zones: tuple[str, ...]
    nodes: int | None
    masters: int | None
    node_timeout: float | None
    fault_at: float | None
    healed: float | None
    moments: Mapping[str, float]
    redundant_after_heal: float | None
    prediction: Prediction
    shards: tuple[Shard, ...]
    series: Series | None
    topology: Mapping[str, tuple[Node, ...]]
    totals: Counts
    losses: tuple[Loss, ...]
    overlap: float | None
    objectives: tuple[Objective, ...]
    verdict: str
    reasons: tuple[str, ...]
    log: tuple[tuple[float | None, str], ...]
    findings: tuple[str, ...]


def read(data: object) -> Drill:
    """The drill in typed values. An unknown verdict counts as incomplete."""
    drill = _mapping(data)
    verdict = _text(drill.get("verdict")).lower()
    fault_at = _number(drill.get("fault_at"))
    prediction = _prediction(_mapping(drill.get("prediction")))
    losses = _mapping(drill.get("losses"))
    topology = _mapping(drill.get("topology"))
    moments = _moments(_mapping(drill.get("moments")))
    return Drill(
        id=_text(drill.get("id")),
        cluster=_text(drill.get("cluster")),
        began=_number(drill.get("began")),
        ended=_number(drill.get("ended")),
        struck=_text(drill.get("struck")),
        fault=_text(drill.get("fault")),
        seconds=_number(drill.get("seconds")),
        instances=_texts(drill.get("instances")),
        zones=_texts(drill.get("zones")),
        nodes=_count(drill.get("nodes")),
        masters=_count(drill.get("masters")),
        node_timeout=_number(drill.get("node_timeout")),
        fault_at=fault_at,
        healed=_healed(moments, fault_at, _number(drill.get("healed_at"))),
        moments=moments,
        redundant_after_heal=_number(drill.get("redundant_after_heal")),
        prediction=prediction,
        shards=tuple(_shard(_mapping(s), prediction) for s in _items(drill.get("shards"))),
        series=_series(_mapping(drill.get("series"))),
        topology={p: _nodes(_mapping(topology.get(p))) for p in PHASES},
        totals=_counts(losses),
        losses=tuple(_loss(_mapping(k)) for k in _items(losses.get("keys"))),
        overlap=_number(drill.get("overlap")),
        objectives=tuple(_objective(_mapping(o)) for o in _items(drill.get("objectives"))),
        verdict=verdict if verdict in VERDICTS else "incomplete",
        reasons=_texts(drill.get("reasons")),
        log=tuple(_log_line(_items(line)) for line in _items(drill.get("log"))),
        findings=_texts(drill.get("findings")),
    )


def _healed(moments: Mapping[str, float], fault_at: float | None, healed_at: float | None) -> float | None:
    if "healed" in moments or fault_at is None or healed_at is None:
        return moments.get("healed")
    return healed_at - fault_at


def _moments(data: Mapping[Any, Any]) -> dict[str, float]:
    moments = {name: _number(data.get(name)) for name in MOMENTS}
    return {name: at for name, at in moments.items() if at is not None}


def _prediction(data: Mapping[Any, Any]) -> Prediction:
    survives = _truth(data.get("survives"))
    return Prediction(
        survives=survives,
        verdict=_text(data.get("verdict")),
        fail_after=_number(data.get("fail_after")),
        write_gap=_number(data.get("write_gap")),
        never=_never(data, "write_gap", survives),
        other_gap=_number(data.get("other_gap")),
        worst_loss=_count(data.get("worst_loss")),
        lines=_texts(data.get("lines")),
    )


def _never(data: Mapping[Any, Any], name: str, survives: bool | None) -> bool:
    return survives is False and name in data and data[name] is None


def _counts(data: Mapping[Any, Any]) -> Counts:
    return Counts(**{name: _count(data.get(name)) for name in _COUNTS})


def _shard(data: Mapping[Any, Any], prediction: Prediction) -> Shard:
    return Shard(
        name=_text(data.get("shard")),
        slots=_text(data.get("slots")),
        struck=_truth(data.get("struck")) is True,
        predicted_write_gap=_number(data.get("predicted_write_gap")),
        never=_never(data, "predicted_write_gap", prediction.survives),
        write_gap=_number(data.get("write_gap")),
        read_gap=_number(data.get("read_gap")),
        promoted=_number(data.get("promoted")),
        new_master=_text(data.get("new_master")),
        counts=_counts(data),
        errors=tuple((_text(name), _count(n)) for name, n in _mapping(data.get("errors")).items()),
    )


def bare_shard(name: str) -> Shard:
    """One of which nothing but the name is known."""
    return _shard({"shard": name}, _prediction({}))


def _series(data: Mapping[Any, Any]) -> Series | None:
    begin, step = _number(data.get("begin")), _number(data.get("step"))
    shards = {_text(n): tuple(map(_bucket, _items(rows))) for n, rows in _mapping(data.get("shards")).items()}
    if begin is None or step is None or step < _SHORTEST_STEP or not any(shards.values()):
        return None
    return Series(begin, step, shards)


def _bucket(data: object) -> Bucket:
    values = [*_items(data), None, None, None, None, None][:5]
    counts = [max(_count(v) or 0, 0) for v in values[:4]]
    return Bucket(counts[0], counts[1], counts[2], counts[3], _number(values[4]))


def _nodes(data: Mapping[Any, Any]) -> tuple[Node, ...]:
    names = ("name", "zone", "host", "role", "shard")
    rows = [_mapping(n) for n in _items(data.get("nodes"))]
    return tuple(Node(**{name: _text(row.get(name)) for name in names}) for row in rows)


def _loss(data: Mapping[Any, Any]) -> Loss:
    return Loss(_text(data.get("key")), _text(data.get("what")), _number(data.get("at")), _text(data.get("shard")))


def _objective(data: Mapping[Any, Any]) -> Objective:
    return Objective(
        name=_text(data.get("name")),
        unit=_text(data.get("unit")),
        limit=_number(data.get("limit")),
        measured=_number(data.get("measured")),
        met=_truth(data.get("met")),
    )


def _log_line(data: Sequence[Any]) -> tuple[float | None, str]:
    at, text = [*data, None, None][:2]
    return _number(at), _text(text)


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) < _SENSELESS else None


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str:
    """On one line and without control characters: it goes to terminals and into XML."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, _items(value))))
