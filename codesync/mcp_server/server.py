"""The SDK's server with our tools, their short schemas, and errors that are one line for an agent to act on."""

import gc
from collections.abc import Sequence
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import (
    CallToolResult,
    EmptyResult,
    InputRequiredResult,
    SetLevelRequestParams,
    Tool,
)
from pydantic import ValidationError

from codesync import __version__
from codesync.mcp_server.calls import Calls, session_of
from codesync.mcp_server.schemas import compact
from codesync.mcp_server.tools import Tools

INSTRUCTIONS = """\
codesync makes an application that runs remotely run the code in a local directory. After editing, call \
push_changes once: it sends what differs, restarts the application, and says whether it came up. status \
"rolled_back" means that the new code failed and the old code runs again: read replicas[].log_tail, mend the code, \
push again. next_step says what to do. A tool error says what has to be put right first. app_logs shows what the \
application writes."""

MUTED = ("error", "critical", "alert", "emergency")  # a client that sets such a level wants no warning


class CodesyncServer(MCPServer[Any]):
    """`calls` are those it is serving."""

    def __init__(self) -> None:
        super().__init__(
            "codesync",
            title="codesync",
            version=__version__,
            instructions=INSTRUCTIONS,
            subscriptions=False,
        )
        self.calls = Calls()
        self._arguments: dict[str, Sequence[str]] = {}
        for function, title, annotations in Tools(self.calls).all():
            self.add_tool(
                function,
                title=title,
                description=" ".join((function.__doc__ or "").split()),
                annotations=annotations,
                structured_output=True,
            )
        # Who sends log messages must let clients say which they want.
        self._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)

    async def list_tools(self) -> list[Tool]:
        """Return the tools with schemas that cost little."""
        return [compact(tool) for tool in await super().list_tools()]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; its error's text is the one line alone. Raises ToolError."""
        await self._check_names(name, arguments)
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            message = f"{name} failed unexpectedly; the log of `codesync mcp` says why; see status"
            raise UnexpectedToolError(message) from error.__cause__
        except ToolError as error:
            raise ToolError(_one_line(name, error)) from error.__cause__

    async def _check_names(self, name: str, arguments: dict[str, Any]) -> None:
        """Refuse arguments that the tool does not have: a misspelt dry_run must not push."""
        for tool in await super().list_tools():
            known = tool.input_schema["properties"]
            if tool.name == name and (unknown := [given for given in arguments if given not in known]):
                takes = ", ".join(known)
                raise ToolError(f"{name} has no argument {', '.join(unknown)[:200]}; it takes {takes}")

    async def _set_level(
        self, ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams
    ) -> EmptyResult:
        self.calls.set_quiet(session_of(getattr(ctx.request, "headers", None)), quiet=params.level in MUTED)
        return EmptyResult()


def build() -> CodesyncServer:
    """Return the server with its tools; it does nothing yet."""
    return CodesyncServer()


def build_for_good() -> CodesyncServer:
    """Return the server of a process that serves nothing else.

    What is loaded by then stays: looking through it for garbage again and again would cost a push more than its scan.
    """
    server = build()
    gc.collect()
    gc.freeze()
    return server


async def serve_stdio() -> None:
    """Serve one client on stdin and stdout until stdin ends, and what it has begun to its end."""
    server = build_for_good()
    await server.run_stdio_async()
    await server.calls.finish()


def _one_line(name: str, error: ToolError) -> str:
    """Return what the tool said, without what the SDK puts around it."""
    if isinstance(error.__cause__, ValidationError):
        wrong = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.__cause__.errors()]
        return f"{name}: {'; '.join(wrong)}"
    return str(error).removeprefix(f"Error executing tool {name}: ")
