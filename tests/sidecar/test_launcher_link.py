"""The launcher's socket with a launcher that says what no launcher should."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from codesync.sidecar.launcher_link import LauncherError, LauncherLink
from tests.sidecar.played import PlayedLauncher, listening

pytestmark = pytest.mark.anyio


class Fake(PlayedLauncher):
    """With a note of what reached the sidecar's side."""

    def __init__(self, version: int) -> None:
        super().__init__(version=version, app={"state": {"nested": 1}, "pid": 7})
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def next(self, kind: str) -> dict[str, Any]:
        """The next message that reached the sidecar's side."""
        async with asyncio.timeout(5):
            while (message := await self.told.get())["type"] != kind:
                pass
        return message


@asynccontextmanager
async def linked(directory: Path, version: int = 1) -> AsyncIterator[tuple[LauncherLink, Fake]]:
    fake = Fake(version)
    async with listening(directory, fake):
        link = LauncherLink(directory, lambda: {"type": "hello", "version": 1}, fake.told.put_nowait)
        running = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(5):
                await link.looked.wait()
                await fake.hellos.get()
            yield link, fake
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_two_who_ask_the_same_share_one_answer(tmp_path: Path) -> None:
    async with linked(tmp_path) as (link, fake):
        asked = {"type": "undo", "push_id": "p1"}
        both = [asyncio.create_task(link.request(asked, "undone", 5)) for _ in range(2)]
        await fake.hears("undo")
        fake.say({"type": "undone", "push_id": "p1"})
        assert [answer["push_id"] for answer in await asyncio.gather(*both)] == ["p1", "p1"]
        assert fake.heard.empty()


async def test_an_error_about_no_push_ends_an_apply(tmp_path: Path) -> None:
    async with linked(tmp_path) as (link, fake):
        asked = asyncio.create_task(link.request({"type": "apply"}, "applied", 60))
        await fake.hears("apply")
        fake.say({"type": "error", "message": "no space"})
        async with asyncio.timeout(5):
            with pytest.raises(LauncherError, match="no space"):
                await asked


async def test_fields_that_are_malformed_are_left_out(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, fake):
        assert (await fake.next("hello"))["app"] == {"pid": 7}
        fake.say(
            {
                "type": "verdict",
                "push_id": "p1",
                "exit_code": "one",
                "drift": ["YQ==", "no base64!", 3],
                "log_tail": ["fine", None, "\ud800"],
                "timings_ms": {"stop": 3, "start": "soon"},
                "reason": {},
            }
        )
        verdict = await fake.next("verdict")
        assert verdict["exit_code"] is None
        assert verdict["drift"] == [b"a"]
        assert verdict["log_tail"] == ["fine", "?"]
        assert verdict["timings_ms"] == {"stop": 3}
        assert verdict["reason"] == ""
        fake.say({"type": "app", "app": ["no", "map"]})
        assert (await fake.next("app"))["app"] == {}


async def test_a_line_that_is_too_deep_ends_the_conversation_and_not_the_next(tmp_path: Path) -> None:
    async with linked(tmp_path) as (link, fake):
        fake.say_line(b"[" * 60_000)
        await fake.next("lost")
        await fake.next("hello")
        assert await link.is_there()


async def test_another_version_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "codesync.sidecar"):
        async with linked(tmp_path, version=2) as (link, fake):
            async with asyncio.timeout(5):
                for _ in range(2):
                    await fake.hellos.get()
            assert not link.connected
    assert sum("speaks version 2" in record.message for record in caplog.records) == 1
