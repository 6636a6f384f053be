"""All Redis instances of one host: files, processes and service, made to be as they are described.

Runs on the host: standard library only, Python 3.8 and later. Nothing here speaks to the cluster, and an instance that
is running is restarted only where it is named for that, and never while it is a master that owns slots.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Account, Files, HostError, Outcome, read, read_untrusted
    from plugins.module_utils.slotwright_process import (
        Candidate,
        Instance,
        Process,
        find_process,
        limits,
        proved,
        refuse_lost_data,
        refuse_taken_ports,
        server_version,
        validate,
    )
    from plugins.module_utils.slotwright_restart import begin_anew, is_master, keep_nodes, refuse_master
    from plugins.module_utils.slotwright_service import Daemons, Systemd, drop_in
    from plugins.module_utils.slotwright_settings import Known, unseen
else:
    from ansible.module_utils.slotwright_files import Account, Files, HostError, Outcome, read, read_untrusted
    from ansible.module_utils.slotwright_process import (
        Candidate,
        Instance,
        Process,
        find_process,
        limits,
        proved,
        refuse_lost_data,
        refuse_taken_ports,
        server_version,
        validate,
    )
    from ansible.module_utils.slotwright_restart import begin_anew, is_master, keep_nodes, refuse_master
    from ansible.module_utils.slotwright_service import Daemons, Systemd, drop_in
    from ansible.module_utils.slotwright_settings import Known, unseen


@dataclass
class Host:
    """The wanted state of the host.

    scripts: texts of before-start and ask-peers, by name. environment: of every instance.
    secrets: mark in the text of a redis.conf → the value it stands for. restart: which are stopped and started again.
    want: which shall be restarted some time. fresh: those restarted begin without data, and copy their master's.
    """

    instances: Sequence[Instance]
    service: Daemons
    files: Files
    conf_dir: Path
    scripts: Mapping[str, str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    restart: Collection[int] = ()
    want: Collection[int] = ()
    fresh: bool = False
    _versions: dict[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        return self.files.outcome

    def start(self) -> Outcome:
        """Directories, files, service, running processes. Everything is proved before the first file is replaced."""
        self.service.refuse(self.instances)
        running = {i.name: find_process(i) for i in self.instances}
        restarted = [i for i in self.instances if i.port in self.restart and running[i.name]]
        for instance in restarted:
            refuse_master(instance)
        down = [i for i in self.instances if not running[i.name] or i in restarted]
        # Not those that crashed just now, and that the service manager is bringing back as they were.
        to_start = [i for i in down if i in restarted or not self.service.is_up(i)]
        chosen = {i.name: self._choose(i, running[i.name], starts=i in to_start) for i in self.instances}
        configured = [(i, candidate) for i in self.instances if (candidate := chosen[i.name])]
        for _, candidate in configured:
            self._ask_version(candidate.server)
        for instance in down:
            refuse_lost_data(instance)
        for instance in to_start:
            if instance not in restarted:
                refuse_taken_ports(instance)
        for instance, candidate in configured:
            content = self._content(candidate)
            same = os.path.realpath(instance.link) == os.path.realpath(candidate.server)
            if self._versions[candidate.server] and not (same and read(instance.conf) == content):
                validate(candidate.server, content, instance, self.files.account, self.service.timeout)
        self._stop(restarted, running, chosen)
        self._begin_anew_where_cut_off([i for i in to_start if i not in restarted], chosen)
        self._directories()
        for instance, candidate in configured:
            self.files.file(instance.conf, self._content(candidate), 0o640, instance.name)
            self.files.file(instance.environment, environment_file(self.environment), 0o640, instance.name)
            self.files.link(instance.link, candidate.server, instance.name)
            if not instance.rewrite.exists():
                self.files.file(instance.rewrite, "", 0o600, instance.name, uid=self.files.account.uid)
        for name, text in self.scripts.items():
            self.files.file(self.conf_dir / name, text, 0o755)
        self.service.configure(self.files, configured)
        for instance in to_start:
            if instance not in restarted:
                self.outcome.note(instance.name, "stopped\n", "running\n")
        if not self.files.check:
            self.service.start(down)
            running.update((i.name, proved(i)) for i in down)
        for instance in self.instances:
            if instance.port in self.want and not self.files.check:
                self.files.file(instance.wanted, "", 0o600, instance.name, uid=self.files.account.uid)
        for instance in self.instances:
            if self.files.check or instance.nodes.exists():
                self.files.file(instance.marker, f"{instance.data_dir}\n", 0o640, instance.name)
        processes = {name: process for name, process in running.items() if process}
        self.outcome.warnings += self.service.not_its_own(processes, self.instances)
        for instance in self.instances:
            self._report(instance, running[instance.name], chosen[instance.name], started=instance in to_start)
        warn_of_limits(self.outcome)
        return self.outcome

    def stop(self, *, remove: bool, data: str) -> Outcome:
        """Stops the instances; remove: also takes their configuration away.

        data: whether to keep all they stored, to remove it, or to set it aside (logs stay where they are then).
        """
        for instance in self.instances:
            process = find_process(instance)
            if process or self.service.is_up(instance):
                self.outcome.note(instance.name, "running\n", "stopped\n")
                if not self.files.check:
                    self.service.stop(instance, process)
            self.service.disable(self.files, instance)
            if remove:
                self.service.remove(self.files, instance)
            doomed = [instance.conf.parent] if remove else []
            doomed += [instance.data_dir, instance.logfile] if data == "remove" else []
            for path in doomed:
                self.files.remove(path, instance.name)
            if data == "aside":
                self.files.set_aside(instance.data_dir, instance.name)
            self._report(instance, None, None, started=False)
        if remove:
            self._remove_what_nobody_needs()
        return self.outcome

    def _stop(
        self,
        instances: Sequence[Instance],
        running: Mapping[str, Process | None],
        chosen: Mapping[str, Candidate | None],
    ) -> None:
        """Before they are started again. Where another version comes, nodes.conf is kept as the old one wrote it."""
        for instance in instances:
            process, candidate = running[instance.name], chosen[instance.name]
            assert process and candidate
            linked = linked_server(instance, process)
            self.outcome.note(instance.name, f"running {linked}\n", f"restarted {candidate.server}\n")
            if self.files.check:
                continue
            old = server_version(f"/proc/{process.pid}/exe")
            self.service.stop(instance, process)
            if old != candidate.version:
                keep_nodes(instance, old, self.files)
            if self.fresh:
                begin_anew(instance, old, self.files)

    def _begin_anew_where_cut_off(self, instances: Sequence[Instance], chosen: Mapping[str, Candidate | None]) -> None:
        """Replicas that were stopped for another version, by a run that died before it had put their data aside."""
        for instance in instances if self.fresh and not self.files.check else ():
            candidate = chosen[instance.name]
            if candidate and instance.link.is_symlink() and not is_master(instance):
                linked = os.readlink(str(instance.link))
                if os.path.realpath(linked) != os.path.realpath(candidate.server):
                    begin_anew(instance, server_version(linked), self.files)

    def _choose(self, instance: Instance, process: Process | None, *, starts: bool) -> Candidate | None:
        """What the instance gets. One that is not ours to start keeps its server: a crash brings it back as it was.

        None for one that runs a server which is no candidate: no redis.conf was rendered for that.
        """
        wanted = instance.candidates[0]
        if starts or not (process or instance.link.is_symlink()):
            return wanted
        linked = linked_server(instance, process)
        for candidate in instance.candidates:
            if os.path.realpath(candidate.server) == os.path.realpath(linked):
                return candidate
        self.outcome.warnings.append(
            f"{instance.name} runs {linked}, which is none of this host's servers: its redis.conf is left as it is. "
            "Add that version to redis_install_also, or restart the instance when its shard can spare it: stopped, it "
            f"is given {wanted.server} ({wanted.version})"
        )
        return None

    def _ask_version(self, server: str) -> None:
        """Empty in check mode on a host where the server would have been installed by now."""
        if server in self._versions:
            return
        missing = self.files.check and not Path(server).exists()
        if missing:
            self.outcome.warnings.append(f"{server} is not installed yet: redis.conf could not be tried with it")
        self._versions[server] = "" if missing else server_version(server)

    def _content(self, candidate: Candidate) -> str:
        text = candidate.content
        for mark, secret in self.secrets.items():
            text = text.replace(mark, secret)
        return text

    def _directories(self) -> None:
        for instance in self.instances:
            for path in (instance.conf.parent.parent, instance.conf.parent, instance.data_dir.parent):
                self.files.directory(path, 0o750)
            for path in (instance.data_dir, instance.logfile.parent):
                self.files.directory(path, 0o750, self.files.account.uid)
            self.files.directory(instance.pidfile.parent, 0o755, self.files.account.uid)

    def _remove_what_nobody_needs(self) -> None:
        """Takes away what these instances shared, where no other of the cluster or the machine is left to need it."""
        if {conf.parent for conf in self.conf_dir.glob("*/redis.conf")} <= {i.conf.parent for i in self.instances}:
            for name in self.scripts:
                self.files.remove(self.conf_dir / name)
        self.service.remove_shared(self.files, self.instances)
        for instance in self.instances:
            files = (instance.conf.parent, instance.data_dir, instance.logfile, instance.pidfile, drop_in(instance))
            for path in (file.parent for file in files):
                if not self.files.check and path.is_dir() and not any(path.iterdir()):
                    path.rmdir()

    def _report(
        self, instance: Instance, process: Process | None, candidate: Candidate | None, *, started: bool
    ) -> None:
        """process, candidate: None for what does not run; the latter also for a server that is no candidate."""
        server = candidate.server if candidate else linked_server(instance, process) if process else ""
        other = instance.candidates[0].version if process and candidate != instance.candidates[0] else ""
        meant = self._meant(instance, process, candidate) if process and candidate else {}
        self.outcome.instances.append(
            {
                "name": instance.name,
                "port": instance.port,
                "pid": process.pid if process else None,
                "running": process is not None,
                "started": started,
                "changed_files": self.files.changed(instance.name),
                "server": server,
                "server_version": self._versions.get(server, ""),
                "version_pending": other,
                "restart_pending": bool(other or meant.get("restart")),
                "restart_reasons": [f"version {other}"] * bool(other) + meant.get("restart", []),
                "settings": meant.get("values", {}),
                "fixed": meant.get("fixed", []),
                "limits": self._limits(process, candidate) if process and candidate else {},
            }
        )

    def _meant(self, instance: Instance, process: Process, candidate: Candidate) -> dict[str, Any]:
        """values: what each directive is to be. fixed: those that cannot be set live. restart: why one is wanted."""
        if not self._versions.get(candidate.server):
            return {}
        reasons = []
        # A server that was replaced at its own path reads "… (deleted)" there.
        if os.readlink(f"/proc/{process.pid}/exe") != os.path.realpath(candidate.server):
            reasons.append("redis-server")
        content, environment = self._content(candidate), environment_file(self.environment)
        path, account = instance.conf.parent / "settings.json", self.files.account
        known = Known(path, account, self.environment, self.service.timeout)
        saved = read_untrusted(instance.rewrite) or ""
        meant = known.get(candidate.server, candidate.version, f"{saved}\n{content}")
        started_with = (read_untrusted(instance.data_dir / "redis.conf.started") or "").split(" ")[0].strip()
        granted = limits(process)
        most = candidate.open_files - Candidate.SPARE_FILES - Candidate.OWN_FILES
        if granted:
            meant["values"]["maxclients"] = str(min(most, granted["most_files"] - Candidate.OWN_FILES))
        if started_with != hashlib.sha256((content + environment).encode()).hexdigest():
            before = read_untrusted(instance.data_dir / "redis.conf.running")
            if before is None:
                reasons.append("redis.conf")
            else:
                was = known.get(candidate.server, candidate.version, f"{saved}\n{before}")
                names = [n for n in meant["fixed"] if was["values"].get(n) != meant["values"][n]]
                changed = set(unseen(before)) ^ set(unseen(content))
                reasons += sorted({*names, *(line.split(None, 1)[0].lower() for line in changed)})
                if granted and most > granted["most_files"] - Candidate.OWN_FILES:
                    reasons.append("maxclients")
            if (read_untrusted(instance.data_dir / "environment.running") or "") != environment:
                reasons.append("environment")
        if instance.wanted.exists():
            reasons.append("asked for")
        if not self.files.check:
            known.save()
        return meant | {"restart": reasons}

    def _limits(self, process: Process, candidate: Candidate) -> dict[str, dict[str, int]]:
        got = limits(process)
        return {
            name: {"asked": asked, "got": got[name]} for name, asked in self.service.asked(candidate).items() if got
        }


def linked_server(instance: Instance, process: Process | None) -> str:
    """What the instance would be started with again. process: what runs, where its link may be missing."""
    if process is None or instance.link.is_symlink():
        return os.readlink(str(instance.link))
    return os.readlink(f"/proc/{process.pid}/exe").replace(" (deleted)", "")


def environment_file(environment: Mapping[str, str]) -> str:
    """As systemd reads it: systemd.exec(5), EnvironmentFile."""
    quoted = ((name, re.sub(r'(["\\])', r"\\\1", value)) for name, value in sorted(environment.items()))
    return "".join(f'{name}="{value}"\n' for name, value in quoted)


def warn_of_limits(outcome: Outcome) -> None:
    """One warning for all instances that were granted equally little."""
    short: dict[str, list[str]] = {}
    for instance in outcome.instances:
        files, score = (
            instance["limits"].get(name, {"asked": 0, "got": 0}) for name in ("open_files", "oom_score_adj")
        )
        if files["got"] < files["asked"]:
            what = (
                f"may open {files['got']} files, not {files['asked']}: Redis takes at most "
                f"{files['got'] - Candidate.OWN_FILES} clients. {_more_files(instance)}"
            )
            short.setdefault(what, []).append(instance["name"])
        if score["got"] > score["asked"]:
            what = (
                f"has oom_score_adj {score['got']}, not {score['asked']}: when memory runs out it is killed as early "
                "as any other process. A changed one counts from the next start on. In a container only its runtime "
                "can change it (docker: --oom-score-adj)"
            )
            short.setdefault(what, []).append(instance["name"])
    outcome.warnings += [f"{', '.join(names)}: each {what}" for what, names in short.items()]


def _more_files(instance: Mapping[str, Any]) -> str:
    if instance["restart_pending"]:
        return "What is now in place counts from the next start on"
    return "Raise the hard limit of what starts it (a container's is its runtime's), or lower maxclients"


def interpreter(account: Account) -> str:
    """A Python that the account may run: ours, by the name that outlives its updates.

    The sandbox of the unit lets only what is below /usr run.
    """
    ours, usual = os.path.realpath(sys.executable), "/usr/bin/python3"
    other = os.path.realpath(usual) != ours
    return ours if other and (ours.startswith("/usr/") or not account.switch) else usual


def converge(options: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """From the options of module redis_instances to what it returns. Raises HostError."""
    if not options["instances"]:
        what, remedy = "no instances were handed over", "set action_plugins in ansible.cfg to plugins/action"
        raise HostError("no-instances", "redis_instances", what, remedy)
    instances = [Instance.from_options(one) for one in options["instances"]]
    started = options["state"] == "started"
    if started and not all(instance.candidates for instance in instances):
        what, remedy = "no server was handed over", "name at least one in the option servers"
        raise HostError("no-server", "redis_instances", what, remedy)
    try:
        installed = all(Path(i.candidates[0].server).exists() for i in instances if started)
        account = Account.of(options["user"], options["group"], fallback=not started or check)
        outcome = _converge(options, instances, account, check=check)
        if started and installed and os.geteuid() == 0 and not account.switch:
            outcome.warnings.append(
                f"there is no user {options['user']} or no group {options['group']} yet: redis.conf was tried as root"
            )
    except PermissionError as error:
        what = f"not allowed: {error.strerror} at {error.filename}"
        remedy = "become root (ansible_become: true), or choose directories that this user may write to"
        raise HostError("not-allowed", socket.gethostname(), what, remedy) from error
    except OSError as error:
        what = " at ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        remedy = "see what stands at this path and whether its file system is full or read-only, then run again"
        raise HostError("os-error", socket.gethostname(), what, remedy) from error
    return asdict(outcome)


def _converge(options: Mapping[str, Any], instances: Sequence[Instance], account: Account, *, check: bool) -> Outcome:
    environment = options["environment"] or {}
    python = interpreter(account)
    common = (account, Path(options["conf_dir"]), environment, options["timeout"])
    host = Host(
        instances=instances,
        service=Systemd(*common, options["unit"]) if options["service"] == "systemd" else Daemons(*common),
        files=Files(account, check, Outcome()),
        conf_dir=Path(options["conf_dir"]),
        scripts={
            "before-start": options["before_start"],
            "ask-peers": re.sub(r"^#!.*", f"#!{python}", options["ask_peers"]),
        },
        environment=environment,
        secrets=options["secrets"] or {},
        restart=options["restart"],
        want=options["want_restart"],
        fresh=options["fresh"],
    )
    if options["state"] == "started":
        return host.start()
    absent = options["state"] == "absent"
    return host.stop(remove=absent, data=options["data"] if absent else "keep")
