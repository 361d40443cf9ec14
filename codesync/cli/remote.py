"""`codesync push`, `rollback`: one call of the client each, its progress on stderr, its result in lines or JSON."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

import click

from codesync.cli.options import deployment_options, quiet_option
from codesync.cli.output import example, print_json, print_lines, say
from codesync.cli.progress import Silent, reporter
from codesync.cli.report import push_lines
from codesync.config import Settings

if TYPE_CHECKING:
    from codesync.client import Progress, PushResult


@click.command(epilog=example("codesync push -m 'fix the basket total'"))
@click.option("-m", "--message", "description", default="", help="What has changed, for status and history.")
@click.option("--dry-run", is_flag=True, help="Say what a push would change; change nothing.")
@click.option("--mirror", is_flag=True, help="Delete known remote paths that were never pushed, too.")
@click.option(
    "--modes",
    type=click.Choice(["executable", "exact"]),
    default="executable",
    show_default=True,
    help="Which permission bits a push carries.",
)
@click.option("--allow-mass-delete", is_flag=True, help="Let a push delete more than half of the known tree.")
@click.option(
    "--allow-large", is_flag=True, help="Let a push send more than 64 MiB, or a dependency directory."
)
@click.option("--take-over", is_flag=True, help="Replace what another source has pushed.")
@quiet_option
@deployment_options
def push(
    settings: Settings,
    *,
    description: str,
    dry_run: bool,
    mirror: bool,
    modes: Literal["executable", "exact"],
    allow_mass_delete: bool,
    allow_large: bool,
    take_over: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Make the deployment run this tree.

    Says what became of the application. Exit status 0: it runs the tree (or has stored it, or ran it already).
    1: it does not; after a crash the old code runs again, and the crash's log is shown. Interrupted, it undoes the push.
    """
    from codesync import client

    def call(progress: Callable[["Progress"], None]) -> Coroutine[Any, Any, "PushResult"]:
        return client.push(
            settings,
            description=description,
            dry_run=dry_run,
            mirror=mirror,
            modes=modes,
            allow_mass_delete=allow_mass_delete,
            allow_large=allow_large,
            take_over=take_over,
            progress=progress,
        )

    return _carry_out(call, reporter(quiet=quiet, as_json=as_json), as_json=as_json)


@click.command(epilog=example("codesync rollback -m 'the new search is too slow'"))
@click.argument("push_id", required=False)
@click.option("-m", "--message", "description", default="", help="Why, for status and history.")
@quiet_option
@deployment_options
def rollback(settings: Settings, *, push_id: str | None, description: str, quiet: bool, as_json: bool) -> int:
    """Go back to the tree before the last push, or to that of PUSH_ID.

    `codesync history` lists them; generation-0 is what the image brought.
    """
    from codesync import client

    def call(progress: Callable[["Progress"], None]) -> Coroutine[Any, Any, "PushResult"]:
        return client.rollback(settings, push_id=push_id, description=description, progress=progress)

    return _carry_out(call, reporter(quiet=quiet, as_json=as_json), as_json=as_json)


def _carry_out(
    call: Callable[[Callable[["Progress"], None]], Coroutine[Any, Any, "PushResult"]],
    progress: Silent,
    *,
    as_json: bool,
) -> int:
    try:
        with progress:
            result = asyncio.run(_interruptible(call(progress)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return say(interrupted(progress.end), status=130)
    record = result.to_dict()
    if as_json:
        print_json(record)
    else:
        print_lines(push_lines(record))
    return exit_status(result)


async def _interruptible(call: Coroutine[Any, Any, "PushResult"]) -> "PushResult":
    """Ctrl-C cancels the call, a second one everything, also what the call still waits for.

    asyncio's own way is to raise KeyboardInterrupt at the second, wherever that may be.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def interrupt() -> None:
        for each in asyncio.all_tasks() if task.cancelling() else {task}:
            each.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        result = await call
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has ended, and is only to be told
    return result


def interrupted(end: "Progress | None") -> str:
    """Return the line for a push that was interrupted, and of which that became."""
    if end is None:
        return "interrupted; what became of the push is not known here: see `codesync status`"
    if end.stage == "kept":
        return f"interrupted, but the push was kept before that: generation {end.done}; `codesync rollback` goes back"
    return "interrupted: the push is undone, the old code runs"


def exit_status(result: "PushResult") -> int:
    """0 when the deployment is as asked, else 1."""
    return 0 if result.ok else 1
