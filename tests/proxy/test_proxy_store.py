"""Spools and kept batches on a real disk: in order, whole, and gone when nobody needs them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codesync.proxy.chain import Chain, Edge, KeptPush
from codesync.proxy.events import Spooled
from codesync.proxy.store import Store
from tests.proxy.loopback import ref

pytestmark = pytest.mark.anyio

SPOOL = Spooled("p1", 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "shop" / "dev"


@pytest.fixture
async def store(directory: Path, anyio_backend: str) -> AsyncIterator[Store]:
    store = Store(directory)
    yield store
    await store.close()


def chain_of(*names: str) -> Chain:
    chain = Chain()
    for number, name in enumerate(names):
        edge = Edge(base=ref(number), target=ref(number + 1), name=name, size=5)
        push = KeptPush(
            push_id=f"p{number}",
            source="",
            description="",
            source_tree_id="",
            at=0.0,
            status="healthy",
            edges=(edge,),
        )
        chain.add(push, [ref(number + 1)])
    return chain


async def keep(store: Store, name: str, data: bytes, *evicted: str, names: tuple[str, ...] = ()) -> None:
    await store.append(SPOOL, data, last=True)
    await store.keep("p1", {0: name}, chain_of(*(names or (name,))).to_json(), evicted)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


async def test_a_spool_is_read_while_it_grows(store: Store) -> None:
    content = store.acquire(SPOOL)
    grown: list[int] = []
    content.listeners.add(lambda: grown.append(content.size))
    await store.append(SPOOL, b"hello ", last=False)
    assert (await content.read(0), content.complete) == (b"hello ", False)
    await store.append(SPOOL, b"world", last=True)
    assert (await content.read(3), content.complete) == (b"lo world", True)
    assert grown == [6, 11]
    store.release(content)


async def test_what_is_asked_for_is_done_in_order(store: Store) -> None:
    writes = [store.append(SPOOL, b"%d," % number, last=number == 99) for number in range(100)]
    await asyncio.gather(*writes)
    content = store.acquire(SPOOL)
    assert await content.read(0) == b"".join(b"%d," % number for number in range(100))
    store.release(content)


async def test_a_dropped_spool_leaves_nothing(store: Store, directory: Path) -> None:
    await store.append(SPOOL, b"data", last=False)
    assert [name.endswith(".part") for name in names(directory)] == [True]
    store.drop("p1")
    await store.close()
    assert names(directory) == []


async def test_a_spool_that_is_still_read_is_there_until_it_is_released(
    store: Store, directory: Path
) -> None:
    await store.append(SPOOL, b"data", last=True)
    content = store.acquire(SPOOL)
    store.drop("p1")
    assert await content.read(0) == b"data"
    store.release(content)
    await store.close()
    assert names(directory) == []


async def test_a_spool_of_the_same_name_is_a_new_one(store: Store) -> None:
    await store.append(SPOOL, b"old", last=True)
    store.drop("p1")
    content = store.acquire(SPOOL)
    await store.append(SPOOL, b"new", last=True)
    assert await content.read(0) == b"new"
    store.release(content)


async def test_a_kept_batch_is_there_for_the_next_proxy(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"batch")
    await store.close()
    other = Store(directory)
    assert other.load() == chain_of("00000001.batch")
    content = await other.open("00000001.batch")
    assert (await content.read(0), content.complete) == (b"batch", True)
    other.release(content)
    await other.close()
    assert names(directory) == ["00000001.batch", "index.json"]


async def test_evicted_batches_are_removed(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"one")
    await keep(store, "00000002.batch", b"two", "00000001.batch")
    assert names(directory) == ["00000002.batch", "index.json"]


async def test_a_batch_that_is_too_large_to_keep_is_not_kept(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"one", "00000001.batch")
    await store.close()
    assert names(directory) == ["index.json"]


async def test_a_kept_batch_that_is_being_read_may_be_evicted(store: Store) -> None:
    await keep(store, "00000001.batch", b"one")
    content = await store.open("00000001.batch")
    await keep(store, "00000002.batch", b"two", "00000001.batch")
    assert await content.read(0) == b"one"
    store.release(content)


@pytest.mark.parametrize(
    "name", ["../index.json", "index.json", "/etc/passwd", "00000009.batch", "", "1.batch"]
)
async def test_only_kept_batches_can_be_opened(store: Store, name: str) -> None:
    await keep(store, "00000001.batch", b"one")
    with pytest.raises(OSError):
        await store.open(name)


async def test_what_a_crash_left_is_removed_at_the_next_start(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"one")
    (directory / "0123456789abcdef.part").write_bytes(b"half")
    (directory / "00000007.batch").write_bytes(b"not in the index")
    assert store.load().names() == {"00000001.batch"}
    assert names(directory) == ["00000001.batch", "index.json"]


async def test_a_batch_that_is_gone_is_forgotten(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"one", names=("00000001.batch", "00000002.batch"))
    assert store.load().names() == {"00000001.batch"}


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"[]", b"{}", b'{"version": 2}', b"\xff", json.dumps(chain_of("x").to_json()).encode()[:-20]],
)
async def test_a_damaged_index_is_given_up(
    store: Store, directory: Path, index: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(store, "00000001.batch", b"one")
    (directory / "index.json").write_bytes(index)
    assert store.load() == Chain()
    assert "given up" in caplog.text


async def test_a_disk_that_refuses_tells_whoever_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "dev")
    with pytest.raises(OSError):
        await store.append(SPOOL, b"data", last=False)
    with pytest.raises(OSError):
        await store.keep("p1", {0: "00000001.batch"}, {}, ())
    await store.close()
    assert "disk: " in caplog.text


async def test_directories_are_private(store: Store, directory: Path) -> None:
    await keep(store, "00000001.batch", b"one")
    assert mode(directory) == 0o700
    assert mode(directory / "00000001.batch") == 0o600


def open_below(directory: Path) -> list[str]:
    opened = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    return sorted(path for path in opened if path.startswith(str(directory)))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_an_index_that_cannot_be_written_leaves_no_open_file(store: Store, directory: Path) -> None:
    (directory / "index.json" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        await keep(store, "00000001.batch", b"one")
    await store.close()
    assert open_below(directory) == []
    assert names(directory) == ["00000001.batch", "index.json"]
