"""The two checksums of a block: a weak one that rolls, and a strong one that decides.

Weak is the rolling checksum of the rsync algorithm (Tridgell and Mackerras, "The rsync algorithm", 1996), over
unsigned bytes x[0] … x[n-1]:

    a = x[0] + x[1] + … + x[n-1]                  mod 65536
    b = n·x[0] + (n-1)·x[1] + … + 1·x[n-1]        mod 65536
    digest = a + 65536·b

Strong is XXH3 with 64 bits. It need not resist an attacker: every file that is put together from blocks is checked
against its SHA-256 before anything is replaced, so a false match costs an error, never a wrong file. 64 bits make one
improbable enough (a file of ten million blocks compared with as many windows: 5·10⁻⁶ without counting the weak sum),
and 128 would make signatures two thirds larger. This file knows blocks only: no files, no streams.
"""

from zlib import adler32

from xxhash import xxh3_64_intdigest as strong

__all__ = ["Rolling", "strong", "sums", "weak"]

_PIECE = 256  # the most bytes whose plain sum cannot reach Adler's modulus
_ADLER = 65521
_INVERSE = pow(_ADLER, -1, 255)


def weak(block: bytes) -> int:
    """The weak checksum of a block, 0 … 2³²-1."""
    a, b = sums(block)
    return (b & 0xFFFF) << 16 | a & 0xFFFF


def sums(block: bytes) -> tuple[int, int]:
    """The sums a and b of a block, not yet reduced modulo 65536, at the speed of C.

    No loop over bytes: pieces of 256 are summed by two library calls, and pieces add up as a concatenation does.
    """
    a = b = 0
    for start in range(0, len(block), _PIECE):
        piece = block[start : start + _PIECE]
        piece_a, piece_b = _piece_sums(piece)
        b += len(piece) * a + piece_b
        a += piece_a
    return a, b


def _piece_sums(piece: bytes) -> tuple[int, int]:
    # Adler-32 started at 0 is (a, b mod 65521), a exact for so short a piece. Read as a big-endian number, and because
    # 256^k = 1 + 255·k (mod 255²), the piece is a + 255·(b - a) (mod 255²): that is b mod 255. Both remainders
    # together give b itself, which is below 65521·255.
    adler = adler32(piece, 0)
    a, b = adler & 0xFFFF, adler >> 16
    b_255 = (int.from_bytes(piece, "big") % 65025 - a) // 255 + a
    return a, b + _ADLER * ((b_255 - b) * _INVERSE % 255)


class Rolling:
    """The weak checksum of a window that moves: the reference that the search's inner loop must agree with."""

    __slots__ = ("_a", "_b", "count")

    def __init__(self, block: bytes = b"") -> None:
        self._a, self._b = sums(block)
        self.count = len(block)

    def update(self, block: bytes) -> None:
        """Take in `block` at the right end."""
        a, b = sums(block)
        self._b += len(block) * self._a + b
        self._a += a
        self.count += len(block)

    def roll_in(self, byte: int) -> None:
        """One byte longer at the right end."""
        self._a += byte
        self._b += self._a
        self.count += 1

    def roll_out(self, byte: int) -> None:
        """One byte shorter at the left end; `byte` is the one that leaves."""
        self._a -= byte
        self._b -= self.count * byte
        self.count -= 1

    def rotate(self, out: int, in_: int) -> None:
        """One byte further to the right: `out` leaves, `in_` enters."""
        self._a += in_ - out
        self._b += self._a - self.count * out

    @property
    def digest(self) -> int:
        """As `weak` of the bytes in the window."""
        return (self._b & 0xFFFF) << 16 | self._a & 0xFFFF
