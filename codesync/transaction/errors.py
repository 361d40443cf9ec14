"""What can go wrong in a transaction. Every message is one line, names the path and says what to do next.

    TransactionError            the base; `.path` is the path in question, or None
     ├─ UnsafePath              a path that leaves the root, or would be followed through a symlink
     ├─ Busy                    somebody else's live transaction holds the root: wait, or stop it
     ├─ Unfinished              a transaction was interrupted here: call `recover` first
     ├─ VerificationError       staged bytes are not the announced ones (size or SHA-256)
     └─ NotEmpty                a directory must give way but holds content nobody knows; `.children` names some

When one of them leaves `Transaction.rename`, the tree is what it was before.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN = 200  # bytes of a path in a message; the attribute has all of it
_REASONS = {
    errno.EPERM: "operation not permitted (is it immutable, or another user's?)",
    errno.EBUSY: "it is busy (a mount point?); unmount it or leave it out",
    errno.EXDEV: "it is on another filesystem (below a mount point?); leave it out",
    errno.ENOSPC: "no space left on the device; make room and try again",
    errno.EROFS: "the filesystem is read-only; mount it writable",
}


def shown(path: bytes) -> str:
    """A path as a message prints it: on one line, without control characters, never endless."""
    if len(path) > _SHOWN:
        path = path[: _SHOWN // 2] + b"..." + path[-_SHOWN // 2 :]
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text) or "."


class TransactionError(Exception):
    """Nothing is half done when this arrives, unless the message says so."""

    def __init__(self, message: str, path: bytes | None = None) -> None:
        super().__init__(message)
        self.path = path


class UnsafePath(TransactionError):
    """A path that is absolute, has an empty, `.` or `..` component or NUL, or leads through a symlink."""


class Busy(TransactionError):
    """The lock of a staging directory in this root is held by a living process."""


class Unfinished(TransactionError):
    """An interrupted transaction's journal is in this root."""


class VerificationError(TransactionError):
    """The bytes that came are not the bytes that were announced."""


class NotEmpty(TransactionError):
    """`.path` must become a file or symlink; `.children` are paths (some of them) that stand in its way."""

    def __init__(self, path: bytes, children: Sequence[bytes]) -> None:
        names = ", ".join(map(shown, children)) or "something new"
        super().__init__(
            f"{shown(path)} must give way but holds unknown content: {names}; move it away or delete it", path
        )
        self.children = tuple(children)


GONE = (FileNotFoundError, NotADirectoryError, UnsafePath)  # nothing of the tree is at the path


def failed(path: bytes, doing: str, error: OSError) -> TransactionError:
    """The operating system's refusal, in words that name the path."""
    reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)
    return TransactionError(f"{shown(path)} cannot be {doing}: {reason}", path)


@contextlib.contextmanager
def explained(path: bytes, doing: str) -> Iterator[None]:
    """Whatever the operating system refuses inside becomes a TransactionError."""
    try:
        yield
    except OSError as error:
        raise failed(path, doing, error) from error
