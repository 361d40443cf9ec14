"""Signatures and details are what was asked for, or refused in one line; many paths are asked about in several questions."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from codesync.client import ClientError, signatures
from codesync.client.session import Session, open_session
from codesync.client.signatures import OpenEnds, ask_details, ask_signatures
from codesync.delta import signature
from codesync.delta.refine import Details, Gap, Gaps, Range, details
from codesync.protocol import MAX_RANGES, GetDetails, GetSignatures, Message, TreeRef
from tests.client.fake import answer, fake_proxy
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio
TREE = TreeRef("0" * 64, "1" * 64)
BASIS = b"".join(b"%d\n" % number for number in range(5000))
GOOD = msgpack.packb([b"a", signature(BASIS).to_bytes()])
ENDS = OpenEnds(
    5, Gaps((Gap(600, 600, Range(600, 700)), Gap(9000, 900, Range(9000, 800))), (Range(20000, 600, True),))
)
RANGES = [Range(600, 700), Range(9000, 800), Range(20000, 600, orphan=True)]
DETAILS = details(BASIS, RANGES, seed=5)


def record(told: Details, path: bytes = b"a") -> bytes:
    return bytes(msgpack.packb([path, told.to_bytes()]))


async def conversation(
    directory: Path,
    ask: Callable[[Session], Awaitable[Any]],
    reply: Callable[[Message], bytes],
    questions: int = 1,
) -> tuple[Any, list[Any]]:
    """What a client makes of answers that hold such records, and what it has asked."""
    asked: list[Any] = []

    async def script(peer: Peer) -> None:
        for _ in range(questions):
            asked.append(await peer.hear(Message))
            await answer(peer, asked[-1].request, zstandard.ZstdCompressor().compress(reply(asked[-1])))
        await peer.websocket.wait_closed()

    async with fake_proxy(script) as fake, open_session(fake.settings(directory), lambda _: None) as session:
        return await ask(session), asked


async def signatures_of(directory: Path, data: bytes) -> object:
    found, _ = await conversation(
        directory, lambda session: ask_signatures(session, TREE, [b"a"]), lambda _: data
    )
    return found


async def details_of(directory: Path, data: bytes) -> object:
    found, _ = await conversation(
        directory, lambda session: ask_details(session, TREE, {b"a": ENDS}), lambda _: data
    )
    return found


async def test_signatures_are_read(tmp_path: Path) -> None:
    assert await signatures_of(tmp_path, GOOD) == {b"a": signature(BASIS)}


NONSENSE = [
    b"\xc1",
    b"\x91" * 5000,
    msgpack.packb([b"a", b"nothing of the kind"]),
    msgpack.packb([b"other", b""]),
    msgpack.packb(["a", b""]),
    msgpack.packb([["a"], b""]),
    msgpack.packb([b"a"]),
    msgpack.packb(7),
]


@pytest.mark.parametrize("data", [*NONSENSE, GOOD[:-1]], ids=range(9))
async def test_what_is_no_signature_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ClientError, match="signatures cannot be read") as caught:
        await signatures_of(tmp_path, data)
    assert "\n" not in str(caught.value)


async def test_more_signatures_than_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "MAX_SIGNATURES", len(GOOD) - 1)
    with pytest.raises(ClientError, match="signatures cannot be read"):
        await signatures_of(tmp_path, GOOD)


async def test_details_are_read(tmp_path: Path) -> None:
    assert await details_of(tmp_path, record(DETAILS)) == {b"a": DETAILS}
    assert await details_of(tmp_path, b"") == {}


def others() -> Iterable[Details]:
    yield DETAILS._replace(seed=6)
    yield DETAILS._replace(sums=DETAILS.sums[:1])
    yield DETAILS._replace(sums=(*DETAILS.sums, b""))
    yield DETAILS._replace(sums=(DETAILS.sums[0] + bytes(3), DETAILS.sums[1]))
    yield DETAILS._replace(orphans=None)
    yield details(BASIS, [*RANGES, Range(0, 600, orphan=True)], seed=5)


@pytest.mark.parametrize("data", [*NONSENSE, *map(record, others())], ids=range(14))
async def test_details_of_something_else_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ClientError, match="details cannot be read") as caught:
        await details_of(tmp_path, data)
    assert "\n" not in str(caught.value)


async def test_many_paths_are_asked_for_in_several_questions(tmp_path: Path) -> None:
    paths = [b"%d" % number for number in range(2500)] + [b"x" * 60_000, b"y" * 60_000, b"z" * 60_000]

    def reply(asked: Message) -> bytes:
        assert isinstance(asked, GetSignatures)
        return b"".join(msgpack.packb([path, signature(path).to_bytes()]) for path in asked.paths)

    found, asked = await conversation(
        tmp_path, lambda session: ask_signatures(session, TREE, paths), reply, questions=4
    )
    assert found == {path: signature(path) for path in paths}
    assert [path for question in asked for path in question.paths] == paths
    assert len({question.request for question in asked}) == 4


async def test_many_ranges_are_asked_for_in_several_questions(tmp_path: Path) -> None:
    half = OpenEnds(5, Gaps((), (Range(0, 1, True),) * (MAX_RANGES // 2)))
    third = OpenEnds(5, Gaps((), (Range(0, 1, True),) * (MAX_RANGES // 3)))
    wanted = {b"a": half, b"b": half, b"c": third, b"d": third}
    too_many = {b"e": OpenEnds(5, Gaps((), (Range(0, 1, True),) * (MAX_RANGES + 1)))}
    found, asked = await conversation(
        tmp_path,
        lambda session: ask_details(session, TREE, wanted | too_many),
        lambda _: b"",
        questions=2,
    )
    assert found == {}
    assert all(isinstance(question, GetDetails) for question in asked)
    assert [[file.path for file in question.files] for question in asked] == [[b"a", b"b"], [b"c", b"d"]]
