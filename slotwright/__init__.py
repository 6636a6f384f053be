"""Slotwright: Redis Cluster on your own machines, with Ansible."""

from __future__ import annotations
