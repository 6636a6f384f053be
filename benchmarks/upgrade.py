"""An upgrade of nine nodes under load, by playbooks/upgrade.yml and by the plain recipe, side by side.

python -m benchmarks.upgrade [--path 6.2.14,7.0.15,8.0.2] [--rounds 3] [--json FILE]: prints Markdown.
The plain recipe: one node after the other; a master's first replica takes over (redis-cli CLUSTER FAILOVER) and then
the node is stopped and started with the new server, as soon as ROLE and PING say so. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import redis
import yaml

from tests.live.programs import pack
from tests.live.rolls import server
from tests.live.servers import ROOT, wait_until

BASE, PORT = "127.57", 7001
WRITERS, KEYS, OPS = 3, 600, 300  # processes; keys and writes a second of each


@dataclass(frozen=True)
class Run:
    """One upgrade. seconds: all of it. gaps: longest time without an acknowledged write, by shard (first slot).

    lost: acknowledged writes that were not there afterwards. errors: that reached a client with its ordinary retries.
    """

    tool: str
    old: str
    new: str
    seconds: float
    gaps: dict[int, float]
    acknowledged: int
    lost: int
    errors: list[str]


class Nodes:
    """Nine hosts in three zones on this machine, made a cluster with two replicas a shard by site.yml."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory, self.nodes = directory, directory / "nodes"
        self.hosts = {f"{z}{n}": f"{BASE}.{number % 250}.{10 * i + n}" for i, z in enumerate("abc") for n in (1, 2, 3)}
        inventory = directory / "inventory"
        (inventory / "group_vars/redis").mkdir(parents=True)
        demo = (ROOT / "inventory/demo/group_vars/redis.yml").read_text()
        (inventory / "group_vars/redis/a.yml").write_text(demo)
        hosts = {h: {"redis_node_zone": h[0], "redis_node_address": a} for h, a in self.hosts.items()}
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"redis": {"hosts": hosts}}))
        self.inventory = inventory

    def state(self, version: str) -> None:
        """This version is stated from now on; one directory of versions for each host."""
        archive = self.directory / f"redis-{version}.tar.gz"
        if not archive.exists():
            pack(archive, {"bin/redis-server": server(version)["path"]})
        told: dict[str, Any] = {
            "redis_cluster_replicas": 2,
            "redis_install_method": "archive",
            "redis_install_version": version,
            "redis_install_archive": str(archive),
            "redis_install_root": str(self.nodes / "{{ inventory_hostname }}/opt"),
            "redis_install_user": "",
            "redis_restart_max_unavailable": 0,
        }
        (self.inventory / "group_vars/redis/b.yml").write_text(yaml.safe_dump(told))

    def play(self, playbook: str, *options: str) -> None:
        programs = Path(sys.executable).parent
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
            "SLOTWRIGHT_DEMO_DIR": str(self.nodes),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        command = [str(programs / "ansible-playbook"), playbook, "-i", str(self.inventory), *options]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{playbook} failed:\n{done.stdout[-5000:]}{done.stderr[-2000:]}")

    def client(self, host: str) -> redis.Redis:
        return redis.Redis(self.hosts[host], PORT, decode_responses=True, socket_timeout=5)

    def versions(self) -> set[str]:
        return {str(self.client(host).info("server")["redis_version"]) for host in self.hosts}

    def plain(self, version: str) -> None:
        """The recipe of the docs of Redis, as a shell script would do it. The new server lies there already."""
        for host in self.hosts:
            client = self.client(host)
            role = client.execute_command("ROLE")
            if role[0] == "master":
                lines = [line.split() for line in str(client.execute_command("CLUSTER", "NODES")).splitlines()]
                mine = next(line[0] for line in lines if "myself" in line[2])
                address = next(line[1].partition(":")[0] for line in lines if line[3] == mine and "fail" not in line[2])
                subprocess.run(
                    ["redis-cli", "-h", address, "-p", str(PORT), "CLUSTER", "FAILOVER"],
                    check=True,
                    capture_output=True,
                )
                wait_until("it is a replica", lambda c=client: c.execute_command("ROLE")[0] == "slave", timeout=60)
            base = self.nodes / host
            pid = int((base / f"run/{PORT}.pid").read_text())
            while True:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                if not Path(f"/proc/{pid}").exists():
                    break
                time.sleep(0.1)
            new = base / f"opt/{version}/bin/redis-server"
            conf = base / f"conf/{PORT}/redis.conf"
            subprocess.run([new, base / f"data/{PORT}/rewrite.conf", "--include", conf], check=True, cwd="/")
            wait_until("it answers", lambda c=client: c.ping(), timeout=60)

    def close(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                if (process / "cwd").readlink().is_relative_to(self.nodes):
                    os.kill(int(process.name), signal.SIGKILL)


class Writer:
    """A process that writes its own keys in turn, numbers that go up, and keeps a ledger of what was acknowledged."""

    def __init__(self, number: int, address: str) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_write, args=(number, address, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def stop(self) -> tuple[dict[str, tuple[int, int]], list[tuple[float, int]], list[str]]:
        self._pipe.send("stop")
        found: tuple[dict[str, tuple[int, int]], list[tuple[float, int]], list[str]] = self._pipe.recv()
        self._process.join()
        return found


def _write(number: int, address: str, pipe: Connection) -> None:
    client = redis.RedisCluster(host=address, port=PORT, socket_timeout=5)
    ledger = {f"{number}:{k}": (0, 0) for k in range(KEYS)}
    slots = {key: client.keyslot(key) for key in ledger}
    times: list[tuple[float, int]] = []
    errors: list[str] = []
    names, count, due = list(ledger), 0, time.monotonic()
    pipe.send("ready")
    while not pipe.poll():
        count += 1
        key = names[count % KEYS]
        acknowledged, attempted = ledger[key]
        ledger[key] = (acknowledged, attempted + 1)
        try:
            client.set(key, attempted + 1)
        except Exception as error:  # whatever a client may see is counted
            errors.append(f"{type(error).__name__}: {error}")
        else:
            ledger[key] = (attempted + 1, attempted + 1)
            times.append((time.monotonic(), slots[key]))
        due = max(due + 1 / OPS, time.monotonic() - 0.05)
        time.sleep(max(0.0, due - time.monotonic()))
    pipe.send((ledger, times, errors))


def shards(nodes: Nodes) -> list[int]:
    """First slots, in order: three even shards, which stay as they are."""
    said = nodes.client("a1").execute_command("CLUSTER", "SLOTS")
    return sorted(int(entry[0]) for entry in said)


def measure(nodes: Nodes, tool: str, old: str, new: str) -> Run:
    firsts = shards(nodes)
    writers = [Writer(n, nodes.hosts["a1"]) for n in range(WRITERS)]
    time.sleep(1)
    begun = time.monotonic()
    if tool == "ours":
        nodes.play("playbooks/upgrade.yml", "-e", "redis_upgrade_commit=true")
    else:
        nodes.plain(new)
    seconds = time.monotonic() - begun
    time.sleep(3)
    ended = [writer.stop() for writer in writers]
    gaps = {}
    for first, after in zip(firsts, [*firsts[1:], 16384], strict=True):
        at = sorted(when for _, times, _ in ended for when, slot in times if first <= slot < after)
        gaps[first] = max((later - one for one, later in itertools.pairwise(at)), default=seconds)
    lost = 0
    client = redis.RedisCluster(host=nodes.hosts["b1"], port=PORT)
    for ledger, _, _ in ended:
        for key, (acknowledged, attempted) in ledger.items():
            value = int(client.get(key) or 0)
            lost += max(0, acknowledged - value) if value <= attempted else 1
    client.close()
    if nodes.versions() != {new}:
        raise RuntimeError(f"{tool} has ended with {nodes.versions()}")
    return Run(
        *(tool, old, new, seconds, gaps, sum(len(times) for _, times, _ in ended), lost),
        errors=[error for _, _, errors in ended for error in errors],
    )


def rounds(path: Sequence[str], count: int) -> list[Run]:
    runs = []
    for number in range(count):
        for tool in ("ours", "plain") if number % 2 == 0 else ("plain", "ours"):
            with tempfile.TemporaryDirectory() as directory:
                nodes = Nodes(Path(directory), os.getpid() + len(runs))
                try:
                    nodes.state(path[0])
                    nodes.play("site.yml")
                    for old, new in itertools.pairwise(path):
                        nodes.state(new)
                        if tool == "plain":
                            nodes.play("playbooks/install.yml")
                        runs.append(measure(nodes, tool, old, new))
                        print(runs[-1], file=sys.stderr, flush=True)
                finally:
                    nodes.close()
    return runs


def table(runs: Sequence[Run]) -> str:
    lines = ["| Upgrade | Tool | Seconds | Longest write gap of each shard, ms | Acknowledged | Lost | Errors |"]
    lines.append("|---|---|---|---|---|---|---|")
    for old, new in dict.fromkeys((run.old, run.new) for run in runs):
        for tool in ("ours", "plain"):
            some = [run for run in runs if (run.old, run.new, run.tool) == (old, new, tool)]
            if some:
                worst = [max(values) for values in zip(*(sorted(run.gaps.values()) for run in some), strict=True)]
                shown = ", ".join(f"{1000 * gap:.0f}" for gap in worst)
                errors = sum(len(run.errors) for run in some)
                lines.append(
                    f"| {old} to {new} | {tool} | {median(run.seconds for run in some):.1f} | {shown} | "
                    f"{sum(run.acknowledged for run in some):,} | {sum(run.lost for run in some)} | {errors} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--path", default="6.2.14,7.0.15,8.0.2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = rounds(options.path.split(","), options.rounds)
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    print(table(runs))


if __name__ == "__main__":
    main()
