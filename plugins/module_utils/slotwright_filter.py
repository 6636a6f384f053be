"""The packet filter of one host: who may connect to its Redis instances, by nftables, firewalld or ufw.

Runs on the host: standard library only, Python 3.8 and later. No rule of anybody else is touched, and no rule is about
anything but attempts to connect to Redis: connections that exist are never cut, and other ports never closed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import HostError, read
else:
    from ansible.module_utils.slotwright_files import HostError, read

NFT_DIRECTORY = Path("/etc/nftables.d")
UFW_CONF = Path("/etc/ufw/ufw.conf")
FIREWALLD_CONF = Path("/etc/firewalld/firewalld.conf")
_TIMEOUT = 60.0  # seconds, of one command
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


@dataclass(frozen=True)
class Rules:
    """As slotwright.core.firewall.Rules: endpoints are (address, port), and address "" is every address of the host.

    networks None: the endpoints for clients are neither opened nor closed to others. controllers: addresses of the
    controller, which may use the endpoints for clients.
    """

    name: str
    clients: tuple[tuple[str, int], ...]
    bus: tuple[tuple[str, int], ...]
    peers: tuple[str, ...]
    networks: tuple[str, ...] | None
    controllers: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Rules:
        networks = options["networks"]
        return cls(
            name=options["name"],
            clients=tuple((address, port) for address, port in options["clients"]),
            bus=tuple((address, port) for address, port in options["bus"]),
            peers=tuple(options["peers"]),
            networks=None if networks is None else tuple(networks),
        )

    def admitting(self, controllers: Iterable[str]) -> Rules:
        """With those of these addresses that are not let in already."""
        return replace(self, controllers=tuple(sorted({one for one in controllers if not self.names(one)})))

    def admits(self, address: str, *, bus: bool) -> bool:
        """Whether no rule is against it."""
        return address in self.peers if bus else self.networks is None or self.names(address)

    def names(self, source: str) -> bool:
        """Whether a rule lets this address or network use the client ports."""
        it = ipaddress.ip_network(source)
        named = [ipaddress.ip_network(one) for one in self._sources if (":" in one) == (":" in source)]
        return any(it.network_address in one and it.broadcast_address in one for one in named)

    @property
    def _sources(self) -> tuple[str, ...]:
        return (*self.peers, *self.controllers, *(self.networks or ()))

    @property
    def closed(self) -> list[tuple[str, int]]:
        """The endpoints that only those may use who are named."""
        return [*self.bus, *(self.clients if self.networks is not None else ())]

    def allowed(self) -> Iterator[tuple[str, str, int]]:
        """(source, address, port): each source that is let in to an endpoint."""
        for endpoints, sources in ((self.bus, self.peers), (self.clients, self._sources)):
            for address, port in endpoints:
                for source in sources:
                    if not address or (":" in source) == (":" in address):
                        yield source, address, port


class Nftables:
    """A table of its own for each cluster on the host, in a file of its own that a unit of systemd loads at boot."""

    name = "nftables"

    def __init__(self, rules: Rules, text: str) -> None:
        """text: of the file that makes the table; it is the caller who keeps it, and takes away the stale ones."""
        self._rules, self.text = rules, text
        self.file = NFT_DIRECTORY / f"{rules.name}.nft"

    def warnings(self) -> list[str]:
        found = []
        chains = run("nft", "list", "chains").stdout
        if re.search(r"^table inet firewalld \{", chains, re.MULTILINE):
            found.append("firewalld is active too: what it does not let through stays closed, whatever our rules say")
        for table, chain in _dropping_chains(chains):
            rules = run("nft", "list", "table", *table.split()).stdout
            missing = [port for _, port in (*self._rules.clients, *self._rules.bus) if not _speaks_of(rules, port)]
            if missing:
                ports = ", ".join(map(str, sorted(set(missing))))
                found.append(
                    f"chain {chain} of table {table} drops what it does not accept, and has no rule for port {ports}: "
                    "accept them there for the other nodes and the clients, or use the firewall that made this table"
                )
        return found

    def change(self) -> tuple[str, str] | None:
        """Before and after, None where all is as it shall be. Raises HostError where nft does not take the rules."""
        live, wanted = self.leftovers(), self._as_listed()
        as_wanted = live == wanted if wanted else live and read(self.file) == self.text
        stale = "".join(f"table inet {file.stem}, which is about the same ports\n" for file in self.stale())
        return None if as_wanted and not stale else (stale + live, wanted or self.text)

    def apply(self) -> None:
        """In one transaction."""
        tables = [f"table inet {file.stem}" for file in self.stale()]
        _nft("".join(f"{table} {{\n}}\ndelete {table}\n" for table in tables) + self.text)

    def controllers(self) -> set[str]:
        """Whom the rules of the last run let in because it came from there."""
        return set(re.findall(r"(?m)^add element .* \{ (\S+) \}$", read(self.file) or ""))

    def leftovers(self) -> str:
        """What is there of the rules."""
        return run("nft", "-s", "list", "table", "inet", self._rules.name).stdout

    def remove(self) -> None:
        _nft(f"delete table inet {self._rules.name}\n")

    def stale(self) -> list[Path]:
        """Files of rules for our ports from when the cluster had another name: they would still shut others out."""
        endpoints = "|".join(
            rf"(?<![\w.:]){re.escape(address)} \. {port}\b" if address else rf"tcp dport \{{[^}}.]*\b{port}\b"
            for address, port in self._rules.bus
        )
        others = [file for file in table_files() if file != self.file]
        return [file for file in others if re.search(endpoints, read(file) or "")]

    def _as_listed(self) -> str:
        """How nft lists the wanted rules, found out in a network namespace of their own.

        Empty where the kernel allows no namespaces, as in some containers.
        """
        script = 'nft -f - && nft -s list table inet "$0"'
        done = run("unshare", "--net", "sh", "-c", script, self._rules.name, stdin=self.text)
        if done.returncode == 0:
            return done.stdout
        _nft(self.text, "--check")
        return ""


class _Listed:
    """A filter that keeps rules as lines. Where there are several lists, each has its own place."""

    name = ""
    _SOURCE = ""  # how a line says who is let in

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def warnings(self) -> list[str]:
        return []

    def change(self) -> tuple[str, str] | None:
        before, after = [], []
        for place, lines in self._present().items():
            wanted = [line for lines in self._wanted() for line in lines]
            if set(lines) != set(wanted):
                before += [f"{place}{line}\n" for line in sorted(lines)]
                after += [f"{place}{line}\n" for line in sorted(wanted)]
        return ("".join(before), "".join(after)) if before or after else None

    def apply(self) -> None:
        """Who may come in is let in before others are shut out, and nobody is shut out in between."""
        accept, refuse = self._wanted()
        for place, lines in self._present().items():
            self._add(
                place,
                [line for line in accept if line not in lines],
                [line for line in refuse if line not in lines],
            )
            self._take_away(place, [line for line in lines if line not in accept + refuse])

    def controllers(self) -> set[str]:
        """Whom the rules of the last run let in: its controller is not to be told from networks and nodes."""
        listed = "\n".join(line for lines in self._present().values() for line in lines)
        return set(re.findall(self._SOURCE, listed))

    def leftovers(self) -> str:
        return "".join(f"{place}{line}\n" for place, lines in self._present().items() for line in lines)

    def remove(self) -> None:
        for place, lines in self._present().items():
            self._take_away(place, lines)

    def _wanted(self) -> tuple[list[str], list[str]]:
        raise NotImplementedError

    def _present(self) -> dict[str, list[str]]:
        raise NotImplementedError

    def _add(self, place: str, accept: list[str], refuse: list[str]) -> None:
        raise NotImplementedError

    def _take_away(self, place: str, lines: list[str]) -> None:
        raise NotImplementedError


class Firewalld(_Listed):
    """Rich rules in every zone that has an interface or a source, and in the default zone; at once and for good.

    Nothing is reloaded, which would throw away what others set for the moment. Ours are known by their priorities.
    """

    name = "firewalld"
    _SOURCE = r'source address="([^"]+)"'
    _ACCEPT, _DROP = 'rule priority="-6379"', 'rule priority="-6378"'

    @staticmethod
    def runs() -> bool:
        return bool(shutil.which("firewall-cmd", path=_PATH)) and run("firewall-cmd", "--state").returncode == 0

    def _wanted(self) -> tuple[list[str], list[str]]:
        accept = [f"{self._rule(self._ACCEPT, *one)} accept" for one in self._rules.allowed()]
        return accept, [f"{self._rule(self._DROP, '', *one)} drop" for one in self._rules.closed]

    @staticmethod
    def _rule(head: str, source: str, address: str, port: int) -> str:
        """Written as firewalld lists it."""
        one = source or address
        family = f' family="ipv{6 if ":" in one else 4}"' if one else ""
        by = f' source address="{source}"' if source else ""
        to = f' destination address="{address}"' if address else ""
        return f'{head}{family}{by}{to} port port="{port}" protocol="tcp"'

    def _present(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        default = re.search(r"^DefaultZone=(\S+)", read(FIREWALLD_CONF) or "", re.MULTILINE)
        active = {default[1] if default else "public"}
        for scope in ("", "--permanent "):
            listed = _told("firewall-cmd", *scope.split(), "--list-all-zones")
            zones = re.findall(r"^(\S+)( \([^)]*active[^)]*\))?\n((?:[ \t].*\n?)+)", listed, re.MULTILINE)
            active |= {zone for zone, is_active, _ in zones if is_active}
            for zone, _, text in zones:
                ours = [line.strip() for line in text.splitlines() if self._is_ours(line)]
                if zone in active:
                    found[f"{scope}--zone={zone} "] = ours
        return found

    def _is_ours(self, line: str) -> bool:
        if not line.strip().startswith((self._ACCEPT, self._DROP)):
            return False
        address = re.search(r'destination address="([^"]*)"', line)
        port = re.search(r'port port="(\d+)"', line)
        endpoint = (address[1] if address else "", int(port[1]) if port else 0)
        return endpoint in self._rules.clients + self._rules.bus

    def _add(self, place: str, accept: list[str], refuse: list[str]) -> None:
        if accept or refuse:
            _told("firewall-cmd", *place.split(), *(f"--add-rich-rule={rule}" for rule in accept + refuse))

    def _take_away(self, place: str, lines: list[str]) -> None:
        if lines:
            _told("firewall-cmd", *place.split(), *(f"--remove-rich-rule={rule}" for rule in lines))


class Ufw(_Listed):
    """Rules with a comment of ours: who may come in before all rules of others, who may not after them."""

    name = "ufw"
    _SOURCE = r"(?m)^allow from (\S+) "
    _PORTS_A_RULE = 15

    @staticmethod
    def runs() -> bool:
        return bool(shutil.which("ufw", path=_PATH)) and "\nENABLED=yes" in f"\n{read(UFW_CONF) or ''}"

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._mark = f" comment '{rules.name}'"

    def _wanted(self) -> tuple[list[str], list[str]]:
        closed = (("", address, port) for address, port in self._rules.closed)
        return list(self._lines("allow", self._rules.allowed())), list(self._lines("deny", closed))

    def _lines(self, verb: str, connections: Iterable[tuple[str, str, int]]) -> Iterator[str]:
        """Written as `ufw show added` lists them, without the comment."""
        ports: dict[tuple[str, str], list[int]] = {}
        for source, address, port in connections:
            ports.setdefault((source, address), []).append(port)
        for (source, address), many in ports.items():
            for at in range(0, len(many), self._PORTS_A_RULE):
                listed = ",".join(map(str, sorted(many)[at : at + self._PORTS_A_RULE]))
                if source or address:
                    by = f"from {source} " if source else ""
                    yield f"{verb} {by}to {address or 'any'} port {listed} proto tcp"
                else:
                    yield f"{verb} {listed}/tcp"

    def _present(self) -> dict[str, list[str]]:
        lines = _told("ufw", "show", "added").splitlines()
        return {"": [line[len("ufw ") : -len(self._mark)] for line in lines if line.endswith(self._mark)]}

    def _add(self, place: str, accept: list[str], refuse: list[str]) -> None:
        for rule in accept:
            _told("ufw", "prepend", *rule.split(), "comment", self._rules.name)
        for rule in refuse:
            _told("ufw", *rule.split(), "comment", self._rules.name)

    def _take_away(self, place: str, lines: list[str]) -> None:
        for rule in lines:
            _told("ufw", "--force", "delete", *rule.split())


def running(rules: Rules) -> list[Firewalld | Ufw]:
    """Those that are active on the host."""
    return [listed(rules) for listed in (Firewalld, Ufw) if listed.runs()]


def choose(
    wanted: str, active: Iterable[Firewalld | Ufw], rules: Rules, text: str
) -> Nftables | Firewalld | Ufw | None:
    """The filter to use. None where none is wanted, or where there is none to choose from. Raises HostError."""
    for listed in active:
        if wanted in ("auto", listed.name):
            return listed
    if wanted in ("auto", Nftables.name) and run("nft", "list", "tables").returncode == 0:
        return Nftables(rules, text)
    if wanted in ("auto", "none"):
        return None
    what = f"redis_host_firewall is {wanted}, but {wanted} is not installed, is not active, or may not be used here"
    remedy = f"install and start {wanted}, or set redis_host_firewall to auto or none"
    raise HostError("no-firewall", socket.gethostname(), what, remedy)


def shut_out(rules: Rules) -> list[str]:
    """Who is connected to our ports now, and could not connect again under these rules: a line for each address."""
    mine = _own_addresses()
    counts: dict[tuple[str, int, bool], int] = {}
    for (address, port), remote in _connections():
        for endpoints, bus in ((rules.clients, False), (rules.bus, True)):
            ours = (address, port) in endpoints or ("", port) in endpoints
            if ours and remote not in mine and not rules.admits(remote, bus=bus):
                counts[remote, port, bus] = counts.get((remote, port, bus), 0) + 1
    return [
        f"{remote} (port {port}{', the cluster bus' if bus else ''}, {count} connection{'s' * (count > 1)})"
        for (remote, port, bus), count in sorted(counts.items())
    ]


def controller_address() -> str:
    """Where the SSH session that we run in comes from, "" where there is none.

    sudo takes it out of our environment, but not out of its own.
    """
    pid = os.getpid()
    with contextlib.suppress(OSError):  # not ours to read, or it has ended
        while pid > 1:
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                name, _, value = entry.partition(b"=")
                if name == b"SSH_CONNECTION":
                    return _plain(value.split()[0].decode())
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return ""


def table_files() -> list[Path]:
    """The files of rules of all clusters that have nodes on this host."""
    return sorted(NFT_DIRECTORY.glob("redis-cluster_*.nft"))


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command that may fail. One that does not exist ends as a shell would end it."""
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
            env={**os.environ, "LC_ALL": "C", "PATH": _PATH},
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]} on this host")
    except subprocess.TimeoutExpired:
        what = f"`{' '.join(command)[:200]}` did not end within {_TIMEOUT:g} s"
        raise HostError("timeout", socket.gethostname(), what, "find out what holds it up, then run again") from None


def _told(*command: str) -> str:
    """What a command said that has to succeed."""
    done = run(*command)
    if done.returncode:
        what = f"`{' '.join(command)[:200]}` failed: {(done.stderr or done.stdout).strip()}"
        raise HostError("firewall", socket.gethostname(), what, "mend it, or set redis_host_firewall to another filter")
    return done.stdout


def _nft(text: str, *options: str) -> None:
    done = run("nft", *options, "--file", "-", stdin=text)
    if done.returncode:
        what = f"nft does not take the rules: {done.stderr.strip()}"
        raise HostError("rules-refused", socket.gethostname(), what, "set redis_host_firewall to none until it does")


def _dropping_chains(chains: str) -> Iterator[tuple[str, str]]:
    """(table, chain) of base chains on our packets' way that drop what no rule accepts."""
    table = chain = ""
    for line in chains.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook input" in line and "policy drop" in line:
            yield table, chain


def _speaks_of(rules: str, port: int) -> bool:
    """Whether some rule names the port, alone, in a set or in a range."""
    for text in re.findall(r"dports? (\{[^}]*\}|\S+)", rules):
        for low, high in re.findall(r"(\d+)(?:[-:](\d+))?", text):
            if int(low) <= port <= int(high or low):
                return True
    return False


def _connections() -> Iterator[tuple[tuple[str, int], str]]:
    """((our address, our port), their address) of each established TCP connection."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (read(Path(table)) or "").splitlines()[1:]:
            fields = row.split()
            if fields[3] == "01":
                address, port = fields[1].split(":")
                yield (_from_kernel(address), int(port, 16)), _from_kernel(fields[2].split(":")[0])


def _from_kernel(text: str) -> str:
    """From words of four bytes in the machine's own order."""
    words = (int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    return _plain(str(ipaddress.ip_address(b"".join(words))))


def _own_addresses() -> set[str]:
    addresses = set(re.findall(r"\|-- (\S+)\n +/32 host LOCAL", read(Path("/proc/net/fib_trie")) or ""))
    for row in (read(Path("/proc/net/if_inet6")) or "").splitlines():
        addresses.add(str(ipaddress.IPv6Address(bytes.fromhex(row.split()[0]))))
    return addresses


def _plain(text: str) -> str:
    """An IPv4 address written as IPv6 is what it stands for."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
