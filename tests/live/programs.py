"""Programs for tests of the installation: archives of real servers, programs that will not do, and tiny sources."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.live.machine import load
from tests.live.servers import binary, version_of

OWN = shutil.which("redis-server") or "redis-server"
"""This machine's own server."""

slotwright_servers = load("plugins/module_utils/slotwright_servers.py")
sys.modules["ansible.module_utils.slotwright_servers"] = slotwright_servers
slotwright_build = load("plugins/module_utils/slotwright_build.py")
sys.modules["ansible.module_utils.slotwright_build"] = slotwright_build


def find_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the compiler find the headers of OpenSSL and systemd: fetched ones, where this machine has none."""
    if slotwright_build.has_header("openssl/ssl.h") and slotwright_build.has_header("systemd/sd-daemon.h"):
        return
    root = Path(binary("headers"))
    [libraries] = {path.parent for path in root.glob("usr/lib/**/libsystemd.so")}
    monkeypatch.setenv("CPATH", f"{root}/usr/include:{root}/usr/include/{libraries.name}")
    monkeypatch.setenv("LIBRARY_PATH", str(libraries))
    monkeypatch.setenv("PKG_CONFIG_PATH", f"{libraries}/pkgconfig")


def version(server: str) -> str:
    return ".".join(map(str, version_of(server)))


def pack(path: Path, members: Mapping[str, str | bytes], mode: int = 0o755) -> str:
    """Writes a tarball: by its name there, a path on this machine, or the file's content. Gives its SHA-256.

    Everything belongs to a user of some other machine.
    """
    with tarfile.open(path, "w:gz") as tar:
        for name, source in members.items():
            content = source if isinstance(source, bytes) else Path(source).resolve().read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), mode, 1234, 1234
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compiled(directory: Path, source: str, *options: str | Path) -> bytes:
    (directory / "program.c").write_text(source)
    subprocess.run(["cc", "-o", directory / "program", directory / "program.c", *options], check=True)
    return (directory / "program").read_bytes()


def whose_library_stays_behind(directory: Path) -> bytes:
    library = directory / "libgone.so"
    library.write_bytes(compiled(directory, "int gone(void) { return 0; }", "-shared"))
    program = compiled(directory, "int gone(void); int main(void) { return gone(); }", library)
    library.unlink()
    return program


def for_another_libc(directory: Path) -> bytes:
    """Its loader is not here, as that of a program built on Alpine."""
    return compiled(directory, "int main(void) { return 0; }", "-Wl,--dynamic-linker=/lib/ld-other-libc.so.1")


def for_another_machine(directory: Path) -> bytes:
    """An ELF file for a kind of machine that does not exist."""
    content = bytearray(compiled(directory, "int main(void) { return 0; }"))
    content[18:20] = b"\xff\xfe"
    return bytes(content)


def tiny_sources(path: Path, log: Path, **other: str) -> str:
    """As little as can be built: a program that says it is Redis 7.9.1, linked as the real one. Gives the SHA-256.

    It proves the way from sources to hosts, not Redis; that is the soak's. log: gets a line for each build.
    other: texts of other files, Makefile for another one.
    """
    server = '#include <stdio.h>\nint main(void) { puts("Redis server v=7.9.1 malloc=jemalloc-5.3.0 bits=64"); }\n'
    makefile = f"""\
all: redis-server
redis-server: server.c
\techo built >>{log}
\tcc -o $@ $< -Wl,--no-as-needed $(if $(filter yes,$(USE_SYSTEMD)),-lsystemd) $(if $(filter yes,$(BUILD_TLS)),-lssl)
install: all
\tmkdir -p $(PREFIX)/bin
\tinstall redis-server $(PREFIX)/bin
\tln -s redis-server $(PREFIX)/bin/redis-check-rdb
"""
    files = {"server.c": server, "Makefile": makefile, **other}
    return pack(path, {f"redis-7.9.1/{name}": text.encode() for name, text in files.items()})
