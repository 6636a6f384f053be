"""python -m slotwright.report INVENTORY: the picture of every cluster of an inventory, in colour on a terminal."""

from __future__ import annotations

import sys

from rich.console import Console

from slotwright.errors import SlotwrightError
from slotwright.link.connect import Links
from slotwright.manager import info
from slotwright.manager.inventory import load
from slotwright.manager.request import complete, read_request
from slotwright.report.picture import WIDTH, picture


def main(source: str) -> None:
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDTH, highlight=False)
    for arguments in load(source):
        request = read_request(complete(arguments))
        with Links(request.topology.instances, request.access) as links:
            view = info.examine(request, links)
        console.print(picture(request.topology, view, info.findings(request, view)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except SlotwrightError as error:
        sys.exit(str(error))
