"""One call of a tool, alone: its progress, its errors, and what becomes of its work when the caller gives up or is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import LoggingMessageNotificationParams

from codesync.client import ClientError, Progress, ProgressCallback
from codesync.config import Settings
from codesync.mcp_server.calls import Calls

pytestmark = pytest.mark.anyio

SETTINGS = Settings(api_key="", proxy_url="ws://localhost", app_id="shop", deployment_id="dev")
ERAS = ("legacy", "2026-07-28")

Work = Callable[[ProgressCallback], Coroutine[None, None, None]]


@dataclass
class Answer:
    next_step: str = "go on"


@dataclass
class Push:
    """Work that a test holds in its hand."""

    ends_as: str = "cancelled"
    started: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    cleaned_up: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, report: ProgressCallback) -> None:
        report(Progress("scan", "", 0, 0))
        self.started.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # the way to the proxy and back: none of it may be cancelled
            report(Progress(self.ends_as, "", 0, 0))
            self.cleaned_up.set()
            raise
        self.finished.set()


class Bench:
    """A server with two tools, one that works and one that only answers, and what its client heard in log messages."""

    def __init__(self, work: Work, *, what: str = "The push") -> None:
        self.calls = Calls()
        self.server: MCPServer[Any] = MCPServer("bench")
        self.heard: asyncio.Queue[LoggingMessageNotificationParams] = asyncio.Queue()
        self._work = work
        self._what = what
        self.server.add_tool(self.push)
        self.server.add_tool(self.look)

    async def push(self, ctx: Context) -> Answer:
        async def work(_: Settings, report: ProgressCallback) -> Answer:
            await self._work(report)
            return Answer()

        return await self.calls.run(ctx, lambda: SETTINGS, work, what=self._what)

    async def look(self, ctx: Context) -> Answer:
        async def work(_: Settings, report: ProgressCallback) -> Answer:
            return Answer()

        return await self.calls.run(ctx, lambda: SETTINGS, work)

    async def hear(self, params: LoggingMessageNotificationParams) -> None:
        await self.heard.put(params)

    def client(self, era: str) -> Client:
        return Client(self.server, mode=era, logging_callback=self.hear)


async def given_up(client: Client, push: Push) -> None:
    """Call the tool, and cancel the call while it works."""
    call = asyncio.create_task(client.call_tool("push", {}))
    await asyncio.wait_for(push.started.wait(), 5)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call


async def undone(bench: Bench, push: Push) -> None:
    await asyncio.wait_for(push.cleaned_up.wait(), 5)
    await bench.calls.finish()


async def next_step(client: Client) -> str:
    result = await client.call_tool("look", {})
    assert result.structured_content
    return str(result.structured_content["next_step"])


@asynccontextmanager
async def clean(bench: Bench) -> AsyncIterator[None]:
    yield
    await asyncio.wait_for(bench.calls.finish(), 5)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_given_up_is_undone_in_peace_and_the_next_answer_says_so(era: str) -> None:
    push = Push()
    bench = Bench(push)
    async with clean(bench), bench.client(era) as client:
        await given_up(client, push)
        await undone(bench, push)
        said = "The push was cancelled and undone: the application runs what it ran before. go on"
        assert await next_step(client) == said
        assert await next_step(client) == "go on"


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_given_up_too_late_is_said_to_be_kept(era: str) -> None:
    push = Push(ends_as="kept")
    bench = Bench(push)
    async with clean(bench), bench.client(era) as client:
        await given_up(client, push)
        await undone(bench, push)
        assert "kept already" in await next_step(client)


async def test_where_the_era_has_log_messages_the_client_hears_it_at_once() -> None:
    push = Push()
    bench = Bench(push)
    async with clean(bench), bench.client("legacy") as client:
        await given_up(client, push)
        message = await asyncio.wait_for(bench.heard.get(), 5)
    assert message.level == "warning"
    assert message.data == "The push was cancelled and undone: the application runs what it ran before."


async def test_a_session_that_wants_errors_only_hears_no_warning() -> None:
    push = Push()
    bench = Bench(push)
    bench.calls.set_quiet("", quiet=True)
    async with clean(bench), bench.client("legacy") as client:
        await given_up(client, push)
        await undone(bench, push)
        assert "undone" in await next_step(client)
    assert bench.heard.empty()


async def test_what_a_client_has_begun_goes_on_when_the_client_is_gone() -> None:
    push = Push()
    bench = Bench(push)
    async with bench.client("legacy") as client:
        call = asyncio.create_task(client.call_tool("push", {}))
        await asyncio.wait_for(push.started.wait(), 5)
    with suppress(Exception):  # the connection that the test has closed
        await call
    assert not push.cleaned_up.is_set()
    push.may_end.set()
    await asyncio.wait_for(bench.calls.finish(), 5)
    assert push.finished.is_set()


async def test_an_end_that_fails_is_not_said_to_be_an_undone_push() -> None:
    async def lost(report: ProgressCallback) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ClientError("the proxy is gone", code="lost") from None

    started = asyncio.Event()
    bench = Bench(lost)
    push = Push(started=started)
    async with clean(bench), bench.client("legacy") as client:
        await given_up(client, push)
        await bench.calls.finish()
        assert (
            "what became of it is not known (the proxy is gone); see status" in (await bench.heard.get()).data
        )


async def test_progress_grows_and_ends_before_the_answer() -> None:
    async def work(report: ProgressCallback) -> None:
        for stage in ("scan", "delta", "transfer"):
            for done in (0, 5, 10):
                await asyncio.to_thread(report, Progress(stage, "", done, 10))

    heard: list[tuple[float, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert message
        heard.append((progress, message))

    bench = Bench(work)
    async with clean(bench), bench.client("legacy") as client:
        await client.call_tool("push", {}, progress_callback=hear)
    assert [message for _, message in heard][:3] == [
        "reading the tree",
        "reading the tree (50%)",
        "reading the tree (100%)",
    ]
    assert len(heard) == 9
    assert heard == sorted(set(heard))
