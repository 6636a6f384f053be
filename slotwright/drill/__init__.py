"""Failure drills: clients whose every write is in a ledger, an observer of all nodes, and what both have seen."""
