"""All entries of a tree, as one value.

This file knows no disk. A `Manifest` never changes, is always sorted, names no path twice, no path that could leave
its root, and nothing below a file or a symlink.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeVar

from codesync.delta.errors import ManifestError
from codesync.delta.manifest import form
from codesync.delta.manifest.entry import (
    Entry,
    Kind,
    Skipped,
    by_path,
    check_entry,
    check_skipped,
    record,
    records_id,
)

T = TypeVar("T")


class Manifest:
    """The entries of a tree and what a scan left out. Immutable; reads like a mapping from path to entry.

    `for entry in manifest` goes through the entries in path order; `path in manifest`, `manifest[path]` and
    `manifest.get(path)` ask for one. Two manifests are equal when their entries are.
    """

    def __init__(self, entries: tuple[Entry, ...] = (), skipped: tuple[Skipped, ...] = ()) -> None:
        """For callers that know the entries to be sorted and safe; everybody else uses `of`."""
        self.entries = entries
        self.skipped = skipped

    @classmethod
    def of(cls, entries: Iterable[Entry], skipped: Iterable[Skipped] = ()) -> Manifest:
        """Sort and check.

        Raises:
            ManifestError: a path twice, an unsafe path, an entry below a file or symlink, a field out of range.
        """
        given, left_out = list(entries), list(skipped)
        for entry in given:
            check_entry(entry)
        for skip in left_out:
            check_skipped(skip)
        manifest = cls(tuple(sorted(given, key=by_path)), tuple(sorted(left_out)))
        manifest._check_tree()
        return manifest

    def _check_tree(self) -> None:
        if len(self.index) != len(self.entries):
            twice = next(a.path for a, b in pairwise(self.entries) if a.path == b.path)
            raise ManifestError("a path stands twice in one manifest", twice)
        others = {entry.path for entry in self.entries if entry.kind is not Kind.DIRECTORY}
        fine: set[bytes] = {b""}
        for path in self.index:
            parent = _parent(path)
            while parent not in fine:
                if parent in others:
                    raise _below_none(path)
                fine.add(parent)
                parent = _parent(parent)

    @cached_property
    def index(self) -> dict[bytes, Entry]:
        """Path → entry, in path order; for reading only."""
        return {entry.path: entry for entry in self.entries}

    @cached_property
    def records(self) -> dict[bytes, bytes]:
        """Path → what a tree_id knows of its entry, in path order; for reading only."""
        return {entry.path: record(entry) for entry in self.entries}

    @cached_property
    def tree_id(self) -> str:
        """Hex SHA-256 of what the tree holds: path, kind, executable bit, digest or link target."""
        return records_id(self.records.values())

    @cached_property
    def total_size(self) -> int:
        """Bytes of all files together."""
        return sum(map(attrgetter("size"), self.entries))

    @property
    def paths(self) -> tuple[bytes, ...]:
        """All paths, in order."""
        return tuple(self.index)

    def changed(
        self, entries: Iterable[Entry], gone: Iterable[bytes], skipped: Iterable[Skipped] = ()
    ) -> Manifest:
        """Return this manifest with these entries in their places, and without those at the paths `gone`.

        For callers that know it to be a tree. It costs little more than copying what it shares with this one.
        """
        new, left_out = {entry.path: entry for entry in entries}, tuple(skipped)
        without = [path for path in gone if path in self.index]
        if not new and not without and left_out == self.skipped:
            return self
        made = Manifest(skipped=left_out)
        made.index = _edited(self.index, new, without)
        made.entries = tuple(made.index.values())
        if "records" in self.__dict__:
            made.records = _edited(
                self.records, {path: record(entry) for path, entry in new.items()}, without
            )
        return made

    def check(self, paths: Iterable[bytes]) -> None:
        """Check the entries at `paths`, as `of` would, where all others are known to make a tree: after `changed`.

        Raises:
            ManifestError: a field out of range, an entry below a file or symlink.
        """
        fine: set[bytes] = {b""}
        for path in paths:
            entry = self.index[path]
            check_entry(entry)
            parent = _parent(path)
            while parent not in fine:
                above = self.index.get(parent)
                if above is not None and above.kind is not Kind.DIRECTORY:
                    raise _below_none(path)
                fine.add(parent)
                parent = _parent(parent)
            if entry.kind is not Kind.DIRECTORY:
                below = bisect_left(self.entries, path + b"/", key=by_path)
                for entry in self.entries[below : below + 1]:
                    if entry.path.startswith(path + b"/"):
                        raise _below_none(entry.path)

    def get(self, path: bytes) -> Entry | None:
        """Return the entry at `path`, or None."""
        return self.index.get(path)

    def __getitem__(self, path: bytes) -> Entry:
        return self.index[path]

    def __contains__(self, path: object) -> bool:
        return path in self.index

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return self.entries == other.entries if isinstance(other, Manifest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.tree_id)

    def __repr__(self) -> str:
        return f"<Manifest of {len(self.entries)} entries, tree_id {self.tree_id[:12]}>"

    def to_bytes(self) -> bytes:
        """Pack for a wire or a file; `skipped` travels too."""
        return form.pack(self.entries, self.skipped)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Unpack and check what `to_bytes` made.

        Raises:
            ManifestError: not a manifest of this version, damaged, beyond a limit, or no possible tree.
        """
        return cls.of(*form.unpack(data))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; paths and targets in base64, digests in hex."""
        return form.to_json(self.entries, self.skipped, self.tree_id)

    @classmethod
    def from_json(cls, obj: object) -> Manifest:
        """Read and check what `to_json` made.

        Raises:
            ManifestError: another version, a field of a wrong type, no possible tree, or a tree_id that is not its.
        """
        entries, skipped, expected = form.from_json(obj)
        manifest = cls.of(entries, skipped)
        if manifest.tree_id != expected:
            raise ManifestError(
                f"the manifest's entries make tree {manifest.tree_id}, but it names {expected[:64]}"
            )
        return manifest


def _below_none(path: bytes) -> ManifestError:
    return ManifestError("an entry stands below one that is no directory", path)


def _edited(old: dict[bytes, T], new: dict[bytes, T], gone: Iterable[bytes]) -> dict[bytes, T]:
    """A copy in path order, with `new` and without `gone`."""
    edited = old.copy()
    for path in gone:
        del edited[path]
    in_order = new.keys() <= edited.keys()
    edited |= new
    return edited if in_order else {path: edited[path] for path in sorted(edited)}


def _parent(path: bytes) -> bytes:
    return path[: max(0, path.rfind(b"/"))]
