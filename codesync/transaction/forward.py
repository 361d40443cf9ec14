"""The journal's steps, forward: old to new. Every step looks at what is done already, so that after an interruption
it may simply be run again, and ends with the new tree.

A step that places something is done when that thing has left the staging directory.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from .attributes import set_mode, set_mtime, where_permitted
from .change import DELETE, DIRECTORY, FILE, SYMLINK, tree_order
from .errors import GONE, NotEmpty, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .journal import Journal, Old, Step
    from .root import Root
    from .staging import Staging

_OWNER = 0o700


def loosen(root: Root, directories: Iterable[bytes]) -> None:
    """Give the owner his rights in those of the directories that lack them; parents come first."""
    for path in directories:
        try:
            mode = root.lstat(path).st_mode
            if stat.S_ISDIR(mode) and mode & _OWNER != _OWNER:
                with where_permitted():
                    set_mode(root, path, stat.S_IMODE(mode) | _OWNER)
        except GONE:
            continue


class Forward:
    """`run()` makes the new tree; TransactionError names the path that would not."""

    def __init__(self, staging: Staging, journal: Journal) -> None:
        self._staging = staging
        self._root = staging.root
        self._journal = journal
        self._names = staging.names()
        self.left: list[bytes] = []  # directories to delete that were not empty

    def run(self) -> None:
        """Remove, place, then attributes: a read-only directory is filled first."""
        loosen(self._root, [path for path, _ in self._journal.directories])
        for step in reversed(self._journal.steps):
            if step.change.kind == DELETE or (step.removes_directory and step.new_name in self._names):
                self._try(self._remove, step)
        for step in self._journal.steps:
            if step.places and step.new_name in self._names:
                self._try(self._place, step)
        for step in self._journal.steps:
            if step.adjusts:
                self._try(self._adjust, step)
        self._directories()

    @staticmethod
    def _try(action: Callable[[Step], None], step: Step) -> None:
        try:
            action(step)
        except OSError as error:
            raise failed(step.change.path, "changed", error) from error

    def _remove(self, step: Step) -> None:
        try:
            directory, name = self._root.parent(step.change.path)
            if not step.on_directory:
                self._clear(step, directory, name)
            else:
                os.rmdir(name, dir_fd=directory)
        except GONE:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if step.change.kind != DELETE:
                raise NotEmpty(step.change.path, ()) from None
            self.left.append(step.change.path)

    def _clear(self, step: Step, directory: int, name: bytes) -> None:
        """Take the old thing away from its path, saved."""
        if step.old_name in self._names:
            os.unlink(name, dir_fd=directory)
        else:
            os.rename(name, step.old_name, src_dir_fd=directory, dst_dir_fd=self._staging.fd)

    def _place(self, step: Step) -> None:
        directory, name = self._root.parent(step.change.path)
        if step.saves and (step.change.kind == DIRECTORY or step.old_name not in self._names):
            try:
                self._clear(step, directory, name)
            except FileNotFoundError:
                pass  # interrupted just here
        os.rename(step.new_name, name, src_dir_fd=self._staging.fd, dst_dir_fd=directory)

    def _adjust(self, step: Step) -> None:
        change, old = step.change, step.old
        if change.mode is not None and old is not None:
            set_mode(self._root, change.path, (old.mode & 0o7000) | change.mode)
        if change.mtime_ns is not None:
            set_mtime(self._root, change.path, change.mtime_ns)

    # ---- directories, deepest first: setting one's mtime must come after everything in it

    def _directories(self) -> None:
        steps = {step.change.path: step for step in self._journal.steps}
        known = dict(self._journal.directories)
        for path in sorted({*known, *self._journal.fresh()}, key=tree_order, reverse=True):
            step = steps.get(path)
            if step is None or step.change.kind not in (FILE, SYMLINK):
                self._finish(path, known.get(path), step)

    def _finish(self, path: bytes, old: Old | None, step: Step | None) -> None:
        try:
            now = stat.S_IMODE(self._root.lstat(path).st_mode)
            mode = _final_mode(now, old, step)
            if mode != now:
                set_mode(self._root, path, mode)
            if step is not None and step.change.mtime_ns is not None:
                set_mtime(self._root, path, step.change.mtime_ns)
        except GONE:
            return  # deleted
        except OSError as error:
            raise failed(path, "changed", error) from error


def _final_mode(now: int, old: Old | None, step: Step | None) -> int:
    """The mode a directory ends with; set-id and sticky bits are its own, never a change's."""
    old_mode = now & 0o7000 | 0o755 if old is None else old.mode
    if step is None or step.change.mode is None:
        return old_mode
    return old_mode & 0o7000 | step.change.mode
