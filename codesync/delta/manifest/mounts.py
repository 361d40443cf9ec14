"""Whether the times of a tree's directories tell what was done to the names in them.

On a local file system of Linux the kernel moves them. On others (shared folders of virtual machines, network and user
space file systems) that depends on somebody else; git tests it for minutes before it relies on it. Here only those that
are known are relied on, and only if nothing is mounted inside the tree.
"""

from __future__ import annotations

import os
import re

_KNOWN = {b"bcachefs", b"btrfs", b"ext2", b"ext3", b"ext4", b"f2fs", b"overlay", b"tmpfs", b"xfs", b"zfs"}
_MOUNTS = "/proc/self/mountinfo"


def directories_tell(root: int) -> bool:
    """Whether that is so in the tree below the open directory `root`; not, where it cannot be found out."""
    try:
        path = os.readlink(b"/proc/self/fd/%d" % root)
        with open(_MOUNTS, "rb", buffering=0) as file:
            mounts = file.readall()
    except OSError:
        return False
    return _tell(mounts, path)


def _tell(mounts: bytes, path: bytes) -> bool:
    """`mounts`: lines as proc(5) describes them; of several for one place the last is in force."""
    nearest, kind = b"", b""
    inside = path.rstrip(b"/") + b"/"
    for line in mounts.splitlines():
        fields = line.split(b" ")
        place = fields[4]
        if b"\\" in place:
            place = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8) & 0xFF]), place)
        if place.startswith(inside) and place != path:
            return False
        if inside.startswith(place.rstrip(b"/") + b"/") and len(place) >= len(nearest):
            nearest, kind = place, fields[fields.index(b"-", 6) + 1]
    return kind in _KNOWN
