"""The developer's side: scan → plan → send → outcome. What the MCP server, the command line and watch mode call.

results.py   what a push answers, and what is advised next
status.py    what a look at the deployment answers
source.py    the developer's tree
trees.py     replicas' trees known on this machine
session.py   one connection: requests, answers, progress
contents.py  contents that were pushed, held on this machine
signatures.py  what a replica tells of contents that only it has
against.py   what a push's deltas are made against: the one or the other
lease.py     how a push ends at the proxy when it is stopped here
push.py      a push from scan to outcome
rollback.py  a rollback
past.py      the history of all replicas as one
app_log.py   the application's output, once or followed
records.py   JSON of another machine, checked
"""

from __future__ import annotations

from codesync.client.app_log import LOGS_STEPS, LogLine, LogsResult, ReplicaLogs, follow_logs, logs
from codesync.client.past import HISTORY_STEPS, HistoryPush, HistoryResult, history
from codesync.client.push import Pusher, PushOptions
from codesync.client.results import (
    NEXT_STEPS,
    ClientError,
    CrashedAfter,
    HookResult,
    Progress,
    ProgressCallback,
    PushResult,
    ReplicaResult,
)
from codesync.client.rollback import Rollbacker
from codesync.client.session import asking
from codesync.client.status import STATUS_STEPS, ReplicaStatus, StatusResult
from codesync.config import Settings
from codesync.plan import Modes

__all__ = [
    "HISTORY_STEPS",
    "LOGS_STEPS",
    "NEXT_STEPS",
    "STATUS_STEPS",
    "ClientError",
    "CrashedAfter",
    "HistoryPush",
    "HistoryResult",
    "HookResult",
    "LogLine",
    "LogsResult",
    "Progress",
    "ProgressCallback",
    "PushResult",
    "ReplicaLogs",
    "ReplicaResult",
    "ReplicaStatus",
    "StatusResult",
    "follow_logs",
    "history",
    "logs",
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

    A crash of the application is a result, not an error. Cancelled before replicas were told to keep it, the push is undone
    on all of them before the cancellation is raised: it waits for that, at most a minute. See `Progress`.

    Raises:
        UserError: a guard, a refusal, a lost connection: one line that says what to do.
    """
    options = PushOptions(description, dry_run, mirror, modes, allow_mass_delete, allow_large, take_over)
    return await Pusher(settings, options, progress, push_id).run()


async def status(settings: Settings) -> StatusResult:
    """Ask the proxy how the deployment is. Raises UserError."""
    async with asking(settings) as session:
        return StatusResult.of(session.deployment, settings.proxy_url)


async def rollback(
    settings: Settings,
    *,
    push_id: str | None = None,
    description: str = "",
    progress: ProgressCallback | None = None,
) -> PushResult:
    """Make the deployment run the tree that `push_id` left; None: the one before the present one.

    A cancellation undoes it, as in a push. Raises UserError.
    """
    return await Rollbacker(settings, push_id or "", description, progress).run()
