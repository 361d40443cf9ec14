"""The entries of a tree as columns: one item for each entry and field, all in path order.

Most of what is done to a whole tree (loading it, comparing it, editing a few paths of it) is done to columns, by a few
calls that do not go from entry to entry in Python. This file knows no disk and no form; it trusts what it is given.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.entry import Entry, Kind, cut, id_of_columns, target_tail

DIGEST = 32  # bytes
NO_DIGEST = bytes(DIGEST)
FILE, DIRECTORY, SYMLINK = b"fdl"  # as numbers, which is what a column of kinds holds
KINDS = {ord(kind): kind for kind in Kind}
_LETTERS = {letter: bytes([letter]) for letter in b"fdl"}

Piece = tuple[bool, int, int]  # rows from start to stop, of the new ones or of the old ones
T = TypeVar("T")


class Columns(NamedTuple):
    """As long as each other, but for `targets`: those of the symlinks alone. `digests`: 32 bytes a row, zeros of no file."""

    paths: tuple[bytes, ...]
    kinds: bytes
    modes: array[int]  # H
    mtimes: array[int]  # q
    sizes: array[int]  # q
    digests: bytes
    targets: tuple[bytes, ...]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Columns:
        """Take apart entries that are in path order. ManifestError: a value that fits no column."""
        if not entries:
            return NONE
        paths, kinds, modes, mtimes, sizes, digests, targets = zip(*entries, strict=True)
        try:
            if not {*map(len, digests)} <= {0, DIGEST}:
                raise ManifestError("a digest is not a SHA-256")
            return cls(
                paths,
                "".join(kinds).encode("ascii"),
                array("H", modes),
                array("q", mtimes),
                array("q", sizes),
                b"".join([digest or NO_DIGEST for digest in digests]),
                tuple(target for target, kind in zip(targets, kinds, strict=True) if kind == Kind.SYMLINK),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"an entry holds what no entry can ({error})") from error

    def entry(self, row: int) -> Entry:
        """The entry of one row."""
        kind = self.kinds[row]
        digest = self.digests[DIGEST * row : DIGEST * (row + 1)] if kind == FILE else b""
        target = self.target(row) if kind == SYMLINK else b""
        return Entry(
            self.paths[row], KINDS[kind], self.modes[row], self.mtimes[row], self.sizes[row], digest, target
        )

    def target(self, row: int) -> bytes:
        """Where the symlink of a row points to."""
        return self.targets[_links(self, row)]

    def entries(self) -> tuple[Entry, ...]:
        """All entries."""
        targets = iter(self.targets)
        return tuple(
            [
                Entry(path, KINDS[kind], mode, mtime, size, digest)
                if kind == FILE
                else Entry(path, KINDS[kind], mode, mtime, 0, b"", next(targets) if kind == SYMLINK else b"")
                for path, kind, mode, mtime, size, digest in zip(
                    self.paths,
                    self.kinds,
                    self.modes,
                    self.mtimes,
                    self.sizes,
                    cut(self.digests, DIGEST),
                    strict=True,
                )
            ]
        )

    def tree_id(self) -> str:
        """As `entry.tree_id` of the entries."""
        targets = map(target_tail, self.targets)
        letters = [
            b"x" if mode & 0o100 and kind == FILE else _LETTERS[kind]
            for kind, mode in zip(self.kinds, self.modes, strict=True)
        ]
        tails = cut(self.digests, DIGEST)
        for row, kind in enumerate(self.kinds):
            if kind != FILE:
                tails[row] = next(targets) if kind == SYMLINK else b""
        return id_of_columns(letters, self.paths, tails)

    def row(self, path: bytes) -> int:
        """Row of a path; -1 where it is in none."""
        row = bisect_left(self.paths, path)
        return row if row < len(self.paths) and self.paths[row] == path else -1

    def below(self, path: bytes) -> tuple[int, int]:
        """Where the rows of what lies below a directory start and stop."""
        start = bisect_left(self.paths, path + b"/") if path else 0
        return start, bisect_left(self.paths, path + b"0", start) if path else len(self.paths)

    def spliced(self, new: Columns, pieces: Sequence[Piece]) -> Columns:
        """Rows of this one and of `new`, piece by piece."""
        links = [
            (is_new, _links(new if is_new else self, start), _links(new if is_new else self, stop))
            for is_new, start, stop in pieces
        ]
        return Columns(
            splice(self.paths, new.paths, pieces),
            splice_bytes(self.kinds, new.kinds, pieces),
            splice_array(self.modes, new.modes, pieces),
            splice_array(self.mtimes, new.mtimes, pieces),
            splice_array(self.sizes, new.sizes, pieces),
            splice_bytes(self.digests, new.digests, pieces, DIGEST),
            splice(self.targets, new.targets, links),
        )


def _links(columns: Columns, row: int) -> int:
    """How many symlinks there are before a row."""
    return columns.kinds.count(SYMLINK, 0, row) if columns.targets else 0


NONE = Columns((), b"", array("H"), array("q"), array("q"), b"", ())


def edit(old: Sequence[bytes], new: Sequence[bytes], gone: Iterable[bytes]) -> list[Piece]:
    """How sorted paths come from `old` ones: those of `new`, which is sorted, in their places, and none of `gone`."""
    if not old:
        return [(True, 0, len(new))] if new else []
    steps = [(bisect_left(old, path), number) for number, path in enumerate(new)]
    replaced = {row for (row, _), path in zip(steps, new, strict=True) if row < len(old) and old[row] == path}
    dropped = {
        row for path in gone if (row := bisect_left(old, path)) < len(old) and old[row] == path
    } - replaced
    steps += [(row, -1) for row in dropped]
    pieces: list[Piece] = []
    at = 0
    for row, number in sorted(steps, key=_step):
        if row > at:
            pieces.append((False, at, row))
        at = row + (number < 0 or row in replaced)
        if number >= 0:
            if pieces and pieces[-1][0] and pieces[-1][2] == number:
                pieces[-1] = (True, pieces[-1][1], number + 1)
            else:
                pieces.append((True, number, number + 1))
    if at < len(old):
        pieces.append((False, at, len(old)))
    return pieces


def _step(step: tuple[int, int]) -> tuple[int, bool, int]:
    """By row, and there what comes before what goes."""
    row, number = step
    return row, number < 0, number


def splice(old: tuple[T, ...], new: tuple[T, ...], pieces: Iterable[Piece]) -> tuple[T, ...]:
    """Items of both, piece by piece."""
    return tuple(chain.from_iterable([(new if is_new else old)[a:b] for is_new, a, b in pieces]))


def splice_bytes(old: bytes, new: bytes, pieces: Iterable[Piece], width: int = 1) -> bytes:
    """The same for a column with so many bytes a row."""
    return b"".join([(new if is_new else old)[a * width : b * width] for is_new, a, b in pieces])


def splice_array(old: array[int], new: array[int], pieces: Iterable[Piece]) -> array[int]:
    """The same for a column of numbers."""
    joined = array(old.typecode)
    for is_new, a, b in pieces:
        joined += (new if is_new else old)[a:b]
    return joined
