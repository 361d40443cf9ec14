"""The proxy as a process: started, used, stopped; real websockets on loopback, real files."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from codesync.errors import UserError
from codesync.protocol import (
    MAX_CHUNK,
    VERSIONS,
    Answer,
    Chunk,
    Close,
    EndRequest,
    GetManifest,
    Hello,
    Keep,
    Kept,
    Outcome,
    Progress,
    Stage,
    Staged,
    Timeouts,
    Tried,
    Try,
    Undo,
    Undone,
)
from codesync.proxy import serve
from tests.proxy.loopback import KEY, PATIENCE, Peer, Running, begin, ref, report, running_proxy, send, take

pytestmark = pytest.mark.anyio
READY = "/api/v1/push/ide/shop/dev/ready"
KEY_HEADER = f"X-Api-Key: {KEY}"


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


# -- a push ----------------------------------------------------------------------------------------------------------


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
    (tmp_path / "data" / "deployments").mkdir()
    (tmp_path / "data" / "deployments" / "shop").touch()
    async with proxy.sidecar() as sidecar, proxy.ide() as ide:
        await begin(ide)
        await send(ide, b"batch")
        await sidecar.hear(Stage)
        await sidecar.hear(Undo)
        await sidecar.say(Undone(push_id="p1", report=report(status="rolled_back")))
        outcome = await ide.hear(Outcome)
    assert outcome.error is not None
    assert "disk failed" in outcome.error.message


async def test_no_app_id_collides_with_what_the_proxy_has_for_itself(proxy: Running) -> None:
    for path in ("lock/dev", ".lock/dev", "deployments/dev"):
        async with proxy.sidecar(path=path) as sidecar, proxy.ide(path) as ide:
            await begin(ide)
            await send(ide, b"batch")
            assert await take(sidecar) == b"batch"
            assert (await ide.hear(Outcome)).status == "healthy"


async def test_a_deployment_whose_directory_cannot_be_read_says_so_until_it_is_mended(
    tmp_path: Path, proxy: Running, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "data" / "deployments" / "shop" / "dev" / "00000001.batch"
    in_the_way.mkdir(parents=True)
    async with proxy.connected("ide") as ide:
        code, _, said = await ide.closing()
    assert (code, said and said.code) == (Close.INTERNAL, "unsupported")
    async with proxy.connected("sidecar") as sidecar:
        assert (await sidecar.closing())[::2] == (Close.INTERNAL, None)
    assert "shop/dev: cannot be opened" in caplog.text
    in_the_way.rmdir()
    async with proxy.sidecar(), proxy.ide() as ide:
        await begin(ide)


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
        assert (await sidecar.hear(EndRequest)).request == asked.request
        async with proxy.ide() as other:
            await begin(other)
            await sidecar.hear(Stage)


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
