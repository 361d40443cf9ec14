"""Only the announced bytes get in."""

from __future__ import annotations

import contextlib
import io
import os
import stat

import pytest

from codesync.transaction import (
    Transaction,
    TransactionError,
    UnsafePath,
    VerificationError,
)
from tests.transaction.trees import (
    build,
    file,
    link,
    put,
    read,
    without_mtimes,
)


def test_bytes_that_are_not_the_announced_ones_are_refused(world: bytes) -> None:
    change = put(b"f", file(b"right"))
    with Transaction.begin(world, "t") as transaction:
        for data in (b"wrong", b"righ", b"", b"right!"):
            with pytest.raises(VerificationError) as caught:
                transaction.copy(change, io.BytesIO(data))
            assert caught.value.path == b"f"
        transaction.copy(change, io.BytesIO(b"right"))  # the next try may be the right one
        transaction.rename()
        transaction.keep()
    assert read(world)[b"f"].data == b"right"


def test_a_file_left_open_holds_the_rename_up(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        content = transaction.create(put(b"f", file(b"x")))
        with pytest.raises(TransactionError, match="still being written"):
            transaction.rename()
        content.write(b"x")
        content.close()
        content.close()
        with pytest.raises(ValueError, match="closed"):
            content.write(b"more")
        transaction.rename()
        transaction.keep()
    assert read(world)[b"f"].data == b"x"


def test_an_error_while_writing_leaves_nothing_of_the_file(world: bytes) -> None:
    with Transaction.begin(world, "t") as transaction:
        with contextlib.suppress(KeyError), transaction.create(put(b"f", file(b"right"))) as content:
            content.write(b"rig")
            raise KeyError
        transaction.rename()
        transaction.keep()
    assert b"f" not in read(world)


def test_adopt_renames_a_file_in_and_copies_where_it_must(world: bytes, outside: bytes) -> None:
    build(
        outside,
        {b"own": file(b"12345"), b"shared": file(b"12345"), b"false": file(b"54321"), b"l": link(b"own")},
    )
    os.link(os.path.join(outside, b"shared"), os.path.join(outside, b"twin"))
    os.link(os.path.join(outside, b"false"), os.path.join(outside, b"false2"))
    inode = os.stat(os.path.join(outside, b"own")).st_ino
    at = os.fsdecode(os.path.join(outside, b""))
    with Transaction.begin(world, "t") as transaction:
        with pytest.raises(VerificationError):
            transaction.adopt(put(b"short", file(b"1234")), at + "own")
        with pytest.raises(VerificationError):
            transaction.adopt(put(b"false", file(b"12345")), at + "false")
        with pytest.raises(UnsafePath):
            transaction.adopt(put(b"link", file(b"12345")), at + "l")
        with pytest.raises(TransactionError, match="No such file"):
            transaction.adopt(put(b"none", file(b"12345")), at + "none")
        transaction.adopt(put(b"own", file(b"12345", 0o600)), at + "own")
        transaction.adopt(put(b"shared", file(b"12345", 0o600)), at + "shared")
        transaction.rename()
        transaction.keep()
    assert without_mtimes(read(world))[b"own"] == without_mtimes(read(world))[b"shared"]
    assert os.stat(os.path.join(world, b"own")).st_ino == inode
    assert stat.S_IMODE(os.stat(at + "shared").st_mode) == 0o644
    assert not os.path.exists(at + "own")
