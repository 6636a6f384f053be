"""Creation of a cluster, ours beside `redis-cli --cluster create`, on the same nodes in turn, until it is usable.

python -m benchmarks.create [--sizes 6,30,60] [--pairs 5] [--json FILE]: prints Markdown. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.common import Judge, NotUsableError, Verdict
from slotwright.core.topology import Instance, Topology
from slotwright.errors import SlotwrightError
from slotwright.link.access import Access
from slotwright.link.connect import Links
from slotwright.manager.converge import converge
from slotwright.manager.request import ARGUMENTS, Request
from tests.live.servers import Server, Servers

BASE = "127.26"
# The stock values of what makes a creation wait, and what the inventory of ours asks for.
STOCK = {"cluster-node-timeout": "15000", "repl-diskless-sync-delay": "5", "cluster-replica-no-failover": "no"}
BOOT = 3.5  # seconds: a master says "fail" for 2 s after its start, whatever is done to it
TIMEOUT = 120.0  # seconds for one creation, of whatever tool
PROGRAM = "import json, sys; from slotwright.manager.converge import main; main(json.load(sys.stdin), False)"

Tool = Callable[[Sequence[Server]], list[str]]


@dataclass(frozen=True)
class Run:
    """One creation; seconds since the tool was started.

    returned: the tool ended. usable: it had ended and the judge called the cluster usable. late: how long after the
    tool's end the judge still found something lacking (0: usable at once), and lacked: what. failed: why the run
    does not count; its times are then until the failure.
    """

    tool: str
    nodes: int
    returned: float
    usable: float
    late: float
    lacked: str
    load: float
    log: list[str]
    failed: str = ""


class ToolFailedError(Exception):
    """The tool's process ended with an error, or left the nodes otherwise than it should."""


def library(nodes: Sequence[Server]) -> list[str]:
    """Our library's call, connecting included."""
    lines: list[str] = []
    topology = _topology(nodes)
    request = Request(topology, Access(), 60, False)
    with Links(topology.instances, request.access) as links:
        converge(request, links, lines.append)
    return lines


def process(nodes: Sequence[Server]) -> list[str]:
    """A new Python that imports our library and does what the module redis_cluster does."""
    topology = _topology(nodes)
    given = {
        "name": topology.name,
        "instances": [asdict(i) for i in topology.instances],
        "settings": STOCK,
        "phase": "converge",
        "parallel": 0,
    }
    params = {name: spec.get("default") for name, spec in ARGUMENTS.items()} | given
    _execute([sys.executable, "-c", PROGRAM], json.dumps(params))
    return []


def redis_cli(nodes: Sequence[Server]) -> list[str]:
    command = ["redis-cli", "--cluster", "create", *(n.name for n in nodes)]
    return _execute([*command, "--cluster-replicas", "1", "--cluster-yes"], "").splitlines()


TOOLS: dict[str, Tool] = {"library": library, "process": process, "redis-cli": redis_cli}
TITLES = {
    "library": "Slotwright, library call",
    "process": "Slotwright, whole process",
    "redis-cli": "redis-cli, whole process",
}


def _execute(command: list[str], given: str) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolFailedError(f"{command[0]} has not returned after {TIMEOUT:g} s") from error
    if done.returncode:
        raise ToolFailedError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def _topology(nodes: Sequence[Server]) -> Topology:
    """One node a host, in zones of equal size: 3, or 5 from 60 nodes on."""
    zones = "abcde" if len(nodes) >= 60 else "abc"
    size = len(nodes) // len(zones)
    instances = []
    for i, node in enumerate(nodes):
        host = f"{zones[i // size]}{i % size + 1}"
        instances.append(Instance(f"{host}:{node.port}", host, host[0], node.address, node.port))
    return Topology("bench", tuple(instances), 1, len(nodes) // 2, False, tuple(sorted(STOCK.items())))


def measure(tool: str, count: int) -> Run:
    """One creation on blank nodes: new processes with empty directories, on the same addresses each time."""
    with tempfile.TemporaryDirectory(prefix="bench-create-") as directory, Servers(Path(directory), BASE) as servers:
        nodes = servers.start_many(count, config=dict(STOCK))
        time.sleep(BOOT)
        judge = Judge([(n.address, n.port) for n in nodes], TIMEOUT)
        load = os.getloadavg()[0]
        begun = time.monotonic()
        try:
            log = TOOLS[tool](nodes)
            returned = time.monotonic()
            verdict = judge.verdict(returned)
            _as_before(nodes)
        except (SlotwrightError, ToolFailedError, NotUsableError) as error:
            spent = time.monotonic() - begun
            return Run(tool, count, spent, spent, 0.0, "", load, [], str(error))
        finally:
            judge.dismiss()
        return _run(tool, count, begun, returned, verdict, load, log)


def _run(tool: str, count: int, begun: float, returned: float, verdict: Verdict, load: float, log: list[str]) -> Run:
    late = verdict.late(returned)
    usable = max(returned, verdict.since) if late else returned
    return Run(tool, count, returned - begun, usable - begun, late, verdict.lacked if late else "", load, log)


def _as_before(nodes: Sequence[Server]) -> None:
    """No tool may leave other settings behind than the nodes were started with."""
    for node in nodes:
        for directive, value in STOCK.items():
            found = node.call("CONFIG", "GET", directive)[1]
            if found != value:
                raise ToolFailedError(f"{node.name} was left with {directive} {found}, not {value}")


def rounds(count: int, pairs: int, tools: Sequence[str]) -> list[Run]:
    """`pairs` runs of each tool in turn; who goes first changes from round to round."""
    runs = []
    for number in range(pairs):
        turn = number % len(tools)
        for tool in (*tools[turn:], *tools[:turn]):
            run = measure(tool, count)
            runs.append(run)
            print(
                f"{count:3} nodes, {tool:9}: returned {run.returned:6.2f} s, usable {run.usable:6.2f} s, "
                f"late {run.late * 1000:5.0f} ms, load {run.load:.1f} {run.failed}",
                file=sys.stderr,
            )
    return runs


def table(runs: Sequence[Run]) -> str:
    lines = [
        "| nodes | tool | runs | returns, s | usable, s | usable after its return, ms | ours is faster by |",
        "|--:|---|---|---|---|--:|--:|",
    ]
    for count in sorted({r.nodes for r in runs}):
        for tool, title in TITLES.items():
            mine = [r for r in runs if (r.nodes, r.tool) == (count, tool)]
            good = [r for r in mine if not r.failed]
            if not mine:
                continue
            failed = len(mine) - len(good)
            cells = [str(count), title, f"{len(mine)}, {failed} failed" if failed else str(len(mine))]
            if good:
                late = max(r.late for r in good) * 1000
                cells += [_spread([r.returned for r in good]), _spread([r.usable for r in good]), f"{late:.0f} at most"]
                cells.append("" if tool == "redis-cli" else _ratio(runs, good))
            else:
                cells += [""] * 4
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(runs: Sequence[Run], ours: Sequence[Run]) -> str:
    theirs = [r for r in runs if (r.nodes, r.tool) == (ours[0].nodes, "redis-cli") and not r.failed]
    if not theirs:
        return ""
    usable, ended, mine = (
        median(times) for times in ([r.usable for r in theirs], [r.returned for r in theirs], [r.usable for r in ours])
    )
    return f"**{usable / mine:.1f} ×** (its exit: {ended / mine:.1f} ×)"


def _spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def machine() -> str:
    """What the figures depend on."""
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    version = said.split(" v=")[1].split()[0]
    return f"{os.cpu_count()} cores, loopback, Redis {version}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="6,30,60", help="numbers of nodes, all even (default: %(default)s)")
    parser.add_argument("--pairs", type=int, help="runs of each tool (default: 5 up to 6 nodes, 3 above)")
    parser.add_argument("--tools", default="library,redis-cli,process", help="default: %(default)s")
    parser.add_argument("--node-timeout", default=STOCK["cluster-node-timeout"], help="ms, default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    options = parser.parse_args()
    STOCK["cluster-node-timeout"] = options.node_timeout
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    runs: list[Run] = []
    for count in map(int, options.sizes.split(",")):
        runs += rounds(count, options.pairs or (5 if count <= 6 else 3), options.tools.split(","))
    loads = [r.load for r in runs]
    print(
        f"\nMedian (min–max). {machine()}, cluster-node-timeout {options.node_timeout}; "
        f"load average before the runs {min(loads):.1f}–{max(loads):.1f}.\n"
    )
    print(table(runs))
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in runs], indent=1) + "\n")
    ours = [r for r in runs if r.tool != "redis-cli"]
    wrong = [f"{r.nodes} nodes, {r.tool}: {r.failed}" for r in runs if r.failed]
    wrong += [f"{r.nodes} nodes, {r.tool}: returned before the cluster was usable: {r.lacked}" for r in ours if r.late]
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
