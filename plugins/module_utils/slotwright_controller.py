"""From a module that runs on the controller to its verb in slotwright.manager: the same way for all of them."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from ansible.module_utils.basic import AnsibleModule, missing_required_lib


def run_verb(verb: str) -> None:
    """Run slotwright.manager.<verb>. The module's arguments are those of every request, and ASKED of the verb."""
    try:
        request, run, manager = (import_module(f"slotwright.manager.{name}") for name in ("request", "run", verb))
    except ImportError as error:
        # The arguments are in the library that is missing, so that none can be checked.
        print(json.dumps({"failed": True, "msg": missing_required_lib("slotwright"), "exception": str(error)}))
        sys.exit(1)
    run.run(AnsibleModule({**request.ARGUMENTS, **manager.ASKED}, supports_check_mode=True), manager.main)
