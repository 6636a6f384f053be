"""Shared fixtures. Real servers only: see tests/live/servers.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.live.servers import Servers
from tests.soak import SOAK

# The same examples every time: a red test is then never luck. A soak looks for new ones.
hypothesis.settings.register_profile("test", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("soak" if SOAK else "test")


class PlaybooksTogether(LoadScopeScheduling):
    """Any test goes to any xdist worker, but one has all bad inventories, and two have all other plays.

    More than two plays at once starve two cores; with one at a time the other core is idle in the end.

    (xdist's own way, `--dist loadgroup`, silently groups nothing under pytest 9.2: pytest-xdist#1386.)
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/playbooks/test_bad_inventories.py"):
            return "bad inventories"
        if nodeid.startswith(("tests/playbooks/test_re", "tests/playbooks/test_ro", "tests/playbooks/test_d")):
            return "playbooks, about half of the time"
        return "other playbooks" if nodeid.startswith("tests/playbooks/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> PlaybooksTogether:
    return PlaybooksTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `soak` run only under `make soak`."""
    kept = [item for item in items if SOAK or item.get_closest_marker("soak") is None]
    left_out = [item for item in items if item not in kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    """Real redis-server processes. A module may set LOOPBACK = "127.x" to take addresses from its own /16."""
    with Servers(tmp_path, getattr(request.module, "LOOPBACK", "127.24")) as running:
        yield running


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """tried("30 kill -9 …"): a line for the end of the run, under "what was tried", also from an xdist worker."""
    return partial(record_property, "tried")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for many in terminalreporter.stats.values() for r in many if getattr(r, "when", "") == "call"]
    lines = [(r.nodeid, value) for r in reports for name, value in r.user_properties if name == "tried"]
    if lines:
        terminalreporter.section("what was tried")
    for nodeid, line in sorted(lines):
        terminalreporter.write_line(f"{nodeid.rpartition('::')[2]}: {line}")
