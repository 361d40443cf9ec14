"""`codesync push`, `status`, `rollback`: one call of the client each, and its result in lines or JSON."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

import click

from codesync.cli.output import example, print_json, print_lines, printable, say
from codesync.cli.report import push_lines, status_lines
from codesync.config import Settings, load
from codesync.wording import Milestones

if TYPE_CHECKING:
    from codesync.client import Progress, PushResult


def _deployment_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options that say which deployment; they fill a `Settings`, which the command gets as its first argument."""

    def with_settings(
        app_root: str | None,
        app_id: str | None,
        deployment_id: str | None,
        proxy_url: str | None,
        **rest: Any,
    ) -> int:
        settings = load(app_root=app_root, app_id=app_id, deployment_id=deployment_id, proxy_url=proxy_url)
        return command(settings, **rest)

    with_settings.__name__ = command.__name__
    with_settings.__doc__ = command.__doc__
    with_settings.__dict__.update(command.__dict__)  # where click collects a function's options
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The result as one JSON document."),
        click.option(
            "--proxy-url", help="Where the proxy is. Default: CODESYNC_PROXY_URL, the project file."
        ),
        click.option("--deployment-id", help="Default: CODESYNC_DEPLOYMENT_ID, the project file."),
        click.option("--app-id", help="Default: CODESYNC_APP_ID, the project file."),
        click.option("--app-root", help="The tree to push. Default: the project file's, from here upwards."),
    ):
        option(with_settings)
    return with_settings


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
@_deployment_options
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
    as_json: bool,
) -> int:
    """Make the deployment run this tree.

    Says what became of the application. Exit status 0: it runs the tree (or has stored it, or ran it already).
    1: it does not; after a crash the old code runs again, and the crash's log is shown.
    """
    from codesync import client

    reporter = _Reporter()
    pushed = client.push(
        settings,
        description=description,
        dry_run=dry_run,
        mirror=mirror,
        modes=modes,
        allow_mass_delete=allow_mass_delete,
        allow_large=allow_large,
        take_over=take_over,
        progress=reporter,
    )
    return _carry_out(pushed, reporter, as_json)


@click.command(epilog=example("codesync status --json"))
@_deployment_options
def status(settings: Settings, *, as_json: bool) -> int:
    """Show what the deployment's replicas run."""
    from codesync import client

    record = asyncio.run(client.status(settings)).to_dict()
    if as_json:
        print_json(record)
    else:
        print_lines(status_lines(record))
    return 0


@click.command(epilog=example("codesync rollback -m 'the new search is too slow'"))
@click.argument("push_id", required=False)
@click.option("-m", "--message", "description", default="", help="Why, for status and history.")
@_deployment_options
def rollback(settings: Settings, *, push_id: str | None, description: str, as_json: bool) -> int:
    """Go back to the tree before the last push, or to that of PUSH_ID."""
    from codesync import client

    reporter = _Reporter()
    rolled_back = client.rollback(settings, push_id=push_id, description=description, progress=reporter)
    return _carry_out(rolled_back, reporter, as_json)


_ON_TRIAL = ("apply", "stop", "start", "health", "commit")


class _Reporter:
    """Progress as lines on stderr. `out_of_hand` once the replicas go on whether we are there or not."""

    def __init__(self) -> None:
        self._milestones = Milestones()
        self.out_of_hand = False

    def __call__(self, progress: "Progress") -> None:
        self.out_of_hand = self.out_of_hand or progress.stage in _ON_TRIAL
        if line := self._milestones.line(progress):
            click.echo(printable(line), err=True)


def _carry_out(call: Coroutine[Any, Any, "PushResult"], reporter: _Reporter, as_json: bool) -> int:
    try:
        result = asyncio.run(call)
    except KeyboardInterrupt:
        if not reporter.out_of_hand:
            raise
        return say("interrupted, but the replicas finish this without you; see `codesync status`", status=130)
    record = result.to_dict()
    if as_json:
        print_json(record)
    else:
        print_lines(push_lines(record))
    return exit_status(result)


def exit_status(result: "PushResult") -> int:
    """0 when the deployment is as asked, else 1."""
    return 0 if result.ok else 1
