"""Corrupted live clusters (corruptions.py): check names what is wrong, fix mends it or refuses, no key is lost."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from slotwright.core.slots import Slots
from slotwright.core.steps import SetEpoch
from slotwright.errors import Finding, Severity, SlotwrightError
from slotwright.manager import check, fix
from tests.live.corruptions import CORRUPTIONS, Corruption, Data, World, start_world
from tests.live.servers import Servers, wait_until
from tests.soak import SOAK

LOOPBACK = "127.45"
LANES = 5
SEVERAL = int(os.environ.get("SEVERAL", "60"))
ONLY = os.environ.get("CORRUPTION", "")
# All of them only in a soak: each needs seconds, and most a cluster of its own.
CHOSEN = CORRUPTIONS if SOAK else random.Random(4).sample(CORRUPTIONS, 18)


def checked(world: World) -> check.Checked:
    with world.site.links() as links:
        return check.check(world.site.request, links)


def foreseen(world: World, allow: tuple[str, ...] = ()) -> fix.Fix:
    with world.site.links() as links:
        return fix.foresee(world.site.request, links, allow)


def fixed(world: World, allow: tuple[str, ...] = ()) -> fix.Fix:
    with world.site.links() as links:
        return fix.fix(world.site.request, links, lambda line: None, allow)


def names(finding: Finding, code: str, node: str) -> bool:
    return finding.code == code and node in f"{finding.where} {finding.what}"


def errors(found: check.Checked) -> list[str]:
    return [f"{f.code} {f}" for f in found.findings if f.severity is Severity.ERROR]


def assert_at_home(world: World) -> None:
    """Every key is on the one node that owns its slot."""
    for node in world.all:
        if node.call("ROLE")[0] == "master":
            line = next(line for line in node.call("CLUSTER", "NODES").splitlines() if "myself" in line)
            own = Slots.parse(" ".join(word for word in line.split()[8:] if not word.startswith("[")))
            strays = [key for key in node.client().scan_iter(count=1000) if key_slot(key.encode()) not in own]
            assert strays == [], f"{node.name} holds keys of others: {strays[:5]}"


def refusal(world: World, corruption: Corruption) -> None:
    """Fix says why not, and nothing is changed for the worse."""
    with pytest.raises(SlotwrightError) as refused:
        fixed(world)
    codes = [f.code for f in refused.value.findings]
    assert corruption.refused in codes, f"{codes}: {refused.value}"
    assert all(f.remedy for f in refused.value.findings), codes
    if corruption.allow:
        assert corruption.allow in str(refused.value), "the refusal does not show the words"


def tell_apart(before: Data, now: Data) -> str:
    lost = sorted(before.keys() - now.keys())
    changed = sorted(key for key in before.keys() & now.keys() if not now[key] <= before[key])
    return f"{len(lost)} keys lost {lost[:5]}, {len(changed)} changed {changed[:5]}"


def assert_kept(before: Data, world: World, lost: set[bytes]) -> None:
    """Every key that there was is there, once, with one of the values that it had."""
    now = world.data()
    wanted = {key: values for key, values in before.items() if key not in lost}
    assert now.keys() >= wanted.keys(), tell_apart(wanted, now)
    assert all(now[key] <= wanted[key] for key in wanted), tell_apart(wanted, now)


def one(corruption: Corruption, world: World) -> None:
    wait_until("the cluster is sound before it is corrupted", lambda: not errors(checked(world)), timeout=20)
    before = world.data()
    away = {key for name in corruption.away for key in _keys(world, name)}
    gone = {key for name in corruption.loses for key in _keys(world, name)}
    corruption.corrupt(world)
    for key, values in world.data().items():
        before.setdefault(key, set()).update(values)
    found = checked(world)
    for code, node in corruption.finds:
        assert any(names(f, code, node) for f in found.findings), f"no {code} of {node} in {errors(found)}"
    assert all(f.remedy for f in found.findings), [f for f in found.findings if not f.remedy]
    allow: tuple[str, ...] = ()
    if corruption.refused:
        refusal(world, corruption)
        assert_kept(before, world, away)
        if not corruption.allow:
            return
        allow = (corruption.allow,)
    foretold = foreseen(world, allow)
    done = fixed(world, allow)
    assert (done.repairs, _uncounted(done)) == (foretold.repairs, _uncounted(foretold)), (
        f"check mode foretold {foretold.lines}, done was {done.lines}"
    )
    assert_kept(before, world, gone if corruption.allow else set())
    assert_at_home(world)
    assert fixed(world, allow).lines == (), "the second run changes something"

    def clean() -> bool:
        left = [f for f in checked(world).findings if f.severity is Severity.ERROR and f.code not in corruption.left]
        assert not left, [str(f) for f in left]
        return True

    wait_until("check finds nothing wrong", clean, timeout=15)


def _uncounted(found: fix.Fix) -> list[object]:
    """The ordinary steps. Which number the next epoch has depends on what the nodes themselves count meanwhile."""
    return [replace(step, epoch=0) if isinstance(step, SetEpoch) else step for step in found.steps]


def _keys(world: World, name: str) -> set[bytes]:
    return {key.encode() for key in world[name].client().scan_iter(count=1000)}


@pytest.mark.timeout(900)
def test_every_corruption_is_named_and_mended_or_refused_with_the_reason_and_no_key_is_lost(
    tmp_path: Path, tried: Callable[[str], None]
) -> None:
    chosen = [c for c in CHOSEN if re.search(ONLY, c.name)]
    waiting = list(chosen)
    failures: dict[str, str] = {}
    turn = threading.Lock()

    def lane(number: int) -> None:
        worlds = 0
        world: World | None = None
        servers: Servers | None = None
        while True:
            with turn:
                if not waiting:
                    break
                corruption = waiting.pop(0)
            try:
                if corruption.version and servers is not None:
                    servers.close()
                    world = None
                if world is None:
                    worlds += 1
                    servers = Servers(tmp_path / f"lane-{number}-{worlds}", LOOPBACK)
                    world = start_world(servers, corruption.version)
                one(corruption, world)
                keep = corruption.reuse
            except BaseException as error:
                failures[corruption.name] = f"{type(error).__name__}: {error}"
                keep = False
            if not keep and servers is not None:
                servers.close()
                world = None
        if servers is not None:
            servers.close()

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(LANES)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    assert not failures, "\n\n".join(f"{name}: {why[:2500]}" for name, why in failures.items())
    refused = sum(bool(c.refused) for c in chosen)
    tried(f"{len(chosen)} corrupted live clusters: each named by check, {len(chosen) - refused} mended, "
          f"{refused} refused with the reason, 0 keys lost, the second run changed nothing")  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_of_many_corruptions_at_once_no_key_is_lost_and_what_is_mended_stays_so(
    tmp_path: Path, tried: Callable[[str], None]
) -> None:
    """Three at a time, by chance. What one of them forbids another to do is left out."""
    several = [c for c in CORRUPTIONS if c.reuse and not c.version]
    mended = 0
    for number in range(SEVERAL):
        chosen = random.Random(number).sample(several, 3)
        with Servers(tmp_path / str(number), LOOPBACK) as servers:
            world = start_world(servers)
            before = world.data()
            for corruption in chosen:
                with suppress(redis.RedisError, AssertionError):
                    corruption.corrupt(world)
            for key, values in world.data().items():
                before.setdefault(key, set()).update(values)
            label = ", ".join(c.name for c in chosen)
            try:
                fixed(world)
            except SlotwrightError as error:
                print(f"{label}: refused: {error}")
            else:
                mended += 1
                assert fixed(world).lines == (), label
                assert_at_home(world)
                wait_until(label, lambda: not errors(checked(world)), timeout=20)  # noqa: B023
            assert_kept(before, world, set())
    tried(f"{SEVERAL} clusters with three corruptions each: {mended} mended, the others refused, 0 keys lost")
