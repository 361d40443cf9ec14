"""What a copy of the application's directory has gained, brought back to it: nothing is removed there.

For what a push's commands have made in the candidate's tree, an `npm install` say. A file is written beside the place it
is to have and renamed, so nobody meets half of one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.changes import Cancelled
from codesync.launcher.image import mounts_below
from codesync.launcher.mirror.content import NEW, READ, copy_attributes, copy_content, is_same_content
from codesync.launcher.mirror.directory import CACHE, drop_bytecode, is_ours, listing
from codesync.transaction import Root, TransactionError
from codesync.transaction.attributes import chmod_at, set_owner

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

DRAFT = ".codesync-draft"  # one that a crash has left is replaced by the next
_CANNOT = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EBUSY,
        errno.ENOENT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENXIO,
        errno.EINVAL,
        errno.ENAMETOOLONG,
    )
)


def carry(
    source: str, target: str, cancelled: threading.Event, made: Mapping[int, int] | None = None
) -> list[bytes]:
    """Bring into `target` the files, directories and symlinks that its copy `source` has beyond it, or otherwise.

    A file is another one when content, mtime or permissions differ. Nothing in `target` is removed, or replaced by
    something of another kind, and nothing that is mounted there is touched. Left behind: the launcher's mark and staging
    directories, `__pycache__`, special files, the copy's links to what is mounted. `made`: as `mirror` has left it; what is
    still as it was copied then is left behind, too, so that it overwrites nothing that has changed in `target` since.
    The paths that could not be brought are returned: another kind is there, no permission, written to just now.
    Raises OSError (no room, say), TransactionError, Cancelled; a later call goes on from there.
    """
    source = os.path.abspath(source)
    with Root(os.path.dirname(source)) as holder, Root(target) as home:
        return _Carry(holder, os.fsencode(os.path.basename(source)), home, cancelled, made or {}).run()


class _Carry:
    def __init__(
        self, holder: Root, name: bytes, home: Root, cancelled: threading.Event, made: Mapping[int, int]
    ) -> None:
        self._holder = holder
        self._name = name
        self._home = home
        self._cancelled = cancelled
        self._made = made
        self._mounts = mounts_below(home)
        self._left_out: list[bytes] = []
        self._pending = [b""]
        self._modes: dict[bytes, int] = {}  # of new directories, which may forbid to write to them

    def run(self) -> list[bytes]:
        while self._pending:
            path = self._pending.pop()
            try:
                self._directory(path)
            except (OSError, TransactionError) as error:
                if not path or not _is_local(error):
                    raise
                self._left_out.append(path)
        return sorted(self._left_out)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def _directory(self, path: bytes) -> None:
        """One directory, without what is below its subdirectories; those are pending then."""
        self._check()
        source = self._holder.open_directory(self._name + b"/" + path if path else self._name)
        try:
            target = self._home.open_directory(path)
            try:
                self._entries(path, source, target)
                if path in self._modes:
                    os.fchmod(target, self._modes.pop(path))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _entries(self, path: bytes, source: int, target: int) -> None:
        there = listing(target)
        for name, found in listing(source).items():
            if name in (CACHE, DRAFT) or (not path and is_ours(source, name)):
                continue
            inner = path + b"/" + os.fsencode(name) if path else os.fsencode(name)
            try:
                brought = self._bring(inner, _Names(name, source, target), found, there.get(name))
            except OSError as error:
                if not _is_local(error):
                    raise
                brought = False
            if not brought:
                self._left_out.append(inner)

    def _bring(self, path: bytes, names: _Names, found: os.stat_result, old: os.stat_result | None) -> bool:
        """Bring one name, a directory without what is in it; False when that cannot be."""
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFLNK:
            to = names.leads_to()
            if to == os.path.join(self._home.path, os.fsdecode(path)):
                return True  # what a copy has in place of something mounted
        elif kind not in (stat.S_IFREG, stat.S_IFDIR) or self._is_as_copied(found):
            return True
        if path in self._mounts or (old is not None and stat.S_IFMT(old.st_mode) != kind):
            return False
        if kind == stat.S_IFLNK:
            names.bring_link(to, old)
        elif kind == stat.S_IFDIR:
            if old is None:
                self._modes[path] = names.make_directory(found)
            self._pending.append(path)
        else:
            self._check()
            return names.bring_file(old, self._check)
        return True

    def _is_as_copied(self, found: os.stat_result) -> bool:
        return stat.S_ISREG(found.st_mode) and self._made.get(found.st_ino) == found.st_ctime_ns


class _Names:
    """One name in two open directories: where it comes from, and where it goes."""

    def __init__(self, name: str, source: int, target: int) -> None:
        self._name = name
        self._source = source
        self._target = target

    def leads_to(self) -> str:
        return os.readlink(self._name, dir_fd=self._source)

    def make_directory(self, found: os.stat_result) -> int:
        """Make it, for us to write to: the mode that it shall have at last."""
        mode = stat.S_IMODE(found.st_mode) & 0o777
        os.mkdir(self._name, 0o700, dir_fd=self._target)
        self._give_to_owner(self._name, None)
        chmod_at(self._target, os.fsencode(self._name), mode | 0o700)
        return mode

    def bring_link(self, to: str, old: os.stat_result | None) -> None:
        if old is not None and os.readlink(self._name, dir_fd=self._target) == to:
            return
        self._drop_draft()
        os.symlink(to, DRAFT, dir_fd=self._target)
        self._put_in_place(old)

    def bring_file(self, old: os.stat_result | None, check: Callable[[], None]) -> bool:
        """False for a file that is being written to."""
        try:
            source = os.open(self._name, READ, dir_fd=self._source)
        except FileNotFoundError:  # gone meanwhile
            return True
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                return False
            if old is not None and _compared(old) == _compared(found) and self._is_same(source, check):
                return True
            self._drop_draft()
            target = os.open(DRAFT, NEW, 0o600, dir_fd=self._target)
            try:
                copy_content(source, target, found.st_size, check)
                copy_attributes(found, target)
                whole = _state(os.fstat(source)) == _state(found)
                if whole and old is not None:
                    os.fsync(
                        target
                    )  # what it replaces is on the disk; new files, perhaps thousands, are left to the system
            except BaseException:  # whatever it was: no draft stays
                self._drop_draft()
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)
        if whole:
            self._put_in_place(old)
            drop_bytecode(self._target, self._name)
        else:
            self._drop_draft()
        return whole

    def _is_same(self, source: int, check: Callable[[], None]) -> bool:
        """By content, since the files of many an archive have one mtime, whatever their version."""
        target = os.open(self._name, READ, dir_fd=self._target)
        try:
            return is_same_content(source, target, check)
        finally:
            os.close(target)

    def _put_in_place(self, old: os.stat_result | None) -> None:
        try:
            self._give_to_owner(DRAFT, old)
            os.rename(DRAFT, self._name, src_dir_fd=self._target, dst_dir_fd=self._target)
        except BaseException:  # whatever it was: no draft stays
            self._drop_draft()
            raise

    def _give_to_owner(self, name: str, old: os.stat_result | None) -> None:
        """To whom the replaced one belongs, else the directory that it is in."""
        like = os.fstat(self._target) if old is None else old
        ours = os.stat(name, dir_fd=self._target, follow_symlinks=False)
        if (ours.st_uid, ours.st_gid) != (like.st_uid, like.st_gid):
            set_owner(self._target, os.fsencode(name), like.st_uid, like.st_gid)

    def _drop_draft(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(DRAFT, dir_fd=self._target)


def _is_local(error: Exception) -> bool:
    """Whether it concerns that one path only."""
    return isinstance(error, TransactionError) or (isinstance(error, OSError) and error.errno in _CANNOT)


def _compared(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_mode & 0o777


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
