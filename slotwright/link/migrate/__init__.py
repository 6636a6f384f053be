"""The engine of slot moves.

resume: what comes next for a slot, from what its two nodes say (pure). wire: a raw connection. carry: keys by MIGRATE.
pair: slots from one node to another, window by window. atomic: the same, done by the servers themselves. crew: who
works on which pair at a time. limits, pacer: how hard they may press the nodes. board, progress: what the pairs share,
and how far it is. before: what is seen to first. engine: all pairs of a move.
"""

from slotwright.link.migrate.board import FailedOver
from slotwright.link.migrate.engine import Paused, move
from slotwright.link.migrate.limits import Control, Limits
from slotwright.link.migrate.progress import Progress

__all__ = ["Control", "FailedOver", "Limits", "Paused", "Progress", "move"]
