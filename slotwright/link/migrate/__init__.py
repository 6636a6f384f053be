"""The engine of slot moves.

resume: what comes next for a slot, from what its two nodes say (pure). wire: a raw connection. carry: keys by MIGRATE.
pair: slots from one node to another, window by window. board: what the pairs share. engine: all pairs of a move.
"""

from slotwright.link.migrate.board import Progress
from slotwright.link.migrate.engine import FailedOver, Limits, Paused, move

__all__ = ["FailedOver", "Limits", "Paused", "Progress", "move"]
