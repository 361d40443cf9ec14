"""How a tree is read from a disk: through descriptors only, nothing is followed, nothing but regular files is opened.

What cannot be carried or read is named in `skipped`. What vanishes while the scan runs was never there; a file that
changes while it is read is read again, a few times, so that a digest always belongs to one state of the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codesync.delta.cache import is_settled
from codesync.delta.errors import ScanError
from codesync.delta.ignore import Verdict
from codesync.delta.manifest.entry import MAX_PATH, Entry, Kind, Skipped
from codesync.delta.manifest.memory import ScanMemory, Seen, unchanged
from codesync.delta.manifest.tree import Manifest
from codesync.transaction import Root, TransactionError, UnsafePath, is_staging

if TYPE_CHECKING:
    from codesync.delta.cache import ManifestCache
    from codesync.delta.ignore import Level, Rules

_CHUNK = 256 * 1024
_ATTEMPTS = 4  # reads of one file that keeps changing
_OPEN_DIRECTORIES = 64  # held at once; beyond that a parent is opened anew when its turn comes
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_OPEN_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_SPECIAL = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def scan(
    root: str | bytes | Root,
    *,
    rules: Rules | None = None,
    cache: ManifestCache | None = None,
    memory: ScanMemory | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Read the tree below `root`, or what `rules` leave of it; without rules all of it, `.git` too.

    `cache` spares reading files that have not changed, and is saved. `memory`, which brings its own cache, spares
    almost everything but the question whether they have. `progress` is told, once a directory, how many entries
    there are so far. Staging directories are left out.

    Raises:
        ScanError: the root is missing, is no directory or cannot be listed; a file of rules cannot be read.
    """
    if isinstance(root, Root):
        return _Scan(root, rules, cache, memory, progress).run()
    try:
        opened = Root(root)
    except (OSError, TransactionError) as error:
        raise ScanError(f"cannot scan {os.fsdecode(root)}: {_reason(error)}; check the path") from error
    with opened:
        return _Scan(opened, rules, cache, memory, progress).run()


@dataclass(slots=True)
class _Frame:
    """A directory being walked: its descriptor (None while given up) and what is left to descend into."""

    fd: int | None
    path: bytes
    seen: Seen
    children: list[tuple[bytes, Verdict | None]]  # name, what the rules say of it

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class _Scan:
    """One walk, depth first. A directory's descriptor is held while it has children left to descend into."""

    def __init__(
        self,
        root: Root,
        rules: Rules | None,
        cache: ManifestCache | None,
        memory: ScanMemory | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.root = root
        self.rules = rules
        self.memory = memory if memory is not None else ScanMemory(cache)
        self.cache = self.memory.cache
        self.lasting = memory is not None
        self.progress = progress
        self.before, self.manifest = self.memory.take()
        self.seen: dict[bytes, Seen] = {}
        self.changed: dict[bytes, Entry] = {}  # what is new or not as it was before
        self.gone_through: list[tuple[Seen, Seen]] = []  # directories before and now, where they may differ
        self.skipped: list[Skipped] = []
        self.count = 0
        self.stack: list[_Frame] = []

    def run(self) -> Manifest:
        if self.cache is not None and self.before:
            self.cache.carry_over()
        try:
            self._list(self.root.open_directory(b""), b"", self.rules.above if self.rules else None, None)
            while self.stack:
                self._step(self.stack[-1])
        except OSError as error:
            raise ScanError(
                f"cannot scan {self.root.path}: {error.strerror}; check its permissions"
            ) from error
        finally:
            for frame in self.stack:
                frame.close()
        return self._end()

    def _end(self) -> Manifest:
        gone = self._gone()
        manifest = self.manifest.changed(self.changed.values(), gone, sorted(self.skipped))
        if self.cache is not None:
            for path in gone:
                self.cache.forget(path)
            self.cache.save(lazily=self.lasting)
        self.memory.keep(self.seen, manifest)
        return manifest

    def _gone(self) -> set[bytes]:
        """Paths that there were the last time, and now are not."""
        gone = set[bytes]()
        for path in self.before.keys() - self.seen.keys():
            gone |= self.before[path].paths
        for before, now in self.gone_through:
            gone |= before.paths - now.paths
        return gone.difference(self.changed)

    def _step(self, frame: _Frame) -> None:
        """Descend into one child of the deepest directory, or leave it."""
        if not frame.children:
            frame.close()
            self.stack.pop()
            return
        name, verdict = frame.children.pop()
        path = frame.path + b"/" + name if frame.path else name
        try:
            self._child(frame, name, path, verdict)
        except (OSError, UnsafePath) as error:
            self._missed(path, error)

    def _child(self, frame: _Frame, name: bytes, path: bytes, verdict: Verdict | None) -> None:
        if len(path) > MAX_PATH - 256:
            self.skipped.append(Skipped(path[:MAX_PATH], "unreadable: path too long"))
            return
        if frame.fd is None:
            frame.fd = self.root.open_directory(frame.path)
        try:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=frame.fd)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            self._no_directory(frame, name, path)
            return
        if not frame.children:  # nothing will be opened from here again
            frame.close()
            self.stack.pop()
        elif len(self.stack) >= _OPEN_DIRECTORIES:
            self.stack[-_OPEN_DIRECTORIES].close()
        self._list(fd, path, frame.seen.level, verdict)

    def _no_directory(self, frame: _Frame, name: bytes, path: bytes) -> None:
        """Take in something that stands where a directory was listed a moment ago."""
        seen = frame.seen
        seen.settled = False
        if seen.level is None or seen.level.verdict(path, name, is_directory=False) is not Verdict.IGNORED:
            assert frame.fd is not None
            already = len(seen.entries)
            self._leaf(seen, frame.fd, name, path, os.stat(name, dir_fd=frame.fd, follow_symlinks=False))
            self.changed |= {entry.path: entry for entry in seen.entries[already:]}
            self.count += len(seen.entries) - already

    def _list(self, fd: int, path: bytes, above: Level | None, verdict: Verdict | None) -> None:
        """Take in a directory and what it holds; the descriptor is handed over."""
        try:
            status = os.fstat(fd)
            with os.scandir(fd) as listing:
                items = list(listing)
            seen, before = _look(items), self.before.get(path)
            if above is not None and self.rules is not None:
                known = before.level if before is not None else None
                seen.level = above.enter(path, verdict or Verdict.COUNTS, fd, seen.names, known=known)
                self.rules.entered(path, seen.level)
            if before is not None and seen.looks_like(before) and before.still(items):
                seen = before
            else:
                self._take(seen, before, fd, path, items)
            if path:
                self._own(seen, before, path, status)
            self.seen[path] = seen
        except BaseException:  # whatever stops us, the descriptor is closed
            os.close(fd)
            raise
        self.count += len(seen.entries) + bool(path)
        self.stack.append(_Frame(fd, path, seen, seen.children.copy()))
        if self.progress is not None:
            self.progress(self.count)

    def _own(self, seen: Seen, before: Seen | None, path: bytes, status: os.stat_result) -> None:
        own = before.own if before is not None else None
        mode, mtime = status.st_mode & 0o777, status.st_mtime_ns
        if own is None or own.mtime_ns != mtime or own.mode != mode:
            own = self.changed[path] = Entry(path, Kind.DIRECTORY, mode, mtime)
        seen.own = own

    def _take(
        self, seen: Seen, before: Seen | None, fd: int, path: bytes, items: list[os.DirEntry[str]]
    ) -> None:
        """Go through a directory item by item."""
        prefix = path + b"/" if path else b""
        level, verdict = seen.level, None
        certain: Container[bytes] = level.certain if level is not None else ()
        for item in items:
            name = item.name.encode(_ENCODING, _ERRORS)
            path = prefix + name
            counts = False
            try:
                is_directory = item.is_dir(follow_symlinks=False)
                if level is not None and (is_directory or path not in certain):
                    verdict = level.verdict(path, name, is_directory)
                    if verdict is Verdict.IGNORED:
                        continue
                if not is_directory:
                    counts = True
                    self._leaf(seen, fd, name, path, item.stat(follow_symlinks=False))
                elif not name.startswith(b".codesync-"):
                    seen.children.append((name, verdict))
                else:
                    seen.settled = False  # what makes a staging directory is inside it
                    if not is_staging(fd, name):
                        seen.children.append((name, verdict))
            except OSError as error:
                seen.settled = False
                self._missed(path, error)
            finally:
                seen.leaves.append(counts)
        if before is None:
            self.changed |= {entry.path: entry for entry in seen.entries}
            return
        seen.entries, changed = unchanged(seen.entries, before)
        self.changed |= {entry.path: entry for entry in changed}
        self.gone_through.append((before, seen))

    def _leaf(self, seen: Seen, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Take in what is no directory, as `status` says; look again while it turns out to be something else."""
        for _ in range(_ATTEMPTS):
            mode = status.st_mode
            kind = mode & 0o170000
            entry = None
            if kind == stat.S_IFREG:
                digest = self.cache.lookup(path, status) if self.cache is not None else None
                if digest is not None:
                    entry = Entry(path, Kind.FILE, mode & 0o777, status.st_mtime_ns, status.st_size, digest)
                    seen.take(entry, status)
                    return
                if self._read(seen, directory, name, path):
                    return
            elif kind == stat.S_IFLNK:
                moment = time.time_ns()
                entry = _symlink(directory, name, path, status)
                if entry is not None:
                    seen.settled &= is_settled(status, moment)
                    seen.take(entry, status)
                    return
            elif kind != stat.S_IFDIR:
                seen.settled = False
                self.skipped.append(Skipped(path, _SPECIAL.get(kind, "special")))
                return
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        seen.settled = False
        self.skipped.append(Skipped(path, "changing: it was written to each time it was read"))

    def _read(self, seen: Seen, directory: int, name: bytes, path: bytes) -> bool:
        """Read a file; False where it is no regular one any more, or was written to meanwhile."""
        moment = time.time_ns()
        try:
            file = os.open(name, _OPEN_FILE, dir_fd=directory)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                return False
            raise
        try:
            before = os.fstat(file)
            digest = _digest(file, before.st_size) if stat.S_ISREG(before.st_mode) else None
            after = os.fstat(file)
        finally:
            os.close(file)
        if digest is None or _stamp(before) != _stamp(after):
            return False
        if self.cache is not None:
            self.cache.store(path, after, digest, moment)
        seen.settled &= is_settled(after, moment)
        seen.take(
            Entry(path, Kind.FILE, after.st_mode & 0o777, after.st_mtime_ns, after.st_size, digest), after
        )
        return True

    def _missed(self, path: bytes, error: OSError | UnsafePath) -> None:
        """What has vanished was never there; what may not be read is named; want of resources is nobody's fault here."""
        if isinstance(error, UnsafePath | FileNotFoundError | NotADirectoryError):
            return
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise error
        self.skipped.append(Skipped(path, f"unreadable: {error.strerror}"))


def _look(items: list[os.DirEntry[str]]) -> Seen:
    """What a listing alone tells."""
    names = [item.name for item in items]
    try:
        return Seen(names, [item.is_dir(follow_symlinks=False) for item in items])
    except OSError:  # a file system that tells no kinds, and something that has vanished
        return Seen(names, [], settled=False)


def _symlink(directory: int, name: bytes, path: bytes, status: os.stat_result) -> Entry | None:
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no symlink any more
            return None
        raise
    return Entry(path, Kind.SYMLINK, 0o777, status.st_mtime_ns, target=target)


def _digest(file: int, size: int) -> bytes | None:
    """SHA-256 of the first `size` bytes; None where there are fewer."""
    digest = hashlib.sha256()
    while size and (data := os.read(file, min(size, _CHUNK))):
        digest.update(data)
        size -= len(data)
    return None if size else digest.digest()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _reason(error: OSError | TransactionError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
