"""`codesync …` as a process of its own, against the fake proxy."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.client.fake import Fake


def environ(fake: Fake, directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "CODESYNC_API_KEY": "key",
        "CODESYNC_PROXY_URL": f"ws://127.0.0.1:{fake.port}",
        "CODESYNC_APP_ID": "shop",
        "CODESYNC_DEPLOYMENT_ID": "test",
    }


async def start(fake: Fake, directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Run it in `directory/source`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "codesync.cli",
        *arguments,
        cwd=directory / "source",
        env=environ(fake, directory),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Its status, stdout and stderr."""
    try:
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, out.decode(), err.decode()
