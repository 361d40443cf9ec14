"""One directory made equal to another, by touching only what differs: a copy, and later its refresh.

First all is compared and what is too much removed, then there has to be room for what is missing, and only then that is
copied.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from codesync.launcher.changes import Cancelled
from codesync.launcher.image import mounts_below
from codesync.launcher.mirror.content import BLOCK, NEW, READ, copy_attributes, copy_content, room_for
from codesync.launcher.mirror.directory import (
    CACHE,
    OWN_MODE,
    drop_bytecode,
    is_ours,
    listing,
    own_directory,
    remove,
)
from codesync.transaction import Root, TransactionError
from codesync.transaction.attributes import chmod_at

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterator

    Difference = tuple[str, os.stat_result, os.stat_result | None, int]

TICK_NS = 20_000_000  # the clock that stamps files goes by ticks of up to 10 ms
_COMPARED = 0o170777  # kind and permissions
_UNREADABLE = (PermissionError, FileNotFoundError, NotADirectoryError, TransactionError)


class NoRoom(OSError):
    """The volume cannot hold a second tree; one line that says so."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"no room for a second tree on the volume: {found}; enlarge it, or use --reload restart"
        )


def mirror(
    source: str | bytes,
    within: Root,
    name: str,
    cancelled: threading.Event,
    *,
    skip: Collection[tuple[int, int]] = (),
    made: dict[int, int] | None = None,
) -> list[bytes]:
    """Make the directory `name` in `within` equal to `source`: files, directories, symlinks, permissions, mtimes; no owners.

    Left out: the launcher's mark and staging directories, directories whose device and inode are in `skip`, special files;
    and what cannot be read, whose paths are returned. For what is mounted inside there is a symlink to it. A `__pycache__`
    that the copy has stays as it is, but for the bytecode of files that are replaced or deleted. Holes stay holes.
    `made` is what the caller keeps for this copy from call to call: by inode, the ctime in ns of each file that was made
    here. Any other file is made anew, for whoever writes to one can set its mtime back, but not its ctime.
    Raises NoRoom before anything is copied, OSError, TransactionError, Cancelled; a later call goes on from there.
    """
    own_directory(name, within.fd)
    with Root(source) as origin, within.twin() as holder:
        return _Mirror(
            origin, holder, name, cancelled=cancelled, skip=skip, made={} if made is None else made
        ).run()


class _Mirror:
    def __init__(
        self,
        origin: Root,
        holder: Root,
        name: str,
        *,
        cancelled: threading.Event,
        skip: Collection[tuple[int, int]],
        made: dict[int, int],
    ) -> None:
        self._origin = origin
        self._holder = holder
        self._name = os.fsencode(name)
        self._cancelled = cancelled
        here = holder.lstat(self._name)
        self._skip = frozenset(((here.st_dev, here.st_ino), *skip))
        self._mounts = mounts_below(origin)
        self._left_out: set[bytes] = set()
        self._pending: list[bytes] = []
        self._before = made
        self._made: dict[int, int] = {}

    def run(self) -> list[bytes]:
        try:
            self._require_room(self._compare())
            while self._pending:
                self._directory(self._pending.pop())
            self._before.clear()  # of files that are gone
        finally:
            self._before.update(self._made)
        return sorted(self._left_out)

    def _compare(self) -> int:
        """Have the directories pending whose copies are not equal to them; about how many bytes are missing."""
        missing, there = 0, [(b"", True)]
        while there:
            path, has_copy = there.pop()
            try:
                source = self._origin.open_directory(path)
            except _UNREADABLE:
                self._pending += [path] * has_copy
                continue
            target = -1
            try:
                target = self._open_copy(path) if has_copy else -1
                pair = _Pair(self, path, source, target)
                missing += pair.compare(there)
                self._pending += [path] * (has_copy and pair.is_different)
            finally:
                os.close(source)
                if target >= 0:
                    os.close(target)
        return missing

    def _require_room(self, missing: int) -> None:
        volume = os.fstatvfs(self._holder.fd)
        free = volume.f_bavail * volume.f_frsize
        if missing > free and volume.f_blocks:  # some file systems do not tell
            raise NoRoom(f"needs about {-(-missing // 10**6)} MB, {free // 10**6} MB free")

    def _directory(self, path: bytes) -> None:
        """One directory, without what is below its subdirectories; new ones are pending then."""
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
        except _UNREADABLE:
            if not path:
                raise
        self.leave_out(path)  # and its copy, which is empty if it was made just now
        directory, name = self._holder.parent(self._in_copy(path))
        remove(directory, os.fsdecode(name), self.check)
        return -1

    def _open_copy(self, path: bytes) -> int:
        path = self._in_copy(path)
        try:
            return self._holder.open_directory(path)
        except PermissionError:
            directory, name = self._holder.parent(path)
            chmod_at(directory, name, OWN_MODE)
            return self._holder.open_directory(path)

    def _in_copy(self, path: bytes) -> bytes:
        return self._name + b"/" + path if path else self._name

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def leave_out(self, path: bytes) -> None:
        self._left_out.add(path)

    def descend(self, path: bytes) -> None:
        self._pending.append(path)

    def mount_at(self, path: bytes) -> str | None:
        """Where the copy has to point to when something is mounted at the path."""
        return os.path.join(self._origin.path, os.fsdecode(path)) if path in self._mounts else None

    def is_skipped(self, found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) in self._skip

    def knows(self, found: os.stat_result, old: os.stat_result) -> bool:
        """Whether this is a file and the other its copy, which nobody has touched."""
        if not _is_same(found, old) or self._before.get(old.st_ino) != old.st_ctime_ns:
            return False
        self._made[old.st_ino] = old.st_ctime_ns
        return True

    def remember(self, copy: os.stat_result) -> None:
        self._made[copy.st_ino] = copy.st_ctime_ns


class _Pair:
    """One directory and its copy, both open; to be compared only, also one that has no copy yet (-1)."""

    def __init__(self, mirror: _Mirror, path: bytes, source: int, target: int) -> None:
        self.is_different = False
        self._mirror = mirror
        self._prefix = path + b"/" if path else b""
        self._source = source
        self._target = target
        self._writable = False

    def compare(self, there: list[tuple[bytes, bool]]) -> int:
        """See whether it is different; add each subdirectory, and whether it has a copy; the bytes missing here."""
        missing = 0
        for name, found, old, kind in self._differences():
            if kind == stat.S_IFDIR:
                there.append((self._prefix + os.fsencode(name), old is not None))
                missing += 0 if old else BLOCK
            elif kind == stat.S_IFREG:
                missing += room_for(found) - (old.st_blocks * 512 if old else 0)
            is_there = old and (
                kind == stat.S_IFDIR or (kind == stat.S_IFLNK and self._is_link(name, found, old))
            )
            self.is_different |= not is_there
        if self._target >= 0 and self._unfinished() != (None, None):
            self.is_different = True
        return missing

    def make_equal(self) -> None:
        for name, found, old, kind in self._differences():
            self._mirror.check()
            path = self._prefix + os.fsencode(name)
            if kind == stat.S_IFREG:
                if not self._make_file(name, path, old) and old is not None:
                    self._drop(name)
            elif kind == stat.S_IFLNK:
                self._make_link(name, found, old)
            elif old is None:
                self._give_way(name, old)
                os.mkdir(name, OWN_MODE, dir_fd=self._target)
                self._mirror.descend(path)
        self._finish()

    def _differences(self) -> Iterator[Difference]:
        """What may have to be made: name, what it is, its copy if that is of the same kind, the kind. All else goes."""
        self._mirror.check()
        wanted, there = listing(self._source), listing(self._target) if self._target >= 0 else {}
        for name in there.keys() - wanted.keys():
            if name != CACHE or not stat.S_ISDIR(there[name].st_mode):
                self._drop(name)
        for name, found in wanted.items():
            old = there.get(name)
            if old is not None and self._mirror.knows(found, old):
                continue  # nearly all, nearly always
            kind = self._kind(name, found)
            if old is not None and stat.S_IFMT(old.st_mode) != kind:
                self._drop(name)
                old = None
            if kind and (name != CACHE or old is None or kind != stat.S_IFDIR):
                yield name, found, old, kind

    def _kind(self, name: str, found: os.stat_result) -> int:
        """What the copy shall have of that name: a file, a directory, a symlink; 0: nothing."""
        if (not self._prefix and is_ours(self._source, name)) or self._mirror.is_skipped(found):
            return 0
        if self._mirror.mount_at(self._prefix + os.fsencode(name)) is not None:
            return stat.S_IFLNK
        kind = stat.S_IFMT(found.st_mode)
        return kind if kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) else 0

    def _leads_to(self, name: str) -> str:
        mount = self._mirror.mount_at(self._prefix + os.fsencode(name))
        return os.readlink(name, dir_fd=self._source) if mount is None else mount

    def _is_link(self, name: str, found: os.stat_result, old: os.stat_result) -> bool:
        same = old.st_mtime_ns == found.st_mtime_ns
        return same and os.readlink(name, dir_fd=self._target) == self._leads_to(name)

    def _make_link(self, name: str, found: os.stat_result, old: os.stat_result | None) -> None:
        if old is not None and self._is_link(name, found, old):
            return
        self._give_way(name, old)
        os.symlink(self._leads_to(name), name, dir_fd=self._target)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self._target, follow_symlinks=False)

    def _make_file(self, name: str, path: bytes, old: os.stat_result | None) -> bool:
        """False when it is left out."""
        try:
            source = os.open(name, READ, dir_fd=self._source)
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
        target = os.open(name, NEW, 0o600, dir_fd=self._target)
        try:
            copy_content(source, target, found.st_size, self._mirror.check)
            copy_attributes(found, target)
            self._mirror.remember(os.fstat(target))
        finally:
            os.close(target)

    def _give_way(self, name: str, old: os.stat_result | None) -> None:
        """Make room for something new of that name."""
        if old is not None or name.endswith(".py"):  # whose bytecode may have outlived it
            self._drop(name)
        self._make_writable()

    def _drop(self, name: str) -> None:
        self._make_writable()
        remove(self._target, name, self._mirror.check)
        drop_bytecode(self._target, name)

    def _make_writable(self) -> None:
        if not self._writable:
            self._writable = self.is_different = True
            os.fchmod(self._target, OWN_MODE)

    def _finish(self) -> None:
        """The directory's own mode and mtime, now that nothing in it changes any more."""
        mode, times = self._unfinished()
        if mode is not None:
            os.fchmod(self._target, mode)
        if times is not None:
            os.utime(self._target, ns=times)

    def _unfinished(self) -> tuple[int | None, tuple[int, int] | None]:
        """The mode and the times that it does not have yet."""
        wanted, found = os.fstat(self._source), os.fstat(self._target)
        mode = stat.S_IMODE(wanted.st_mode) & 0o777 if self._prefix else OWN_MODE
        same = found.st_mtime_ns == wanted.st_mtime_ns
        return (
            None if stat.S_IMODE(found.st_mode) == mode else mode,
            None if same else (wanted.st_atime_ns, wanted.st_mtime_ns),
        )


def _is_same(found: os.stat_result, old: os.stat_result) -> bool:
    """Whether this is a file and the other looks like its copy, made after the file last changed.

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
