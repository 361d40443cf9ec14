"""All entries of a tree, as one value.

This file knows no disk. A `Manifest` never changes, is always sorted, names no path twice, no path that could leave
its root, and nothing below a file or a symlink. It is columns, or entries, or both, each made from the other when it
is first asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.columns import DIGEST, DIRECTORY, NO_DIGEST, Columns, edit, splice
from codesync.delta.manifest.entry import Entry, Kind, Skipped, by_path, check_entry, check_skipped, cut
from codesync.delta.manifest.packed import Packed, complete, pack, unpack
from codesync.delta.manifest.paths import below_none, parent_of

_FEW = 64  # questions for one path that are answered by a search, before a table of all paths pays


class Manifest:
    """The entries of a tree and what a scan left out. Immutable; reads like a mapping from path to entry.

    `for entry in manifest` goes through the entries in path order; `path in manifest`, `manifest[path]` and
    `manifest.get(path)` ask for one. Two manifests are equal when their entries are.
    """

    def __init__(self, entries: tuple[Entry, ...] = (), skipped: tuple[Skipped, ...] = ()) -> None:
        """For callers that know the entries to be sorted and safe; everybody else uses `of`."""
        self.entries = entries
        self.skipped = skipped
        self._packed: Packed | None = None  # until the paths of what was read have been checked
        self._asked = 0

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

    @classmethod
    def of_columns(cls, columns: Columns, skipped: tuple[Skipped, ...] = ()) -> Manifest:
        """For callers that know the columns to be sorted and safe."""
        made = cls._empty(skipped)
        made.columns = columns
        return made

    @classmethod
    def _empty(cls, skipped: tuple[Skipped, ...]) -> Manifest:
        """One that neither has columns nor entries yet."""
        made = cls((), skipped)
        del made.__dict__["entries"]
        return made

    def _check_tree(self) -> None:
        for a, b in pairwise(self.entries):
            if a.path == b.path:
                raise ManifestError("a path stands twice in one manifest", a.path)
        others = {entry.path for entry in self.entries if entry.kind is not Kind.DIRECTORY}
        fine: set[bytes] = {b""}
        for entry in self.entries:
            above = parent = parent_of(entry.path)
            while parent not in fine:
                if parent in others:
                    raise below_none(entry.path)
                parent = parent_of(parent)
            fine.add(above)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in path order."""
        return self.columns.entries()

    @cached_property
    def columns(self) -> Columns:
        """All entries, field by field. ManifestError: those of `from_bytes` cannot be a tree's."""
        if self._packed is None:
            return Columns.of(self.entries)
        return complete(self._packed)

    @property
    def paths(self) -> tuple[bytes, ...]:
        """All paths, in order."""
        return self.columns.paths

    @cached_property
    def path_set(self) -> frozenset[bytes]:
        """All paths; the same set each time."""
        return frozenset(self.paths)

    @cached_property
    def tree_id(self) -> str:
        """Hex SHA-256 of what the tree holds: path, kind, executable bit, digest or link target."""
        return self.columns.tree_id()

    @cached_property
    def total_size(self) -> int:
        """Bytes of all files together."""
        return sum(self.columns.sizes)

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        return dict(zip(self.paths, range(len(self)), strict=True))

    def row(self, path: bytes) -> int:
        """Row of a path in the columns; -1 where it is in none."""
        self._asked += 1
        return self.columns.row(path) if self._asked < _FEW else self._rows.get(path, -1)

    def first_with(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """Path of a file for each of the digests that some file has, the first in path order."""
        paths, columns = self.paths, cut(self.columns.digests, DIGEST)
        found = {digest for digest in digests if digest != NO_DIGEST and digest in self.columns.digests}
        rows = [row for row, digest in enumerate(columns) if digest in found] if found else []
        return {columns[row]: paths[row] for row in reversed(rows)}

    def changed(
        self, entries: Iterable[Entry], gone: Iterable[bytes], skipped: Iterable[Skipped] = ()
    ) -> Manifest:
        """Return this manifest with these entries in their places, and without those at the paths `gone`.

        For callers that know it to be a tree. It costs little more than copying what it shares with this one.

        Raises:
            ManifestError: a field of an entry is of a wrong type, or far out of range; `check` says the rest.
        """
        by = {entry.path: entry for entry in entries}
        new, left_out = tuple(sorted(by.values(), key=by_path)), tuple(skipped)
        without = [path for path in gone if path in self and path not in by]
        if not new and not without and left_out == self.skipped:
            return self
        pieces = edit(self.paths, [entry.path for entry in new], without)
        made = Manifest.of_columns(self.columns.spliced(Columns.of(new), pieces), left_out)
        if "entries" in self.__dict__:  # most of them stay the same objects
            made.entries = splice(self.entries, new, pieces)
        return made

    def check(self, paths: Iterable[bytes]) -> None:
        """Check the entries at `paths`, as `of` would, where all others are known to make a tree: after `changed`.

        Raises:
            ManifestError: a field out of range, an entry below a file or symlink.
        """
        fine: set[bytes] = {b""}
        for path in paths:
            entry = self[path]
            check_entry(entry)
            above = parent = parent_of(path)
            while parent not in fine:
                row = self.row(parent)
                if row >= 0 and self.columns.kinds[row] != DIRECTORY:
                    raise below_none(path)
                parent = parent_of(parent)
            fine.add(above)  # not those between: of paths as long as can be they would be too many
            if entry.kind is not Kind.DIRECTORY:
                below = bisect_left(self.paths, path + b"/")
                if below < len(self) and self.paths[below].startswith(path + b"/"):
                    raise below_none(self.paths[below])

    def get(self, path: bytes) -> Entry | None:
        """Return the entry at `path`, or None."""
        row = self.row(path)
        return None if row < 0 else self._entry(row)

    def _entry(self, row: int) -> Entry:
        return self.entries[row] if "entries" in self.__dict__ else self.columns.entry(row)

    def __getitem__(self, path: bytes) -> Entry:
        row = self.row(path)
        if row < 0:
            raise KeyError(path)
        return self._entry(row)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and self.row(path) >= 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        if "entries" in self.__dict__:
            return len(self.entries)
        return len((self._packed.columns if self._packed else self.columns).kinds)

    def __eq__(self, other: object) -> bool:
        return self.columns == other.columns if isinstance(other, Manifest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.tree_id)

    def __repr__(self) -> str:
        return f"<Manifest of {len(self)} entries, tree_id {self.tree_id[:12]}>"

    def to_bytes(self) -> bytes:
        """Pack for a wire or a file; `skipped` travels too."""
        return pack(self.columns, self.skipped)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Unpack and check what `to_bytes` made; the paths are checked when the first of them is needed.

        Until then nothing is known but the number of entries and their sizes; whoever asks for more (a tree_id, a path,
        an entry, a difference) gets the error then.

        Raises:
            ManifestError: not a manifest of this version, damaged, beyond a limit, or no possible tree.
        """
        packed = unpack(data)
        made = cls._empty(packed.skipped)
        made._packed = packed  # noqa: SLF001 - the same class
        return made

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; paths and targets in base64, digests in hex."""
        from codesync.delta.manifest import form

        return form.to_json(self.entries, self.skipped, self.tree_id)

    @classmethod
    def from_json(cls, obj: object) -> Manifest:
        """Read and check what `to_json` made.

        Raises:
            ManifestError: another version, a field of a wrong type, no possible tree, or a tree_id that is not its.
        """
        from codesync.delta.manifest import form

        entries, skipped, expected = form.from_json(obj)
        manifest = cls.of(entries, skipped)
        if manifest.tree_id != expected:
            raise ManifestError(
                f"the manifest's entries make tree {manifest.tree_id}, but it names {expected[:64]}"
            )
        return manifest
