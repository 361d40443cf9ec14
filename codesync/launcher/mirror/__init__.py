"""One directory made like another: a copy of the application's directory, and what it has gained brought back.

    equal.py      `mirror`: equal, by touching only what differs
    carry.py      `carry`: what it has beyond the other, nothing removed
    content.py    one file's content
    directory.py  one directory's names

No file is shared, so that what is written to one in place never reaches the other. Everything is reached through directory
descriptors, and no component of a path is followed through a symlink.
"""

from codesync.launcher.mirror.carry import carry
from codesync.launcher.mirror.equal import TICK_NS, NoRoom, mirror

__all__ = ["TICK_NS", "NoRoom", "carry", "mirror"]
