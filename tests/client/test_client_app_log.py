"""The application's output: asked for once, or followed over lost connections without a line lost or told twice."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from codesync import client
from codesync.client import LOGS_STEPS, ClientError, LogLine
from codesync.client.app_log import MAX_FOLLOWED, follow_logs, read_log
from codesync.protocol import Answer, AnswerError, GetLogs, ReplicaState, TreeRef
from tests.client.fake import Fake, Script, answer, fake_proxy
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are taken up again without a pause, and no replica is looked for unless a test wants it."""
    monkeypatch.setattr("codesync.client.app_log.LOOK_SECONDS", 60.0)
    monkeypatch.setattr("codesync.client.app_log.backoff", lambda: iter(lambda: 0.0, None))


def states(*names: str) -> tuple[ReplicaState, ...]:
    return tuple(ReplicaState(id=name, tree=TreeRef("0" * 64, "1" * 64)) for name in names)


def log(*lines: tuple[float, str], stream: str = "stdout") -> bytes:
    records = ({"at": at, "stream": stream, "push_id": "p1", "text": text} for at, text in lines)
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


# --- once -------------------------------------------------------------------------------------------------------------


async def test_the_last_lines_of_every_replica_are_asked_for(tmp_path: Path) -> None:
    asked: list[GetLogs] = []

    async def script(peer: Peer) -> None:
        for _ in range(3):
            asked.append(await peer.hear(GetLogs))
            request = asked[-1].request
            match asked[-1].replica:
                case "one":
                    data = log((1.0, "café\t\x1b[31m"), (2.0, "")) + log((3.0, "started"), stream="codesync")
                    await answer(peer, request, data)
                case "two":
                    await peer.say(Answer(request=request, data=b"", last=True))
                case _:
                    await peer.say(AnswerError(request=request, code="no_launcher", message="no launcher"))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one", "three", "two")) as fake:
        found = await client.logs(fake.settings(tmp_path), lines=7, since_push="p1")
    assert [(ask.lines, ask.since_push, ask.follow) for ask in asked] == [(7, "p1", False)] * 3
    assert found.to_dict() == {
        "app_id": "shop",
        "deployment_id": "test",
        "replicas": [
            {"id": "one", "lines": ["café\t\x1b[31m", "", "codesync: started"], "reason": ""},
            {"id": "three", "lines": [], "reason": "replica three did not tell its log: no launcher"},
            {"id": "two", "lines": [], "reason": ""},
        ],
        "next_step": LOGS_STEPS["missing"],
    }


UNKNOWN = b'{"known": false}\n'


@pytest.mark.parametrize(
    ("data", "step"),
    [
        (log((1.0, "x")), "some"),
        (log((1.0, "x"), stream="stderr"), "some"),
        (log((1.0, "the application is started"), stream="codesync"), "none"),
        (b"", "none"),
    ],
    ids=["stdout", "stderr", "launcher", "nothing"],
)
async def test_one_replica_may_be_named(tmp_path: Path, data: bytes, step: str) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        assert asked.replica == "two"
        await peer.say(Answer(request=asked.request, data=data, last=True))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one", "two")) as fake:
        found = await client.logs(fake.settings(tmp_path), replica="two")
    assert [replica.id for replica in found.replicas] == ["two"]
    assert found.next_step == LOGS_STEPS[step]


NOT_REMEMBERED = "replica one remembers nothing of push p9; these are the last lines there are"


async def test_a_push_that_nothing_is_remembered_of_is_the_reason_beside_the_lines(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        await answer(peer, asked.request, UNKNOWN + log((1.0, "a")))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        found = await client.logs(fake.settings(tmp_path), since_push="p9")
    (replica,) = found.replicas
    assert (replica.lines, replica.reason) == (["a"], NOT_REMEMBERED)
    assert found.next_step == LOGS_STEPS["unknown"]


async def waits(peer: Peer) -> None:
    await peer.websocket.wait_closed()


@pytest.mark.parametrize(
    ("names", "question", "words", "code"),
    [
        (
            ("one", "two"),
            {"replica": "three"},
            "no replica 'three' is connected; there are: one, two",
            "no_replica",
        ),
        ((), {}, "no sidecar is connected", "no_replica"),
        (("one",), {"lines": 10_001}, "lines must be 0 to 10000", "too_large"),
        (("one",), {"lines": -1}, "lines must be 0 to 10000", "too_large"),
        (("one",), {"since_push": "a b"}, "'a b' is no push_id", "unknown_push"),
    ],
)
async def test_what_cannot_be_asked_for_is_one_line(
    tmp_path: Path, names: tuple[str, ...], question: dict[str, Any], words: str, code: str
) -> None:
    async with fake_proxy(waits, states=states(*names)) as fake:
        with pytest.raises(ClientError, match=words) as caught:
            await client.logs(fake.settings(tmp_path), **question)
        assert caught.value.code == code
        with pytest.raises(ClientError, match=words):
            await anext(follow_logs(fake.settings(tmp_path), **question))


async def test_the_error_of_the_only_one_that_was_asked_is_raised(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        await peer.say(AnswerError(request=asked.request, code="no_launcher", message="start it"))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one", "two")) as fake:
        with pytest.raises(ClientError, match="replica one did not tell its log: start it"):
            await client.logs(fake.settings(tmp_path), replica="one")


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b'{"at": 1',
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b'{"at": "now", "stream": "stdout", "text": ""}',
        b'{"at": Infinity, "stream": "stdout", "text": ""}',
        b'{"at": 1, "stream": "elsewhere", "text": ""}',
        b'{"at": 1, "text": ""}',
        b'{"at": 1, "stream": "stdout", "text": 3}',
        b'{"known": "no"}',
        b'{"at": 1, "stream": "stdout", "text": "' + b"x" * 70_000 + b'"}',
    ],
    ids=range(12),
)
async def test_what_is_no_log_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ClientError, match="the log of replica one cannot be read") as caught:
        read_log(data, "one")
    assert caught.value.code == "bad_message"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_a_log_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesync.client.session.MAX_LOGS", 64 * 1024)

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        for _ in range(100):
            await peer.say(Answer(request=asked.request, data=log((1.0, "x" * 1000)), last=False))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        with pytest.raises(ClientError, match="larger than"):
            await client.logs(fake.settings(tmp_path), replica="one")


# --- followed ---------------------------------------------------------------------------------------------------------


async def followed(
    fake: Fake, directory: Path, count: int, **question: Any
) -> tuple[list[LogLine], list[str]]:
    """The first so many lines, and what was told beside them."""
    lost: list[str] = []
    lines: list[LogLine] = []
    async with asyncio.timeout(10):
        found = follow_logs(
            fake.settings(directory), **({"on_lost": lost.append, "on_remark": lost.append} | question)
        )
        async with aclosing(found) as heard:
            async for line in heard:
                lines.append(line)
                if len(lines) == count:
                    break
    return lines, lost


def tells(*pieces: bytes, then: Callable[[Peer, int], Any] | None = None, asks: int = 200) -> Script:
    """Answers the one question with these pieces, and does not end the answer."""

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        assert (asked.follow, asked.lines) == (True, asks)
        for piece in pieces:
            await peer.say(Answer(request=asked.request, data=piece, last=False))
        if then is not None:
            await then(peer, asked.request)
        await peer.websocket.wait_closed()

    return script


async def aborts(peer: Peer, request: int) -> None:
    await peer.websocket.ping()
    await (await peer.websocket.ping())  # what was said has arrived
    peer.websocket.transport.abort()


async def launcher_lost(peer: Peer, request: int) -> None:
    await peer.say(AnswerError(request=request, code="launcher_lost", message="it restarts"))


async def test_lines_come_as_they_are_written(tmp_path: Path) -> None:
    script = tells(log((1.0, "a"), (2.0, "b")), b"", log((3.0, "c"), stream="stderr"))
    async with fake_proxy(script, states=states("one")) as fake:
        lines, lost = await followed(fake, tmp_path, 3)
    assert lines == [
        LogLine("one", 1.0, "stdout", "p1", "a"),
        LogLine("one", 2.0, "stdout", "p1", "b"),
        LogLine("one", 3.0, "stderr", "p1", "c"),
    ]
    assert lost == []


@pytest.mark.parametrize(("then", "words"), [(aborts, "was lost"), (launcher_lost, "it restarts")])
async def test_a_lost_connection_is_taken_up_where_it_was(
    tmp_path: Path, then: Callable[[Peer, int], Any], words: str
) -> None:
    first = tells(log((1.0, "a"), (2.0, "b"), (2.0, "c")), then=then)
    again = tells(log((1.0, "a"), (2.0, "b"), (2.0, "c")), log((2.0, "d"), (3.0, "e")), asks=10_000)
    async with fake_proxy(first, again, states=states("one")) as fake:
        lines, lost = await followed(fake, tmp_path, 5)
    assert [line.text for line in lines] == list("abcde")
    assert len(lost) == 1
    assert words in lost[0]


async def test_a_replica_that_is_not_back_yet_is_waited_for(tmp_path: Path) -> None:
    async def leaves(peer: Peer, request: int) -> None:
        fake.states = states("two")
        await peer.say(AnswerError(request=request, code="replica_lost", message="gone"))

    async def returns(peer: Peer) -> None:
        fake.states = states("two", "one")
        await peer.websocket.wait_closed()

    first = tells(log((1.0, "a")), then=leaves)
    again = tells(log((1.0, "a"), (5.0, "b")), asks=10_000)
    async with fake_proxy(first, returns, again, states=states("one", "two")) as fake:
        lines, lost = await followed(fake, tmp_path, 2, replica="one")
    assert [line.text for line in lines] == ["a", "b"]
    assert "gone" in lost[0]
    assert "no replica 'one' is connected; there are: two" in lost[1]


async def test_several_replicas_are_followed_at_once(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        for number in range(2):
            asked = await peer.hear(GetLogs)
            await peer.say(
                Answer(request=asked.request, data=log((float(number), asked.replica)), last=False)
            )
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one", "two")) as fake:
        lines, _ = await followed(fake, tmp_path, 2)
    assert sorted((line.replica, line.text) for line in lines) == [("one", "one"), ("two", "two")]


async def test_a_log_that_is_over_ends_the_iteration(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetLogs)
        await peer.say(Answer(request=asked.request, data=log((1.0, "nothing is kept")), last=True))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        lines, lost = await followed(fake, tmp_path, 99)
        assert fake.connections == 1
    assert ([line.text for line in lines], lost) == (["nothing is kept"], [])


@pytest.mark.parametrize(
    ("code", "data", "words"), [("unsupported", b"", "update it"), ("", b"garbage\n", "cannot be read")]
)
async def test_what_asking_again_cannot_mend_is_raised(
    tmp_path: Path, code: str, data: bytes, words: str
) -> None:
    async def says(peer: Peer, request: int) -> None:
        if code:
            await peer.say(AnswerError(request=request, code=code, message="update it"))

    async with fake_proxy(tells(data, then=says), states=states("one")) as fake:
        with pytest.raises(ClientError, match=words):
            await followed(fake, tmp_path, 1)


async def test_a_proxy_that_was_never_there_is_raised(tmp_path: Path) -> None:
    async with fake_proxy(waits, states=states("one")) as fake:
        settings = fake.settings(tmp_path)
    with pytest.raises(ClientError, match="no proxy answers"):
        await anext(follow_logs(settings))


async def test_too_many_replicas_are_named(tmp_path: Path) -> None:
    many = states(*(f"r{number}" for number in range(MAX_FOLLOWED + 1)))
    async with fake_proxy(waits, states=many) as fake:
        with pytest.raises(ClientError, match=r"17 replicas, and only 16 .* r0, r1"):
            await followed(fake, tmp_path, 1)


async def test_a_follower_who_reads_slowly_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesync.client.app_log.QUEUED_LINES", 2)
    script = tells(*(log((float(number), str(number))) for number in range(100)))
    async with fake_proxy(script, states=states("one")) as fake:
        lines, _ = await followed(fake, tmp_path, 100)
    assert [line.text for line in lines] == [str(number) for number in range(100)]


async def test_a_push_that_nothing_is_remembered_of_is_told_beside_the_lines_once(tmp_path: Path) -> None:
    first = tells(b"", UNKNOWN + log((1.0, "a")), then=launcher_lost)
    again = tells(UNKNOWN + log((1.0, "a")), log((2.0, "b")), asks=10_000)
    async with fake_proxy(first, again, states=states("one")) as fake:
        lines, told = await followed(fake, tmp_path, 2, since_push="p9")
    assert [line.text for line in lines] == ["a", "b"]
    assert told == [NOT_REMEMBERED, "replica one did not tell its log: it restarts"]
