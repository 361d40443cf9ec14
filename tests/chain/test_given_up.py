"""A push that is given up in the middle of its trial: undone when its caller says so, finished when its caller is gone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult, LoggingMessageNotificationParams

from tests.chain.harness import Chain, content, free_port, tree_of

pytestmark = pytest.mark.anyio

WAITING = "waiting for the application"
PUSH = {"change_description": "a change that never gets well"}


class Caller:
    """One call of push_changes, and when it has come to its health check."""

    def __init__(self, client: Client) -> None:
        self.on_trial = asyncio.Event()
        self.task = asyncio.create_task(client.call_tool("push_changes", PUSH, progress_callback=self.hear))

    async def hear(self, progress: float, total: float | None, message: str | None) -> None:
        if WAITING in (message or ""):
            self.on_trial.set()

    async def wait_until_on_trial(self) -> None:
        await asyncio.wait_for(self.on_trial.wait(), 30)

    async def cancel(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def never_well(chain: Chain) -> None:
    """A chain with new code on the developer's side that starts, and waits for its health for long."""
    chain.start_proxy()
    chain.add_replica()
    chain.start_sidecar()
    chain.start_launcher("one", "--health-timeout", "60")
    chain.wait_ready()
    chain.write("content.py", content("never well", healthy=False))


@asynccontextmanager
async def client_of(chain: Chain, transport: str, era: str, **options: object) -> AsyncIterator[Client]:
    if transport == "stdio":
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "codesync.cli", "mcp"],
            env=chain.environ(),
            cwd=chain.source,
        )
        async with Client(server, mode=era, **options) as client:  # type: ignore[arg-type]
            yield client
        return
    port = free_port()
    command = [sys.executable, "-m", "codesync.cli", "mcp", "--http", f"127.0.0.1:{port}"]
    chain.processes.start("mcp", command, chain.environ(), chain.source)
    log = chain.processes.log("mcp")
    await asyncio.to_thread(
        chain.wait, "the MCP server", lambda: True if "listening on" in log.read_text() else None
    )
    async with Client(f"http://127.0.0.1:{port}/mcp", mode=era, **options) as client:  # type: ignore[arg-type]
        yield client


def step_of(result: CallToolResult) -> str:
    assert not result.is_error, result.content
    assert result.structured_content
    return str(result.structured_content["next_step"])


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_cancelled_during_the_health_check_the_old_code_serves_again(
    chain: Chain, transport: str, era: str
) -> None:
    heard: asyncio.Queue[LoggingMessageNotificationParams] = asyncio.Queue()

    async def hear(params: LoggingMessageNotificationParams) -> None:
        await heard.put(params)

    await asyncio.to_thread(never_well, chain)
    async with client_of(chain, transport, era, logging_callback=hear) as client:
        caller = Caller(client)
        await caller.wait_until_on_trial()
        await caller.cancel()
        await asyncio.to_thread(chain.wait_answer, "the image")
        await asyncio.to_thread(
            chain.wait, "the end of the push", lambda: None if chain.status().busy else True
        )
        if (transport, era) == ("stdio", "legacy"):
            assert "cancelled and undone" in (await asyncio.wait_for(heard.get(), 10)).data
        status = await client.call_tool("status", {})
        assert 'The push "a change that never gets well" was cancelled and undone' in step_of(status)
    replica = chain.replicas["one"]
    assert tree_of(replica.app) == tree_of(chain.image)
    found = await asyncio.to_thread(chain.status)
    assert found.last_push is None
    assert [r.trial for r in found.replicas] == [""]
    chain.write("content.py", content("mended"))
    assert (await asyncio.to_thread(chain.push)).status == "healthy"


async def test_a_client_that_is_gone_does_not_stop_its_push(chain: Chain) -> None:
    await asyncio.to_thread(chain.start)
    chain.write("content.py", content("nobody waits for this"))
    started = asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        started.set()

    async with client_of(chain, "stdio", "auto") as client:
        call = asyncio.create_task(client.call_tool("push_changes", PUSH, progress_callback=hear))
        await asyncio.wait_for(started.wait(), 30)
    with suppress(Exception):  # the connection that is closed now
        await call
    await asyncio.to_thread(chain.wait_answer, "nobody waits for this")
    await asyncio.to_thread(
        chain.wait, "the push to be kept", lambda: True if chain.status().last_push else None
    )


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_a_server_that_is_stopped_has_its_pushes_undone(chain: Chain, era: str) -> None:
    await asyncio.to_thread(never_well, chain)
    async with client_of(chain, "http", era) as client:
        caller = Caller(client)
        await caller.wait_until_on_trial()
        stopped = asyncio.create_task(asyncio.to_thread(chain.processes.terminate, "mcp"))
        with suppress(MCPError):  # the answer may be lost with the connection
            assert "cancelled and undone" in str((await caller.task).content)
        await stopped
    assert "Finished server process" in chain.processes.log("mcp").read_text()
    assert "Traceback" not in chain.processes.log("mcp").read_text()
    assert chain.replicas["one"].ask() == "the image"
    assert (await asyncio.to_thread(chain.status)).last_push is None
