"""The application's output on its way: questions beside each other, slow readers, and everybody who can be lost."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from codesync.protocol import MAX_CHUNK, Answer, AnswerError, EndRequest, GetLogs
from codesync.sidecar import logs
from codesync.sidecar.logs import Logs
from tests.sidecar.played import PlayedWorld, played_world

pytestmark = pytest.mark.anyio


def lines(*texts: str) -> list[list[Any]]:
    return [[1.5, "stdout", "p1", text] for text in texts]


def texts(data: bytes) -> list[str]:
    assert data.endswith(b"\n")
    return [json.loads(line)["text"] for line in data.splitlines()]


def question(request: int, *, follow: bool = False, since_push: str = "") -> GetLogs:
    return GetLogs(request=request, replica="r", lines=200, since_push=since_push, follow=follow)


async def ask(world: PlayedWorld, asked: GetLogs) -> int:
    """The number that the launcher is given."""
    await world.replica.handle(asked)
    heard = await world.launcher.hears("logs")
    number = heard["request"]
    assert isinstance(number, int)
    return number


async def test_the_last_lines_are_answered_as_json_lines(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.replica.handle(question(3, since_push="p1"))
        heard = await world.launcher.hears("logs")
        assert (heard["lines"], heard["since_push"], heard["follow"]) == (200, "p1", False)
        world.launcher.say(
            {"type": "log", "request": heard["request"], "lines": lines("é", "two"), "last": True}
        )
        answer = await world.told(Answer)
        assert (answer.request, answer.last) == (3, True)
        first = json.loads(answer.data.splitlines()[0])
        assert first == {"at": 1.5, "stream": "stdout", "push_id": "p1", "text": "é"}
        assert texts(answer.data) == ["é", "two"]


@pytest.mark.parametrize("follow", [False, True])
async def test_that_a_push_is_not_remembered_is_told_before_all_lines(tmp_path: Path, follow: bool) -> None:
    async with played_world(tmp_path) as world:
        number = await ask(world, question(3, since_push="p9", follow=follow))
        told = {"type": "log", "request": number, "last": not follow, "known": False}
        world.launcher.say({**told, "lines": [] if follow else lines("a")})
        answer = await world.told(Answer)
        first, _, rest = answer.data.partition(b"\n")
        assert json.loads(first) == {"known": False}
        if follow:
            assert rest == b""
            world.launcher.say({**told, "lines": lines("a")})
            rest = (await world.told(Answer)).data
        assert texts(rest) == ["a"]


async def test_the_image_is_no_push_to_the_launcher(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.replica.handle(question(3, since_push="generation-0"))
        assert (await world.launcher.hears("logs"))["since_push"] == ""


async def test_several_questions_are_answered_beside_each_other(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        first, second = [await ask(world, question(request, follow=True)) for request in (1, 2)]
        world.launcher.say({"type": "log", "request": second, "lines": lines("b"), "last": False})
        answer = await world.told(Answer)
        assert (answer.request, texts(answer.data), answer.last) == (2, ["b"], False)
        world.launcher.say({"type": "log", "request": first, "lines": lines("a"), "last": True})
        answer = await world.told(Answer)
        assert (answer.request, texts(answer.data), answer.last) == (1, ["a"], True)
        world.launcher.say({"type": "log", "request": second, "lines": lines("c"), "last": False})
        assert texts((await world.told(Answer)).data) == ["c"]


async def test_pieces_are_cut_at_the_ends_of_lines(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        number = await ask(world, question(1))
        long = [f"{n}" * 30_000 for n in range(20)]
        world.launcher.say({"type": "log", "request": number, "lines": lines(*long[:15]), "last": False})
        world.launcher.say({"type": "log", "request": number, "lines": lines(*long[15:]), "last": True})
        found: list[str] = []
        while True:
            answer = await world.told(Answer)
            assert len(answer.data) <= MAX_CHUNK
            found += texts(answer.data) if answer.data else []
            if answer.last:
                break
        assert found == long


async def test_a_line_as_long_as_can_be_fits_into_a_piece(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        number = await ask(world, question(1))
        world.launcher.say({"type": "log", "request": number, "lines": lines("\0" * 100_000), "last": True})
        answer = await world.told(Answer)
        assert answer.last
        assert set(texts(answer.data)[0]) == {"\0"}


async def test_who_follows_hears_now_and_then_that_nothing_has_come(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        served = Logs(world.replica.launcher, quiet_seconds=0.01)
        answers = served.answer(question(1, follow=True))
        first = asyncio.ensure_future(anext(answers))
        number = (await world.launcher.hears("logs"))["request"]
        served.heard({"request": number, "lines": [], "last": False, "known": True})
        async with asyncio.timeout(10):
            for answer in (await first, await anext(answers), await anext(answers)):
                assert answer == Answer(request=1, data=b"", last=False)
        await answers.aclose()
        assert (await world.launcher.hears("logs_end"))["request"] == number


async def test_a_launcher_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        served = Logs(world.replica.launcher, patience_seconds=0.01)
        for follow in (False, True):
            answer = await anext(served.answer(question(1, follow=follow)))
            assert isinstance(answer, AnswerError)
            assert answer.code == "timeout"


async def test_whoever_wants_no_more_is_forgotten_by_the_launcher_too(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        number = await ask(world, question(1, follow=True))
        world.launcher.say({"type": "log", "request": number, "lines": lines("a"), "last": False})
        await world.told(Answer)
        await world.replica.handle(EndRequest(request=1))
        assert (await world.launcher.hears("logs_end"))["request"] == number
        world.launcher.say({"type": "log", "request": number, "lines": lines("late"), "last": False})
        second = await ask(world, question(2))
        world.launcher.say({"type": "log", "request": second, "lines": lines("b"), "last": True})
        assert (await world.told(Answer)).request == 2


async def test_a_proxy_that_is_lost_follows_no_more(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        numbers = {await ask(world, question(request, follow=True)) for request in (1, 2)}
        world.replica.parted()
        assert {(await world.launcher.hears("logs_end"))["request"] for _ in numbers} == numbers


async def test_a_launcher_that_is_lost_meanwhile_is_an_error_after_what_it_has_told(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        number = await ask(world, question(1))
        world.launcher.say({"type": "log", "request": number, "lines": lines("a"), "last": False})
        world.end_launcher()
        answer = await world.told(Answer)
        assert (texts(answer.data), answer.last) == (["a"], False)
        error = await world.told(AnswerError)
        assert (error.request, error.code) == (1, "launcher_lost")
        assert "\n" not in error.message


async def test_without_a_launcher_there_is_a_word_about_what_to_do(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        world.end_launcher()
        await world.told_state(lambda state: state.launcher == "absent")
        await world.replica.handle(question(1))
        error = await world.told(AnswerError)
        assert (error.request, error.code) == (1, "no_launcher")
        assert "start the application's container" in error.message


async def test_who_reads_too_slowly_misses_the_oldest_lines_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 1000)
    async with played_world(tmp_path) as world:
        served = Logs(world.replica.launcher)
        answers = served.answer(question(1))
        coming = asyncio.ensure_future(anext(answers))
        number = (await world.launcher.hears("logs"))["request"]
        rows = [(1.5, "stdout", "p1", f"line {n} " + "x" * 200) for n in range(10)]
        served.heard({"request": number, "lines": rows, "last": True, "known": True})
        answer = await coming
        assert isinstance(answer, Answer)
        found = [json.loads(line) for line in answer.data.splitlines()]
        assert found[0]["stream"] == "codesync"
        assert found[0]["text"].startswith(f"{10 - len(found[1:])} lines are missing")
        assert found[-1]["text"].startswith("line 9 ")
        assert 1 < len(found) < 6
