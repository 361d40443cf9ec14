"""The launcher's end of the socket, played by a test: it says anything, and hears what it is told. The proxy's too."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from codesync.protocol import Keep, Kept, Message, ReplicaState, Staged, State, Tried, Try
from codesync.sidecar.replica import Replica
from codesync.sidecar.store import Store
from tests.sidecar.pushing import stage_messages

M = TypeVar("M", bound=Message)
SECONDS = 10  # that any one word may take


class PlayedLauncher:
    """Says hello to whoever connects, with `hello`, unless that is empty; keeps what it hears beside the other's hello."""

    def __init__(self, **hello: Any) -> None:
        self.hello = {"type": "hello", "version": 1, **hello}
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.hellos: asyncio.Queue[None] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self._writer = writer
        if self.hello:
            self.say(self.hello)
        self.hellos.put_nowait(None)
        while line := await reader.readline():
            self.heard.put_nowait(json.loads(line))
        writer.close()

    def say(self, message: object) -> None:
        """Any JSON."""
        self.say_line(json.dumps(message).encode())

    def say_line(self, line: bytes) -> None:
        """Anything."""
        assert self._writer is not None
        self._writer.write(line + b"\n")

    async def hears(self, kind: str) -> dict[str, Any]:
        """The next message of that type; others before it are dropped."""
        async with asyncio.timeout(SECONDS):
            while (message := await self.heard.get())["type"] != kind:
                pass
        return message

    def leave(self) -> None:
        """Close the connection."""
        assert self._writer is not None
        self._writer.close()


@asynccontextmanager
async def listening(directory: Path, launcher: PlayedLauncher) -> AsyncIterator[None]:
    """Its socket is in `directory`, however long that path is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        server = await asyncio.start_unix_server(launcher.serve, f"/proc/self/fd/{descriptor}/launcher.sock")
        try:
            yield
        finally:
            server.close()
            (directory / "launcher.sock").unlink(missing_ok=True)
    finally:
        os.close(descriptor)


class PlayedWorld:
    """A replica between a launcher and a proxy that are both played; `said` is what the proxy is told."""

    def __init__(self, store: Store, launcher: PlayedLauncher, source: Path) -> None:
        self.store = store
        self.launcher = launcher
        self.source = source
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.replica = Replica(store, self.said.put)

    async def told(self, kind: type[M]) -> M:
        """The next message of that type to the proxy; others before it are dropped."""
        async with asyncio.timeout(SECONDS):
            while not isinstance(message := await self.said.get(), kind):
                pass
        return message

    async def told_state(self, is_it: Callable[[ReplicaState], bool]) -> ReplicaState:
        """The first state to be told that is like that."""
        while not is_it(state := (await self.told(State)).replica):
            pass
        return state

    async def stage(self, push_id: str, **fields: Any) -> None:
        """A push of the source, until it is staged; `fields` are further ones of Stage."""
        for message in stage_messages(self.store, self.source, push_id, **fields):
            await self.replica.handle(message)
        await self.told(Staged)

    async def attempt(self, push_id: str, **verdict: Any) -> Tried:
        """Have the staged push tried, and the launcher judge it: `keep`, unless told otherwise."""
        await self.replica.handle(Try(push_id=push_id, deadline_s=60))
        asked = await self.launcher.hears("try")
        assert asked["push_id"] == push_id
        self.launcher.say({"type": "verdict", "push_id": push_id, "verdict": "keep", **verdict})
        return await self.told(Tried)

    async def keep(self, push_id: str) -> Kept:
        """Have it kept, by the launcher too."""
        await self.replica.handle(Keep(push_id=push_id))
        kept = await self.told(Kept)
        await self.launcher.hears("keep")
        self.launcher.say({"type": "kept", "push_id": push_id})
        return kept

    def end_launcher(self) -> None:
        """It goes, and nobody listens any more."""
        (self.store.volume.launcher / "launcher.sock").unlink()
        self.launcher.leave()

    async def push(self, push_id: str, text: str, **fields: Any) -> Kept:
        """One whole push of one file's new text."""
        (self.source / "app.py").write_text(text)
        await self.stage(push_id, **fields)
        await self.attempt(push_id)
        return await self.keep(push_id)


@asynccontextmanager
async def played_world(directory: Path, **hello: Any) -> AsyncIterator[PlayedWorld]:
    """`hello` are fields of the launcher's."""
    source = directory / "source"
    source.mkdir()
    (source / "app.py").write_text("one\n")
    store = Store.open(str(directory / "files"))
    launcher = PlayedLauncher(**{"health": True, "app": {"state": "healthy", "pid": 7}, **hello})
    world = PlayedWorld(store, launcher, source)
    async with listening(store.volume.launcher, launcher):
        running = asyncio.create_task(world.replica.launcher.run())
        try:
            await world.told_state(lambda state: state.launcher == "ready")
            yield world
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await world.replica.tasks.settle(SECONDS)
            store.close()
