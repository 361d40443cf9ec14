"""How a tree is read from a disk: through descriptors only, nothing is followed, nothing but regular files is opened.

What looks as it did at the last scan is passed over (memory.py says when that is enough); what does not is looked into,
directory by directory, and read. What cannot be carried or read is named in `skipped`. What vanishes while the scan
runs was never there; a file that changes while it is read is read again, a few times, so that a digest always belongs
to one state of the file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from codesync.delta.errors import ScanError
from codesync.delta.ignore import Verdict
from codesync.delta.manifest.columns import DIRECTORY
from codesync.delta.manifest.entry import MAX_DEPTH, MAX_PATH
from codesync.delta.manifest.findings import Findings
from codesync.delta.manifest.levels import Levels
from codesync.delta.manifest.listing import Listing, digest_of, vanished
from codesync.delta.manifest.looks import TRACKED_ONLY, YOUNG
from codesync.delta.manifest.memory import Past, ScanMemory
from codesync.delta.manifest.mounts import directories_tell
from codesync.delta.manifest.paths import parent_of
from codesync.transaction.errors import TransactionError, UnsafePath
from codesync.transaction.root import Root, is_staging

if TYPE_CHECKING:
    from codesync.delta.cache import ManifestCache
    from codesync.delta.ignore import Rules
    from codesync.delta.manifest.tree import Manifest

_OPEN_DIRECTORIES = 64  # held at once; beyond that a parent is opened anew when its turn comes
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def scan(
    root: str | bytes | Root,
    *,
    rules: Rules | None = None,
    cache: ManifestCache | None = None,
    memory: ScanMemory | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Read the tree below `root`, or what `rules` leave of it; without rules all of it, `.git` too.

    `cache` spares reading what has not changed, and is saved. `memory`, which brings its own cache, spares reading
    that too. `progress` is told, once a directory, how many entries there are so far. Staging directories are left out.

    Raises:
        ScanError: the root is missing, is no directory or cannot be listed; a file of rules cannot be read.
    """
    if isinstance(root, Root):
        return _scan(root, rules, cache, memory, progress)
    try:
        opened = Root(root)
    except (OSError, TransactionError) as error:
        raise ScanError(f"cannot scan {os.fsdecode(root)}: {_reason(error)}; check the path") from error
    with opened:
        return _scan(opened, rules, cache, memory, progress)


def _scan(
    root: Root,
    rules: Rules | None,
    cache: ManifestCache | None,
    memory: ScanMemory | None,
    progress: Callable[[int], None] | None,
) -> Manifest:
    lasting = memory is not None
    memory = memory or ScanMemory(cache)
    run = _Scan(root, rules, memory.take(), progress)
    past = run.run()
    if memory.cache is not None:
        memory.cache.keep(past, (run.found.files_read, run.found.bytes_read), lasting=lasting)
    memory.keep(past)
    return past.manifest


class _Scan:
    """One scan: first of all that is remembered, and then, depth first, of what is new."""

    def __init__(
        self, root: Root, rules: Rules | None, past: Past, progress: Callable[[int], None] | None
    ) -> None:
        self.root = root
        self.past = past
        self.progress = progress
        self.told = -1
        self.found = Findings(past)
        self.levels = Levels(rules, past)
        self.listed: dict[bytes, Listing] = {}
        self.stack: list[Listing] = []  # directories with children left to descend into
        self.doubted: dict[bytes, Verdict] = {}  # remembered directories to list anew
        self.queue: list[bytes] = []  # remembered directories to visit, a heap

    def run(self) -> Past:
        try:
            if self.past.is_empty:
                self._walk(self.root.open_directory(b""), b"", Verdict.COUNTS)
            else:
                self._look_again()
        except OSError as error:
            raise ScanError(
                f"cannot scan {self.root.path}: {error.strerror}; check its permissions"
            ) from error
        finally:
            for listing in self.stack:
                listing.close()
        return self._end()

    def _end(self) -> Past:
        """What is remembered of it all; the very same where it is."""
        past, manifest = self.past, self.found.manifest()
        looks = self.found.looks(self.listed)
        levels, indexes = self.levels.end(manifest)
        if not past.is_empty:  # most of them were not counted one by one
            self._tell(len(manifest))
        if manifest is past.manifest and not looks and indexes == past.indexes:
            return past
        return past.after(manifest, looks, levels, indexes)

    def _tell(self, count: int) -> None:
        if self.progress is not None and count != self.told:
            self.told = count
            self.progress(count)

    # ------------------------------------------------------------------------------- what is remembered

    def _look_again(self) -> None:
        past, kinds = self.past, self.past.manifest.columns.kinds
        suspects = past.suspects(self.root.fd)
        if not directories_tell(self.root.fd):
            suspects += self._listed_otherwise()
        leaves = []
        for row in suspects:
            if row == len(kinds) or kinds[row] == DIRECTORY:
                self._doubt(past.path(row))
            else:
                leaves.append(past.path(row))
        for row in past.special:
            heappush(self.queue, past.path(row))
            if past.looks.flags[row] & YOUNG:
                self._doubt(past.path(row))
        heappush(self.queue, b"")
        self._visit_all()
        for path in leaves:
            self._leaf_again(path)
            self._visit_all()

    def _listed_otherwise(self) -> Iterator[int]:
        """Rows of directories that do not hold the names they held."""
        for row, flags in enumerate(self.past.looks.flags):
            if not flags:
                continue
            try:
                fd = self.root.open_directory(self.past.path(row))
            except (OSError, UnsafePath):
                yield row
                continue
            try:
                with os.scandir(fd) as items:
                    if digest_of(list(items)) != self.past.looks.listings[row]:
                        yield row
            finally:
                os.close(fd)

    def _doubt(self, path: bytes, verdict: Verdict | None = None) -> None:
        """Have a remembered directory listed anew; `verdict` is what the rules say of it now, if they were asked."""
        self.doubted[path] = verdict or self.doubted.get(path) or self._verdict(path)
        heappush(self.queue, path)

    def _verdict(self, path: bytes) -> Verdict:
        """What the rules said of a remembered directory."""
        only = self.past.looks.flags[self.past.row(path)] & TRACKED_ONLY
        return Verdict.TRACKED_ONLY if only else Verdict.COUNTS

    def _visit_all(self) -> None:
        """Parents before children: what is found out about a directory may be about those in it."""
        while self.queue:
            path = heappop(self.queue)
            done = path in self.listed or (path in self.levels and path not in self.doubted)
            if done or path in self.found.gone:
                continue
            try:
                fd = self.root.open_directory(path)
            except (OSError, UnsafePath) as error:
                if not path:
                    raise
                self._lost(path, error)
            else:
                self._visit(fd, path)

    def _visit(self, fd: int, path: bytes) -> None:
        """A directory that may have rules of its own, or is doubted; the descriptor is handed over."""
        if path not in self.doubted:
            try:
                number = self.levels.number(self.levels.enter(fd, path, self._verdict(path)))
                if number == self.past.looks.levels[self.past.row(path)]:
                    os.close(fd)
                    return
            except BaseException:  # whatever stops us, the descriptor is closed
                os.close(fd)
                raise
        self._walk(fd, path, self.doubted.get(path) or self._verdict(path))

    def _lost(self, path: bytes, error: OSError | UnsafePath) -> None:
        """A remembered directory is none any more, or may not be read."""
        self.found.drop(path)
        self.found.unsettle(parent_of(path))
        if isinstance(error, UnsafePath) or error.errno in {errno.ENOTDIR, errno.ELOOP}:
            try:
                directory, name = self.root.parent(path)
                self.found.leaf(directory, name, path, os.stat(name, dir_fd=directory, follow_symlinks=False))
            except (OSError, UnsafePath) as other:
                self.found.missed(path, other)
        else:
            self.found.missed(path, error)

    def _leaf_again(self, path: bytes) -> None:
        """A file or link that looks different, in a directory that does not."""
        if parent_of(path) in self.listed or path in self.found.gone:
            return
        try:
            directory, name = self.root.parent(path)
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self.found.gone.add(path)  # until it is found
                self.found.leaf(directory, name, path, status)
                return
        except (OSError, UnsafePath):
            pass  # listing its directory says what it is about
        self._doubt(parent_of(path))

    # ------------------------------------------------------------------------------- directories

    def _walk(self, fd: int, path: bytes, verdict: Verdict) -> None:
        """List a directory, and all that is new below it; the descriptor is handed over."""
        try:
            self._list(fd, path, verdict)
        except (OSError, UnsafePath) as error:
            if not path:
                raise
            self._lost(path, error)
        while self.stack:
            self._step(self.stack[-1])

    def _step(self, above: Listing) -> None:
        """Descend into one child of the deepest directory, or leave it."""
        if not above.children:
            above.close()
            self.stack.pop()
            return
        name, verdict = above.children.pop()
        path = above.path + b"/" + name if above.path else name
        try:
            self._child(above, name, path, verdict or Verdict.COUNTS)
        except (OSError, UnsafePath) as error:
            self.found.missed(path, error)

    def _child(self, above: Listing, name: bytes, path: bytes, verdict: Verdict) -> None:
        if len(path) > MAX_PATH - 256 or path.count(b"/") >= MAX_DEPTH - 1:
            self.found.skip(path[:MAX_PATH], "unreadable: path too long")
            self.found.unsettle(above.path)
            return
        if above.fd is None:
            above.fd = self.root.open_directory(above.path)
        try:
            fd = os.open(name, _OPEN, dir_fd=above.fd)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            self._no_directory(above, name, path)
            return
        if not above.children:  # nothing will be opened from here again
            above.close()
            self.stack.pop()
        elif len(self.stack) >= _OPEN_DIRECTORIES:
            self.stack[-_OPEN_DIRECTORIES].close()
        self._list(fd, path, verdict)

    def _no_directory(self, above: Listing, name: bytes, path: bytes) -> None:
        """Take in something that stands where a directory was listed a moment ago."""
        self.found.unsettle(above.path)
        level = above.level
        if level is None or level.verdict(path, name, is_directory=False) is not Verdict.IGNORED:
            assert above.fd is not None
            self.found.leaf(above.fd, name, path, os.stat(name, dir_fd=above.fd, follow_symlinks=False))

    def _list(self, fd: int, path: bytes, verdict: Verdict) -> None:
        """Take in a directory and what it holds; the descriptor is handed over."""
        try:
            listing = Listing(fd, path, tracked_only=verdict is Verdict.TRACKED_ONLY)
            listing.level = self.levels.enter(fd, path, verdict, listing.names)
            listing.number = self.levels.number(listing.level)
            self._take(listing, fd)
            listing.forget()
        except BaseException:  # whatever stops us, the descriptor is closed
            os.close(fd)
            raise
        if path:
            self.found.directory(path, listing.status)
        self.listed[path] = listing
        self.stack.append(listing)
        if not self.past.is_empty:
            self._reconcile(listing)
        self._tell(self.found.count)

    def _take(self, listing: Listing, fd: int) -> None:
        """Go through a directory item by item."""
        level, verdict = listing.level, None
        prefix = listing.path + b"/" if listing.path else b""
        for item in listing.items:
            name = os.fsencode(item.name)
            path = prefix + name
            try:
                is_directory = item.is_dir(follow_symlinks=False)
                if level is not None:
                    verdict = level.verdict(path, name, is_directory)
                    if verdict is Verdict.IGNORED:
                        continue
                if not is_directory:
                    self.found.leaf(fd, name, path, item.stat(follow_symlinks=False))
                elif not name.startswith(b".codesync-"):
                    listing.children.append((name, verdict))
                else:
                    self.found.unsettle(listing.path)  # what makes a staging directory is inside it
                    if not is_staging(fd, name):
                        listing.children.append((name, verdict))
            except OSError as error:
                self.found.missed(path, error)

    def _reconcile(self, listing: Listing) -> None:
        """Compare a directory that was listed with what is remembered of it."""
        past, paths, columns = self.past, self.past.manifest.paths, self.past.manifest.columns
        prefix = listing.path + b"/" if listing.path else b""
        new, still = [], set()
        for name, verdict in listing.children:
            child = prefix + name
            row = past.row(child)
            if row < 0 or columns.kinds[row] != DIRECTORY or child in self.found.gone:
                new.append((name, verdict))
                continue
            still.add(child)
            if (verdict is Verdict.TRACKED_ONLY) != (self._verdict(child) is Verdict.TRACKED_ONLY):
                self._doubt(child, verdict or Verdict.COUNTS)
        listing.children = new
        row = past.row(listing.path)
        if row < 0:
            return
        start, stop = columns.below(listing.path)
        if past.looks.levels[row] != listing.number:
            for below in range(start, stop):
                if past.looks.flags[below]:
                    self._doubt(paths[below])
        self.found.gone.update(vanished(paths, (start, stop), listing.path, still, self.found.entries))


def _reason(error: OSError | TransactionError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
