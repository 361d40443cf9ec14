"""What one scan of a tree leaves for the next: its manifest, and how everything in the tree looked.

A directory is passed over only if it, and all that counts in it, look as they did: size, times, inode and mode. Every
scan asks for every one of those looks; no watcher is relied on. As with git's index that is enough only for what was
safely older than the moment it was read, and so nothing younger is taken to look like anything. That the look of a
directory tells of the names in it holds on the file systems that mounts.py knows; on others they are listed anew.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from codesync.delta.manifest.bulk import Asking, Group, asking
from codesync.delta.manifest.columns import DIGEST, DIRECTORY, FILE, edit
from codesync.delta.manifest.looks import PLAIN, STATUS, Look, Looks
from codesync.delta.manifest.paths import families
from codesync.delta.manifest.tree import Manifest

if TYPE_CHECKING:
    from codesync.delta.cache import ManifestCache

_MANY = 8  # in a directory, on average
MAX_LEVELS = 2**16  # that have a number
_MANY_LEVELS = 64


class Past:
    """One scan's result. Immutable. Row i of `looks` is that of the manifest's row i, the last one is the root's.

    `levels`: identities of the rules that held, by their numbers in `looks`; the first is that of no rules. `indexes`:
    what `Level.identity` wants to be told.
    """

    def __init__(
        self,
        manifest: Manifest,
        looks: Looks,
        levels: tuple[bytes, ...] = (b"",),
        indexes: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.manifest = manifest
        self.looks = looks
        self.levels = levels
        self.indexes = indexes or {}

    @property
    def is_empty(self) -> bool:
        """Whether there was no scan."""
        return not self.looks.flags

    def path(self, row: int) -> bytes:
        """Path of a row; b"" is the root's."""
        return self.manifest.paths[row] if row < len(self.manifest) else b""

    def row(self, path: bytes) -> int:
        """Row of a path, -1 where it was not."""
        return self.manifest.row(path) if path else len(self.manifest)

    @cached_property
    def special(self) -> list[int]:
        """Rows of the directories that are to be looked into although they look the same."""
        return [row for row, flags in enumerate(self.looks.flags) if flags > PLAIN]

    def lookup(self, path: bytes, status: os.stat_result) -> bytes | None:
        """Return the digest of the file at `path`, if its lstat still vouches for it.

        A file that was not at that path may have been at another: its directory has been renamed, say.
        """
        row = self.row(path)
        if row < 0:
            row = self._by_inode.get(status.st_ino, -1)
        if row < 0 or self.manifest.columns.kinds[row] != FILE:
            return None
        known, now = self.looks.row(row), Look.of(status)
        # another mode is no other content
        if not known.access or known[1:STATUS] != now[1:STATUS]:
            return None
        return self.manifest.columns.digests[DIGEST * row : DIGEST * (row + 1)]

    @cached_property
    def _by_inode(self) -> dict[int, int]:
        return dict(zip(self.looks.inodes, range(len(self.manifest)), strict=False))

    def suspects(self, root: int) -> list[int]:
        """Rows of what does not look as it did, seen from the open directory `root`.

        A path is asked for through the directories on it as they are now, were one of them a symlink by now: what
        looks the same is the same, wherever it is, and nothing is opened but directories, to ask for what is in them.
        """
        last = len(self.manifest)
        changed = [last] if self.looks.differs(last, os.fstat(root)) else []
        return self._asking.differing(self._groups, root) + changed

    @cached_property
    def _asking(self) -> Asking:
        return asking(self.looks)

    @cached_property
    def _groups(self) -> list[Group]:
        """Large groups of siblings, each to be asked for from its directory; all others, by their paths, from the root."""
        paths, kinds = self.manifest.paths, self.manifest.columns.kinds
        if len(paths) < _MANY * kinds.count(DIRECTORY):  # finding them out would take longer than they spare
            return [(b"", paths)]
        joined = b"\0".join(paths)
        groups: list[Group] = []
        row = at = 0
        for directory, names, start, stop in families(joined):
            if start > at:
                others = joined.count(b"\0", at, start)
                groups.append((b"", paths[row : row + others]))
                row += others
            groups.append((directory, names.split(b"\0")))
            row += len(groups[-1][1])
            at = stop + 1
        return [*groups, (b"", paths[row:])]

    def after(
        self,
        manifest: Manifest,
        looks: Mapping[bytes, Look],
        levels: tuple[bytes, ...],
        indexes: Mapping[bytes, bytes],
    ) -> Past:
        """What a scan leaves that has found `manifest`: all that is in `looks` looks so, and all else as it did."""
        before, after = self.manifest.paths, manifest.paths
        root = looks.get(b"")
        new = sorted(path for path in looks if path)
        pieces = edit(before, new, () if before == after else self.manifest.path_set - manifest.path_set)
        pieces.append(
            (False, len(before), len(before) + 1) if root is None else (True, len(new), len(new) + 1)
        )
        rows = [looks[path] for path in new] + ([] if root is None else [root])
        made = Past(manifest, *_with_few(self.looks.spliced(Looks.of(rows), pieces), levels), indexes)
        if before == after and "_groups" in self.__dict__:
            made.__dict__["_groups"] = self._groups
        return made


class ScanMemory:
    """For one tree that is scanned again and again; as large as the tree, and empty after a scan that failed.

    `cache` is asked when it is empty. Not for two threads.
    """

    def __init__(self, cache: ManifestCache | None = None) -> None:
        self.cache = cache
        self._past: Past | None = None

    @property
    def size(self) -> int:
        """How many entries it remembers."""
        return len(self._past.manifest) if self._past is not None else 0

    def take(self) -> Past:
        """Hand out what there is, and be empty until a scan has come to its end."""
        past, self._past = self._past, None
        if past is None and self.cache is not None:
            past = self.cache.load()
        return past or NO_PAST

    def keep(self, past: Past) -> None:
        """End a scan."""
        self._past = past


def _with_few(looks: Looks, levels: tuple[bytes, ...]) -> tuple[Looks, tuple[bytes, ...]]:
    """Forget identities of rules that hold no more, once there may be many."""
    if len(levels) < _MANY_LEVELS:
        return looks, levels
    used = sorted({0, *looks.levels})
    numbers = {level: number for number, level in enumerate(used)}
    renumbered = array("H", [numbers[level] for level in looks.levels])
    return looks._replace(levels=renumbered), tuple(levels[level] for level in used)


NO_PAST = Past(Manifest(), Looks.of(()))
