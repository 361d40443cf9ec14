"""The seven pushes of the demo, and what each must lead to. Every outcome is asked of the application itself."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from codesync.demo.processes import DemoError
from codesync.demo.world import World
from codesync.wording import size

CALL_SECONDS = 120.0
SMALL = 20  # "next to nothing" is less than a twentieth of the tree


class Scenario:
    """Drives `codesync mcp` by a client over stdio, as an editor does, and checks what comes of it."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client
        self._shop = world.source / "shop"

    async def run(self) -> None:
        """All of it, in order. Raises DemoError at the first thing that is not so."""
        for step in (
            self._first_push,
            self._one_line,
            self._renamed_directory,
            self._deleted_file,
            self._crash,
            self._repair,
            self._rollback,
        ):
            await step()

    async def _first_push(self) -> None:
        result = await self._push("first push", "healthy", "the image's copy is the base")
        _expect(
            "bytes sent, next to the tree's",
            result["bytes"]["sent"] * SMALL < result["bytes"]["tree"],
            result["bytes"],
        )
        await self._answers("/about", {"push_id": result["push_id"]})

    async def _one_line(self) -> None:
        self._write_greeting("Welcome back")
        result = await self._push("one line changed", "healthy", "the application says the new line")
        _expect("one modified file", result["files"]["modified"] == 1, result["files"])
        await self._answers("/greeting", {"greeting": "Welcome back"})

    async def _renamed_directory(self) -> None:
        content = sum(path.stat().st_size for path in (self._shop / "shelves").iterdir())
        stock = await self._get("/stock")
        count = len(list((self._shop / "shelves").rename(self._shop / "library").iterdir()))
        result = await self._push("directory renamed", "healthy", f"{count} files, no content sent")
        _expect(f"{count} renamed files, none added", _counts(result) == (0, 0, 0, count), result["files"])
        _expect(
            f"fewer bytes sent than the {content} moved",
            result["bytes"]["sent"] * SMALL < content,
            result["bytes"],
        )
        await self._answers("/stock", {"library": stock["shelves"]})

    async def _deleted_file(self) -> None:
        (self._shop / "pages/offers.py").unlink()
        result = await self._push("file deleted", "healthy", "its page is gone")
        _expect("one deleted file", result["files"]["deleted"] == 1, result["files"])
        await self._answers("/offers", 404)

    async def _crash(self) -> None:
        self._write_greeting("Never seen", "raise RuntimeError('the shelf fell down')")
        result = await self._push(
            "crash on import", "rolled_back", "its traceback is in the result; the old code serves"
        )
        log = "\n".join(line for replica in result["replicas"] for line in replica["log_tail"])
        _expect(
            "the traceback in log_tail",
            "RuntimeError: the shelf fell down" in log,
            log or "an empty log_tail",
        )
        await self._answers("/greeting", {"greeting": "Welcome back"})

    async def _repair(self) -> None:
        self._write_greeting("Welcome, mind the ladder")
        await self._push("repaired", "healthy", "the application says the repaired line")
        await self._answers("/greeting", {"greeting": "Welcome, mind the ladder"})

    async def _rollback(self) -> None:
        await self._call(
            "rollback",
            {"reason": "the demo ends as it should"},
            "rollback",
            "healthy",
            "the tree before that",
        )
        await self._answers("/greeting", {"greeting": "Welcome back"})

    def _write_greeting(self, text: str, *last_lines: str) -> None:
        path = self._shop / "pages/greeting.py"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("raise ")]
        lines = [f'GREETING = "{text}"' if line.startswith("GREETING") else line for line in lines]
        path.write_text("\n".join([*lines, *last_lines, ""]))

    async def _push(self, name: str, status: str, remark: str) -> dict[str, Any]:
        return await self._call("push_changes", {"change_description": name}, name, status, remark)

    async def _call(
        self, tool: str, arguments: dict[str, Any], name: str, status: str, remark: str
    ) -> dict[str, Any]:
        """Call a tool, expect a status, print the step's line."""
        start = time.perf_counter()
        answer = await self._client.call_tool(tool, arguments, read_timeout_seconds=CALL_SECONDS)
        spent = time.perf_counter() - start
        text = "".join(getattr(block, "text", "") for block in answer.content)
        result = answer.structured_content
        if answer.is_error or not isinstance(result, dict):
            raise DemoError(f"{name}: expected a result, found the error: {text}")
        _expect(
            f"{name}: status {status}",
            result["status"] == status,
            result["status"],
            json.dumps(result, indent=1),
        )
        print(f"{_line(name, status, spent, result['bytes'])} {remark}", flush=True)
        return result

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._world.get, path)

    async def _answers(self, path: str, expected: Any) -> None:
        found = await self._get(path)
        _expect(f"the application to answer {expected} at {path}", found == expected, found)


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Scenario]:
    """Start `codesync mcp` in the developer's directory, with an MCP client that speaks to it over stdio."""
    command, *arguments = world.mcp_command()
    parameters = StdioServerParameters(
        command=command, args=arguments, env=world.environment(), cwd=world.source
    )
    with world.processes.log("mcp").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield Scenario(world, client)


def _expect(what: str, holds: bool, found: Any, more: str = "") -> None:
    if not holds:
        raise DemoError(f"expected {what}, found {found}" + (f"\n{more}" if more else ""))


def _counts(result: dict[str, Any]) -> tuple[int, ...]:
    return tuple(result["files"][what] for what in ("added", "modified", "deleted", "renamed"))


def _line(name: str, status: str, seconds: float, count: dict[str, int]) -> str:
    sent = f"{size(count['sent'])} of {size(count['tree'])} sent" if count["tree"] else ""
    return f"  {name:<18} {status:<12} {seconds:6.2f} s   {sent:<24}"
