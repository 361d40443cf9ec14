"""The history of all replicas as one list: each push once, newest first; what a replica says is checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from codesync import client
from codesync.client import HISTORY_STEPS, ClientError, HistoryPush
from codesync.client.past import merged, read_history
from codesync.protocol import AnswerError, GetHistory, ReplicaState, TreeRef
from tests.client.fake import answer, fake_proxy
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio


def past(push_id: str, status: str = "healthy", **fields: Any) -> dict[str, Any]:
    return {
        "push_id": push_id,
        "generation": 1,
        "status": status,
        "at": 10.0,
        "source": "dev@laptop:/src",
        "description": "a change",
        "restores": "",
        "bytes": 100,
        "timings_ms": {"scan": 1, "apply": 5},
        "reason": "",
    } | fields


def read(*pushes: dict[str, Any]) -> list[HistoryPush]:
    return read_history(json.dumps(pushes).encode())


def test_a_push_is_read_with_every_field() -> None:
    (found,) = read(past("p1", restores="p0", reason="slow"))
    assert found == HistoryPush(
        "p1", 1, "healthy", 10.0, "dev@laptop:/src", "a change", "p0", 100, {"scan": 1, "apply": 5}, 1, "slow"
    )


def test_what_an_older_replica_leaves_out_has_its_default() -> None:
    assert read({"push_id": "p1", "status": "rolled_back", "future": [1]}) == [
        HistoryPush("p1", 0, "rolled_back", 0.0)
    ]


def test_pushes_of_several_replicas_are_told_once_and_newest_first() -> None:
    one = read(past("p1", at=10.0), past("p3", at=30.0, generation=2, bytes=7, timings_ms={"apply": 9}))
    two = read(
        past("p2", at=20.0), past("p3", "running", at=35.0, bytes=9, timings_ms={"apply": 4, "stop": 2})
    )
    found = merged([one, two])
    assert [(push.push_id, push.replicas) for push in found] == [("p3", 2), ("p2", 1), ("p1", 1)]
    assert (found[0].status, found[0].at, found[0].generation, found[0].bytes) == ("running", 30.0, 2, 9)
    assert found[0].timings_ms == {"apply": 9, "stop": 2}


@pytest.mark.parametrize(
    ("statuses", "status", "kept"),
    [
        (("healthy", "rolled_back"), "partial", 1),
        (("rolled_back", "healthy", "healthy"), "partial", 2),
        (("rolled_back", "failed"), "failed", 0),
        (("healthy", "unhealthy"), "unhealthy", 2),
    ],
)
def test_where_replicas_differ_the_push_is_partial(statuses: tuple[str, ...], status: str, kept: int) -> None:
    (found,) = merged([read(past("p1", one)) for one in statuses])
    assert (found.status, found.replicas) == (status, kept)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b"\xff",
        b'[{"push_id": "p", "status": "healthy", "at": NaN}]',
        b'[{"push_id": "p", "status": "healthy", "at": 1e400}]',
        json.dumps([past("../x")]).encode(),
        json.dumps([past("p", "marvellous")]).encode(),
        json.dumps([past("p", generation=-1)]).encode(),
        json.dumps([past("p", generation=True)]).encode(),
        json.dumps([past("p", bytes=1 << 60)]).encode(),
        json.dumps([past("p", at="now")]).encode(),
        json.dumps([past("p", source=["x"])]).encode(),
        json.dumps([past("p", description="x" * 70_000)]).encode(),
        json.dumps([past("p", timings_ms={str(n): n for n in range(100)})]).encode(),
        json.dumps([past("p", timings_ms={"apply": "fast"})]).encode(),
        json.dumps([past("p", timings_ms=[1])]).encode(),
        json.dumps([past("p", restores="a b")]).encode(),
        json.dumps([past(f"p{n}") for n in range(1001)]).encode(),
    ],
    ids=range(20),
)
def test_what_is_no_history_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ClientError, match="a replica's history cannot be read") as caught:
        read_history(data)
    assert caught.value.code == "bad_message"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def states(*names: str) -> tuple[ReplicaState, ...]:
    return tuple(ReplicaState(id=name, tree=TreeRef("0" * 64, "1" * 64)) for name in names)


async def test_every_replica_is_asked_and_one_that_does_not_answer_is_named(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            asked = await peer.hear(GetHistory)
            if asked.replica == "one":
                await answer(peer, asked.request, json.dumps([past("p1")]).encode())
            else:
                await peer.say(AnswerError(request=asked.request, code="replica_lost", message="it has gone"))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one", "two")) as fake:
        found = await client.history(fake.settings(tmp_path))
    assert (found.app_id, found.deployment_id) == ("shop", "test")
    assert [push.push_id for push in found.pushes] == ["p1"]
    missing = HISTORY_STEPS["missing"].format(
        replica="two", reason="replica two did not tell its history: it has gone"
    )
    assert found.next_step == f"{HISTORY_STEPS['some']} {missing}"


async def test_a_deployment_that_nothing_was_pushed_to_has_an_empty_history(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await answer(peer, (await peer.hear(GetHistory)).request, b"[]")
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        found = await client.history(fake.settings(tmp_path))
    assert (found.pushes, found.next_step) == ([], HISTORY_STEPS["none"])


async def test_nobody_to_ask_and_nobody_who_answers_are_errors(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetHistory)
        await peer.say(AnswerError(request=asked.request, code="timeout", message="silent"))
        await peer.websocket.wait_closed()

    async def waits(peer: Peer) -> None:
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=states("one")) as fake:
        with pytest.raises(ClientError, match="replica one did not tell its history: silent"):
            await client.history(fake.settings(tmp_path))
    async with fake_proxy(waits) as fake:
        with pytest.raises(ClientError, match="no sidecar is connected"):
            await client.history(fake.settings(tmp_path))


async def test_a_connection_that_is_lost_is_one_line(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear(GetHistory)
        peer.websocket.transport.abort()

    async with fake_proxy(script, states=states("one", "two")) as fake:
        with pytest.raises(ClientError, match="was lost") as caught:
            await client.history(fake.settings(tmp_path))
    assert caught.value.code == "lost"
