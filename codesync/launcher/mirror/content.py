"""The content of one file, copied: no more than it had when it was looked at, and its holes stay holes.

This file knows descriptors only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = (
    64 * 1024
)  # bytes; up to here one read and one write are the quickest copy, and holes are not looked for
CHUNK = 1024 * 1024
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK = 4096
_FICLONE = 0x40049409
_REFUSED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM)


def room_for(found: os.stat_result) -> int:
    """About how many bytes a copy of that file takes."""
    whole = -(-found.st_size // BLOCK) * BLOCK
    return whole if found.st_size <= SMALL else min(whole, found.st_blocks * 512)


def copy_content(source: int, target: int, size: int, check: Callable[[], None]) -> None:
    """Copy at most `size` bytes, however the file grows, to one that is empty; `check` is called for each CHUNK."""
    if size <= SMALL:
        _write(target, os.read(source, size), 0)
        return
    if not _clone(source, target):
        for start, end in _extents(source, size):
            for offset in range(start, end, CHUNK):
                check()
                _copy_range(source, target, offset, min(end, offset + CHUNK))
    os.ftruncate(target, min(size, os.fstat(source).st_size))  # also for the hole that it may end with


def _clone(source: int, target: int) -> bool:
    """Share the blocks until one of both is written, where the file system can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Where there is data, start and end: all of it where the file system does not tell."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            if error.errno not in _REFUSED:
                raise
            start, end = end, size
        yield start, end


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    """Let the system copy, and do what it does not."""
    try:
        while start < end:
            copied = os.copy_file_range(source, target, end - start, start, start)
            if not copied:
                break  # the file has shrunk; or a system says 0 for what it cannot copy
            start += copied
    except AttributeError:  # an old C library
        pass
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    while start < end and (data := os.pread(source, end - start, start)):
        _write(target, data, start)
        start += len(data)


def _write(target: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written


def is_same_content(one: int, other: int, check: Callable[[], None]) -> bool:
    """Whether two files hold the same bytes; `check` is called for each CHUNK."""
    offset, data = 0, b"x"
    while data:
        check()
        data = os.pread(one, CHUNK, offset)
        if data != os.pread(other, CHUNK, offset):
            return False
        offset += len(data)
    return True


def copy_attributes(found: os.stat_result, target: int) -> None:
    """Permissions and times of a file; never setuid and the like."""
    os.fchmod(target, stat.S_IMODE(found.st_mode) & 0o777)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
