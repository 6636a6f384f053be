"""How to reach the nodes and log in to them: values only."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from slotwright.errors import SlotwrightError


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files on the controller. ca None means the system's CAs; nodes are addressed by IP, so names are
    checked only on demand."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    check_hostname: bool = False

    def context(self) -> ssl.SSLContext:
        """Raises SlotwrightError where a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.check_hostname = self.check_hostname
            if self.cert:
                # An empty password keeps OpenSSL from asking on the terminal for that of an encrypted key.
                context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:
            raise SlotwrightError(
                f"the TLS files (ca {self.ca}, cert {self.cert}, key {self.key}) cannot be used: {error}",
                where="redis_cluster_tls_ca, redis_cluster_tls_cert, redis_cluster_tls_key",
                remedy="name readable PEM files on the controller, the key without a passphrase and belonging to cert",
                code="tls-files",
            ) from error
        return context


@dataclass(frozen=True)
class SshTarget:
    """How Ansible logs in to a host. None means: what the user's ssh configuration says.

    common_args: further arguments of the ssh command, as in ansible_ssh_common_args.
    """

    hostname: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    password: str | None = field(default=None, repr=False)
    common_args: str = ""


@dataclass(frozen=True)
class Access:
    """How to reach and log in to the nodes. Times in seconds; ssh maps inventory host to target, None is direct."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    connect_timeout: float = 5.0
    command_timeout: float = 10.0
    ssh: Mapping[str, SshTarget] | None = None
