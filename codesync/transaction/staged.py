"""A file on its way in: it counts and hashes what is written and closes only over exactly what was announced."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

from .errors import TransactionError, VerificationError, failed, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .change import Change


class StagedFile(io.BufferedIOBase):
    """Write-only. `done(True)` is called after a good close, `done(False)` when the file is given up."""

    def __init__(self, fd: int, change: Change, done: Callable[[bool], None]) -> None:
        super().__init__()
        self._file = os.fdopen(fd, "wb")
        self._change = change
        self._done = done
        self._size = 0
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        """Yes; it can neither be read nor sought."""
        return True

    def write(self, data: Any) -> int:
        """Take all of `data`; VerificationError as soon as it is more than announced, TransactionError when it cannot be stored."""
        if self.closed:
            raise ValueError("write to a staged file that is closed")
        count = memoryview(data).nbytes
        self._size += count
        if self._size > self._change.size:
            raise self._false(f"more than the {self._change.size} bytes announced came")
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise failed(self._change.path, "staged", error) from error
        return count

    def close(self) -> None:
        """Verify size and digest; VerificationError, and the file is gone, when they are not the change's."""
        if self.closed:
            return
        try:
            self._file.close()
            self._verify()
        except OSError as error:
            self.abandon()
            raise failed(self._change.path, "staged", error) from error
        except TransactionError:
            self.abandon()
            raise
        super().close()
        self._done(True)

    def abandon(self) -> None:
        """Give the file up without a word; harmless after close."""
        if self.closed:
            return
        super().close()
        try:
            self._file.close()
        except OSError:
            pass  # its buffer has no place to go, and need not
        self._done(False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or after an error abandon: what failed is not verified."""
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        """Forgotten is given up."""
        if hasattr(self, "_hash"):
            self.abandon()

    def _verify(self) -> None:
        if self._size != self._change.size:
            raise self._false(f"{self._size} bytes came, {self._change.size} were announced")
        if self._hash.hexdigest() != self._change.digest:
            raise self._false("its SHA-256 is not the announced one")

    def _false(self, what: str) -> TransactionError:
        path = self._change.path
        return VerificationError(f"{shown(path)} was altered on its way: {what}; send it again", path)
