"""The demo from its first line to its last: everything is stopped and removed, whatever happens."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from codesync.demo.processes import DemoError
from codesync.demo.scenario import connected
from codesync.demo.world import World


def run(*, keep: bool = False) -> int:
    """Run the demo and return its exit status. With `keep` it goes on running after that, until interrupted."""
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, _interrupt)
    root = Path(tempfile.mkdtemp(prefix="codesync-demo-"))
    try:
        return _run(World(root), keep)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(world: World, keep: bool) -> int:
    with world.processes:
        try:
            _scenario(world)
            if keep:
                print(_invitation(world), flush=True)
                world.processes.wait()
        except DemoError as error:
            sys.stdout.flush()
            print(f"{world.processes.tails()}\ncodesync: demo: {error}", file=sys.stderr)
            return 1
    return 0


def _scenario(world: World) -> None:
    start = time.perf_counter()
    print(f"codesync demo: everything is below {world.root}, on 127.0.0.1", flush=True)
    world.start()
    print(
        f"  {'started':<18} {'':<12} {time.perf_counter() - start:6.2f} s   proxy, sidecar, launcher, application",
        flush=True,
    )
    asyncio.run(_pushes(world))
    print(f"All as expected, in {time.perf_counter() - start:.1f} s.", flush=True)


async def _pushes(world: World) -> None:
    failure: Exception | None = None
    async with connected(world) as scenario:
        try:
            await scenario.run()
        except Exception as error:  # carried past the client's task group, which would wrap it
            failure = error
    if failure is not None:
        raise failure


def _invitation(world: World) -> str:
    return f"""
It keeps running. To join in, in another terminal:
  cd {world.source}
  export CODESYNC_PROXY_URL={world.proxy_url} CODESYNC_API_KEY={world.key}{_path()}
  codesync status; codesync push -m 'my change'
  curl {world.app_url}/greeting       # also /stock, /about, /health
What the container has is in {world.root}/image, logs are in {world.root}/logs.
To stop all of it and remove the directory: Ctrl-C here, or kill {os.getpid()}."""


def _path() -> str:
    """More to export, where the command is not on the PATH."""
    return "" if shutil.which("codesync") else f" PATH={os.path.dirname(sys.executable)}:$PATH"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
