#!/usr/bin/env python3
"""May a master start whose memory does not come back whole? Run by before-start, as Redis's user.

    ask-peers DATA_DIR REDIS_CONF SECONDS

A master without AOF comes back empty, or with an old snapshot, and its replicas then copy that: their keys are gone,
and cluster_state says ok. So the peers are asked first. It may start (status 0) when it was replaced in the meantime,
for it then becomes a replica of its successor, and when no replica holds anything that would be lost. Otherwise this
waits, at most SECONDS, and ends with status 1.

Standard library only, Python 3.8 and later. Passwords are read from redis.conf and never shown.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path

ANSWER_WITHIN = 2.0  # seconds for one node
POLL = 0.5  # seconds between two rounds
OTHERS = 16  # so many nodes that are not our replicas are asked: whoever replaced us is known to all by gossip


class Unanswered(Exception):
    """A node cannot be asked: why."""


@dataclass(frozen=True)
class Node:
    """A line of nodes.conf or of CLUSTER NODES."""

    ident: str
    address: str
    port: int
    flags: frozenset[str]
    master: str
    epoch: int
    slots: frozenset[int]

    @property
    def name(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What a node says: all nodes as it sees them, and its INFO."""

    nodes: Mapping[str, Node]
    info: Mapping[str, str]

    @property
    def keys(self) -> int:
        databases = (text for name, text in self.info.items() if re.fullmatch(r"db\d+", name))
        return sum(int(n) for text in databases for n in re.findall(r"^keys=(\d+)", text))


def read_nodes(text: str, *, tls: bool) -> dict[str, Node]:
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[0] == "vars":
            continue
        place, _, more = fields[1].partition("@")
        address, _, port = place.rpartition(":")
        # Redis 7.2 and later write the plain port first, and that of TLS behind.
        tls_port = re.search(r"\btls-port=(\d+)", more) if tls else None
        found[fields[0]] = Node(
            ident=fields[0],
            address=address,
            port=int(tls_port[1] if tls_port and tls_port[1] != "0" else port),
            flags=frozenset(fields[2].split(",")),
            master=fields[3],
            epoch=int(fields[6]),
            slots=frozenset(slot for word in fields[8:] if word[0] != "[" for slot in _span(word)),
        )
    return found


def _span(word: str) -> range:
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


def myself(nodes: Mapping[str, Node]) -> Node:
    return next(node for node in nodes.values() if "myself" in node.flags)


def replaced(me: Node, answer: Answer) -> bool:
    """Whether others have our slots since. A peer that was away may still know the time before us: epochs tell."""
    mine = answer.nodes.get(me.ident)
    if mine and mine.slots & me.slots:
        return False
    return any(node.epoch > me.epoch and node.slots & me.slots for node in answer.nodes.values())


def replicas_of(me: Node, known: Mapping[str, Node], answers: Mapping[str, Answer]) -> dict[str, Node]:
    """Ours by our own nodes.conf or by any peer's word, without those who say themselves that they are not."""
    ours: dict[str, Node] = {}
    for view in [known, *(answer.nodes for answer in answers.values())]:
        for node in view.values():
            # A peer that found a stranger at its address has none for it any more.
            if node.master == me.ident and (node.port or node.ident not in ours):
                ours[node.ident] = node
    return {i: n for i, n in ours.items() if i not in answers or myself(answers[i].nodes).master == me.ident}


def reasons_to_wait(
    me: Node,
    known: Mapping[str, Node],
    answers: Mapping[str, Answer],
    silent: Mapping[str, str],
    *,
    snapshot: bool,
) -> list[str]:
    """Why the master must not start now: one reason for each replica; empty when it may.

    known: nodes.conf. silent: who did not answer, and why. snapshot: whether this start would load a snapshot.
    """
    if any(replaced(me, answer) for answer in answers.values()):
        return []
    reasons = []
    for ident, node in sorted(replicas_of(me, known, answers).items(), key=lambda item: item[1].name):
        if ident not in answers:
            reasons.append(f"its replica {node.name} cannot be asked ({silent.get(ident, 'not asked yet')})")
            continue
        info, keys = answers[ident].info, answers[ident].keys
        if info.get("loading") != "0":
            reasons.append(f"its replica {node.name} is still loading its data")
        elif keys:
            # -1, and no such line while the link is up: how long it has been down. A replica that was started again
            # and has not met its master since says -1, whatever it loaded: its data are of no known age.
            followed = info.get("master_link_down_since_seconds", "0") != "-1"
            newer = (
                "and followed it to the end"
                if followed
                else "and keeps an AOF"
                if info.get("aof_enabled") == "1"
                else "and this master has nothing on its disk"
                if not snapshot
                else ""
            )
            if newer:
                reasons.append(f"its replica {node.name} holds {keys} keys {newer}")
    return reasons


# --- The effective configuration -------------------------------------------------------------------------------------


def read_conf(*texts: str) -> dict[str, list[str]]:
    """Directive → its words. Later texts and lines win."""
    found = {}
    for line in "\n".join(texts).splitlines():
        words = split(line)
        if words and not words[0].startswith("#"):
            found[words[0].lower()] = words[1:]
    return found


def split(line: str) -> list[str]:
    r"""As Redis splits a line: "a \"b\" \x0a", 'a b' and plain words."""
    words = re.findall(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\S+))""", line)
    return [unescape(double) or single.replace("\\'", "'") or plain for double, single, plain in words]


def unescape(text: str) -> str:
    named = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes.fromhex(code[1:].decode()) if len(code) == 3 else named.get(code, code)

    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", one, text.encode()).decode()


# --- Asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """How nodes log in to each other."""

    login: Sequence[str]  # words of AUTH; none where there is no password
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, conf: Mapping[str, Sequence[str]]) -> Access:
        def word(*names: str) -> str | None:
            return next((conf[name][0] for name in names if conf.get(name)), None)

        login = [text for text in (word("masteruser"), word("masterauth")) if text]
        if word("tls-cluster") != "yes":
            return cls(login, None)
        context = ssl.create_default_context(cafile=word("tls-ca-cert-file"), capath=word("tls-ca-cert-dir"))
        context.check_hostname = False  # as between the nodes themselves
        certificate, key = word("tls-client-cert-file", "tls-cert-file"), word("tls-client-key-file", "tls-key-file")
        if certificate:
            context.load_cert_chain(certificate, key, word("tls-client-key-file-pass", "tls-key-file-pass"))
        return cls(login, context)


def ask(node: Node, access: Access) -> Answer:
    """Raises Unanswered."""
    try:
        with socket.create_connection((node.address, node.port), ANSWER_WITHIN) as connection:
            secured = access.tls.wrap_socket(connection) if access.tls else connection
            with secured.makefile("rwb") as stream:
                if access.login:
                    # A node that has no password yet refuses this and answers all the same.
                    _send(stream, "AUTH", *access.login)
                    stream.readline()
                nodes = read_nodes(_call(stream, "CLUSTER", "NODES"), tls=access.tls is not None)
                there = nodes.get(node.ident)
                if there is None or "myself" not in there.flags:
                    raise Unanswered("another node answers there")
                lines = (line.partition(":") for line in _call(stream, "INFO").splitlines())
                info = {name: text for name, _, text in lines}
    except (OSError, ValueError) as error:
        raise Unanswered(getattr(error, "strerror", None) or str(error)) from None
    return Answer(nodes, info)


def _send(stream: BufferedRWPair, *words: str) -> None:
    parts = [word.encode() for word in words]
    stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    stream.flush()


def _call(stream: BufferedRWPair, *words: str) -> str:
    """The text that answers a command. Raises Unanswered."""
    _send(stream, *words)
    head = stream.readline().decode(errors="replace").strip()
    if not head.startswith("$"):
        raise Unanswered(f"{' '.join(words)}: {head[1:] or 'the connection was closed'}")
    return stream.read(int(head[1:]) + 2).decode(errors="replace")


def ask_all(nodes: Sequence[Node], access: Access) -> tuple[dict[str, Answer], dict[str, str]]:
    """What they say, and why the others do not, by node id."""
    answers, silent = {}, {}

    def one(node: Node) -> None:
        try:
            answers[node.ident] = ask(node, access)
        except Unanswered as why:
            silent[node.ident] = str(why)

    with ThreadPoolExecutor(max_workers=len(nodes) or 1) as pool:
        list(pool.map(one, nodes))
    return answers, silent


def whom(me: Node, known: Mapping[str, Node], answers: Mapping[str, Answer]) -> list[Node]:
    """All our replicas, and some others, the healthy ones first."""
    ours = replicas_of(me, known, answers)
    others = [node for node in known.values() if node.ident not in {*ours, me.ident}]
    others.sort(key=lambda node: (bool(node.flags & {"fail", "fail?", "noaddr", "handshake"}), node.ident))
    return [*ours.values(), *others[:OTHERS]]


def main(data: Path, conf_file: Path, seconds: float) -> int:
    conf = read_conf((data / "rewrite.conf").read_text(), conf_file.read_text())
    access = Access.of(conf)
    known = read_nodes((data / "nodes.conf").read_text(), tls=access.tls is not None)
    me = myself(known)
    dump = data / conf.get("dbfilename", ["dump.rdb"])[0]
    snapshot = conf.get("appendonly", ["no"])[0].lower() != "yes" and dump.exists() and dump.stat().st_size > 0
    deadline = time.monotonic() + seconds
    answers: dict[str, Answer] = {}
    said = ""
    while True:
        answers, silent = ask_all(whom(me, known, answers), access)
        why = ", and ".join(reasons_to_wait(me, known, answers, silent, snapshot=snapshot))
        if not why:
            return 0
        if time.monotonic() > deadline:
            break
        if why != said:
            print(
                f"waits, at most {seconds:g} s: this master has no AOF to load, and {why}.", file=sys.stderr, flush=True
            )
            said = why
        time.sleep(POLL)
    print(
        f"refused to start: this master has no AOF to load, and {why}. Its replicas would copy what it lacks. "
        "A replica takes over by itself while a majority of masters is up, and this node may then start and joins it. "
        "Else send the replica CLUSTER FAILOVER TAKEOVER, or give its keys up: "
        f"`touch {data}/start-empty` permits one start.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
