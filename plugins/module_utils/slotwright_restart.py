"""What is looked at and kept when an instance that runs is stopped, to be started again: also as another version.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import Files, HostError, read, read_untrusted
    from plugins.module_utils.slotwright_process import Instance
else:
    from ansible.module_utils.slotwright_files import Files, HostError, read, read_untrusted
    from ansible.module_utils.slotwright_process import Instance


def is_master(instance: Instance) -> bool:
    """Whether it owns slots, by its own nodes.conf."""
    lines = [line.split() for line in (read_untrusted(instance.nodes) or "").splitlines()]
    return any(len(words) > 8 and "myself" in words[2] and "master" in words[2] for words in lines)


def refuse_master(instance: Instance) -> None:
    """Raises HostError for a master that owns slots: clients would miss it."""
    if is_master(instance):
        what = "it is a master that owns slots, and is not restarted: its slots would not be served meanwhile"
        remedy = "run again: its part is handed over to a replica first (playbooks/failover.yml does that alone)"
        raise HostError("is-master", instance.name, what, remedy)


def keep_nodes(instance: Instance, version: str, files: Files) -> None:
    """Keeps nodes.conf as this version wrote it, until the same version writes another one."""
    text = read_untrusted(instance.nodes)
    if text:
        copy = instance.data_dir / f"nodes.conf.{version}"
        files.file(copy, text, 0o600, instance.name, uid=files.account.uid)


def begin_anew(instance: Instance, old: str, files: Files) -> None:
    """Puts the data that version old wrote aside. For a replica only: it copies all keys from its master.

    nodes.conf stays: every version since 6.2 reads what a later one wrote (measured: 8.0.2 by 6.2.14 and 7.0.15, 8.6.3
    by 8.0.2), and an older one might know members that have left since.
    """
    aside = instance.data_dir / f"data-of-{old}"
    files.remove(aside, instance.name)
    files.directory(aside, 0o700, files.account.uid)
    for name in sorted(_data_files(instance)):
        path = instance.data_dir / name
        if path.exists():
            path.replace(aside / name)


def _data_files(instance: Instance) -> set[str]:
    text = "\n".join(filter(None, (read_untrusted(instance.rewrite), read(instance.conf))))
    names = {"appenddirname": "appendonlydir", "appendfilename": "appendonly.aof", "dbfilename": "dump.rdb"}
    for name in names:
        stated = re.findall(rf"(?mi)^{name}\s+[\"']?([^\"'\s]+)", text)
        if stated:
            names[name] = Path(stated[-1]).name
    return set(names.values())
