"""Filters of role redis_preflight: what to ask the hosts, and what their answers come to.

As in slotwright.py, the library is imported only where a filter is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from slotwright.errors import Refused


def slotwright_preflight(hosts: Sequence[str], hostvars: Mapping[str, Any], playing: Sequence[str]) -> dict[str, Any]:
    """What to ask them. playing: those of the hosts that this run includes."""
    from slotwright.manager.preflight import asked

    try:
        return asked(hosts, hostvars, playing)
    except Refused as refused:
        raise AnsibleFilterError(f"The inventory is refused, and no host was touched:\n{refused}") from None


def slotwright_preflight_verdict(hosts: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What they answered comes to. hosts: from what they were asked."""
    from slotwright.manager.preflight import verdict

    return verdict(hosts, hostvars)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "slotwright_preflight": slotwright_preflight,
            "slotwright_preflight_verdict": slotwright_preflight_verdict,
        }
