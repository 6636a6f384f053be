"""What one host knows about itself, and which ports of others it reaches. Judged nowhere here.

Runs on the host: standard library only, Python 3.8 and later. What cannot be read is None. Nothing is changed, except
that free ports of instances may be listened on for some seconds, so that others can prove that they reach them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import HostError, run
    from plugins.module_utils.slotwright_filter import Firewalld, Ufw, table_files
    from plugins.module_utils.slotwright_process import BUS_PORT_OFFSET, find_process, refuse_taken_ports
    from plugins.module_utils.slotwright_reach import (
        Endpoint,
        Place,
        connect_all,
        detach,
        end_forgotten,
        listen,
        socket_for,
    )
else:
    from ansible.module_utils.slotwright_files import HostError, run
    from ansible.module_utils.slotwright_filter import Firewalld, Ufw, table_files
    from ansible.module_utils.slotwright_process import BUS_PORT_OFFSET, find_process, refuse_taken_ports
    from ansible.module_utils.slotwright_reach import (
        Endpoint,
        Place,
        connect_all,
        detach,
        end_forgotten,
        listen,
        socket_for,
    )

CAP_SYS_RESOURCE = 1 << 24  # capability(7)
STATES = {"port-taken": "taken", "address-not-here": "away", "port-unusable": "unusable"}
ENDED = ("inactive", "failed", "unknown", "not-found", "")  # a unit that systemd will not start by itself
DISK_ANSWERS_WITHIN = 5.0  # seconds; a healthy one needs milliseconds, a dead one never answers
RULE_FILES = ((Firewalld.runs, "firewalld/zones/*.xml"), (Ufw.runs, "ufw/user*.rules"))
T = TypeVar("T")


def look(options: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of this host, and what it saw of the others. core/looked.py says what the names mean."""
    started = time.time()
    places = [Place.of(one) for one in options["instances"]]
    log_dir = Path(options["log_dir"])
    # Before anything listens: a process that hangs for ever at a dead disk must not have got hold of our sockets.
    *directories, log, version = _bounded(
        [
            *(partial(_directory, place.data_dir, holds_data=True) for place in places),
            partial(_directory, log_dir, holds_data=False),
            partial(_server_version, options["servers"]),
        ]
    )
    ports = _states(places, directories, options["service"])
    free = [place for place, port in zip(places, ports) if port["state"] == "free"]
    running = {port["port"] for port in ports if port["state"] == "running"}
    listener = None
    if free and options["listen_for"]:
        theirs = [one for one, place in zip(options["instances"], places) if place in free]
        listener = {**listen(free, options["listen_for"]), "instances": theirs}
    others = [(address, port) for address, port in options["endpoints"] if address != options["address"]]
    own = [(options["address"], p) for port in sorted(running) for p in (port, port + BUS_PORT_OFFSET)]
    filters = [pattern for runs, pattern in RULE_FILES if runs()]
    seen = connect_all([*own, *others], options["timeout"])
    facts = {
        "system": os.uname().sysname,
        "systemd": Path("/run/systemd/system").is_dir(),
        **_os_release(),
        **_memory(),
        "swappiness": _number("/proc/sys/vm/swappiness"),
        "overcommit": _number("/proc/sys/vm/overcommit_memory"),
        "somaxconn": _number("/proc/sys/net/core/somaxconn"),
        "thp": _in_brackets("/sys/kernel/mm/transparent_hugepage/enabled"),
        "open_files": _open_files("1" if options["service"] == "systemd" else "self"),
        "cpus": os.cpu_count(),
        "machine_id": _text("/etc/machine-id"),
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "clock_synced": _clock_synced(),
        "addresses": sorted(_addresses()),
        "twins": _twins({address for address, _ in others}),
        "disks": _disks(places, directories, log),
        "silent": [str(path) for path, said in _with_log(places, directories, log_dir, log) if said is None],
        "server_version": version or "",
        "packet_filter": bool(
            filters or shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
        ),
        "admitted": _admitted(places, {address for address, _ in others}, filters),
        "ports": ports,
        "listener": listener,
        "tried": len(others),
        "refused": seen.refused,
        "blocked": seen.blocked,
    }
    return {**facts, "clock": [started, time.time()]}


def _bounded(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each gives, which JSON can say; None of one that does not end in time.

    Each is a process of its own: one that waits for a dead disk cannot be killed, and nobody who waits for it ends.
    """
    children = []
    for job in jobs:
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Not a return, not an exception: we are a copy of the module, which must not go on twice.
            try:
                detach([into])
                os.write(into, json.dumps(job()).encode())
            finally:
                os._exit(0)
        os.close(into)
        children.append((pid, out))
    deadline = time.monotonic() + DISK_ANSWERS_WITHIN
    said = []
    for pid, out in children:
        if select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            text = os.read(out, 65536)
            os.waitpid(pid, 0)
        else:
            text = b""
            os.kill(pid, signal.SIGKILL)
        os.close(out)
        said.append(json.loads(text) if text else None)
    return said


def _states(
    places: Sequence[Place], directories: Sequence[dict[str, Any] | None], service: str
) -> list[dict[str, Any]]:
    """core/looked.py says what they mean. directories: None for one that does not answer, and must not be touched."""
    known = ["silent" if said is None else "running" if find_process(place) else "" for place, said in
             zip(places, directories)]  # fmt: skip
    starting = _starting([place.port for place, state in zip(places, known) if not state], service)
    found = []
    for place, said, state in zip(places, directories, known):
        member = bool(said and said["member"])
        who = ""
        if not state:
            state, who = _in_the_way(place)
        if state == "free":
            state = "starting" if place.port in starting else "down" if member else "free"
        found.append({"port": place.port, "state": state, "who": who, "member": member})
    return found


def _starting(ports: Sequence[int], service: str) -> set[int]:
    """Those that systemd may start at any moment: between two tries, or while a start waits for something."""
    if service != "systemd" or not ports or not Path("/run/systemd/system").is_dir():
        return set()
    states = run(["systemctl", "is-active", *(f"redis-cluster@{port}.service" for port in ports)]).stdout.splitlines()
    return {port for port, state in zip(ports, states) if state.strip() not in ENDED}


def _in_the_way(place: Place) -> tuple[str, str]:
    """State, and who is in the way. A listener that an earlier run left behind is ended."""
    for first in (True, False):
        try:
            refuse_taken_ports(place)
        except HostError as error:
            state, who = STATES[error.finding["code"]], error.finding["what"]
            if not (first and state == "taken" and end_forgotten(place)):
                return state, who
        else:
            break
    return "free", ""


def _readable(function: Callable[..., T], *arguments: Any) -> T | None:
    """What the function gives; None where the host does not let us see it, or says it in a way unknown to us."""
    try:
        return function(*arguments)
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _text(path: str) -> str | None:
    return (_readable(Path(path).read_text) or "").strip() or None


def _number(path: str) -> int | None:
    return _readable(lambda: int(Path(path).read_text()))


def _in_brackets(path: str) -> str | None:
    """Of "always [madvise] never"."""
    found = re.search(r"\[(\w+)\]", _text(path) or "")
    return found[1] if found else None


def _os_release() -> dict[str, str | None]:
    lines = (line.partition("=") for line in (_text("/etc/os-release") or "").splitlines())
    said = {name: value.strip("\"'") for name, _, value in lines}
    return {"os": said.get("ID", ""), "os_version": said.get("VERSION_ID")}


def _memory() -> dict[str, int | None]:
    kib = {name: int(number) for name, number in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", _text("/proc/meminfo") or "")}

    def size(name: str, less: str = "") -> int | None:
        return (kib[name] - kib.get(less, 0)) * 1024 if name in kib else None

    return {
        "memory_total": size("MemTotal"),
        "memory_available": size("MemAvailable"),
        "swap_total": size("SwapTotal"),
        "swap_used": size("SwapTotal", less="SwapFree"),
    }


def _open_files(process: str) -> int | None:
    """The most that a child of the process may have: its hard limit, or the kernel's own for those who may raise it."""
    capabilities = re.search(r"(?m)^CapEff:\s+(\w+)$", _text(f"/proc/{process}/status") or "")
    if capabilities and int(capabilities[1], 16) & CAP_SYS_RESOURCE:
        return _number("/proc/sys/fs/nr_open")
    limit = re.search(r"(?m)^Max open files\s+\d+\s+(\d+)", _text(f"/proc/{process}/limits") or "")
    return int(limit[1]) if limit else None


class _Timex(ctypes.Structure):
    """The start of struct timex, adjtimex(2); the rest is room for all of it."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 512),
    ]


def _clock_synced() -> bool | None:
    """As systemd's NTPSynchronized: the kernel lets its estimate of the error grow to 16 s if nobody sets it right."""
    timex = _Timex()
    said = _readable(lambda: ctypes.CDLL(None).adjtimex(ctypes.byref(timex)))
    return None if said is None or said < 0 else timex.maxerror < 16000000


def _addresses() -> set[str]:
    """Those of the host that others may use."""
    found = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", _text("/proc/net/fib_trie") or ""))
    for line in (_text("/proc/net/if_inet6") or "").splitlines():
        found.add(str(ip_address(bytes.fromhex(line.split()[0]))))
    return {a for a in found if not ip_address(a).is_loopback and not ip_address(a).is_link_local}


def _twins(addresses: Iterable[str]) -> list[str]:
    """Which of these this host has too."""
    if _number("/proc/sys/net/ipv4/ip_nonlocal_bind") or _number("/proc/sys/net/ipv6/ip_nonlocal_bind"):
        return []  # then every address seems to be here
    return sorted(filter(_is_here, addresses))


def _is_here(address: str) -> bool:
    with socket_for(address) as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


def _directory(path: Path, *, holds_data: bool) -> dict[str, Any]:
    """What is to be known of a directory, or of where it would be made. Hangs where its disk is dead."""
    there = _nearest(path)
    space = _readable(lambda: os.statvfs(there or "/"))
    return {
        "path": str(there),
        "device": _readable(lambda: os.stat(there or "/").st_dev),  # noqa: PTH116
        "free": space.f_bavail * space.f_frsize if there and space else None,
        "held": _readable(_held, path) if holds_data else 0,
        "member": holds_data and _readable((path / "nodes.conf").is_file),
    }


def _with_log(
    places: Sequence[Place], directories: Sequence[dict[str, Any] | None], log_dir: Path, log: dict[str, Any] | None
) -> list[tuple[Path, dict[str, Any] | None]]:
    return [*zip((place.data_dir for place in places), directories), (log_dir, log)]


def _disks(
    places: Sequence[Place], directories: Sequence[dict[str, Any] | None], log: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """One entry for each file system that has data, and one for the logs."""
    disks: dict[tuple[str, int], dict[str, Any]] = {}
    for place, said in [*zip(places, directories), (None, log)]:
        if said is None or said["free"] is None:
            continue
        use = "data" if place else "log"
        start = {"use": use, "path": said["path"], "free": said["free"], "held": 0, "ports": []}
        disk = disks.setdefault((use, said["device"]), start)
        disk["held"] = None if None in (said["held"], disk["held"]) else disk["held"] + said["held"]
        if place:
            disk["ports"].append(place.port)
    return list(disks.values())


def _nearest(path: Path) -> Path | None:
    return next((p for p in (path, *path.parents) if _readable(p.is_dir)), None)


def _held(path: Path) -> int:
    """Bytes of the files below. Redis has few, and none in deep directories."""
    if not path.is_dir():
        return 0
    total = 0
    for entry in os.scandir(path):
        total += _held(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else entry.stat().st_blocks * 512
    return total


def _server_version(places: Iterable[str]) -> str:
    """Of the first server that is there; empty where there is none or it does not say."""
    server = next(filter(None, map(shutil.which, places)), None)
    if server is None:
        return ""
    said = _readable(lambda: subprocess.run([server, "--version"], stdout=subprocess.PIPE, timeout=10, check=False))
    found = re.search(rb"\bv=(\S+)", said.stdout) if said else None
    return found[1].decode(errors="replace") if found else ""


def _admitted(places: Sequence[Place], addresses: Iterable[str], filters: Iterable[str]) -> list[Endpoint] | None:
    """Whom a firewall that role redis_host may change lets in already, and where; None: there is no such firewall.

    filters: patterns of the files of those that run.
    Taken from the words of its rules, not their sense: enough to tell rules that know a host from others.
    """
    files = table_files()
    for pattern in filters:
        files += Path("/etc").glob(pattern)
    if not files:
        return None
    words = set(re.findall(r"[0-9A-Fa-f.:]+", " ".join(_readable(file.read_text) or "" for file in files)))
    known = [address for address in addresses if address in words]
    # Ports for clients may be open to all without being named; those of the bus never are.
    ports = [p for place in places for p in (place.port, place.port + BUS_PORT_OFFSET)]
    named = [p for p in ports if str(p) in words or str(p + BUS_PORT_OFFSET) in words]
    return [(address, port) for address in known for port in named]
