"""What the loss of a zone costs: every kind of fault, every zone, again and again; and a planned stop beside it.

python -m benchmarks.drill [--layout 9,6] [--faults kill,…] [--repeats 5] [--seconds 9] [--json FILE]: prints Markdown.
Hosts are loopback addresses of this machine, set up by redis_instances and struck by redis_fault. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from slotwright.manager.handover import Asked, hand_over
from tests.live.drills import FleetStage
from tests.live.rolls import Fleet, fleet
from tests.live.servers import Servers

BASE = "127.61"
LAYOUTS = {9: ("a1 a2 a3 b1 b2 b3 c1 c2 c3", 2), 6: ("a1 a2 b1 b2 c1 c2", 1)}
FAULTS = ("stop", "kill", "freeze", "partition", "partition-one-way", "bus-only")
PLANNED = "stop after failover.yml"
NODE_TIMEOUT = 2000  # milliseconds


@dataclass(frozen=True)
class Run:
    """One drill. Seconds after the fault; gap: of writes to the shards that were struck, other: to the others."""

    nodes: int
    fault: str
    zone: str
    verdict: str
    fail: float | None
    gap: float | None
    other: float | None
    acknowledged: int
    lost: int
    predicted_loss: int
    predicted_gap: float | None
    redundant: float | None
    restored: float | None
    overlap: float
    trouble: str


def measure(stage: FleetStage, nodes: int, fault: str, zone: str, seconds: float) -> Run:
    if fault == PLANNED:
        with stage.fleet.links() as links:
            hand_over(stage.request, Asked(empty=(zone,)), links, lambda line: None)
    # Where a zone was emptied, the zones that are left have two of three masters: that is what was asked for.
    found = stage.drill(zone=zone, fault=fault.partition(" ")[0], seconds=seconds, writes=100.0, reads=30.0)
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for shard in found["shards"]:
        if shard["write_gap"] is not None:
            gaps[shard["struck"]].append(shard["write_gap"])
    return Run(
        nodes,
        fault,
        zone,
        found["verdict"],
        found["moments"]["fail_seen"],
        max(gaps[True], default=None),
        max(gaps[False], default=None),
        found["losses"]["acknowledged"],
        found["losses"]["lost"] + found["losses"]["altered"],
        found["prediction"]["worst_loss"],
        found["prediction"]["write_gap"],
        found["redundant_after_heal"],
        found["moments"]["restored"],
        found["overlap"],
        "; ".join(found["reasons"]),
    )


def table(runs: Sequence[Run]) -> str:
    lines = [
        "| nodes | fault | drills | FAIL seen, s | write gap, s (predicted) | other shards, s | acknowledged | "
        "lost, by drill (predicted) | redundant after the heal, s | overlap, s |",
        "|--:|---|--:|---|---|---|--:|---|---|---|",
    ]
    for nodes, fault in dict.fromkeys((run.nodes, run.fault) for run in runs):
        some = [run for run in runs if (run.nodes, run.fault) == (nodes, fault)]
        predicted = next((f"at most {r.predicted_gap:.1f}" for r in some if r.predicted_gap is not None), "never")
        lost = [run.lost for run in some]
        lines.append(
            f"| {nodes} | {fault} | {len(some)} | {_spread(r.fail for r in some)} | "
            f"{_spread(r.gap for r in some)} ({predicted}) | {_spread(r.other for r in some)} | "
            f"{sum(r.acknowledged for r in some):,} | {median(lost):.0f}, {min(lost)}–{max(lost)} "
            f"(at most {max(r.predicted_loss for r in some)}) | {_spread(r.redundant for r in some)} | "
            f"{_spread(r.overlap for r in some)} |"
        )
    wrong = [f"{r.fault} of zone {r.zone}, {r.nodes} nodes: {r.trouble}" for r in runs if r.trouble]
    return "\n".join([*lines, "", *(f"- {line}" for line in wrong)])


def _spread(values: Any) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):.2f}, {min(found):.2f}–{max(found):.2f}" if found else "–"


def prepared(servers: Servers, directory: Path, nodes: int) -> Fleet:
    hosts, replicas = LAYOUTS[nodes]
    made = fleet(servers, directory / f"nodes{nodes}", hosts, replicas=replicas, version="7.0.15")
    made.config |= {"cluster-node-timeout": NODE_TIMEOUT, "protected-mode": "no"}
    for machine in made.machines.values():
        # Else all traffic on loopback comes from 127.0.0.1, and no host can be told from another.
        machine.options["port_config"] = {"7001": {"bind-source-addr": machine.address}}
    made.create()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", default="9,6")
    parser.add_argument("--faults", default=",".join((*FAULTS, PLANNED)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=9.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    runs: list[Run] = []
    for nodes in map(int, given.layout.split(",")):
        with tempfile.TemporaryDirectory(prefix="bench-drill-") as directory, Servers(Path(directory), BASE) as servers:
            made = prepared(servers, Path(directory), nodes)
            try:
                stage = FleetStage(made, Path(directory) / "history")
                for repeat in range(given.repeats):
                    for fault in given.faults.split(","):
                        for zone in "abc":
                            begun = time.monotonic()
                            run = measure(stage, nodes, fault, zone, given.seconds)
                            runs.append(run)
                            print(f"{repeat} {time.monotonic() - begun:.0f} s {run}", file=sys.stderr, flush=True)
                            if given.json:
                                given.json.write_text(json.dumps([asdict(one) for one in runs], indent=1))
            finally:
                made.close()
    print(table(runs))


if __name__ == "__main__":
    main()
