"""The server programs of one host: which are there, what they are, and whether they will do.

Runs on the host: standard library only, Python 3.8 and later. Nothing is changed here but by keep().
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
_SAYS_VERSION = re.compile(r"(?im)^(redis|valkey) server v=(\S+)")
_TIMEOUT = 20.0  # seconds; --version takes milliseconds


@dataclass(frozen=True)
class Wanted:
    """A server that shall be there. version: "" where any will do. home: directory of its version, "" for the system's.

    places: where it may be, the first that has a program counts. unpacked_from: the archive that home was unpacked from
    a moment ago, "" once it is in place.
    """

    flavor: str
    version: str
    home: str
    places: tuple[str, ...]
    unpacked_from: str = ""


@dataclass(frozen=True)
class Server:
    """A program, in its own words. notify: it can tell systemd that it is ready. tls: it speaks TLS."""

    version: str
    path: str
    flavor: str
    notify: bool
    tls: bool


def look(options: Mapping[str, Any]) -> dict[str, Any]:
    """What module redis_servers returns, for its options."""
    servers, missing, problems = [], [], []
    for wanted in wanted_servers(options):
        path = next(filter(None, map(shutil.which, wanted.places)), None)
        if path is None:
            # A missing one is foreseen: in check mode, what comes later goes on as if it were there.
            version = wanted.version or ".".join(map(str, OLDEST[wanted.flavor]))
            server = Server(version, wanted.places[0], wanted.flavor, notify=True, tls=True)
            missing.append({"version": wanted.version, "home": wanted.home, "problem": _absent(wanted)})
        else:
            server, said = examine(path)
            problems += [problem for problem in [_problem(wanted, server, said)] if problem]
        servers.append(asdict(server))
    servers += [asdict(server) for server in linked(options.get("conf_dir") or "", {s["path"] for s in servers})]
    return {"servers": servers, "missing": missing, "problems": problems, "architecture": platform.machine()}


def linked(conf_dir: str, known: Collection[str]) -> Iterable[Server]:
    """Further servers with which instances are started here: those of the time before an upgrade."""
    there = {os.path.realpath(path) for path in known}
    for link in sorted(Path(conf_dir).glob("*/redis-server")) if conf_dir else ():
        path = os.path.realpath(str(link))
        if path not in there and os.access(path, os.X_OK):
            there.add(path)
            server, _ = examine(os.readlink(str(link)))
            if server.version:
                yield server


def keep(conf_dir: str, root: str, *, check: bool) -> list[dict[str, str]]:
    """Copies servers that instances here are started with, and that are not below root, to where versions lie.

    There no package manager replaces them: a crash brings back the version that ran, and there is a way back. Gives
    link, from and to of each instance. What runs is copied from its process, where the file is another by now.
    """
    below, kept = os.path.realpath(root) + os.sep, []
    for link in sorted(Path(conf_dir).glob("*/redis-server")):
        path = os.path.realpath(str(link))
        if not link.is_symlink() or path.startswith(below):
            continue
        source = _running_as(path) or path
        server, _ = examine(source)
        if not server.version:
            continue
        places = [Path(place) for place in places_in(home_of(root, server.flavor, server.version), server.flavor)]
        to = next((place for place in places if place.exists()), None)
        if to is None:
            to = places[0]
            if not check:
                to.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                new = to.with_name(f".{to.name}.new")
                shutil.copyfile(source, str(new))
                new.chmod(0o755)
                new.replace(to)
        if not check:
            other = link.with_name(".redis-server.new")
            if other.is_symlink():
                other.unlink()
            other.symlink_to(to)
            other.replace(link)
        kept.append({"link": str(link), "from": path, "to": str(to)})
    return kept


def _running_as(path: str) -> str:
    """/proc/…/exe of a process that was started from this path and whose file there has been replaced since."""
    for exe in Path("/proc").glob("[0-9]*/exe"):
        try:
            if os.readlink(str(exe)) == f"{path} (deleted)":
                return str(exe)
        except OSError:
            continue
    return ""


def wanted_servers(options: Mapping[str, Any]) -> Iterable[Wanted]:
    """The one that instances shall run first, then the others."""
    flavor, versions = options["flavor"], [*options["also"]]
    if options["bin_dir"]:
        places = (f"{options['bin_dir']}/{flavor}-server", f"{flavor}-server")
        yield Wanted(flavor, options["version"], "", places)
    else:
        versions = [options["version"], *versions]
    for version in versions:
        home = home_of(options["root"], flavor, version)
        places = places_in(f"{home}.new" if options["unpacked_from"] else home, flavor)
        yield Wanted(flavor, version, home, places, options["unpacked_from"])


def home_of(root: str, flavor: str, version: str) -> str:
    """Directory of a version."""
    return f"{root}/{'' if flavor == 'redis' else flavor + '-'}{version}"


def places_in(home: str, flavor: str) -> tuple[str, str]:
    """Where in it the server may be."""
    return f"{home}/bin/{flavor}-server", f"{home}/{flavor}-server"


def examine(path: str) -> tuple[Server, str]:
    """The program, version and flavor "" where it does not say them, and all that it said."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        said = done.stdout.decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        said = f"nothing within {_TIMEOUT:g} s"
    except FileNotFoundError:
        said = "it needs a loader or an interpreter that is not on this host"
    except OSError as error:
        said = f"{error.strerror}: it was built for another kind of machine, or this user may not run it"
    found = _SAYS_VERSION.search(said)
    # An ELF file has the names of the libraries it is linked with as they are, each after a null byte.
    binary = Path(path).read_bytes() if found else b""
    libraries = [b"\0libsystemd.so." in binary, b"\0libssl.so." in binary]
    return Server(found[2] if found else "", path, found[1].lower() if found else "", *libraries), said


def _absent(wanted: Wanted) -> str:
    if wanted.unpacked_from:
        top = sorted(path.name for path in Path(f"{wanted.home}.new").iterdir())
        return (
            f"in {wanted.unpacked_from} {wanted.flavor}-server is missing or cannot run, not {wanted.version}. "
            f"At the top of the archive: {', '.join(top) or 'nothing'}. The programs must be at the top or in bin, and "
            "executable: pack the archive again without a directory above them, or correct its path in the inventory."
        )
    remedy = f"Remove {wanted.home}, and run again"
    if not wanted.home:
        remedy = f"Set redis_install_bin_dir to the directory where redis_install_package puts {wanted.flavor}-server"
    return f"after the installation there is no {' and no '.join(wanted.places)}. {remedy}."


def _problem(wanted: Wanted, server: Server, said: str) -> str:
    """Why this one will not do, and what to do; "" where it will."""
    name, oldest = wanted.flavor.capitalize(), ".".join(map(str, OLDEST[wanted.flavor]))
    path, other = server.path, "use redis_install_method: archive"
    if wanted.home:
        other = f"remove {wanted.home} and run again"
    if wanted.unpacked_from:
        path, other = f"in {wanted.unpacked_from} {wanted.flavor}-server", "take another archive"
    if not server.version:
        what = f"{path} does not say its version. It said: {said or 'nothing'}. Install what it misses"
        if wanted.unpacked_from:
            return (
                f"{what}, or take an archive that was built for hosts like this one: with method source, set "
                "redis_install_build_host to a host whose libraries are no newer than here."
            )
        if wanted.home:
            return f"{what}, or {other}."
        return (
            f"{what}, or remove it, or set redis_install_bin_dir to the directory of a working {wanted.flavor}-server."
        )
    what = f"{path} is {server.flavor.capitalize()} {server.version}"
    if server.flavor != wanted.flavor:
        return f"{what}, not {name}. Set redis_install_flavor: {server.flavor}, or {other}."
    if wanted.version not in ("", server.version):
        what = f"redis_install_version: {path} is {server.version}, not {wanted.version}"
        return f"{what}. Correct or leave out redis_install_version, or {other}."
    if _numbers(server.version) < OLDEST[wanted.flavor]:
        return f"{what}, and {name} below {oldest} is not supported. Install a newer one, or {other}."
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
