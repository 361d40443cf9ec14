"""What a delta is made of. This file knows neither how operations are found nor how they travel."""

from typing import NamedTuple

MAX_LITERAL = 1 << 18  # bytes of one literal


class Copy(NamedTuple):
    """`length` bytes of the basis, from `offset` on."""

    offset: int
    length: int


class Literal(NamedTuple):
    """Bytes that the basis does not have: 1 byte to 256 KiB."""

    data: bytes


class Window(NamedTuple):
    """`size` bytes of the target, packed as `data` against the basis: copies, and leftovers compressed with its text.

    Only who holds the basis can make one. `size` may be anything from 1 on, since a window copies any length; `data` is
    bounded. `codesync.delta.window` knows its form.
    """

    size: int
    data: bytes


Op = Copy | Literal | Window
