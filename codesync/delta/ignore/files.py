"""Reading the small files that hold rules: what is not there reads as None, what may not be read is an error."""

from __future__ import annotations

import errno
import os
import stat

from codesync.delta.errors import ScanError

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def read(
    name: str | bytes, directory: int | None = None, *, follow: bool = True, personal: bool = False
) -> bytes | None:
    """Content of the regular file `name`, relative to the open `directory`; None where there is none.

    `follow=False`: a symlink is none. `personal`: what may not be read is none either; in a container the home
    directory is often somebody else's.

    Raises:
        ScanError: it is there and cannot be read.
    """
    try:
        file = os.open(name, _FLAGS | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    except OSError as error:
        if error.errno in _ABSENT or (personal and error.errno == errno.EACCES):
            return None
        raise _unreadable(name, error) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        with open(file, "rb", closefd=False) as opened:
            return opened.read()
    except OSError as error:
        raise _unreadable(name, error) from error
    finally:
        os.close(file)


def open_directory(name: str | bytes, directory: int | None = None, *, follow: bool = True) -> int | None:
    """Descriptor of a directory, the caller closes it; None where there is none that may be opened."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(name, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    except OSError:
        return None


def _unreadable(name: str | bytes, error: OSError) -> ScanError:
    return ScanError(
        f"cannot read the ignore rules in {os.fsdecode(name)}: {error.strerror}; make it readable"
    )
