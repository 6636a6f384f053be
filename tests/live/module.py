"""A module as Ansible calls it, but for its packing: python -m tests.live.module modules/NAME.py, its arguments as JSON
on standard input. Imported, it only lets modules find what is in plugins/module_utils, where Ansible itself does that.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).parents[2] / "plugins/module_utils"))

if __name__ == "__main__":
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
