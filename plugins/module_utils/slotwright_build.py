"""Redis or Valkey out of its sources: an archive of programs that any like host can run.

Runs on the build host: standard library only, Python 3.8 and later. Needs no root and installs nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.slotwright_servers import examine

FLAGS = ("BUILD_TLS=yes", "USE_SYSTEMD=yes", "MALLOC=jemalloc")
NEEDED = {
    "cc": ("gcc", "gcc"),
    "make": ("make", "make"),
    "pkg-config": ("pkg-config", "pkgconf-pkg-config"),
    "stdlib.h": ("libc6-dev", "glibc-devel"),
    "openssl/ssl.h": ("libssl-dev", "openssl-devel"),
    "systemd/sd-daemon.h": ("libsystemd-dev", "systemd-devel"),
}
"""Programs and C headers, each with its package on Debian and on Fedora and their kin."""


class BuildError(Exception):
    """The archive cannot be built: why, and what to do."""


def build(options: Mapping[str, Any]) -> dict[str, Any]:
    """What module redis_build returns, for its options."""
    if platform.machine() != options["architecture"]:
        raise BuildError(
            f"it is {platform.machine()}, and what it builds does not run on {options['architecture']}. "
            f"Set redis_install_build_host to a host that is {options['architecture']}."
        )
    tarball, archive = Path(options["source"]), Path(options["archive"])
    if sha256(tarball) != options["checksum"]:
        raise BuildError(
            f"the SHA-256 of the sources is {sha256(tarball)}, not redis_install_checksum, {options['checksum']}. "
            "Fetch them again, or correct redis_install_checksum."
        )
    refuse_missing(NEEDED)
    with tempfile.TemporaryDirectory(prefix="build-", dir=str(archive.parent)) as scratch:
        sources, programs = Path(scratch, "sources"), Path(scratch, "programs")
        sources.mkdir()
        call(["tar", "-xf", str(tarball), "--no-same-owner", "-C", str(sources)], options["timeout"])
        tree = sources_in(sources)
        if any(tree.glob("deps/fast_float/*.cpp")):  # Redis 8
            refuse_missing({"g++": ("g++", "gcc-c++")})
        make = ["make", f"-j{os.cpu_count() or 1}", *FLAGS]
        call(make, options["timeout"], tree)
        call([*make, "install"], options["timeout"], tree, PREFIX=str(programs))
        refuse_other(options, programs / f"bin/{options['flavor']}-server")
        # Redis's own user must be able to run them, whatever umask and numbers of users hold here.
        everyone = ["--owner=0", "--group=0", "--numeric-owner", "--mode=go=rX"]
        call(["tar", "-czf", str(archive), *everyone, "-C", str(programs), "bin"], options["timeout"])
    return {"archive": str(archive), "checksum": sha256(archive)}


def refuse_missing(needed: Mapping[str, tuple[str, str]]) -> None:
    """Before anything is built: all that is missing, by its name and by those of its package."""
    missing = [name for name in needed if not (has_header(name) if name.endswith(".h") else shutil.which(name))]
    if missing:
        debian, fedora = (" ".join(needed[name][kin] for name in missing) for kin in (0, 1))
        raise BuildError(
            f"it lacks {', '.join(missing)}. Install there: {debian} (on Debian and its kin), or {fedora} (on "
            "Fedora and its kin); or set redis_install_build_host to another host."
        )


def has_header(name: str) -> bool:
    """Whether the C compiler finds it, wherever it looks. Without a compiler, nothing is found."""
    if not shutil.which("cc"):
        return False
    text = f"#include <{name}>\n".encode()
    command = ["cc", "-E", "-x", "c", "-", "-o", os.devnull]
    return subprocess.run(command, input=text, stderr=subprocess.DEVNULL, check=False).returncode == 0


def sources_in(directory: Path) -> Path:
    """The one directory that a tarball of sources has at its top."""
    trees = [makefile.parent for makefile in directory.glob("*/Makefile")]
    if len(trees) != 1:
        found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
        raise BuildError(
            f"the tarball has no directory with a Makefile at its top, but {found}. Set redis_install_source to the "
            "release as its makers publish it."
        )
    return trees[0]


def refuse_other(options: Mapping[str, Any], path: Path) -> None:
    """Raises BuildError unless the program is the wanted server, with TLS, systemd and jemalloc."""
    server, said = examine(str(path))
    wanted = {
        f"{options['flavor'].capitalize()} {options['version']}": (options["flavor"], options["version"])
        == (server.flavor, server.version),
        "linked with OpenSSL": server.tls,
        "linked with libsystemd": server.notify,
        "linked with jemalloc": "malloc=jemalloc" in said,
    }
    lacking = [what for what, holds in wanted.items() if not holds]
    if lacking:
        raise BuildError(
            f"the server that was built is not {' and not '.join(lacking)}. It says: {said or 'nothing'}. "
            "Correct redis_install_version, redis_install_flavor or redis_install_source."
        )


def call(command: Sequence[str], timeout: float, directory: Path = Path("/"), **variables: str) -> None:
    """timeout: in seconds. variables: of the environment."""
    # A make above this one would have us take part in its own jobs.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=str(directory),
        env={**environment, **variables, "LC_ALL": "C"},
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # also the compilers
            if isinstance(error, subprocess.TimeoutExpired):
                raise BuildError(f"`{' '.join(command)}` did not end within {timeout:g} s") from None
            raise
    if process.returncode:
        lines = said.decode(errors="replace").splitlines()
        errors = [line for line in lines if "error:" in line.lower()][:5]
        told = "\n".join([*errors, "…", *lines[-8:]])
        raise BuildError(f"`{' '.join(command)}` failed:\n{told}\nRead the first error; nothing was left behind.")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
