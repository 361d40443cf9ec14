"""What the launcher's user may not do with the volume and the application's directory, a line each with its remedy.

Nothing is tried out: permissions are asked for, so that a look costs little and leaves no trace. The lines are left on the
volume, because without these permissions there may be no other way to tell the sidecar.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.image import LEFT_OUT
from codesync.transaction.access import READ, WRITE, owner, refusal, stranger_to_group, user

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTES = (".launcher/notes", ".launcher-notes")  # the second where the first cannot be written
NOTES_MODE = 0o644  # also for a sidecar that shares no group
SAMPLE = 256  # directories of the application that are looked at
SHARE = "give both containers one group: securityContext.fsGroup in the pod, or the same runAsGroup in both"


def missing(files_dir: str, app_root: str) -> list[str]:
    """What this user cannot do and has to; empty when all is well, or when there is no volume. Never raises OSError."""
    if not os.path.isdir(files_dir):
        return []
    return [*_on_the_volume(os.path.abspath(files_dir)), *_in_the_application(os.path.abspath(app_root))]


def report(files_dir: str, app_root: str) -> list[str]:
    """The same, and left on the volume for the sidecar, as a JSON list; an empty one is left as no file."""
    lines = missing(files_dir, app_root)
    wanted = bool(lines)
    for name in NOTES:
        path = os.path.join(files_dir, name)
        with suppress(OSError):  # the other place is left, or none: then the log tells it
            with suppress(FileNotFoundError):
                os.unlink(path)
            if wanted:
                _write(path, json.dumps(lines).encode())
                wanted = False
    return lines


def _write(path: str, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, NOTES_MODE)
    try:
        os.fchmod(file, NOTES_MODE)
        os.write(file, data)
    finally:
        os.close(file)


def _on_the_volume(files_dir: str) -> Iterator[str]:
    """At most one line: whatever is refused there, the remedy is the same."""
    own = os.path.join(files_dir, ".launcher")
    theirs = [os.path.join(files_dir, name) for name in (".sidecar", ".sidecar/state", "current")]
    refused = (
        refusal(own if os.path.isdir(own) else files_dir, WRITE)
        or stranger_to_group(files_dir)
        or next(filter(None, (refusal(path, READ) for path in theirs)), "")
    )
    if refused:
        yield f"{refused}: {SHARE}"


def _in_the_application(app_root: str) -> Iterator[str]:
    refused = refusal(app_root, WRITE)
    if refused.endswith("read-only file system"):
        yield f"{refused}: mount a writable volume there, such as an emptyDir that an init container fills from the image"
    elif refused:
        yield f"{refused}: {_give(app_root)}"
    else:
        strange = [path for path in _directories(app_root) if not os.access(path, os.W_OK | os.X_OK)]
        if strange:
            more = f" and {len(strange) - 1} more directories in {app_root}" if strange[1:] else ""
            found = os.stat(strange[0])
            yield f"{user()} cannot write {strange[0]} ({owner(found)}){more}: {_give(app_root)}"


def _give(app_root: str) -> str:
    uid = os.geteuid()
    return (
        f"chown -R {uid} {app_root} in the image, or set securityContext.runAsUser to its owner"
        if uid
        else f"let root write {app_root}: capabilities.add DAC_OVERRIDE, or run as its owner"
    )


def _directories(app_root: str) -> Iterator[str]:
    """Some directories of the application that belong to other users, nearest first; no mounts, nothing of packages."""
    pending, seen = [app_root], 0
    try:
        device = os.stat(app_root).st_dev
    except OSError:
        return
    while pending and seen < SAMPLE:
        directory, seen = pending.pop(0), seen + 1
        try:
            with os.scandir(directory) as items:
                below = sorted(item.path for item in items if _is_directory(item))
        except OSError:
            continue
        for path in below:
            with suppress(OSError):
                found = os.stat(path, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                    pending.append(path)
                    if found.st_uid != os.geteuid():
                        yield path


def _is_directory(item: os.DirEntry[str]) -> bool:
    return os.fsencode(item.name) not in LEFT_OUT and item.is_dir(follow_symlinks=False)
