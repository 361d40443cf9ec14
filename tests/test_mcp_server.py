"""The MCP tools as a client meets them: schemas, results, errors, transports."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from codesync.client import HistoryResult, LogsResult, PushResult, StatusResult
from codesync.mcp_server import build
from codesync.proxy import serve
from codesync.wording import Milestones

pytestmark = pytest.mark.anyio

SERVER = [sys.executable, "-m", "codesync.cli", "mcp"]

PUSH_ARGUMENTS = [
    *("change_description", "app_root", "app_id", "deployment_id"),
    *("dry_run", "mirror", "allow_mass_delete", "allow_large", "take_over"),
]


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
    where = ["app_root", "app_id", "deployment_id"]
    assert arguments == {
        "push_changes": PUSH_ARGUMENTS,
        "status": where,
        "app_logs": ["lines", "since_push", "replica", *where],
        "history": where,
        "rollback": ["push_id", "reason", *where],
    }
    assert tools["push_changes"].input_schema["required"] == ["change_description"]


async def test_what_a_tool_may_do_is_annotated() -> None:
    async with Client(build()) as client:
        tools = (await client.list_tools()).tools
    hints = {}
    for tool in tools:
        assert tool.annotations
        found = tool.annotations
        hints[tool.name] = (
            found.read_only_hint,
            found.destructive_hint,
            found.idempotent_hint,
            found.open_world_hint,
        )
    assert hints == {
        "push_changes": (False, True, True, True),
        "status": (True, None, None, True),
        "app_logs": (True, None, None, True),
        "history": (True, None, None, False),
        "rollback": (False, True, False, True),
    }


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_what_a_client_reads_of_the_tools_costs_less_than_1500_tokens(era: str) -> None:
    async with Client(build(), mode=era) as client:
        listed = await client.list_tools()
    tools = listed.model_dump(by_alias=True, mode="json", exclude_none=True)["tools"]
    text = json.dumps(tools, separators=(",", ":"), ensure_ascii=False)
    assert len(text) / 4 < 1500


async def test_every_argument_is_described_and_nothing_is_said_twice() -> None:
    async with Client(build()) as client:
        tools = (await client.list_tools()).tools
    for tool in tools:
        assert tool.description
        assert "\n" not in tool.description
        assert tool.input_schema["additionalProperties"] is False
        for argument in tool.input_schema["properties"].values():
            assert argument["description"]
            assert set(argument) <= {"type", "description", "minimum", "maximum"}


async def test_the_output_schemas_name_every_field_of_the_results() -> None:
    async with Client(build()) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    results = {
        "push_changes": PushResult,
        "status": StatusResult,
        "app_logs": LogsResult,
        "history": HistoryResult,
        "rollback": PushResult,
    }
    for name, result in results.items():
        schema = schemas[name]
        assert schema
        assert list(schema["properties"]) == [field.name for field in fields(result)]
    assert schemas["push_changes"]
    statuses = "no_changes planned healthy running stored rolled_back partial failed"
    assert schemas["push_changes"]["properties"]["status"]["enum"] == statuses.split()


@pytest.mark.parametrize(
    ("tool", "arguments", "line"),
    [
        (
            "push_changes",
            {"change_description": "x", "dryrun": True},
            f"push_changes has no argument dryrun; it takes {', '.join(PUSH_ARGUMENTS)}",
        ),
        ("push_changes", {}, "push_changes: change_description: Field required"),
        ("app_logs", {"lines": 0}, "app_logs: lines: Input should be greater than or equal to 1"),
        ("deploy", {}, "Unknown tool: deploy"),
    ],
)
async def test_a_call_that_is_wrong_is_told_what_is_wrong_in_one_line(
    tool: str, arguments: dict[str, Any], line: str
) -> None:
    async with Client(build()) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert text_of(result) == line


async def test_a_defect_is_told_as_one_and_leaves_its_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(os, "getcwd", broken)
    async with Client(build()) as client:
        result = await client.call_tool("status", {})
    assert result.is_error
    assert text_of(result) == "status failed unexpectedly; the log of `codesync mcp` says why; see status"
    assert "a secret of the inside" in caplog.text


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
        assert total == Milestones.total
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


@pytest.mark.parametrize("era", ["legacy", "2026-07-28", "auto"])
async def test_a_client_on_stdio_finds_the_tools(era: str) -> None:
    command, *arguments = SERVER
    async with Client(StdioServerParameters(command=command, args=arguments), mode=era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["push_changes", "status", "app_logs", "history", "rollback"]
        assert client.session.protocol_version == ("2025-11-25" if era == "legacy" else "2026-07-28")
        assert "run `codesync init`" in text_of(await client.call_tool("history", {}))
