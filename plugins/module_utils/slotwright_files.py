"""Files of a host, who owns them, and commands that are run there. Standard library only, Python 3.8 and later."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

_SECRET_LINE = re.compile(
    r"^(?P<name>\s*(?:requirepass|masterauth|tls-key-file-pass|tls-client-key-file-pass|user)\s).*$",
    re.MULTILINE | re.IGNORECASE,
)


MOST_BYTES = 16 << 20


class HostError(Exception):
    """Something is wrong on the host: what, at which instance, and what to do next."""

    def __init__(self, code: str, where: str, what: str, remedy: str) -> None:
        self.finding = {"code": code, "where": where, "what": what, "remedy": remedy, "severity": "error"}
        super().__init__(f"{where}: {what}. {remedy[:1].upper()}{remedy[1:]}.")


@dataclass(frozen=True)
class Account:
    """Who Redis runs as. When we are not root it is whoever we are, and nothing changes its owner."""

    uid: int
    gid: int
    switch: bool

    @classmethod
    def of(cls, user: str, group: str, *, fallback: bool) -> Account:
        """fallback: take our own account where that one is missing: before anything is installed, and to stop."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), switch=False)
        try:
            return cls(pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid, switch=True)
        except KeyError:
            if fallback:
                return cls(os.geteuid(), os.getegid(), switch=False)
            what = f"there is no user {user} or no group {group}"
            remedy = "make them, or set redis_node_user and redis_node_group to those that Redis shall run as"
            raise HostError("no-user", socket.gethostname(), what, remedy) from None

    def become(self) -> None:
        """For subprocess's preexec_fn. Redis's files are its own business: umask 077."""
        os.umask(0o077)
        if self.switch:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)

    def has(self, path: Path | int, mode: int, uid: int) -> bool:
        """Whether owner, group and mode of the path are as `own` makes them."""
        there = os.stat(path)  # noqa: PTH116
        owned = not self.switch or (there.st_uid, there.st_gid) == (uid, self.gid)
        return owned and there.st_mode & 0o7777 == mode

    def own(self, path: Path | int, mode: int, uid: int) -> None:
        """path: of a directory entry that only we can replace, or else a file descriptor."""
        if self.switch:
            os.chown(path, uid, self.gid)
        os.chmod(path, mode)  # noqa: PTH101


def read(path: Path) -> str | None:
    """The text of a file, None where there is none."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def read_untrusted(path: Path, last: int = MOST_BYTES) -> str | None:
    """The end of a file in a directory of Redis's user, at most `last` bytes. None where there is no regular file.

    We may be root, and that user could have put a link to another's secrets there, or a pipe that never ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with os.fdopen(descriptor, "rb") as stream:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            return None
        stream.seek(max(0, there.st_size - last))
        return stream.read(last).decode(errors="replace")


def mask(text: str) -> str:
    """A redis.conf with the values of secret directives hidden."""
    return _SECRET_LINE.sub(r"\g<name>********", text)


def run(command: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself in no time, unless something is wrong: within timeout seconds."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout
        )
    except FileNotFoundError:
        what, remedy = f"there is no {command[0]}", "install it, or correct its path"
        raise HostError("no-program", socket.gethostname(), what, remedy) from None
    except subprocess.TimeoutExpired:
        what = f"`{' '.join(command)}` did not end within {timeout:g} s"
        raise HostError("timeout", socket.gethostname(), what, "find out what holds it up, then run again") from None


@dataclass
class Outcome:
    """What was done (in check mode: what would be done), and what stands there now."""

    changed: bool = False
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)

    def note(self, header: str, before: str, after: str) -> None:
        self.changed = True
        self.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})


@dataclass
class Files:
    """Makes files what they shall be, and notes what that changed. check: only notes what it would change.

    Each method takes the name of the instance whose file it is, "" for one of all. Without a uid a file is root's, or
    ours where we are not root.
    """

    account: Account
    check: bool
    outcome: Outcome
    _changed: list[tuple[str, str]] = field(default_factory=list)

    def changed(self, name: str) -> list[str]:
        """Paths that were changed for the instance."""
        return [path for path, whose in self._changed if whose in ("", name)]

    def directory(self, path: Path, mode: int, uid: int | None = None) -> None:
        there = path.is_dir()
        if there and self.account.has(path, mode, self._uid(uid)):
            return
        self._note(path, "")
        if not self.check:
            if not there:
                path.mkdir(mode=mode, parents=True, exist_ok=True)
            self.account.own(path, mode, self._uid(uid))

    def file(
        self, path: Path, content: str, mode: int, name: str = "", uid: int | None = None, *, shared: bool = False
    ) -> bool:
        """Whether the text had to be put there, as a whole or not at all.

        shared: with others, whose Redis has another group: it is of root's group then.
        """
        account = Account(0, 0, switch=self.account.switch) if shared else self.account
        before = read_untrusted(path)
        if before == content:
            # By descriptor: whoever may write to the directory could have put a link at the name by now.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor):
                if not account.has(descriptor, mode, self._uid(uid)):
                    self._note(path, name)
                    if not self.check:
                        account.own(descriptor, mode, self._uid(uid))
            return False
        self._note(path, name)
        self.outcome.note(str(path), mask(before or ""), mask(content))
        if not self.check:
            descriptor, new = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
            with os.fdopen(descriptor, "w") as stream:
                stream.write(content)
                stream.flush()
                account.own(stream.fileno(), mode, self._uid(uid))
                os.fsync(stream.fileno())
            Path(new).replace(path)
        return True

    def link(self, path: Path, target: str, name: str) -> None:
        """A symbolic link that leads where the target leads, if it has to be put there by the target's own name."""
        before = os.readlink(str(path)) if path.is_symlink() else ""
        if before and os.path.realpath(before) == os.path.realpath(target):
            return
        self._note(path, name)
        self.outcome.note(str(path), f"{before}\n", f"{target}\n")
        if not self.check:
            new = Path(tempfile.mkdtemp(dir=str(path.parent)), path.name)
            new.symlink_to(target)
            new.replace(path)
            new.parent.rmdir()

    def remove(self, path: Path, name: str = "") -> None:
        if path.exists():
            self._note(path, name)
            self.outcome.note(str(path), "there\n", "removed\n")
            if not self.check:
                shutil.rmtree(str(path)) if path.is_dir() else path.unlink()

    def set_aside(self, path: Path, name: str = "") -> None:
        """Rename it, so that nothing finds it any more and nothing of it is lost."""
        if path.exists():
            aside = next(p for n in count(1) if not (p := path.with_name(f"{path.name}.removed-{n}")).exists())
            self._note(path, name)
            self.outcome.note(str(path), "there\n", f"renamed to {aside.name}\n")
            if not self.check:
                path.rename(aside)

    def _uid(self, uid: int | None) -> int:
        return uid if uid is not None else 0 if self.account.switch else self.account.uid

    def _note(self, path: Path, name: str) -> None:
        self.outcome.changed = True
        self._changed.append((str(path), name))
