"""Starts the module of the same name, and shows how far it has come while it runs."""

from __future__ import annotations

from slotwright.live import LiveAction


class ActionModule(LiveAction):
    """Options: see the module of the same name."""
