"""The seven pushes of the demo, and what each must lead to. Every outcome is asked of the application itself."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from codesync.demo.processes import DemoError
from codesync.demo.world import World
from codesync.wording import size

CALL_SECONDS = 120.0
SMALL = 20  # "next to nothing" is less than a twentieth


@dataclass(frozen=True)
class Step:
    """What a tool answered, and how long that took."""

    name: str
    seconds: float
    result: dict[str, Any]

    def done(self, remark: str) -> None:
        """Print the step's line, once everything about it has been checked."""
        count = self.result["bytes"]
        sent = f"{size(count['sent'])} of {size(count['tree'])} sent" if count["tree"] else ""
        print(
            f"  {self.name:<18} {self.result['status']:<12} {self.seconds:6.2f} s   {sent:<24} {remark}",
            flush=True,
        )


class Scenario:
    """Drives `codesync mcp` by a client over stdio, as an editor does, and checks what comes of it."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client
        self._shop = world.source / "shop"

    async def run(self) -> None:
        """All of it, in order. Raises DemoError at the first thing that is not so."""
        await self._first_push()
        await self._one_line()
        await self._renamed_directory()
        await self._deleted_file()
        await self._crash()
        await self._repair()
        await self._rollback()

    async def _first_push(self) -> None:
        step = await self._push("first push", "healthy")
        count = step.result["bytes"]
        _expect("next to nothing to be sent", count["sent"] * SMALL < count["tree"], count)
        await self._answers("/about", {"push_id": step.result["push_id"]})
        step.done("a delta against what the image brought")

    async def _one_line(self) -> None:
        self._write_greeting("Welcome back")
        step = await self._push("one line changed", "healthy")
        _expect("one modified file", step.result["files"]["modified"] == 1, step.result["files"])
        await self._answers("/greeting", {"greeting": "Welcome back"})
        step.done("the application says the new line")

    async def _renamed_directory(self) -> None:
        shelves, library = self._shop / "shelves", self._shop / "library"
        content = [path.stat().st_size for path in shelves.iterdir()]
        stock = await self._get("/stock")
        shelves.rename(library)
        step = await self._push("directory renamed", "healthy")
        files, sent = step.result["files"], step.result["bytes"]["sent"]
        _expect(
            f"{len(content)} renamed files", (files["renamed"], files["modified"]) == (len(content), 0), files
        )
        _expect(f"far less to be sent than the {sum(content)} bytes moved", sent * SMALL < sum(content), sent)
        await self._answers("/stock", {"library": stock["shelves"]})
        step.done(f"{len(content)} files moved, none of their {size(sum(content))} sent")

    async def _deleted_file(self) -> None:
        (self._shop / "pages/offers.py").unlink()
        step = await self._push("file deleted", "healthy")
        _expect("one deleted file", step.result["files"]["deleted"] == 1, step.result["files"])
        await self._answers("/offers", 404)
        step.done("its page is gone")

    async def _crash(self) -> None:
        self._write_greeting("Never seen", "raise RuntimeError('the shelf fell down')")
        step = await self._push("crash on import", "rolled_back")
        log = "\n".join(line for replica in step.result["replicas"] for line in replica["log_tail"])
        _expect("the traceback in log_tail", "RuntimeError: the shelf fell down" in log, log or "nothing")
        await asyncio.to_thread(self._world.wait_for_application)  # it has been started again just now
        await self._answers("/greeting", {"greeting": "Welcome back"})
        step.done("the result holds the traceback; the old code serves")

    async def _repair(self) -> None:
        self._write_greeting("Welcome, mind the ladder")
        step = await self._push("repaired", "healthy")
        await self._answers("/greeting", {"greeting": "Welcome, mind the ladder"})
        step.done("the application says the repaired line")

    async def _rollback(self) -> None:
        step = await self._call("rollback", {"reason": "the demo ends here"}, "rollback", "healthy")
        await self._answers("/greeting", {"greeting": "Welcome back"})
        step.done("the tree before the last push")

    def _write_greeting(self, text: str, *last_lines: str) -> None:
        path = self._shop / "pages/greeting.py"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("raise ")]
        lines = [f'GREETING = "{text}"' if line.startswith("GREETING") else line for line in lines]
        path.write_text("\n".join([*lines, *last_lines, ""]))

    async def _push(self, name: str, status: str) -> Step:
        return await self._call("push_changes", {"change_description": name}, name, status)

    async def _call(self, tool: str, arguments: dict[str, Any], name: str, status: str) -> Step:
        """Call a tool and expect a status."""
        start = time.perf_counter()
        answer = await self._client.call_tool(tool, arguments, read_timeout_seconds=CALL_SECONDS)
        spent = time.perf_counter() - start
        text = "".join(getattr(block, "text", "") for block in answer.content)
        result = answer.structured_content
        if answer.is_error or not isinstance(result, dict):
            raise DemoError(f"{name}: expected a result, found the error: {text}")
        _expect(f"{name} to be {status}", result["status"] == status, json.dumps(result, indent=1))
        return Step(name, spent, result)

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._world.get, path)

    async def _answers(self, path: str, expected: Any) -> None:
        found = await self._get(path)
        _expect(f"the application to answer {expected} at {path}", found == expected, found)


def _expect(what: str, holds: bool, found: Any) -> None:
    if not holds:
        raise DemoError(f"expected {what}, found {found}")


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
