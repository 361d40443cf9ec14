"""Files on the shared volume: names, permissions, atomic writes.

Sidecar and application share a group: what is the sidecar's alone is 2750 and 0640, so that the application, and whoever
has taken it over, can read there and not write. The launcher's directory is 2770. True modes live in the manifest.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from codesync.transaction import Root

FILE_MODE = 0o640
DIRECTORY_MODE = 0o2750
SHARED_MODE = 0o2770


class Volume:
    """The paths of DESIGN 4.4 below `$CODESYNC_FILES_DIR`."""

    def __init__(self, files_dir: str) -> None:
        self.root = Path(files_dir)
        self.current = self.root / "current"
        self.sidecar = self.root / ".sidecar"
        self.state = self.sidecar / "state"
        self.lock = self.sidecar / "lock"
        self.pyz = self.sidecar / "launcher.pyz"
        self.manifests = self.sidecar / "manifest"
        self.tracked = self.sidecar / "tracked"
        self.trial = self.sidecar / "trial"
        self.objects = self.sidecar / "history"
        self.launcher = self.root / ".launcher"

    def prepare(self) -> None:
        """Make the directories that are missing. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        for directory in (self.current, self.sidecar, self.manifests, self.tracked, self.objects):
            _make(directory, DIRECTORY_MODE)
        _make(self.launcher, SHARED_MODE)


def _make(directory: Path, mode: int) -> None:
    before = os.umask(0)  # a launcher of another user may look for it as soon as it is there
    try:
        directory.mkdir(mode & 0o777, exist_ok=True)
    finally:
        os.umask(before)
    with suppress(PermissionError):  # made by the launcher's user, who gave it the same mode
        directory.chmod(mode)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`: after a crash it is the old or the new file, whole.

    Not `durable`: after a loss of power it may be the old one although we went on.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(draft, "xb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    draft.replace(path)
    if not durable:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_bounded(volume: Root, path: bytes, limit: int) -> bytes:
    """A regular file, reached through no symlink. Raises OSError, TransactionError, ValueError where it is larger."""
    with volume.open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{os.fsdecode(path)} is larger than {limit} bytes")
    return data
