"""How everything in a tree looked when it was scanned: what lstat said, and what became of each directory.

A file whose look is the same holds the same bytes, a directory whose look is the same holds the same names: that is
what lets a scan pass over them. Columns again, row by row those of the manifest, and at the end one row for the root.
The numbers are those of Linux's statx(2), so that many can be compared where it has put them (bulk.py).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from codesync.delta.manifest.columns import Piece, splice_array

# A filesystem's clock ticks at most this far apart: it stores nanoseconds and Linux, say, moves them on every 10 ms …
_FINE = 100_000_000
# … unless all its times are multiples of 10 ms: then it stores whole seconds, or every other one as FAT does.
_COARSE = 2_500_000_000

# What a row's flags say of a directory; other rows have none.
PLAIN = 1  # it is one
RULES = 2  # it may have rules of its own: something in it is called .gitignore or .git
YOUNG = 4  # its look does not vouch for the names in it
TRACKED_ONLY = 8  # it is ignored but for what git tracks below it

STATUS = 7  # of a look's fields, the first, are what lstat says
TYPES = "QQQQQQQBHQ"  # of the columns, as the module array names them
_SECOND = 1_000_000_000
_UNSIGNED = 2**64 - 1


def is_settled(status: os.stat_result, moment_ns: int) -> bool:
    """Whether whatever is done to a file or directory from `moment_ns` (wall clock) on must leave other times."""
    times = status.st_mtime_ns, status.st_ctime_ns
    fine = all(time % 10_000_000 for time in times)
    return max(times) < moment_ns - (_FINE if fine else _COARSE)


class Look(NamedTuple):
    """One row. `access`: mode and, in the lower 32 bits, group; 0: nothing looks like this.

    Times in seconds and nanoseconds beyond them. `level`: number of the rules that held in a directory. `listing`:
    XXH3-64 of the names and kinds in a directory, as they were listed.
    """

    access: int
    inode: int
    size: int
    changed: int
    changed_ns: int
    modified: int
    modified_ns: int
    flags: int = 0
    level: int = 0
    listing: int = 0

    @classmethod
    def of(cls, status: os.stat_result, *, settled: bool = True) -> Look:
        """What lstat says, but of something that may yet change without a trace: nothing will look like that."""
        changed, changed_ns = divmod(status.st_ctime_ns, _SECOND)
        modified, modified_ns = divmod(status.st_mtime_ns, _SECOND)
        return cls(
            status.st_mode << 32 | status.st_gid if settled else 0,
            status.st_ino,
            status.st_size,
            changed & _UNSIGNED,
            changed_ns,
            modified & _UNSIGNED,
            modified_ns,
        )


class Looks(NamedTuple):
    """All rows, field by field."""

    accesses: array[int]
    inodes: array[int]
    sizes: array[int]
    changed: array[int]
    changed_ns: array[int]
    modified: array[int]
    modified_ns: array[int]
    flags: array[int]
    levels: array[int]
    listings: array[int]

    @classmethod
    def of(cls, rows: Iterable[Look]) -> Looks:
        """Take rows apart."""
        columns = list(zip(*rows, strict=True)) or [()] * len(TYPES)
        return cls._make(array(typecode, column) for typecode, column in zip(TYPES, columns, strict=True))

    def row(self, row: int) -> Look:
        """One of them."""
        return Look(*(column[row] for column in self))

    def spliced(self, new: Looks, pieces: Sequence[Piece]) -> Looks:
        """Rows of this one and of `new`, piece by piece."""
        columns = zip(self, new, strict=True)
        return Looks._make(splice_array(old, come, pieces) for old, come in columns)

    def differs(self, row: int, status: os.stat_result) -> bool:
        """Whether a row does not look as lstat says."""
        return Look.of(status)[:STATUS] != tuple(column[row] for column in self[:STATUS])
