"""One websocket to the proxy, speaking `protocol` messages: what the client and the sidecar share.

A thin adapter: no decision about a push is made here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codesync import __version__
from codesync.config import is_loopback
from codesync.errors import UserError
from codesync.protocol import MAX_MESSAGE, Close, Error, Message, ProtocolError, decode, encode

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed

OPEN_TIMEOUT = 10.0
ANSWER_TIMEOUT = 10.0
PING_SECONDS = 20.0
CLOSE_SECONDS = 4.0
SOFTWARE = f"codesync/{__version__}"


class ConnectError(UserError):
    """The proxy cannot be reached or refuses us. `code` is one of protocol's; `final` means: do not try again."""

    def __init__(self, message: str, *, code: str, final: bool) -> None:
        super().__init__(message)
        self.code = code
        self.final = final


class Disconnected(UserError):
    """An open connection ended before the conversation did; trying again may help."""


class Connection:
    """Messages in, messages out; `send` waits while the other side is slow."""

    def __init__(self, websocket: ClientConnection, url: str) -> None:
        self._websocket = websocket
        self.url = url

    async def send(self, message: Message) -> None:
        """Send one message. Raises Disconnected, ConnectError."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._websocket.send(encode(message))
        except ProtocolError as error:
            raise ConnectError(f"this cannot be sent: {error}", code=error.code, final=True) from error
        except ConnectionClosed as error:
            raise self._lost(error) from error

    async def receive(self, *, within: float, what: str) -> Message:
        """Wait up to `within` seconds for the next message; `what` names the wait. Raises Disconnected, ConnectError."""
        from websockets.exceptions import ConnectionClosed

        try:
            async with asyncio.timeout(within):
                data = await self._websocket.recv()
            return decode(data if isinstance(data, bytes) else data.encode())
        except TimeoutError as error:
            raise Disconnected(
                f"{self.url} was silent for {within:.0f} s while waiting for {what}"
            ) from error
        except ConnectionClosed as error:
            raise self._lost(error) from error
        except ProtocolError as error:
            raise ConnectError(
                f"{self.url} does not speak codesync's protocol: {error}", code="version", final=True
            ) from error

    def _lost(self, error: ConnectionClosed) -> UserError:
        if error.rcvd is not None and error.rcvd.code == Close.REPLACED:
            return ConnectError(
                f"{self.url}: another connection with the same replica id took this one's place; give each replica a volume of its own",
                code="replaced",
                final=True,
            )
        return Disconnected(f"the connection to {self.url} was lost ({error}); is the proxy still running?")


@asynccontextmanager
async def connect(url: str, api_key: str, hello: Message) -> AsyncIterator[tuple[Connection, Message]]:
    """Open the websocket, say `hello`, and yield the connection with the proxy's answer.

    Raises ConnectError with one line that says what to do.
    """
    from websockets.asyncio.client import connect as open_websocket
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.protocol import State

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        websocket = await open_websocket(
            url,
            additional_headers=headers,
            user_agent_header=SOFTWARE,
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=OPEN_TIMEOUT,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=CLOSE_SECONDS / 2,
            proxy=None if is_loopback(urlsplit(url).hostname or "") else True,
        )
    except InvalidStatus as error:
        raise _refused(url, error.response.status_code, error.response.body) from error
    except (OSError, TimeoutError, WebSocketException) as error:
        reason = str(error) or f"no answer within {OPEN_TIMEOUT:.0f} s"
        raise ConnectError(
            f"no proxy answers at {url} ({reason}); start it with `codesync proxy`, or correct CODESYNC_PROXY_URL",
            code="unreachable",
            final=False,
        ) from error
    connection = Connection(websocket, url)
    try:
        await connection.send(hello)
        answer = await connection.receive(within=ANSWER_TIMEOUT, what="the proxy's welcome")
        if isinstance(answer, Error):
            raise ConnectError(answer.message, code=answer.code, final=True)
        yield connection, answer
    finally:
        if (
            websocket.state is not State.CLOSED
        ):  # closing what the other side has closed can fail inside asyncio
            await finish(websocket.close(), within=CLOSE_SECONDS)


def _refused(url: str, status: int, body: bytes | bytearray | None) -> ConnectError:
    reason = bytes(body or b"").decode("utf-8", "replace").strip().partition("\n")[0][:300]
    if status == 401:
        return ConnectError(
            reason or "the proxy wants a key; set CODESYNC_API_KEY", code="unauthorized", final=True
        )
    if status == 403:
        return ConnectError(
            reason or "the proxy refuses the key in CODESYNC_API_KEY", code="unauthorized", final=True
        )
    known = status == 404 and "codesync" in reason
    advice = (
        reason
        if known
        else f"{url} answers HTTP {status} ({reason or 'no text'}); is CODESYNC_PROXY_URL a codesync proxy?"
    )
    return ConnectError(advice, code="unknown_deployment" if known else "unreachable", final=status < 500)


async def finish(work: Coroutine[Any, Any, None], *, within: float) -> None:
    """Bring `work` to its end, for at most `within` seconds, although the caller is being cancelled.

    A lost connection or a passed bound is no error here. A cancellation that came meanwhile is raised at the end.
    """

    async def bounded() -> None:
        with suppress(UserError, OSError):
            async with asyncio.timeout(within):
                await work

    task = asyncio.create_task(
        bounded()
    )  # its own: some cancel scopes cancel the caller again at every await
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
    await task


def backoff(first: float = 0.1, ceiling: float = 15.0) -> Iterator[float]:
    """Waits between attempts, in seconds: doubling, with full jitter so that many do not return at once."""
    bound = first
    while True:
        yield random.uniform(bound / 2, bound)
        bound = min(ceiling, bound * 2)
