"""`codesync status`, `history`, `logs`: what the deployment is, was, and says. Nothing is changed."""

import asyncio
import json
import sys
from contextlib import aclosing

import click

from codesync.cli.options import deployment_options
from codesync.cli.output import example, print_json, print_lines, printable, say
from codesync.cli.report import history_lines, status_lines
from codesync.config import Settings


@click.command(epilog=example("codesync status --json"))
@deployment_options
def status(settings: Settings, *, as_json: bool) -> int:
    """Show what the deployment's replicas run."""
    from codesync import client

    record = asyncio.run(client.status(settings)).to_dict()
    if as_json:
        print_json(record)
    else:
        print_lines(status_lines(record))
    return 0


@click.command(epilog=example("codesync history", "codesync rollback 20260314-151617-0a1b2c3d4e"))
@deployment_options
def history(settings: Settings, *, as_json: bool) -> int:
    """List the last pushes and rollbacks, kept or not, newest first.

    For each: generation, time, outcome, push id, who, bytes sent, durations, description.
    """
    from codesync import client

    record = asyncio.run(client.history(settings)).to_dict()
    if as_json:
        print_json(record)
    else:
        print_lines(history_lines(record))
    return 0


@click.command(epilog=example("codesync logs -n 50", "codesync logs -f --replica pod-1"))
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with every line that is written, until interrupted."
)
@click.option("--replica", help="One replica's only. Default: all.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 10_000),
    default=200,
    show_default=True,
    help="How many of the last lines, of each replica.",
)
@click.option("--since-push", metavar="PUSH_ID", help="Only what was written since that push came in.")
@deployment_options
def logs(
    settings: Settings,
    *,
    follow: bool,
    replica: str | None,
    lines: int,
    since_push: str | None,
    as_json: bool,
) -> int:
    """Print what the application has written, from its launcher's memory.

    With several replicas each line begins with the replica's id. Where nothing is remembered of the push that --since-push
    names, the last lines are printed all the same, and the exit status is 1. With --follow, --json is one object a line.
    """
    if follow:
        return _follow(settings, replica, lines, since_push, as_json=as_json)
    from codesync import client

    result = asyncio.run(client.logs(settings, lines=lines, since_push=since_push, replica=replica))
    status = 1 if all(answer.reason for answer in result.replicas) else 0
    if as_json:
        print_json(result.to_dict())
        return status
    several = len(result.replicas) > 1
    for answer in result.replicas:
        if answer.reason:
            say(answer.reason)
        for line in answer.lines:
            _print_line(answer.id if several else "", line)
    return status


def _follow(
    settings: Settings, replica: str | None, lines: int, since_push: str | None, *, as_json: bool
) -> int:
    from codesync import client
    from codesync.client.app_log import shown

    said = ""

    def lost(reason: str) -> None:
        nonlocal said
        if reason != said:
            say(f"{reason}; connecting again")
        said = reason

    async def run() -> None:
        nonlocal said
        found = client.follow_logs(
            settings, lines=lines, since_push=since_push, replica=replica, on_lost=lost, on_remark=say
        )
        names = {state.id for state in (await client.status(settings)).replicas} if replica is None else set()
        async with aclosing(found) as heard:
            async for line in heard:
                said = ""
                names.add(line.replica)
                if as_json:
                    click.echo(json.dumps(line._asdict()))
                else:
                    _print_line(line.replica if len(names) > 1 else "", shown(line))

    try:
        asyncio.run(run())
    except KeyboardInterrupt:  # how it is meant to end
        return 130
    return 0


def _print_line(replica: str, text: str) -> None:
    """As the application wrote it; on a terminal nothing that the terminal would obey."""
    text = f"{replica}: {text}" if replica else text
    click.echo(printable(text) if sys.stdout.isatty() else text, color=True)  # color: click takes nothing out
