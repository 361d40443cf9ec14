"""Contents that were pushed, by their SHA-256: what the next push from this machine can make its deltas against.

A cache on disk, safe to delete, one for all deployments and for several clients at a time. It is not believed: a content
has the digest that it is named by when it is opened, or it is dropped. What the disk refuses is no error: the replica is
asked then.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import BinaryIO, cast

from codesync.delta import Entry, Kind
from codesync.transaction import Root, TransactionError

LIMIT = 256 * 1024 * 1024  # bytes of all contents
LARGEST = 64 * 1024 * 1024  # bytes of one
SMALLEST = 1024  # bytes: what is smaller is soon sent
LARGEST_NEW = 1024 * 1024  # bytes of a file that was not there before: a larger one is seldom edited
FILES_AT_ONCE = 512  # of one push
BYTES_AT_ONCE = LARGEST

_BESIDE = 4096  # bytes that a file takes beside its content, about
_LOOK_EVERY = 4 * 1024 * 1024  # bytes that are added between two looks at what there is
_PIECE = 256 * 1024
_DRAFT = ".new-"
_DRAFT_SECONDS = 3600.0  # a draft as old as this is nobody's
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Contents:
    """The contents in `directory`, `limit` bytes of them at most, or a little more; the longest unused go first."""

    def __init__(self, directory: str, limit: int = LIMIT) -> None:
        self._directory = directory
        self._limit = limit

    def has(self, digest: bytes, size: int) -> bool:
        """Whether `open` will give that content, unless somebody takes it away meanwhile."""
        file = self.open(digest, size)
        if file is not None:
            file.close()
        return file is not None

    def open(self, digest: bytes, size: int) -> BinaryIO | None:
        """The content of so many bytes with that SHA-256, or None. It is read through before it is given out."""
        try:
            with self._opened() as directory:
                return cast("BinaryIO | None", self._open(directory, digest, size))
        except OSError:
            return None

    def _open(self, directory: int, digest: bytes, size: int) -> FileIO | None:
        name = digest.hex()
        at = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(at.st_mode) and at.st_size == size:
            file = FileIO(os.open(name, _READ, dir_fd=directory))
            try:
                if self._is(file, digest):
                    os.utime(file.fileno())
                    return file
            except OSError:
                file.close()
                raise
            file.close()
        os.unlink(name, dir_fd=directory)
        return None

    def _is(self, file: FileIO, digest: bytes) -> bool:
        """Whether that is what can be read; if so, nothing of it was."""
        if hashlib.file_digest(file, "sha256").digest() != digest:
            return False
        file.seek(0)
        return True

    def keep(self, root: str, entries: Iterable[Entry]) -> None:
        """Take these files of a tree, as far as they still are what their entries say. Never raises OSError."""
        with suppress(OSError), Root(root) as tree:
            if not os.path.lexists(self._directory):
                os.makedirs(os.path.dirname(self._directory), exist_ok=True)
                with suppress(FileExistsError):
                    os.mkdir(self._directory, 0o700)
            with self._opened() as directory:
                for entry in entries:
                    self._keep(directory, tree, entry)

    def _keep(self, directory: int, tree: Root, entry: Entry) -> None:
        name = entry.digest.hex()
        with suppress(FileNotFoundError):
            os.utime(name, dir_fd=directory, follow_symlinks=False)
            return
        try:
            source = tree.open(entry.path)
        except (OSError, TransactionError):
            return
        draft = _DRAFT + os.urandom(8).hex()
        with source, os.fdopen(os.open(draft, _WRITE, 0o600, dir_fd=directory), "wb", 0) as file:
            try:
                if _copied(source, file, entry.size) != entry.digest:
                    os.unlink(draft, dir_fd=directory)
                    return
                os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=directory)
                raise
        # the digest decides when to look: on average as often as bytes were added, and nothing is counted anywhere
        if int.from_bytes(entry.digest[:8], "big") % _LOOK_EVERY < entry.size + _BESIDE:
            self._trim(directory)

    def _trim(self, directory: int) -> None:
        found = []
        for name in os.listdir(directory):
            with suppress(OSError):
                at = os.stat(name, dir_fd=directory, follow_symlinks=False)
                found.append((at.st_mtime, at.st_size, name))
        left = self._limit
        long_ago = time.time() - _DRAFT_SECONDS
        for mtime, size, name in sorted(found, reverse=True):
            left -= size + _BESIDE
            if left < 0 or (name.startswith(_DRAFT) and mtime < long_ago):
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        directory = os.open(self._directory, _LIST)
        try:
            yield directory
        finally:
            os.close(directory)


def _copied(source: BinaryIO, file: BinaryIO, size: int) -> bytes:
    """Copy a file of `size` bytes; the digest of what was copied, or b"" if it is longer."""
    sha256, done = hashlib.sha256(), 0
    while data := source.read(_PIECE):
        done += len(data)
        if done > size:
            return b""
        sha256.update(data)
        while data:
            data = data[file.write(data) :]
    return sha256.digest()


def worth_keeping(modified: Iterable[Entry], added: Iterable[Entry]) -> list[Entry]:
    """The files of a push that are likely to be edited next, so many that keeping them costs little.

    What was modified comes before what is new, and what a replica would be asked about before what would be sent whole.
    """
    chosen: list[Entry] = []
    left = BYTES_AT_ONCE
    for entries, largest in ((modified, LARGEST), (added, LARGEST_NEW)):
        files = (entry for entry in entries if entry.kind is Kind.FILE and SMALLEST <= entry.size <= largest)
        for entry in sorted(files, key=lambda entry: (entry.size < _BESIDE, entry.size)):
            left -= entry.size
            if left < 0 or len(chosen) == FILES_AT_ONCE:
                break
            chosen.append(entry)
    return chosen
