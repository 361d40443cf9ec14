"""The ignore rules of a tree's directories while it is scanned, and whether they are those that held before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesync.delta.errors import ScanError
from codesync.delta.manifest.memory import MAX_LEVELS
from codesync.delta.manifest.paths import parent_of

if TYPE_CHECKING:
    from codesync.delta.ignore import Level, Rules, Verdict
    from codesync.delta.manifest.memory import Past
    from codesync.delta.manifest.tree import Manifest


class Levels:
    """Parents are entered before their children; a directory that is passed over has the rules of its parent."""

    def __init__(self, rules: Rules | None, past: Past) -> None:
        """No `rules`: everything counts, everywhere."""
        self._rules = rules
        self._indexes = past.indexes
        self._numbers = {identity: number for number, identity in enumerate(past.levels)}
        self._entered: dict[bytes, Level | None] = {}

    def __contains__(self, path: bytes) -> bool:
        return path in self._entered

    def enter(self, fd: int, path: bytes, verdict: Verdict, names: set[str] | None = None) -> Level | None:
        """The rules in the directory that is open as `fd`; `names`: what is in it, if known. ScanError."""
        level = None
        if self._rules is not None:
            above = self._above(path) if path else self._rules.above
            assert above is not None
            level = above.enter(path, verdict, fd, names, known=self._rules.before.get(path))
            self._rules.entered(path, level)
        self._entered[path] = level
        return level

    def _above(self, path: bytes) -> Level | None:
        path = parent_of(path)
        while path not in self._entered:
            path = parent_of(path)
        return self._entered[path]

    def number(self, level: Level | None) -> int:
        """What stands for a level in what a scan leaves. ScanError: there are too many."""
        identity = b"" if level is None else level.identity(self._indexes)
        number = self._numbers.setdefault(identity, len(self._numbers))
        if number >= MAX_LEVELS:
            raise ScanError(f"more than {MAX_LEVELS} kinds of ignore rules; ignore what brings them")
        return number

    def end(self, manifest: Manifest) -> tuple[tuple[bytes, ...], dict[bytes, bytes]]:
        """The scan has found `manifest`. Return identities by number, and what git tracks, as `Past` has them."""
        if self._rules is not None:
            self._rules.scanned(manifest)
        repositories = {id(level.repository): level.repository for level in self._entered.values() if level}
        tracked = [repository.tracked for repository in repositories.values() if repository.tracked.source]
        indexes = {index.source: self._indexes.get(index.source) or index.name for index in tracked}
        return tuple(self._numbers), indexes
