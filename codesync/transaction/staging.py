"""One staging directory: its birth, its lock, its state, its end. Between any two system calls it can be recognised.

    .codesync-<16 hex>/
      magic       MAGIC; locked (flock) by the process the transaction belongs to
      n<i>        what change number i puts in place
      o<i>        what was at the path of change number i
      x<i>        what was in the way when it was undone
      journal     also before and after that, the same file under another name: the state is the name

    (none) ◀──▶ prepared ──▶ journal ──▶ renamed ──▶ kept    only `kept` and `undone` are ends: what is in the directory
                                └──▶ undoing ◀──┘            is not needed any more and goes; so it does up to
                                       └──▶ undone           `prepared`, since nothing of the tree has changed

Born with the sticky bit, which a directory gets atomically with its name, and dying with it: an empty one that has
it is ours too, though its magic file is not there yet or any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from .attributes import chmod_at
from .errors import Busy, UnsafePath
from .root import MAGIC, STAGING_NAME, Root, is_staging, names_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PREPARED, JOURNAL, RENAMED, KEPT = b"prepared", b"journal", b"renamed", b"kept"
UNDOING, UNDONE = b"undoing", b"undone"
_STATES = (PREPARED, JOURNAL, RENAMED, KEPT, UNDOING, UNDONE)
_NEWBORN = 0o1700
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ONE_BY_ONE = 32  # up to so many files or directories are synced singly, more with one syncfs
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Staging:
    """A staging directory of `root` whose lock this object holds until `close`."""

    def __init__(self, root: Root, name: bytes, fd: int, lock: int) -> None:
        self.root, self.name, self.fd = root, name, fd
        self._lock = lock
        self.durable = True
        self.fsyncs = 0

    @classmethod
    def make(cls, root: Root) -> Staging:
        """A new one, empty. OSError; FileNotFoundError when a recovery swept it away in its first moment."""
        name = b".codesync-" + os.urandom(8).hex().encode("ascii")
        with _root_as_it_was(root):
            os.mkdir(name, _NEWBORN, dir_fd=root.fd)
        with _closed_on_error(_open_directory(root, name)) as fd:
            try:
                if not _is_ours(fd):
                    raise UnsafePath("another user exchanged the staging directory; nothing is staged", name)
                return cls(root, name, fd, _born(fd))
            except BaseException:  # whatever stops us, no fragment stays
                sweep(root, name)
                raise

    @classmethod
    def take(cls, root: Root, name: bytes) -> Staging | None:
        """An existing one whose process is gone; Busy if it is not, None if the directory is gone."""
        try:
            with _closed_on_error(_open_directory(root, name)) as fd:
                return cls(root, name, fd, _taken(fd))
        except FileNotFoundError:
            return None
        except BlockingIOError:
            where = os.path.join(root.path, os.fsdecode(name))
            raise Busy(f"another transaction is at work in {where}; wait for it or stop it", name) from None

    def close(self) -> None:
        """Give the lock back; the directory stays."""
        if self.fd >= 0:
            os.close(self._lock)
            os.close(self.fd)
            self.fd = self._lock = -1

    # ---- what is in it

    def names(self) -> set[bytes]:
        """The names in the directory."""
        return set(names_in(self.fd))

    def create(self, name: bytes) -> int:
        """A new empty file, open for writing."""
        return os.open(name, _NEW, 0o600, dir_fd=self.fd)

    def path(self, name: bytes) -> str:
        """The absolute path of something in the directory."""
        return os.path.join(self.root.path, os.fsdecode(self.name), os.fsdecode(name))

    def move_in(self, path: bytes, name: bytes) -> None:
        """Rename `path` of the tree to `name` in here."""
        directory, last = self.root.parent(path)
        os.rename(last, name, src_dir_fd=directory, dst_dir_fd=self.fd)

    def link_in(self, path: bytes, name: bytes) -> None:
        """Make `name` in here another name of what is at `path`, also of a symlink."""
        directory, last = self.root.parent(path)
        os.link(last, name, src_dir_fd=directory, dst_dir_fd=self.fd, follow_symlinks=False)

    def move_out(self, name: bytes, path: bytes) -> None:
        """Rename `name` in here to `path` of the tree, replacing a file there."""
        directory, last = self.root.parent(path)
        os.rename(name, last, src_dir_fd=self.fd, dst_dir_fd=directory)

    # ---- its state

    def state(self) -> bytes | None:
        """The name its journal has, None before there is one."""
        names = self.names()
        return next((state for state in _STATES if state in names), None)

    def read(self, state: bytes) -> bytes:
        """The journal's bytes."""
        fd = os.open(state, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def enter(self, old: bytes, new: bytes) -> None:
        """Go from one state to the next; it lasts when the directory is synced."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def is_ours(self) -> bool:
        """Whether this user made it."""
        return _is_ours(self.fd)

    # ---- durability

    def sync(self, fd: int) -> None:
        """fsync, counted; nothing unless durable."""
        if self.durable:
            self.fsyncs += 1
            try:
                os.fsync(fd)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a filesystem that cannot sync directories
                    raise

    def sync_each(self, count: int, places: Iterable[tuple[int, bytes]]) -> None:
        """Sync each of `count` names in directories; when they are many, or one cannot be opened, the whole filesystem."""
        if self.durable and not (count <= _ONE_BY_ONE and all(self._synced(*place) for place in places)):
            self.fsyncs += 1
            _syncfs(self.fd)

    def _synced(self, directory: int, name: bytes) -> bool:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return True  # deleted
        except OSError:
            return False  # no right to read it
        try:
            self.sync(fd)
        finally:
            os.close(fd)
        return True

    # ---- its end

    def remove(self) -> None:
        """Remove the directory, the state last of all that counts, and give the lock back."""
        state = self.state()
        if state in (JOURNAL, RENAMED, UNDOING):  # what a recovery finds half empty it must not act upon
            self.enter(state, UNDONE)
            state = UNDONE
        _empty(self.fd, {b"magic", state})
        if state:
            os.unlink(state, dir_fd=self.fd)
        os.fchmod(self.fd, _NEWBORN)
        with _root_as_it_was(self.root):
            os.unlink(b"magic", dir_fd=self.fd)
            with contextlib.suppress(FileNotFoundError):  # a recovery may sweep it from now on
                os.rmdir(self.name, dir_fd=self.root.fd)
        self.close()


def stagings(root: Root) -> list[bytes]:
    """The names of the staging directories in a root, in order."""
    return sorted(name for name in names_in(root.fd) if is_staging(root.fd, name))


def sweep_fragments(root: Root) -> None:
    """Remove staging directories that died before they had their magic file, or after."""
    for name in names_in(root.fd):
        if STAGING_NAME.match(name):
            sweep(root, name)


def sweep(root: Root, name: bytes) -> None:
    """Remove such a fragment; anything else of that name is left alone."""
    with contextlib.suppress(OSError):
        status = os.stat(name, dir_fd=root.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == _NEWBORN:
            fd = _open_directory(root, name)
            try:
                if set(names_in(fd)) <= {b"magic.new"}:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(b"magic.new", dir_fd=fd)
                    with _root_as_it_was(root):
                        os.rmdir(name, dir_fd=root.fd)
            finally:
                os.close(fd)


def belongs_to_staging(root: Root, path: bytes) -> bool:
    """Whether a path leads into a staging directory of the root."""
    first = path.partition(b"/")[0]
    return STAGING_NAME.match(first) is not None and is_staging(root.fd, first)


def _open_directory(root: Root, name: bytes) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root.fd)


@contextlib.contextmanager
def _closed_on_error(fd: int) -> Iterator[int]:
    try:
        yield fd
    except BaseException:  # whatever stops us, nobody else would close it
        os.close(fd)
        raise


def _is_ours(directory: int) -> bool:
    """Whether this user made it. Where every file has one owner whoever makes it, nobody else can have."""
    owner = os.fstat(directory).st_uid
    if owner == os.geteuid():
        return True
    probe = os.open(b"x", _NEW, 0o600, dir_fd=directory)
    try:
        return os.fstat(probe).st_uid == owner
    finally:
        os.close(probe)
        os.unlink(b"x", dir_fd=directory)


def _born(directory: int) -> int:
    """Write the magic file; it shows under its name only when it is whole and locked. Its descriptor holds the lock."""
    with _closed_on_error(os.open(b"magic.new", _NEW, 0o600, dir_fd=directory)) as lock:
        os.write(lock, MAGIC)
        _flock(lock)
        os.rename(b"magic.new", b"magic", src_dir_fd=directory, dst_dir_fd=directory)
        os.fchmod(directory, 0o700)
        return lock


def _taken(directory: int) -> int:
    """Lock the magic file. BlockingIOError when somebody has it, FileNotFoundError when he has just finished."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _closed_on_error(os.open(b"magic", flags, dir_fd=directory)) as lock:
        _flock(lock)
        os.stat(b"magic", dir_fd=directory, follow_symlinks=False)
        return lock


def _flock(fd: int) -> None:
    """Lock without waiting; a filesystem without locks has no rivals to tell apart."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextlib.contextmanager
def _root_as_it_was(root: Root) -> Iterator[None]:
    """Make or remove a staging directory without a trace: the root's mtime, and its mode if it is read-only."""
    before = os.fstat(root.fd)
    mode = stat.S_IMODE(before.st_mode)
    if mode & 0o300 != 0o300:
        with contextlib.suppress(PermissionError):
            os.fchmod(root.fd, mode | 0o700)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            if mode & 0o300 != 0o300:
                os.fchmod(root.fd, mode)
            os.utime(root.fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def _empty(fd: int, spared: set[bytes | None]) -> None:
    """Remove what is in a directory. Subdirectories are first pulled up into it, so depth costs neither stack nor descriptors."""
    while True:
        names = [name for name in names_in(fd) if name not in spared]
        if not names:
            return
        for name in names:
            if not _is_directory(fd, name):
                os.unlink(name, dir_fd=fd)
                continue
            chmod_at(fd, name, 0o700)
            _hoist(fd, name)
            os.rmdir(name, dir_fd=fd)


def _hoist(fd: int, name: bytes) -> None:
    """Empty one directory: its files go, its subdirectories become its siblings."""
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        for child in names_in(inner):
            if not _is_directory(inner, child):
                os.unlink(child, dir_fd=inner)
                continue
            chmod_at(inner, child, 0o700)  # only who may write a directory may move it
            os.rename(child, b"x" + os.urandom(8).hex().encode("ascii"), src_dir_fd=inner, dst_dir_fd=fd)
    finally:
        os.close(inner)


def _is_directory(directory: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _libc_syncfs() -> Callable[[int], int] | None:
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        return None


def _syncfs(fd: int) -> None:
    syncfs = _libc_syncfs()
    if syncfs is None or syncfs(fd) != 0:
        os.sync()


def tidy(root: Root, name: bytes) -> bool:
    """Remove what a dead process left before it went by a journal, or after it was done with it; False for anything else."""
    staging = Staging.take(root, name)
    if staging is None:
        return True
    try:
        done = staging.state() in (None, PREPARED, UNDONE)
        if done:
            staging.remove()
        return done
    finally:
        staging.close()
