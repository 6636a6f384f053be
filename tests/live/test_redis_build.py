"""Module redis_build on the build host, with a real compiler and as little to compile as there can be."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.live.machine import load
from tests.live.programs import find_headers, pack, slotwright_build, slotwright_servers, tiny_sources
from tests.live.servers import wait_until

BuildError = slotwright_build.BuildError


@pytest.fixture(autouse=True)
def headers(monkeypatch: pytest.MonkeyPatch) -> None:
    find_headers(monkeypatch)


def build(directory: Path, **options: Any) -> Path:
    """Module redis_build for the tiny sources, which it writes unless they are there. Gives the archive."""
    sources = directory / "redis-7.9.1.tar.gz"
    if not sources.exists():
        tiny_sources(sources, directory / "log")
    (directory / "work").mkdir(exist_ok=True)
    given = {
        "flavor": "redis",
        "version": "7.9.1",
        "source": str(sources),
        "checksum": hashlib.sha256(sources.read_bytes()).hexdigest(),
        "architecture": platform.machine(),
        "archive": str(directory / "work/programs.tar.gz"),
        "timeout": 60.0,
        **options,
    }
    done = slotwright_build.build(given)
    assert done["checksum"] == hashlib.sha256(Path(done["archive"]).read_bytes()).hexdigest()
    return Path(done["archive"])


def refused(directory: Path, **options: Any) -> str:
    """Why the build fails. Nothing may be left behind."""
    with pytest.raises(BuildError) as refusal:
        build(directory, **options)
    assert list((directory / "work").iterdir()) == []
    return str(refusal.value)


def test_sources_become_an_archive_of_programs_for_everybody_with_tls_and_systemd(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        archive = build(tmp_path)
    finally:
        os.umask(mask)
    assert [path.name for path in archive.parent.iterdir()] == ["programs.tar.gz"]
    with tarfile.open(archive) as tar:
        members = {m.name: m for m in tar}
    assert {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
    assert {name: m.mode for name, m in members.items() if not m.issym()} == {"bin": 0o755, "bin/redis-server": 0o755}
    assert members["bin/redis-check-rdb"].linkname == "redis-server"
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    server, _ = slotwright_servers.examine(str(tmp_path / "bin/redis-server"))
    assert (server.flavor, server.version, server.notify, server.tls) == ("redis", "7.9.1", True, True)


def test_what_the_build_host_lacks_is_named_all_at_once_with_its_packages_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").symlink_to(shutil.which("make") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    said = refused(tmp_path)
    assert said.startswith("it lacks cc, pkg-config, stdlib.h, openssl/ssl.h, systemd/sd-daemon.h. Install there: ")
    assert "gcc pkg-config libc6-dev libssl-dev libsystemd-dev (on Debian" in said
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"version": "7.9.2"}, "the server that was built is not Redis 7.9.2. It says: Redis server v=7.9.1"),
        ({"checksum": "0" * 64}, f"not redis_install_checksum, {'0' * 64}"),
        ({"architecture": "s390x"}, "does not run on s390x. Set redis_install_build_host to a host that is s390x"),
    ],
    ids=["other-version", "other-checksum", "other-architecture"],
)
def test_a_build_of_something_else_than_what_is_wanted_is_refused(
    tmp_path: Path, options: dict[str, str], refusal: str
) -> None:
    assert refusal in refused(tmp_path, **options)


def test_a_server_without_systemd_is_refused(tmp_path: Path) -> None:
    makefile = "install:\n\tmkdir -p $(PREFIX)/bin; cc -o $(PREFIX)/bin/redis-server server.c\n"
    tiny_sources(tmp_path / "redis-7.9.1.tar.gz", tmp_path / "log", Makefile=f"all:\n{makefile}")
    assert "is not linked with OpenSSL and not linked with libsystemd. It says: Redis" in refused(tmp_path)


def test_a_build_that_fails_says_the_compilers_words(tmp_path: Path) -> None:
    tiny_sources(tmp_path / "redis-7.9.1.tar.gz", tmp_path / "log", **{"server.c": "int main(void) { return x; }"})
    said = refused(tmp_path)
    assert re.match(
        r"`make -j\d+ BUILD_TLS=yes USE_SYSTEMD=yes MALLOC=jemalloc` failed:\nserver\.c:1:\d+: error: ", said
    )


def test_a_build_that_hangs_is_ended(tmp_path: Path) -> None:
    makefile = f"all:\n\techo $$$$ >{tmp_path}/pid; sleep 300; true\n"
    tiny_sources(tmp_path / "redis-7.9.1.tar.gz", tmp_path / "log", Makefile=makefile)
    assert "did not end within 2 s" in refused(tmp_path, timeout=2.0)
    pid = (tmp_path / "pid").read_text().strip()
    wait_until("its shell is gone", lambda: not Path(f"/proc/{pid}/exe").exists())


def test_a_tarball_that_is_no_tree_of_sources_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "redis-7.9.1.tar.gz", {"bin/redis-server": b"#!/bin/sh\n"})
    assert "has no directory with a Makefile at its top, but bin. Set redis_install_source" in refused(tmp_path)


def test_redis_8_needs_a_compiler_of_cpp_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("cc", "make", "pkg-config", "tar", "gzip"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    tiny_sources(tmp_path / "redis-7.9.1.tar.gz", tmp_path / "log", **{"deps/fast_float/strtod.cpp": ""})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert refused(tmp_path).startswith("it lacks g++. Install there: g++ (on Debian")


def test_the_action_plugin_refuses_sources_before_it_asks_the_build_host(tmp_path: Path) -> None:
    plugin = load("plugins/action/redis_build.py")
    checksum = tiny_sources(tmp_path / "sources.tar.gz", tmp_path / "log")
    assert plugin.checksum_of_sources(str(tmp_path / "sources.tar.gz"), f"sha256:{checksum.upper()}") == checksum
    assert plugin.checksum_of_sources("https://somewhere/sources.tar.gz", checksum) == checksum
    for source, stated, refusal in (
        ("https://somewhere/sources.tar.gz", "", "anybody may have changed what is there"),
        ("/nowhere/sources.tar.gz", "", "the controller has no /nowhere/sources.tar.gz"),
        (str(tmp_path / "sources.tar.gz"), "0" * 64, f"is {checksum}, not redis_install_checksum, 0000"),
    ):
        with pytest.raises(plugin.AnsibleActionFail, match=refusal):
            plugin.checksum_of_sources(source, stated)
