"""The MCP tools as a client meets them: schemas, results, errors, transports."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent
from starlette.types import Message, Receive, Scope, Send

from codesync.config import ConfigError
from codesync.mcp_server import KeyRequired, build, serve_http
from codesync.proxy import serve

pytestmark = pytest.mark.anyio

SERVER = [sys.executable, "-m", "codesync.cli", "mcp"]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests; an empty application is where the server starts."""
    for name in list(os.environ):
        if name.startswith(("CODESYNC_", "BIFROST_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("print()\n")
    monkeypatch.chdir(tmp_path / "app")


@asynccontextmanager
async def running(service: Any, ready: "asyncio.Future[int]") -> AsyncIterator[int]:
    """A service until the end of the block; its port once it listens."""
    task = asyncio.ensure_future(service)
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        yield ready.result() if ready.done() else task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A proxy that no sidecar is connected to, and the settings for it."""
    ready = asyncio.get_running_loop().create_future()
    service = serve(
        host="127.0.0.1", port=0, keys=["k"], data_dir=str(tmp_path / "proxy"), on_ready=ready.set_result
    )
    async with running(service, ready) as port:
        monkeypatch.setenv("CODESYNC_PROXY_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("CODESYNC_API_KEY", "k")
        (tmp_path / "app/.codesync.json").write_text('{"app_id": "shop", "deployment_id": "dev"}')
        yield


def text_of(result: Any) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def test_the_tools_and_their_arguments_are_pinned() -> None:
    async with Client(build()) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    arguments = {name: list(tool.input_schema["properties"]) for name, tool in tools.items()}
    assert arguments == {
        "push_changes": [
            "change_description",
            "app_root",
            "app_id",
            "deployment_id",
            "dry_run",
            "mirror",
            "allow_mass_delete",
            "allow_large",
            "take_over",
        ],
        "status": ["app_root", "app_id", "deployment_id"],
        "rollback": ["push_id", "reason", "app_root", "app_id", "deployment_id"],
    }
    assert tools["push_changes"].input_schema["required"] == ["change_description"]
    for tool in tools.values():
        assert tool.description
        assert tool.annotations
        for argument in tool.input_schema["properties"].values():
            assert argument["description"]
    assert tools["status"].annotations
    assert tools["status"].annotations.read_only_hint


async def test_the_fields_of_a_push_are_pinned() -> None:
    async with Client(build()) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    schema = tools["push_changes"].output_schema
    assert schema
    assert set(schema["properties"]) == {
        *("push_id", "app_id", "deployment_id", "generation", "status", "files", "bytes"),
        *("timings_ms", "replicas", "diff", "restores", "next_step"),
    }
    statuses = "no_changes planned healthy running stored rolled_back partial failed"
    assert schema["properties"]["status"]["enum"] == statuses.split()
    parts = {name: set(part["properties"]) for name, part in schema["$defs"].items()}
    assert {"added", "modified", "deleted", "renamed", "skipped", "drift"} == parts["FileCounts"]
    assert {"tree", "sent"} == parts["ByteCounts"]
    assert {"scan", "delta", "transfer", "apply", "restart", "health"} == parts["Timings"]
    assert {"id", "status", "generation", "exit_code", "log_tail"} <= parts["ReplicaResult"]


async def test_a_call_without_settings_says_what_to_set() -> None:
    async with Client(build()) as client:
        result = await client.call_tool("push_changes", {"change_description": "x"})
    assert result.is_error
    assert "no app_id, deployment_id, proxy_url: run `codesync init`" in text_of(result)
    assert "\n" not in text_of(result)


async def test_what_a_refused_push_is_told_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[float, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total == 8
        heard.append((progress, message or ""))

    async with proxy(tmp_path, monkeypatch), Client(build()) as client:
        result = await client.call_tool("push_changes", {"change_description": "x"}, progress_callback=hear)
    assert result.is_error
    assert "no sidecar is connected" in text_of(result)
    assert "\n" not in text_of(result)
    assert heard[0][1] == "reading the tree"
    assert heard == sorted(set(heard))


async def test_status_of_an_empty_deployment_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(tmp_path, monkeypatch), Client(build()) as client:
        result = await client.call_tool("status", {})
    assert not result.is_error
    assert result.structured_content
    assert result.structured_content["replicas"] == []
    assert result.structured_content["app_id"] == "shop"
    assert json.loads(text_of(result)) == result.structured_content


def test_on_stdio_nothing_but_the_protocol_is_on_stdout(tmp_path: Path) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    call = {"name": "push_changes", "arguments": {"change_description": "x"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    with subprocess.Popen(
        SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        for message in messages:
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(10) == 0
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["result"]["serverInfo"]["name"] == "codesync"
    assert answers[1]["result"]["isError"] is True


async def test_a_client_on_stdio_finds_the_tools() -> None:
    command, *arguments = SERVER
    async with Client(StdioServerParameters(command=command, args=arguments)) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "push_changes",
            "status",
            "rollback",
        ]


async def test_over_http_a_stranger_host_or_origin_is_refused() -> None:
    ready = asyncio.get_running_loop().create_future()
    async with running(serve_http("127.0.0.1", 0, keys=(), on_ready=ready.set_result), ready) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        async with Client(url) as client:
            assert len((await client.list_tools()).tools) == 3
        for stranger, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
            assert await asyncio.to_thread(post, port, stranger) == status


def post(port: int, headers: dict[str, str]) -> int:
    """The HTTP status for an empty message."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/mcp", b"{}", {"Content-Type": "application/json"} | headers)
    status = connection.getresponse().status
    connection.close()
    return status


async def test_beyond_loopback_no_key_means_no_server() -> None:
    with pytest.raises(ConfigError, match=r"set CODESYNC_API_KEY to serve 0\.0\.0\.0"):
        await serve_http("0.0.0.0", 0, keys=())


async def test_an_address_in_use_is_told_in_one_line() -> None:
    ready = asyncio.get_running_loop().create_future()
    async with running(serve_http("127.0.0.1", 0, keys=(), on_ready=ready.set_result), ready) as port:
        with pytest.raises(ConfigError, match="choose another --http"):
            await serve_http("127.0.0.1", port, keys=())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({b"x-api-key": b"wrong"}, 401),
        ({b"authorization": b"Basic old"}, 401),
        ({b"x-api-key": b"old"}, 200),
        ({b"x-api-key": b"new"}, 200),
        ({b"authorization": b"Bearer new"}, 200),
        ({b"authorization": b"bearer  new"}, 200),
    ],
)
async def test_beyond_loopback_every_request_needs_a_key(headers: dict[bytes, bytes], status: int) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    await KeyRequired(inner, ["old", "new"])({"type": "http", "headers": [*headers.items()]}, receive, send)
    assert sent[0]["status"] == status
