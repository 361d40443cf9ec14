"""Asking for the status of many things at once, to learn which of them do not look as they did.

Of what `os.stat` takes more than half is making the value that it returns. So on Linux the C library's statx(2) is
called through ctypes and writes one status behind the other into a buffer, where whole columns are compared. Elsewhere,
and for so few that importing ctypes would take longer, it is `os.stat`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from codesync.delta.manifest.looks import STATUS, Looks

_FEW = 1024
_AT_ONCE = 256
_STATUS = 256  # bytes
_WORDS = (3, 4, 5, 12, 13, 14, 15)  # of 8 bytes: where in a status is what a look consists of
_FLAGS = 0x100 | 0x800  # AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT
_WANTED = 0x1 | 0x2 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200  # type, mode, group, mtime, ctime, inode, size
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Group = tuple[bytes, Sequence[bytes]]  # a directory, and what to ask for from there, row by row


def asking(looks: Looks) -> Asking:
    """The faster way, where there is one."""
    if sys.platform == "linux" and sys.byteorder == "little":
        if len(looks.flags) > _FEW or "ctypes" in sys.modules:
            try:
                return _AskingAtOnce(looks)
            except (
                ImportError,
                AttributeError,
                OSError,
            ):  # no ctypes, no statx, or a sandbox that forbids it
                pass
    return Asking(looks)


class Asking:
    """One by one. Not for two threads."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self.rows: list[int] = []  # that differ

    def start(self) -> None:
        """Nothing has been asked for."""
        self.rows = []

    def differing(self, groups: Iterable[Group], root: int) -> list[int]:
        """Rows that do not look as they did. `groups` go through all rows, from directories in the open one, `root`."""
        self.start()
        row = 0
        for directory, names in groups:
            try:
                descriptor = os.open(directory, _PASS, dir_fd=root) if directory else root
            except OSError:
                self.give_up(row, len(names))
            else:
                try:
                    self.ask(descriptor, row, names)
                finally:
                    if directory:
                        os.close(descriptor)
            row += len(names)
        self.finish()
        return self.rows

    def give_up(self, row: int, count: int) -> None:
        """Nobody can be asked about so many rows: looking into them says more."""
        self.rows += range(row, row + count)

    def ask(self, directory: int, row: int, names: Sequence[bytes]) -> None:
        """Compare the rows from `row` on with what has these names in an open directory."""
        self.rows += [at for at, name in enumerate(names, row) if self._differs(directory, at, name)]

    def _differs(self, directory: int, row: int, name: bytes) -> bool:
        try:
            return self.looks.differs(row, os.stat(name, dir_fd=directory, follow_symlinks=False))
        except OSError:
            return True

    def finish(self) -> None:
        """All have been asked for."""


class _AskingAtOnce(Asking):
    """Through statx. The buffer holds what was said about the rows from `_first` on, `_count` of them, not yet compared."""

    def __init__(self, looks: Looks) -> None:
        import ctypes

        super().__init__(looks)
        self._statx: Any = ctypes.CDLL(None).statx
        buffer = bytearray(_STATUS * _AT_ONCE)
        slot = ctypes.c_char * _STATUS
        self._slots = [ctypes.byref(slot.from_buffer(buffer, at)) for at in range(0, len(buffer), _STATUS)]
        words = memoryview(buffer).cast("Q")
        self._fields = [words[word :: _STATUS // 8] for word in _WORDS]
        self._columns = [memoryview(column) for column in looks[:STATUS]]
        self.start()
        if any(self._codes(-100, [b"/"], self._slots)):
            raise OSError

    def start(self) -> None:
        super().start()
        self._first = self._count = 0

    def _codes(self, directory: int, names: Sequence[bytes], slots: Sequence[Any]) -> Iterator[int]:
        """Ask into the slots, one after the other; 0 is success."""
        return map(self._statx, repeat(directory), names, repeat(_FLAGS), repeat(_WANTED), slots)

    def ask(self, directory: int, row: int, names: Sequence[bytes]) -> None:
        at = 0
        while at < len(names):
            some = names[at : at + _AT_ONCE - self._count]
            slots = self._slots[self._count : self._count + len(some)]
            if any(self._codes(directory, some, slots)):
                codes = self._codes(directory, some, slots)
                self.rows += [number for number, code in enumerate(codes, row + at) if code]
            self._count += len(some)
            at += len(some)
            if self._count == _AT_ONCE:
                self._compare()

    def give_up(self, row: int, count: int) -> None:
        self._compare()
        super().give_up(row, count)
        self._first = row + count

    def _compare(self) -> None:
        first, count = self._first, self._count
        pairs = [
            (column[first : first + count], field[:count])
            for column, field in zip(self._columns, self._fields, strict=True)
        ]
        if any(known != now for known, now in pairs):
            self.rows += [
                first + at for at in range(count) if any(known[at] != now[at] for known, now in pairs)
            ]
        self._first, self._count = first + count, 0

    def finish(self) -> None:
        self._compare()
        self.rows = sorted({*self.rows})
