"""The launcher's side of the volume: its own files below `.launcher/`, read access to what the sidecar wrote.

Everything goes through directory descriptors. Own files are replaced by rename, group-readable; what the sidecar owns is
never written.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from codesync.launcher.records import (
    Applied,
    Entry,
    Plan,
    RecordError,
    State,
    read_manifest,
    read_plan,
    read_state,
)
from codesync.transaction import Root

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_MODE = 0o640
DIRECTORY_MODE = 0o2770
LOCK_SECONDS = 1.0  # a launcher that was killed a moment ago may still be going away
SOCKET = "launcher.sock"


class VolumeError(Exception):
    """The volume cannot serve: one line that says why. The application runs without it."""


class Volume:
    """`files_dir`, opened and ours alone among launchers. Raises VolumeError."""

    def __init__(self, files_dir: str) -> None:
        self.files_dir = files_dir
        try:
            self._root = os.open(files_dir, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise VolumeError(f"no volume at {files_dir} ({error.strerror})") from error
        try:
            self.launcher = self._own_directory(b".launcher", self._root)
            self._lock = self._take_lock()
            self.write("launcher.pid", b"%d\n" % os.getpid(), durable=False)
        except OSError as error:
            raise VolumeError(f"the volume at {files_dir} cannot be written ({error.strerror})") from error

    def _own_directory(self, name: bytes, parent: int) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o770, dir_fd=parent)
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        with suppress(PermissionError):  # made by the sidecar's user, who gave it the same mode
            os.fchmod(directory, DIRECTORY_MODE)
        return directory

    def _take_lock(self) -> int:
        """Two launchers would both apply the same pushes, each to a tree of its own."""
        lock = os.open("lock", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE, dir_fd=self.launcher)
        until = time.monotonic() + LOCK_SECONDS
        while not _locked(lock):
            if time.monotonic() > until:
                raise VolumeError(
                    f"another launcher uses the volume at {self.files_dir}; give each container its own"
                )
            time.sleep(0.01)
        with suppress(PermissionError):  # made by a former launcher, of another user
            os.fchmod(lock, FILE_MODE)
        return lock

    def identity(self) -> tuple[int, int]:
        """Device and inode, in case it lies inside the application's directory."""
        found = os.fstat(self._root)
        return found.st_dev, found.st_ino

    # --- our files -------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes | None:
        """One of our own files; None where it is missing."""
        return _read(name, self.launcher)

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        """Replace one of our own files: after a crash it is the old or the new one, whole. Raises OSError."""
        draft = f".{name}.new"
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self.launcher)
        with create(draft, self.launcher) as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(draft, name, src_dir_fd=self.launcher, dst_dir_fd=self.launcher)
        if durable:
            os.fsync(self.launcher)

    def remove(self, name: str) -> None:
        """Remove one of our own files, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.launcher)

    def applied(self) -> Applied | None:
        """What the last launcher recorded; None where that cannot be read."""
        data = self.read("applied")
        try:
            return Applied.from_bytes(data) if data is not None else None
        except RecordError:
            return None

    def set_applied(self, applied: Applied) -> None:
        """Record what the application's directory holds, durably."""
        self.write("applied", applied.to_bytes())
        self.write("push_id", applied.push_id.encode() + b"\n", durable=False)

    def set_status(self, app: dict[str, Any]) -> None:
        """`app.status`, for whoever looks at the volume."""
        self.write("app.status", json.dumps(app).encode(), durable=False)

    def open_gen0(self) -> int:
        """A new, empty directory `gen0`; a descriptor of it."""
        self.clear_gen0()
        return self._own_directory(b"gen0", self.launcher)

    def clear_gen0(self) -> None:
        """Forget generation 0's copy."""
        self.remove("gen0.json")
        try:
            directory = os.open("gen0", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.launcher)
        except OSError:
            return
        try:
            for name in os.listdir(directory):
                with suppress(FileNotFoundError):  # the sidecar removes it too, once it has taken it over
                    os.unlink(name, dir_fd=directory)
        finally:
            os.close(directory)
        with suppress(FileNotFoundError):
            os.rmdir("gen0", dir_fd=self.launcher)

    # --- the sidecar's files ---------------------------------------------------------------------------------

    def state(self) -> State:
        """`.sidecar/state`; an empty one where none is. Raises RecordError, OSError."""
        data = _read(".sidecar/state", self._root)
        return State() if data is None else read_state(data)

    def has_sidecar(self) -> bool:
        """Whether one has ever used this volume."""
        try:
            os.stat(".sidecar/lock", dir_fd=self._root)
        except OSError:
            return False
        return True

    def manifest(self, tree_id: str) -> dict[bytes, Entry]:
        """The manifest of a tree. Raises RecordError, OSError."""
        return read_manifest(self._require(f".sidecar/manifest/{tree_id}.json"), tree_id)

    def touched(self, tree_id: str) -> dict[bytes, Entry]:
        """Of the manifest of the trial's base what its plan touches; all of it where no more is told. Raises RecordError, OSError."""
        data = _read(f".sidecar/trial/{tree_id}.json", self._root)
        return self.manifest(tree_id) if data is None else read_manifest(data, tree_id)

    def plan(self) -> Plan:
        """The trial's plan. Raises RecordError, OSError."""
        return read_plan(self._require(".sidecar/trial/plan.json"))

    def _require(self, name: str) -> bytes:
        data = _read(name, self._root)
        if data is None:
            raise RecordError(f"{name} is missing on the volume")
        return data

    def path(self, name: str) -> str:
        """Where something of our own lies."""
        return os.path.join(os.path.abspath(self.files_dir), ".launcher", name)

    def contents(self, name: bytes) -> Root:
        """A directory of the volume that holds file contents: `current` or `.sidecar/trial`. Raises OSError."""
        return Root(os.path.join(os.fsencode(self.files_dir), name))

    def guard(self, work: Callable[[], None], report: Callable[[str], None]) -> bool:
        """Do what is worth doing but must not end the launcher when the volume is full or gone. Whether it is done."""
        try:
            work()
        except OSError as error:
            report(f"the volume at {self.files_dir} fails: {error.strerror}")
            return False
        return True


def create(name: str, directory: int) -> Any:
    """A new file to be written, group-readable whatever the umask."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE, dir_fd=directory)
    os.fchmod(fd, FILE_MODE)
    return open(fd, "wb")


def _read(name: str, directory: int) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read()


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: then nobody can tell
        return True
    return True
