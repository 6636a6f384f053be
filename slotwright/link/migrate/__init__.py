"""The engine of slot moves.

resume: what comes next for a slot, from what its two nodes say (pure). wire: a raw connection. carry: keys by MIGRATE.
pair: slots from one node to another, window by window. board: what the pairs share. engine: all pairs of a move.
"""

from slotwright.link.migrate.engine import FailedOver, Paused, move
from slotwright.link.migrate.limits import Control, Limits
from slotwright.link.migrate.progress import Progress

__all__ = ["Control", "FailedOver", "Limits", "Paused", "Progress", "move"]
