"""The pure core: what should be, what is, and the steps between. No I/O, no clock, no chance."""

from __future__ import annotations
