"""After a drill: what is there of what was acknowledged, how long it took, and whether that is good enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from slotwright.core.drill import Objective, verdict
from slotwright.core.ledger import Call, Count, Wrong, gap, judge_counters, judge_keys, read_ledger, series
from slotwright.core.slots import Slots
from slotwright.core.timeline import Sample, Shard, failing_since, overlap, promoted, whole_since
from slotwright.core.view import ClusterView
from slotwright.drill.client import key_of, value_of
from slotwright.drill.files import Files
from slotwright.errors import SlotwrightError
from slotwright.link.connect import LinkDown, Links
from slotwright.link.observe import observe, wait_until
from slotwright.manager.request import Request
from slotwright.report.drill_page import page
from slotwright.report.drill_text import summary_lines

STEP = 0.25  # seconds of a bar in the picture
SHOWN = 200  # lost keys that a report names
AT_ONCE = 1000  # keys asked for together
DIED = "the controller died in the middle of it"


def report(request: Request, files: Files, params: Mapping[str, Any]) -> dict[str, Any]:
    """Read back, delete the drill's keys, judge, and write the report. records: of each struck host (redis_fault)."""
    drill = files.read("plan") or {}
    run = files.read("run") or {}
    calls = [
        call
        for client in drill["clients"]
        if files.ledger(client).exists()
        for call in read_ledger(client, files.ledger(client).read_text(errors="replace").splitlines())
    ]
    with Links(request.topology.everyone, request.access) as links:
        _served(request, links)
        keeper = _Keeper(request, links, drill)
        counts, wrong, unread = keeper.judge(calls)
        left = keeper.clean(calls) if not unread else 0
    records = {host: record for host, record in params["records"].items() if record["drill"] == files.id}
    found = _found(drill, run, calls, counts, wrong, records)
    trouble = run.get("trouble", "") or params["cut_short"] or ("" if run else DIED)
    if not trouble and not unread and _struck(drill, records):
        trouble = _struck(drill, records)
    if not trouble and _without_effect(drill, found):
        trouble = "no node called a struck master FAIL, as was foretold: the fault did not reach them"
    if unread:
        trouble = trouble or f"{unread} writes could not be read back: not all nodes answer"
    objectives = [
        Objective("write gap", "s", params["max_write_gap"], _rounded(found["longest_write_gap"])),
        Objective("acknowledged writes lost", "", params["max_lost"], sum(one.count for one in wrong)),
        Objective("time to full redundancy", "s", params["max_redundancy"], _rounded(found["redundant_after_heal"])),
    ]
    found["verdict"], found["reasons"] = verdict(objectives, run.get("broken", []), trouble)
    silent = drill["clients"].keys() - {call.client for call in calls}
    found["findings"] += [f"no call of the client on {name} is known" for name in sorted(silent)]
    found["objectives"] = [objective.as_dict() for objective in objectives]
    if left:
        found["findings"].append(f"{left} keys of the drill could not be deleted; Redis does it within hours")
    files.write("report", found)
    files.bundle.unlink(missing_ok=True)
    return found | {"page_path": str(files.page), "directory": str(files.directory)}


def _served(request: Request, links: Links) -> None:
    """Waits until whoever owns slots answers. Where that does not come about, the report says what was not read."""

    def lacks(view: ClusterView) -> list[str]:
        silent = [f"{view.name_of(owner)} does not answer" for owner in view.owners if owner not in view.by_id]
        return silent or [f"{n.name} says cluster_state:{n.state}" for n in view.nodes if n.state != "ok"]

    with suppress(SlotwrightError):
        look = partial(observe, request.topology, links)
        wait_until(lacks, look, seconds=request.timeout, purpose="all slots to be served")


def result(found: Sequence[dict[str, Any]], history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the module returns. The pages are written here, because they show the history too."""
    text = []
    for drill in found:
        files_page = drill.pop("page_path")
        directory = drill.pop("directory")
        past = [one for one in history if one["id"] != drill["id"]]
        Files(Path(directory)).put("report.html", page(drill, past))
        text += [*summary_lines(drill), f"report: {files_page}"]
    return {
        "changed": bool(found),
        "drills": [{k: v for k, v in d.items() if k not in ("series", "topology", "log")} for d in found],
        "passed": all(d["verdict"] == "passed" for d in found),
        "text": text or ["no drill is unfinished"],
    }


class _Keeper:
    """Reads the drill's keys, and deletes them."""

    def __init__(self, request: Request, links: Links, drill: Mapping[str, Any]) -> None:
        self.request, self.links, self.drill = request, links, drill
        self.counters = drill["workload"] == "counters"

    def _key(self, call: Call) -> str:
        return key_of(self.drill["id"], call.client, call.tag, None if self.counters else call.number)

    def _value(self, call: Call) -> str:
        return value_of(self.drill["id"], call.client, call.tag, call.number)

    def judge(self, calls: Sequence[Call]) -> tuple[dict[str, Count], list[Wrong], int]:
        """…, and how many keys could not be read."""
        keys = {self._key(call): call for call in calls if call.kind == "w"}
        read = self._each("GET", keys)
        unread = len(keys) - len(read)
        if self.counters:
            by_counter = {(call.client, call.tag): key for key, call in keys.items()}
            found = {counter: int(read[key] or 0) for counter, key in by_counter.items() if key in read}
            return *judge_counters(calls, found, by_counter), unread
        held = {call: read[key] for key, call in keys.items() if key in read}
        return *judge_keys(calls, held, self._value, self._key), unread

    def clean(self, calls: Sequence[Call]) -> int:
        """How many keys are left: each is named by the ledger, and no other is touched."""
        keys = {self._key(call) for call in calls if call.kind == "w"}
        return len(keys) - len(self._each("UNLINK", keys))

    def _each(self, command: str, keys: Iterable[str]) -> dict[str, str | None]:
        """The answer for each key of its slot's owner; keys whose owner does not answer are left out."""
        view = observe(self.request.topology, self.links)
        owner = {slot: view.name_of(i) for i, slots in view.owners.items() if i in view.by_id for slot in slots}
        asked: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            if name := owner.get(key_slot(key.encode())):
                asked[name].append(key)
        found: dict[str, str | None] = {}
        for first in range(0, max(map(len, asked.values()), default=0), AT_ONCE):
            some = {name: part for name, all_keys in asked.items() if (part := all_keys[first : first + AT_ONCE])}
            answers = self.links.ask({name: [(command, key) for key in part] for name, part in some.items()})
            for name, answer in answers.items():
                if not isinstance(answer, LinkDown):
                    pairs = zip(some[name], answer, strict=True)
                    found |= {key: reply for key, reply in pairs if not isinstance(reply, ResponseError)}
        return found


def _struck(drill: Mapping[str, Any], records: Mapping[str, Any]) -> str:
    """Why the fault was not what it should have been; "" where it was."""
    wrong = [f"{host}: {error}" for host, record in records.items() for error in record.get("errors", [])]
    if wrong:
        return "the fault was not as planned: " + "; ".join(wrong)
    missing = sorted({name.rpartition(":")[0] for name in drill["instances"]} - set(records))
    return f"no word of the fault from {', '.join(missing)}" if missing else ""


def _without_effect(drill: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    due = drill["prediction"]["fail_after"]
    struck = any(shard["struck"] for shard in found["shards"])
    return struck and due is not None and drill["seconds"] > due + 1 and found["moments"]["fail_seen"] is None


def _found(
    drill: Mapping[str, Any],
    run: Mapping[str, Any],
    calls: Sequence[Call],
    counts: Mapping[str, Count],
    wrong: Sequence[Wrong],
    records: Mapping[str, Any],
) -> dict[str, Any]:
    """The report as data: see report/drill_page.py."""
    samples = [_sample(one) for one in run.get("samples", [])]
    began = [at for record in records.values() for at in record.get("began", {}).values()]
    healed = [at for record in records.values() for at in record.get("healed", {}).values()]
    begin = min((call.ended for call in calls), default=drill["planned"])
    fault_at = min(began, default=run.get("at") or begin)
    healed_at = max(healed, default=fault_at + drill["seconds"])
    ended = run.get("ended") or max((call.ended for call in calls), default=healed_at)
    whole = whole_since(samples, [n["name"] for n in drill["before"]["nodes"]], ended) if samples else None
    redundant = max(whole, healed_at) if whole else None
    outside = [c for c in calls if c.client not in _struck_clients(drill)]
    total = Count()
    for count in counts.values():
        total.add(count)
    shards = [
        _shard(drill, shard, samples, [c for c in outside if c.shard == shard.master],
               counts.get(shard.master, Count()), fault_at, ended, redundant or ended)
        for shard in (Shard(s["shard"], s["id"], Slots.parse(s["slots"])) for s in drill["shards"])
    ]  # fmt: skip
    struck = [shard for shard in shards if shard["struck"]]
    errors = [c.ended for c in calls if c.outcome in ("failed", "unknown") and c.ended >= fault_at]
    since = partial(_since, fault_at)
    return {
        **{key: drill[key] for key in ("id", "cluster", "struck", "instances", "fault", "seconds", "zones", "nodes",
                                       "masters", "node_timeout", "prediction", "workload")},
        "began": begin,
        "ended": ended,
        "fault_at": fault_at,
        "healed_at": healed_at,
        "moments": {
            "first_error": since(min(errors, default=None)),
            "fail_seen": min((s["fail_seen"] for s in struck if s["fail_seen"] is not None), default=None),
            "promoted": max((s["promoted"] for s in struck if s["promoted"] is not None), default=None),
            "healed": healed_at - fault_at if healed or run else None,
            "redundant": since(redundant),
            "restored": since(run.get("restored")),
        },
        "redundant_after_heal": redundant - healed_at if redundant else None,
        "longest_write_gap": max((s["write_gap"] for s in shards if s["write_gap"] is not None), default=None),
        "overlap": max((s["overlap"] for s in shards), default=0.0),
        "shards": shards,
        "series": {
            "step": STEP,
            "begin": begin - fault_at,
            "shards": series(calls, begin, ended, STEP),
        },
        "topology": run.get("topology", {"before": drill["before"]}),
        "losses": {
            **total.as_dict(),
            "keys": [{"key": w.key, "what": w.what, "at": w.at, "shard": w.shard, "client": w.client}
                     for w in wrong[:SHOWN]],
            "by_client": _by_client(calls, wrong),
        },
        "observed": run.get("observed", {}),
        "log": run.get("log", []),
        "findings": [],
    }  # fmt: skip


def _shard(
    drill: Mapping[str, Any],
    shard: Shard,
    samples: Sequence[Sample],
    calls: Sequence[Call],
    count: Count,
    fault_at: float,
    ended: float,
    whole: float,
) -> dict[str, Any]:
    """calls: of this shard, by clients that are not struck themselves. whole: when all was redundant again."""
    struck = shard.master in drill["instances"]
    samples = [sample for sample in samples if sample.at < whole]  # what comes later is the layout's restoration
    heir = promoted(samples, shard, fault_at) if struck else None
    return {
        "shard": shard.master,
        "slots": str(shard.slots),
        "struck": struck,
        "predicted_write_gap": drill["prediction"]["write_gap" if struck else "other_gap"],
        "write_gap": gap(calls, "w", fault_at, ended),
        "read_gap": gap(calls, "r", fault_at, ended),
        "fail_seen": _since(fault_at, failing_since(samples, shard.id, fault_at)) if struck else None,
        "promoted": _since(fault_at, heir.at) if heir else None,
        "new_master": heir.node if heir else None,
        "overlap": overlap(samples, shard, whole),
        **count.as_dict(),
    }


def _by_client(calls: Sequence[Call], wrong: Sequence[Wrong]) -> dict[str, dict[str, int]]:
    found = {c.client: {"acknowledged": 0, "lost": 0} for c in calls}
    for call in calls:
        found[call.client]["acknowledged"] += call.acknowledged
    for one in wrong:
        found[one.client]["lost"] += one.count
    return found


def _struck_clients(drill: Mapping[str, Any]) -> set[str]:
    """Clients that are struck themselves: what they can reach is not what the others can."""
    if not drill["fault"].startswith("partition"):
        return set()
    # The controller's client reaches both sides, and its writes to the old masters are among those that may be lost.
    return {"controller", *(name.rpartition(":")[0] for name in drill["instances"])}


def _sample(said: Mapping[str, Any]) -> Sample:
    sets = {"failing": frozenset(said["failing"]), "suspected": frozenset(said["suspected"])}
    return Sample(**{**said, "slots": Slots.parse(said["slots"]), **sets})


def _since(fault_at: float, at: float | None) -> float | None:
    return None if at is None else at - fault_at


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
