"""The proxy as a process meets it: real websockets on loopback, real files."""

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codesync.errors import UserError
from codesync.protocol import (
    MAX_CHUNK,
    VERSIONS,
    Answer,
    BatchRef,
    Begin,
    Chunk,
    Close,
    Error,
    GetManifest,
    Granted,
    Hello,
    Keep,
    Kept,
    Outcome,
    Progress,
    Push,
    ReplicaReport,
    ReplicaState,
    Stage,
    Staged,
    Timeouts,
    Tried,
    Try,
    Undo,
    Undone,
    encode,
)
from codesync.proxy import serve
from tests.proxy.loopback import KEY, PATIENCE, Peer, Running, ref, running_proxy

pytestmark = pytest.mark.anyio
READY = "/api/v1/push/ide/shop/dev/ready"
KEY_HEADER = f"X-Api-Key: {KEY}"


@pytest.fixture
async def proxy(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Running]:
    async with running_proxy(tmp_path / "data") as running:
        yield running


# -- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "insecure"), [("127.0.0.1", False), ("0.0.0.0", True), ("example.com", True)]
)
async def test_without_a_key_it_serves_loopback_only_and_only_when_told_to(host: str, insecure: bool) -> None:
    with pytest.raises(UserError, match="CODESYNC_API_KEY"):
        await serve(host=host, port=0, keys=["", " "], insecure=insecure)


async def test_insecure_on_loopback_needs_no_key(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, keys=(), insecure=True) as proxy:
        assert (await proxy.get(READY))[0] == 200


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}"):
            await serve(host="127.0.0.1", port=port, keys=[KEY], data_dir=str(tmp_path))


async def test_a_data_directory_belongs_to_one_proxy(tmp_path: Path, proxy: Running) -> None:
    with pytest.raises(UserError, match="another proxy uses it"):
        await serve(host="127.0.0.1", port=0, keys=[KEY], data_dir=str(tmp_path / "data"))


async def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another --data-dir"):
        await serve(host="127.0.0.1", port=0, keys=[KEY], data_dir=str(tmp_path / "file" / "data"))


# -- what is let in --------------------------------------------------------------------------------------------------


async def test_health_is_open(proxy: Running) -> None:
    assert await proxy.get("/health") == (200, '{"status": "ok"}\n')


async def test_ready_counts_replicas(proxy: Running) -> None:
    assert json.loads((await proxy.get(READY, KEY_HEADER))[1]) == {"ready": False, "replicas": 0}
    async with proxy.sidecar("r1"), proxy.sidecar("r2"):
        assert json.loads((await proxy.get(READY, KEY_HEADER))[1]) == {"ready": True, "replicas": 2}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 401),
        (("X-Api-Key: ",), 403),
        (("X-Api-Key: wrong",), 403),
        ((f"X-Api-Key: {KEY}x",), 403),
        ((f"X-Api-Key: {KEY[:-1]}",), 403),
        (("X-Api-Key: \xff\xfe",), 403),
        ((f"Authorization: Basic {KEY}",), 403),
        ((f"Authorization: {KEY}",), 403),
        ((KEY_HEADER, "X-Api-Key: wrong"), 403),
        ((KEY_HEADER, "Authorization: Bearer wrong"), 403),
        ((KEY_HEADER,), 200),
        ((f"x-api-KEY:   {KEY}  ",), 200),
        ((f"Authorization: bearer {KEY}",), 200),
        ((KEY_HEADER, f"Authorization: Bearer {KEY}"), 200),
    ],
)
async def test_a_key_is_wanted_and_must_be_right(
    proxy: Running, headers: tuple[str, ...], status: int
) -> None:
    for path in (READY, "/metrics"):
        found, body = await proxy.get(path, *headers)
        assert found == status
        assert status == 200 or (body.startswith("codesync: ") and body.count("\n") == 1 and KEY not in body)


async def test_a_key_in_the_address_is_no_key(proxy: Running) -> None:
    assert (await proxy.get(f"{READY}?api_key={KEY}"))[0] == 401


async def test_one_of_several_keys_is_enough(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, keys=("old", "new")) as proxy:
        for key in ("old", "new"):
            assert (await proxy.get(READY, f"X-Api-Key: {key}"))[0] == 200
        assert (await proxy.get(READY, "X-Api-Key: oldnew"))[0] == 403


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 403)])
@pytest.mark.parametrize("side", ["ide", "sidecar"])
async def test_a_websocket_is_refused_before_the_upgrade(
    proxy: Running, side: str, key: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with proxy.connected(side, key=key):
            pass
    assert caught.value.response.status_code == status
    assert b"CODESYNC_API_KEY" in (caught.value.response.body or b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthy",
        "/api/v1/push/ide/shop",
        "/api/v1/push/ide/shop/dev/",
        "/api/v1/push/ide/shop/dev/ready/",
        "/api/v1/push/sidecar/shop/dev/ready",
        "/api/v1/push/ide/../dev",
        "/api/v1/push/ide/./dev",
        "/api/v1/push/ide/shop/..",
        "/api/v1/push/ide/shop/a%2Fb",
        "/api/v1/push/ide/shop/%2e%2e",
        "/api/v1/push/ide//dev",
        "/api/v1/push/ide/shop/a\x00b",
        f"/api/v1/push/ide/shop/{'x' * 129}",
        "//api/v1/push/ide/shop/dev",
        "/API/v1/push/ide/shop/dev",
    ],
)
async def test_other_addresses_are_not_found(proxy: Running, path: str) -> None:
    status, body = await proxy.get(path, KEY_HEADER)
    assert status == 404
    assert body.startswith("codesync: ")


async def test_web_pages_are_not_let_in(proxy: Running) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with proxy.connected("ide", origin="http://127.0.0.1"):
            pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
async def test_other_methods_are_refused(proxy: Running, method: str) -> None:
    assert (await proxy.get("/health", method=method))[0] == 405


async def test_a_request_that_wants_no_websocket_is_told_so(proxy: Running) -> None:
    assert (await proxy.get("/api/v1/push/ide/shop/dev", KEY_HEADER))[0] == 426


async def test_metrics_tell_what_happened(proxy: Running) -> None:
    async with proxy.sidecar(), proxy.ide() as ide:
        await ide.say(Begin(push_id="p", source="me", description="", source_tree_id=""))
        await ide.hear(Granted)
        _, text = await proxy.get("/metrics", KEY_HEADER)
    assert "# TYPE codesync_connections gauge\n" in text
    assert 'codesync_connections{side="ide"} 1\n' in text
    assert "codesync_replicas 1\n" in text


# -- a push ----------------------------------------------------------------------------------------------------------


async def begin(ide: Peer, push_id: str = "p1", *, base: int = 0, target: int = 1) -> None:
    tree_id = ref(target).tree_id
    await ide.say(Begin(push_id=push_id, source="me", description="d", source_tree_id=tree_id))
    await ide.hear(Granted)
    await ide.say(Push(push_id=push_id, batches=(BatchRef(base=ref(base), target=ref(target)),)))


async def send(ide: Peer, data: bytes, push_id: str = "p1") -> None:
    pieces = [data[start : start + MAX_CHUNK] for start in range(0, len(data), MAX_CHUNK)] or [b""]
    for number, piece in enumerate(pieces, 1):
        await ide.say(Chunk(push_id=push_id, data=piece, last=number == len(pieces)))


def report(name: str = "r1", status: str = "healthy") -> ReplicaReport:
    return ReplicaReport(id=name, status=status, generation=1)


async def take(sidecar: Peer, name: str = "r1") -> bytes:
    """A replica's part in a healthy push; returns what it was sent."""
    stage = await sidecar.hear(Stage)
    batch = await sidecar.hear_batch()
    await sidecar.say(Staged(push_id=stage.push_id))
    await sidecar.hear(Try)
    await sidecar.say(Tried(push_id=stage.push_id, healthy=True, report=report(name)))
    await sidecar.hear(Keep)
    await sidecar.say(Kept(push_id=stage.push_id, report=report(name)))
    return batch


async def test_a_batch_arrives_at_every_replica_as_it_was_sent(proxy: Running) -> None:
    data = os.urandom(3 * MAX_CHUNK + 17)
    async with AsyncExitStack() as stack:
        sidecars = [await stack.enter_async_context(proxy.sidecar(f"r{n}")) for n in range(3)]
        ide = await stack.enter_async_context(proxy.ide())
        await begin(ide)
        await send(ide, data)
        batches = await asyncio.gather(*(take(sidecar, f"r{n}") for n, sidecar in enumerate(sidecars)))
        outcome = await ide.hear(Outcome)
    assert batches == [data] * 3
    assert (outcome.status, outcome.tree) == ("healthy", ref(1))


async def test_a_replica_that_reconnects_gets_the_batch_again(proxy: Running) -> None:
    data = os.urandom(2 * MAX_CHUNK)
    async with proxy.ide() as ide:
        async with proxy.sidecar() as sidecar:
            await begin(ide)
            await ide.say(Chunk(push_id="p1", data=data[:MAX_CHUNK], last=False))
            await sidecar.hear(Stage)
            await sidecar.hear(Chunk)
        async with proxy.sidecar() as sidecar:
            await ide.say(Chunk(push_id="p1", data=data[MAX_CHUNK:], last=True))
            assert await take(sidecar) == data
            assert (await ide.hear(Outcome)).status == "healthy"


async def test_a_client_that_goes_has_its_push_undone(proxy: Running) -> None:
    async with proxy.sidecar() as sidecar:
        async with proxy.ide() as ide:
            await begin(ide)
            await sidecar.hear(Stage)
        await sidecar.hear(Undo)
        await sidecar.say(Undone(push_id="p1", report=report(status="rolled_back")))
        async with proxy.ide() as ide:
            await begin(ide, "p2")
            await send(ide, b"batch", "p2")
            assert await take(sidecar) == b"batch"
            assert (await ide.hear(Outcome)).status == "healthy"


async def test_a_late_replica_is_given_what_was_kept_even_by_the_next_proxy(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, proxy.sidecar() as sidecar, proxy.ide() as ide:
        for number in (1, 2):
            await begin(ide, f"p{number}", base=number - 1, target=number)
            await send(ide, b"batch %d" % number, f"p{number}")
            await take(sidecar)
            await ide.hear(Outcome)
    async with running_proxy(tmp_path) as proxy, proxy.sidecar("late") as late:
        assert [await take(late, "late"), await take(late, "late")] == [b"batch 1", b"batch 2"]


async def test_a_second_connection_of_a_replica_replaces_the_first(proxy: Running) -> None:
    async with proxy.sidecar() as first, proxy.sidecar() as second:
        code, reason, said = await first.closing()
        assert (code, said and said.code) == (Close.REPLACED, "replaced")
        assert "r1" in reason
        async with proxy.ide() as ide:
            await begin(ide)
            await second.hear(Stage)


async def test_a_client_hears_only_the_latest_of_many_progresses_it_does_not_take(proxy: Running) -> None:
    async with proxy.sidecar() as sidecar, proxy.ide() as ide:
        await begin(ide)
        await sidecar.hear(Stage)
        for done in range(1000):
            await sidecar.say(Progress(push_id="p1", stage="apply", done=done, total=1000))
        while (await ide.hear(Progress)).done < 999:
            pass


async def test_a_disk_that_takes_nothing_fails_the_push(tmp_path: Path, proxy: Running) -> None:
    (tmp_path / "data" / "shop").touch()
    async with proxy.sidecar() as sidecar, proxy.ide() as ide:
        await begin(ide)
        await send(ide, b"batch")
        await sidecar.hear(Stage)
        await sidecar.hear(Undo)
        await sidecar.say(Undone(push_id="p1", report=report(status="rolled_back")))
        outcome = await ide.hear(Outcome)
    assert outcome.error is not None
    assert "disk failed" in outcome.error.message


# -- memory ----------------------------------------------------------------------------------------------------------

_SERVE = """
import asyncio, sys
from codesync.proxy import serve
asyncio.run(serve(host="127.0.0.1", port=0, keys=[sys.argv[2]], data_dir=sys.argv[1], on_ready=lambda port: print(port, flush=True)))
"""


async def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    chunks = 800  # of 256 KiB: 200 MiB
    command = [sys.executable, "-c", _SERVE, str(tmp_path), KEY]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        proxy = Running(port, asyncio.create_task(asyncio.sleep(0)))
        async with proxy.sidecar("slow") as slow, proxy.sidecar("fast") as fast, proxy.ide() as ide:
            await begin(ide)
            before = _peak_memory(process.pid)
            piece = os.urandom(MAX_CHUNK)
            counting = asyncio.create_task(_count(fast))
            for number in range(1, chunks + 1):
                await ide.say(Chunk(push_id="p1", data=piece, last=number == chunks))
            assert await counting == chunks
            # the slow one has read nothing so far
            assert await _count(slow) == chunks
            assert _peak_memory(process.pid) - before < 30 * 1024 * 1024
    finally:
        process.terminate()
        await process.wait()


async def _count(sidecar: Peer) -> int:
    await sidecar.hear(Stage)
    count = 1
    while not (await sidecar.hear(Chunk)).last:
        count += 1
    return count


def _peak_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) * 1024


async def test_whoever_takes_nothing_is_cut_off_and_harms_nobody(tmp_path: Path) -> None:
    async with (
        running_proxy(tmp_path, timeouts=Timeouts(slow_reader=0.3)) as proxy,
        proxy.sidecar() as sidecar,
    ):
        async with proxy.connected("ide", max_queue=1) as ide:
            await ide.say(Hello(versions=VERSIONS, software="test", source="me"))
            ide.websocket.transport.pause_reading()
            await ide.say(GetManifest(request=1, tree=ref(0)))
            asked = await sidecar.hear(GetManifest)
            for _ in range(100):  # 25 MiB into a connection that does not read
                await sidecar.say(Answer(request=asked.request, data=bytes(MAX_CHUNK), last=False))
            ide.websocket.transport.resume_reading()
            await ide.closing()
        async with proxy.ide() as other:
            await begin(other)
            await sidecar.hear(Stage)


# -- hostile peers ---------------------------------------------------------------------------------------------------


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


# -- stopping --------------------------------------------------------------------------------------------------------


async def test_a_trial_that_runs_when_it_stops_may_end(tmp_path: Path) -> None:
    async with (
        running_proxy(tmp_path) as proxy,
        proxy.sidecar() as sidecar,
        proxy.ide() as ide,
        proxy.ide() as idle,
    ):
        await begin(ide)
        await send(ide, b"batch")
        await sidecar.hear(Stage)
        await sidecar.hear_batch()
        await sidecar.say(Staged(push_id="p1"))
        await sidecar.hear(Try)
        proxy.task.cancel()
        assert (await idle.closing())[0] == Close.GOING_AWAY
        await sidecar.say(Tried(push_id="p1", healthy=True, report=report()))
        await sidecar.hear(Keep)
        await sidecar.say(Kept(push_id="p1", report=report()))
        assert (await ide.hear(Outcome)).status == "healthy"
        assert (await ide.closing())[0] == (await sidecar.closing())[0] == Close.GOING_AWAY
        await asyncio.wait([proxy.task], timeout=PATIENCE)
    async with running_proxy(tmp_path) as proxy, proxy.sidecar("late") as late:
        assert await take(late, "late") == b"batch"


async def test_it_stops_at_once_when_nothing_is_decided(proxy: Running) -> None:
    async with proxy.sidecar() as sidecar, proxy.ide() as ide:
        await begin(ide)
        await sidecar.hear(Stage)
        proxy.task.cancel()
        assert (await ide.closing())[0] == Close.GOING_AWAY
        await sidecar.hear(Undo)
        await sidecar.say(Undone(push_id="p1", report=report(status="rolled_back")))
        assert (await sidecar.closing())[0] == Close.GOING_AWAY
    await asyncio.wait([proxy.task], timeout=PATIENCE)
    assert proxy.task.cancelled()
