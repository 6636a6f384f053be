"""One machine made fit for Redis: account, limits, kernel settings, packet filter.

Runs on the host: standard library only, Python 3.8 and later. What the kernel refuses, as it does in containers, is
reported with what was asked and what it is, and the rest is done.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Account, Files, HostError, Outcome, read
    from plugins.module_utils.slotwright_filter import (
        Firewalld,
        Nftables,
        Rules,
        Ufw,
        choose,
        controller_address,
        run,
        running,
        shut_out,
        table_files,
    )
    from plugins.module_utils.slotwright_service import BOOTED, UNITS
else:
    from ansible.module_utils.slotwright_files import Account, Files, HostError, Outcome, read
    from ansible.module_utils.slotwright_filter import (
        Firewalld,
        Nftables,
        Rules,
        Ufw,
        choose,
        controller_address,
        run,
        running,
        shut_out,
        table_files,
    )
    from ansible.module_utils.slotwright_service import BOOTED, UNITS

SYSCTL_FILE = Path("/etc/sysctl.d/99-redis-cluster.conf")
LIMITS_FILE = Path("/etc/security/limits.d/redis-cluster.conf")
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
THP_UNIT = "redis-cluster-thp.service"
NFT_UNIT = "redis-cluster-firewall.service"
_LOCK_TIMEOUT = 20.0  # seconds, that others may keep the files of users and groups locked
AT_LEAST = ("net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog")
"""Settings of which a larger value that is there already is kept, unless the inventory itself states one."""


@dataclass
class Machine:
    """The wanted state of the machine. check: only find out what would change.

    settings: name, asked and got of each kernel setting. firewall: name of what filters packets.
    """

    options: Mapping[str, Any]
    check: bool
    outcome: Outcome = field(default_factory=Outcome)
    settings: list[dict[str, str]] = field(default_factory=list)
    firewall: str = "none"
    _units: list[str] = field(default_factory=list)
    _refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files = Files(Account(0, 0, switch=True), self.check, self.outcome)

    def present(self) -> None:
        rules = self._rules()
        active = running(rules)
        chosen = choose(self.options["firewall"], active, rules, self._nft_text(rules))
        others = [one for one in active if one is not chosen and one.leftovers()]
        change = self._foresee(rules, chosen, others)  # may refuse, so it comes before anything is changed
        self._account()
        if self.options["service"] == "process":
            self._file(LIMITS_FILE, self.options["limits_file"])
        self._sysctl()
        self._huge_pages()
        if self._refused:
            self._warn(f"the kernel keeps what it has: {', '.join(self._refused)}")
        if isinstance(chosen, Nftables):
            self._table(chosen, change)
        else:
            if chosen and change:
                self.outcome.note(chosen.name, *change)
                if not self.check:
                    chosen.apply()
            self._remove_table(rules)
        for other in others:
            self._leave(other)
        self._systemd()

    def absent(self) -> None:
        """Takes away the rules of this cluster and, with the last instance on the machine, all but the account.

        Kernel settings stay as they are until the next boot.
        """
        rules = self._rules()
        for listed in running(rules):
            self._leave(listed)
        self._remove_table(rules)
        if not any(file for conf_dir in self.options["conf_dirs"] for file in Path(conf_dir).glob("*/redis.conf")):
            self._remove_unit(THP_UNIT)
            for path in (SYSCTL_FILE, LIMITS_FILE):
                self._files.remove(path)

    def _rules(self) -> Rules:
        """The inventory's, and the controller let in where it comes by itself and is in none of the networks.

        Behind NAT it comes from where its SSH session does; through a jump host, or where SSH and Redis are at
        addresses of different families, it comes from its own.
        """
        rules = Rules.from_options(self.options["rules"])
        if not self.options["admit_controller"]:
            return rules
        seen = {address for address in (controller_address(), self.options["controller"]) if address}
        usable = {address for address in seen if not ipaddress.ip_address(address).is_link_local}
        if not [address for address in usable if (":" in address) == (":" in self.options["address"])]:
            self._warn(
                "it cannot be seen from which address the controller would connect to Redis: unless it is in "
                "redis_host_client_networks, set redis_cluster_reach to ssh"
            )
        return rules.admitting(usable)

    def _nft_text(self, rules: Rules) -> str:
        added = rules.controllers if rules.networks is not None else ()
        text: str = self.options["nft_file"]
        return text + "".join(
            "\n# The controller of the last run\n"
            f"add element inet {rules.name} clients{6 if ':' in address else 4} {{ {address} }}\n"
            for address in added
        )

    def _foresee(
        self, rules: Rules, chosen: Nftables | Firewalld | Ufw | None, others: Sequence[Firewalld | Ufw]
    ) -> tuple[str, str] | None:
        """What would change in the filter. Raises HostError where that would shut out who is connected now.

        others: active filters that are not chosen and shall lose our rules.
        """
        nobody = replace(rules, peers=(), networks=(), controllers=())
        connected = shut_out(nobody) if others else []
        if connected:
            names = " and ".join(other.name for other in others)
            what = f"{names} is active and would lose our rules for Redis, and connected now are {', '.join(connected)}"
            self._confirm(what, f"stop {names} before, choose it in redis_host_firewall, or where it lets all in, say ")
        if chosen is None:
            if self.options["firewall"] == "auto":
                self._warn("nothing filters packets here: neither firewalld nor ufw is active, and nft cannot be used")
            return None
        self.firewall = chosen.name
        for warning in chosen.warnings():
            self._warn(warning)
        change: tuple[str, str] | None = chosen.change()
        strangers = shut_out(rules) if change else []
        if strangers:
            self._confirm(
                f"the firewall would not let these connect again, who are connected now: {', '.join(strangers)}",
                "name all nodes of the cluster in the inventory (with bind-source-addr where one connects from "
                "another address) and all clients in redis_host_client_networks, or say ",
            )
        gone = sorted(one for one in chosen.controllers() if not rules.names(one)) if change else []
        if gone and (rules.networks is not None or not isinstance(chosen, Nftables)):
            self._warn(
                f"no rule of ours lets these in any more: {', '.join(gone)}. If another controller or a client comes "
                "from there, name it in redis_host_client_networks"
            )
        return change

    def _confirm(self, what: str, remedy: str) -> None:
        if not self.options["confirm"]:
            remedy += "-e redis_host_firewall_confirm=true: connections that exist stay, new ones will be refused"
            raise HostError("shuts-out", socket.gethostname(), what, remedy)
        self._warn(what)

    def _account(self) -> None:
        user, group = self.options["user"], self.options["group"]
        if not _exists(grp.getgrnam, group):
            self._make(f"group {group}", partial(_exists, grp.getgrnam, group), "groupadd", "--system", group)
        if not _exists(pwd.getpwnam, user):
            shell = next((s for s in ("/usr/sbin/nologin", "/sbin/nologin") if Path(s).exists()), "/bin/false")
            more = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", shell)
            exists = partial(_exists, pwd.getpwnam, user)
            self._make(f"user {user}", exists, "useradd", "--system", "--gid", group, *more, user)

    def _make(self, what: str, exists: Callable[[], bool], *command: str) -> None:
        """Another inventory name of the same machine may be about to make it too, and packages lock these files."""
        self.outcome.note(what, "missing\n", "there\n")
        if not self.check:
            until = time.monotonic() + _LOCK_TIMEOUT
            done = run(*command)
            while done.returncode and not exists() and "lock" in done.stderr and time.monotonic() < until:
                time.sleep(0.2)
                done = run(*command)
            if done.returncode and not exists():
                remedy = "make it by hand, or set redis_node_user and redis_node_group to an account that exists"
                raise HostError("no-user", socket.gethostname(), f"no {what}: {done.stderr.strip()}", remedy)

    def _sysctl(self) -> None:
        text = self.options["sysctl_file"]
        wanted = dict(re.findall(r"(?m)^([^#\s]+) = (.*)$", text))
        for name, asked in wanted.items():
            live = (read(_path(name)) or "").strip()
            if name in AT_LEAST and name not in self.options["sysctl_stated"] and int(live or 0) > int(asked):
                wanted[name] = live
                text = text.replace(f"{name} = {asked}\n", f"{name} = {live}\n")
        was_there = not self._file(SYSCTL_FILE, text)
        before = after = ""
        for name, asked in wanted.items():
            live = (read(_path(name)) or "").strip()
            got = self._set(_path(name), asked, " ".join(live.split()), name)
            if got != " ".join(live.split()):
                before, after = f"{before}{name} = {live}\n", f"{after}{name} = {got}\n"
                if was_there:
                    self._warn(f"{name} was {live}, although {SYSCTL_FILE} says {asked}: {_who_else_sets(name)}")
        if after:
            self.outcome.note("kernel settings", before, after)

    def _huge_pages(self) -> None:
        text = read(THP)
        if text:
            live = re.findall(r"\[(\w+)\]", text)[0]
            # Nobody gets them with `never` either; Redis minds `always` alone.
            got = self._set(THP, "never" if live == "never" else "madvise", live, "transparent_hugepage")
            if got != live:
                self.outcome.note("transparent huge pages", f"{live}\n", f"{got}\n")
            self._unit(THP_UNIT, self.options["thp_unit"])

    def _set(self, path: Path, asked: str, live: str, name: str) -> str:
        """What the kernel has then, in check mode what it would have. Where it refuses, the report says so."""
        asked, got, why = " ".join(asked.split()), live, ""
        if live != asked:
            try:
                if not path.exists():
                    why = "this kernel has no such setting"
                elif not os.access(str(path), os.W_OK):
                    why = "read-only, as in a container"
                elif self.check:
                    got = asked
                else:
                    path.write_text(asked)
                    got = asked
            except OSError as error:
                why = str(error.strerror)
        if why:
            self._refused.append(f"{name} is {live or 'missing'}, not {asked} ({why})")
        self.settings.append({"name": name, "asked": asked, "got": got})
        return got

    def _unit(self, name: str, text: str) -> None:
        self._units.append(name)
        if BOOTED.is_dir() and self._file(UNITS / name, text) and not self.check:
            _systemctl("daemon-reload")

    def _systemd(self) -> None:
        """The units come at every boot. That of the packet filter also has to be up, to follow nftables.service."""
        if self._units and not BOOTED.is_dir():
            self._warn(
                f"systemd does not run here: what {' and '.join(self._units)} would do at boot, the next run does"
            )
        if not self._units or not BOOTED.is_dir():
            return
        shown = _systemctl("show", "--property=Id,UnitFileState,ActiveState", *self._units)
        states = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
        disabled = [state["Id"] for state in states if state["UnitFileState"] != "enabled"]
        down = [state["Id"] for state in states if state["Id"] == NFT_UNIT and state["ActiveState"] != "active"]
        for words, units in ((("enable", "--quiet"), disabled), (("start",), down)):
            if units:
                self.outcome.note(f"systemctl {words[0]}", "", "".join(f"{unit}\n" for unit in units))
                if not self.check:
                    _systemctl(*words, *units)

    def _table(self, table: Nftables, change: tuple[str, str] | None) -> None:
        if not self._file(table.file, table.text) and change:
            self.outcome.note(table.name, *change)
        if change and not self.check:
            table.apply()
        for file in table.stale():
            self._files.remove(file)
        self._unit(NFT_UNIT, self.options["nft_unit"])

    def _remove_table(self, rules: Rules) -> None:
        """What an earlier run gave to nftables, when another filter rules now, or none."""
        tables = Nftables(rules, "")
        if tables.file.exists():
            self._leave(tables)
            self._files.remove(tables.file)
        if not [file for file in table_files() if file != tables.file]:
            self._remove_unit(NFT_UNIT)

    def _leave(self, filter_: Nftables | Firewalld | Ufw) -> None:
        there = filter_.leftovers()
        if there:
            self.outcome.note(filter_.name, there, "")
            if not self.check:
                filter_.remove()

    def _remove_unit(self, name: str) -> None:
        path = UNITS / name
        if path.exists():
            if BOOTED.is_dir() and not self.check:
                _systemctl("disable", "--quiet", "--now", name)
            self._files.remove(path)
            if BOOTED.is_dir() and not self.check:
                _systemctl("daemon-reload")

    def _file(self, path: Path, text: str) -> bool:
        """Whether it was another text before. The directory may be missing, with all that belongs to it."""
        if not path.parent.is_dir():
            self._files.directory(path.parent, 0o755)
        return self._files.file(path, text, 0o644)

    def _warn(self, warning: str) -> None:
        self.outcome.warnings.append(f"{socket.gethostname()}: {warning}")


def converge(options: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """From the options of module redis_host to what it returns. Raises HostError."""
    if os.geteuid() != 0:
        what = "only root may make users, kernel settings and packet rules"
        remedy = "set ansible_become to true for this host, or redis_host_manage to false to see to all this yourself"
        raise HostError("not-root", socket.gethostname(), what, remedy)
    machine = Machine(options, check)
    try:
        machine.present() if options["state"] == "present" else machine.absent()
    except OSError as error:
        what = " at ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        remedy = "see what stands at this path and whether its file system is full or read-only, then run again"
        raise HostError("os-error", socket.gethostname(), what, remedy) from error
    outcome = machine.outcome
    done = {"changed": outcome.changed, "diff": outcome.diff, "warnings": outcome.warnings}
    return {**done, "settings": machine.settings, "firewall": machine.firewall}


def _exists(look_up: Callable[[str], Any], name: str) -> bool:
    try:
        look_up(name)
    except KeyError:
        return False
    return True


def _path(setting: str) -> Path:
    """Where the kernel shows it. As sysctl(8): what stands first, a dot or a slash, separates; the other is meant."""
    first = re.search(r"[./]", setting)
    if first and first[0] == ".":
        setting = setting.translate(str.maketrans("./", "/."))
    return Path("/proc/sys", setting)


def _who_else_sets(setting: str) -> str:
    line = re.compile(rf"(?m)^\s*-?{re.escape(setting)}\s*=")
    places = (Path("/etc/sysctl.conf"), *Path("/etc/sysctl.d").glob("*.conf"), *Path("/run/sysctl.d").glob("*.conf"))
    # /etc/sysctl.d/99-sysctl.conf is a link to /etc/sysctl.conf.
    found = sorted({str(p.resolve()) for p in places if p != SYSCTL_FILE and line.search(read(p) or "")})
    return f"{', '.join(found)} sets it too: take it out there" if found else "something else has changed it since"


def _systemctl(*words: str) -> str:
    done: subprocess.CompletedProcess[str] = run("systemctl", *words)
    if done.returncode:
        what = f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}"
        raise HostError("systemd", socket.gethostname(), what, "see `journalctl -xe`, mend it and run again")
    return done.stdout
