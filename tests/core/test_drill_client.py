"""The client of a drill where no server is needed: what it calls an error, its names, its writers, and its bundle; and
the files of a drill."""

from __future__ import annotations

import builtins
import io
import json
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from slotwright.drill.bundle import CLIENT, write_bundle
from slotwright.drill.client import PREFIX, WRITERS, Client, key_of, outcome_of, value_of
from slotwright.drill.files import Files, all_of, reports
from slotwright.errors import SlotwrightError

# --- What becomes of a call -----------------------------------------------------------------------------------------

# An answer that refuses, or no slot's owner to ask.
FAILED = {
    "ResponseError", "AskError", "AuthenticationWrongNumberOfArgsError", "ClusterCrossSlotError", "ClusterDownError",
    "ExecAbortError", "MasterDownError", "ModuleError", "MovedError", "NoPermissionError", "NoScriptError",
    "NoSuchFieldsetError", "OutOfMemoryError", "ReadOnlyError", "SlotNotCoveredError", "TryAgainError",
}  # fmt: skip
# The connection broke, or nobody can say.
UNKNOWN = {
    "ConnectionError", "TimeoutError", "RedisError", "InvalidResponse", "ClusterError", "RedisClusterException",
    "ChildDeadlockedError",
}  # fmt: skip
# Never sent, or refused; but "unknown" claims less. A client's own mistakes are among them.
CAUTIOUS = {
    "AuthenticationError", "AuthorizationError", "BusyLoadingError", "MaxConnectionsError",
    "ExternalAuthProviderError", "CrossSlotTransactionError", "DataError", "IncorrectPolicyType",
    "InvalidPipelineStack", "LockError", "LockNotOwnedError", "PubSubError", "WatchError",
}  # fmt: skip
KINDS = {
    name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type) and issubclass(kind, Exception)
}


def made(name: str, text: str = "went wrong") -> Exception:
    error = KINDS[name]("7 127.0.0.1:7001" if name in ("AskError", "MovedError") else text)
    assert isinstance(error, Exception)
    return error


def test_every_kind_of_error_of_redis_py_has_been_thought_of() -> None:
    assert set(KINDS) == FAILED | UNKNOWN | CAUTIOUS
    assert not FAILED & UNKNOWN and not FAILED & CAUTIOUS and not UNKNOWN & CAUTIOUS


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_may_have_been_done_is_never_called_refused(name: str) -> None:
    assert outcome_of(made(name)) == ("failed" if name in FAILED else "unknown")


@pytest.mark.parametrize("name", ["ConnectionError", "TimeoutError"])
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Error 111 connecting to 127.0.0.1:7001. Connection refused.", "failed"),
        ("Error 113 connecting to 10.0.0.1:6379. No route to host.", "failed"),
        ("Error -2 connecting to redis-a1:6379. Name or service not known.", "failed"),
        ("Timeout connecting to server", "failed"),
        ("Timeout reading from 127.0.0.1:7001", "unknown"),
        ("Timeout reading from socket", "unknown"),
        ("Timeout writing to socket", "unknown"),
        ("Error 32 while writing to socket. Broken pipe.", "unknown"),
        ("Error while reading from 127.0.0.1:7001 : (104, 'Connection reset by peer')", "unknown"),
        ("Connection closed by server.", "unknown"),
        ("", "unknown"),
    ],
)
def test_what_did_not_get_a_connection_was_not_sent_and_all_else_may_have_been(
    name: str, text: str, outcome: str
) -> None:
    assert outcome_of(made(name, text)) == outcome


@pytest.mark.parametrize(
    "error",
    [
        # redis-py asks anew where the slots are before it hands on why a write was cut off; this then takes its place.
        exceptions.RedisClusterException(
            "Redis Cluster cannot be connected. Please provide at least one reachable node: "
            "Error 111 connecting to 127.0.0.1:7001. Connection refused."
        ),
        builtins.ConnectionError("connecting to"),
        builtins.TimeoutError("connecting to"),
        OSError(9, "Bad file descriptor"),
        AttributeError("'NoneType' object has no attribute 'name'"),
    ],
    ids=repr,
)
def test_what_redis_py_was_not_meant_to_raise_leaves_it_open(error: Exception) -> None:
    assert outcome_of(error) == "unknown"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("CLUSTERDOWN The cluster is down", "failed"),
        ("CLUSTERDOWN Hash slot not served", "failed"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "failed"),
        ("MOVED 7 127.0.0.1:7001", "failed"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "failed"),
        ("READONLY You can't write against a read only replica.", "failed"),
        ("NOREPLICAS Not enough good replicas to write.", "failed"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "failed"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", "failed"),
        ("NOPERM User u has no permissions to run the 'set' command", "failed"),
        ("ERR value is not an integer or out of range", "failed"),
    ],
)
def test_what_a_server_refuses_has_failed(answer: str, outcome: str) -> None:
    assert outcome_of(BaseParser.parse_error(answer)) == outcome


@contextmanager
def serving(answer: bytes | None) -> Iterator[int]:
    """A port that reads one call and gives this answer, and None: closes the connection. Not: does not read at all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                if answer is None:
                    connection.recv(1000)
                elif answer:
                    connection.recv(1000)
                    connection.sendall(answer)
                    over.wait(10)
                else:
                    over.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def called(port: int) -> str:
    """The outcome of a write, called as the client calls."""
    client = redis.Redis(port=port, protocol=2, socket_timeout=0.3, socket_connect_timeout=0.3,
                         retry=Retry(NoBackoff(), 0), driver_info=None)  # fmt: skip
    try:
        client.set("key", "value")
    except Exception as error:
        return outcome_of(error)
    finally:
        client.close()
    return "ok"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"+OK\r\n", "ok"),
        (b"-CLUSTERDOWN The cluster is down\r\n", "failed"),
        (b"-READONLY You can't write against a read only replica.\r\n", "failed"),
        (None, "unknown"),
        (b"", "unknown"),
        (b"+O", "unknown"),
        (b"?!\r\n", "unknown"),
    ],
)
def test_over_a_real_socket_only_an_answer_tells(answer: bytes | None, outcome: str) -> None:
    with serving(answer) as port:
        assert called(port) == outcome


def test_over_a_real_socket_a_closed_port_was_never_written_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert called(port) == "failed"


# --- Names ----------------------------------------------------------------------------------------------------------

WORD = st.text("abcz019-_", min_size=1, max_size=6)
CALL = st.tuples(WORD, WORD, WORD, st.integers(1, 99))


@given(CALL, CALL)
def test_every_write_has_a_key_and_a_value_of_its_own(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    assert (key_of(*one) == key_of(*other)) is (one == other)
    assert (value_of(*one) == value_of(*other)) is (one == other)
    assert (key_of(*one[:3], None) == key_of(*other[:3], None)) is (one[:3] == other[:3])
    assert key_of(*one) != key_of(*other[:3], None)


@given(CALL)
def test_a_key_is_in_the_slot_of_its_tag_and_under_the_name_of_its_drill(call: tuple[str, str, str, int]) -> None:
    drill, client, tag, number = call
    for key in (key_of(drill, client, tag, number), key_of(drill, client, tag, None)):
        assert key_slot(key.encode()) == key_slot(tag.encode())
        assert key.startswith(f"{PREFIX}:{drill}:{client}:")


# --- Writers --------------------------------------------------------------------------------------------------------


def client_of(shards: int, *, tags: int = 3, writes: float = 80, reads: float = 40) -> Client:
    named = {f"m{n}": [f"{n}.{t}" for t in range(tags)] for n in range(shards)}
    config = {"drill": "d", "name": "k", "mode": "keys", "shards": named, "writes": writes, "reads": reads}
    return Client(config, io.StringIO())


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 8, 9, 15, 16, 33])
def test_every_tag_has_one_writer_and_one_reader_and_no_two_shards_share_one_needlessly(shards: int) -> None:
    parts = list(client_of(shards)._parts())
    wanted = Counter((f"m{n}", f"{n}.{t}") for n in range(shards) for t in range(3))
    for act in ("_write", "_read"):
        groups = [group for what, group, _ in parts if what.__name__ == act]
        assert Counter(one for group in groups for one in group) == wanted
        assert len(groups) == min(WRITERS, shards)
        together = [len({shard for shard, _ in group}) for group in groups]
        assert max(together) - min(together) <= 1


@given(st.integers(1, 40), st.floats(0.5, 1000), st.floats(0.5, 1000))
def test_all_writers_write_together_what_is_wanted(shards: int, writes: float, reads: float) -> None:
    parts = list(client_of(shards, writes=writes, reads=reads)._parts())
    for act, rate in (("_write", writes), ("_read", reads)):
        assert sum(r for what, _, r in parts if what.__name__ == act) == pytest.approx(rate)


def test_who_is_not_to_read_has_no_readers() -> None:
    assert [what.__name__ for what, _, _ in client_of(3, reads=0)._parts()] == ["_write"] * 3


@pytest.mark.parametrize("shards", [1, 3, 7, 8, 16, 9, 15])
def test_every_shard_gets_the_same_share_of_the_writes(shards: int) -> None:
    """What a drill may lose is foretold from that (core/drill.py)."""
    share = {f"m{n}": 0.0 for n in range(shards)}
    for act, group, rate in client_of(shards, writes=80)._parts():
        for shard, _ in group if act.__name__ == "_write" else ():
            share[shard] += rate / len(group)
    assert share == pytest.approx({f"m{n}": 80 / shards for n in range(shards)})


# --- The bundle -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "client.pyz"
    write_bundle(path)
    return path


def run(*args: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Without the environment's packages, as on a host that has nothing but Python."""
    command = [sys.executable, "-I", "-S", *args]
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=60, check=False)


def test_the_bundle_is_the_same_every_time_byte_for_byte(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    write_bundle(again)
    assert again.read_bytes() == bundle.read_bytes()
    write_bundle(again)
    assert again.read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as opened:
        assert {i.date_time for i in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}, "none tells when it was written"


def test_the_bundle_has_the_client_and_all_of_redis_py_and_nothing_of_slotwright(bundle: Path) -> None:
    root = Path(redis.__file__).parent
    with zipfile.ZipFile(bundle) as opened:
        names = opened.namelist()
        assert opened.testzip() is None
        assert opened.read("__main__.py").decode() == CLIENT.read_text()
        assert opened.read("redis/cluster.py") == (root / "cluster.py").read_bytes()
    assert {f"redis/{p.relative_to(root)}" for p in root.rglob("*.py")} == {n for n in names if n.startswith("redis/")}
    assert {n for n in names if not n.startswith("redis/")} == {"__main__.py", "async_timeout.py"}
    assert len(names) == len(set(names))


def test_the_bundle_runs_with_python_alone_as_far_as_its_configuration(bundle: Path) -> None:
    assert "No module named 'redis'" in run("-c", "import redis").stderr
    found = run(str(bundle), said='{"name": ')
    assert found.returncode == 1
    assert "json.decoder.JSONDecodeError" in found.stderr
    assert f"{bundle}/__main__.py" in found.stderr
    where = run("-c", f"import sys; sys.path.insert(0, {str(bundle)!r}); import redis; print(redis.__file__)")
    assert where.stdout.strip() == f"{bundle}/redis/__init__.py"


def test_where_no_node_answers_the_bundle_says_so_and_ends_with_an_empty_ledger(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ledger = tmp_path / "ledger"
    config = {"name": "k", "drill": "d", "seeds": [["127.0.0.1", port]], "shards": {"m": ["0"]}, "mode": "keys",
              "writes": 10, "reads": 0, "lasts": 0.5, "expiry": 60, "timeout": 0.3, "source": "", "orphaned": False,
              "ledger": str(ledger), "stop": str(tmp_path / "stop")}  # fmt: skip
    found = run(str(bundle), said=json.dumps(config))
    assert "no node of the cluster has answered" in found.stderr
    assert ledger.read_text() == ""


# --- Files ----------------------------------------------------------------------------------------------------------


def files_of(directory: Path, drill: str, *names: str) -> Files:
    files = Files(directory / drill)
    for name in names:
        files.write(name, {"id": drill})
    return files


def test_what_is_written_is_read_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    files = files_of(tmp_path / "new", "20260801T120000Z", "plan")
    content: dict[str, Any] = {"id": "ü", "seconds": 1.5, "none": None, "nodes": [{"name": "a1:7001"}]}
    files.write("plan", content)
    files.put("report.html", "<p>ü")
    assert files.read("plan") == content
    assert files.page.read_text() == "<p>ü"
    assert sorted(p.name for p in files.directory.iterdir()) == ["plan.json", "report.html"]
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert (files.id, files.bundle.name) == ("20260801T120000Z", "client.pyz")
    assert files.ledger("a1").name == "ledger-a1.jsonl"


def test_what_cannot_be_written_leaves_what_was_there_and_says_what_to_do(tmp_path: Path) -> None:
    files = files_of(tmp_path, "one", "plan")
    (files.directory / ".plan.json.new").mkdir()
    with pytest.raises(SlotwrightError, match=r"cannot write .*plan\.json") as error:
        files.write("plan", {"id": "another"})
    [finding] = error.value.findings
    assert (finding.code, finding.where) == ("cannot-write", "redis_drill_history")
    assert finding.remedy
    assert files.read("plan") == {"id": "one"}


def test_a_history_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("")
    with pytest.raises(SlotwrightError, match="redis_drill_history: cannot write"):
        files_of(tmp_path / "history", "one", "plan")
    assert all_of(tmp_path / "history") == []
    assert reports(tmp_path / "history") == []


def test_whoever_reads_meanwhile_reads_the_old_or_the_new_but_never_a_part(tmp_path: Path) -> None:
    files = files_of(tmp_path, "one")
    texts = {json.dumps({"text": letter * 200_000}, indent=1) for letter in "ab"}
    files.put("plan.json", next(iter(texts)))
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for letter in "ab":
                files.write("plan", {"text": letter * 200_000})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {(files.directory / "plan.json").read_text() for _ in range(300)}
    finally:
        over.set()
        writer.join()
    assert seen <= texts


@pytest.mark.parametrize("text", ["", "{", '{"id": 1', '{"id": "\ud800"}'.encode("utf-8", "surrogatepass")], ids=repr)
def test_what_was_never_whole_is_not_there(tmp_path: Path, text: str | bytes) -> None:
    files = files_of(tmp_path, "one", "plan")
    assert files.read("run") is None
    (files.directory / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert files.read("run") is None


def test_drills_come_the_oldest_first_and_those_without_a_report_are_unfinished(tmp_path: Path) -> None:
    assert all_of(tmp_path / "none") == []
    assert reports(tmp_path / "none") == []
    files_of(tmp_path, "20260802T000000Z", "report", "plan")
    files_of(tmp_path, "20251231T235959Z", "plan", "run", "report")
    files_of(tmp_path, "20260801T120000Z", "plan", "run")
    files_of(tmp_path, "20260803T000000Z", "plan")
    files_of(tmp_path, "20260804T000000Z", "report")  # nothing was planned: not one of ours
    (tmp_path / "20260805T000000Z").mkdir()
    (tmp_path / "notes.txt").write_text("")
    found = all_of(tmp_path)
    assert [f.id for f in found] == ["20251231T235959Z", "20260801T120000Z", "20260802T000000Z", "20260803T000000Z"]
    assert [f.id for f in found if not f.finished] == ["20260801T120000Z", "20260803T000000Z"]
    assert [r["id"] for r in reports(tmp_path)] == ["20251231T235959Z", "20260802T000000Z"]


def test_a_report_that_is_cut_off_is_left_out_of_the_history(tmp_path: Path) -> None:
    files_of(tmp_path, "one", "plan", "report")
    (files_of(tmp_path, "two", "plan").directory / "report.json").write_text('{"id":')
    assert [r["id"] for r in reports(tmp_path)] == ["one"]
