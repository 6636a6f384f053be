"""A container whose init is systemd, with redis-server in it, for tests of the systemd back end.

It is on the machine's own network: instances have loopback addresses, as those of all other tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.live.machine import HostError, given, rendered
from tests.live.netns import give_up
from tests.live.servers import ROOT, wait_until

# Masked before it is installed: its own service would take port 6379 of the machine.
INSTALL = (
    "ln -s /dev/null /etc/systemd/system/redis-server.service && apt-get -qq update && "
    "apt-get -qq install --yes --no-install-recommends redis-server >/dev/null"
)
# What systemd needs to be init, and to make the sandboxes of units: PrivateUsers with ProtectProc wants SYS_PTRACE.
BOOT = (
    *("--network", "host", "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs", "/run", "--tmpfs", "/tmp:exec", "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"),
    *("--stop-signal", "SIGRTMIN+3"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
)
MODULE = """
import json, sys
from ansible.module_utils.slotwright_files import HostError
from ansible.module_utils.slotwright_host import converge
given = json.load(sys.stdin)
try:
    answer = converge(given["options"], check=given["check"])
except HostError as error:
    answer = {"finding": error.finding}
json.dump(answer, sys.stdout)
"""


def docker(*words: str, stdin: str = "") -> str:
    """What the command printed. Fails with what it said."""
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def image(install: str = INSTALL, kind: str = "redis") -> str:
    """The base image after a command, with redis-server installed, made once.

    Where that cannot be, the test is skipped, or fails (CI=true).
    """
    try:
        answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        answers = False
    if not answers:
        give_up("no Docker daemon answers; tools/with_docker.sh starts one")
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache/image.lock").open("w") as lock:  # two xdist workers make it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, str(ROOT / "tools/base_image.py")]
        base = subprocess.run(command, capture_output=True, text=True, check=False)
        if base.returncode:
            give_up(f"there is no image to boot: {base.stderr}")
        ident = docker("images", "--quiet", "--no-trunc", base.stdout.strip())
        name = f"slotwright-{kind}:{hashlib.sha256((ident + install).encode()).hexdigest()[:12]}"
        if not docker("images", "--quiet", name):
            made = docker("create", "--network", "host", base.stdout.strip(), "sh", "-c", install).strip()
            docker("start", "--attach", made)
            docker("commit", "--change", 'CMD ["/sbin/init"]', made, name)
            docker("rm", made)
    return name


@dataclass
class Container:
    """A host with systemd. Instances at `ports` of one address, unless a call says otherwise."""

    address: str
    ports: list[int] = field(default_factory=lambda: [7001])
    options: dict[str, Any] = field(default_factory=dict)
    ident: str = ""

    def start(self) -> None:
        utils = f"{ROOT / 'plugins/module_utils'}:/opt/slotwright/ansible/module_utils:ro"
        self.ident = docker("run", "--detach", *BOOT, "--volume", utils, image()).strip()
        self.await_boot()

    def await_boot(self) -> None:
        wait_until("systemd has booted", lambda: self.say("systemctl", "is-system-running") in ("running", "degraded"))

    def power_cut(self) -> None:
        """No process is told, and the machine comes back."""
        docker("kill", self.ident)
        docker("start", self.ident)
        self.await_boot()

    def reboot(self) -> None:
        docker("restart", self.ident)
        self.await_boot()

    def close(self) -> None:
        docker("rm", "--force", self.ident)

    def converge(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """What module redis_instances returns. Raises HostError."""
        own = {"address": self.address, "ports": self.ports, "service": "systemd", "timeout": 60}
        told = given(**{**own, **self.options, **options})
        stdin = json.dumps({"options": told | rendered("h1", told), "check": check})
        command = ("python3", "-c", MODULE)
        said = docker("exec", "-i", "-e", "PYTHONPATH=/opt/slotwright", self.ident, *command, stdin=stdin)
        answer: dict[str, Any] = json.loads(said)
        if "finding" in answer:
            finding = answer["finding"]
            raise HostError(*(finding[name] for name in ("code", "where", "what", "remedy")))
        return answer

    def say(self, *command: str) -> str:
        """What a command prints, however it ends."""
        done = subprocess.run(["docker", "exec", self.ident, *command], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.say("systemctl", "show", "--value", f"--property={name}", unit)

    def pid(self, port: int = 7001) -> int:
        """As the container counts, and systemd."""
        return int(self.show(f"redis-cluster@{port}", "MainPID"))

    def call(self, *words: str | int, port: int = 7001) -> Any:
        with redis.Redis(self.address, port, decode_responses=True) as client:
            return client.execute_command(*words)
