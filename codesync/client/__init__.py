"""The developer's side: scan → plan → send → outcome. What the MCP server, the command line and watch mode call.

results.py   what is answered
source.py    the developer's tree
trees.py     replicas' trees known on this machine
session.py   one connection: requests, answers, progress
push.py      a push from scan to outcome
"""

from __future__ import annotations

from codesync.client.push import Pusher, PushOptions, new_push_id
from codesync.client.results import (
    ClientError,
    Progress,
    ProgressCallback,
    PushResult,
    ReplicaResult,
    ReplicaStatus,
    StatusResult,
)
from codesync.client.session import open_session
from codesync.config import Settings
from codesync.connection import ConnectError, Disconnected
from codesync.plan import Modes
from codesync.protocol import Progress as WireProgress
from codesync.protocol import Rollback

__all__ = [
    "ClientError",
    "Progress",
    "ProgressCallback",
    "PushResult",
    "ReplicaResult",
    "ReplicaStatus",
    "StatusResult",
    "push",
    "rollback",
    "status",
]


async def push(
    settings: Settings,
    *,
    description: str,
    dry_run: bool = False,
    mirror: bool = False,
    modes: Modes = "executable",
    allow_mass_delete: bool = False,
    allow_large: bool = False,
    take_over: bool = False,
    progress: ProgressCallback | None = None,
    push_id: str | None = None,
) -> PushResult:
    """Make the deployment run the tree at `settings.app_root`, and say what became of it.

    A crash of the application is a result, not an error.

    Raises:
        UserError: a guard, a refusal, a lost connection: one line that says what to do.
    """
    options = PushOptions(description, dry_run, mirror, modes, allow_mass_delete, allow_large, take_over)
    return await Pusher(settings, options, progress, push_id).run()


async def status(settings: Settings) -> StatusResult:
    """Ask the proxy how the deployment is. Raises UserError."""
    try:
        async with open_session(settings, lambda _: None) as session:
            return StatusResult.of(session.deployment, settings.proxy_url)
    except Disconnected as error:
        raise ClientError(str(error), code="lost") from error


async def rollback(
    settings: Settings,
    *,
    push_id: str | None = None,
    description: str = "",
    progress: ProgressCallback | None = None,
) -> PushResult:
    """Make the deployment run the tree that `push_id` left; None: the one before the present one. Raises UserError."""
    result = PushResult(new_push_id(), settings.app_id, settings.deployment_id, "failed")

    def relay(message: WireProgress) -> None:
        if progress:
            progress(Progress(message.stage, message.replica, message.done, message.total))

    try:
        async with open_session(settings, relay) as session:
            asked = Rollback(
                push_id=result.push_id, to=push_id or "", source=settings.source, description=description
            )
            await session.send(asked)
            outcome = await session.wait(session.ended, "outcome of the rollback")
    except Disconnected as error:
        raise ClientError(
            f"{error} see `codesync status` for what became of the rollback", code="lost"
        ) from error
    except ConnectError as error:
        raise ClientError(str(error), code=error.code) from error
    result.restores = push_id or ""
    return result.finish(outcome)
