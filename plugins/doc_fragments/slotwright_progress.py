"""The option of long modules by which they tell how far they have come."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  progress:
    description:
      - Where the module writes how far it has come. The action plugin of the same name sets it, and shows what it reads
        there as lines; a playbook has no need of it.
    type: dict
    suboptions:
      path:
        description: File for a JSON object a line. When it is removed, the module pauses.
        type: path
        required: true
      pid:
        description: Process that reads it. When it is gone, the module pauses.
        type: int
"""
