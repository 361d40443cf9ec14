"""The ASGI application: every module of `pages` answers at its own path; /health says that all of them are there."""

from collections.abc import Awaitable, Callable
from typing import Any

from shop.plugins import modules
from shop.responses import respond

PAGES = {module.PATH: module.page for module in modules("shop.pages")}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer one request."""
    path = scope["path"]
    if path == "/health":
        await respond(send, 200, {"pages": sorted(PAGES)})
    elif path in PAGES:
        await respond(send, 200, PAGES[path]())
    else:
        await respond(send, 404, {"error": f"there is no {path} here", "pages": sorted(PAGES)})
