"""One websocket of the proxy: what is to be said, in order, and the batch that is relayed between the words.

Memory is bounded: one chunk at a time is read from disk, and whoever causes words to be said waits (`room`) until the
reader has taken enough of them.
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from codesync.protocol import MAX_MESSAGE, Chunk, Close, Message, Progress, ProtocolError, encode
from codesync.proxy.log import line, where
from codesync.proxy.store import Content, Store

log = logging.getLogger("codesync.proxy")

_HIGH_WATER = 2 * MAX_MESSAGE


class Relaying:
    """A batch on its way to one connection."""

    def __init__(self, push_id: str, content: Content) -> None:
        self.push_id = push_id
        self.content = content
        self.offset = 0

    @property
    def has_more(self) -> bool:
        """Whether a chunk can be sent now."""
        return self.offset < self.content.size or self.content.complete

    async def next(self) -> Chunk:
        """The next chunk. OSError."""
        content = self.content
        data = await content.read(self.offset) if self.offset < content.size else b""
        self.offset += len(data)
        return Chunk(push_id=self.push_id, data=data, last=content.complete and self.offset >= content.size)


class Wire:
    """Give it messages by `say`, batches by `relay`, an end by `close`; `write` says it all until the connection ends."""

    def __init__(self, websocket: ServerConnection, store: Store, listener: "Listener") -> None:
        self._websocket = websocket
        self._store = store
        self._listener = listener
        self._outbox: deque[bytes] = deque()
        self._newest: Message | None = None  # the last in the outbox
        self._waiting = 0  # bytes in the outbox
        self._relaying: Relaying | None = None
        self.relays = 0  # how often a relay was begun or ended: tells whether an opening file is still wanted
        self._ending: tuple[int, str] | None = None
        self._work = asyncio.Event()
        self._taken = asyncio.Event()

    # -- what is to be said ------------------------------------------------------------------------------------------

    def say(self, message: Message) -> None:
        """After all that is waiting to be said. Of two progresses of the same step in a row the later is enough."""
        if self._ending is not None:
            return
        try:
            data = encode(message)
        except ProtocolError as error:  # a defect of ours; whoever is at the other end must not wait for ever
            log.error("cannot be said: %s", error)
            self.close(Close.INTERNAL, "the proxy could not say something; see its log")
            return
        if self._outbox and _supersedes(message, self._newest):
            self._waiting -= len(self._outbox.pop())
        self._outbox.append(data)
        self._newest = message
        self._waiting += len(data)
        self._work.set()

    def relay(self, push_id: str, content: Content) -> None:
        """Send a batch, which is released in the end; instead of the one that is being sent."""
        self.unrelay()
        self._relaying = Relaying(push_id, content)
        content.listeners.add(self._work.set)
        self._work.set()

    def unrelay(self) -> None:
        """Send no more of a batch."""
        self.relays += 1
        if self._relaying is not None:
            self._relaying.content.listeners.discard(self._work.set)
            self._store.release(self._relaying.content)
            self._relaying = None

    def close(self, code: int, reason: str) -> None:
        """Close after all that is waiting to be said."""
        self.unrelay()
        self._ending = self._ending or (code, reason)
        self._work.set()

    @property
    def is_behind(self) -> bool:
        """Whether much is left to be said."""
        return self._waiting > _HIGH_WATER

    async def room(self, seconds: float) -> None:
        """Wait until little is left to be said. A reader that does not take it within that time is cut off."""
        try:
            async with asyncio.timeout(seconds):
                while self.is_behind:
                    self._taken.clear()
                    await self._taken.wait()
        except TimeoutError:
            log.warning("a connection took nothing for %g s (slow_reader): it is closed", seconds)
            self._abort()

    def _abort(self) -> None:
        if self._websocket.state is not State.CLOSED:
            self._websocket.transport.abort()

    # -- saying it ---------------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Until the connection ends."""
        try:
            while await self._write_one():
                pass
        except ConnectionClosed:
            pass
        except Exception as error:  # a defect of ours; a connection that says nothing more must not stay open
            log.error("%s", line("defect in writing", {"error": repr(error), "at": where(error)}))
            self._abort()
        finally:
            self.unrelay()
            self._waiting = 0
            self._taken.set()

    async def _write_one(self) -> bool:
        if self._outbox:
            data = self._outbox.popleft()
            await self._websocket.send(data)
            self._waiting -= len(data)
            self._taken.set()
        elif self._ending is not None:
            await self._websocket.close(*self._ending)
            return False
        elif self._relaying is not None and self._relaying.has_more:
            await self._relay_one(self._relaying)
        else:
            self._work.clear()
            await self._work.wait()
        return True

    async def _relay_one(self, relaying: Relaying) -> None:
        try:
            chunk = await relaying.next()
        except OSError as error:
            if self._relaying is relaying:
                self.unrelay()
                self._listener.cannot_read(relaying.push_id, error)
            return
        if self._relaying is not relaying:
            return  # it was ended meanwhile
        self._listener.relaying(self, chunk)
        if chunk.last and self._relaying is relaying:
            self.unrelay()
        await self._websocket.send(encode(chunk))


class Listener(Protocol):
    """What a wire tells."""

    def relaying(self, wire: Wire, chunk: Chunk) -> None:
        """This chunk is about to be sent."""

    def cannot_read(self, push_id: str, error: OSError) -> None:
        """A batch cannot be read."""


def _supersedes(new: Message, old: Message | None) -> bool:
    return (
        isinstance(new, Progress)
        and isinstance(old, Progress)
        and (new.push_id, new.replica, new.stage) == (old.push_id, old.replica, old.stage)
    )
