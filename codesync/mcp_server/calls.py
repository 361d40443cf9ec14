"""One call of a tool: progress goes out as it comes, an expected error is one line, and a cancelled call ends well.

The work runs in a task of its own, and the handler only waits for it: the SDK cancels a handler at its every await,
and a push that is given up must still talk to the proxy until it is undone. What became of a cancelled call:

    notifications/cancelled, or a 2026-07-28 response stream that the client closes: the work is cancelled
    the client is gone in any other way (stdin ended, the session is over): the work goes on to its end
    the server over HTTP is stopped: the work is cancelled

Nothing of a cancelled call may be answered. What became of it is said in a log message, where the era has them, and by the
next result for the same deployment.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol, TypeVar

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import LoggingMessageNotification, LoggingMessageNotificationParams
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from codesync.client import Progress, ProgressCallback
from codesync.config import Settings
from codesync.wording import Milestones, error_line

log = logging.getLogger(__name__)

TELL_SECONDS = 2.0  # for a client that may not listen any more
KEPT = "{} was cancelled when it had been kept already: the application runs it; rollback takes it back."
UNDONE = "{} was cancelled and undone: the application runs what it ran before."
ENDED = "{} had ended when it was cancelled. {}"
UNKNOWN = "{} was cancelled, and what became of it is not known ({}); see status."
STOPPED = "the MCP server is being stopped; call again when it is back"


class Answer(Protocol):
    """What every result has."""

    next_step: str


T = TypeVar("T", bound=Answer)


class Calls:
    """The calls of one server."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._untold: dict[tuple[str, str], list[str]] = {}  # by deployment, for the next result
        self._quiet: set[str] = set()  # sessions that want to hear of errors only

    async def run(
        self,
        ctx: Context,
        settings: Callable[[], Settings],
        work: Callable[[Settings, ProgressCallback], Coroutine[None, None, T]],
        *,
        what: str = "",
    ) -> T:
        """Do `work`; `what` names it where a cancellation must be told.

        Raises:
            ToolError: the one line of an expected error. Any other error is a crash.
        """
        try:
            found = settings()
            result = await self._wait(ctx, found, work, what)
        except Exception as error:  # sorted: what is no expected error stays a crash
            if (line := error_line(error)) is None:
                raise
            raise ToolError(line) from error
        untold = self._untold.pop((found.app_id, found.deployment_id), [])
        result.next_step = " ".join([*untold, result.next_step])
        return result

    async def finish(self) -> None:
        """Wait for what goes on without its caller."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Cancel all of it, and wait until what was begun is undone."""
        for task in self._running:
            task.cancel()
        await self.finish()

    def set_quiet(self, session: str, *, quiet: bool) -> None:
        """Note whether a session wants no warnings."""
        (self._quiet.add if quiet else self._quiet.discard)(session)

    async def _wait(
        self,
        ctx: Context,
        settings: Settings,
        work: Callable[[Settings, ProgressCallback], Coroutine[None, None, T]],
        what: str,
    ) -> T:
        reports = _Reports(ctx)
        task = asyncio.create_task(work(settings, reports))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait([task])
            await reports.end()
            if task.cancelled():  # by `stop`: this one may be answered
                raise ToolError(_what_became(what, task, reports.stage) if what else STOPPED)
            return task.result()
        except asyncio.CancelledError:
            reports.drop()
            if _is_given_up(ctx):
                with anyio.CancelScope(shield=True):
                    await self._give_up(ctx, settings, task, what, reports)
            raise

    async def _give_up(
        self, ctx: Context, settings: Settings, task: "asyncio.Task[T]", what: str, reports: "_Reports"
    ) -> None:
        task.cancel()
        await asyncio.wait([task])
        if not what:
            return
        line = _what_became(what, task, reports.stage)
        self._untold.setdefault((settings.app_id, settings.deployment_id), []).append(line)
        log.info("%s", line)
        if ctx.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS and session_of(ctx.headers) not in self._quiet:
            params = LoggingMessageNotificationParams(level="warning", logger="codesync", data=line)
            with anyio.move_on_after(TELL_SECONDS):
                await ctx.session.send_notification(LoggingMessageNotification(params=params), ctx.request_id)


def session_of(headers: "object") -> str:
    """Return which session of streamable HTTP it is; on stdio there is one, ""."""
    return str(headers.get("mcp-session-id", "")) if hasattr(headers, "get") else ""


def _is_given_up(ctx: Context) -> bool:
    """Whether the caller wants the call to end; False where only the connection did."""
    outbound = ctx.session._request_outbound  # noqa: SLF001 - nothing public tells the two apart
    if outbound.transport.kind != "jsonrpc":
        return True  # the stream is this one call's
    return bool(outbound.cancel_requested.is_set())


def _what_became(what: str, task: "asyncio.Task[T]", stage: str) -> str:
    """The last that was reported tells; where the work has ended before it heard, its result would have."""
    if not task.cancelled() and task.exception() is None:
        return ENDED.format(what, task.result().next_step)
    if stage == "kept":
        return KEPT.format(what)
    if stage == "cancelled":
        return UNDONE.format(what)
    error = None if task.cancelled() else task.exception()
    return UNKNOWN.format(what, (error and error_line(error)) or "the proxy did not say")


class _Reports:
    """Takes reports from any thread, without waiting, and sends the milestones among them on."""

    def __init__(self, ctx: Context) -> None:
        self.stage = ""
        self._ctx = ctx
        self._loop = asyncio.get_running_loop()
        self._milestones = Milestones()
        self._lines: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()
        self._sender = asyncio.create_task(self._send())

    def __call__(self, report: Progress) -> None:
        self.stage = report.stage
        if line := self._milestones.line(report):
            self._loop.call_soon_threadsafe(self._lines.put_nowait, (self._milestones.position, line))

    async def end(self) -> None:
        """Let everything go out that was reported."""
        self._loop.call_soon(self._lines.put_nowait, None)  # behind the reports that are on their way
        await asyncio.wait([self._sender])

    def drop(self) -> None:
        """Nobody listens any more."""
        self._sender.cancel()

    async def _send(self) -> None:
        try:
            while (line := await self._lines.get()) is not None:
                await self._ctx.report_progress(line[0], Milestones.total, line[1])
        except Exception:  # a client that hears no progress still gets its result
            log.exception("progress could not be reported")
