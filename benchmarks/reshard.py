"""Slot moves beside `redis-cli --cluster rebalance`, on the same cluster in turn: from 3 to 4 masters.

python -m benchmarks.reshard [--keys 0,1000000] [--pairs 5] [--json FILE]: prints Markdown. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import redis

from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Instance, Topology
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.link.migrate import Limits, move
from slotwright.link.migrate.wire import Wire, command
from slotwright.link.observe import observe
from tests.live.servers import Server, Servers, make_cluster, wait_settled

BASE = "127.41"
TIMEOUT = 300.0  # seconds for one run, of whatever tool
VALUE = b"x" * 100
PROBE_OPS = 200  # a second, by the client that measures latency
SETTLE = 2.0  # seconds between two runs


@dataclass(frozen=True)
class Latency:
    """What a client felt while slots moved, in milliseconds; errors: what it saw, and how often."""

    p50: float
    p99: float
    p999: float
    longest: float
    errors: dict[str, int]


@dataclass(frozen=True)
class Run:
    tool: str
    keys: int
    seconds: float
    load: float
    latency: Latency


class Client:
    """A redis-py client in a process of its own: reads and writes keys of all slots, and measures."""

    def __init__(self, node: Server, keys: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(
            target=_probe, args=(node.address, node.port, keys, theirs), daemon=True
        )
        self._process.start()
        self._pipe.recv()

    def stop(self) -> Latency:
        self._pipe.send("stop")
        times, errors = self._pipe.recv()
        self._process.join()
        cuts = quantiles(times, n=1000) if len(times) > 1 else [0.0] * 999
        return Latency(*(1000 * t for t in (cuts[499], cuts[989], cuts[998], max(times, default=0.0))), errors)


def _probe(address: str, port: int, keys: int, pipe: Connection) -> None:
    client = redis.RedisCluster(host=address, port=port, socket_timeout=30)
    times: list[float] = []
    errors: dict[str, int] = {}
    pipe.send("ready")
    number, due = 0, time.monotonic()
    while not pipe.poll():
        number += 7919
        begun = time.monotonic()
        try:
            if number % 2 or not keys:
                client.get(f"key:{number % (keys or 100000)}")
            else:
                client.set(f"key:{number % keys}", VALUE)
        except Exception as error:
            errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
        times.append(time.monotonic() - begun)
        due = max(due + 1 / PROBE_OPS, begun)
        time.sleep(max(0.0, due - time.monotonic()))
    pipe.send((times, errors))


class Mover:
    """Our engine in a process of its own which has it imported."""

    def __init__(self, topology: Topology) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_move, args=(topology, theirs), daemon=True)
        self._process.start()

    def move(self, steps: Sequence[MoveSlots], limits: Limits) -> float:
        """Seconds, with connecting and looking at the cluster."""
        self._pipe.send((steps, limits))
        answer = self._pipe.recv()
        if isinstance(answer, float):
            return answer
        raise RuntimeError(answer)


def _move(topology: Topology, pipe: Connection) -> None:
    while True:
        steps, limits = pipe.recv()
        begun = time.monotonic()
        try:
            with Links(topology.instances, Access()) as links:
                move(steps, topology, observe(topology, links), links, timeout=60, limits=limits)
            pipe.send(time.monotonic() - begun)
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


class Bench:
    def __init__(self, servers: Servers) -> None:
        self.nodes = servers.start_many(
            4, config={"cluster-node-timeout": 15000, "cluster-allow-replica-migration": False}
        )
        make_cluster(self.nodes[:3], 3)
        self.nodes[0].call("CLUSTER", "MEET", self.nodes[3].address, self.nodes[3].port)
        wait_settled(self.nodes)
        names = [f"{zone}1:7000" for zone in "abcd"]
        instances = tuple(Instance(n, n[:2], n[0], s.address, s.port) for n, s in zip(names, self.nodes, strict=True))
        self.topology = Topology("bench", instances, 0, 4)
        self.mover = Mover(self.topology)
        self.home = {n.name: n.myself.slots for n in self.look().nodes}
        self.keys = 0

    def look(self) -> Any:
        with Links(self.topology.instances, Access()) as links:
            return observe(self.topology, links)

    def fill(self, keys: int) -> None:
        for node in self.nodes:
            node.call("FLUSHALL")
        with Links(self.topology.instances, Access()) as links:
            wires = {name: Wire(links.another(name)) for name in self.home}
            owner = {slot: name for name, slots in self.home.items() for slot in slots}
            batches: dict[str, list[bytes]] = {name: [] for name in wires}
            for number in range(keys):
                key = f"key:{number}".encode()
                name = owner[redis.crc.key_slot(key)]
                batches[name].append(command("SET", key, VALUE))
                if len(batches[name]) == 1000:
                    wires[name].ask(*batches[name])
                    batches[name] = []
            for name, rest in batches.items():
                wires[name].ask_many(rest)
        self.keys = keys

    def count(self) -> int:
        return sum(node.call("DBSIZE") for node in self.nodes)

    def share(self) -> list[MoveSlots]:
        """What redis-cli moves: a quarter of the slots, from each as much."""
        return [
            MoveSlots(name, "d1:7000", Slots.of(list(slots)[: len(slots) - 4096]))
            for name, slots in self.home.items()
            if slots
        ]

    def back(self) -> None:
        view = self.look()
        steps = [
            MoveSlots(node.name, name, node.myself.slots & slots)
            for node in view.nodes
            for name, slots in self.home.items()
            if name != node.name and node.myself.slots & slots
        ]
        self.mover.move(steps, Limits())
        wait_settled(self.nodes)

    def measure(self, tool: str) -> Run:
        before = self.count()
        client = Client(self.nodes[0], self.keys)
        time.sleep(0.5)
        load = os.getloadavg()[0]
        seconds = TOOLS[tool](self)
        time.sleep(0.2)
        latency = client.stop()
        wait_settled(self.nodes)
        view = self.look()
        shares = sorted(len(n.myself.slots) for n in view.nodes)
        if shares != [4096] * 4:
            raise RuntimeError(f"{tool} left the shares {shares}")
        if self.count() != before:
            raise RuntimeError(f"{tool}: {before} keys before, {self.count()} after")
        self.back()
        time.sleep(SETTLE)
        return Run(tool, self.keys, seconds, load, latency)


def ours(bench: Bench) -> float:
    return bench.mover.move(bench.share(), Limits())


def redis_cli(*options: str) -> Callable[[Bench], float]:
    def run(bench: Bench) -> float:
        command = ["redis-cli", "--cluster", "rebalance", bench.nodes[0].name, "--cluster-use-empty-masters", *options]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        seconds = time.monotonic() - begun
        if done.returncode:
            raise RuntimeError(f"redis-cli ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        return seconds

    return run


TOOLS: dict[str, Callable[[Bench], float]] = {
    "classic": ours,
    "redis-cli": redis_cli(),
    "redis-cli-100": redis_cli("--cluster-pipeline", "100"),
}


def table(runs: Sequence[Run]) -> str:
    lines = [
        "| keys | tool | runs | seconds, median (least–most) | against redis-cli | against redis-cli-100 "
        "| client p50 / p99 / p99.9 / max, ms | errors |",
        "|--:|---|--:|---|--:|--:|---|--:|",
    ]
    for keys in sorted({run.keys for run in runs}):
        for tool in TOOLS:
            mine = [run for run in runs if (run.keys, run.tool) == (keys, tool)]
            if not mine:
                continue
            times = [run.seconds for run in mine]
            ratios = " | ".join(_ratio(runs, keys, other, times) for other in ("redis-cli", "redis-cli-100"))
            felt = " / ".join(
                f"{median(getattr(run.latency, what) for run in mine):.1f}"
                for what in ("p50", "p99", "p999", "longest")
            )
            errors = sum(sum(run.latency.errors.values()) for run in mine)
            spread = f"{median(times):.2f} ({min(times):.2f}–{max(times):.2f})"
            lines.append(f"| {keys} | {tool} | {len(mine)} | {spread} | {ratios} | {felt} | {errors} |")
    loads = [run.load for run in runs]
    lines += ["", f"Load average before the runs: median {median(loads):.1f}, {min(loads):.1f} to {max(loads):.1f}."]
    return "\n".join(lines)


def _ratio(runs: Sequence[Run], keys: int, other: str, times: Sequence[float]) -> str:
    base = [run.seconds for run in runs if (run.keys, run.tool) == (keys, other)]
    return f"{median(base) / median(times):.1f} ×" if base else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default="0,1000000", help="numbers of keys, of 100 bytes each")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each tool")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    tools = given.tools.split(",")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="bench-reshard-") as directory, Servers(Path(directory), BASE) as servers:
        bench = Bench(servers)
        for keys in map(int, given.keys.split(",")):
            bench.fill(keys)
            for number in range(given.pairs):
                turn = number % len(tools)
                for tool in (*tools[turn:], *tools[:turn]):
                    run = bench.measure(tool)
                    runs.append(run)
                    print(
                        f"{keys:8} keys, {tool:13}: {run.seconds:6.2f} s, load {run.load:.1f}, {run.latency}",
                        file=sys.stderr,
                    )
    print(table(runs))
    if given.json:
        given.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


if __name__ == "__main__":
    main()
