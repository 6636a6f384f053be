"""A fault of a drill on this host: armed, healed, observed. Standard library only, Python 3.8 and later."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugins.module_utils.slotwright_files import HostError
    from plugins.module_utils.slotwright_healer import POLL, Record, Store, boot_id, heal, start
    from plugins.module_utils.slotwright_process import Instance
    from plugins.module_utils.slotwright_strike import CUTS, Cut, Strike, instance_at
else:
    from ansible.module_utils.slotwright_files import HostError
    from ansible.module_utils.slotwright_healer import POLL, Record, Store, boot_id, heal, start
    from ansible.module_utils.slotwright_process import Instance
    from ansible.module_utils.slotwright_strike import CUTS, Cut, Strike, instance_at

DIRECTORY = "/var/lib/slotwright-drill"
TABLE = "slotwright_drill"
LONGEST = 3600  # seconds
AHEAD = 600  # seconds
LATE = 1  # seconds
SHOWN = ("drill", "kind", "ports", "at", "seconds", "phase", "armed_at", "began", "healed", "deadline", "errors")


def apply(options: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """From the options of module redis_fault to what it returns. Raises HostError."""
    store = Store(Path(options["directory"]))
    try:
        verbs = {"armed": _arm, "healed": _heal, "observed": _observe}
        return verbs[options["state"]](options, store, check)
    except PermissionError as error:
        what = f"not allowed: {error.strerror} at {error.filename}"
        remedy = "become root (ansible_become: true), or choose a directory that this user may write to"
        raise HostError("not-allowed", socket.gethostname(), what, remedy) from error
    except OSError as error:
        what = " at ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        remedy = "see what stands at this path and whether its file system is full or read-only, then run again"
        raise HostError("os-error", socket.gethostname(), what, remedy) from error


def _observe(options: Mapping[str, Any], store: Store, check: bool) -> dict[str, Any]:
    return _result(store.load(), changed=False)


def _arm(options: Mapping[str, Any], store: Store, check: bool) -> dict[str, Any]:
    """Everything is refused that can be, before there is a healer."""
    _refuse_options(options)
    there = _refuse_other(options, store)
    if there:
        return _result(there, changed=False)
    record = _record(options)
    strike = record.strike()
    _refuse(strike, store)
    if not check:
        with _alone(store):
            _refuse_other(options, store)
            store.clear()
            start(record, store)
    return _result(record, changed=True, after=_sentence(record))


def _heal(options: Mapping[str, Any], store: Store, check: bool) -> dict[str, Any]:
    record = store.load()
    if record is None:
        return _result(None, changed=False)
    if options["drill"] and options["drill"] != record.drill:
        what = f"here is drill {record.drill}, not {options['drill']}"
        raise HostError("other-drill", socket.gethostname(), what, "name that one, or none to heal whatever is there")
    if not check:
        with _alone(store):
            record = _healed(record, store, options["timeout"])
            store.clear()
    return _result(record, changed=True, before=_sentence(record))


def _healed(record: Record, store: Store, timeout: float) -> Record:
    """By its healer; by us where that is dead, or could not do it."""
    if record.alive:
        store.ask.touch(mode=0o600)
    until = time.monotonic() + timeout
    while record.alive:
        if time.monotonic() > until:
            doing = f"heal {_list(record.unhealed)}" if record.unhealed else "end"
            what = f"the healer of drill {record.drill}, process {record.healer[0]}, did not {doing} in {timeout:g} s"
            raise HostError("not-healed", socket.gethostname(), what, "wait and run again, or end it: then we heal")
        time.sleep(POLL / 2)
    record = store.load() or record
    # With phase `armed` its healer died before it did anything.
    if record.phase == "striking" or record.unhealed:
        ports, record.timeout = record.hit, timeout
        known = len(record.errors)
        heal(record, record.strike(), lambda: store.save(record))
        left = [port for port in ports if str(port) not in record.healed]
        if left:
            store.save(record)
            what = f"{record.kind} of drill {record.drill} is not healed at {_list(left)}"
            remedy = f"{'; '.join(record.errors[known:]) or 'no reason is known'}. Mend that, then run again"
            raise HostError("not-healed", socket.gethostname(), what, remedy)
    return record


def _refuse_options(options: Mapping[str, Any]) -> None:
    """What nobody has to look at the host for, but at its clock."""
    now, wrong = time.time(), ""
    if not 0 < options["seconds"] <= LONGEST:
        wrong = f"`seconds` is {options['seconds']:g}: a fault lasts more than 0 and at most {LONGEST}"
    elif not now - LATE <= options["at"] <= now + AHEAD:
        wrong = (
            f"`at` is {options['at'] - now:+.1f} s from now by this host's clock ({_clock(now)}): a fault begins at "
            f"most {LATE} s ago and at most {AHEAD} s ahead"
        )
    elif not options["ports"] or len(set(options["ports"])) < len(options["ports"]):
        wrong = "`ports` has none, or one twice"
    elif not re.fullmatch(r"[\w.:@-]{1,80}", options["drill"]):
        wrong = f"`drill` is {options['drill']!r}: up to 80 letters, digits and . : @ _ - make an id"
    elif (options["kind"] in CUTS) != bool(options["cut"]):
        wrong = f"`cut` is for {', '.join(CUTS)}, and these need it"
    if wrong:
        raise HostError("bad-option", socket.gethostname(), wrong, "correct it; nothing was done")


def _refuse_other(options: Mapping[str, Any], store: Store) -> Record | None:
    """The record of this very drill, if it is armed already. Raises HostError where another one is."""
    record = store.load()
    if record is None or (record.phase == "over" and not record.unhealed):
        return None
    same = all(getattr(record, name) == options[name] for name in ("drill", "kind", "ports", "at", "seconds"))
    if same and record.alive:
        return record
    what = f"drill {record.drill} is here: {_sentence(record).strip()}"
    if not record.alive:
        what += ", and the process that was to heal it is gone"
    raise HostError("armed", socket.gethostname(), what, "heal it first (redis_fault with state: healed)")


def _record(options: Mapping[str, Any]) -> Record:
    try:
        cut = Cut.of(options["cut"] or {})
    except ValueError as error:
        raise HostError("bad-option", socket.gethostname(), f"`cut`: {error}", "correct it; nothing was done") from None
    return Record(
        **{name: options[name] for name in ("drill", "kind", "ports", "at", "seconds", "service", "user", "group")},
        armed_at=time.time(),
        boot_id=boot_id(),
        table=_table(options["directory"]),
        conf_dir=options["conf_dir"],
        environment=options["environment"] or {},
        timeout=options["timeout"],
        cut=asdict(cut),
        instances=[_plain(instance_at(Path(options["conf_dir"]), port)) for port in options["ports"]],
    )


def _plain(instance: Instance) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(instance).items()}


def _table(directory: str) -> str:
    """Of its own for each host, also where several hosts are addresses of one machine."""
    if directory == DIRECTORY:
        return TABLE
    return f"{TABLE}_{hashlib.sha256(directory.encode()).hexdigest()[:8]}"


def _refuse(strike: Strike, store: Store) -> None:
    strike.service.refuse(strike.instances)
    strike.refuse()
    above = next(path for path in (store.directory, *store.directory.parents) if path.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        what = f"this user may not write to {above}, where the record of the drill belongs"
        remedy = "become root (ansible_become: true), or choose another directory"
        raise HostError("not-allowed", socket.gethostname(), what, remedy)


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    """One at a time arms or heals. Raises HostError."""
    store.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.refuse()
    with (store.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"another run arms or heals a drill here ({lock.name})"
            raise HostError("busy", socket.gethostname(), what, "wait until it has ended, then run again") from None
        yield


def _result(record: Record | None, *, changed: bool, before: str = "", after: str = "") -> dict[str, Any]:
    now = boot_id()
    shown = None
    if record:
        shown = {name: getattr(record, name) for name in SHOWN}
        rebooted = record.boot_id != now
        shown.update(healer_alive=record.alive, now=time.time(), boot_id=record.boot_id, rebooted=rebooted)
    result: dict[str, Any] = {"changed": changed, "now": time.time(), "boot_id": now, "record": shown}
    if changed:
        result["diff"] = {"before": before, "after": after}
    return result


def _sentence(record: Record) -> str:
    return f"{record.kind} instances {_list(record.ports)} at {_clock(record.at)} for {record.seconds:g} s\n"


def _list(ports: list[int]) -> str:
    return ", ".join(map(str, ports))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
