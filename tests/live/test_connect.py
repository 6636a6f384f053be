"""What links to Redis nodes promise, over TCP and TLS, with real nodes that refuse, hang, die and come back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from redis.exceptions import ResponseError

from slotwright.core.topology import Instance
from slotwright.core.view import Silence
from slotwright.errors import SlotwrightError
from slotwright.link.access import Access, Tls
from slotwright.link.connect import LinkDown, Links
from tests.live.servers import Server, Servers, make_cluster
from tests.live.sshd import Sshd, keygen

LOOPBACK = "127.21"


def instances(nodes: Sequence[Server]) -> list[Instance]:
    return [Instance(f"redis-{n}:{x.port}", f"redis-{n}", f"z{n}", x.address, x.port) for n, x in enumerate(nodes)]


def links_to(*nodes: Server, **access: Any) -> Links:
    return Links(instances(nodes), Access(**{"connect_timeout": 1.0, "command_timeout": 1.0, **access}))


def silence_of(node: Server, **access: Any) -> Silence:
    """The one silence met when this node is opened."""
    with links_to(node, **access) as links:
        return links.open()["redis-0:7000"]


# --- Asking ---------------------------------------------------------------------------------------------------------


def test_all_nodes_are_opened_and_asked_together(servers: Servers) -> None:
    nodes = servers.start_many(5)
    with links_to(*nodes) as links:
        assert links.open() == {}
        assert links.up == tuple(f"redis-{n}:7000" for n in range(5))
        answers = links.ask({name: [("CLUSTER", "MYID"), ("ECHO", name)] for name in links.up})
        assert answers == {f"redis-{n}:7000": [node.id(), f"redis-{n}:7000"] for n, node in enumerate(nodes)}


def test_a_link_connects_on_first_use(servers: Servers) -> None:
    with links_to(servers.start()) as links:
        assert not links.up
        assert links["redis-0:7000"].call("PING") == "PONG"
        assert links.up == ("redis-0:7000",)


def test_replies_to_16384_commands_come_back_in_order_even_where_the_server_limits_what_it_holds_back(
    servers: Servers,
) -> None:
    nodes = servers.start_many(3, config={"client-output-buffer-limit": ["normal 512kb 0 0"]})
    texts = [f"{number:05}" + "x" * 500 for number in range(16384)]
    echoes = [("ECHO", text) for text in texts]
    with links_to(*nodes, command_timeout=20.0) as links:
        link = links["redis-0:7000"]
        link.send(echoes)
        assert link.receive(16000) + link.receive(384) == texts
        assert links.ask(dict.fromkeys(("redis-0:7000", "redis-1:7000", "redis-2:7000"), echoes)) == {
            f"redis-{n}:7000": texts for n in range(3)
        }


def test_a_command_larger_than_the_window_is_sent(servers: Servers) -> None:
    with links_to(servers.start(cluster=False), command_timeout=20.0) as links:
        large = "x" * 5_000_000
        assert links.ask({"redis-0:7000": [("SET", "a", large), ("GET", "a"), ("STRLEN", "a")]}) == {
            "redis-0:7000": ["OK", large, len(large)]
        }


def test_errors_are_values_among_replies_and_raised_by_a_call(servers: Servers) -> None:
    with links_to(servers.start()) as links:
        link = links["redis-0:7000"]
        link.send([("PING",), ("GET", "key"), ("PING",)])
        first, error, last = link.receive(3)
        assert (first, last) == ("PONG", "PONG")
        assert isinstance(error, ResponseError)
        assert str(error) == "CLUSTERDOWN Hash slot not served"
        with pytest.raises(ResponseError, match=r"^ERR unknown command 'NONSENSE'"):
            link.call("NONSENSE")
        assert link.call("PING") == "PONG"


def test_more_replies_than_are_due_are_not_waited_for(servers: Servers) -> None:
    with links_to(servers.start()) as links:
        links["redis-0:7000"].send([("PING",)])
        with pytest.raises(ValueError, match="2 replies wanted, 1 are due"):
            links["redis-0:7000"].receive(2)


def test_binary_keys_and_values_come_back_unchanged_when_sent_again(servers: Servers) -> None:
    with links_to(servers.start(cluster=False)) as links:
        link = links["redis-0:7000"]
        every_byte = bytes(range(256))
        link.call("SET", every_byte, every_byte)
        key = link.call("KEYS", "*")[0]
        link.call("RESTORE", "copy", 0, link.call("DUMP", key))
        assert link.call("GET", "copy").encode("utf-8", "surrogateescape") == every_byte


def test_nodes_see_our_name_and_no_command_that_was_not_asked_for(servers: Servers) -> None:
    node = servers.start(config={"requirepass": "secret"})
    with links_to(node, password="secret") as links:
        before = node.client().info("commandstats")
        assert "name=slotwright" in links["redis-0:7000"].call("CLIENT", "LIST")
        after = node.client().info("commandstats")
    assert {name for name in after if after[name] != before.get(name)} == {
        "cmdstat_auth",
        "cmdstat_client|setname",
        "cmdstat_client|list",
        "cmdstat_info",
    }


def test_redis_pys_own_cluster_client_runs_over_the_same_links(servers: Servers) -> None:
    nodes = servers.start_many(3)
    make_cluster(nodes, masters=3)
    with links_to(*nodes) as links:
        reached = links.connection_class()
        client = redis.RedisCluster.from_url(
            f"redis://{nodes[0].name}", connection_class=reached, decode_responses=True
        )
        values = {f"key-{number}": str(number) for number in range(50)}
        for key, value in values.items():
            client.set(key, value)
        assert {key: client.get(key) for key in values} == values
        client.close()
    assert all(node.call("DBSIZE") for node in nodes)


# --- Nodes that are down --------------------------------------------------------------------------------------------


def test_hanging_nodes_cost_one_timeout_together_and_the_others_still_answer(servers: Servers) -> None:
    nodes = servers.start_many(8)
    with links_to(*nodes) as links:
        links.open()
        names = links.up
        for node in nodes[:6]:
            node.pause()
        begin = time.monotonic()
        answers = links.ask({name: [("ECHO", "x" * 1000)] * 200 for name in names})
        assert time.monotonic() - begin < 4  # 1 s, and 6 × 0.2 s of grace; six times 1 s would be more
        assert links.up == names[6:]
        for name in names[:6]:
            down = answers[name]
            assert isinstance(down, LinkDown)
            assert down.silence.kind == "timeout"
            assert f"node {name} (127.21." in str(down)
        assert all(answers[name] == ["x" * 1000] * 200 for name in names[6:])
        begin = time.monotonic()
        assert {name: silence.kind for name, silence in links.open().items()} == dict.fromkeys(names[:6], "timeout")
        assert time.monotonic() - begin < 4


def test_a_longer_timeout_can_be_given_to_one_call(servers: Servers) -> None:
    with links_to(servers.start(), command_timeout=0.2) as links:
        link = links["redis-0:7000"]
        assert link.call("DEBUG", "SLEEP", "0.5", timeout=10) == "OK"
        with pytest.raises(LinkDown, match="did not answer in time"):
            link.call("DEBUG", "SLEEP", "0.5")


def test_a_lost_link_stays_down_until_it_is_opened_again(servers: Servers) -> None:
    node = servers.start()
    with links_to(node) as links:
        link = links["redis-0:7000"]
        assert link.call("PING") == "PONG"
        node.restart()
        for _ in range(2):
            with pytest.raises(LinkDown) as caught:
                link.call("PING")
            assert caught.value.silence.kind == "closed"
        assert links.reopen("redis-0:7000") is None
        assert link.call("PING") == "PONG"


def test_replies_of_a_lost_link_are_not_taken_for_later_ones(servers: Servers) -> None:
    node = servers.start()
    with links_to(node) as links:
        link = links["redis-0:7000"]
        link.send([("ECHO", "early")] * 2)
        assert link.receive(1) == ["early"]
        link.drain()
        node.restart()
        links.reopen("redis-0:7000")
        assert link.call("ECHO", "late") == "late"


def test_a_node_that_loads_its_data_is_up_and_says_so(servers: Servers) -> None:
    node = servers.start(cluster=False)
    node.call("DEBUG", "POPULATE", "20000", "key", "100")
    node.call("SAVE")
    node.stop()
    slow = {"key-load-delay": 1000, "loading-process-events-interval-bytes": 1024}
    loading = servers.start(node.address, cluster=False, config=slow, wait=False)
    with links_to(loading) as links:
        end = time.monotonic() + 10
        while links.open():
            assert time.monotonic() < end
        link = links["redis-0:7000"]
        with pytest.raises(ResponseError, match=r"^LOADING "):
            link.call("GET", "key:1")
        assert "loading:1" in link.call("INFO", "persistence")


# --- Nodes that do not answer: why ----------------------------------------------------------------------------------


def test_a_closed_port_is_refused(servers: Servers) -> None:
    node = servers.start()
    node.kill()
    silence = silence_of(node)
    assert silence.kind == "refused"
    assert silence.finding.code == "not-reachable"
    assert str(silence.finding) == (
        f"node redis-0:7000 ({node.name}): nothing listens on {node.name}. "
        "Start the instance, or correct its address and port."
    )


def test_an_address_without_a_route_is_told_from_a_dead_node() -> None:
    nowhere = Instance("redis-0:7000", "redis-0", "z", "255.255.255.255", 7000)
    with Links([nowhere], Access(connect_timeout=1.0)) as links:
        assert links.open()["redis-0:7000"].kind == "no-route"


def test_a_server_that_is_not_redis_is_named_so(servers: Servers, tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", servers.address(), keygen(tmp_path / "key")) as sshd:
        wrong = Instance("redis-0:2222", "redis-0", "z", sshd.address, sshd.port)
        with Links([wrong], Access(connect_timeout=5)) as links:
            silence = links.open()["redis-0:2222"]
    assert silence.kind == "protocol"
    assert f"what listens on {wrong.endpoint} is not Redis" in silence.detail


def test_a_node_without_room_for_clients_is_told_with_its_own_words(servers: Servers) -> None:
    node = servers.start()
    node.call("CONFIG", "SET", "maxclients", "1")
    silence = silence_of(node)
    assert silence.kind == "turned-away"
    assert "ERR max number of clients" in silence.detail


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"password": "wrong-secret"}, "user default in: WRONGPASS"),
        ({"username": "nobody", "password": "wrong-secret"}, "user nobody in: WRONGPASS"),
        ({}, "user default in: NOAUTH"),
    ],
)
def test_a_wrong_user_or_password_is_told_without_the_password(
    servers: Servers, access: dict[str, Any], words: str
) -> None:
    node = servers.start(config={"requirepass": "secret"})
    silence = silence_of(node, **access)
    assert silence.kind == "auth"
    assert words in silence.detail
    assert "redis_cluster_password" in silence.remedy
    assert "secret" not in repr(silence) + str(LinkDown(silence)) + repr(Access(**access))


def test_a_password_given_to_a_node_that_has_none_is_told(servers: Servers) -> None:
    silence = silence_of(servers.start(), password="secret")
    assert silence.kind == "auth"
    assert "without any password configured" in silence.detail


def test_a_user_who_may_do_almost_nothing_still_gets_a_link(servers: Servers) -> None:
    node = servers.start(config={"user": ["observer on >secret -@all +cluster|myid"]})
    with links_to(node, username="observer", password="secret") as links:
        assert links.open() == {}
        assert links["redis-0:7000"].call("CLUSTER", "MYID") == node.id()
        with pytest.raises(ResponseError, match=r"^NOPERM "):
            links["redis-0:7000"].call("PING")


# --- TLS ------------------------------------------------------------------------------------------------------------


class Certificates:
    """A CA, and one certificate of it that nodes and client share; as PEM files."""

    def __init__(self, directory: Path, address: str) -> None:
        directory.mkdir()
        self.ca, self.cert, self.key = (str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        certificate = authority.issue_cert(address)
        certificate.cert_chain_pems[0].write_to_path(self.cert)
        certificate.private_key_pem.write_to_path(self.key)

    @property
    def config(self) -> dict[str, Any]:
        """redis.conf of a node that speaks TLS only and wants client certificates."""
        return {
            "tls-port": 7000,
            "tls-ca-cert-file": self.ca,
            "tls-cert-file": self.cert,
            "tls-key-file": self.key,
        }


@pytest.fixture
def ours(servers: Servers, tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ours", servers.address())


def test_nodes_are_reached_over_tls_with_a_client_certificate(servers: Servers, ours: Certificates) -> None:
    nodes = servers.start_many(3, config=ours.config)
    tls = Tls(ours.ca, ours.cert, ours.key)
    with links_to(*nodes, tls=tls, connect_timeout=5) as links:
        assert links.open() == {}
        echoes = [("ECHO", "x" * 1000)] * 2000
        assert links.ask(dict.fromkeys(links.up, echoes)) == dict.fromkeys(links.up, ["x" * 1000] * 2000)


def test_the_name_in_a_certificate_is_checked_on_demand(servers: Servers, ours: Certificates) -> None:
    node = servers.start(config=ours.config)  # its certificate names another address
    silence = silence_of(node, tls=Tls(ours.ca, ours.cert, ours.key, check_hostname=True), connect_timeout=5)
    assert silence.kind == "tls"
    assert "IP address mismatch" in silence.detail


def test_a_node_with_a_certificate_of_another_ca_is_not_trusted(
    servers: Servers, ours: Certificates, tmp_path: Path
) -> None:
    theirs = Certificates(tmp_path / "theirs", "127.21.0.1")
    silence = silence_of(servers.start(config=ours.config), tls=Tls(theirs.ca, ours.cert, ours.key), connect_timeout=5)
    assert silence.kind == "tls"
    assert "CERTIFICATE_VERIFY_FAILED" in silence.detail


def test_a_node_that_does_not_trust_our_certificate_is_told_as_tls(
    servers: Servers, ours: Certificates, tmp_path: Path
) -> None:
    node = servers.start(config=ours.config)
    theirs = Certificates(tmp_path / "theirs", "127.21.0.1")
    for tls in (Tls(ours.ca), Tls(ours.ca, theirs.cert, theirs.key)):
        silence = silence_of(node, tls=tls, connect_timeout=5)
        assert silence.kind == "tls"
        assert "client certificate" in silence.remedy


def test_tls_on_one_side_only_is_told(servers: Servers, ours: Certificates) -> None:
    with_tls, without = servers.start(config=ours.config), servers.start()
    silence = silence_of(without, tls=Tls(ours.ca, ours.cert, ours.key))
    assert silence.detail == f"the TLS of {without.name} did not answer in time"
    assert "the port is one without TLS" in silence.remedy
    silence = silence_of(with_tls)
    assert silence.kind == "closed"
    assert "whether it expects TLS" in silence.remedy


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_tls_files_that_cannot_be_used_are_refused_before_any_node_is_touched(
    ours: Certificates, tmp_path: Path, broken: str
) -> None:
    files = {"ca": ours.ca, "cert": ours.cert, "key": ours.key, broken: str(tmp_path / "missing.pem")}
    with pytest.raises(SlotwrightError, match=r"missing\.pem"):
        Links([], Access(tls=Tls(**files)))  # type: ignore[arg-type]


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(ours: Certificates, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(ours.key).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(SlotwrightError, match="without a passphrase"):
        Links([], Access(tls=Tls(ours.ca, ours.cert, str(locked))))
