#!/usr/bin/env python3
"""Print the name of a Docker image that boots systemd, for tests of the roles. It is made when it is not there yet.

    tools/base_image.py             Debian bookworm
    tools/base_image.py trixie      another suite of Debian

SLOTWRIGHT_IMAGE names a public image to use instead, whatever the suite; docs/molecule.md says what must be in it.
Otherwise the image is made by mmdebstrap out of Debian's packages, from the mirror and through the proxy that this
machine's own apt uses. Needs root, mmdebstrap and a Docker daemon: tools/with_docker.sh gives all three.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "systemd",
    "systemd-sysv",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What apt must be told to reach the mirror, here and in the containers.
REACH = re.compile(r'(Acquire::(?:https?::|Check-)\S*) "(.*)";')
RECIPE = (
    # Each container makes its own: two hosts with one host key or one machine-id would be one host to ssh and systemd.
    "rm -f $1/etc/ssh/ssh_host_*_key*",
    ": > $1/etc/machine-id",
    # They share the network of the machine, where port 22 may be taken: the tests start sshd with their own settings.
    "chroot $1 systemctl mask ssh.service ssh.socket",
    # None of these has work to do in a container; some would change the machine's own settings.
    "chroot $1 systemctl mask systemd-sysctl.service systemd-timesyncd.service systemd-udevd.service getty.target"
    " apt-daily.timer apt-daily-upgrade.timer",
    "mkdir -p $1/run/sshd",
)


class Failed(Exception):
    """There is no image; says why, and what to do."""


def run(*command: str, **options: str) -> str:
    """What the command printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed: run this through tools/with_docker.sh") from None
    if done.returncode:
        raise Failed(f"`{shlex.join(command)}` failed:\n{done.stdout}{done.stderr}")
    printed: str = done.stdout
    return printed
