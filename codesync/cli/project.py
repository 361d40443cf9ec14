"""`codesync init`: write the project file."""

import os
import sys

import click

from codesync.cli.output import example, say
from codesync.config import write_project


@click.command(
    epilog=example("codesync init --app-id shop --deployment-id dev --proxy-url https://proxy.example.com")
)
@click.option("--app-id", help="The application's id, as its sidecar has it.")
@click.option("--deployment-id", help="The deployment's id, as its sidecar has it.")
@click.option(
    "--proxy-url", help="Where the proxy is: http, https, ws or wss. Default: CODESYNC_PROXY_URL's."
)
@click.option(
    "--app-root", default=".", help="The directory to push; the file is written there. Default: this one."
)
@click.option("--force", is_flag=True, help="Replace a project file that is there; its hooks stay.")
def init(
    app_id: str | None, deployment_id: str | None, proxy_url: str | None, app_root: str, force: bool
) -> None:
    """Write the project file, .codesync.json.

    It says which deployment a push of this directory is for. Asks for the ids only where they are not given
    and a person is there to answer.
    """
    root = os.path.realpath(app_root)
    app_id = app_id or _ask("--app-id", os.path.basename(root))
    deployment_id = deployment_id or _ask("--deployment-id", "dev")
    values = {"app_id": app_id, "deployment_id": deployment_id}
    if proxy_url:
        values["proxy_url"] = proxy_url
    click.echo(write_project(root, values, force=force))
    say("set CODESYNC_API_KEY in the environment, then: codesync push -m 'what has changed'")


def _ask(option: str, default: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"Missing option '{option}'")
    return str(click.prompt(option.lstrip("-"), default=default, err=True))
