"""A second run of site.yml, which changes nothing, beside the same state kept by builtin tasks in loops.

tools/with_docker.sh .venv/bin/python -m benchmarks.site [--sizes 6,30] [--rounds 3] [--json FILE]: prints Markdown.
See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import yaml

from tests.live.container import image

ROOT = Path(__file__).resolve().parents[1]
BASE = "127.34"
PORTS = [7001, 7002]
IDLE = 5.0  # seconds for which the hosts are watched while nothing happens
OURS, BASELINE = "site.yml", "benchmarks/baseline/site.yml"
KEPT = ("etc/redis-cluster", "etc/systemd/system", "etc/sysctl.d")
"""Below these are the files that site.yml writes; the baseline is given them as its templates."""


@dataclass(frozen=True)
class Run:
    """One run of a playbook; seconds from the start of ansible-playbook until it has ended.

    cpu: seconds of processor time, of ansible-playbook with all its children and of the hosts, without what the hosts
    use while nothing happens. load: of the machine, before the run.
    """

    playbook: str
    hosts: int
    seconds: float
    cpu: float
    load: float


class Fleet:
    """Hosts with systemd in the machine's own network, each at its own loopback address, reached by real SSH."""

    def __init__(self, size: int, directory: Path) -> None:
        self.hosts = {f"redis-{'abc'[n % 3]}{n // 3 + 1}": f"{BASE}.{n % 3 + 1}.{n // 3 + 1}" for n in range(size)}
        self._directory = directory
        (directory / "ssh").mkdir()
        self._environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # What molecule tells the playbooks that make the hosts.
            "MOLECULE_SCENARIO_NAME": f"benchmark-{size}",
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(directory),
            "SLOTWRIGHT_SUITE": "bookworm",
            "SLOTWRIGHT_IMAGE": image(),
        }
        self._write_inventory()

    def __enter__(self) -> Fleet:
        for playbook in ("create", "prepare"):
            self.play(f"molecule/shared/{playbook}.yml")
        self._accounts = [self._account(host) for host in self.hosts]
        return self

    def __exit__(self, *_: object) -> None:
        self.play("molecule/shared/destroy.yml")

    def play(self, playbook: str, *options: str) -> str:
        """What it said. Fails where it failed."""
        command = ["ansible-playbook", playbook, "-i", str(self._directory / "inventory"), *options]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=3600
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def unchanging(self, playbook: str, *options: str) -> str:
        """What it said. Fails where it changed anything."""
        said = self.play(playbook, *options)
        if sum(map(int, re.findall(r"ok=\d+ +changed=(\d+)", said))):
            sys.exit(f"{playbook} changed something, though nothing was to be done:\n{said}")
        return said

    def cpu(self) -> float:
        """Seconds of processor time that hosts and finished playbooks have used so far."""
        mine = resource.getrusage(resource.RUSAGE_CHILDREN)
        return mine.ru_utime + mine.ru_stime + sum(_seconds(account) for account in self._accounts)

    def _account(self, host: str) -> Path:
        """Where the kernel counts the processor time of the host."""
        inspect = ["docker", "inspect", "--format", "{{.State.Pid}}", self._container(host)]
        pid = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if "cpuacct" in kinds.split(","):
                return Path(f"/sys/fs/cgroup/cpuacct{path}/cpuacct.usage")
        return Path(f"/sys/fs/cgroup{path}").parent / "cpu.stat"  # above init.scope: the whole container

    def _container(self, host: str) -> str:
        return f"slotwright-{self._environment['MOLECULE_SCENARIO_NAME']}-{host}"

    def keep_files(self) -> None:
        """A copy of what site.yml wrote, for the baseline to take as its templates."""
        for host in self.hosts:
            there = self._directory / "files" / host
            there.mkdir(parents=True)
            tar = ["docker", "exec", self._container(host), "tar", "-C", "/", "-c", *KEPT]
            with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
                subprocess.run(["tar", "-C", str(there), "-x", "--no-same-owner"], stdin=packed.stdout, check=True)

    def _write_inventory(self) -> None:
        inventory = self._directory / "inventory"
        inventory.mkdir()
        shared = {
            "ansible_user": "deploy",
            "ansible_become": True,
            "ansible_port": 2222,
            "ansible_ssh_private_key_file": str(self._directory / "ssh/id"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self._directory}/ssh/known_hosts",
            "redis_cluster_password": "not-a-secret",
            "redis_cluster_replicas": 1,
            "redis_cluster_config": {"maxmemory": "32mb", "repl-backlog-size": "1mb"},
            "redis_node_ports": PORTS,
            "redis_host_firewall": "none",  # the network is the machine's own
            "baseline_files": str(self._directory / "files" / "{{ inventory_hostname }}"),
        }
        hosts = {name: {"ansible_host": at, "redis_node_zone": name[6]} for name, at in self.hosts.items()}
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"redis": {"vars": shared, "hosts": hosts}}))


def _seconds(account: Path) -> float:
    """Of processor time, with the first version of control groups and with the second."""
    text = account.read_text()
    return int(text.split()[1]) / 1e6 if account.name == "cpu.stat" else int(text) / 1e9


def calls_a_host(fleet: Fleet, playbook: str) -> float:
    """Commands that Ansible runs on a host, on average: each is a round trip of SSH, and a Python that starts."""
    said = fleet.unchanging(playbook, "-vvv")
    return len(re.findall(r"^<[\d.]+> SSH: EXEC", said, re.MULTILINE)) / len(fleet.hosts)


def measure(fleet: Fleet, playbook: str) -> Run:
    load = os.getloadavg()[0]
    idle, begun = fleet.cpu(), time.monotonic()
    time.sleep(IDLE)
    used, started = fleet.cpu(), time.monotonic()
    rate = (used - idle) / (started - begun)
    fleet.unchanging(playbook)
    seconds = time.monotonic() - started
    return Run(playbook, len(fleet.hosts), seconds, fleet.cpu() - used - rate * seconds, load)


def compare(size: int, rounds: int) -> tuple[list[Run], dict[str, float]]:
    """Both playbooks in turn, who goes first changes; and the remote calls a host of each."""
    with (
        tempfile.TemporaryDirectory(prefix="slotwright-benchmark-") as directory,
        Fleet(size, Path(directory)) as fleet,
    ):
        _say(f"{size} hosts: making the cluster")
        fleet.play(OURS)
        fleet.keep_files()
        # Once for what a first run finds out and the next one knows; both must find nothing to do.
        calls = {playbook: calls_a_host(fleet, playbook) for playbook in (OURS, BASELINE)}
        runs = []
        for number in range(rounds):
            for playbook in (OURS, BASELINE)[:: -1 if number % 2 else 1]:
                runs.append(measure(fleet, playbook))
                _say(f"{size} hosts: {runs[-1]}")
    return runs, calls


def table(runs: Sequence[Run], calls: dict[int, dict[str, float]]) -> str:
    lines = [
        "| hosts | | runs | seconds | processor seconds | remote calls a host | faster by | by processor time |",
        "|--:|---|--:|---|---|--:|--:|--:|",
    ]
    for size, counted in calls.items():
        of = {p: [run for run in runs if (run.hosts, run.playbook) == (size, p)] for p in (OURS, BASELINE)}
        seconds = {playbook: sorted(run.seconds for run in found) for playbook, found in of.items()}
        cpu = {playbook: sorted(run.cpu for run in found) for playbook, found in of.items()}
        for playbook, name in ((OURS, "`site.yml`"), (BASELINE, "builtin tasks in loops")):
            ratios = (
                f"**{median(times[BASELINE]) / median(times[OURS]):.1f} ×**" if playbook == OURS else ""
                for times in (seconds, cpu)
            )
            cells = [size, name, len(of[playbook]), _shown(seconds[playbook]), _shown(cpu[playbook])]
            lines.append("| " + " | ".join(map(str, [*cells, f"{counted[playbook]:.0f}", *ratios])) + " |")
    return "\n".join(lines)


def _shown(values: Sequence[float]) -> str:
    """Median (least–most)."""
    return f"{median(values):.1f} ({values[0]:.1f}–{values[-1]:.1f})"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="6,30", help="numbers of hosts, with two instances each (default: 6,30)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each playbook for each size (default: 3)")
    parser.add_argument("--json", type=Path, help="write all runs there")
    options = parser.parse_args(arguments)
    runs: list[Run] = []
    calls = {}
    for size in map(int, options.sizes.split(",")):
        found, calls[size] = compare(size, options.rounds)
        runs += found
    loads = sorted(run.load for run in runs)
    print(f"{os.cpu_count()} cores, load before the runs {loads[0]:.1f} to {loads[-1]:.1f}.\n")
    print(table(runs, calls))
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
