"""Whether this is a soak (`make soak`): then tests try all that they can; otherwise what fits into 15 minutes."""

from __future__ import annotations

import os

SOAK = os.environ.get("SLOTWRIGHT_SOAK") == "1"
