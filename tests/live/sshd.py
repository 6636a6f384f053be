"""Real sshd processes for tests, run as this user, with keys and settings of their own.

with Sshd(tmp_path / "gate", "127.21.0.1", user_key) as gate:    # user_key: path that `keygen` made
    gate.known_hosts                                             # its line for a known_hosts file
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PORT = 2222
START_TIMEOUT = 20.0  # seconds


def keygen(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key pair; returns the private key's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


class Sshd:
    """One sshd. Lets this user in with `user_key`; further settings by name, as in sshd_config."""

    def __init__(self, directory: Path, address: str, user_key: Path, port: int = PORT, **settings: str) -> None:
        self.address, self.port, self.user = address, port, getpass.getuser()
        self._log = directory / "sshd.log"
        self.host_key = keygen(directory / "host_key")
        wanted = {
            "ListenAddress": f"{address}:{port}",
            "HostKey": str(self.host_key),
            "AuthorizedKeysFile": f"{user_key}.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxStartups": "100",
            "LogLevel": "VERBOSE",
            **settings,
        }
        (directory / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in wanted.items()))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd run by root insists on it
        self._command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")]
        self.start()

    def start(self) -> None:
        """Also again after `close`. Returns when connections are accepted."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._wait_ready()

    @property
    def known_hosts(self) -> str:
        """Its line for a known_hosts file."""
        return f"[{self.address}]:{self.port} {self.host_key.with_suffix('.pub').read_text()}"

    @property
    def logins(self) -> int:
        """How often somebody was let in."""
        return self._log.read_text().count("Accepted publickey")

    def signal(self, number: signal.Signals) -> None:
        """To sshd and to its processes for single connections, which have sessions of their own."""
        for pid in [self.process.pid, *_descendants(self.process.pid)]:
            with suppress(ProcessLookupError):  # a connection may end by itself meanwhile
                os.kill(pid, number)

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(START_TIMEOUT)

    def __enter__(self) -> Sshd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection((self.address, self.port), 1).close()
                return
            except OSError:
                log = self._log.read_text()
                assert self.process.poll() is None, f"sshd exited: {log}"
                assert time.monotonic() < end, f"sshd not ready after {START_TIMEOUT:g} s: {log}"
                time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [each for child in map(int, found) for each in (child, *_descendants(child))]
