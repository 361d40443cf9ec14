"""`launcher.pyz`: launcher, supervise and transaction as one file that an image's own python3 runs.

The same sources give the same bytes, on any machine, at any time.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from codesync import __version__

PACKAGE = Path(__file__).parent
ROOMS = ("launcher", "supervise", "transaction")
SHEBANG = b"#!/usr/bin/env python3\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file knows
_MODE = 0o644 << 16


def build_pyz(out: str) -> None:
    """Write the archive to `out`, replacing it atomically, executable. Raises OSError."""
    draft = f"{out}.new"
    with open(draft, "wb") as file:
        file.write(SHEBANG)
        # stored, not compressed: zlib's versions differ in their bytes, and reading is faster
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in sorted(_contents()):
                info = zipfile.ZipInfo(name, _EPOCH)
                info.create_system = 3  # Unix, so that the mode below means something
                info.external_attr = _MODE
                archive.writestr(info, data)
        file.flush()
        os.fchmod(file.fileno(), 0o755)
        os.fsync(file.fileno())
    os.replace(draft, out)


def _contents() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", (PACKAGE / "launcher" / "__main__.py").read_bytes()
    yield "codesync/__init__.py", f'"""codesync\'s launcher."""\n\n__version__ = "{__version__}"\n'.encode()
    for room in ROOMS:
        for source in sorted((PACKAGE / room).rglob("*.py")):
            yield f"codesync/{source.relative_to(PACKAGE).as_posix()}", source.read_bytes()
