"""Logs that are followed while replicas come and go: each is heard as soon as it is there, and told once when it is not."""

import asyncio
from pathlib import Path

import pytest

from codesync.protocol import Answer, AnswerError, GetLogs
from tests.client.fake import fake_proxy
from tests.client.test_client_app_log import followed, log, states
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas are looked for all the time."""
    monkeypatch.setattr("codesync.client.app_log.LOOK_SECONDS", 0.01)


class Crowd:
    """A proxy's word on which replicas there are, to whoever only looks; the first connection is listened on."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[GetLogs] = asyncio.Queue()
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Peer) -> None:
        if self.peer.done():
            await peer.websocket.wait_closed()
            return
        self.peer.set_result(peer)
        while True:
            await self.asked.put(await peer.hear(GetLogs))

    async def says(self, asked: GetLogs, data: bytes) -> None:
        await (await self.peer).say(Answer(request=asked.request, data=data, last=False))

    async def loses(self, asked: GetLogs, why: str = "gone") -> None:
        words = AnswerError(request=asked.request, code="replica_lost", message=why)
        await (await self.peer).say(words)


async def test_a_replica_that_comes_later_is_heard(tmp_path: Path) -> None:
    crowd = Crowd()
    async with fake_proxy(crowd, states=states("one")) as fake, asyncio.timeout(10):
        following = asyncio.create_task(followed(fake, tmp_path, 2))
        await crowd.says(await crowd.asked.get(), log((1.0, "a")))
        fake.states = states("one", "two")
        second = await crowd.asked.get()
        assert (second.replica, second.lines) == ("two", 200)
        await crowd.says(second, log((2.0, "b")))
        lines, lost = await following
    assert [(line.replica, line.text) for line in lines] == [("one", "a"), ("two", "b")]
    assert lost == []


async def test_one_of_several_that_is_lost_is_heard_again_and_the_others_meanwhile(tmp_path: Path) -> None:
    crowd = Crowd()
    async with fake_proxy(crowd, states=states("one", "two")) as fake, asyncio.timeout(10):
        following = asyncio.create_task(followed(fake, tmp_path, 4))
        one, two = await crowd.asked.get(), await crowd.asked.get()
        await crowd.says(one, log((1.0, "a")))
        await crowd.says(two, log((2.0, "b")))
        fake.states = states("one")
        await crowd.loses(two)
        await crowd.says(one, log((3.0, "c")))
        fake.states = states("one", "two")
        again = await crowd.asked.get()
        await crowd.loses(again)  # it is not ready yet
        again = await crowd.asked.get()
        assert (again.replica, again.lines) == ("two", 10_000)
        await crowd.says(again, log((2.0, "b"), (4.0, "d")))
        lines, lost = await following
    assert [line.text for line in lines if line.replica == "one"] == ["a", "c"]
    assert [line.text for line in lines if line.replica == "two"] == ["b", "d"]
    assert lost == ["replica two did not tell its log: gone"]


async def test_a_replica_that_is_one_too_many_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesync.client.app_log.MAX_FOLLOWED", 1)
    crowd = Crowd()
    told: asyncio.Queue[str] = asyncio.Queue()
    async with fake_proxy(crowd, states=states("one")) as fake, asyncio.timeout(10):
        following = asyncio.create_task(followed(fake, tmp_path, 1, on_remark=told.put_nowait))
        asked = await crowd.asked.get()
        fake.states = states("one", "two")
        assert await told.get() == "replica two is not heard: only 1 can be followed at once"
        await crowd.says(asked, log((1.0, "a")))
        await following
    assert told.empty()
