"""Times that the nodes themselves go by."""

from __future__ import annotations

from slotwright.link.connect import LinkDown, Links

NODE_TIMEOUT = 15.0  # seconds; Redis's default, for a node that does not tell


def node_timeout(links: Links, *names: str) -> float:
    """The shortest cluster-node-timeout of these nodes, in seconds."""
    answers = links.ask({name: [("CONFIG", "GET", "cluster-node-timeout")] for name in names})
    told = [a[0][1] for a in answers.values() if not isinstance(a, LinkDown) and isinstance(a[0], list) and a[0]]
    return min((int(milliseconds) / 1000 for milliseconds in told), default=NODE_TIMEOUT)
