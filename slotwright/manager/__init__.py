"""One file per thing an operator does: what a module calls. Arguments in, a result for Ansible out."""

from __future__ import annotations
