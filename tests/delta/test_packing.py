"""Pieces through one zstd stream: each comes back at once, in bounded memory, whatever the level."""

import weakref
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.errors import PatchError
from codesync.delta.packing import Packer, Unpacker

TEXT = b"".join(b"a line that says %d\n" % number for number in range(2000))
NOISE = Random(1).randbytes(20_000)
PIECES = st.lists(
    st.tuples(st.sampled_from([TEXT, NOISE]), st.integers(0, 10_000), st.integers(1, 20_000)).map(
        lambda cut: cut[0][cut[1] : cut[1] + cut[2]]
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(PIECES, st.integers(0, 1 << 30))
def test_each_piece_comes_back_as_soon_as_it_is_packed(pieces: list[bytes], expected: int) -> None:
    packer, unpacker = Packer(expected), Unpacker()
    for piece in pieces:
        assert unpacker.unpack(packer.pack(piece, 0), len(piece)) == piece


def test_a_change_of_level_in_the_middle_is_read_too() -> None:
    random = Random(2)
    pieces = [b" ".join(random.choices(TEXT.split(), k=30_000)) for _ in range(40)]
    packer, unpacker = Packer(), Unpacker()
    packed = [packer.pack(piece, 0) for piece in pieces]
    assert len(packed[0]) * 1.02 < len(packed[-1])  # less well, but quickly
    assert [unpacker.unpack(data, len(piece)) for data, piece in zip(packed, pieces, strict=True)] == pieces


def test_alike_pieces_share_what_they_have_in_common() -> None:
    packer = Packer()
    first, second = packer.pack(TEXT, 0), packer.pack(TEXT, 0)
    assert len(second) * 3 < len(first)


@pytest.mark.parametrize(
    ("piece", "pays"), [(b"", False), (TEXT[:500], True), (TEXT, True), (NOISE, False), (NOISE[:70], False)]
)
def test_packing_pays_where_a_sample_becomes_smaller(piece: bytes, pays: bool) -> None:
    assert Packer().pays(piece) is pays


def test_what_is_missing_or_no_zstd_is_refused() -> None:
    data = Packer().pack(TEXT, 0)
    with pytest.raises(PatchError, match="another size"):
        Unpacker().unpack(data, len(TEXT) + 1)
    with pytest.raises(PatchError, match="another size"):
        Unpacker().unpack(data[:-1], len(TEXT))
    with pytest.raises(PatchError, match="damaged"):
        Unpacker().unpack(b"no zstd at all", 5)


def test_who_has_unpacked_is_let_go() -> None:
    """zstd's stream keeps what it reads from, where the collector cannot see it."""
    unpacker = Unpacker()
    assert unpacker.unpack(Packer(0).pack(TEXT, 0), len(TEXT)) == TEXT
    gone = weakref.ref(unpacker)
    del unpacker
    assert gone() is None
