"""Requests to a replica end with an answer or one line, whatever comes; the connection goes on being read."""

import asyncio
from pathlib import Path

import msgpack
import pytest
import zstandard

from codesync.client import ClientError, session
from codesync.client.session import open_session
from codesync.connection import Disconnected
from codesync.delta import signature
from codesync.protocol import MAX_CHUNK, Answer, Error, GetManifest, GetSignatures, TreeRef
from tests.client.fake import answer, fake_proxy
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio
TREE = TreeRef("0" * 64, "1" * 64)
GOOD = msgpack.packb([b"a", signature(b"x" * 5000).to_bytes()])


async def signatures(directory: Path, data: bytes) -> object:
    """What a client makes of such an answer."""

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetSignatures)
        await answer(peer, asked.request, zstandard.ZstdCompressor().compress(data))
        await peer.websocket.wait_closed()

    async with fake_proxy(script) as fake, open_session(fake.settings(directory), lambda _: None) as found:
        return await found.signatures(TREE, [b"a"])


async def test_signatures_are_read(tmp_path: Path) -> None:
    assert await signatures(tmp_path, GOOD) == {b"a": signature(b"x" * 5000)}


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x91" * 5000,
        GOOD[:-1],
        msgpack.packb([b"a", b"no signature"]),
        msgpack.packb([b"other", b""]),
        msgpack.packb(["a", b""]),
        msgpack.packb([["a"], b""]),
        msgpack.packb([b"a"]),
        msgpack.packb(7),
        bytes(session.MAX_SIGNATURES + 1),
    ],
    ids=range(10),
)
async def test_what_is_no_signature_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ClientError, match="signatures cannot be read") as caught:
        await signatures(tmp_path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, MAX_CHUNK])
async def test_an_answer_without_end_is_given_up_and_the_connection_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(session, "MAX_ANSWER", 8 * 2**20 if size else 2**18)

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        for _ in range(300):
            await peer.say(Answer(request=asked.request, data=bytes(size), last=False))
        await peer.say(Error(code="busy", message="all was read"))
        await peer.websocket.wait_closed()

    async with fake_proxy(script) as fake, open_session(fake.settings(tmp_path), lambda _: None) as found:
        with pytest.raises(ClientError, match="larger than"):
            await found.manifest(TREE)
        async with asyncio.timeout(10):
            with pytest.raises(ClientError, match="all was read"):
                await found.wait(found.ended, "end")


async def test_a_connection_lost_during_an_answer_is_disconnected(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        for _ in range(40):  # more than the queue holds
            await peer.say(Answer(request=asked.request, data=b"x", last=False))
        peer.websocket.transport.abort()

    async with fake_proxy(script) as fake, open_session(fake.settings(tmp_path), lambda _: None) as found:
        with pytest.raises(Disconnected):
            await found.manifest(TREE)
