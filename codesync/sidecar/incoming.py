"""The batch that the proxy is sending: a file without a name on the volume, in memory while it is small."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from codesync.protocol import Stage

SPOOL_BYTES = 1024 * 1024  # what is more lies on disk


class Incoming:
    """What has come of the batch that `stage` has announced."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage = stage
        self._file = cast("BinaryIO", tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(directory)))
        self.size = 0  # bytes so far

    async def write(self, data: bytes) -> None:
        """The next piece. Raises OSError."""
        self.size += len(data)
        if self.size > SPOOL_BYTES:
            await asyncio.to_thread(self._file.write, data)
        else:
            self._file.write(data)

    def rewound(self) -> BinaryIO:
        """All of it, from the beginning. Raises OSError."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Forget it."""
        with suppress(OSError):  # what a full disk did not take is not wanted any more
            self._file.close()
