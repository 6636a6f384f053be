"""What a redis.conf means to the server that reads it: every directive's value, in that server's own words.

The server itself is asked, so that units, defaults, aliases and lists are as CONFIG GET of an instance shows them.
Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Account, HostError
else:
    from ansible.module_utils.slotwright_files import Account, HostError

# Others than these are of the trial, or of the place, or secret: what an instance has there is no matter of CONFIG SET.
NOT_COMPARED = frozenset(
    (
        *("port", "tls-port", "unixsocket", "unixsocketperm", "cluster-enabled", "cluster-config-file", "databases"),
        *("dir", "pidfile", "daemonize", "supervised", "logfile", "syslog-enabled", "replicaof", "slaveof", "aclfile"),
        *("requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass", "maxclients"),
        *("proc-title-template", "always-show-logo"),
    )
)
# Lines that no CONFIG GET shows: where these differ, only a restart makes them count.
UNSEEN = ("loadmodule", "rename-command", "user", "aclfile", "databases", "unixsocket", "unixsocketperm")
_LEFT_OUT = re.compile(
    r"(?mi)^\s*(?:user|aclfile|rename-command|requirepass|masterauth|masteruser|loadmodule|replicaof|slaveof|include)"
    r"\s.*$"
)
_FIXED = re.compile(r"immutable|Unsupported CONFIG parameter|Unknown option|protected config", re.IGNORECASE)


def unseen(text: str) -> list[str]:
    """The lines of a redis.conf that CONFIG GET says nothing of."""
    lines = (line.strip() for line in text.splitlines())
    return sorted(line for line in lines if line.split(None, 1)[:1] and line.split(None, 1)[0].lower() in UNSEEN)


def settings(
    server: str, text: str, account: Account, environment: Mapping[str, str], timeout: float
) -> dict[str, Any]:
    """values: of each directive, by its name. fixed: those that CONFIG SET does not take.

    text: of redis.conf, and before it what CONFIG REWRITE has saved. A server without port and cluster reads it in a
    directory of its own. Raises HostError where it does not come up.
    """
    # A short path: a socket's may have about a hundred characters.
    scratch = Path(tempfile.mkdtemp(prefix="rs-"))
    try:
        candidate, place = scratch / "redis.conf", scratch / "dir"
        place.mkdir()
        text = _LEFT_OUT.sub("", text)
        candidate.write_text(re.sub(r"(?m)^(dir|logfile|pidfile) .*$", "", text))
        for path in (candidate, place, scratch):
            account.own(path, 0o700 if path.is_dir() else 0o600, account.uid)
        own = {
            "port": "0",
            "unixsocket": f"{scratch}/s",
            "cluster-enabled": "no",
            "dir": str(place),
            "pidfile": f"{scratch}/pid",
            "daemonize": "no",
            "supervised": "no",
            "logfile": "",
            "syslog-enabled": "no",
        }
        if re.search(r"(?m)^tls-port ", text):
            own["tls-port"] = "0"
        command = [server, str(candidate), *(word for name, value in own.items() for word in (f"--{name}", value))]
        return _asked(command, scratch / "s", account, environment, timeout)
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)


def _asked(
    command: Sequence[str], path: Path, account: Account, environment: Mapping[str, str], timeout: float
) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=account.become,
            cwd="/",
            env={**os.environ, **environment},
        )
        try:
            deadline = time.monotonic() + timeout
            while True:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(timeout)
                    try:
                        connection.connect(str(path))
                        return _questions(connection)
                    except OSError as error:
                        ended = process.poll() is not None
                        if ended or time.monotonic() > deadline:
                            out.seek(0)
                            said = " / ".join(out.read().split("\n")[-4:]).strip(" /")
                            what = f"does not say what redis.conf means to it: {said or error}"
                            remedy = "start it by hand with that redis.conf, and see what hinders it"
                            raise HostError("no-settings", command[0], what, remedy) from None
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()


def _questions(connection: socket.socket) -> dict[str, Any]:
    stream = connection.makefile("rb")

    def ask(commands: Iterable[Sequence[str]]) -> list[Any]:
        packed = list(commands)
        connection.sendall(b"".join(map(_packed, packed)))
        return [_reply(stream) for _ in packed]

    [flat] = ask([("CONFIG", "GET", "*")])
    values = {k: v for k, v in zip(flat[::2], flat[1::2]) if k not in NOT_COMPARED}
    answers = ask(("CONFIG", "SET", name, value) for name, value in values.items())
    fixed = [name for name, said in zip(values, answers) if isinstance(said, Exception) and _FIXED.search(str(said))]
    return {"values": values, "fixed": fixed}


def _packed(words: Sequence[str]) -> bytes:
    parts = [word.encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _reply(stream: Any) -> Any:
    line = stream.readline().rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    if not line:
        raise OSError("it closed the connection")
    kind, rest = line[0], line[1:]
    if kind == "-":
        return RuntimeError(rest)
    if kind == "$":
        data = stream.read(int(rest) + 2)[:-2] if int(rest) >= 0 else b""
        return data.decode("utf-8", "surrogateescape")
    if kind == "*":
        return [_reply(stream) for _ in range(int(rest))]
    return rest


class Known:
    """Remembers what a text means to a server, in a file beside redis.conf: a second run asks nobody."""

    def __init__(self, path: Path, account: Account, environment: Mapping[str, str], timeout: float) -> None:
        self._path, self._account, self._environment, self._timeout = path, account, environment, timeout
        try:
            self._entries = json.loads(path.read_text())
        except (OSError, ValueError):
            self._entries = {}
        self._used: dict[str, Any] = {}

    def get(self, server: str, version: str, text: str) -> dict[str, Any]:
        """See settings(); the caller's own."""
        about = json.dumps([server, version, text, sorted(self._environment.items())])
        key = hashlib.sha256(about.encode()).hexdigest()
        found = self._entries.get(key) or self._used.get(key)
        if not found:
            found = settings(server, text, self._account, self._environment, self._timeout)
        self._used[key] = found
        return {"values": dict(found["values"]), "fixed": list(found["fixed"])}

    def save(self) -> None:
        """Keep what was asked for, and nothing of earlier times."""
        if self._used != self._entries:
            new = self._path.with_name(self._path.name + ".new")
            new.write_text(json.dumps(self._used))
            new.chmod(0o600)
            new.replace(self._path)
