"""A result that is a file: it is there when it is whole, and not before; nothing is lost on the way.

It is written beside its place, under a name that begins with a dot, and put there at the end. An error or Ctrl-C leaves
neither a half file nor that one.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from stat import S_IMODE, S_ISREG
from typing import BinaryIO

from codesync.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PlaceError(UserError):
    """Something stands already where a result is to go."""


@contextmanager
def result(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` when the block has ended without an error; "-" is stdout.

    A file that is there is replaced only with `force`, and keeps its permissions; a device or a pipe is written to.
    """
    if path == "-":
        with _named("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    path = os.path.realpath(path)
    mode = _mode(path)
    if mode is not None and not S_ISREG(mode):
        with _named(path), open(path, "wb") as file:  # a directory refuses
            yield file
        return
    if mode is not None and not force:
        raise _there(path)
    directory, name = os.path.split(path)
    beside = os.path.join(directory, f".{name[:200]}.codesync-{os.urandom(4).hex()}")
    with _removed(beside), _named(path, beside):
        with open(beside, "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), S_IMODE(mode))
            yield file
            file.flush()
            if mode is not None:
                os.fsync(file.fileno())  # what is replaced must not be lost for something that is on no disk
        _put(beside, path, replace=mode is not None)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file to read; "-" is stdin."""
    if path == "-":
        yield sys.stdin.buffer
    else:
        with open(path, "rb") as file:
            yield file


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _there(path: str) -> PlaceError:
    return PlaceError(f"{path} is there already; --force replaces it")


def _put(beside: str, path: str, *, replace: bool) -> None:
    if not replace:
        try:
            os.link(beside, path)  # unlike a rename it replaces nothing that has come meanwhile
            return
        except FileExistsError as error:
            raise _there(path) from error
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise _there(path) from None
    os.rename(beside, path)


@contextmanager
def _removed(path: str) -> Iterator[None]:
    """Whatever happens, `path` is gone at the end."""
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


@contextmanager
def _named(path: str, beside: str = "") -> Iterator[None]:
    """A full disk says which file it was too small for, and no error names the file beside."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or error.filename == beside:
            error.filename, error.filename2 = path, None
        raise
