"""A proxy on loopback that says what a test tells it to: one script for each connection, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from codesync import client
from codesync.client import PushResult
from codesync.client.trees import encode_tree
from codesync.config import Settings
from codesync.delta import scan
from codesync.plan import ReplicaTree
from codesync.protocol import (
    MAX_CHUNK,
    Answer,
    Begin,
    Cancel,
    DeploymentState,
    Error,
    GetManifest,
    Granted,
    Hello,
    Hook,
    Outcome,
    Push,
    ReplicaReport,
    ReplicaState,
    TreeRef,
    Welcome,
)
from tests.proxy.loopback import Peer

Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Fake:
    """`tree` is what its only replica has; without one there is no replica. Or `states` are all that there are."""

    scripts: list[Script]
    tree: ReplicaTree | None = None
    states: tuple[ReplicaState, ...] = ()
    port: int = 0
    connections: int = 0
    ended: asyncio.Queue[BaseException | None] = field(default_factory=asyncio.Queue)

    @property
    def deployment(self) -> DeploymentState:
        one = (ReplicaState(id="one", tree=TreeRef(*self.tree.ids)),) if self.tree else ()
        return DeploymentState(app_id="shop", deployment_id="test", replicas=self.states or one)

    def settings(self, directory: Path, *hooks: Hook) -> Settings:
        return Settings(
            api_key="key",
            proxy_url=f"ws://127.0.0.1:{self.port}",
            app_id="shop",
            deployment_id="test",
            app_root=str(directory / "source"),
            source="dev@laptop:/src",
            cache_dir=str(directory / "cache"),
            hooks=hooks,
        )

    async def serve(self, websocket: ServerConnection) -> None:
        peer = Peer(cast("ClientConnection", websocket))
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        try:
            await peer.hear(Hello)
            await peer.say(Welcome(version=1, software="fake", deployment=self.deployment))
            await script(peer)
        except ConnectionClosed:
            self.ended.put_nowait(None)
        except Exception as error:  # the test shall see it
            self.ended.put_nowait(error)
            raise
        else:
            self.ended.put_nowait(None)

    async def all_ended(self, count: int) -> None:
        """Wait until so many scripts have ended, none of them by an error."""
        async with asyncio.timeout(10):
            for _ in range(count):
                assert await self.ended.get() is None

    async def grant(self, peer: Peer) -> Begin:
        begin = await peer.hear(Begin)
        await self.grant_to(peer, begin)
        return begin

    async def grant_to(self, peer: Peer, begin: Begin) -> None:
        await peer.say(Granted(push_id=begin.push_id, deployment=self.deployment))

    async def describe(self, peer: Peer) -> None:
        """Answer the question for the replica's tree."""
        assert self.tree is not None
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(self.tree))


async def answer(peer: Peer, request: int, data: bytes) -> None:
    for start in range(0, len(data), MAX_CHUNK):
        last = start + MAX_CHUNK >= len(data)
        await peer.say(Answer(request=request, data=data[start : start + MAX_CHUNK], last=last))


async def agree_to_cancel(peer: Peer, push_id: str) -> None:
    assert (await peer.hear(Cancel)).push_id == push_id
    await peer.say(Error(code="cancelled", message="cancelled", push_id=push_id))


async def push(fake: Fake, directory: Path, push_id: str | None = None, *hooks: Hook) -> PushResult:
    async with asyncio.timeout(20):
        return await client.push(fake.settings(directory, *hooks), description="x", push_id=push_id)


async def accept(fake: Fake, peer: Peer) -> None:
    """A whole push that ends well."""
    begin = await fake.grant(peer)
    await fake.describe(peer)
    await peer.hear(Push)
    await peer.hear_batch()
    report = ReplicaReport(id="one", status="healthy", generation=1)
    await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))
    await peer.websocket.wait_closed()


@asynccontextmanager
async def fake_proxy(
    *scripts: Script, tree: ReplicaTree | None = None, states: tuple[ReplicaState, ...] = ()
) -> AsyncIterator[Fake]:
    """Serve until the end of the block; the last script is for all further connections too."""
    fake = Fake(list(scripts), tree, states)
    async with serve(fake.serve, "127.0.0.1", 0, compression=None, max_size=2**20, close_timeout=1) as server:
        fake.port = next(iter(server.sockets)).getsockname()[1]
        yield fake


def tree_at(root: Path) -> ReplicaTree:
    """A replica's tree like that directory, all of it tracked."""
    manifest = scan(str(root))
    return ReplicaTree(manifest, frozenset(manifest.paths))


def fill(root: Path, count: int) -> None:
    """So many small files, `0.txt` on."""
    root.mkdir(exist_ok=True)
    for number in range(count):
        (root / f"{number}.txt").write_text(f"{root} {number}\n")
