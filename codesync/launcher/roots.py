"""Copies of the application's directory that candidates run from, one for each, and a spare for the next.

A copy shares no file with the directory or with another copy, and one that an application has run in is as good as new
after the next refresh. Names are only ever given to what nothing runs in.

    .launcher/roots/
      spare          the next candidate's copy
      <generation>   a candidate runs there
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.mirror import OWN_MODE, mirror, remove

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection

ROOTS, SPARE = "roots", "spare"


class Roots:
    """The copies below `directory`, the launcher's own on the volume. Raises OSError.

    The work of `refresh_spare`, `release` and `clear` grows with the tree: it is for a thread.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(os.path.abspath(directory), ROOTS)
        with suppress(FileExistsError):
            os.mkdir(self.directory, OWN_MODE)
        self._fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchmod(self._fd, OWN_MODE)

    def close(self) -> None:
        """Let go of the directory; what is in it stays."""
        os.close(self._fd)

    def path(self, name: str) -> str:
        """Where the copy of that name lies."""
        return os.path.join(self.directory, name)

    def names(self) -> set[str]:
        """The copies there are, also the spare."""
        return set(os.listdir(self._fd))

    def refresh_spare(
        self, source: str | bytes, cancelled: threading.Event, skip: Collection[tuple[int, int]] = ()
    ) -> list[bytes]:
        """Make the spare equal to `source`; what was left out of it, as `mirror` says. Raises OSError, Cancelled."""
        return mirror(source, self.path(SPARE), cancelled, skip)

    def claim(self, generation: int) -> str:
        """The spare is that generation's from now on: its path. Raises OSError."""
        taken, name, again = self.names(), str(generation), 1
        while name in taken:  # the same one is on trial again, or serves
            again += 1
            name = f"{generation}-{again}"
        os.rename(SPARE, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        return self.path(name)

    def release(self, path: str) -> None:
        """Nothing runs there any more: it becomes the spare where there is none, else it is removed. Raises OSError."""
        name = os.path.basename(path)
        if name == SPARE or name not in self.names():
            return
        if SPARE in self.names():
            remove(self._fd, name)
        else:
            os.rename(name, SPARE, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def clear(self, keep: Collection[str] = ()) -> None:
        """Release all but the paths in `keep`: at a start nothing runs here, and one copy saves making another."""
        for name in sorted(self.names() - {os.path.basename(path) for path in keep}, reverse=True):
            self.release(self.path(name))
