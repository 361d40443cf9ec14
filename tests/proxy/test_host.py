"""Peers that mean harm, or are confused: only documented answers, no traces in the log, nobody else is disturbed."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codesync.protocol import (
    VERSIONS,
    Begin,
    Close,
    Error,
    Granted,
    Hello,
    ReplicaState,
    Side,
    Staged,
    Timeouts,
    encode,
)
from codesync.proxy.coordinator import Deployment
from codesync.proxy.events import Command, Event, Opened, Woken
from codesync.proxy.gate import Door, Keys
from codesync.proxy.host import Host
from codesync.proxy.metrics import Metrics
from codesync.proxy.server import Proxy
from tests.protocol.examples import EXAMPLES
from tests.proxy.loopback import KEY, Running, ref, running_proxy

pytestmark = pytest.mark.anyio
READY = "/api/v1/push/ide/shop/dev/ready"
KEY_HEADER = f"X-Api-Key: {KEY}"


@pytest.mark.parametrize(
    ("data", "code", "close"),
    [
        (b"", "bad_message", Close.BAD_MESSAGE),
        (b"\xc1", "bad_message", Close.BAD_MESSAGE),
        (b"\x80", "bad_message", Close.BAD_MESSAGE),
        ("text", "bad_message", Close.BAD_MESSAGE),
        (b"\x91" * 100_000, "bad_message", Close.BAD_MESSAGE),
        (b"\xdd\xff\xff\xff\xff", "bad_message", Close.BAD_MESSAGE),
        (bytes(600 * 1024), "too_large", Close.TOO_LARGE),
        (encode(Staged(push_id="p")), "bad_message", Close.BAD_MESSAGE),
        (encode(Hello(versions=(9,), software="x")), "version", Close.VERSION),
    ],
    ids=["empty", "garbage", "no type", "text", "deep", "huge list", "large", "no hello", "version"],
)
async def test_what_is_no_message_is_answered_and_closed(
    proxy: Running, data: bytes | str, code: str, close: int
) -> None:
    async with proxy.connected("ide") as peer:
        await peer.websocket.send(data)
        found, _, said = await peer.closing()
    assert said is not None
    assert (said.code, found) == (code, close)
    assert (await proxy.get("/health"))[0] == 200


async def test_a_message_of_megabytes_is_not_taken_in(proxy: Running) -> None:
    async with proxy.connected("ide") as peer:
        try:
            await peer.websocket.send(bytes(4 * 1024 * 1024))
        except ConnectionClosed:
            pass
        assert (await peer.closing())[0] == Close.TOO_LARGE


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "", "x" * 129, "a\nb", "ä"])
async def test_ids_that_are_none_are_refused(proxy: Running, name: str) -> None:
    good = encode(Hello(versions=VERSIONS, software="x", replica=ReplicaState(id="r1", tree=ref(0))))
    head = bytes([0xA0 + len(name.encode())]) if len(name.encode()) < 32 else b"\xd9" + bytes([len(name)])
    bad = good.replace(b"\xa2id\xa2r1", b"\xa2id" + head + name.encode())
    assert bad != good
    async with proxy.connected("sidecar") as peer:
        await peer.websocket.send(bad)
        code, _, said = await peer.closing()
    assert code == Close.BAD_MESSAGE
    assert said is not None
    assert "hello.replica.id" in said.message


async def test_a_stranger_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, timeouts=Timeouts(hello=0.1)) as proxy, proxy.connected("ide") as peer:
        code, _, said = await peer.closing()
    assert code == Close.TIMEOUT
    assert said is not None
    assert "hello" in said.message


async def test_the_log_is_one_line_each_without_keys(
    proxy: Running, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "codesync")
    async with proxy.sidecar(), proxy.ide() as ide:
        await ide.say(Begin(push_id="p", source="a\nb", description="c\nd", source_tree_id=""))
        await ide.hear(Granted)
        await ide.websocket.send(encode(Error(code="x\ny", message="multi\nline", push_id="")))
        await ide.closing()
    await proxy.get(READY, "X-Api-Key: wrong-key")
    with pytest.raises(InvalidStatus):
        async with proxy.connected("ide", key="wrong-key"):
            pass
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("codesync")]
    assert len(lines) > 5
    assert not [line for line in lines if "\n" in line or KEY in line or "wrong-key" in line]
    assert not [record for record in caplog.records if record.exc_info or "defect" in record.getMessage()]
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("side", ["ide", "sidecar"])
async def test_no_message_at_a_wrong_moment_is_more_than_the_end_of_its_connection(
    proxy: Running, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "codesync")
    for name, message in EXAMPLES.items():
        async with proxy.ide() if side == "ide" else proxy.sidecar(name) as peer:
            await peer.say(message)
            await peer.websocket.close()
    assert (await proxy.get("/health"))[0] == 200
    assert "defect" not in caplog.text
    assert "cannot be said" not in caplog.text


# -- defects of our own ----------------------------------------------------------------------------------------------


class Failing(Deployment):
    """Fails after the first event of each kind; `woken` is set by the second Woken."""

    def __init__(self) -> None:
        super().__init__("shop", "dev", software="test", epoch=0.0, timeouts=Timeouts(hello=0.05))
        self.seen: list[type[Event]] = []
        self.woken = asyncio.Event()

    def receive(self, event: Event, now: float) -> list[Command]:
        self.seen.append(type(event))
        if self.seen.count(type(event)) == 1 and isinstance(event, Woken):
            raise RuntimeError("a defect")
        commands = super().receive(event, now)
        if isinstance(event, Woken):
            self.woken.set()
        if isinstance(event, Opened):
            raise RuntimeError("a defect")
        return commands


async def test_waits_end_though_the_coordinator_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("codesync.proxy.host._AFTER_DEFECT", 0.05)
    host = Host(
        "shop",
        "dev",
        tmp_path,
        software="test",
        timeouts=Timeouts(),
        metrics=Metrics(),
        neighbours=tuple,
    )
    host.deployment = failing = Failing()
    with pytest.raises(RuntimeError):
        host.feed(Opened(1, Side.IDE))
    async with asyncio.timeout(10):
        await failing.woken.wait()
    assert failing.idle
    assert "shop/dev: defect" in caplog.text
    await host.close()


# -- forgetting ------------------------------------------------------------------------------------------------------


async def test_a_deployment_is_opened_again_only_when_it_has_been_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesync.proxy.server._MAX_IDLE", 0)
    proxy, door, gate = (
        Proxy(Keys(()), tmp_path, Timeouts()),
        Door(Side.IDE, "shop", "dev"),
        threading.Event(),
    )
    first = await proxy._host(door)
    first._store._ask(gate.wait)
    forgetting = asyncio.create_task(proxy._forget_idle())
    opening = asyncio.create_task(proxy._host(door))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not opening.done()
    gate.set()
    async with asyncio.timeout(10):
        assert await opening is not first
        await forgetting
    await proxy.close()
