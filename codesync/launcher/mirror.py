"""One directory made equal to another, by touching only what differs: a copy, and later its refresh.

No file is shared, so that what is written to one in place never reaches the other. Everything is reached through directory
descriptors, and no component of a path is followed through a symlink.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.changes import Cancelled
from codesync.launcher.image import mounts_below
from codesync.launcher.records import MARK
from codesync.transaction import Root, TransactionError, is_staging
from codesync.transaction.attributes import chmod_at

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection

    Found = dict[str, os.stat_result]

CACHE = "__pycache__"
OWN_MODE = 0o700
SMALL = 64 * 1024  # bytes; up to here one read and one write are the quickest copy
CHUNK = 1024 * 1024
TICK_NS = 20_000_000  # the clock that stamps files goes by ticks of up to 10 ms
_COMPARED = 0o170777  # kind and permissions
_FICLONE = 0x40049409
_REFUSED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM)
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BYTECODE = re.compile(r"\.pyc(\.[0-9]+)?\Z")


def mirror(
    source: str | bytes, target: str, cancelled: threading.Event, skip: Collection[tuple[int, int]] = ()
) -> list[bytes]:
    """Make the directory `target` equal to `source`: files, directories, symlinks, permissions, mtimes; no owners.

    Left out: the launcher's mark and staging directories, directories whose device and inode are in `skip`, special files;
    and what cannot be read, whose paths are returned. For what is mounted inside there is a symlink to it. A `__pycache__`
    that `target` has stays as it is, but for the bytecode of files that are replaced or deleted.
    Raises OSError, TransactionError, Cancelled; a later call goes on from there.
    """
    with suppress(FileExistsError):
        os.mkdir(target, OWN_MODE)
    with Root(source) as origin, Root(target) as copy:
        return _Mirror(origin, copy, cancelled, skip).run()


class _Mirror:
    def __init__(
        self, origin: Root, copy: Root, cancelled: threading.Event, skip: Collection[tuple[int, int]]
    ) -> None:
        self._origin = origin
        self._copy = copy
        self._cancelled = cancelled
        here = os.fstat(copy.fd)
        self._skip = frozenset(((here.st_dev, here.st_ino), *skip))
        self._mounts = mounts_below(origin)
        self._left_out: list[bytes] = []
        self._pending: list[bytes] = [b""]

    def run(self) -> list[bytes]:
        while self._pending:
            self._directory(self._pending.pop())
        return sorted(self._left_out)

    def _directory(self, path: bytes) -> None:
        """One directory, without what is below its subdirectories; those are pending then."""
        source = self._enter(path)
        if source < 0:
            return
        try:
            target = self._open_copy(path)
            try:
                _Pair(self, path, source, target).make_equal()
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _enter(self, path: bytes) -> int:
        try:
            return self._origin.open_directory(path)
        except (PermissionError, FileNotFoundError, NotADirectoryError, TransactionError):
            if not path:
                raise
        self.leave_out(path)  # and its copy, which is empty if it was made just now
        directory, name = self._copy.parent(path)
        remove(directory, os.fsdecode(name))
        return -1

    def _open_copy(self, path: bytes) -> int:
        try:
            return self._copy.open_directory(path)
        except PermissionError:
            directory, name = self._copy.parent(path)
            chmod_at(directory, name, OWN_MODE)
            return self._copy.open_directory(path)

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def leave_out(self, path: bytes) -> None:
        self._left_out.append(path)

    def descend(self, path: bytes) -> None:
        self._pending.append(path)

    def mount_at(self, path: bytes) -> str | None:
        """Where the copy has to point to when something is mounted at the path."""
        return os.path.join(self._origin.path, os.fsdecode(path)) if path in self._mounts else None

    def is_skipped(self, found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) in self._skip


class _Pair:
    """One directory and its copy, both open."""

    def __init__(self, mirror: _Mirror, path: bytes, source: int, target: int) -> None:
        self._mirror = mirror
        self._prefix = path + b"/" if path else b""
        self._source = source
        self._target = target
        self._writable = False

    def make_equal(self) -> None:
        self._mirror.check()
        wanted, there = _list(self._source), _list(self._target)
        for name in there.keys() - wanted.keys():
            if name != CACHE or not stat.S_ISDIR(there[name].st_mode):
                self._drop(name)
        for name, found in wanted.items():
            old = there.get(name)
            if old is not None and _is_same(found, old):
                continue  # nearly all, nearly always
            if not self._make(name, found, old) and old is not None:
                self._drop(name)
        self._finish()

    def _make(self, name: str, found: os.stat_result, old: os.stat_result | None) -> bool:
        """Make one name equal; False when it is left out."""
        path = self._prefix + os.fsencode(name)
        kind = stat.S_IFMT(found.st_mode)
        if self._is_ours(name) or self._mirror.is_skipped(found):
            return False
        mount = self._mirror.mount_at(path)
        if mount is not None:
            return self._make_link(name, found, old, mount)
        if kind == stat.S_IFDIR:
            return self._make_directory(name, path, old)
        if kind == stat.S_IFREG:
            return self._make_file(name, path, old)
        return kind == stat.S_IFLNK and self._make_link(
            name, found, old, os.readlink(name, dir_fd=self._source)
        )

    def _is_ours(self, name: str) -> bool:
        if self._prefix or not name.startswith(".codesync-"):
            return False
        return name == os.fsdecode(MARK) or is_staging(self._source, os.fsencode(name))

    def _make_directory(self, name: str, path: bytes, old: os.stat_result | None) -> bool:
        if old is None or not stat.S_ISDIR(old.st_mode):
            self._give_way(name, old)
            os.mkdir(name, OWN_MODE, dir_fd=self._target)
        elif name == CACHE:
            return True
        self._mirror.descend(path)
        return True

    def _make_link(self, name: str, found: os.stat_result, old: os.stat_result | None, to: str) -> bool:
        same = old is not None and stat.S_ISLNK(old.st_mode) and old.st_mtime_ns == found.st_mtime_ns
        if same and os.readlink(name, dir_fd=self._target) == to:
            return True
        self._give_way(name, old)
        os.symlink(to, name, dir_fd=self._target)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self._target, follow_symlinks=False)
        return True

    def _make_file(self, name: str, path: bytes, old: os.stat_result | None) -> bool:
        try:
            source = os.open(name, _READ, dir_fd=self._source)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise
            self._mirror.leave_out(path)
            return False
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):  # exchanged meanwhile
                self._mirror.leave_out(path)
                return False
            self._give_way(name, old)
            self._copy(source, name, found)
        finally:
            os.close(source)
        return True

    def _copy(self, source: int, name: str, found: os.stat_result) -> None:
        target = os.open(name, _NEW, 0o600, dir_fd=self._target)
        try:
            if found.st_size <= SMALL or not (_clone(source, target) or self._copy_range(source, target)):
                while data := os.read(source, CHUNK):
                    _write(target, data)
                    self._mirror.check()
            os.fchmod(target, stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(target)

    def _copy_range(self, source: int, target: int) -> bool:
        """Let the system copy; False where it does not, or not all: then reading goes on where it has ended."""
        try:
            while os.copy_file_range(source, target, CHUNK * 64):
                self._mirror.check()
        except AttributeError:  # an old C library
            pass
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        return False  # nothing is left to be read, unless a system says 0 for what it cannot copy

    def _give_way(self, name: str, old: os.stat_result | None) -> None:
        """Make room for something new of that name."""
        if old is not None or name.endswith(".py"):  # whose bytecode may have outlived it
            self._drop(name)
        self._make_writable()

    def _drop(self, name: str) -> None:
        self._make_writable()
        remove(self._target, name)
        if name.endswith(".py"):
            self._drop_bytecode(name[:-2])

    def _drop_bytecode(self, start: str) -> None:
        """Bytecode is believed by size and second: what was compiled from another file must not be there for this one."""
        try:
            cache = os.open(CACHE, _LIST, dir_fd=self._target)
        except OSError:
            return
        try:
            for name in os.listdir(cache):
                if name.startswith(start) and _BYTECODE.search(name):
                    os.unlink(name, dir_fd=cache)
        finally:
            os.close(cache)

    def _make_writable(self) -> None:
        if not self._writable:
            self._writable = True
            os.fchmod(self._target, OWN_MODE)

    def _finish(self) -> None:
        """The directory's own mode and mtime, now that nothing in it changes any more."""
        wanted, found = os.fstat(self._source), os.fstat(self._target)
        mode = stat.S_IMODE(wanted.st_mode) & 0o777
        if not self._prefix:
            mode = OWN_MODE
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(self._target, mode)
        if found.st_mtime_ns != wanted.st_mtime_ns:
            os.utime(self._target, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))


def _list(directory: int) -> Found:
    with os.scandir(directory) as items:
        found = {}
        for item in items:
            with suppress(FileNotFoundError):  # gone meanwhile
                found[item.name] = item.stat(follow_symlinks=False)
        return found


def _is_same(found: os.stat_result, old: os.stat_result) -> bool:
    """Whether this is a file and the other its copy, made after the file last changed.

    Not every file with a new content has a new mtime: archives and pushes bring the mtime along, and of one second's
    edits the sizes may be equal. The ctime of what is renamed into place is new in any case.
    """
    return (
        found.st_mtime_ns == old.st_mtime_ns
        and found.st_size == old.st_size
        and found.st_mode & _COMPARED == old.st_mode & _COMPARED
        and found.st_ctime_ns < old.st_ctime_ns - TICK_NS
        and stat.S_ISREG(found.st_mode)
    )


def _clone(source: int, target: int) -> bool:
    """Share the blocks until one of both is written, where the file system can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def remove(directory: int, name: str) -> None:
    """Remove a name and all below it. Directories are first pulled up, so depth costs neither stack nor descriptors."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    pending = [name]
    while pending:
        doomed = pending.pop()
        chmod_at(directory, os.fsencode(doomed), OWN_MODE)
        inner = os.open(doomed, _LIST, dir_fd=directory)
        try:
            pending.extend(_empty(inner, directory))
        finally:
            os.close(inner)
        os.rmdir(doomed, dir_fd=directory)


def _empty(inner: int, outer: int) -> list[str]:
    """Unlink the files in one directory and move its subdirectories into another: their new names."""
    moved = []
    for name, found in _list(inner).items():
        if stat.S_ISDIR(found.st_mode):
            chmod_at(inner, os.fsencode(name), OWN_MODE)  # only who may write a directory may move it
            moved.append(f".doomed-{os.urandom(8).hex()}")
            os.rename(name, moved[-1], src_dir_fd=inner, dst_dir_fd=outer)
        else:
            os.unlink(name, dir_fd=inner)
    return moved
