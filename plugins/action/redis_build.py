"""Keeps the archives that module redis_build makes: each is built once, and then taken from the controller."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

CACHE = "~/.cache/slotwright"
PATIENCE = 7200.0  # seconds that one host waits for the build that another has begun


class ActionModule(ActionBase):
    """Options: see module redis_build."""

    TRANSFERS_FILES = True  # has Ansible make its temporary directory on the build host, and remove it at the end

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = self._task.args
        build_host = self._task.delegate_to or (task_vars or {})["inventory_hostname"]
        sources = checksum_of_sources(options["source"], options.get("checksum") or "")
        name = f"{options.get('flavor', 'redis')}-{options['version']}-{options['architecture']}-{sources[:12]}.tar.gz"
        archive = Path(options.get("cache") or CACHE).expanduser() / build_host / name
        archive.parent.mkdir(parents=True, exist_ok=True)
        note = {"task": self._task._uuid, "archive": name}
        with alone(archive.parent / ".lock") as lock:
            if whole(archive):
                return result | {"changed": False, "archive": str(archive), "checksum": sha256(archive)}
            last = json.loads(lock.read() or "{}")
            # The other hosts of a run would only build in vain once more, one after the other.
            if {"task": last.get("task"), "archive": last.get("archive")} == note:
                raise AnsibleActionFail(last["failure"])
            try:
                self._build(archive, sources, task_vars)
            except AnsibleActionFail as error:
                failure = f"build host {build_host}: {error.message}"
                rewrite(lock, json.dumps({**note, "failure": failure}))
                raise AnsibleActionFail(failure) from None
        return result | {"changed": True, "archive": str(archive), "checksum": sha256(archive)}

    def _build(self, archive: Path, sources: str, task_vars: dict[str, Any] | None) -> None:
        """Builds it on the build host and puts it into the cache. The lock must be held."""
        shell = self._connection._shell
        tarball, built = (shell.join_path(shell.tmpdir, name) for name in ("sources", "programs.tar.gz"))
        source = self._task.args["source"]
        if is_address(source):
            fetch = {"url": source, "dest": tarball, "checksum": f"sha256:{sources}", "mode": "0600"}
            self._call("ansible.builtin.get_url", fetch, task_vars)
        else:
            self._transfer_file(str(Path(source).expanduser()), tarball)
        given = {**self._task.args, "source": tarball, "checksum": sources, "archive": built}
        done = self._call("redis_build", given, task_vars)
        arriving = archive.with_suffix(".new")
        self._connection.fetch_file(built, str(arriving))
        if sha256(arriving) != done["checksum"]:
            raise AnsibleActionFail(f"{built} arrived damaged on the controller. Run again.")
        checksum_file(archive).write_text(f"{done['checksum']}  {archive.name}\n")
        arriving.replace(archive)

    def _call(self, module: str, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(module_name=module, module_args=options, task_vars=task_vars)
        if done.get("failed"):
            raise AnsibleActionFail(str(done.get("msg", done)))
        return done


def is_address(source: str) -> bool:
    return bool(re.match("https?://", source))


def checksum_of_sources(source: str, stated: str) -> str:
    """SHA-256 of the tarball: of an address the stated one, of a path its own, which must be the stated one if any."""
    stated = stated.removeprefix("sha256:").lower()
    if is_address(source):
        if not stated:
            raise AnsibleActionFail(
                f"redis_install_checksum: it is not set, and {source} is an address: anybody may have changed what is "
                "there. Set it to the SHA-256 of the tarball."
            )
        return stated
    path = Path(source).expanduser()
    if not path.is_file():
        raise AnsibleActionFail(f"redis_install_source: the controller has no {source}. Put it there, or correct it.")
    if stated not in ("", sha256(path)):
        raise AnsibleActionFail(
            f"the SHA-256 of {source} is {sha256(path)}, not redis_install_checksum, {stated}. "
            "Fetch the sources again, or correct redis_install_checksum."
        )
    return sha256(path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_file(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def whole(archive: Path) -> bool:
    """Whether the archive is in the cache, just as it was built."""
    try:
        return checksum_file(archive).read_text().split()[0] == sha256(archive)
    except (FileNotFoundError, IndexError):
        return False


@contextmanager
def alone(path: Path) -> Iterator[TextIO]:
    """Holds the lock. Hosts of one run ask in processes of their own, and so do two runs."""
    with path.open("a+") as lock:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AnsibleActionFail(
                        f"another build has held {path} for {PATIENCE:g} s. See what it waits for (`fuser {path}`)."
                    ) from None
                time.sleep(0.2)
        lock.seek(0)
        yield lock


def rewrite(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
