"""The client (client.py) and redis-py as one file, which a host can run that has nothing but Python."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import redis

CLIENT = Path(__file__).with_name("client.py")
# redis-py imports it with Python before 3.11.3, for its asyncio half, which the client does not use.
_ABSENT = "async_timeout"
_STANDIN = "def timeout(*_):\n    raise NotImplementedError\n"
_AS_OLD = (1980, 1, 1, 0, 0, 0)  # so that equal bundles are equal files


def write_bundle(path: Path) -> None:
    """Write the file, which is run by `python3 PATH`."""
    root = Path(redis.__file__).parent
    files = {f"redis/{file.relative_to(root)}": file.read_text() for file in sorted(root.rglob("*.py"))}
    spec = find_spec(_ABSENT)
    stand_in = Path(spec.origin).read_text() if spec and spec.origin else _STANDIN
    files |= {f"{_ABSENT}.py": stand_in, "__main__.py": CLIENT.read_text()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in files.items():
            bundle.writestr(zipfile.ZipInfo(name, _AS_OLD), text, zipfile.ZIP_DEFLATED)
