"""What module redis_preflight does, for options from stdin, on whatever host this is started: python run_preflight.py.

Prints the result or the finding as JSON. Standard library only, as the module.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

for name, places in (
    ("ansible", []),
    ("ansible.module_utils", [str(Path(__file__).parents[2] / "plugins/module_utils")]),
):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = places

from ansible.module_utils.slotwright_files import HostError  # noqa: E402
from ansible.module_utils.slotwright_preflight import look  # noqa: E402
from ansible.module_utils.slotwright_reach import end, prove  # noqa: E402

given = json.load(sys.stdin)
try:
    print(json.dumps({"look": look, "prove": prove, "end": end}[given["phase"]](given)))
except HostError as error:
    print(json.dumps({"finding": error.finding}))
