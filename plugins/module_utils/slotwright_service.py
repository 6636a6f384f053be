"""What keeps the instances of a host running: systemd, or nothing but their pidfiles.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Account, Files, HostError, read, read_untrusted, run
    from plugins.module_utils.slotwright_process import (
        Candidate,
        Instance,
        Process,
        answers,
        connect_address,
        find_process,
    )
else:
    from ansible.module_utils.slotwright_files import Account, Files, HostError, read, read_untrusted, run
    from ansible.module_utils.slotwright_process import (
        Candidate,
        Instance,
        Process,
        answers,
        connect_address,
        find_process,
    )

BOOTED = Path("/run/systemd/system")  # there exactly while systemd is the init system: sd_booted(3)
UNITS = Path("/etc/systemd/system")
TEMPLATE_UNIT = "redis-cluster@.service"
_POLL = 0.05
ASK_AGAIN = 1.0  # seconds


@dataclass
class Daemons:
    """Processes that have left their parent."""

    account: Account
    conf_dir: Path
    environment: Mapping[str, str]
    timeout: float

    def refuse(self, instances: Sequence[Instance]) -> None:
        """Raises HostError where this cannot work on the host."""
        for instance in instances:
            if ours(instance):
                what = f"{instance.unit} runs it, but redis_node_service is now process"
                remedy = (
                    "set redis_node_service back to systemd, or take the instance away with it first "
                    "(playbooks/stop.yml --limit its host, with -e redis_node_state=absent, which keeps its data)"
                )
                raise HostError("unit-there", instance.name, what, remedy)

    def configure(self, files: Files, configured: Sequence[tuple[Instance, Candidate]]) -> None:
        """The service manager's own files."""

    def start(self, instances: Sequence[Instance]) -> None:
        """All at once, then waits for each: the slowest decides, not the sum. Masters may wait for their replicas."""
        self.launch(instances)
        deadline = time.monotonic() + self.timeout
        for instance in instances:
            # Redis listens a moment before it takes its title, by which its process is proved to be the one.
            while not (answers(instance) and find_process(instance)):
                if time.monotonic() > deadline and answers(instance):
                    break
                if time.monotonic() > deadline:
                    what = f"it did not answer at {connect_address(instance)}:{instance.port} within {self.timeout:g} s"
                    remedy = f"read the end of its log:\n{self.last_words(instance)}"
                    raise HostError("not-started", instance.name, what, remedy)
                time.sleep(_POLL)
            self.await_ready(instance, deadline)

    def launch(self, instances: Sequence[Instance]) -> None:
        """Each in its own shell: before-start, then the server, which becomes a daemon."""
        script = '"$1" "$2" "$3" "$4" && exec "$5" "$6" --include "$3"'
        # A master waits for replicas that are perhaps started here as well, and gives up before we do.
        shell = ["/bin/sh", "-c", script, "sh", str(self.conf_dir / "before-start")]
        patience = f"{self.timeout * 2 / 3:g}"
        launched = [
            subprocess.Popen(
                [*shell, *map(str, (instance.data_dir, instance.conf, patience, instance.link, instance.rewrite))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=self.account.become,
                cwd="/",
                env={**os.environ, **self.environment},
            )
            for instance in instances
        ]
        deadline = time.monotonic() + self.timeout
        failed = []
        for instance, process in zip(instances, launched):
            try:
                said = process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0].strip()
            except subprocess.TimeoutExpired:
                process.kill()
                said = f"nothing within {self.timeout:g} s: find out what holds it up, or raise redis_node_timeout"
            if process.wait():
                what = f"its start ended with status {process.returncode}"
                remedy = f"it said:\n{said or self.last_words(instance)}"
                failed.append(HostError("not-started", instance.name, what, remedy))
        if failed:
            raise failed[0]

    def await_ready(self, instance: Instance, deadline: float) -> None:
        """For an instance that answers. Raises HostError at the deadline, in terms of time.monotonic."""

    def is_up(self, instance: Instance) -> bool:
        """Whether the service manager runs the instance, or is about to."""
        return False

    def not_its_own(self, running: Mapping[str, Process], instances: Sequence[Instance]) -> list[str]:
        """A warning for each running instance that the service manager does not know of. running: by name."""
        return []

    def stop(self, instance: Instance, process: Process | None) -> None:
        """Asks again: while Redis writes its first AOF, after a full synchronisation, it refuses, and forgets it."""
        self.end(instance, process)
        begun = asked = time.monotonic()
        while (process and find_process(instance) == process) or self.is_up(instance):
            now = time.monotonic()
            if process and now > asked + ASK_AGAIN:
                asked = now
                Daemons.end(self, instance, process)
            if now > begun + self.timeout:
                what = f"it did not end within {self.timeout:g} s of SIGTERM"
                remedy = f"wait for it to save its data, then run again; its log is {instance.logfile}"
                raise HostError("not-stopped", instance.name, what, remedy)
            time.sleep(_POLL)

    def end(self, instance: Instance, process: Process | None) -> None:
        if process and find_process(instance) == process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    def disable(self, files: Files, instance: Instance) -> None:
        """A reboot does not start the instance any more."""

    def remove(self, files: Files, instance: Instance) -> None:
        """What `configure` made for the instance."""

    def remove_shared(self, files: Files, instances: Sequence[Instance]) -> None:
        """What it made for all, where none but these needed it."""

    def last_words(self, instance: Instance) -> str:
        log = (read_untrusted(instance.logfile, last=8192) or "").splitlines()[-8:]
        return "\n".join(log) or f"(nothing in {instance.logfile})"

    def asked(self, candidate: Candidate) -> dict[str, int]:
        """What the kernel is asked to grant the process: see slotwright_process.limits."""
        # Redis itself asks, and for no spare files.
        return {"open_files": candidate.open_files - candidate.SPARE_FILES}


@dataclass
class Systemd(Daemons):
    """Units redis-cluster@<port>.service. unit: text of the template unit, which all clusters of a machine share."""

    unit: str

    def refuse(self, instances: Sequence[Instance]) -> None:
        if not BOOTED.is_dir():
            what = "systemd does not run here, but redis_node_service is systemd"
            raise HostError("no-systemd", socket.gethostname(), what, "set redis_node_service to process for this host")
        for instance in instances:
            if drop_in(instance).exists() and not ours(instance):
                what = f"{instance.unit} belongs to an instance with another redis.conf than {instance.conf}"
                remedy = (
                    "units are named by port: choose another in redis_node_ports, or, where redis_node_conf_dir was "
                    "changed, take it away as it was first (playbooks/stop.yml with -e redis_node_state=absent)"
                )
                raise HostError("unit-taken", instance.name, what, remedy)

    def configure(self, files: Files, configured: Sequence[tuple[Instance, Candidate]]) -> None:
        """Another unit or drop-in counts from the next start on: nothing is restarted."""
        told = files.file(UNITS / TEMPLATE_UNIT, self.unit, 0o644, shared=True)
        for instance, candidate in configured:
            path = drop_in(instance)
            if not path.parent.is_dir() and not files.check:
                path.parent.mkdir(mode=0o755)
            told |= files.file(path, candidate.drop_in, 0o644, instance.name, shared=True)
        units = [instance.unit for instance, _ in configured]
        if not units:
            return
        # A block of lines for each unit, in this order. A run that died left files which systemd was not told of.
        blocks = run(["systemctl", "show", "--property=UnitFileState,NeedDaemonReload", *units]).stdout.split("\n\n")
        if (told or any("NeedDaemonReload=yes" in block for block in blocks)) and not files.check:
            systemctl("daemon-reload")
        missing = [unit for unit, block in zip(units, blocks) if "UnitFileState=enabled" not in block]
        if missing:
            before, after = ("".join(f"{unit} {state}\n" for unit in missing) for state in ("not enabled", "enabled"))
            files.outcome.note("systemd", before, after)
            if not files.check:
                systemctl("enable", "--quiet", *missing)

    def launch(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if self._state(instance) == "failed":
                systemctl("reset-failed", instance.unit)  # else one that was given up is not even tried
            systemctl("start", "--no-block", instance.unit)

    def await_ready(self, instance: Instance, deadline: float) -> None:
        while (state := self._state(instance)) != "active":
            if time.monotonic() > deadline:
                what = f"it answers, but after {self.timeout:g} s {instance.unit} is not active but {state}"
                remedy = (
                    "if it is still loading its data, wait, or raise redis_node_timeout. With Type=notify in its "
                    "drop-in, a redis-server that was built without libsystemd never says that it is ready. "
                    f"The end of its log:\n{self.last_words(instance)}"
                )
                raise HostError("not-active", instance.name, what, remedy)
            time.sleep(_POLL)

    def is_up(self, instance: Instance) -> bool:
        """Also while it is activating, as between two failed starts."""
        return BOOTED.is_dir() and self._state(instance) not in ("inactive", "failed", "unknown", "")

    def end(self, instance: Instance, process: Process | None) -> None:
        if self.is_up(instance):
            systemctl("stop", "--no-block", instance.unit)
        else:  # of no unit: redis_node_service was `process` before
            super().end(instance, process)

    def not_its_own(self, running: Mapping[str, Process], instances: Sequence[Instance]) -> list[str]:
        there = [i for i in instances if i.name in running]
        if not there:
            return []
        pids = run(["systemctl", "show", "--property=MainPID", "--value", *(i.unit for i in there)]).stdout.split()
        return [
            f"{i.name}: process {running[i.name].pid} is not that of {i.unit} but was started otherwise: systemd will "
            "not bring it back. When its shard can spare it, stop it (redis_node_state: stopped) and run again"
            for i, pid in zip(there, pids)
            if pid != str(running[i.name].pid)
        ]

    def disable(self, files: Files, instance: Instance) -> None:
        if ours(instance) and run(["systemctl", "is-enabled", instance.unit]).stdout.strip() == "enabled":
            files.outcome.note("systemd", f"{instance.unit} enabled\n", f"{instance.unit} not enabled\n")
            if not files.check:
                systemctl("disable", "--quiet", instance.unit)

    def remove(self, files: Files, instance: Instance) -> None:
        files.remove(drop_in(instance), instance.name)

    def remove_shared(self, files: Files, instances: Sequence[Instance]) -> None:
        """The unit goes with the last drop-in: another cluster of the machine may need it."""
        if set(UNITS.glob("redis-cluster@*.service.d/slotwright.conf")) <= set(map(drop_in, instances)):
            files.remove(UNITS / TEMPLATE_UNIT)
        if BOOTED.is_dir() and files.outcome.changed and not files.check:
            systemctl("daemon-reload")

    def last_words(self, instance: Instance) -> str:
        journal = run(["journalctl", "--no-pager", "-n", "8", "-o", "cat", "-u", instance.unit]).stdout.strip()
        return "\n".join(filter(None, [journal, super().last_words(instance)]))

    def asked(self, candidate: Candidate) -> dict[str, int]:
        score = re.search(r"^OOMScoreAdjust=(-?\d+)$", self.unit, re.MULTILINE)
        return {"open_files": candidate.open_files, **({"oom_score_adj": int(score[1])} if score else {})}

    def _state(self, instance: Instance) -> str:
        return run(["systemctl", "is-active", instance.unit]).stdout.strip()


def drop_in(instance: Instance) -> Path:
    return UNITS / f"{instance.unit}.d" / "slotwright.conf"


def ours(instance: Instance) -> bool:
    """Whether the unit at the instance's port is the instance's, not one of another cluster of the machine."""
    return f"--include {instance.conf}\n" in (read(drop_in(instance)) or "")


def systemctl(*words: str) -> None:
    done = run(["systemctl", *words])
    if done.returncode:
        what = f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}"
        remedy = "see `journalctl -xe`; on a host without systemd set redis_node_service to process"
        raise HostError("systemd", socket.gethostname(), what, remedy)
