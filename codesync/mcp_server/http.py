"""Streamable HTTP: who may talk to the server.

On loopback a web page is the danger: a browser sends its requests here under names of its choice, so Host and Origin
must be ours. Beyond loopback every request needs a key as well.
"""

import asyncio
import hmac
import socket
from collections.abc import Callable, Sequence

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from codesync.config import ConfigError, is_loopback
from codesync.mcp_server.server import build_for_good


async def serve_http(
    host: str,
    port: int,
    *,
    keys: Sequence[str],
    names: Sequence[str] = (),
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve streamable HTTP at /mcp until cancelled; pushes that are not kept by then are undone.

    `names`: further Host names that callers use.

    Beyond loopback every request needs one of `keys`. Port 0 is any free one; `on_ready` is told which.

    Raises:
        ConfigError: no key for an address beyond loopback, or the address cannot be listened on.
    """
    import uvicorn

    if not keys and not is_loopback(host):
        raise ConfigError(
            f"no API key: set CODESYNC_API_KEY to serve {host}, or listen on 127.0.0.1", "api_key"
        )
    mcp = build_for_good()
    app: ASGIApp = mcp.streamable_http_app(host=host, transport_security=_allowed([host, *names]))
    if not is_loopback(host):
        app = KeyRequired(app, keys)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --http"
        ) from error
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with listener:
        on_ready(listener.getsockname()[1])
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await mcp.calls.stop()
            await asyncio.wait([serving])
            raise


class KeyRequired:
    """Lets only requests through that carry a key, in X-Api-Key or as a bearer."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or self._knows(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        body = b"a key is needed: send it as X-Api-Key, or Authorization: Bearer\n"
        headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        offered = headers.get(b"x-api-key") or (bearer.strip() if scheme.lower() == b"bearer" else b"")
        # every key is compared, so that time tells nothing
        return True in [hmac.compare_digest(offered, key) for key in self._keys]


def _allowed(names: Sequence[str]) -> TransportSecuritySettings:
    """Host and Origin headers that are us: a page elsewhere must not talk to a server on this machine."""
    hosts = {"127.0.0.1", "localhost", "[::1]", socket.gethostname()}
    hosts |= {f"[{name}]" if ":" in name else name for name in names}
    return TransportSecuritySettings(
        allowed_hosts=[form for host in sorted(hosts) for form in (host, f"{host}:*")],
        allowed_origins=[
            form
            for host in sorted(hosts)
            for s in ("http", "https")
            for form in (f"{s}://{host}", f"{s}://{host}:*")
        ],
    )
