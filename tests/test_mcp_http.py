"""Streamable HTTP as the network meets it: raw requests of both protocol eras, Host, Origin, keys, closed streams."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from http.client import HTTPConnection
from typing import Any

import pytest
import uvicorn
from mcp import Client

from codesync.config import ConfigError
from codesync.mcp_server import serve_http
from tests.test_mcp_calls import Bench, Push, next_step

pytestmark = pytest.mark.anyio

HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"
ERAS = (HANDSHAKE, STATELESS)
ME = {"name": "t", "version": "0"}
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientInfo": ME,
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@asynccontextmanager
async def serving(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[int]:
    """`codesync mcp --http` until the end of the block; its port."""
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    options.setdefault("keys", ())
    task = asyncio.create_task(serve_http(host, 0, on_ready=ready.set_result, **options))
    try:
        yield await asyncio.wait_for(ready, 10)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def opening(era: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of the first request that a client of that era sends."""
    if era == HANDSHAKE:
        params: dict[str, Any] = {"protocolVersion": era, "capabilities": {}, "clientInfo": ME}
        return {}, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    headers = {"MCP-Protocol-Version": era, "Mcp-Method": "server/discover"}
    return headers, {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": META}}


def ask(port: int, era: str, headers: dict[str, str]) -> int:
    """The HTTP status of an opening request."""
    more, body = opening(era)
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", "/mcp", json.dumps(body), ACCEPT | more | headers)
        return connection.getresponse().status


LOOPBACK = [
    ({}, 200),
    ({"Host": "localhost"}, 200),
    ({"Host": "localhost:4711"}, 200),
    ({"Host": "[::1]:4711"}, 200),
    ({"Host": "evil.example"}, 421),
    ({"Host": "evil.example:4711"}, 421),
    ({"Host": "localhost.evil.example"}, 421),
    ({"Host": "127.0.0.1.evil.example"}, 421),
    ({"Host": ""}, 421),
    ({"Origin": "http://localhost:3000"}, 200),
    ({"Origin": "https://127.0.0.1"}, 200),
    ({"Origin": "http://[::1]:3000"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://localhost.evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
]
BEYOND = [
    ({}, 401),
    ({"X-Api-Key": "wrong"}, 401),
    ({"X-Api-Key": ""}, 401),
    ({"Authorization": "Bearer wrong"}, 401),
    ({"Authorization": "Basic old"}, 401),
    ({"X-Api-Key": "old"}, 200),
    ({"Authorization": "Bearer new"}, 200),
    ({"Authorization": "bearer  new"}, 200),
    ({"X-Api-Key": "new", "Host": "evil.example"}, 421),
    ({"X-Api-Key": "new", "Host": "tools.example:8765"}, 200),
    ({"X-Api-Key": "new", "Origin": "https://evil.example"}, 403),
    ({"X-Api-Key": "new", "Origin": "https://tools.example"}, 200),
]


@pytest.mark.parametrize("era", ERAS)
async def test_host_and_origin_must_be_ours(era: str) -> None:
    async with serving() as port:
        found = [(headers, await asyncio.to_thread(ask, port, era, headers)) for headers, _ in LOOPBACK]
    assert found == LOOPBACK


@pytest.mark.parametrize("era", ERAS)
async def test_beyond_loopback_a_key_is_needed_as_well(era: str) -> None:
    async with serving("0.0.0.0", keys=["old", "new"], names=["tools.example"]) as port:
        found = [(headers, await asyncio.to_thread(ask, port, era, headers)) for headers, _ in BEYOND]
    assert found == BEYOND


async def test_on_ipv6_it_is_the_same() -> None:
    def attempt(port: int, host: str) -> int:
        with closing(HTTPConnection("::1", port, timeout=5)) as connection:
            _, body = opening(HANDSHAKE)
            connection.request("POST", "/mcp", json.dumps(body), ACCEPT | {"Host": host})
            return connection.getresponse().status

    async with serving("::1") as port:
        assert await asyncio.to_thread(attempt, port, f"[::1]:{port}") == 200
        assert await asyncio.to_thread(attempt, port, "[2001:db8::1]") == 421


async def test_no_method_gets_around_the_key() -> None:
    def attempt(port: int, method: str) -> int:
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request(method, "/mcp", headers=ACCEPT)
            return connection.getresponse().status

    async with serving("0.0.0.0", keys=["k"]) as port:
        for method in ("GET", "DELETE", "OPTIONS", "POST"):
            assert await asyncio.to_thread(attempt, port, method) == 401


@pytest.mark.parametrize("era", ["legacy", STATELESS, "auto"])
async def test_clients_of_both_eras_are_served(era: str) -> None:
    async with serving() as port, Client(f"http://127.0.0.1:{port}/mcp", mode=era) as client:
        assert len((await client.list_tools()).tools) == 5
        result = await client.call_tool("status", {})
        assert result.is_error
        assert client.session.protocol_version == (HANDSHAKE if era == "legacy" else STATELESS)


async def test_a_session_that_is_over_is_not_known_any_more() -> None:
    def call(port: int) -> list[int]:
        ping = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"})
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            _, body = opening(HANDSHAKE)
            connection.request("POST", "/mcp", json.dumps(body), ACCEPT)
            response = connection.getresponse()
            session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
            response.read()
            statuses = []
            for method, data in (("POST", ping), ("DELETE", ""), ("POST", ping)):
                connection.request(method, "/mcp", data, ACCEPT | session)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
        return statuses

    async with serving() as port:
        assert await asyncio.to_thread(call, port) == [200, 200, 404]


# --- closed streams ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def bench_on_http(bench: Bench) -> AsyncIterator[int]:
    """The bench's server behind HTTP; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = bench.server.streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    with listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def open_and_close(port: int) -> None:
    """Call the bench's push in the stateless era, read the stream's first event, and close the stream."""
    headers = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": "push"}
    params = {"name": "push", "arguments": {}, "_meta": META | {"progressToken": 7}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", "/mcp", json.dumps(body), ACCEPT | headers)
        with connection.getresponse() as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.readline() == b"event: message\r\n"
            assert b"reading the tree" in response.readline()


async def test_a_closed_stream_gives_the_call_up_where_the_era_says_so() -> None:
    push = Push()
    bench = Bench(push)
    async with bench_on_http(bench) as port:
        await asyncio.to_thread(open_and_close, port)
        await asyncio.wait_for(push.cleaned_up.wait(), 5)
        await bench.calls.finish()
        async with Client(f"http://127.0.0.1:{port}/mcp", mode=STATELESS) as client:
            assert "cancelled and undone" in await next_step(client)


async def test_a_client_of_the_older_era_cancels_with_a_message() -> None:
    push = Push()
    bench = Bench(push)
    async with bench_on_http(bench) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        async with Client(url, mode="legacy", logging_callback=bench.hear) as client:
            call = asyncio.create_task(client.call_tool("push", {}))
            await asyncio.wait_for(push.started.wait(), 5)
            call.cancel()
            await asyncio.wait_for(push.cleaned_up.wait(), 5)
            await bench.calls.finish()
            assert "cancelled and undone" in await next_step(client)
        with suppress(asyncio.CancelledError):
            await call


# --- what cannot be served ---------------------------------------------------------------------------------------


async def test_beyond_loopback_no_key_means_no_server() -> None:
    with pytest.raises(ConfigError, match=r"set CODESYNC_API_KEY to serve 0\.0\.0\.0"):
        await serve_http("0.0.0.0", 0, keys=())


async def test_an_address_in_use_is_told_in_one_line() -> None:
    async with serving() as port:
        with pytest.raises(ConfigError, match="choose another --http"):
            await serve_http("127.0.0.1", port, keys=())
