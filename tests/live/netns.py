"""A private network for tests: hosts in Linux network namespaces on one bridge, where packets really can be blocked.

    with Net(tmp_path, hosts=3) as net:                   # no namespaces here: skips, or fails if CI=true
        one, two, three = net.hosts                       # Host: address "10.33.1.1", "10.33.1.2", …
        net.controller.run(["ansible-playbook", …])       # a host too; here stands who drives the others
        one.start(["redis-server", "--bind", one.address])    # until the end; run() waits and returns what it said
        one.sshd(user_key)                                # user_key: path that tests.live.sshd.keygen made
        net.block(one, two, 17001)                        # packets of connections from one to two's port vanish
        net.block(one, two, 17001, "reject with tcp reset")   # … or are refused, with any verdict of nft
        net.block(one, two, 17001, at=one)                # the rule stands on the source, not on the destination
        one.reach(two.address, 17001)                     # "open", "refused" or "blocked"
        net.unblock(one, two, 17001)

`zones` spreads the hosts: host h of zone z has 10.33.z.h; the controller has 10.33.0.1. Every Net has namespaces of its
own, so that addresses may be the same in several at once. A host has its own network, host name and machine id; files
and process numbers are shared with everybody. Needs no root where users may make namespaces; then sshd lets in who runs
the test, as in tests.live.sshd, and everything else runs as the namespaces' root.

A namespace lives as long as the processes in it. They are all killed at the end, and then nothing is left: there are no
names, mounts or rules to remove, and the machine's own network is never touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import pytest

from tests.live.servers import wait_until
from tests.live.sshd import PORT, Sshd

_AS_ROOT = os.geteuid() == 0
_ENTER_USER = [] if _AS_ROOT else ["--user", "--preserve-credentials"]
_HOLDER = "mount --bind {id} /etc/machine-id; hostname {name}; ip link set lo up; echo ready; exec sleep infinity"
_REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("blocked")
else:
    print("open")
"""


def give_up(why: str) -> NoReturn:
    """Skips the test; where the machine is there for nothing but tests (CI=true), a skipped one is a failed one."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


class Host:
    """One machine of the network."""

    def __init__(self, directory: Path, name: str, address: str, creator: Host | None) -> None:
        self.name, self.address, self.directory = name, address, directory / name
        self.directory.mkdir(parents=True)
        self._started: list[subprocess.Popen[Any]] = []
        self._sshds: list[Sshd] = []
        machine_id = self.directory / "machine-id"
        machine_id.write_text(f"{uuid.uuid4().hex}\n")
        user = [] if _AS_ROOT or creator else ["--user", "--map-root-user"]
        script = _HOLDER.format(id=machine_id, name=name)
        command = ["unshare", *user, "--net", "--uts", "--mount", "sh", "-ec", script]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *(creator.inside if creator else []), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout and self._holder.stderr
        if self._holder.stdout.readline() != "ready\n":
            give_up(f"no network namespaces here: {self._holder.stderr.read().strip()}")

    @property
    def pid(self) -> int:
        """Of the process that holds the namespaces."""
        return self._holder.pid

    @property
    def inside(self) -> list[str]:
        """What stands before a command so that it runs on this host, in the caller's directory."""
        return ["nsenter", f"--target={self.pid}", *_ENTER_USER, "--net", "--uts", "--mount", f"--wd={Path.cwd()}"]

    def run(self, command: Sequence[str | Path], check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run to its end. check: fail with what it said where its status is not 0."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False, **more)
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done

    def start(self, command: Sequence[str | Path], **more: Any) -> subprocess.Popen[Any]:
        """A process that is killed at the end. Its pid is the command's own."""
        self._started.append(subprocess.Popen([*self.inside, *command], **{"stdin": subprocess.DEVNULL, **more}))
        return self._started[-1]

    def sshd(self, user_key: Path, port: int = PORT, **settings: str) -> Sshd:
        """An sshd at the host's address; `user` of it is who logs in. Stopped at the end, or by close()."""
        self._sshds.append(_SshdInside(self, user_key, port, **settings))
        return self._sshds[-1]

    def reach(self, address: str, port: int, timeout: float = 1) -> str:
        return self.run([sys.executable, "-c", _REACH, address, str(port), str(timeout)]).stdout.strip()

    def close(self) -> None:
        """Kill everything that runs on the host, daemons too."""
        for sshd in self._sshds:
            sshd.close()
        for process in self._started:
            process.kill()
            process.wait()
        for pid in self._inhabitants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.wait()

    def _inhabitants(self) -> list[int]:
        """The holder, and whoever is in its network: all of them are this test's."""
        network = Path(f"/proc/{self.pid}/ns/net").stat().st_ino
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "ns/net").stat().st_ino == network:
                    found.append(int(process.name))
        return found


class _SshdInside(Sshd):
    """Sshd as it is, started in the namespaces of a host."""

    def __init__(self, host: Host, user_key: Path, port: int, **settings: str) -> None:
        self._host = host
        directory = host.directory / f"sshd-{port}"
        directory.mkdir()
        super().__init__(directory, host.address, user_key, port, **settings)

    def start(self) -> None:
        # Without root, sshd must not take itself for root: it could not change to any user.
        who = [] if _AS_ROOT else ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
        with self._log.open("ab") as log:
            self.process = self._host.start([*who, "setpriv", "--pdeathsig", "KILL", *self._command], stderr=log)
        wait_until(f"sshd answers: {self._log}", lambda: self._host.reach(self.address, self.port) == "open")


class Net:
    """`zones` × `hosts` hosts and a controller on one bridge. A context manager that leaves nothing behind."""

    def __init__(self, directory: Path, hosts: int, zones: int = 1, prefix: str = "10.33") -> None:
        if sys.platform != "linux" or not all(map(shutil.which, ("ip", "nft", "unshare", "nsenter", "setpriv"))):
            give_up("needs the commands ip, nft, unshare, nsenter and setpriv (iproute2, nftables, util-linux)")
        self._blocks: dict[tuple[str, str, int], tuple[Host, str]] = {}
        self.controller = Host(directory, "controller", f"{prefix}.0.1", None)
        self.all = [self.controller]
        self._ip(self.controller, "link add bridge type bridge", "link set bridge up")
        self._ip(self.controller, f"address add {self.controller.address}/16 dev bridge")
        try:
            for zone in range(1, zones + 1):
                for number in range(1, hosts + 1):
                    self._add(directory, f"h{zone}{number}", f"{prefix}.{zone}.{number}")
        except BaseException:
            self.close()
            raise

    @property
    def hosts(self) -> list[Host]:
        """Zone by zone, without the controller."""
        return self.all[1:]

    def block(self, source: Host, destination: Host, port: int, verdict: str = "drop", at: Host | None = None) -> None:
        """Only connections that `source` opens; the other direction is another pair."""
        where, table = at or destination, f"block{len(self._blocks)}"
        hook = "output" if where is source else "input"
        addresses = f"ip saddr {source.address} ip daddr {destination.address}"
        rules = f"""table inet {table} {{ chain c {{
            type filter hook {hook} priority 0;
            {addresses} tcp dport {port} {verdict};
        }}; }}"""
        where.run(["nft", rules])
        self._blocks[source.name, destination.name, port] = where, table

    def unblock(self, source: Host, destination: Host, port: int) -> None:
        where, table = self._blocks.pop((source.name, destination.name, port))
        where.run(["nft", f"delete table inet {table}"])

    def close(self) -> None:
        for host in reversed(self.all):
            host.close()

    def __enter__(self) -> Net:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, directory: Path, name: str, address: str) -> None:
        host = Host(directory, name, address, self.controller)
        self.all.append(host)
        self._ip(
            self.controller,
            f"link add {name} type veth peer name eth0 netns {host.pid}",
            f"link set {name} master bridge up",
        )
        self._ip(host, f"address add {address}/16 dev eth0", "link set eth0 up")

    @staticmethod
    def _ip(host: Host, *commands: str) -> None:
        host.run(["ip", "-batch", "-"], input="\n".join(commands))
