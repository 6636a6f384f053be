"""The report of a drill: whole, harmless, and there whatever was not measured."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwright.report.drill_columns import columns
from slotwright.report.drill_names import shorten
from slotwright.report.drill_page import page
from slotwright.report.drill_read import read
from slotwright.report.drill_text import LINES, compare_lines, summary_lines
from slotwright.report.drill_words import cut, seconds
from tests.core import drills

Make = Callable[[], dict[str, Any]]
EVERY: list[Make] = [drills.passed, drills.failed, drills.incomplete, drills.big, dict]
HOSTILE = "</title><script src='https://evil.example/x.js'>alert(1)</script>&\"\x1b[31m\x00\ud800\u202e"
VOID = {"meta"}


class Parsed(HTMLParser):
    """Whether tags close as they open, and what a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data")]
        self.addresses += [k for k, _ in attrs if k.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words(text: str) -> str:
    return " ".join(Parsed(text).words)


def numbers(value: object) -> Iterator[int | float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize("make", EVERY)
def test_the_page_is_well_formed_and_loads_nothing(make: Make) -> None:
    text = page(make(), [drills.failed(), drills.incomplete()])
    ElementTree.fromstring(text)
    parsed = Parsed(text)
    assert not parsed.open
    assert not parsed.addresses
    assert not {"script", "link", "img", "iframe", "a", "object", "embed"} & set(parsed.tags)
    assert "://" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch"}
    assert "@import" not in text


@pytest.mark.parametrize("make", [drills.passed, drills.failed, drills.big])
def test_every_shard_and_every_number_is_there(make: Make) -> None:
    drill = make()
    text = words(page(drill))
    for shard in drill["shards"]:
        assert shard["shard"] in text
        assert shard["slots"] in text
        counted = [shard[name] for name in drills.COUNTS] + list(shard["errors"].values())
        timed = [shard[n] for n in ("write_gap", "read_gap", "promoted", "predicted_write_gap") if shard[n] is not None]
        assert all(f"{n:,}" in text for n in counted)
        assert all(seconds(n) in text for n in timed)
    assert all(seconds(n) in text for n in numbers(drill["moments"]))
    assert all(f"{drill['losses'][name]:,}" in text for name in drills.COUNTS)
    for line in [*drill["reasons"], *drill["findings"], *drill["prediction"]["lines"], *(t for _, t in drill["log"])]:
        assert line in text
    for node in drill["topology"]["during"]["nodes"]:
        assert node["name"] in text


def test_verdict_sentence_and_figures_come_first() -> None:
    text = words(page(drills.failed()))
    in_order = (
        "✗ FAILED",
        "zone b, partition, 20 s, cluster prod, 9 instances in 3 zones, 2026-11-22 16:55 UTC",
        "7.42 s",
        "Why it failed",
        "What clients saw",
        "Where the roles were",
    )
    places = [text.index(part) for part in in_order]
    assert places == sorted(places)


def test_a_gap_is_not_hidden_where_buckets_share_a_column() -> None:
    rows = [[9, 0, 9, 0, 1.0]] * 5000
    rows[1234] = [0, 1, 9, 0, 700.0]
    series = read({"series": {"begin": 0.0, "step": 0.1, "shards": {"x": rows}}}).series
    assert series is not None
    found = columns(series)
    assert found.number <= 460
    text = page({"shards": [{"shard": "x"}], "series": {"begin": 0.0, "step": 0.1, "shards": {"x": rows}}})
    assert text.count('class="bar-bad" d=') == 1


def test_shards_that_only_the_series_names_are_shown() -> None:
    drill = drills.passed()
    drill["shards"] = []
    assert all(name in words(page(drill)) for name in drill["series"]["shards"])


def test_hostile_names_are_only_words() -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {(k if k in known else HOSTILE + k): spoil(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return HOSTILE + value if isinstance(value, str) else value

    drill = drills.failed()
    known = set(re.findall(r'"(\w+)":', json.dumps(drill)))
    text = page(spoil(drill), [spoil(drills.passed())])
    ElementTree.fromstring(text)
    assert not {"script", "a"} & set(Parsed(text).tags)
    assert not Parsed(text).addresses
    text.encode()
    for line in [*summary_lines(spoil(drill)), *compare_lines([spoil(drill)])]:
        assert line.isprintable()


def test_thirty_shards_fit_into_a_megabyte() -> None:
    assert len(page(drills.big()).encode()) < 1_000_000


def test_the_same_drill_gives_the_same_page() -> None:
    assert page(drills.big()) == page(drills.big())


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        if "series" not in at or len(at) < 3:
            yield from paths(part, (*at, key))


PATHS = {make: list(paths(make())) for make in (drills.passed, drills.failed, drills.incomplete)}
GONE = object()
ODD = st.sampled_from([GONE, None, None, "", "x", 0, -1, 1e300, 10**400, float("nan"), True, [], {}, [None], [[]]])


def without(drill: Any, path: tuple[Any, ...], value: object) -> None:
    for key in path[:-1]:
        try:
            drill = drill[key]
        except (KeyError, IndexError, TypeError):
            return
    if value is not GONE and isinstance(drill, dict):
        drill[path[-1]] = value
    elif isinstance(drill, dict):
        drill.pop(path[-1], None)
    elif isinstance(drill, list) and path[-1] < len(drill):
        drill[path[-1]] = None if value is GONE else value


@settings(max_examples=60, deadline=None)
@given(data=st.data(), make=st.sampled_from(list(PATHS)))
def test_whatever_is_missing_or_odd_there_is_a_report(data: st.DataObject, make: Make) -> None:
    drill = copy.deepcopy(make())
    for path in data.draw(st.lists(st.sampled_from(PATHS[make]), min_size=1, max_size=25)):
        without(drill, path, data.draw(ODD))
    ElementTree.fromstring(page(drill, [drill]))
    assert len(summary_lines(drill)) <= LINES
    assert len(compare_lines([drill, make()])) == 2


@pytest.mark.parametrize("name", sorted(drills.failed()))
@pytest.mark.parametrize("gone", [True, False])
def test_any_part_may_be_missing_or_none(name: str, gone: bool) -> None:
    drill = drills.failed()
    drill[name] = None
    if gone:
        del drill[name]
    ElementTree.fromstring(page(drill, [drill]))
    summary_lines(drill)
    compare_lines([drill])


@pytest.mark.parametrize("make", EVERY)
def test_the_summary_fits_a_terminal(make: Make) -> None:
    drill = make()
    lines = summary_lines(drill)
    assert len(lines) <= LINES
    assert lines[0].startswith(str(drill.get("verdict", "incomplete")).upper())
    assert not any("None" in line or line != line.rstrip() for line in lines)


def test_the_summary_has_reasons_figures_and_struck_shards_first() -> None:
    lines = summary_lines(drills.failed())
    text = "\n".join(lines)
    assert all(reason in text for reason in drills.failed()["reasons"])
    assert re.search(r"Longest write gap +7.42 s +at most 5 s +4.1 s +missed", text)
    assert "first error 0.04, FAIL seen 2.31, promoted 3.18" in text
    assert next(i for i, line in enumerate(lines) if line.startswith("b1:6379")) + 2 == len(lines) - 1


def test_a_summary_of_many_shards_says_how_many_are_not_shown() -> None:
    lines = summary_lines(drills.big())
    shown = [line for line in lines if re.match(r"[abc]\d+:6379", line)]
    assert lines[-1] == f"and {30 - len(shown)} more shards"


def test_the_comparison_has_a_line_a_drill_the_newest_last() -> None:
    old, new = drills.passed(), drills.failed()
    old["began"] -= 86400
    lines = compare_lines([new, old])
    assert [line.split()[0] for line in lines] == ["2026-11-21", "2026-11-22"]
    assert re.search(
        r"zone b +partition +FAILED +longest write gap 7.42 s +lost 48 +time to redundancy 7.3 s", lines[1]
    )
    assert compare_lines([]) == []


def test_history_ends_with_this_drill() -> None:
    old, new = drills.passed(), drills.failed()
    text = words(page(new, [old, new]))
    former = text[text.index("Former drills") :]
    assert former.index("PASSED") < former.index("FAILED")
    assert former.count("FAILED") == 1
    assert "Former drills" not in words(page(new, [new]))


def test_a_prediction_of_no_end_says_so() -> None:
    text = words(page(drills.incomplete()))
    assert "never ends" in text
    assert "The cluster does not survive: slots 5461-10922 have no copy elsewhere" in text


def test_rows_of_the_pictures_stay_when_another_node_leads_a_shard() -> None:
    """A look at the cluster names each shard by its master of that moment, and of a node that is down none."""
    drill = drills.failed()
    told = page(drill)
    for node in drill["topology"]["during"]["nodes"]:
        if node["role"] == "down":
            node["shard"] = ""
        elif node["shard"] == "b1:6379":
            node["shard"] = "c1:6380"
    assert page(drill) == told


def test_what_was_judged_is_what_is_shown() -> None:
    drill = drills.failed()
    drill["objectives"][1]["measured"] = 51  # altered writes count too
    assert re.search(r"Acknowledged writes lost +51 +at most 0", "\n".join(summary_lines(drill)))


def test_long_names_are_told_apart_in_pictures() -> None:
    names = [f"redis-eu-{zone}-01.example.com:6379" for zone in "abc"]
    assert list(shorten(names).values()) == ["…a-01:6379", "…b-01:6379", "…c-01:6379"]
    assert list(shorten(["redis-west.a.example:6379", "redis-east.a.example:6380"]).values()) == [
        "…east:6380",
        "…west:6379",
    ]
    for same in (["a1:6379", "b1:6379"], ["192.168.100.1:6379", "192.168.100.2:6379"], ["only-one.example.com:6379"]):
        assert shorten(same) == {name: name for name in same}
    assert set(shorten(["node.example.com:6379", "node.example.com:6380"]).values()) == {
        "node.example.com:6379",
        "node.example.com:6380",
    }


@given(st.lists(st.text("ab-.:6", max_size=24), max_size=8))
def test_short_names_stay_different(names: list[str]) -> None:
    assert len(set(shorten(names).values())) == len(set(filter(None, names)))


def test_long_names_lose_their_middle() -> None:
    assert cut("redis-node-01.example.com:6379", 12) == "redi…om:6379"
    assert cut("b1:6379", 12) == "b1:6379"
