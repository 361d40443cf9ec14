"""What the commands on a deployment have in common: which one it is, and how its result is shown."""

from collections.abc import Callable
from typing import Any

import click

from codesync.config import load


def deployment_options(command: Callable[..., int]) -> Callable[..., int]:
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


quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, only the result.")
