"""What a replica is asked about before a push, and that a push does without what it does not tell. The replica is played."""

import io
import random
import shutil
from pathlib import Path

import msgpack
import pytest
import zstandard

from codesync.client.trees import encode_tree
from codesync.delta import apply_batch, scan, signature
from codesync.delta.refine import Range, coarse_block_size, details
from codesync.protocol import (
    AnswerError,
    GetDetails,
    GetManifest,
    GetSignatures,
    Message,
    Outcome,
    Push,
    ReplicaReport,
    ReplicaState,
    TreeRef,
)
from tests.client.fake import answer, fake_proxy, push, tree_at
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio
SIZE = 400_000
SEED = 77


@pytest.fixture
def base(tmp_path: Path) -> bytes:
    """What the replica has in `large`; the source has it with thirty insertions."""
    data = random.Random(1).randbytes(SIZE)
    for name in ("replica", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "large").write_bytes(data)
    new = data
    for place in range(SIZE - 5_000, 0, -13_000):
        new = new[:place] + b"0123456789" + new[place:]
    (tmp_path / "source" / "large").write_bytes(new)
    return data


class Played:
    """A replica that has `base` and answers as it should."""

    def __init__(self, directory: Path, base: bytes, questions: tuple[str, ...]) -> None:
        self.base = base
        self.directory = directory
        self.tree = tree_at(directory / "replica")
        self.state = ReplicaState(id="one", tree=TreeRef(*self.tree.ids), questions=questions)
        self.asked: list[Message] = []
        self.batch = b""

    async def script(self, peer: Peer) -> None:
        begin = await self.fake.grant(peer)
        while not isinstance(message := await peer.hear(Message), Push):
            if isinstance(message, GetManifest):  # this process may know the tree from another test
                await answer(peer, message.request, encode_tree(self.tree))
                continue
            self.asked.append(message)
            if isinstance(message, GetSignatures):
                coarse = 0 < message.coarse_from <= SIZE
                block_size = coarse_block_size(SIZE) if coarse else None
                await self.tell(peer, message.request, signature(self.base, block_size, seed=SEED).to_bytes())
            elif isinstance(message, GetDetails):
                await self.detail(peer, message)
        self.batch = await peer.hear_batch()
        report = ReplicaReport(id="one", status="healthy", generation=1)
        await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))
        await peer.websocket.wait_closed()

    async def detail(self, peer: Peer, asked: GetDetails) -> None:
        (file,) = asked.files
        ranges = [Range(*pair) for pair in zip(file.ranges[::2], file.ranges[1::2], strict=True)]
        await self.tell(peer, asked.request, details(self.base, ranges, seed=file.seed).to_bytes())

    async def tell(self, peer: Peer, request: int, data: bytes, path: bytes = b"large") -> None:
        await answer(peer, request, zstandard.ZstdCompressor().compress(msgpack.packb([path, data])))

    async def pushed(self) -> None:
        async with fake_proxy(self.script, tree=self.tree, states=(self.state,)) as fake:
            self.fake = fake
            result = await push(fake, self.directory)
            await fake.all_ended(1)
        assert result.status == "healthy"
        made = self.directory / "made"
        shutil.copytree(self.directory / "replica", made)
        apply_batch(io.BytesIO(self.batch), str(made))
        assert scan(str(made)).tree_id == scan(str(self.directory / "source")).tree_id


class Refusing(Played):
    """It says that there is no answer."""

    async def detail(self, peer: Peer, asked: GetDetails) -> None:
        await peer.say(AnswerError(request=asked.request, code="no_replica", message="nobody knows"))


class Silent(Played):
    """It has nothing to say of that file."""

    async def detail(self, peer: Peer, asked: GetDetails) -> None:
        await answer(peer, asked.request, zstandard.ZstdCompressor().compress(b""))


class Confused(Played):
    """It tells of other ranges than it was asked about."""

    async def detail(self, peer: Peer, asked: GetDetails) -> None:
        await self.tell(peer, asked.request, details(self.base, [Range(0, 64)], seed=SEED).to_bytes())


async def test_a_replica_that_knows_details_is_asked_twice_and_sent_little(
    tmp_path: Path, base: bytes
) -> None:
    played = Played(tmp_path, base, ("get_details",))
    await played.pushed()
    assert [type(message) for message in played.asked] == [GetSignatures, GetDetails]
    assert len(played.batch) < 3000


async def test_an_older_replica_is_asked_only_what_it_knows(tmp_path: Path, base: bytes) -> None:
    played = Played(tmp_path, base, ())
    await played.pushed()
    (asked,) = played.asked
    assert isinstance(asked, GetSignatures)
    assert asked.coarse_from == 0
    assert len(played.batch) < 32 * 1024


@pytest.mark.parametrize("kind", [Refusing, Silent, Confused])
async def test_a_push_does_without_details_that_do_not_come(
    tmp_path: Path, base: bytes, kind: type[Played]
) -> None:
    played = kind(tmp_path, base, ("get_details",))
    await played.pushed()
    assert [type(message) for message in played.asked] == [GetSignatures, GetDetails]
    assert 50_000 < len(played.batch) < 100_000


async def test_a_few_small_files_are_sent_without_a_question(tmp_path: Path) -> None:
    for name, text in (("replica", "old\n"), ("source", "new\n")):
        (tmp_path / name).mkdir()
        for number in range(7):
            (tmp_path / name / str(number)).write_text(text * 1000)
    played = Played(tmp_path, b"", ("get_details",))
    await played.pushed()
    assert played.asked == []
