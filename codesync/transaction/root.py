"""A directory tree reached only through descriptors: no component of a path is ever followed through a symlink.

Paths are walked component by component, so they may be longer than PATH_MAX. The last directory stays open; before
it is used again one lstat proves that its path still leads to it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, BinaryIO

from .change import check_path
from .errors import UnsafePath, shown

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self  # novm: only for the type checker

MAGIC = b"codesync staging 1\n"  # content of the file `magic` in a staging directory
STAGING_NAME = re.compile(rb"\.codesync-[0-9a-f]{16}\Z")
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH asks for no read permission on a directory that is only passed through
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def names_in(directory: int) -> list[bytes]:
    """The names in an open directory, as bytes."""
    return [os.fsencode(name) for name in os.listdir(directory)]


def is_staging(dir_fd: int, name: bytes) -> bool:
    """Whether `name` in the directory is a staging directory: the name's pattern and the magic file, both."""
    if not STAGING_NAME.match(name):
        return False
    try:
        directory = os.open(name, _PASS, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        return _has_magic(directory)
    except OSError:
        return False
    finally:
        os.close(directory)


def _has_magic(directory: int) -> bool:
    magic = os.open(b"magic", _READ, dir_fd=directory)
    try:
        return stat.S_ISREG(os.fstat(magic).st_mode) and os.read(magic, len(MAGIC) + 1) == MAGIC
    finally:
        os.close(magic)


class Root:
    """The tree below `path` (which itself may be reached through symlinks).

    Every method takes paths relative to the root, b"" being the root where that makes sense. They raise UnsafePath for
    a bad path or a symlink on the way, else the OSError the system gives (FileNotFoundError, NotADirectoryError, ...).
    """

    def __init__(self, path: str | bytes, _fd: int | None = None) -> None:
        self.path = os.path.abspath(os.fsdecode(path))
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if _fd is None else _fd
        self._near = b""  # the directory of the cached descriptor
        self._near_fd = -1
        self._near_id = (0, 0)

    def twin(self) -> Root:
        """The same tree with descriptors of its own, for another thread or another lifetime."""
        return Root(self.path, os.open(b".", _LIST, dir_fd=self.fd))

    def close(self) -> None:
        """Close the descriptors; harmless when repeated."""
        self._forget()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lstat(self, path: bytes) -> os.stat_result:
        """What is at the path, a symlink itself rather than its target."""
        if not path:
            return os.fstat(self.fd)
        directory, name = self.parent(path)
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    def open(self, path: bytes) -> BinaryIO:
        """A regular file, for reading; UnsafePath for anything else, which is not read from and never blocks."""
        directory, name = self.parent(path)
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _not_regular(path) from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _not_regular(path)
        return os.fdopen(fd, "rb")

    def readlink(self, path: bytes) -> bytes:
        """A symlink's target; OSError (EINVAL) when it is none."""
        directory, name = self.parent(path)
        return os.readlink(name, dir_fd=directory)

    def scandir(self, path: bytes = b"") -> list[bytes]:
        """The names in a directory, sorted, staging directories left out."""
        fd = self.open_directory(path)
        try:
            return sorted(name for name in names_in(fd) if not is_staging(fd, name))
        finally:
            os.close(fd)

    def open_directory(self, path: bytes) -> int:
        """A new descriptor of a directory, which the caller closes."""
        if not path:
            return os.open(b".", _LIST, dir_fd=self.fd)
        directory, name = self.parent(path)
        return self._enter(directory, name, path, _LIST)

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """The directory a path is in (a descriptor on loan until the next call) and its name there."""
        check_path(path)
        directory, _, name = path.rpartition(b"/")
        return self._directory(directory), name

    def _directory(self, path: bytes) -> int:
        if not path:
            return self.fd
        if self._near_fd < 0 or not (path + b"/").startswith(self._near + b"/") or not self._still_there():
            self._forget()
            fd = self._descend(self.fd, path, path)
        elif path == self._near:
            return self._near_fd
        else:
            fd = self._descend(self._near_fd, path[len(self._near) + 1 :], path)
            self._forget()
        status = os.fstat(fd)
        self._near, self._near_fd, self._near_id = path, fd, (status.st_dev, status.st_ino)
        return fd

    def _still_there(self) -> bool:
        try:
            status = os.stat(self._near, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._near_id

    def _descend(self, start: int, rest: bytes, path: bytes) -> int:
        fd = start
        for name in rest.split(b"/"):
            try:
                deeper = self._enter(fd, name, path, _PASS)
            finally:
                if fd != start:
                    os.close(fd)
            fd = deeper
        return fd

    @staticmethod
    def _enter(directory: int, name: bytes, path: bytes, flags: int) -> int:
        try:
            return os.open(name, flags, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            if not stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                raise
            raise UnsafePath(f"{shown(path)} leads through a symlink; it is not followed", path) from None

    def _forget(self) -> None:
        if self._near_fd >= 0:
            os.close(self._near_fd)
            self._near_fd = -1


def _not_regular(path: bytes) -> UnsafePath:
    return UnsafePath(f"{shown(path)} is not a regular file; it is not opened", path)
