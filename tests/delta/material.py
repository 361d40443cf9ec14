"""What several tests of the engine are fed with."""

from io import BytesIO
from typing import BinaryIO, cast

from hypothesis import strategies as st


class _Dribble(BytesIO):
    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._most if size is None or size < 0 else min(size, self._most))


def dribble(data: bytes, most: int) -> BinaryIO:
    """A file whose every read returns at most `most` bytes."""
    return cast("BinaryIO", _Dribble(data, most))


READ_SIZES = st.sampled_from([1, 2, 3, 7, 64, 1000, 1 << 20])


@st.composite
def pairs(draw: st.DrawFn, most: int = 3000) -> tuple[bytes, bytes]:
    """A basis and a target that come from each other by cutting, moving, doubling and overwriting."""
    alphabet = draw(st.sampled_from([b"a", b"ab", bytes(range(256))]))
    random = draw(st.randoms(use_true_random=False))
    basis = bytes(random.choices(alphabet, k=draw(st.integers(0, most))))
    target = basis
    for _ in range(draw(st.integers(0, 4))):
        start, stop = sorted((random.randint(0, len(target)), random.randint(0, len(target))))
        piece = target[start:stop]
        fresh = bytes(random.choices(alphabet, k=random.choice([0, 1, 5, 50, stop - start])))
        put = random.choice([fresh, piece + piece, piece[::-1], fresh + piece])
        target = target[:start] + put + target[stop:]
    if draw(st.booleans()):
        half = len(target) // 2
        target = target[half:] + target[:half]
    return basis, target
