"""Module redis_servers: which servers a host has, with real programs of every kind, also such as cannot run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.machine import load
from tests.live.programs import (
    OWN,
    for_another_libc,
    for_another_machine,
    slotwright_servers,
    version,
    whose_library_stays_behind,
)
from tests.live.servers import binary


def look(**options: Any) -> dict[str, Any]:
    defaults = {"flavor": "redis", "version": "", "bin_dir": "", "also": [], "root": "/nowhere", "unpacked_from": ""}
    found: dict[str, Any] = slotwright_servers.look({**defaults, **options})
    return found


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_server_of_the_operating_system_is_known_by_its_own_words_and_its_libraries() -> None:
    needed = subprocess.run(["ldd", OWN], capture_output=True, text=True, check=True).stdout
    links = {"notify": "libsystemd" in needed, "tls": "libssl" in needed}
    found = look(bin_dir=str(Path(OWN).parent))
    assert found["servers"] == [{"version": version(OWN), "path": OWN, "flavor": "redis", **links}]
    assert (found["missing"], found["problems"]) == ([], [])
    # Not in this directory, but on the PATH.
    assert look(bin_dir="/nowhere")["servers"] == found["servers"]


def test_a_server_without_libsystemd_is_not_taken_for_one_that_can_notify(tmp_path: Path) -> None:
    (tmp_path / "redis-server").symlink_to(binary("6.2.14"))
    [server] = look(bin_dir=str(tmp_path))["servers"]
    assert (server["version"], server["notify"], server["tls"]) == ("6.2.14", False, False)


def test_missing_servers_are_foreseen_where_they_will_be(tmp_path: Path) -> None:
    found = look(flavor="valkey", version="8.0.1", also=["8.1.1"], root=str(tmp_path))
    assert [server["path"] for server in found["servers"]] == [
        f"{tmp_path}/valkey-8.0.1/bin/valkey-server",
        f"{tmp_path}/valkey-8.1.1/bin/valkey-server",
    ]
    assert [(one["version"], one["home"]) for one in found["missing"]] == [
        ("8.0.1", f"{tmp_path}/valkey-8.0.1"),
        ("8.1.1", f"{tmp_path}/valkey-8.1.1"),
    ]
    assert found["missing"][0]["problem"] == (
        f"after the installation there is no {tmp_path}/valkey-8.0.1/bin/valkey-server and no "
        f"{tmp_path}/valkey-8.0.1/valkey-server. Remove {tmp_path}/valkey-8.0.1, and run again."
    )
    assert list(tmp_path.iterdir()) == []


def test_with_no_version_stated_the_oldest_that_will_do_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    [server] = look(bin_dir="/nowhere")["servers"]
    assert (server["version"], server["path"]) == ("6.2", "/nowhere/redis-server")


@pytest.mark.parametrize(
    ("server", "stated", "refusal"),
    [
        (
            "echo 'libgone.so.1: cannot open shared object file' >&2; exit 127",
            "",
            "{0} does not say its version. It said: libgone.so.1: cannot open shared object file. Install what it "
            "misses, or remove it, or set redis_install_bin_dir to the directory of a working redis-server.",
        ),
        (
            "echo 'Redis server v=6.0.16 sha=00000000:0'",
            "",
            "{0} is Redis 6.0.16, and Redis below 6.2 is not supported. Install a newer one, or use "
            "redis_install_method: archive.",
        ),
        (
            "echo 'Redis server v=7.2.4 sha=00000000:0'",
            "7.2.16",
            "redis_install_version: {0} is 7.2.4, not 7.2.16. Correct or leave out redis_install_version, or use "
            "redis_install_method: archive.",
        ),
        (
            "exec {valkey} --version",
            "",
            "{0} is Valkey 8.0.1, not Redis. Set redis_install_flavor: valkey, or use redis_install_method: archive.",
        ),
    ],
    ids=["cannot-run", "too-old", "other-version", "other-flavor"],
)
def test_a_server_that_will_not_do_is_refused_with_what_to_do(
    tmp_path: Path, server: str, stated: str, refusal: str
) -> None:
    path = script(tmp_path / "redis-server", server.replace("{valkey}", binary("valkey-8.0.1")))
    found = look(bin_dir=str(tmp_path), version=stated)
    assert found["problems"] == [refusal.format(path)]


def test_another_server_in_the_directory_of_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "7.0.15/bin").mkdir(parents=True)
    (tmp_path / "7.0.15/bin/redis-server").symlink_to(binary("6.2.14"))
    [problem] = look(root=str(tmp_path), version="7.0.15")["problems"]
    assert problem.startswith(f"redis_install_version: {tmp_path}/7.0.15/bin/redis-server is 6.2.14, not 7.0.15.")
    assert f"remove {tmp_path}/7.0.15 and run again" in problem


@pytest.mark.parametrize("name", ["redis_servers", "redis_build"])
def test_the_documentation_of_a_module_is_its_argument_spec(name: str) -> None:
    module = load(f"modules/{name}.py")
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    documented = {option: {k: v for k, v in said.items() if k != "description"} for option, said in options.items()}
    assert documented == module.ARGUMENTS


# --- Of an archive that was just unpacked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "refusal"),
    [
        (whose_library_stays_behind, "libgone.so: cannot open shared object file: No such file or directory. Install"),
        (for_another_machine, "It said: Exec format error: it was built for another kind of machine, or this user may"),
        (for_another_libc, "It said: it needs a loader or an interpreter that is not on this host. Install"),
        (lambda _: Path(binary("6.2.14")).read_bytes(), "redis-server is 6.2.14, not 7.0.15. Correct or"),
        (lambda _: Path(binary("valkey-8.0.1")).read_bytes(), "redis-server is Valkey 8.0.1, not Redis. Set"),
    ],
    ids=["library-missing", "other-machine", "other-libc", "other-version", "other-flavor"],
)
def test_an_archive_whose_server_is_not_the_stated_one_is_refused(
    tmp_path: Path, server: Callable[[Path], bytes], refusal: str
) -> None:
    unpacked = tmp_path / "7.0.15.new/bin"
    unpacked.mkdir(parents=True)
    (unpacked / "redis-server").write_bytes(server(tmp_path))
    (unpacked / "redis-server").chmod(0o755)
    [problem] = look(root=str(tmp_path), version="7.0.15", unpacked_from="/srv/redis.tar.gz")["problems"]
    assert "in /srv/redis.tar.gz redis-server " in problem
    assert refusal in problem


def test_an_archive_with_a_directory_above_its_programs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "7.0.15.new/redis-7/bin").mkdir(parents=True)
    (tmp_path / "7.0.15.new/redis-7/bin/redis-server").symlink_to(OWN)
    [missing] = look(root=str(tmp_path), version="7.0.15", unpacked_from="/srv/redis.tar.gz")["missing"]
    assert missing["problem"].startswith(
        "in /srv/redis.tar.gz redis-server is missing or cannot run, not 7.0.15. At the top of the archive: redis-7. "
        "The programs must be at the top or in bin"
    )
