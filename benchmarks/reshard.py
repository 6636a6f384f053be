"""Slot moves beside `redis-cli --cluster rebalance`, on the same cluster in turn: from 3 to 4 masters, or more.

python -m benchmarks.reshard [--data empty,small,big] [--from 3 --to 4] [--server VERSION] [--tools …] [--pairs 5]:
prints Markdown, and with --section writes it into docs/benchmarks.md. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks.client import VALUE, Client, Latency
from slotwright.core.slots import SLOT_COUNT, Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Instance, Topology
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.link.migrate import Limits, move
from slotwright.link.migrate.wire import Wire, bulk, command
from slotwright.link.observe import observe
from tests.live.moves import key_of
from tests.live.servers import Servers, binary, make_cluster, wait_settled

BASE = "127.50"
TIMEOUT = 900.0  # seconds for one run, of whatever tool
SETTLE = 2.0  # seconds between two runs
SMALL, CLIENT_KEYS = 1_000_000, 1000
HASHES, FIELDS, FIELD = 20, 50_000, b"v" * 80  # about 5 MB each
PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"


@dataclass(frozen=True)
class Run:
    """One run of one tool. rss: MB of the controller's process at its most, ours only. latency: none without client."""

    data: str
    number: int
    tool: str
    seconds: float
    load: float
    rss: float
    latency: Latency | None


class Mover:
    """Our engine in a process of its own which has it imported."""

    def __init__(self, topology: Topology) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_move, args=(topology, theirs), daemon=True)
        self._process.start()

    def move(self, steps: Sequence[MoveSlots], limits: Limits) -> tuple[float, float]:
        """Seconds, with connecting and looking at the cluster; and MB of memory that it has used at the most so far."""
        self._pipe.send((steps, limits))
        answer = self._pipe.recv()
        if isinstance(answer, tuple):
            return answer
        raise RuntimeError(answer)


def _move(topology: Topology, pipe: Connection) -> None:
    while True:
        steps, limits = pipe.recv()
        begun = time.monotonic()
        try:
            with Links(topology.instances, Access()) as links:
                move(steps, topology, observe(topology, links), links, timeout=60, limits=limits)
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pipe.send((time.monotonic() - begun, used))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


class Bench:
    """A cluster of `masters` that share all slots and others that own none, and one server beside it, for the floor."""

    def __init__(self, servers: Servers, version: str, masters: int, targets: int) -> None:
        self.server = binary(version) if version else "redis-server"
        self.cli = self.server.replace("-server", "-cli")
        settings: dict[str, Any] = {"cluster-node-timeout": 15000, "cluster-allow-replica-migration": False}
        self.nodes = servers.start_many(masters + targets, config=settings, binary=self.server)
        self.beside = servers.start(binary=self.server, config={"cluster-enabled": False})
        make_cluster(self.nodes[:masters], masters)
        for node in self.nodes[masters:]:
            self.nodes[0].call("CLUSTER", "MEET", node.address, node.port)
        wait_settled(self.nodes)
        names = [f"m{number}:7000" for number in range(len(self.nodes))]
        instances = tuple(Instance(n, n[:-5], "z", s.address, s.port) for n, s in zip(names, self.nodes, strict=True))
        self.topology = Topology("bench", instances, 0, len(names))
        self.mover = Mover(self.topology)
        self.home = {n.name: n.myself.slots for n in self.look().nodes}
        self.targets = names[masters:]
        self.client_keys = 0
        self.budget: float | None = None
        self.rss = 0.0

    def look(self) -> Any:
        with Links(self.topology.instances, Access()) as links:
            return observe(self.topology, links)

    def fill(self, data: str) -> None:
        """empty; small: SMALL keys of 100 bytes; big: HASHES of 5 MB; or a number of small keys."""
        for node in self.nodes:
            node.call("FLUSHALL")
        keys = {"empty": 0, "small": SMALL, "big": CLIENT_KEYS}.get(data)
        self.client_keys = int(data) if keys is None else keys
        with Links(self.topology.instances, Access()) as links:
            wires = {name: Wire(links.another(name)) for name in self.home}
            owner = {slot: name for name, slots in self.home.items() for slot in slots}
            batches: dict[str, list[bytes]] = {name: [] for name in wires}
            for number in range(self.client_keys):
                key = f"key:{number}".encode()
                name = owner[redis.crc.key_slot(key)]
                batches[name].append(command("SET", key, VALUE))
                if len(batches[name]) == 1000:
                    wires[name].ask(*batches[name])
                    batches[name] = []
            for name, rest in batches.items():
                wires[name].ask_many(rest)
            if data == "big":
                going = [(step.node, slot) for step in self.share() for slot in list(step.slots)]
                for name, slot in going[:: len(going) // HASHES][:HASHES]:
                    for first in range(0, FIELDS, 1000):
                        fields = [word for n in range(first, first + 1000) for word in (f"f{n}", FIELD)]
                        wires[name].ask(command("HSET", key_of(slot, "hash"), *fields))

    def count(self) -> int:
        return sum(node.call("DBSIZE") for node in self.nodes)

    def share(self) -> list[MoveSlots]:
        """What redis-cli moves: of each owner the first slots beyond its part, to one target after another."""
        part = SLOT_COUNT // len(self.nodes)
        owned = {name: list(slots) for name, slots in self.home.items() if slots}
        going = [(name, slot) for name, slots in owned.items() for slot in slots[: len(slots) - part]]
        each = -(-len(going) // len(self.targets))
        pairs: dict[tuple[str, str], list[int]] = {}
        for number, (name, slot) in enumerate(going):
            pairs.setdefault((name, self.targets[number // each]), []).append(slot)
        return [MoveSlots(name, target, Slots.of(slots)) for (name, target), slots in pairs.items()]

    def ours(self, limits: Limits) -> float:
        seconds, self.rss = self.mover.move(self.share(), limits)
        return seconds

    def redis_cli(self, *options: str) -> float:
        primaries = "primaries" if "valkey" in self.cli else "masters"
        command = [self.cli, "--cluster", "rebalance", self.nodes[0].name, f"--cluster-use-empty-{primaries}", *options]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        seconds = time.monotonic() - begun
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        return seconds

    def floor(self) -> float:
        """Seconds that the bytes alone take, one after the other: pipelines of DUMP here, of RESTORE beside."""
        taken = 0.0
        with Links(self.topology.instances, Access()) as links, self.beside.client() as raw:
            assert raw.connection_pool
            spare = Instance("spare:1", "spare", "z", self.beside.address, self.beside.port)
            with Links([spare], Access()) as others:
                target = Wire(others.another("spare:1"))
                for step in self.share():
                    wire = Wire(links.another(step.node))
                    asked = [command("CLUSTER", "GETKEYSINSLOT", slot, 100_000) for slot in step.slots]
                    keys = [key for some in wire.ask_many(asked, 64) for key in some]  # type: ignore[union-attr]
                    begun = time.monotonic()
                    for first in range(0, len(keys), 500):
                        some = keys[first : first + 500]
                        dumped = wire.ask(*(b"*2\r\n$4\r\nDUMP\r\n" + key for key in some))  # type: ignore[operator]
                        packed = (
                            b"*4\r\n$7\r\nRESTORE\r\n" + key + bulk("0") + bulk(dump)  # type: ignore[operator,arg-type]
                            for key, dump in zip(some, dumped, strict=True)
                        )
                        target.ask(*packed)
                    taken += time.monotonic() - begun
                    wire.close()
        self.beside.call("FLUSHALL")
        return taken

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

    def measure(self, data: str, number: int, tool: str) -> Run:
        load = os.getloadavg()[0]
        if tool == "floor":
            return Run(data, number, tool, self.floor(), load, 0.0, None)
        before = self.count()
        client = Client(self.nodes[0].address, self.nodes[0].port, self.client_keys)
        time.sleep(0.5)
        self.rss = 0.0
        seconds = TOOLS[tool](self)
        time.sleep(0.2)
        latency = client.stop()
        wait_settled(self.nodes)
        shares = sorted(len(n.myself.slots) for n in self.look().nodes)
        if shares[-1] - shares[0] > len(self.nodes):
            raise RuntimeError(f"{tool} left the shares {shares}")
        if self.count() != before:
            raise RuntimeError(f"{tool}: {before} keys before, {self.count()} after")
        if tool == "redis-cli":
            self.budget = latency.p99 / 1000
        self.back()
        time.sleep(SETTLE)
        return Run(data, number, tool, seconds, load, self.rss, latency)


TOOLS: dict[str, Callable[[Bench], float]] = {
    "classic": lambda bench: bench.ours(Limits(strategy="classic")),
    "budget": lambda bench: bench.ours(Limits(strategy="classic", budget=bench.budget or 0.001)),
    "atomic": lambda bench: bench.ours(Limits(strategy="atomic")),
    "redis-cli": lambda bench: bench.redis_cli(),
    "redis-cli-100": lambda bench: bench.redis_cli("--cluster-pipeline", "100"),
    "cli-atomic": lambda bench: bench.redis_cli("--cluster-use-atomic-slot-migration"),
}
FELT = ("p50", "p99", "p999", "longest")
BASES = ("redis-cli", "redis-cli-100", "cli-atomic", "floor")


def table(runs: Sequence[Run]) -> str:
    bases = [base for base in BASES if any(run.tool == base for run in runs)]
    against = "".join(f" against {base} |" for base in bases)
    lines = [
        f"| data | tool | runs | seconds, median (least–most) |{against} client p50 / p99 / p99.9 / max, ms | errors |",
        "|---|---|--:|---|" + "--:|" * len(bases) + "---|--:|",
    ]
    for data in dict.fromkeys(run.data for run in runs):
        for tool in dict.fromkeys(run.tool for run in runs):
            mine = [run for run in runs if (run.data, run.tool) == (data, tool)]
            if not mine:
                continue
            times = [run.seconds for run in mine]
            ratios = "".join(f" {_ratio(runs, data, base, tool)} |" for base in bases)
            felt = [run.latency for run in mine if run.latency]
            shown = (
                " / ".join(f"{median(getattr(one, w) for one in felt):.2f}" for w in ("p50", "p99", "p999", "longest"))
                if felt
                else ""
            )
            errors = sum(sum(one.errors.values()) for one in felt)
            spread = f"{median(times):.2f} ({min(times):.2f}–{max(times):.2f})"
            lines.append(f"| {data} | {tool} | {len(mine)} | {spread} |{ratios} {shown} | {errors} |")
    loads, rss = [run.load for run in runs], max((run.rss for run in runs), default=0.0)
    lines += [
        "",
        f"Ratios are medians over the rounds. Load average before the runs: median {median(loads):.1f}, "
        f"{min(loads):.1f} to {max(loads):.1f}. Our process used {rss:.0f} MB at the most.",
    ]
    return "\n".join(lines)


def _ratio(runs: Sequence[Run], data: str, base: str, tool: str) -> str:
    """How many times as long the base took, median of the rounds."""
    seconds = {(run.number, run.tool): run.seconds for run in runs if run.data == data}
    found = [seconds[n, base] / seconds[n, tool] for n, t in seconds if t == tool and (n, base) in seconds]
    return f"{median(found):.2f} ×" if found and base != tool else ""


def write_section(title: str, text: str) -> None:
    """Put the text under this heading of docs/benchmarks.md, in place of what stood there."""
    page = PAGE.read_text()
    heading = f"\n### {title}\n"
    before, found, rest = page.partition(heading)
    if not found:
        raise SystemExit(f"docs/benchmarks.md has no heading «{title}»")
    after = rest.find("\n#")
    PAGE.write_text(before + heading + text + "\n" + (rest[after:] if after >= 0 else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="empty,small,big", help="empty, small, big, or numbers of small keys")
    parser.add_argument("--from", dest="masters", type=int, default=3)
    parser.add_argument("--to", type=int, default=4)
    parser.add_argument("--server", default="", help="a version of tools/fetch_redis.py; default: redis-server of PATH")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each tool")
    parser.add_argument("--tools", default="redis-cli,redis-cli-100,classic,budget,floor")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--section", help="heading in docs/benchmarks.md under which the result is put")
    given = parser.parse_args()
    tools = given.tools.split(",")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="bench-reshard-") as directory, Servers(Path(directory), BASE) as servers:
        bench = Bench(servers, given.server, given.masters, given.to - given.masters)
        for data in given.data.split(","):
            bench.fill(data)
            for number in range(given.pairs):
                turn = number % len(tools)
                for tool in (*tools[turn:], *tools[:turn]):
                    if tool == "floor" and data == "empty":
                        continue
                    run = bench.measure(data, number, tool)
                    runs.append(run)
                    print(
                        f"{data:6}, {tool:13}: {run.seconds:6.2f} s, load {run.load:.1f}, {run.latency}",
                        file=sys.stderr,
                    )
                    if given.json:
                        given.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    asked = f"--data {given.data} --from {given.masters} --to {given.to} --tools {given.tools} --pairs {given.pairs}"
    asked += f" --server {given.server}" if given.server else ""
    text = f"`python -m benchmarks.reshard {asked}`\n\n{table(runs)}"
    print(text)
    if given.section:
        write_section(given.section, text)


if __name__ == "__main__":
    main()
