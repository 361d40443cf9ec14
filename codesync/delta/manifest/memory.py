"""What one scan of a tree leaves for the next: each directory as it was listed, and what its files looked like.

A directory is taken as it was only if it holds the same names of the same kinds under the same rules, and each file
that counts has the size, times, inode and mode it had. Every scan lists every directory and asks for every file's
status: no time of a directory and no watcher is relied on. As with the cache of digests that is enough only for files
whose times were safely older than the reading; a directory with a younger one, or with anything that could not be
read, is gone through anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter
from typing import TYPE_CHECKING

from codesync.delta.manifest.entry import Entry
from codesync.delta.manifest.tree import Manifest

if TYPE_CHECKING:
    from codesync.delta.cache import ManifestCache
    from codesync.delta.ignore import Level, Verdict

_look_of = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_mode")


@dataclass(slots=True)
class Seen:
    """A directory: what is listed in it, item by item, and what has come of it.

    `leaves`: whether an item counts and is no directory; `looks` and `entries` are of those, in the same order.
    """

    names: list[str]
    kinds: list[bool]  # whether an item is a directory
    level: Level | None = None
    settled: bool = True  # whether the same look means the same content
    own: Entry | None = None  # the directory itself; the root has none
    leaves: list[bool] = field(default_factory=list)
    looks: list[tuple[int, ...]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    children: list[tuple[bytes, Verdict | None]] = field(default_factory=list)  # directories that count

    def looks_like(self, before: Seen) -> bool:
        """Whether the same items are listed, under the same rules."""
        return self.names == before.names and self.kinds == before.kinds and self.level == before.level

    def still(self, items: list[os.DirEntry[str]]) -> bool:
        """Whether the items, which are those of `names`, are what they were."""
        if not self.settled:
            return False
        try:
            looks = [_look_of(item.stat(follow_symlinks=False)) for item in compress(items, self.leaves)]
        except OSError:  # going through them one by one says what it is about
            return False
        return looks == self.looks

    def take(self, entry: Entry, status: os.stat_result) -> None:
        """One more leaf, and how it looked."""
        self.entries.append(entry)
        self.looks.append(_look_of(status))

    @property
    def paths(self) -> set[bytes]:
        """Of all that has come of it, the directory included."""
        paths = {entry.path for entry in self.entries}
        if self.own is not None:
            paths.add(self.own.path)
        return paths


class ScanMemory:
    """For one tree that is scanned again and again; as large as the tree, and empty after a scan that failed.

    `cache` is asked for the digests of files that were not there the last time. Not for two threads.
    """

    def __init__(self, cache: ManifestCache | None = None) -> None:
        self.cache = cache
        self._seen: dict[bytes, Seen] = {}
        self._manifest = Manifest()

    @property
    def size(self) -> int:
        """How many entries it remembers."""
        return len(self._manifest)

    def take(self) -> tuple[dict[bytes, Seen], Manifest]:
        """Hand out what there is, directories by path, and be empty until a scan has come to its end."""
        seen, manifest = self._seen, self._manifest
        self._seen, self._manifest = {}, Manifest()
        return seen, manifest

    def keep(self, seen: dict[bytes, Seen], manifest: Manifest) -> None:
        """End a scan."""
        self._seen, self._manifest = seen, manifest


def unchanged(entries: Iterable[Entry], before: Seen) -> tuple[list[Entry], list[Entry]]:
    """Return entries with those of `before` in place of equal ones, and those that differ or are new."""
    old = {entry.path: entry for entry in before.entries}
    kept, changed = [], []
    for entry in entries:
        was = old.get(entry.path)
        if was == entry:
            kept.append(was)
        else:
            kept.append(entry)
            changed.append(entry)
    return kept, changed
