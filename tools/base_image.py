#!/usr/bin/env python3
"""Print the name of a Docker image that boots systemd, for tests of the roles. It is made when it is not there yet.

    tools/with_docker.sh tools/base_image.py             Debian bookworm
    tools/with_docker.sh tools/base_image.py trixie      another suite of Debian

SLOTWRIGHT_IMAGE names a public image to use instead, whatever the suite; docs/molecule.md says what must be in it.
Otherwise the image is made by mmdebstrap out of Debian's packages, from the mirror and through the proxy that this
machine's own apt uses. Needs root, mmdebstrap and a Docker daemon: tools/with_docker.sh gives the last two.
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
    "debian-archive-keyring",
    "iproute2",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
RECIPE = (
    # A container makes its own: hosts with one host key or one machine-id are one host to ssh and to systemd.
    'rm -f "$1"/etc/ssh/ssh_host_*_key*',
    ': >"$1"/etc/machine-id',
    # The containers share the machine's network, where port 22 may be taken: a test starts sshd at its own address.
    'chroot "$1" systemctl mask ssh.service ssh.socket',
    # In a container these would fail, wait, or change the machine's own settings.
    'chroot "$1" systemctl mask systemd-sysctl.service systemd-udevd.service systemd-timesyncd.service'
    " getty.target apt-daily.timer apt-daily-upgrade.timer",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Failed(Exception):
    """There is no image; says why."""


def run(*command: str) -> str:
    """What the command printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failed(f"There is no {command[0]}. tools/with_docker.sh installs what is missing.") from None
    if done.returncode:
        raise Failed(f"`{shlex.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def own_sources() -> list[tuple[str, str, str]]:
    """URI, suite and component of every source of Debian packages that this machine's apt has."""
    format_ = "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = run("apt-get", "indextargets", "--format", format_, "Created-By: Packages").splitlines()
    return [(uri, suite, component) for origin, uri, suite, component in map(str.split, lines) if origin == "Debian"]


def sources(suite: str) -> list[str]:
    """Lines of a sources.list, out of the machine's own of whatever suite. Without any, mmdebstrap knows a mirror."""
    own = own_sources()
    if not own:
        run("apt-get", "-qq", "update")  # without lists, apt does not know where its sources come from
        own = own_sources()
    # bookworm, bookworm-updates, bookworm-security: the shortest is the suite itself.
    codename = min((name for _, name, _ in own), key=len, default="")
    return [
        f"deb [signed-by={KEYRING}] {uri} {suite}{name.removeprefix(codename)} {component}"
        for uri, name, component in own
        if name.startswith(codename) and component == "main"
    ]


def reach() -> list[str]:
    """Settings with which this machine's apt reaches its mirror; the containers need them too."""
    wanted = re.compile(r'Acquire::(https?::|Check-).* ".+";$')
    own = [line for line in run("apt-config", "dump").splitlines() if wanted.match(line)]
    proxies = [(scheme, os.environ.get(f"{scheme}_proxy")) for scheme in ("http", "https")]
    return [*own, *(f'Acquire::{scheme}::Proxy "{proxy}";' for scheme, proxy in proxies if proxy)]


def make(image: str, suite: str) -> None:
    hooks = list(RECIPE)
    if CERTIFICATES.exists():  # a mirror or proxy may have a certificate that only this machine knows
        hooks.append(f"upload {CERTIFICATES} {CERTIFICATES}")
    with tempfile.TemporaryDirectory(prefix="slotwright-") as directory:
        tar = f"{directory}/root.tar"
        run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            '--aptopt=Acquire::Retries "3";',
            *(f"--aptopt={line}" for line in reach()),
            *(f"--customize-hook={hook}" for hook in hooks),
            suite,
            tar,
            *sources(suite),
        )
        run("docker", "import", "--change", 'CMD ["/sbin/init"]', tar, image)


def main(arguments: Sequence[str]) -> int:
    suite = arguments[0] if arguments else SUITES[0]
    if len(arguments) > 1 or suite not in SUITES:
        print(f"usage: base_image.py [{'|'.join(SUITES)}]", file=sys.stderr)
        return 2
    image = os.environ.get("SLOTWRIGHT_IMAGE")
    try:
        if not image:
            # Named for what is in it: another recipe makes another image.
            image = f"slotwright-{suite}:{hashlib.sha256(repr((PACKAGES, RECIPE)).encode()).hexdigest()[:12]}"
            if not run("docker", "images", "--quiet", image):
                print(f"Making the image {image} (a minute) ...", file=sys.stderr)
                make(image, suite)
    except Failed as reason:
        print(reason, "SLOTWRIGHT_IMAGE names a public image to use instead.", sep="\n", file=sys.stderr)
        return 1
    print(image)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
