"""From changes to a journal: look at every path, refuse what cannot be, and get everything ready in the staging
directory. Nothing of the tree changes here.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .attributes import set_owner
from .change import ATTRIBUTES, DELETE, DIRECTORY, FILE, SYMLINK, Change, parent_of, tree_order
from .errors import GONE, NotEmpty, TransactionError, failed, shown
from .journal import Journal, Old, Step
from .root import Root, names_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .staging import Staging

_NAMED = 10  # how many unknown children an error names


class Preparation:
    """Changes by path, and the number of each; `journal()` is the result."""

    def __init__(
        self, staging: Staging, changes: Mapping[bytes, Change], numbers: Mapping[bytes, int]
    ) -> None:
        self._staging = staging
        self._root: Root = staging.root
        self._changes = changes
        self._numbers = numbers
        self._directories: dict[bytes, Old] = {}
        self._fresh: dict[bytes, Old] = {}  # directories to come; owner and set-group-id bit are inherited

    def journal(self, id: str) -> Journal:
        """Check everything, then stage what is not staged yet and save what will be replaced."""
        journal = self._seen(id)
        for step in journal.steps:
            try:
                self._stage(step)
            except OSError as error:
                raise failed(step.change.path, "staged", error) from error
        return journal

    def again(self, journal: Journal) -> Journal | None:
        """The journal for the same changes to the same tree, looked at now; None when anything differs.

        The mtimes of directories do not count: whatever is put beside a file that changes makes another one.
        """
        found = self._seen(journal.id)
        return found if _plain(found) == _plain(journal) and all(map(self._is_saved, found.steps)) else None

    def _is_saved(self, step: Step) -> bool:
        """Whether what is at the path is what was saved, and not something that looks like it."""
        if not step.saves:
            return True
        try:
            saved = os.stat(step.old_name, dir_fd=self._staging.fd, follow_symlinks=False)
        except FileNotFoundError:
            return True  # links are forbidden: it is saved when its turn comes
        return os.path.samestat(saved, self._root.lstat(step.change.path))

    # ---- looking

    def _seen(self, id: str) -> Journal:
        steps = [step for step in map(self._step, sorted(self._changes, key=tree_order)) if step]
        directories = sorted(self._directories.items(), key=lambda item: tree_order(item[0]))
        return Journal(id, self._staging.durable, steps, directories)

    def _step(self, path: bytes) -> Step | None:
        """The step for one path; None where there is nothing to do."""
        change = self._changes[path]
        try:
            old = self._old(change)
            if old is None and change.kind == DELETE:
                return None
            step = Step(self._numbers[path], change, old)
            self._note(step)
        except OSError as error:
            raise failed(path, "changed", error) from error
        return step

    def _old(self, change: Change) -> Old | None:
        """What is there. The parent of a put has to be there or to come; a missing path can be deleted but not adjusted."""
        path, parent = change.path, parent_of(change.path)
        if change.kind == DELETE:
            return self._deletable(path)
        if path and self._parent_kind(parent) not in (DIRECTORY, ATTRIBUTES):
            raise _parent_missing(path)
        old = None if path and parent in self._fresh else self._look(path)
        if old is None and change.kind == ATTRIBUTES:
            raise TransactionError(f"{shown(path)} is not there to get attributes; send it whole", path)
        return old

    def _parent_kind(self, parent: bytes) -> str:
        change = self._changes.get(parent)
        return change.kind if change else DIRECTORY

    def _deletable(self, path: bytes) -> Old | None:
        if parent_of(path) in self._fresh:
            return None
        try:
            return Old.of(self._root.lstat(path))
        except GONE:
            return None  # what only a symlink leads to is not in this tree

    def _look(self, path: bytes) -> Old | None:
        if not path:
            return Old.of(os.fstat(self._root.fd))
        try:
            directory, name = self._root.parent(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _parent_missing(path) from None
        try:
            return Old.of(os.stat(name, dir_fd=directory, follow_symlinks=False))
        except FileNotFoundError:
            return None

    # ---- noting

    def _note(self, step: Step) -> None:
        """Remember the directories a step touches, so that they can be given back as they were."""
        path, parent = step.change.path, parent_of(step.change.path)
        if step.old is not None and step.on_directory:
            self._directories[path] = step.old
        known = parent in self._fresh or parent in self._directories
        if step.change.kind != ATTRIBUTES and not known:
            self._directories[parent] = Old.of(self._root.lstat(parent))
        if step.places and step.change.kind == DIRECTORY:
            above = self._heritage(parent)
            self._fresh[path] = Old(DIRECTORY, above.mode & stat.S_ISGID, above.uid, above.gid, 0)
        if step.removes_directory and step.change.kind != DELETE:
            unknown = self._unknown(path)
            if unknown:
                raise NotEmpty(path, unknown)

    def _heritage(self, parent: bytes) -> Old:
        return self._fresh.get(parent) or self._directories[parent]

    def _unknown(self, path: bytes) -> list[bytes]:
        """Some paths below a directory that no change deletes."""
        found: list[bytes] = []
        waiting = [path]
        while waiting and len(found) < _NAMED:
            directory = waiting.pop()
            for child in self._children(directory):
                change = self._changes.get(child)
                if change is None or change.kind != DELETE:
                    found.append(child)
                elif stat.S_ISDIR(self._root.lstat(child).st_mode):
                    waiting.append(child)
        return found[:_NAMED]

    def _children(self, path: bytes) -> list[bytes]:
        fd = self._root.open_directory(path)
        try:
            return [path + b"/" + name for name in sorted(names_in(fd))]
        finally:
            os.close(fd)

    # ---- staging

    def _stage(self, step: Step) -> None:
        if step.places:
            self._make(step)
            self._dress(step)
        if step.saves:
            try:
                self._staging.link_in(step.change.path, step.old_name)
            except OSError:
                pass  # then it is renamed away when its turn comes; what forbids that too is an error then

    def _make(self, step: Step) -> None:
        if step.change.kind == DIRECTORY:
            os.mkdir(step.new_name, 0o700, dir_fd=self._staging.fd)
        elif step.change.kind == SYMLINK:
            os.symlink(step.change.target, step.new_name, dir_fd=self._staging.fd)

    def _dress(self, step: Step) -> None:
        """Owner, mode and mtime of what is to be put; a directory gets its own once it is filled."""
        fd, name, change, old = self._staging.fd, step.new_name, step.change, step.old
        replaces = old is not None and change.kind == old.kind == FILE
        like = old if old is not None and replaces else self._heritage(parent_of(change.path))
        set_owner(fd, name, like.uid, like.gid)
        if change.kind == DIRECTORY:
            os.chmod(name, 0o700 | (like.mode & stat.S_ISGID), dir_fd=fd)
            return
        if change.kind == FILE:
            usual = like.mode & 0o777 if replaces else 0o644
            os.chmod(name, usual if change.mode is None else change.mode, dir_fd=fd)
        if change.mtime_ns is not None:
            os.utime(name, ns=(change.mtime_ns, change.mtime_ns), dir_fd=fd, follow_symlinks=False)


def _plain(journal: Journal) -> Journal:
    """The journal without the mtimes of directories."""

    def plain(old: Old | None) -> Old | None:
        return old._replace(mtime_ns=0) if old is not None and old.kind == DIRECTORY else old

    return journal._replace(
        steps=[step._replace(old=plain(step.old)) for step in journal.steps],
        directories=[(path, old._replace(mtime_ns=0)) for path, old in journal.directories],
    )


def _parent_missing(path: bytes) -> TransactionError:
    return TransactionError(f"{shown(path)} cannot be put: parent missing; put its directory as well", path)
