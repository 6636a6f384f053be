"""Real nodes as a case of the corpus wants them: blank, or wrong in one way."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Mapping
from typing import Any

from tests.live.servers import PORT, Server, Servers, binary, make_cluster, wait_until


class Nodes:
    """The nodes of a case by name. Each has an address of its own, also where no Redis runs there.

    A node is described by: password, version, cluster (false: a plain Redis), keys (how many it holds), slots (how many
    it owns), hung (accepts, but does not answer), speaks (no Redis, but something that says this), clone_of (another
    process with that node's identity), same_as (another address of that node's process), cluster_of (a name: all
    nodes with it form a cluster of masters).
    """

    def __init__(self, servers: Servers, described: Mapping[str, Mapping[str, Any]]) -> None:
        self.addresses = {name: servers.address() for name in described}
        self.servers: dict[str, Server] = {}
        self._described = described
        self._listeners: list[socket.socket] = []
        for name, node in sorted(described.items(), key=lambda item: "clone_of" in item[1]):
            if "speaks" in node:
                self._listen(self.addresses[name], node["speaks"])
            elif "same_as" not in node:
                self.servers[name] = self._start(servers, name, node, described)
        for cluster in {node["cluster_of"] for node in described.values() if "cluster_of" in node}:
            members = [self.servers[name] for name, node in described.items() if node.get("cluster_of") == cluster]
            make_cluster(members, masters=len(members))

    @property
    def watchable(self) -> list[Server]:
        """The nodes whose commands can be watched: Redis 7.0 or later in cluster mode, and not hung."""
        return [
            self.servers[n]
            for n, node in self._described.items()
            if n in self.servers and not {"hung", "version", "cluster"} & node.keys()
        ]

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
            listener.close()

    def fill_in(self, text: str) -> str:
        """The text with @name@ as the address of that node."""
        for name, address in self.addresses.items():
            text = text.replace(f"@{name}@", address)
        return text

    def _start(
        self, servers: Servers, name: str, node: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]
    ) -> Server:
        address = self.addresses[name]
        twins = [self.addresses[other] for other, twin in described.items() if twin.get("same_as") == name]
        config: dict[str, Any] = {"bind": " ".join([address, *twins])}
        if "password" in node:
            config |= {"requirepass": node["password"], "masterauth": node["password"]}
        if "clone_of" in node:
            directory = servers.directory / f"{address}-{PORT}"
            directory.mkdir()
            shutil.copy(self.servers[node["clone_of"]].dir / "nodes.conf", directory)
        options = {"binary": binary(node["version"])} if "version" in node else {}
        server = servers.start(address, cluster=node.get("cluster", True), config=config, **options)
        if "slots" in node or "keys" in node:
            server.call("CLUSTER", "ADDSLOTS", *range(node.get("slots", 16384)))
        if "keys" in node:
            for key in range(node["keys"]):
                wait_until("the node takes keys", lambda key=key: server.call("SET", f"key-{key}", "value"))
            server.call("CLUSTER", "DELSLOTS", *range(16384))
        if node.get("hung"):
            server.pause()
        return server

    def _listen(self, address: str, text: str) -> None:
        listener = socket.create_server((address, PORT))
        self._listeners.append(listener)

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(text.encode())
                    connection.recv(1024)

        threading.Thread(target=greet, daemon=True).start()
