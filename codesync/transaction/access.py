"""What this user may not do at a path, in words that tell whoever can give the permission which one it is.

Ids are numbers: the user of a container often has no name, and a pod's settings name numbers, too.
"""

from __future__ import annotations

import os
import stat

READ, WRITE = os.R_OK, os.R_OK | os.W_OK
_VERBS = {READ: "read", WRITE: "write"}


def user() -> str:
    """This process's user and groups: `uid 1000 (groups 1000, 2000)`."""
    return f"uid {os.geteuid()} (groups {', '.join(map(str, sorted(groups())))})"


def groups() -> set[int]:
    """All groups of this process."""
    return {os.getegid(), *os.getgroups()}


def owner(found: os.stat_result) -> str:
    """Who owns it, and its permissions: `owner 0:2000, mode 2770`."""
    return f"owner {found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}"


def refusal(path: str, wanted: int) -> str:
    """Who cannot do what where, as the beginning of a line; "" when nothing is refused or nothing is there.

    `wanted` is READ or WRITE; in a directory that means its names.
    """
    try:
        found = os.stat(path)
    except OSError:  # missing; or the directory it is in is what cannot be read
        return ""
    search = os.X_OK if stat.S_ISDIR(found.st_mode) else 0
    if os.access(path, wanted | search):
        return ""
    if wanted & os.W_OK and os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} is on a read-only file system"
    return f"{user()} cannot {_VERBS[wanted]} {path} ({owner(found)})"


def stranger_to_group(directory: str) -> str:
    """The same for a directory that gives its group to what is made in it, when this user is not in that group."""
    try:
        found = os.stat(directory)
    except OSError:
        return ""
    if not found.st_mode & stat.S_ISGID or found.st_gid in groups() or os.geteuid() == 0:
        return ""
    return f"{user()} is not in group {found.st_gid} of {directory} ({owner(found)})"
