"""From one tree to another as a list of changes, and the files of a trial that hold what is new."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from codesync.delta import BatchError, Entry, Kind, Manifest
from codesync.sidecar.volume import FILE_MODE
from codesync.transaction import ATTRIBUTES, DELETE, DIRECTORY, FILE, SYMLINK, Change

_CHUNK = 256 * 1024
_KINDS = {Kind.FILE: FILE, Kind.DIRECTORY: DIRECTORY, Kind.SYMLINK: SYMLINK}


class TrialFiles:
    """Numbers the files of a trial; `paths` maps each changed path to its content."""

    def __init__(self, trial: Path) -> None:
        self._directory = trial / "files"
        self.paths: dict[bytes, Path] = {}

    def create(self, change: Change) -> BinaryIO:
        file = open(self._next(change), "xb")
        os.fchmod(file.fileno(), FILE_MODE)
        return file

    def copy(self, change: Change, source: BinaryIO) -> None:
        """Take over content that has lain about for a while. Raises BatchError unless it is still what it was."""
        digest = hashlib.sha256()
        with self.create(change) as file:
            while data := source.read(_CHUNK):
                digest.update(data)
                file.write(data)
        if digest.hexdigest() != change.digest:
            raise BatchError("the history's content is damaged", change.path)

    def _next(self, change: Change) -> Path:
        path = self._directory / str(len(self.paths))
        self.paths[change.path] = path
        return path


def tree_changes(base: Manifest, target: Manifest) -> list[Change]:
    """Every change from `base` to `target`, moves as delete and put, in the order a transaction takes them."""
    deletes = [Change(e.path, DELETE) for e in base if e.path not in target]
    puts = [_change(e) for e in target if not _same(base.get(e.path), e)]
    modes = [
        Change(e.path, ATTRIBUTES, mode=e.mode)
        for e in target
        if (old := base.get(e.path)) and _same(old, e) and old.mode != e.mode
    ]
    return [*reversed(deletes), *puts, *modes]


def _same(old: Entry | None, new: Entry) -> bool:
    return old is not None and (old.kind, old.digest, old.target) == (new.kind, new.digest, new.target)


def _change(entry: Entry) -> Change:
    mtime_ns = entry.mtime_ns if entry.kind == Kind.FILE else None
    return Change(
        entry.path, _KINDS[entry.kind], entry.mode, mtime_ns, entry.size, entry.digest.hex(), entry.target
    )


def displaced_files(old: Manifest, changes: Iterable[Change]) -> dict[bytes, str]:
    """The digest of every file that the changes replace or delete."""
    found = {}
    for change in changes:
        entry = old.get(change.path)
        if entry and entry.kind == Kind.FILE and change.kind != ATTRIBUTES:
            found[change.path] = entry.digest.hex()
    return found
