"""Requests to a replica end with an answer or one line, whatever comes; the connection goes on being read."""

import asyncio
from pathlib import Path

import pytest

from codesync.client import ClientError, session
from codesync.client.session import open_session
from codesync.connection import Disconnected
from codesync.protocol import MAX_CHUNK, Answer, Error, GetManifest, TreeRef
from tests.client.fake import fake_proxy
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio
TREE = TreeRef("0" * 64, "1" * 64)


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
