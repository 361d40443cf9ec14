"""`codesync mcp`, `proxy`, `sidecar`, `demo`: what keeps running until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import click

from codesync.cli.output import example, say
from codesync.config import accepted_keys, load_sidecar


@click.command(epilog=example("codesync mcp", "codesync mcp --http 127.0.0.1:8765"))
@click.option("--http", metavar="HOST:PORT", help="Streamable HTTP at http://HOST:PORT/mcp instead of stdio.")
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="Another Host name that callers use."
)
def mcp(http: str | None, names: tuple[str, ...]) -> None:
    """Serve the MCP tools, on stdio or HTTP.

    push_changes, status, app_logs, history and rollback. Start it from an MCP client's configuration; the
    directory it starts in is where the project file is looked for. Over HTTP a caller's Host and Origin must be
    this machine's, and beyond loopback it must send a key of CODESYNC_API_KEY.
    """
    address = _address(http) if http is not None else None
    _log_to_stderr()
    from codesync import mcp_server

    if address is None:
        # Reading stdin blocks a thread that no cancellation reaches; there is no state here to put in order.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        asyncio.run(mcp_server.serve_stdio())
    else:
        host, port = address
        _serve(
            mcp_server.serve_http(
                host,
                port,
                keys=accepted_keys(),
                names=names,
                on_ready=lambda bound: _say_listening("MCP", host, bound, "/mcp"),
            )
        )


@click.command(epilog=example("CODESYNC_API_KEY=… codesync proxy --port 8000"))
@click.option("--host", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where kept pushes are stored for late replicas."
)
@click.option("--insecure", is_flag=True, help="No key at all; on a loopback address only.")
def proxy(host: str, port: int, data_dir: str | None, insecure: bool) -> None:
    """Relay pushes from developers to replicas.

    Callers must send the key in CODESYNC_API_KEY. It may hold several keys, parted by blanks, while one is
    being replaced by another.
    """
    _log_to_stderr()
    from codesync.proxy import serve

    _serve(
        serve(
            host=host,
            port=port,
            keys=accepted_keys(),
            insecure=insecure,
            data_dir=data_dir,
            on_ready=lambda bound: _say_listening("proxy", host, bound),
        )
    )


@click.command(
    epilog=example(
        "CODESYNC_PROXY_URL=http://proxy:8000 CODESYNC_APP_ID=shop CODESYNC_DEPLOYMENT_ID=dev codesync sidecar",
    )
)
def sidecar() -> None:
    """Receive pushes for the application on the same volume.

    All settings come from the environment: CODESYNC_API_KEY, CODESYNC_PROXY_URL, CODESYNC_APP_ID,
    CODESYNC_DEPLOYMENT_ID, and CODESYNC_FILES_DIR (default /app-files), the volume shared with the launcher.
    """
    settings = load_sidecar()
    _log_to_stderr()
    from codesync.sidecar import run

    _serve(run(settings))


@click.command(epilog=example("codesync demo --keep"))
@click.option("--keep", is_flag=True, help="Leave it all running at the end, and say how to join in.")
def demo(keep: bool) -> int:
    """Show all of it at work, on this machine.

    Starts proxy, sidecar, launcher and an application, and pushes to it. Everything lives in a temporary
    directory and ends with the command. Exit status 1 at the first step whose outcome is not what it should be.
    """
    from codesync.demo.main import run

    return run(keep=keep)


def _say_listening(what: str, host: str, port: int, path: str = "") -> None:
    say(f"{what} listening on http://{f'[{host}]' if ':' in host else host}:{port}{path}")


def _serve(service: Coroutine[Any, Any, object]) -> None:
    """Run until it ends by itself, or SIGTERM asks it to: then that is success."""
    asyncio.run(_until_terminated(service))


async def _until_terminated(service: Coroutine[Any, Any, object]) -> None:
    task = asyncio.ensure_future(service)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await task
    except asyncio.CancelledError:
        if not terminated:
            raise


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--http takes HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
