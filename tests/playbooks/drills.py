"""A cluster that is drilled: hosts in network namespaces, reached by real SSH, where packets are really dropped.

ground = Ground(net, tmp_path, keygen(tmp_path / "key"))
ground.begin()                                            # site.yml
done = ground.drill("zone z2", "partition", seconds=10)   # what was said
report = ground.report()                                  # of the newest drill
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.netns import Host
from tests.live.servers import wait_until
from tests.playbooks.test_preflight import PORT, Done, Fleet
from tests.soak import SOAK

NODE_TIMEOUT = 2.0
SECONDS = 10.0 if SOAK else 16.0  # beside other tests a failover takes longer
NAME = "demo"  # of the cluster, see inventory/demo
DRILL = "playbooks/drill.yml"
PREFIX = "slotwright:drill"
PASSWORD = "open sesame"


@dataclass
class Running:
    """drill.yml on its way. output: what it says."""

    process: subprocess.Popen[Any]
    output: Path
    started: float

    def ended(self) -> Done:
        status = self.process.wait(300)
        return Done(status, self.output.read_text(), time.monotonic() - self.started)


@dataclass
class Ground(Fleet):
    """Hosts h11 and h12 of zone z1, and so on, with one instance each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.variables |= {
            "ansible_ssh_transfer_method": "piped",  # these sshd have no sftp
            "redis_node_config": {"cluster-node-timeout": int(1000 * NODE_TIMEOUT), "repl-diskless-sync-delay": 0},
            "redis_drill_directory": f"{self.directory}/drill/{{{{ inventory_hostname }}}}",
            "redis_drill_history": str(self.directory / "history"),
        }

    def begin(self) -> None:
        done = self.play("site.yml")
        assert done.status == 0, done.said

    # --- drills ---

    def options(self, struck: str, fault: str, seconds: float = SECONDS, **more: Any) -> list[str]:
        """As words of the command line. struck: "zone z2", "host h21", "instance h21:7001". more: variables."""
        part, name = struck.split()
        said = {f"drill_{part}": name, "drill_confirm": f"drill {NAME} {struck}"}
        said |= {"drill_fault": fault, "redis_drill_seconds": seconds, **more}
        return ["-e", json.dumps({name: value for name, value in said.items() if value is not None})]

    def drill(self, struck: str, fault: str, seconds: float = SECONDS, **more: Any) -> Done:
        return self.play(DRILL, *self.options(struck, fault, seconds, **more))

    @contextmanager
    def drilling(self, struck: str, fault: str, seconds: float = SECONDS, **more: Any) -> Iterator[Running]:
        """drill.yml in the background. What is left of it is killed in the end."""
        command, place = self.command(DRILL, *self.options(struck, fault, seconds, **more))
        output = self.directory / f"drill-{time.monotonic_ns()}.out"
        with output.open("wb") as out:
            process = self.net.controller.start(command, stdout=out, stderr=out, **place)
        try:
            yield Running(process, output, time.monotonic())
        finally:
            if process.poll() is None:
                self.kill_controller()

    def await_struck(self, running: Running, hosts: Sequence[Host]) -> float:
        """Until the fault has begun at all of them. When it ends at the latest, in seconds since the epoch."""

        def struck() -> bool:
            return all((self.record(host) or {}).get("phase") == "struck" for host in hosts)

        wait_until("the fault has begun", lambda: struck() or running.process.poll() is not None, timeout=120)
        assert running.process.poll() is None, running.output.read_text()
        return max(record["at"] + record["seconds"] for host in hosts if (record := self.record(host)))

    def kill_controller(self) -> int:
        """SIGKILL to ansible-playbook and all that stems from it, and to what else the controller runs: how many."""
        killed: set[int] = set()
        while pids := [pid for pid in self.net.controller._inhabitants() if pid != self.net.controller.pid]:
            for pid in pids:
                killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.net.controller._started:
                process.poll()
            time.sleep(0.05)
        return len(killed)

    # --- what is there ---

    def healthy(self, hosts: Sequence[Host]) -> bool:
        """Their instances answer, and nothing is dropped there."""
        if any(host.run(["nft", "list", "ruleset"]).stdout for host in hosts):
            return False
        return all(self.call(host, "PING", check=False) == "PONG" for host in hosts)

    @property
    def history(self) -> Path:
        return self.directory / "history" / NAME

    def reports(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.history.glob("*/report.json"))]

    def report(self) -> dict[str, Any]:
        return self.reports()[-1]

    def of_zone(self, zone: str) -> list[Host]:
        return [host for host in self.net.hosts if f"z{host.name[1]}" == zone]

    def drill_directory(self, host: Host) -> Path:
        return self.directory / "drill" / host.name

    def record(self, host: Host) -> dict[str, Any] | None:
        """What the healer of the host has written last."""
        try:
            found: dict[str, Any] = json.loads((self.drill_directory(host) / "state.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def clients(self) -> list[str]:
        """Hosts on which a client runs."""
        found = []
        for path in (self.directory / "drill").glob("*/*/client.pid"):
            stat = Path(f"/proc/{path.read_text().split()[0]}/stat")
            with suppress(OSError):
                if stat.read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(path.parts[-3])
        return sorted(found)

    def rules(self) -> str:
        return "".join(host.run(["nft", "list", "ruleset"]).stdout for host in self.net.hosts)

    def call(self, host: Host, *words: str, check: bool = True) -> str:
        """redis-cli on the host itself; it follows redirections."""
        command = ["redis-cli", "-c", "-h", host.address, "-p", str(PORT), "--no-auth-warning", "-a", PASSWORD]
        return host.run([*command, *words], check=check).stdout.strip()

    def ssh(self, host: Host, *words: str) -> str:
        """A new session from the controller."""
        gate = self.gates[host.name]
        files = ["-i", str(self.key), "-o", f"UserKnownHostsFile={self.directory}/known_hosts"]
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-p", str(gate.port)]
        return self.net.controller.run(["ssh", *files, *options, f"{gate.user}@{host.address}", *words]).stdout.strip()

    def keys(self, pattern: str = f"{PREFIX}:*") -> list[str]:
        """On any node."""
        found = [self.call(host, "--scan", "--pattern", pattern).split() for host in self.net.hosts]
        return sorted({key for some in found for key in some})

    def layout(self) -> dict[str, tuple[str, ...]]:
        """What each node says of itself: id, role, master and slots."""
        found = {}
        for host in self.net.hosts:
            [me] = [line.split() for line in self.call(host, "CLUSTER", "NODES").splitlines() if "myself," in line]
            found[host.name] = (me[0], me[2].removeprefix("myself,"), me[3], *me[8:])
        return found

    def left(self) -> dict[str, Any]:
        """What a drill that is over should not have left."""
        return {
            "directories": [host.name for host in self.net.hosts if self.drill_directory(host).exists()],
            "rules": self.rules(),
            "keys": self.keys(),
            "clients": self.clients(),
            "healers": [str(pid) for host in self.net.hosts for pid in host._inhabitants() if _name(pid) == HEALER],
        }


HEALER = "redis-drill"
NOTHING = {"directories": [], "rules": "", "keys": [], "clients": [], "healers": []}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def line(report: dict[str, Any]) -> str:
    """A drill on one line."""
    struck = [shard for shard in report["shards"] if shard["struck"]]
    others = [shard for shard in report["shards"] if not shard["struck"]]
    moments, losses = report["moments"], report["losses"]
    gaps = [_most(shard["write_gap"] for shard in some) for some in (struck, others)]
    return (
        f"{report['fault']:<17} {report['struck']:<9} {report['verdict']:<10} FAIL {_seconds(moments['fail_seen'])}, "
        f"promoted {_seconds(moments['promoted'])}, gap {_seconds(gaps[0])} "
        f"(foretold {_seconds(report['prediction']['write_gap'])}), others {_seconds(gaps[1])} "
        f"({_seconds(report['prediction']['other_gap'])}), acknowledged {losses['acknowledged']:>5}, "
        f"lost {losses['lost']:>3} (at most {report['prediction']['worst_loss']}), "
        f"redundant {_seconds(report['redundant_after_heal'])} after the heal, both sides {report['overlap']:.1f} s"
    )


def _most(numbers: Any) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def _seconds(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}"
