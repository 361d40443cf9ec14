"""What a file holds and where a link points to, each at one moment: reading that something else disturbs is no answer."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

from codesync.delta.manifest.looks import is_settled

_CHUNK = 256 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def read_file(directory: int, name: bytes) -> tuple[os.stat_result, bytes, bool] | None:
    """A file's status and SHA-256, and whether any later write must change that status.

    None where it is no regular file any more, or was written to meanwhile. Nothing else is read from, or waited for.
    """
    moment = time.time_ns()
    try:
        file = os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return None
        raise
    try:
        before = os.fstat(file)
        digest = _digest(file, before.st_size) if stat.S_ISREG(before.st_mode) else None
        after = os.fstat(file)
    finally:
        os.close(file)
    if digest is None or _stamp(before) != _stamp(after):
        return None
    return after, digest, is_settled(after, moment)


def read_link(directory: int, name: bytes) -> bytes | None:
    """A symlink's target; None where it is none any more."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _digest(file: int, size: int) -> bytes | None:
    """SHA-256 of the first `size` bytes; None where there are fewer."""
    digest = hashlib.sha256()
    while size and (data := os.read(file, min(size, _CHUNK))):
        digest.update(data)
        size -= len(data)
    return None if size else digest.digest()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
