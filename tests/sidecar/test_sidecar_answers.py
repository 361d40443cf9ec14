"""What a replica tells of its files' contents: in one frame, with seeds, bounded, and only of its committed tree."""

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import msgpack
import pytest
import zstandard

from codesync.delta import Signature, signature
from codesync.delta.refine import Details, Range, coarse_block_size, details
from codesync.protocol import Answer, AnswerError, FileRanges, GetDetails, GetSignatures, Message
from codesync.sidecar import answers
from codesync.sidecar.answers import details_answer, signatures_answer
from codesync.sidecar.store import Store
from tests.sidecar.pushing import push_tree

SIZE = 300_000


@pytest.fixture
def large(store: Store, source: Path) -> bytes:
    """The content of `large`, which the committed tree has beside a small file and a link."""
    data = random.Random(1).randbytes(SIZE)
    (source / "large").write_bytes(data)
    (source / "small").write_bytes(data[:5000])
    (source / "link").symlink_to("large")
    push_tree(store, source, "p1")
    return data


def told(messages: AsyncGenerator[Message, None]) -> dict[bytes, bytes]:
    async def all_of_it() -> list[Message]:
        return [message async for message in messages]

    found = asyncio.run(all_of_it())
    assert all(isinstance(message, Answer) for message in found), found
    assert [message.last for message in found if isinstance(message, Answer)] == [False] * (
        len(found) - 1
    ) + [True]
    frame = b"".join(message.data for message in found if isinstance(message, Answer))
    records = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    unpacker = msgpack.Unpacker()
    unpacker.feed(records)
    return dict(unpacker)


def signatures(store: Store, *paths: bytes, coarse_from: int = 0) -> dict[bytes, Signature]:
    asked = GetSignatures(request=1, tree_id=store.tree.tree_id, paths=paths, coarse_from=coarse_from)
    return {path: Signature.from_bytes(data) for path, data in told(signatures_answer(asked, store)).items()}


def ask(store: Store, *files: FileRanges) -> dict[bytes, Details]:
    asked = GetDetails(request=1, tree_id=store.tree.tree_id, files=files)
    return {path: Details.from_bytes(data) for path, data in told(details_answer(asked, store)).items()}


def test_a_signature_has_coarse_blocks_only_where_they_are_asked_for(store: Store, large: bytes) -> None:
    plain = signatures(store, b"large", b"small")
    coarse = signatures(store, b"large", b"small", coarse_from=SIZE)
    assert coarse[b"large"].block_size == coarse_block_size(SIZE) > plain[b"large"].block_size
    assert coarse[b"small"].block_size == plain[b"small"].block_size
    above = signatures(store, b"large", coarse_from=SIZE + 1)
    assert above[b"large"].block_size == plain[b"large"].block_size


def test_every_signature_has_another_seed(store: Store, large: bytes) -> None:
    found = [signatures(store, b"large", b"small") for _ in range(2)]
    seeds = {sig.seed for each in found for sig in each.values()}
    assert len(seeds) == 4
    sig = found[0][b"large"]
    assert sig == signature(large, seed=sig.seed)


def test_details_are_of_just_the_ranges_that_are_asked_for(store: Store, large: bytes) -> None:
    wanted = FileRanges(
        path=b"large", seed=7, ranges=(100, 4096, SIZE - 64, 64), orphans=(5000, 2000, 9000, 600)
    )
    ranges = [Range(100, 4096), Range(SIZE - 64, 64)]
    orphans = [Range(5000, 2000, orphan=True), Range(9000, 600, orphan=True)]
    found = ask(store, wanted, FileRanges(path=b"small", seed=8, ranges=(0, 5000)))
    assert found == {
        b"large": details(large, [*ranges, *orphans], seed=7),
        b"small": details(large[:5000], [Range(0, 5000)], seed=8),
    }


@pytest.mark.parametrize(
    "wanted",
    [
        FileRanges(path=b"link", seed=0, ranges=(0, 64)),
        FileRanges(path=b"package", seed=0, ranges=(0, 64)),
        FileRanges(path=b"../large", seed=0, ranges=(0, 64)),
        FileRanges(path=b"nothing", seed=0, ranges=(0, 64)),
        FileRanges(path=b"large", seed=0),
        FileRanges(path=b"large", seed=0, ranges=(SIZE, 1)),
        FileRanges(path=b"large", seed=0, orphans=(1, SIZE)),
        FileRanges(path=b"large", seed=0, orphans=(1 << 53, 1 << 53)),
        FileRanges(path=b"large", seed=0, ranges=(0, SIZE) * 3),
        FileRanges(path=b"large", seed=0, ranges=(0, SIZE) * 2, orphans=(0, SIZE)),
    ],
    ids=range(10),
)
def test_what_cannot_be_told_is_left_out(store: Store, large: bytes, wanted: FileRanges) -> None:
    small = FileRanges(path=b"small", seed=0, ranges=(0, 5000))
    assert ask(store, wanted, small).keys() == {b"small"}


def test_details_that_would_be_too_much_are_left_out(
    store: Store, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = FileRanges(path=b"large", seed=0, ranges=(0, SIZE))
    (sums,) = ask(store, wanted)[b"large"].sums
    monkeypatch.setattr(answers, "MAX_DETAILS", len(sums))
    assert ask(store, wanted)
    monkeypatch.setattr(answers, "MAX_DETAILS", len(sums) - 1)
    assert not ask(store, wanted)


def test_a_file_that_cannot_be_read_is_left_out(store: Store, large: bytes) -> None:
    current = store.volume.current
    (current / "large").unlink()
    (current / "large").symlink_to("small")
    assert signatures(store, b"large", b"small").keys() == {b"small"}
    wanted = (FileRanges(path=path, seed=0, ranges=(0, 64)) for path in (b"large", b"small"))
    assert ask(store, *wanted).keys() == {b"small"}


def test_a_tree_that_is_not_committed_is_stale(store: Store, large: bytes) -> None:
    async def first(messages: AsyncGenerator[Message, None]) -> Message:
        return await anext(messages)

    for message in (
        signatures_answer(GetSignatures(request=1, tree_id="0" * 64, paths=(b"large",)), store),
        details_answer(GetDetails(request=1, tree_id="0" * 64, files=()), store),
    ):
        refused = asyncio.run(first(message))
        assert isinstance(refused, AnswerError)
        assert refused.code == "stale"
