"""A result that is a file: it is there when it is whole, and not before; nothing is lost on the way.

It is written beside its place, under a name that begins with a dot, and put there at the end. An error or Ctrl-C leaves
neither a half file nor that one, and nor do SIGTERM and SIGHUP. Messages name a file as the user did.
"""

import errno
import fcntl
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from stat import S_IMODE, S_ISREG
from threading import current_thread, main_thread
from types import FrameType
from typing import BinaryIO, NoReturn, TextIO

from codesync.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class PlaceError(UserError):
    """Something stands already where a result is to go, or that is no name of a file."""


class Ended(BaseException):
    """The process was told to end by a signal, whose name is the message; `status` is what it shall exit with."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def endable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Ended` in the block, unless they are ignored or handled already."""
    taken = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)  # another one must not keep the first from cleaning up
        raise Ended(number)

    if current_thread() is not main_thread():
        taken = []
    try:
        for number in taken:
            signal.signal(number, end)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def is_stdout(path: str) -> bool:
    """Whether a result goes to stdout: "-", or another name of it."""
    return path in _STDOUT


@contextmanager
def result(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` when the block has ended without an error; "-" is stdout.

    A file that is there is replaced only with `force`, and keeps its permissions; a device or a pipe is written to.
    """
    if is_stdout(path):
        _check_open(sys.stdout, "stdout", os.O_RDONLY)
        with _named("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    mode = _mode(_nameable(path))
    if mode is not None and not S_ISREG(mode):
        with _named(path), open(path, "wb") as file:  # a directory refuses
            yield file
        return
    if mode is not None and not force:
        raise _there(path)
    place = os.path.realpath(path)  # a link stays one
    directory, name = os.path.split(place)
    beside = os.path.join(directory, f".{name[:200]}.codesync-{os.urandom(4).hex()}")
    with _removed(beside), _named(path, beside):
        with open(beside, "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), S_IMODE(mode))
            yield file
            file.flush()
            if mode is not None:
                os.fsync(file.fileno())  # what is replaced must not be lost for something that is on no disk
        if mode is None:
            _put(beside, place, path)
        else:
            os.rename(beside, place)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file to read; "-" is stdin."""
    if path == "-":
        _check_open(sys.stdin, "stdin", os.O_WRONLY)
        yield sys.stdin.buffer
    else:
        with open(_nameable(path), "rb") as file:
            yield file


def _check_open(stream: TextIO, name: str, closed: int) -> None:
    """OSError where the caller has closed a standard stream, and `run` has put one of this mode in its place."""
    with suppress(io.UnsupportedOperation):  # no descriptor: our caller reads what we print
        if fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), name)


def _nameable(path: str) -> str:
    if not path:
        raise PlaceError('"" is no name of a file')
    return path


def _mode(path: str) -> int | None:
    """The mode of what stands there; None for nothing. The path as it is given: not every link can be resolved."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        if path.endswith("/"):
            raise
        return None


def _there(path: str) -> PlaceError:
    return PlaceError(f"{path} is there already; --force replaces it")


def _put(beside: str, place: str, path: str) -> None:
    """Where nothing stood; `path` is what the user calls it."""
    try:
        os.link(beside, place)  # unlike a rename it replaces nothing that has come meanwhile
        return
    except FileExistsError as error:
        raise _there(path) from error
    except OSError:  # a file system without links
        if os.path.lexists(place):
            raise _there(path) from None
    os.rename(beside, place)


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
