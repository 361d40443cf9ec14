"""The journal's steps, backward: whatever state the tree is in, the old one. May be interrupted and run again.

What the transaction put is taken back into the staging directory, together with what came into it since; what it
saved is renamed into place; directories get their old modes and mtimes last. Content it never touched is not touched.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from .attributes import set_mode, set_mtime, set_owner, where_permitted
from .change import DIRECTORY, FILE, Change, parent_of
from .errors import GONE, TransactionError, failed
from .forward import loosen
from .pyc import forget_bytecode

if TYPE_CHECKING:
    from .journal import Journal, Old, Step
    from .staging import Staging

_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST)


class Backward:
    """`run()` makes the old tree. It goes on past a failure, then raises the first; run again to go on."""

    def __init__(self, staging: Staging, journal: Journal) -> None:
        self._staging = staging
        self._root = staging.root
        self._journal = journal
        self._names = staging.names()
        self._fresh = journal.fresh()
        self._stuck: set[bytes] = set()  # where something placed could not be taken back
        self._first: TransactionError | None = None

    def run(self) -> None:
        """Take back, make room, restore, adjust."""
        steps, directories = self._journal.steps, self._journal.directories
        self._take_all_back([step for step in steps if step.places and step.new_name not in self._names])
        for path, old in directories:
            self._try(self._ensure, path, path, old)
        for step in steps:
            if step.saves and step.old_name in self._names:
                self._try(self._restore, step.change.path, step)
        for step in steps:
            if step.adjusts and step.old is not None:
                self._try(self._adjust, step.change.path, step.change, step.old)
        for path, old in reversed(directories):
            self._try(self._finish, path, path, old)
        if self._first:
            text = f"{self._first}; everything else is put back, and recover tries again"
            raise TransactionError(text, self._first.path) from self._first

    def _try(self, action: Callable[..., None], path: bytes, *arguments: object) -> bool:
        """Do it; False if that failed. What depends on a failure is left for another time."""
        if any(path == stuck or path.startswith(stuck + b"/") for stuck in self._stuck):
            return False
        try:
            action(*arguments)
        except OSError as error:
            self._first = self._first or failed(path, "put back", error)
        except TransactionError as error:
            self._first = self._first or error
        else:
            return True
        return False

    def _take_all_back(self, placed: list[Step]) -> None:
        """What is not in the staging directory is in the tree: take it back, deepest first."""
        directories = [path for path, _ in self._journal.directories]
        directories += [step.change.path for step in placed if step.change.kind == DIRECTORY]
        for path in directories:
            self._try(loosen, path, self._root, [path])
        for step in placed:
            self._try(self._forget_bytecode, step.change.path, step)
        for step in reversed(placed):
            if self._taken(step) and not self._try(self._take_back, step.change.path, step):
                self._stuck.add(step.change.path)

    def _forget_bytecode(self, step: Step) -> None:
        """What Python compiled from our file must not be taken for the old one's."""
        ours = not step.saves or step.old_name in self._names
        if ours and step.change.kind == FILE and parent_of(step.change.path) not in self._fresh:
            with where_permitted():
                forget_bytecode(self._root, step.change.path)

    def _taken(self, step: Step) -> bool:
        """Not what goes with its directory, nor what the old file replaces in one rename."""
        return parent_of(step.change.path) not in self._fresh and (
            step.change.kind == DIRECTORY or not step.saves
        )

    def _take_back(self, step: Step) -> None:
        try:
            self._staging.move_in(step.change.path, step.new_name)
        except GONE:
            # or else a second run would take away what this one restores
            os.close(self._staging.create(step.new_name))

    def _ensure(self, path: bytes, old: Old) -> None:
        """An old directory is there, whoever removed it since, or one above it, or put something else there."""
        end = 0
        while end >= 0:
            end = path.find(b"/", end + 1)
            self._ensure_one(path if end < 0 else path[:end], old)

    def _ensure_one(self, path: bytes, old: Old) -> None:
        try:
            if stat.S_ISDIR(self._root.lstat(path).st_mode):
                return
            self._aside(path)
        except FileNotFoundError:
            pass
        directory, name = self._root.parent(path)
        os.mkdir(name, 0o755, dir_fd=directory)
        set_owner(directory, name, old.uid, old.gid)

    def _restore(self, step: Step) -> None:
        """The saved thing back to its path, in one rename wherever that can be."""
        try:
            self._staging.move_out(step.old_name, step.change.path)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._aside(step.change.path)
            self._staging.move_out(step.old_name, step.change.path)

    def _aside(self, path: bytes) -> None:
        """Something that came since stands where the old thing belongs."""
        number = len(self._names)
        while b"x%d" % number in self._names:
            number += 1
        self._names.add(b"x%d" % number)
        self._staging.move_in(path, b"x%d" % number)

    def _adjust(self, change: Change, old: Old) -> None:
        try:
            if change.mode is not None:
                set_mode(self._root, change.path, old.mode)
            if change.mtime_ns is not None:
                set_mtime(self._root, change.path, old.mtime_ns)
        except GONE:
            return  # it was not ours to save

    def _finish(self, path: bytes, old: Old) -> None:
        with where_permitted():
            if stat.S_IMODE(self._root.lstat(path).st_mode) != old.mode:
                set_mode(self._root, path, old.mode)
            set_mtime(self._root, path, old.mtime_ns)
