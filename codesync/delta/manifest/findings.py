"""What a scan has found so far: entries and looks that are new, paths that are gone, what is left out."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from codesync.delta.manifest.content import read_file, read_link
from codesync.delta.manifest.entry import Entry, Kind, Skipped
from codesync.delta.manifest.looks import YOUNG, Look, is_settled
from codesync.delta.manifest.paths import parent_of
from codesync.transaction.errors import UnsafePath

if TYPE_CHECKING:
    from codesync.delta.manifest.listing import Listing
    from codesync.delta.manifest.memory import Past
    from codesync.delta.manifest.tree import Manifest

_SPECIAL = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_ATTEMPTS = 4  # at one file that keeps changing


class Findings:
    """All beside `past`, which is what the scan before has found. `count`: how many entries there are so far."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.entries: dict[bytes, Entry] = {}
        self.gone: set[bytes] = set()
        self.files_read = self.bytes_read = 0
        self.count = len(past.manifest)
        self._looks: dict[bytes, Look] = {}
        self._skipped: list[Skipped] = []
        self._unsettled: set[bytes] = set()

    def leaf(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Take in what is no directory, as `status` says; look again while it turns out to be something else."""
        for _ in range(_ATTEMPTS):
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG:
                if self._file(directory, name, path, status):
                    return
            elif kind == stat.S_IFLNK:
                moment = time.time_ns()
                target = read_link(directory, name)
                if target is not None:
                    entry = Entry(path, Kind.SYMLINK, 0o777, status.st_mtime_ns, target=target)
                    self.take(entry, Look.of(status, settled=is_settled(status, moment)))
                    return
            elif kind != stat.S_IFDIR:
                self.skip(path, _SPECIAL.get(kind, "special"))
                return
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self.skip(path, "changing: it was written to each time it was read")

    def _file(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> bool:
        """Whether it is one still, and holds still."""
        digest, settled = self.past.lookup(path, status), True
        if digest is None:
            read = read_file(directory, name)
            if read is None:
                return False
            status, digest, settled = read
            self.files_read += 1
            self.bytes_read += status.st_size
        entry = Entry(path, Kind.FILE, status.st_mode & 0o777, status.st_mtime_ns, status.st_size, digest)
        self.take(entry, Look.of(status, settled=settled))
        return True

    def directory(self, path: bytes, status: os.stat_result) -> None:
        """Take in a directory; `end` is told how it looked."""
        self.take(Entry(path, Kind.DIRECTORY, status.st_mode & 0o777, status.st_mtime_ns), Look.of(status))

    def take(self, entry: Entry, look: Look) -> None:
        """One more entry, or another one for its path."""
        path = entry.path
        if path not in self.entries and self.past.row(path) < 0:
            self.count += 1
        self.entries[path] = entry
        self._looks[path] = look

    def drop(self, directory: bytes) -> None:
        """What was remembered of a directory and all below it is gone."""
        start, stop = self.past.manifest.columns.below(directory)
        self.gone.update(self.past.manifest.paths[start:stop], (directory,))

    def skip(self, path: bytes, reason: str) -> None:
        """Leave something out. Its directory will be listed next time, for it to be named again."""
        self._skipped.append(Skipped(path, reason))
        self.unsettle(parent_of(path))

    def unsettle(self, directory: bytes) -> None:
        """Have a directory listed next time, however it looks then."""
        self._unsettled.add(directory)

    def missed(self, path: bytes, error: OSError | UnsafePath) -> None:
        """What has vanished was never there; what may not be read is named; want of resources is nobody's fault here."""
        self.unsettle(parent_of(path))
        if isinstance(error, UnsafePath | FileNotFoundError | NotADirectoryError):
            return
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise error
        self.skip(path, f"unreadable: {error.strerror}")

    def manifest(self) -> Manifest:
        """The tree that was found; the very same where nothing is otherwise."""
        self.gone.difference_update(self.entries)
        before = self.past.manifest
        changed = [entry for path, entry in self.entries.items() if before.get(path) != entry]
        return before.changed(changed, self.gone, sorted(self._skipped))

    def looks(self, listed: dict[bytes, Listing]) -> dict[bytes, Look]:
        """How what was found looked, by path; `listed` are all directories that were."""
        for path, listing in listed.items():
            if path in self.entries or not path:
                self._looks[path] = listing.look(settled=path not in self._unsettled)
        for path in self._unsettled.difference(listed, self.gone):
            row = self.past.row(path)
            if row >= 0:
                look = self.past.looks.row(row)
                self._looks[path] = look._replace(flags=look.flags | YOUNG)
        return self._looks
