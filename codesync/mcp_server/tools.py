"""The five tools: their arguments, their annotations, and the one call of `client` that each of them is.

The settings are read at each call, so that the server starts whatever they are, and a call says what is missing.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import Field

from codesync import client
from codesync.client import HistoryResult, LogsResult, PushResult, StatusResult
from codesync.config import load
from codesync.mcp_server.calls import Calls
from codesync.protocol import MAX_LOG_LINES

AppRoot = Annotated[str | None, Field(description="The app's directory. Default: by the project file.")]
AppId = Annotated[str | None, Field(description="Default: CODESYNC_APP_ID, project file.")]
DeploymentId = Annotated[str | None, Field(description="Default: CODESYNC_DEPLOYMENT_ID, project file.")]

# What reaches the application's own output reaches an open world: anybody's words may be in it.
CHANGES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
GOES_BACK = CHANGES.model_copy(update={"idempotent_hint": False})  # one further back with each call
LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=True)
REMEMBERS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Tools:
    """The functions that are tools; their docstrings are what an agent reads of them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def all(self) -> tuple[tuple[Callable[..., Any], str, ToolAnnotations], ...]:
        """Return each with its title and annotations, in the order they are listed."""
        return (
            (self.push_changes, "Push changes", CHANGES),
            (self.status, "Status", LOOKS),
            (self.app_logs, "Application logs", LOOKS),
            (self.history, "History", REMEMBERS),
            (self.rollback, "Roll back", GOES_BACK),
        )

    async def push_changes(
        self,
        ctx: Context,
        *,
        change_description: Annotated[str, Field(description="What changed and why, in a sentence.")],
        app_root: AppRoot = None,
        app_id: AppId = None,
        deployment_id: DeploymentId = None,
        dry_run: Annotated[bool, Field(description="Only say what would change.")] = False,
        mirror: Annotated[
            bool, Field(description="Delete known remote paths that were never pushed, too.")
        ] = False,
        allow_mass_delete: Annotated[
            bool, Field(description="Allow deleting most of the known tree.")
        ] = False,
        allow_large: Annotated[
            bool, Field(description="Allow over 64 MiB, or a dependency directory.")
        ] = False,
        take_over: Annotated[bool, Field(description="Replace what another source pushed.")] = False,
    ) -> PushResult:
        """Make the remote application run the local code, and say what became of it: healthy, running (no health check
        set), stored (starts later), no_changes, or rolled_back with the crash's log.
        """
        return await self._calls.run(
            ctx,
            partial(load, app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            lambda settings, report: client.push(
                settings,
                description=change_description,
                dry_run=dry_run,
                mirror=mirror,
                allow_mass_delete=allow_mass_delete,
                allow_large=allow_large,
                take_over=take_over,
                progress=report,
            ),
            what=f"The push {_quoted(change_description)}",
        )

    async def status(
        self,
        ctx: Context,
        app_root: AppRoot = None,
        app_id: AppId = None,
        deployment_id: DeploymentId = None,
    ) -> StatusResult:
        """Show how the application is now: replicas, crashes since the last push, who pushed last."""
        return await self._calls.run(
            ctx,
            partial(load, app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            lambda settings, _: client.status(settings),
        )

    async def app_logs(
        self,
        ctx: Context,
        *,
        lines: Annotated[int, Field(description="Default 200.", ge=1, le=MAX_LOG_LINES)] = 200,
        since_push: Annotated[
            str | None, Field(description="Only what was written since this push_id.")
        ] = None,
        replica: Annotated[str | None, Field(description="Default: all.")] = None,
        app_root: AppRoot = None,
        app_id: AppId = None,
        deployment_id: DeploymentId = None,
    ) -> LogsResult:
        """Show the last lines of the application's output, for each replica."""
        return await self._calls.run(
            ctx,
            partial(load, app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            lambda settings, _: client.logs(settings, lines=lines, since_push=since_push, replica=replica),
        )

    async def history(
        self,
        ctx: Context,
        app_root: AppRoot = None,
        app_id: AppId = None,
        deployment_id: DeploymentId = None,
    ) -> HistoryResult:
        """List past pushes, newest first: who, when, what became of them."""
        return await self._calls.run(
            ctx,
            partial(load, app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            lambda settings, _: client.history(settings),
        )

    async def rollback(
        self,
        ctx: Context,
        *,
        push_id: Annotated[
            str | None, Field(description="Whose tree to go back to. Default: the one before the last.")
        ] = None,
        reason: Annotated[str, Field(description="Why, for the history.")] = "",
        app_root: AppRoot = None,
        app_id: AppId = None,
        deployment_id: DeploymentId = None,
    ) -> PushResult:
        """Make the remote application run an earlier push's code. Local files stay as they are."""
        return await self._calls.run(
            ctx,
            partial(load, app_root=app_root, app_id=app_id, deployment_id=deployment_id),
            lambda settings, report: client.rollback(
                settings, push_id=push_id, description=reason, progress=report
            ),
            what=f"The rollback to {push_id}" if push_id else "The rollback",
        )


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:79]}…"' if len(line) > 80 else f'"{line}"'
