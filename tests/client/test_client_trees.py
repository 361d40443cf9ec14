"""A replica's tree is read whole and exact, or refused in one line."""

from pathlib import Path

import msgpack
import pytest
import zstandard

from codesync.client import ClientError
from codesync.client.trees import MAX_TREE, KnownTrees, decode_tree, encode_tree
from codesync.delta import Manifest
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef
from tests.client.fake import fill, tree_at

EMPTY = Manifest.of(()).to_bytes()
NOWHERE = TreeRef("0" * 64, "0" * 64)


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_a_tree_is_read_as_it_was_written(tmp_path: Path) -> None:
    fill(tmp_path / "source", 3)
    tree = tree_at(tmp_path / "source")
    assert decode_tree(encode_tree(tree), TreeRef(*tree.ids)) == tree


def test_another_tree_than_the_one_named_is_refused() -> None:
    with pytest.raises(ClientError, match="another tree"):
        decode_tree(encode_tree(ReplicaTree(Manifest.of(()))), NOWHERE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zstd",
        frame(b""),
        frame(b"\xc1"),
        frame(b"\x91" * 5000 + b"\xc0"),
        frame(msgpack.packb([1, 2])),
        frame(msgpack.packb({"manifest": 7, "tracked": []})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": 7})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": ["text"]})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": [[b"nested"]]})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": [b"x"]})[:-1]),
        frame(b"\x81\xa7tracked\xdd\xff\xff\xff\xff"),
        frame(b"\x91" * 3_000_000),
        frame(bytes(MAX_TREE + 1)),
    ],
    ids=range(14),
)
def test_what_is_no_tree_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        decode_tree(data, NOWHERE)
    assert caught.value.code == "bad_message"
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_the_cache_is_not_known(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    tree = tree_at(tmp_path / "source")
    known = KnownTrees(str(tmp_path / "trees"))
    known.add(tree)
    for path in (tmp_path / "trees").iterdir():
        path.write_bytes(b"damaged")
    known.add(ReplicaTree(Manifest.of(())))  # the latest one is known without its file
    assert known.find(TreeRef(*tree.ids)) is None
