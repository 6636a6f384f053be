"""Starts the module, and shows how far it has come while it runs."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from slotwright.live import live


class ActionModule(ActionBase):
    """Options: see the module of the same name. Only on the controller itself a file tells how far it has come."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._connection.transport != "local" or self._task.check_mode:
            result |= self._execute_module(task_vars=task_vars)
            return result
        with live(self._display.display, f"  {self._task.args.get('name', '')}: ") as progress:
            options = self._task.args | {"progress": progress}
            result |= self._execute_module(module_args=options, task_vars=task_vars)
        return result
