"""What the sidecar's user may not do with the volume, a line each with its remedy; and what the launcher's user may not.

Permissions are asked for, nothing is tried out. The launcher's lines come from a file on the volume: it may be unable to
tell them in any other way. The application can write there too, and nothing that it puts there may stop the sidecar.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress

from codesync.sidecar.reports import one_line
from codesync.sidecar.volume import Volume
from codesync.transaction import Root, TransactionError
from codesync.transaction.access import READ, WRITE, owner, refusal, stranger_to_group, user

NOTES = (b".launcher/notes", b".launcher-notes")
MAX_NOTES = 16 * 1024  # bytes
MAX_LINES = 8
MAX_LINE = 1000  # characters
SHARE = "give both containers one group: securityContext.fsGroup in the pod, or the same runAsGroup in both"
LOOK_SECONDS = 2.0  # between two looks; each is a handful of system calls

log = logging.getLogger("codesync.sidecar")


class Permissions:
    """`notes`: what is missing, as of the last look. `run` looks again and again, for a launcher comes when it likes."""

    def __init__(
        self, volume: Volume, changed: Callable[[], Awaitable[None]], every: float = LOOK_SECONDS
    ) -> None:
        self._volume = volume
        self._changed = changed
        self._every = every
        self._complained = ""
        self.notes: tuple[str, ...] = ()

    def look(self) -> bool:
        """Look now, and log what is new; whether the notes are others than before. Raises nothing."""
        try:
            found = tuple(missing(self._volume))
        except Exception as error:  # these are hints: pushes do not need them
            self._complain(error)
            return False
        before, self.notes = self.notes, found
        for line in self.notes:
            if line not in before:
                log.warning("%s", line)
        return self.notes != before

    async def run(self) -> None:
        """Look until cancelled; `changed` is called whenever there is something else to tell."""
        while True:
            try:
                if self.look():
                    await self._changed()
            except Exception as error:  # who looks must not take those with him who push
                self._complain(error)
            await asyncio.sleep(self._every)

    def _complain(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._complained:  # it is looked again and again
            log.error("what is missing on the volume cannot be told: %s", text)
        self._complained = text


def missing(volume: Volume) -> list[str]:
    """What this user cannot do and has to, then what the launcher has left word of. Raises OSError when the volume goes away."""
    return [*_own(volume), *_launchers(volume)]


def _own(volume: Volume) -> list[str]:
    """At most one line: whatever is refused there, the remedy is the same."""
    refused = (
        refusal(str(volume.root), WRITE)
        or refusal(str(volume.launcher), WRITE)
        or refusal(str(volume.launcher / "launcher.sock"), WRITE)
        or refusal(str(volume.launcher / "gen0.json"), READ)
        or refusal(str(volume.launcher / "gen0"), WRITE)
        or stranger_to_group(str(volume.root))
        or _unshared(volume)
    )
    return [f"{refused}: {SHARE}"] if refused else []


def _unshared(volume: Volume) -> str:
    """Whether what is made below `.sidecar` gets another group than the directory has, which then cannot read it."""
    try:
        found = os.stat(volume.sidecar)
    except OSError:
        return ""
    if found.st_mode & stat.S_ISGID or found.st_gid == os.getegid():
        return ""
    return (
        f"{user()} has lost the group of {volume.sidecar} ({owner(found)}), which has no setgid bit any more"
    )


def _launchers(volume: Volume) -> list[str]:
    with Root(os.fsencode(volume.root)) as root:
        for name in NOTES:
            with suppress(OSError, TransactionError), root.open(name) as notes:
                return _lines(notes.read(MAX_NOTES))
    return []


def _lines(data: bytes) -> list[str]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return []
    told = found if isinstance(found, list) else []
    return [one_line(" ".join(line.split()))[:MAX_LINE] for line in told[:MAX_LINES] if isinstance(line, str)]
