"""`codesync history` and `logs`, as processes: results on stdout, remarks on stderr, and the exit status."""

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from codesync.protocol import Answer, AnswerError, GetHistory, GetLogs, ReplicaState, TreeRef
from tests.client.command import ended, environ, start
from tests.client.fake import Fake, Script, answer, fake_proxy, fill
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio

HISTORY = [
    {"push_id": "p1", "generation": 1, "status": "healthy", "at": 1e9, "source": "me@here:/a", "bytes": 5},
    {"push_id": "p2", "status": "rolled_back", "at": 2e9, "reason": "it ended", "description": "try"},
]


def states(*names: str) -> tuple[ReplicaState, ...]:
    return tuple(ReplicaState(id=name, tree=TreeRef("0" * 64, "1" * 64)) for name in names)


def log(*texts: str, at: float = 1.0, stream: str = "stdout") -> bytes:
    records = ({"at": at, "stream": stream, "push_id": "p1", "text": text} for text in texts)
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def answers(**by_replica: bytes | AnswerError) -> Script:
    """Answers each question for a log, and goes on until the client leaves."""

    async def script(peer: Peer) -> None:
        for _ in by_replica:
            asked = await peer.hear(GetLogs)
            found = by_replica[asked.replica]
            if isinstance(found, AnswerError):
                await peer.say(AnswerError(request=asked.request, code=found.code, message=found.message))
            else:
                await peer.say(Answer(request=asked.request, data=found, last=not asked.follow))
        await peer.websocket.wait_closed()

    return script


async def run(fake: Fake, directory: Path, *arguments: str) -> tuple[int | None, str, str]:
    fill(directory / "source", 1)
    return await ended(await start(fake, directory, *arguments))


@pytest.mark.parametrize("as_json", [False, True])
async def test_history_is_a_table_or_json(tmp_path: Path, as_json: bool) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetHistory)
        await answer(peer, asked.request, json.dumps(HISTORY).encode())
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        status, out, err = await run(fake, tmp_path, "history", *(["--json"] if as_json else []))
    assert (status, err) == (0, "")
    if as_json:
        assert [push["push_id"] for push in json.loads(out)["pushes"]] == ["p2", "p1"]
    else:
        heading, second, first, _ = out.splitlines()
        assert heading.split() == ["generation", "when", "status", "push", "who", "bytes", "time", "what"]
        assert "rolled_back  p2" in second
        assert second.endswith("try; it ended")
        assert first.startswith("1 ")
        assert "healthy      p1    me@here:/a  5 B" in first


LOST = AnswerError(request=0, code="no_launcher", message="start it")


@pytest.mark.parametrize(
    ("found", "arguments", "expected"),
    [
        ({"one": log("a\x1b[31m\tb", "c")}, [], (0, "a\x1b[31m\tb\nc\n", "")),
        ({"one": log("a"), "two": log("b", stream="codesync")}, [], (0, "one: a\ntwo: codesync: b\n", "")),
        ({"one": b""}, ["--replica", "one"], (0, "", "")),
        (
            {"one": LOST, "two": log("b")},
            [],
            (0, "two: b\n", "codesync: replica one did not tell its log: start it\n"),
        ),
        ({"one": LOST}, [], (1, "", "codesync: replica one did not tell its log: start it\n")),
        (
            {"one": b'{"known": false}\n' + log("a")},
            ["--since-push", "p9"],
            (
                1,
                "a\n",
                "codesync: replica one remembers nothing of push p9; these are the last lines there are\n",
            ),
        ),
    ],
    ids=["one", "two", "empty", "partly", "none", "unknown push"],
)
async def test_logs_are_printed_as_the_application_wrote_them(
    tmp_path: Path, found: dict[str, Any], arguments: list[str], expected: tuple[int, str, str]
) -> None:
    async with fake_proxy(answers(**found), states=states(*found)) as fake:
        assert await run(fake, tmp_path, "logs", *arguments) == expected


async def test_logs_as_json_are_one_document(tmp_path: Path) -> None:
    async with fake_proxy(answers(one=log("a")), states=states("one")) as fake:
        status, out, _ = await run(fake, tmp_path, "logs", "--json", "-n", "5", "--since-push", "p1")
    assert status == 0
    assert json.loads(out)["replicas"] == [{"id": "one", "lines": ["a"], "reason": ""}]


async def test_an_unknown_replica_is_one_line(tmp_path: Path) -> None:
    async with fake_proxy(answers(one=b""), states=states("one", "two")) as fake:
        status, out, err = await run(fake, tmp_path, "logs", "--replica", "three")
    words = "codesync: no replica 'three' is connected; there are: one, two\n"
    assert (status, out, err) == (1, "", words)


@pytest.mark.parametrize("as_json", [False, True])
async def test_followed_logs_go_on_over_a_lost_connection_until_ctrl_c(tmp_path: Path, as_json: bool) -> None:
    async def looked_at(peer: Peer) -> None:
        await peer.websocket.wait_closed()

    async def breaks(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        await peer.say(Answer(request=asked.request, data=log("a"), last=False))
        await peer.say(AnswerError(request=asked.request, code="launcher_lost", message="it restarts"))
        await peer.websocket.wait_closed()

    fill(tmp_path / "source", 1)
    again = answers(one=log("a") + log("b", at=2.0))
    async with fake_proxy(looked_at, breaks, again, states=states("one")) as fake:
        process = await start(fake, tmp_path, "logs", "-f", *(["--json"] if as_json else []))
        assert process.stdout
        async with asyncio.timeout(20):
            lines = [(await process.stdout.readline()).decode().rstrip() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        status, out, err = await ended(process)
    told = [json.loads(line)["text"] for line in lines] if as_json else lines
    assert (status, told, out) == (130, ["a", "b"], "")
    assert err == "codesync: replica one did not tell its log: it restarts; connecting again\n"


async def test_followed_lines_name_their_replica_once_there_are_several(tmp_path: Path) -> None:
    async def looked_at(peer: Peer) -> None:
        await peer.websocket.wait_closed()

    async def listened_to(peer: Peer) -> None:
        first = await peer.hear(GetLogs)
        await peer.say(Answer(request=first.request, data=log("a"), last=False))
        fake.states = states("one", "two")
        second = await peer.hear(GetLogs)
        await peer.say(Answer(request=second.request, data=log("b"), last=False))
        await peer.say(Answer(request=first.request, data=log("c", at=2.0), last=False))
        await peer.websocket.wait_closed()

    fill(tmp_path / "source", 1)
    async with fake_proxy(looked_at, listened_to, looked_at, states=states("one")) as fake:
        process = await start(fake, tmp_path, "logs", "-f")
        assert process.stdout
        async with asyncio.timeout(20):
            lines = [(await process.stdout.readline()).decode().rstrip() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        status, _, err = await ended(process)
    assert (status, lines, err) == (130, ["a", "two: b", "one: c"], "")


async def test_a_terminal_is_given_nothing_that_it_would_obey(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    controller, terminal = pty.openpty()
    try:
        async with fake_proxy(answers(one=log("\x1b]0;title\x07 red")), states=states("one")) as fake:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "codesync.cli",
                "logs",
                cwd=tmp_path / "source",
                env=environ(fake, tmp_path),
                stdout=terminal,
            )
            async with asyncio.timeout(20):
                assert await process.wait() == 0
        assert os.read(controller, 1000) == b"\\x1b]0;title\\x07 red\r\n"
    finally:
        os.close(controller)
        os.close(terminal)
