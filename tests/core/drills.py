"""Drills as the drill writes them down: one that passed, one that failed, one that was cut off, and a big one."""

from __future__ import annotations

import random
from typing import Any

FAULT_AT = 1795366512.4  # 2026-11-22 16:55:12 UTC
ZONES = ("a", "b", "c")
STEP, BEGIN, END = 0.25, -5.0, 60.0
COUNTS = ("acknowledged", "failed", "unknown", "lost", "altered", "failed_present", "unknown_present", "stale_reads")
Data = dict[str, Any]


def passed(shards: int = 3) -> Data:
    """Zone b is killed for 20 s; its shards are promoted elsewhere, and nothing is lost."""
    rng = random.Random(shards)
    rows = [_shard(i, shards, rng) for i in range(shards)]
    struck = [s for s in rows if s["struck"]]
    gap = max(s["write_gap"] for s in struck)
    return {
        "id": f"drill-{shards}",
        "cluster": "prod",
        "began": FAULT_AT - 12.4,
        "ended": FAULT_AT + 63.0,
        "struck": "zone b",
        "fault": "kill",
        "seconds": 20.0,
        "instances": [n["name"] for n in _nodes(shards) if n["zone"] == "b"],
        "zones": list(ZONES),
        "nodes": 3 * shards,
        "masters": shards,
        "node_timeout": 2.0,
        "fault_at": FAULT_AT,
        "healed_at": FAULT_AT + 20.1,
        "moments": {
            "first_error": 0.04,
            "fail_seen": 2.31,
            "promoted": 3.18,
            "healed": 20.1,
            "redundant": 27.4,
            "restored": 52.6,
        },
        "redundant_after_heal": 7.3,
        "prediction": {
            "survives": True,
            "verdict": "every slot keeps a master",
            "fail_after": 2.5,
            "write_gap": 3.9,
            "other_gap": 0.0,
            "worst_loss": 120,
            "lines": [
                "Two of three masters are left, which is a majority.",
                "Each struck shard has a replica in another zone.",
            ],
        },
        "shards": rows,
        "series": {"step": STEP, "begin": BEGIN, "shards": {s["shard"]: _buckets(s, rng) for s in rows}},
        "topology": {phase: {"nodes": _nodes(shards, phase)} for phase in ("before", "during", "after")},
        "losses": {**{name: sum(s[name] for s in rows) for name in COUNTS}, "keys": []},
        "overlap": 0.0,
        "objectives": [
            {"name": "write gap", "unit": "s", "limit": 5.0, "measured": gap, "met": True},
            {"name": "lost writes", "unit": "", "limit": 0, "measured": 0, "met": True},
            {"name": "time to redundancy", "unit": "s", "limit": 60.0, "measured": 7.3, "met": True},
            {"name": "split-brain overlap", "unit": "s", "limit": None, "measured": 0.0, "met": None},
        ],
        "verdict": "passed",
        "reasons": [],
        "log": [
            [FAULT_AT - 12.4, "the cluster is whole: 16384 slots, every replica in sync"],
            [FAULT_AT - 5.0, "clients write and read on every shard"],
            [FAULT_AT, "zone b: SIGKILL to every instance"],
            [FAULT_AT + 3.18, "all struck shards have a new master"],
            [FAULT_AT + 20.1, "zone b: instances started"],
            [FAULT_AT + 27.4, "every replica is in sync"],
            [FAULT_AT + 52.6, "masters are where they were"],
        ],
        "findings": [],
    }


def big() -> Data:
    return passed(30)


def failed() -> Data:
    """Zone b is cut off while clients on its side still write: what they were told is lost."""
    drill = passed()
    struck = next(s for s in drill["shards"] if s["struck"])
    wrong = {"lost": 48, "altered": 3, "unknown_present": 5, "failed_present": 2, "stale_reads": 117}
    struck.update(
        {**wrong, "write_gap": 7.42, "overlap": 1.86, "errors": {"ClusterDownError": 188, "TimeoutError": 31}}
    )
    drill["series"]["shards"][struck["shard"]] = _buckets(struck, random.Random(1))
    drill["losses"].update(wrong)
    drill["losses"]["keys"] = [
        {
            "key": f"drill:{{{n}}}:{n * 7919}",
            "what": "altered" if n % 17 == 0 else "lost",
            "at": FAULT_AT + 0.1 + n * 0.037,
            "shard": struck["shard"],
        }
        for n in range(1, 52)
    ]
    drill["prediction"].update({"worst_loss": 60, "write_gap": 4.1})
    drill["objectives"][0].update({"measured": 7.42, "met": False})
    drill["objectives"][1].update({"measured": 48, "met": False})
    drill["objectives"][3].update({"limit": 0.0, "measured": 1.86, "met": False})
    drill.update(
        id="drill-partition",
        fault="partition",
        overlap=1.86,
        verdict="failed",
        reasons=[
            "The longest write gap was 7.42 s, more than the objective of 5 s.",
            "48 acknowledged writes were lost; the objective is 0.",
            "For 1.86 s two masters of one shard took writes.",
        ],
        findings=["Replicas of b1:6379 were 0.9 s behind when the fault began."],
    )
    return drill


def incomplete() -> Data:
    """The drill was cut off before the zone came back."""
    drill = passed()
    drill.update(
        id="drill-cut-off",
        ended=None,
        healed_at=None,
        moments={"first_error": 0.04, "fail_seen": 2.31, "promoted": None},
        redundant_after_heal=None,
        overlap=None,
        verdict="incomplete",
        reasons=["The controller lost its connection 9 s after the fault; the zone may still be down."],
        losses={"acknowledged": 9120, "lost": None, "altered": None, "unknown": 12, "failed": 130, "keys": []},
    )
    drill["topology"]["after"] = None
    drill["prediction"].update(survives=False, verdict="slots 5461-10922 have no copy elsewhere", write_gap=None)
    for objective in drill["objectives"]:
        objective.update(measured=None, met=None)
    for shard in drill["shards"]:
        shard.update(promoted=None, new_master=None, lost=None, altered=None, write_gap=None, read_gap=None)
        shard["predicted_write_gap"] = None if shard["struck"] else 0.0
    series = drill["series"]["shards"]
    drill["series"]["shards"] = {name: rows[:56] for name, rows in series.items()}
    return drill


def _shard(i: int, shards: int, rng: random.Random) -> Data:
    zone = ZONES[i % 3]
    struck = zone == "b"
    first, last = 16384 * i // shards, 16384 * (i + 1) // shards - 1
    gap = round(3.0 + rng.random(), 2) if struck else 0.0
    return {
        "shard": f"{zone}{i // 3 + 1}:6379",
        "slots": f"{first}-{last}",
        "struck": struck,
        "predicted_write_gap": 3.9 if struck else 0.0,
        "write_gap": gap,
        "read_gap": round(gap * 0.8, 2),
        "fail_seen": 2.31 if struck else None,
        "promoted": round(gap - 0.3, 2) if struck else None,
        "new_master": f"c{i // 3 + 1}:6380" if struck else None,
        "overlap": 0.0,
        "acknowledged": 12000 + rng.randrange(1500),
        "failed": rng.randrange(120, 180) if struck else 0,
        "unknown": rng.randrange(3, 12) if struck else 0,
        "lost": 0,
        "altered": 0,
        "failed_present": 0,
        "unknown_present": rng.randrange(3) if struck else 0,
        "stale_reads": rng.randrange(9),
        "reads": 24000 + rng.randrange(900),
        "errors": {"TimeoutError": 12, "ConnectionError": 133} if struck else {},
    }


def _buckets(shard: Data, rng: random.Random) -> list[list[float]]:
    return [_bucket(shard, BEGIN + i * STEP, rng) for i in range(int((END - BEGIN) / STEP))]


def _bucket(shard: Data, at: float, rng: random.Random) -> list[float]:
    ok = 48 + rng.randrange(8)
    if shard["struck"] and -STEP < at < 0:
        return [ok // 2, 3, ok, 5, 90.0]
    if shard["struck"] and 0 <= at < shard["write_gap"]:
        idle = rng.random() < 0.15
        reads_ok = ok if at >= shard["read_gap"] else 0
        return [0, 0 if idle else rng.randrange(8, 15), reads_ok, 0 if reads_ok else 10, 0 if idle else 1000.0]
    busy = 8.0 if 20 < at < 27 else 1.0
    return [ok, 0, 2 * ok, 0, round(rng.lognormvariate(0.7, 0.5) * busy, 2)]


def _nodes(shards: int, phase: str = "before") -> list[Data]:
    """A master and two replicas a shard, each in another zone; the first replica follows a lost master."""
    return [_node(i, k, phase) for i in range(shards) for k in range(3)]


def _node(i: int, k: int, phase: str) -> Data:
    zone, number = ZONES[(i + k) % 3], i // 3 + 1
    role = "replica" if k else "master"
    if phase == "during":
        struck = ZONES[i % 3] == "b"
        role = "down" if zone == "b" else "master" if struck and k == 1 else role
    name = f"{zone}{number}:{6379 + k}"
    return {
        "name": name,
        "zone": zone,
        "host": f"{zone}{number}",
        "role": role,
        "shard": f"{ZONES[i % 3]}{number}:6379",
    }
