"""Mode, owner and mtime of one path, never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .root import Root

_HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC


def set_mode(root: Root, path: bytes, mode: int) -> None:
    """Chmod; a symlink has no mode and is left alone."""
    if not path:
        os.fchmod(root.fd, mode)
        return
    directory, name = root.parent(path)
    chmod_at(directory, name, mode)


def chmod_at(directory: int, name: bytes, mode: int) -> None:
    """The same for a name in a directory. No chmod of Python's refuses symlinks on every system; this one meets none."""
    fd = os.open(name, _HOLD, dir_fd=directory)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            return
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        except (FileNotFoundError, PermissionError):  # no /proc here, or none for us
            os.chmod(name, mode, dir_fd=directory)
    finally:
        os.close(fd)


def set_mtime(root: Root, path: bytes, mtime_ns: int) -> None:
    """Set the mtime (and with it the atime), of a symlink itself."""
    if not path:
        os.utime(root.fd, ns=(mtime_ns, mtime_ns))
        return
    directory, name = root.parent(path)
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)


def set_owner(directory: int, name: bytes, uid: int, gid: int) -> None:
    """Chown as far as this user may: both, else the group, else nothing."""
    for owner in (uid, -1):
        try:
            os.chown(name, owner, gid, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (
                errno.EPERM,
                errno.EINVAL,
            ):  # EINVAL: an id this user namespace does not know
                raise
        else:
            return


@contextlib.contextmanager
def where_permitted() -> Iterator[None]:
    """For what belongs to somebody else: a refusal is no failure."""
    try:
        yield
    except PermissionError:
        return
