"""What rules say of a path."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """What becomes of a path. TRACKED_ONLY: a directory that is ignored but for what git tracks below it."""

    IGNORED = 0
    COUNTS = 1
    TRACKED_ONLY = 2
