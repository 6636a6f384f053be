"""From an Ansible module to a verb and back: the only place that knows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slotwright.errors import SlotwrightError

Verb = Callable[[Mapping[str, Any], bool], dict[str, Any]]


def run(module: Any, verb: Verb) -> None:
    """Call verb(params, check_mode) and end the module with its result, or with the error's message and findings."""
    try:
        result = verb(module.params, module.check_mode)
    except SlotwrightError as error:
        notes = getattr(error, "__notes__", [])
        module.fail_json(msg="\n".join([str(error), *notes]), findings=[f.as_dict() for f in error.findings])
    else:
        module.exit_json(**result)
