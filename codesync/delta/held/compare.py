"""How far two texts are the same, at the speed of memory: slices compared, halved, and one long XOR at the end.

This file knows no files and no deltas.
"""

from __future__ import annotations

_FEW = 512  # bytes that are compared by one XOR


def common_prefix(a: bytes, b: bytes) -> int:
    """How many bytes two texts of equal length have in common from their start."""
    low, high = 0, len(a)
    if a == b:
        return high
    while high - low > _FEW:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    differing = int.from_bytes(a[low:high], "little") ^ int.from_bytes(b[low:high], "little")
    return low + ((differing & -differing).bit_length() - 1) // 8


def common_suffix(a: bytes, b: bytes) -> int:
    """How many bytes two texts of equal length have in common before their end."""
    low, high = 0, len(a)
    if a == b:
        return high
    while high - low > _FEW:
        middle = (low + high) // 2
        if a[middle:high] == b[middle:high]:
            high = middle
        else:
            low = middle
    differing = int.from_bytes(a[low:high], "little") ^ int.from_bytes(b[low:high], "little")
    return len(a) - low - (differing.bit_length() + 7) // 8


def first_run(a: bytes, b: bytes, least: int) -> int:
    """Where two texts of equal length first have `least` bytes in a row in common, or -1."""
    differing = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    return differing.to_bytes(len(a), "little").find(bytes(least))
