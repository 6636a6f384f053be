"""Adds the controller's clock to what a host says of its own, and lets no failure of one host stop the others."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Options: see module redis_preflight."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        before = time.time()
        try:
            result |= self._execute_module(task_vars=task_vars)
        except AnsibleConnectionFailure:
            raise  # Ansible's own word for it: unreachable
        except Exception as error:  # of any plugin that has a part in it: become, connection, shell
            return {"changed": False, "error": str(error).strip()[-500:] or type(error).__name__}
        after = time.time()
        if result.get("failed"):
            said = result.get("module_stderr") or result.get("msg")
            return {"changed": False, "error": str(said).strip()[-500:]}
        if "clock" in result:
            started, ended = result["clock"]
            result["clock"] = ahead(before, started, ended, after)
        return result


def ahead(before: float, started: float, ended: float, after: float) -> list[float]:
    """By how much a clock is ahead of ours, at least and at most, that said the middle two between the outer two."""
    return [ended - after, started - before]
