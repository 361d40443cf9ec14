"""JSON over ASGI."""

import json
from collections.abc import Awaitable, Callable
from typing import Any


async def respond(send: Callable[[dict[str, Any]], Awaitable[None]], status: int, value: object) -> None:
    """Send `value` as the whole answer."""
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
