"""The MCP tools: typed, thin, over `client`. Nothing is decided here, and stdout belongs to the protocol.

The settings are read at each call, so that the server starts whatever they are, and a call says what is missing.
"""

import asyncio
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from codesync import __version__, client
from codesync.client import Progress, ProgressCallback, PushResult, StatusResult
from codesync.config import ConfigError, is_loopback, load
from codesync.wording import Milestones, error_line

INSTRUCTIONS = """\
codesync makes an application that runs remotely run the code in a local directory. After editing, call \
push_changes once: it sends what differs, restarts the application, and says whether it came up. status \
"rolled_back" means that the new code failed and the old code runs again: read replicas[].log_tail, mend the code, \
push again. next_step says what to do. A tool error says what has to be put right first."""

AppRoot = Annotated[
    str | None,
    Field(
        description="Directory to push. Default: the project file's, found from the server's directory upwards."
    ),
]
AppId = Annotated[str | None, Field(description="Default: CODESYNC_APP_ID, then the project file.")]
DeploymentId = Annotated[
    str | None, Field(description="Default: CODESYNC_DEPLOYMENT_ID, then the project file.")
]

T = TypeVar("T")
log = logging.getLogger(__name__)


async def push_changes(
    ctx: Context,
    *,
    change_description: Annotated[str, Field(description="What has changed and why, in a sentence.")],
    app_root: AppRoot = None,
    app_id: AppId = None,
    deployment_id: DeploymentId = None,
    dry_run: Annotated[bool, Field(description="Say what would change; change nothing.")] = False,
    mirror: Annotated[
        bool, Field(description="Delete known remote paths that were never pushed, too.")
    ] = False,
    allow_mass_delete: Annotated[
        bool, Field(description="Allow deleting more than half of the known tree.")
    ] = False,
    allow_large: Annotated[
        bool, Field(description="Allow more than 64 MiB, or a dependency directory.")
    ] = False,
    take_over: Annotated[bool, Field(description="Replace what another source has pushed.")] = False,
) -> PushResult:
    """Make the remote application run the local code, and say what became of it.

    Sends only what differs, restarts the application and judges it: healthy, running (no health check set), stored
    (it starts later), no_changes, or rolled_back with the log of the crash.
    """
    return await _call(
        ctx,
        lambda report: client.push(
            load(app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            description=change_description,
            dry_run=dry_run,
            mirror=mirror,
            allow_mass_delete=allow_mass_delete,
            allow_large=allow_large,
            take_over=take_over,
            progress=report,
        ),
    )


async def status(
    ctx: Context, app_root: AppRoot = None, app_id: AppId = None, deployment_id: DeploymentId = None
) -> StatusResult:
    """Show what the deployment runs: its replicas, how the application is, the last push, the history."""
    return await _call(
        ctx, lambda _: client.status(load(app_root=app_root, app_id=app_id, deployment_id=deployment_id))
    )


async def rollback(
    ctx: Context,
    *,
    push_id: Annotated[
        str | None, Field(description="Go back to this push's tree. Default: the one before the last.")
    ] = None,
    reason: Annotated[str, Field(description="Why, for the history.")] = "",
    app_root: AppRoot = None,
    app_id: AppId = None,
    deployment_id: DeploymentId = None,
) -> PushResult:
    """Make the remote application run an earlier push's code. Local files stay as they are."""
    return await _call(
        ctx,
        lambda report: client.rollback(
            load(app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            push_id=push_id,
            description=reason,
            progress=report,
        ),
    )


def build() -> MCPServer:
    """Return the server with its tools; it does nothing yet."""
    server = MCPServer("codesync", title="codesync", version=__version__, instructions=INSTRUCTIONS)
    changes = ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
    )
    looks = ToolAnnotations(read_only_hint=True, open_world_hint=True)
    server.add_tool(push_changes, title="Push changes", annotations=changes, structured_output=True)
    server.add_tool(status, title="Status", annotations=looks, structured_output=True)
    server.add_tool(rollback, title="Roll back", annotations=changes, structured_output=True)
    return server


async def serve_stdio() -> None:
    """Serve one client on stdin and stdout until stdin ends."""
    await build().run_stdio_async()


async def serve_http(
    host: str,
    port: int,
    *,
    keys: Sequence[str],
    names: Sequence[str] = (),
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve streamable HTTP at /mcp until cancelled. `names`: further Host names that callers use.

    Beyond loopback every request needs one of `keys`. Port 0 is any free one; `on_ready` is told which.

    Raises:
        ConfigError: no key for an address beyond loopback, or the address cannot be listened on.
    """
    import uvicorn

    if not keys and not is_loopback(host):
        raise ConfigError(
            f"no API key: set CODESYNC_API_KEY to serve {host}, or listen on 127.0.0.1", "api_key"
        )
    app: ASGIApp = build().streamable_http_app(host=host, transport_security=_allowed([host, *names]))
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
    with listener:
        on_ready(listener.getsockname()[1])
        await uvicorn.Server(config).serve(sockets=[listener])


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


async def _call(ctx: Context, work: Callable[[ProgressCallback], Awaitable[T]]) -> T:
    """Do `work`, its progress sent on as it comes; its expected errors become tool errors, one line each."""
    reports: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()
    sender = asyncio.create_task(_send_progress(ctx, reports))
    try:
        return await work(_Reporter(reports))
    except Exception as error:  # sorted: what is no expected error stays a crash
        if (line := error_line(error)) is None:
            raise
        raise ToolError(line) from error
    finally:
        asyncio.get_running_loop().call_soon(
            reports.put_nowait, None
        )  # behind the reports that are on their way
        await sender


class _Reporter:
    """Takes reports from any thread, without waiting."""

    def __init__(self, reports: "asyncio.Queue[tuple[float, str] | None]") -> None:
        self._reports = reports
        self._loop = asyncio.get_running_loop()
        self._milestones = Milestones()

    def __call__(self, report: Progress) -> None:
        if line := self._milestones.line(report):
            self._loop.call_soon_threadsafe(self._reports.put_nowait, (self._milestones.position, line))


async def _send_progress(ctx: Context, reports: "asyncio.Queue[tuple[float, str] | None]") -> None:
    try:
        while (report := await reports.get()) is not None:
            await ctx.report_progress(report[0], Milestones.total, report[1])
    except Exception:  # a client that hears no progress still gets its result
        log.exception("progress could not be reported")
