"""The command line and the environment of the launcher. `--` parts its options from the application's command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = "python -m codesync.launcher [OPTIONS] -- COMMAND [ARGUMENT ...]"
EXAMPLE = "example: python -m codesync.launcher --health http://127.0.0.1:8000/ -- python app.py"


class Options(NamedTuple):
    """What one launcher is told. Times are in seconds."""

    command: list[str]
    files_dir: str
    app_root: str
    health: str | None
    health_seconds: float
    settle_seconds: float
    stop_seconds: float


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Options beat CODESYNC_*, which beat the BIFROST_* names of earlier deployments. Exits with status 2 on bad usage."""
    parser = _parser(environ)
    own, _, command = _split(list(arguments))
    given = parser.parse_args(own)
    if not command:
        parser.error("no command: write the application's command after --")
    return Options(
        command=command,
        files_dir=given.files_dir,
        app_root=given.app_root,
        health=given.health,
        health_seconds=given.health_timeout,
        settle_seconds=given.settle,
        stop_seconds=given.stop_timeout,
    )


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in arguments:
        return arguments, "", []
    at = arguments.index("--")
    return arguments[:at], "--", arguments[at + 1 :]


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codesync.launcher",
        usage=USAGE,
        description="Run COMMAND as a container's first process, and apply pushed code to it.",
        epilog=EXAMPLE,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--files-dir",
        metavar="DIR",
        default=_variable(environ, "FILES_DIR", "/app-files"),
        help="the volume shared with the sidecar (CODESYNC_FILES_DIR; now %(default)s)",
    )
    parser.add_argument(
        "--app-root",
        metavar="DIR",
        default=_variable(environ, "APP_ROOT", "/app"),
        help="the application's directory (CODESYNC_APP_ROOT; now %(default)s)",
    )
    parser.add_argument(
        "--health", metavar="CHECK", help="http://HOST:PORT/PATH, tcp://HOST:PORT or cmd:COMMAND"
    )
    for name, default, text in (
        ("--health-timeout", 30.0, "how long a pushed tree may take to become healthy"),
        ("--settle", 1.0, "without --health: how long a pushed tree must stay alive"),
        ("--stop-timeout", 10.0, "how long the application may take to stop before it is killed"),
    ):
        parser.add_argument(
            name, metavar="SECONDS", type=_seconds, default=default, help=text + " (default %(default)g)"
        )
    return parser


def _variable(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get("CODESYNC_" + name) or environ.get("BIFROST_" + name) or default


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a time between 0 and 86400 seconds")
    return value
