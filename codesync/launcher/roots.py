"""Copies of the application's directory that candidates run from, one for each, and a spare for the next.

A copy shares no file with the directory or with another copy, and one that an application has run in is as good as new
after the next refresh. Names are only ever given to what nothing runs in, and a symlink among them is not followed.

    .launcher/roots/
      spare          the next candidate's copy
      <generation>   a candidate runs there
      .doomed-<hex>  being removed
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from codesync.launcher.changes import Cancelled
from codesync.launcher.mirror import TICK_NS, NoRoom, carry, mirror
from codesync.launcher.mirror.directory import DOOMED, OWN_MODE, own_directory, remove
from codesync.transaction import Root

if TYPE_CHECKING:
    from collections.abc import Collection

ROOTS, SPARE = "roots", "spare"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEVER = threading.Event()


class Roots:
    """The copies below `directory`, the launcher's own on the volume. Raises OSError.

    The work of `refresh_spare`, `carry`, `release` and `clear` grows with the tree: it is for a thread. They raise
    Cancelled, and what is left undone then, the next call does.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(os.path.abspath(directory), ROOTS)
        own_directory(self.directory)
        self._root = Root(self.directory)
        if not os.path.samestat(os.lstat(self.directory), os.fstat(self._root.fd)):
            raise OSError(f"{self.directory} is being exchanged; nothing but the launcher may write there")
        os.fchmod(self._root.fd, OWN_MODE)
        self._made: dict[str, dict[int, int]] = {}  # by the copy's name, as `mirror` keeps it

    def close(self) -> None:
        """Let go of the directory; what is in it stays."""
        self._root.close()

    @property
    def has_spare(self) -> bool:
        """Whether there is one, made ready or not."""
        return SPARE in self.names()

    def path(self, name: str) -> str:
        """Where the copy of that name lies."""
        return os.path.join(self.directory, name)

    def names(self) -> set[str]:
        """The copies there are, also the spare."""
        return {name for name in os.listdir(self._root.fd) if not name.startswith(DOOMED)}

    def refresh_spare(
        self, source: str | bytes, cancelled: threading.Event, skip: Collection[tuple[int, int]] = ()
    ) -> list[bytes]:
        """Make the spare equal to `source`; what was left out of it, as `mirror` says. Raises NoRoom, OSError, Cancelled."""
        is_old = self.has_spare
        try:
            return self._mirrored(source, cancelled, skip)
        except OSError as error:
            if error.errno in _FULL or not is_old:
                raise
        # an application has left something in it that cannot be made good: it has had its time
        self._made.pop(SPARE, None)
        self._doom(SPARE)
        return self._mirrored(source, cancelled, skip)

    def _mirrored(
        self, source: str | bytes, cancelled: threading.Event, skip: Collection[tuple[int, int]]
    ) -> list[bytes]:
        made = self._made.setdefault(SPARE, {})
        try:
            try:
                return mirror(source, self._root, SPARE, cancelled, skip=skip, made=made)
            except NoRoom:
                self._sweep(cancelled)  # which may take long, so not before it is needed
                return mirror(source, self._root, SPARE, cancelled, skip=skip, made=made)
        except OSError as error:
            if error.errno not in _FULL:
                raise
        remove(self._root.fd, SPARE)  # so that there is room again for everything else
        raise NoRoom("it has become full while copying")

    def claim(self, generation: int) -> str:
        """The spare is that generation's from now on: its path. Raises OSError."""
        if not stat.S_ISDIR(self._root.lstat(SPARE.encode()).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "The spare copy has been exchanged", self.path(SPARE))
        taken, name, again = self.names(), str(generation), 1
        while name in taken:  # the same one is on trial again, or serves
            again += 1
            name = f"{generation}-{again}"
        self._rename(SPARE, name)
        self._made[name] = self._made_before_now(self._made.pop(SPARE, {}))
        return self.path(name)

    def _made_before_now(self, made: dict[int, int]) -> dict[int, int]:
        """What is written from now on has a later ctime than these."""
        now = os.fstat(self._root.fd).st_ctime_ns  # of the renaming
        return {inode: ctime for inode, ctime in made.items() if ctime < now - TICK_NS}

    def carry(self, path: str, target: str, cancelled: threading.Event) -> list[bytes]:
        """Bring into `target` what has been made in that copy since it was claimed; what could not be, as `carry` says."""
        return carry(path, target, cancelled, self._made.get(os.path.basename(path)))

    def release(self, path: str, cancelled: threading.Event = _NEVER) -> None:
        """Nothing runs there any more: it becomes the spare where there is none, else it is removed. Raises OSError."""
        name, names = os.path.basename(path), self.names()
        if name in names - {SPARE}:
            made = self._made.pop(name, {})
            if SPARE in names:
                self._doom(name)
            else:
                self._rename(name, SPARE)
                self._made[SPARE] = made
        self._sweep(cancelled)

    def clear(self, cancelled: threading.Event = _NEVER) -> None:
        """Remove them all: at a start nothing runs here, and nobody remembers what was written to them. Raises OSError."""
        self._made.clear()
        for name in self.names():
            self._doom(name)
        self._sweep(cancelled)

    def _doom(self, name: str) -> None:
        self._rename(name, DOOMED + os.urandom(8).hex())

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._root.fd, dst_dir_fd=self._root.fd)

    def _sweep(self, cancelled: threading.Event) -> None:
        def check() -> None:
            if cancelled.is_set():
                raise Cancelled

        for name in os.listdir(self._root.fd):
            if name.startswith(DOOMED):
                remove(self._root.fd, name, check)
