"""Streams to Redis nodes through SSH: direct-tcpip channels of paramiko, one login per host.

What to connect to, as whom, with which keys, through which jump hosts and with which known hosts is asked of
`ssh -G`, so that it is what the user's own ssh (and with it Ansible) does.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import re
import shlex
import socket
import ssl
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from slotwright.link.access import SshTarget
from slotwright.link.stream import Dial, Kind, Stream, Unreached, explain

# Logging in costs CPU on the controller, and all hosts at once share its cores: more time than for a TCP connect.
LOGIN_PATIENCE = 3
KEEPALIVE = 15  # seconds
ASK_PATIENCE = 30  # seconds
_READ_SIZE = 32 * 1024

# paramiko logs what it also raises; without a handler Python would print it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def ssh_target(hostvars: Mapping[str, Any]) -> SshTarget:
    """A host as Ansible's ssh connection sees it, from its (templated) variables."""

    def first(*names: str) -> Any:
        return next((hostvars[name] for name in names if hostvars.get(name) not in (None, "")), None)

    port = first("ansible_ssh_port", "ansible_port")
    args = [first(name) for name in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")]
    check = first("ansible_ssh_host_key_checking", "ansible_host_key_checking")
    if str(check).lower() in ("false", "no", "off", "0"):
        args.insert(0, "-o StrictHostKeyChecking=no")
    return SshTarget(
        hostname=str(first("ansible_ssh_host", "ansible_host", "inventory_hostname")),
        port=None if port is None else int(port),
        user=first("ansible_ssh_user", "ansible_user"),
        key_file=first("ansible_ssh_private_key_file", "ansible_private_key_file"),
        password=first("ansible_ssh_password", "ansible_ssh_pass", "ansible_password"),
        common_args=" ".join(arg for arg in args if arg),
    )


@dataclass(frozen=True)
class Route:
    """What ssh would do to log in to a host. known_as is its name in known_hosts."""

    hostname: str
    port: int
    user: str
    keys: list[str]
    agent: bool
    known_hosts: tuple[Path, ...]
    known_as: str
    trust_new: bool
    jump: str | None
    command: str | None

    def __str__(self) -> str:
        return f"{self.user}@{self.hostname} port {self.port}"


def route(target: SshTarget) -> Route:
    """Ask the user's ssh. Raises Unreached where it is missing or refuses its configuration."""
    options = {"Port": target.port, "User": target.user, "IdentityFile": target.key_file}
    given = [f'-o{key}="{value}"' for key, value in options.items() if value is not None]
    arguments = ["ssh", "-G", *given, *shlex.split(target.common_args), "--", target.hostname]
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ASK_PATIENCE, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        remedy = "install OpenSSH's client on the controller; see that no `Match exec` of its configuration hangs"
        raise Unreached("ssh", f"the ssh command cannot be asked about {target.hostname}: {error}", remedy) from error
    if done.returncode:
        raise Unreached(
            "ssh",
            f"ssh does not accept its settings for {target.hostname}: {done.stderr.strip()}",
            "correct ansible_ssh_common_args and the like, or ~/.ssh/config",
        )
    said: defaultdict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said[key].append(value)

    def one(key: str) -> str | None:
        return said[key][0] if said[key] and said[key][0] != "none" else None

    hostname, port, user = said["hostname"][0], said["port"][0], said["user"][0]
    tokens = {
        "h": hostname,
        "p": port,
        "r": user,
        "n": hostname,
        "u": getpass.getuser(),
        "d": str(Path.home()),
        "%": "%",
    }

    def expand(text: str) -> str:
        return re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), text)

    keys = [Path(expand(name)).expanduser() for name in said["identityfile"]]
    hosts = " ".join(said["userknownhostsfile"] + said["globalknownhostsfile"]).split()
    command = one("proxycommand")
    return Route(
        hostname=hostname,
        port=int(port),
        user=user,
        keys=[str(key) for key in keys if os.access(key, os.R_OK)],
        agent=one("identitiesonly") != "yes" and said["identityagent"] != ["none"],
        known_hosts=tuple(Path(expand(name)).expanduser() for name in hosts),
        known_as=one("hostkeyalias") or (hostname if port == "22" else f"[{hostname}]:{port}"),
        trust_new=one("stricthostkeychecking") in ("false", "accept-new"),
        jump=one("proxyjump"),
        command=expand(command) if command else None,
    )


def known_keys(way: Route) -> tuple[list[paramiko.PKey], set[str]]:
    """The keys of a host in the known_hosts files, and (in base64) those that they revoke.

    ssh-keygen reads them, because paramiko takes quadratic time for that and knows neither patterns nor revocations.
    """
    lines: list[list[str]] = []
    for file in way.known_hosts:
        find = ["ssh-keygen", "-F", way.known_as, "-f", str(file)]
        found = subprocess.run(find, capture_output=True, text=True, check=False).stdout
        lines += [line.split() for line in found.splitlines() if not line.startswith("#")]
    revoked = {line[3] for line in lines if line[0] == "@revoked"}
    entries = [
        HostKeyEntry.from_line(" ".join(line[:3]))
        for line in lines
        if not line[0].startswith("@") and line[2] not in revoked
    ]
    return [entry.key for entry in entries if entry], revoked


def jump_target(jump: str, target: SshTarget) -> SshTarget:
    """The last host of a ProxyJump chain. As with ssh, it sees the target's -F and the rest of the chain, no more."""
    rest, _, last = jump.rpartition(",")
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-F")
    config = parser.parse_known_args(shlex.split(target.common_args))[0].F
    args = [*(["-F", config] if config else []), *(["-J", rest] if rest else [])]
    return SshTarget(last if last.startswith("ssh://") else f"ssh://{last}", common_args=shlex.join(args))


class Gateways:
    """Logins to the inventory's hosts and their jump hosts, each made on first use and shared by all that need it."""

    def __init__(self, targets: Mapping[str, SshTarget], context: ssl.SSLContext | None, timeout: float) -> None:
        self._targets = targets
        self._context = context
        self._timeout = timeout
        self._lock = threading.Lock()
        self._logins: dict[SshTarget, Future[paramiko.Transport]] = {}
        self._closing = ExitStack()

    def dial(self, host: str) -> Dial:
        """Opens streams as seen from that inventory host, with TLS where a context is given. Raises Unreached."""
        target = self._targets[host]

        def dial(address: str, port: int) -> Stream:
            channel = self._channel(target, f"host {host}", address, port)
            if self._context is None:
                return channel
            try:
                return TlsChannel(channel, self._context, address)
            except OSError as error:
                channel.close()
                raise explain(error, f"the TLS of {address}:{port}, seen from host {host},") from error

        return dial

    def close(self) -> None:
        self._closing.close()

    def _channel(self, target: SshTarget, gateway: str, address: str, port: int) -> paramiko.Channel:
        transport = self._login(target)
        try:
            channel = self._open(transport, address, port)
        except paramiko.ChannelException as error:
            raise _refusal(error, gateway, address, port) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            kind: Kind = "timeout" if transport.is_active() else "ssh"
            remedy = "look whether a firewall between them drops packets, and whether the SSH connection is stable"
            raise Unreached(kind, f"{gateway} opened no way to {address}:{port}: {error}", remedy) from error
        channel.settimeout(self._timeout)
        return channel

    def _open(self, transport: paramiko.Transport, address: str, port: int) -> paramiko.Channel:
        """paramiko keeps one reason for all channels of a login: of several that are refused at once, one thread takes
        it and the others are left without any. These ask again, within the time that they had."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                left = max(end - time.monotonic(), 0.001)
                return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=left)
            except paramiko.ChannelException:
                raise
            except paramiko.SSHException:
                if not transport.is_active() or time.monotonic() >= end:
                    raise

    def _login(self, target: SshTarget) -> paramiko.Transport:
        """All who need this login at the same time share one attempt; a failed or dead one is made again later."""
        with self._lock:
            login = self._logins.get(target)
            if mine := login is None or (login.done() and (login.exception() or not login.result().is_active())):
                login = self._logins[target] = Future()
        assert login is not None
        if mine:
            try:
                login.set_result(self._connect(target))
            except BaseException as error:
                login.set_exception(error)
        return login.result()

    def _connect(self, target: SshTarget) -> paramiko.Transport:
        way = route(target)
        client = paramiko.SSHClient()
        patience = LOGIN_PATIENCE * self._timeout
        try:
            known, revoked = known_keys(way)
            client.set_missing_host_key_policy(NewHostKeys(way, revoked))
            for key in known:
                client.get_host_keys().add(way.known_as, key.get_name(), key)
            client.connect(
                way.known_as,
                username=way.user,
                password=target.password,
                key_filename=way.keys,  # type: ignore[arg-type]  # the stubs do not know lists
                allow_agent=way.agent,
                look_for_keys=False,
                sock=self._socket(way, target),
                timeout=patience,
                banner_timeout=patience,
                auth_timeout=patience,
            )
        except BaseException as error:
            client.close()
            if isinstance(error, paramiko.SSHException | InvalidHostKey | EOFError | OSError):
                raise _no_login(way, error) from error
            raise
        self._closing.callback(client.close)
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(KEEPALIVE)
        return transport

    def _socket(self, way: Route, target: SshTarget) -> Any:
        if way.jump:
            try:
                return self._channel(jump_target(way.jump, target), f"jump host {way.jump}", way.hostname, way.port)
            except Unreached as error:
                remedy = error.remedy if error.kind == "ssh" else "make ssh to it work from the controller"
                raise Unreached("ssh", f"SSH to {way} failed: {error.detail}", remedy) from error
        if way.command:
            ours, theirs = socket.socketpair()
            with theirs:
                pipe = theirs.fileno()
                process = subprocess.Popen(
                    f"exec {way.command}", shell=True, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
                )
            self._closing.callback(process.wait)
            self._closing.callback(process.terminate)
            return ours
        return socket.create_connection((way.hostname, way.port), self._timeout)


class NewHostKeys(paramiko.MissingHostKeyPolicy):
    """An unknown host is refused, unless the user's ssh settings say to trust and note new ones."""

    def __init__(self, way: Route, revoked: set[str]) -> None:
        self._way = way
        self._revoked = revoked

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if not self._way.trust_new or key.get_base64() in self._revoked:
            raise Unreached(
                "ssh",
                f"the host key of {self._way} is not in known_hosts, or revoked there ({key.fingerprint})",
                "compare it with the host's own, then log in once with ssh to add it",
            )
        file = self._way.known_hosts[0]
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.open("a") as lines:
            lines.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


class TlsChannel:
    """TLS inside a stream that is no socket."""

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._stream = stream
        self._received, self._due = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._due, server_hostname=server_hostname)
        self._run(self._tls.do_handshake)
        self.settimeout, self.shutdown, self.close = stream.settimeout, stream.shutdown, stream.close

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._run(self._tls.write, rest) :]

    def recv(self, size: int) -> bytes:
        try:
            return bytes(self._run(self._tls.read, size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _run(self, act: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return act(*args)
            except ssl.SSLWantReadError:
                self._flush()
                if received := self._stream.recv(_READ_SIZE):
                    self._received.write(received)
                else:
                    self._received.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._due.pending:
            self._stream.sendall(self._due.read())


def _no_login(way: Route, error: Exception) -> Unreached:
    reason = str(error) or type(error).__name__
    if isinstance(error, paramiko.BadHostKeyException):
        what = f"{way} shows another host key ({error.key.fingerprint}) than known_hosts has"
        remedy = "find out why; if the host was made anew, remove the old key (ssh-keygen -R) and log in once with ssh"
    elif isinstance(error, paramiko.AuthenticationException) or reason == "No authentication methods available":
        keys = ", ".join(way.keys) or "none"
        what = f"{way} does not let us in: {reason} (key files: {keys}; agent: {'asked' if way.agent else 'not asked'})"
        remedy = "correct user, key or authorized_keys; a key with a passphrase must be in the agent"
    else:
        what = f"SSH to {way} failed: {reason}"
        remedy = "make ssh to it work from the controller"
    return Unreached("ssh", what, remedy)


def _refusal(error: paramiko.ChannelException, gateway: str, address: str, port: int) -> Unreached:
    if error.code == 1:
        return Unreached(
            "ssh",
            f"sshd of {gateway} may not forward to {address}:{port} ({error.text})",
            "allow it there (AllowTcpForwarding, PermitOpen, DisableForwarding), or use redis_cluster_reach: direct",
        )
    # sshd says why, but paramiko keeps only the code.
    what = f"{gateway} cannot connect to {address}:{port} ({error.text})"
    return Unreached("refused", what, "start the instance, or correct its address and port")
