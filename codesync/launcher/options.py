"""The command line and the environment of the launcher. `--` parts its options from the application's command."""

from __future__ import annotations

import argparse
import re
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = "python -m codesync.launcher [OPTIONS] -- COMMAND [ARGUMENT ...]"
EXAMPLE = "example: python -m codesync.launcher --health http://127.0.0.1:8000/ -- python app.py"
RESTART, SIGNAL, PASSIVE, BLUE_GREEN = "restart", "signal", "none", "blue-green"


class Options(NamedTuple):
    """What one launcher is told. Times are in seconds."""

    command: list[str]
    files_dir: str
    app_root: str
    health: str | None
    health_body: str | None
    health_seconds: float
    settle_seconds: float
    stop_seconds: float
    probation_seconds: float
    drain_seconds: float
    keep_failed: bool  # a push that fails is kept all the same
    log_tail: bool  # what the application writes may leave the container
    reload: str  # restart, signal:NAME, none or blue-green
    listen: tuple[str, int] | None  # with blue-green


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Options beat CODESYNC_*, which beat the BIFROST_* names of earlier deployments. Exits with status 2 on bad usage."""
    parser = _parser(environ)
    own, _, command = _split(list(arguments))
    given = parser.parse_args(own)
    if not command:
        parser.error("no command: write the application's command after --")
    if given.health_body is not None and not (given.health or "").startswith("http://"):
        parser.error("--health-body needs --health http://HOST:PORT/PATH")
    if (given.reload == BLUE_GREEN) != (given.listen is not None):
        parser.error(f"--reload {BLUE_GREEN} and --listen HOST:PORT go together: that is where it is served")
    if given.reload == BLUE_GREEN and given.on_failure == "keep":
        parser.error(
            f"--on-failure keep and --reload {BLUE_GREEN} exclude each other: what fails never serves"
        )
    return Options(
        command=command,
        files_dir=given.files_dir,
        app_root=given.app_root,
        health=given.health,
        health_body=given.health_body,
        health_seconds=given.health_timeout,
        settle_seconds=given.settle,
        stop_seconds=given.stop_timeout,
        probation_seconds=given.probation,
        drain_seconds=given.drain_timeout,
        keep_failed=given.on_failure == "keep",
        log_tail=not given.no_log_tail,
        reload=given.reload,
        listen=given.listen,
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
    parser.add_argument(
        "--health-body", metavar="TEXT", help="what the body of the HTTP answer must contain, too"
    )
    parser.add_argument(
        "--reload",
        metavar="WAY",
        type=_way,
        default=RESTART,
        help="restart, signal:NAME, none or blue-green (default %(default)s)",
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", type=_address, help="with blue-green: where clients connect"
    )
    parser.add_argument(
        "--on-failure",
        choices=("rollback", "keep"),
        default="rollback",
        help="what becomes of a pushed tree that fails (default %(default)s)",
    )
    parser.add_argument(
        "--no-log-tail",
        action="store_true",
        help="let nothing of what the application writes leave the container",
    )
    for name, default, text in (
        ("--health-timeout", 30.0, "how long a pushed tree may take to become healthy"),
        ("--settle", 1.0, "without --health: how long a pushed tree must stay alive"),
        ("--stop-timeout", 10.0, "how long the application may take to stop before it is killed"),
        ("--probation", 10.0, "an application that ends so soon is started again, and reported"),
        ("--drain-timeout", 10.0, "with blue-green: how long old connections may last after a swap"),
    ):
        parser.add_argument(
            name, metavar="SECONDS", type=seconds, default=default, help=text + " (default %(default)g)"
        )
    return parser


def _variable(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get("CODESYNC_" + name) or environ.get("BIFROST_" + name) or default


def _way(text: str) -> str:
    kind, _, name = text.partition(":")
    if text in (RESTART, PASSIVE, BLUE_GREEN):
        return text
    if kind == SIGNAL and reload_signal(text) is not None:
        return f"{SIGNAL}:{name.upper().replace('SIG', '', 1)}"
    raise argparse.ArgumentTypeError(
        f"{text} is no way to reload; write restart, signal:NAME (such as signal:HUP), none or blue-green"
    )


def reload_signal(way: str) -> int | None:
    """The number of the signal in `signal:NAME`; None for every other way, and where there is no such signal."""
    kind, _, name = way.partition(":")
    name = name.upper()
    found = getattr(signal, name if name.startswith("SIG") else "SIG" + name, None)
    if kind != SIGNAL or not isinstance(found, signal.Signals) or found in (signal.SIGKILL, signal.SIGSTOP):
        return None
    return int(found)


def shown(options: Options) -> str:
    """The address to listen on, as it is written."""
    host, port = options.listen or ("", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if found is None or not 0 < int(found.group(3)) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no address; write HOST:PORT, such as 0.0.0.0:8000")
    return found.group(1) or found.group(2), int(found.group(3))


def seconds(text: str) -> float:
    """A bound; argparse says this function's name where the text is no number."""
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a time between 0 and 86400 seconds")
    return value
