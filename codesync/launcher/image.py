"""Generation 0: what an image brought. Listed before the application runs, copied to the volume while it runs.

The listing's digest is the image's identity: a container made anew from the same image lists the same. Nothing that is
listed is opened before the application has started, and what has changed since is left out of the copy.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from codesync.launcher.records import MARK, Entry, dump, encode
from codesync.launcher.volume import create
from codesync.transaction import TransactionError, is_staging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codesync.launcher.records import Applied
    from codesync.launcher.volume import Volume
    from codesync.transaction import Root

MAX_BYTES = 512 * 1024 * 1024
LEFT_OUT = frozenset((b".git", b"node_modules", b".venv", b"__pycache__"))
CHUNK = 256 * 1024
COPY_NICENESS = 10
_PREFIX = b"codesync image 1\0"


class Listing(NamedTuple):
    """Entries without digests, in path order; what was left out, by its topmost path; the identity, in hex."""

    entries: list[Entry]
    left_out: list[bytes]
    image: str


def list_image(root: Root, other: tuple[int, int] = (0, 0)) -> Listing:
    """List a directory tree by lstat. `other`: device and inode of a directory (the volume) that is no part of it.

    Mounted directories and files are left out: they are not the image's.
    """
    mounts = mounts_below(root)
    entries: list[Entry] = []
    left_out: list[bytes] = []
    pending = [b""]
    while pending:
        directory = pending.pop()
        for path, found in _scan(root, directory, left_out):
            entry = _entry(root, path, found)
            if entry is None or path in mounts or (found.st_dev, found.st_ino) == other:
                left_out.append(path)
                continue
            entries.append(entry)
            if entry.kind == "d":
                pending.append(path)
    entries.sort()
    return Listing(entries, sorted(left_out), identity(entries))


def _scan(root: Root, directory: bytes, left_out: list[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        fd = root.open_directory(directory)
    except (OSError, TransactionError):  # unreadable, or gone meanwhile: unknown
        left_out.append(directory)
        return
    try:
        with os.scandir(fd) as found:
            for item in found:
                name = os.fsencode(item.name)
                path = directory + b"/" + name if directory else name
                if name in LEFT_OUT:
                    left_out.append(path)
                elif path != MARK and not (not directory and is_staging(fd, name)):
                    yield path, item.stat(follow_symlinks=False)
    finally:
        os.close(fd)


def _entry(root: Root, path: bytes, found: os.stat_result) -> Entry | None:
    mode = stat.S_IMODE(found.st_mode) & 0o777
    if stat.S_ISDIR(found.st_mode):
        return Entry(path, "d", mode)
    if stat.S_ISREG(found.st_mode):
        return Entry(path, "f", mode, found.st_mtime_ns, found.st_size)
    if stat.S_ISLNK(found.st_mode):
        return Entry(path, "l", 0o777, target=root.readlink(path))
    return None


def identity(entries: Iterable[Entry]) -> str:
    """SHA-256 over the listing: path, kind, mode, size, mtime and link target, in path order."""
    digest = hashlib.sha256(_PREFIX)
    for entry in entries:
        numbers = (
            f"{entry.kind} {entry.mode} {entry.size} {entry.mtime_ns} {len(entry.path)} {len(entry.target)}\n"
        )
        digest.update(numbers.encode() + entry.path + entry.target)
    return digest.hexdigest()


def mounts_below(root: Root) -> frozenset[bytes]:
    """Mount points inside the root, relative to it; none where the system does not tell."""
    try:
        base = os.fsencode(os.readlink(f"/proc/self/fd/{root.fd}")).rstrip(b"/") + b"/"
        with open("/proc/self/mountinfo", "rb") as file:
            points = [_unescape(line.split(b" ")[4]) for line in file]
    except OSError:
        return frozenset()
    return frozenset(point[len(base) :] for point in points if point.startswith(base))


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match.group(1), 8),)), field)


# --- the copy ------------------------------------------------------------------------------------------------


def choose(entries: Iterable[Entry], limit: int = MAX_BYTES) -> tuple[list[Entry], list[bytes]]:
    """What fits into `limit` bytes, the largest files left out first: entries to copy, paths left out."""
    chosen = list(entries)
    total = sum(entry.size for entry in chosen)
    left_out = []
    for entry in sorted(chosen, key=lambda entry: (-entry.size, entry.path)):
        if total <= limit:
            break
        total -= entry.size
        left_out.append(entry.path)
    too_large = frozenset(left_out)
    return [entry for entry in chosen if entry.path not in too_large], left_out


def copy_image(
    root: Root,
    volume: Volume,
    applied: Applied,
    listing: tuple[list[Entry], list[bytes]],
    cancelled: threading.Event,
) -> None:
    """Copy to `gen0/` what is as it was listed, then write `gen0.json`. Raises OSError; then nothing of it is left."""
    _be_nice()
    chosen, too_large = choose(listing[0])
    left_out = [*listing[1], *too_large]
    copied: list[list[Any]] = []
    directory = volume.open_gen0()
    try:
        for entry in chosen:
            if cancelled.is_set():
                return
            fields = _copy_entry(root, entry, directory, str(len(copied)))
            if fields is None:
                left_out.append(entry.path)
            else:
                copied.append(fields)
        _sync(directory)
        volume.write("gen0.json", _record(applied, copied, left_out))
    except BaseException:  # half a copy is none
        volume.clear_gen0()
        raise
    finally:
        os.close(directory)


def _record(applied: Applied, copied: list[list[Any]], left_out: list[bytes]) -> bytes:
    return dump(
        {
            "image": applied.image,
            "instance": applied.instance,
            "entries": copied,
            "left_out": [encode(path) for path in sorted(left_out)],
        }
    )


def _copy_entry(root: Root, entry: Entry, directory: int, name: str) -> list[Any] | None:
    """The fields of a `gen0.json` entry; None when it is not as it was listed."""
    try:
        if entry.kind == "f":
            digest = _copy_file(root, entry, directory, name)
            return [*entry._replace(digest=digest).to_json(), name] if digest else None
        found = root.lstat(entry.path)
        same = _entry(root, entry.path, found) == entry
    except (FileNotFoundError, NotADirectoryError, PermissionError, TransactionError):
        return None
    return [*entry.to_json(), ""] if same else None


def _copy_file(root: Root, entry: Entry, directory: int, name: str) -> str:
    """The digest of what was copied; "" when the file is not as it was listed."""
    digest = hashlib.sha256()
    with root.open(entry.path) as source:
        before = os.fstat(source.fileno())
        if (before.st_size, before.st_mtime_ns) != (entry.size, entry.mtime_ns):
            return ""
        with create(name, directory) as copy:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                digest.update(chunk)
                copy.write(chunk)
        after = os.fstat(source.fileno())
    if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    ):
        return digest.hexdigest()
    os.unlink(name, dir_fd=directory)
    return ""


def _be_nice() -> None:
    """Let the application, which is starting just now, go first: the niceness of this thread alone."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), COPY_NICENESS)


def _sync(directory: int) -> None:
    """Bring everything on that filesystem to the disk: one call instead of one per file."""
    try:
        import ctypes  # seldom needed, and missing in some small Pythons

        if ctypes.CDLL(None).syncfs(directory) == 0:
            return
    except (ImportError, OSError, AttributeError):
        pass
    os.sync()
