"""The disk of one deployment: spools of the push that is being received, batches that were kept, their index.

    <data directory>/deployments/<app_id>/<deployment_id>/index.json, 00000001.batch, …, <random>.part

All writing happens on one worker, in the order it was asked for; whoever needs it done awaits the future. What the
index names is whole: a batch is synced before the index that names it, and both are put in place by a rename.
"""

import asyncio
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from codesync.protocol import MAX_CHUNK
from codesync.proxy.chain import Chain, ChainError
from codesync.proxy.events import Spooled

log = logging.getLogger("codesync.proxy")

_NAME = re.compile(r"[0-9]{8,}\.batch", re.ASCII)
_INDEX = "index.json"


_Job = tuple[Callable[[], object], Callable[[], None], asyncio.Future[None]]


class Content:
    """Bytes on disk that may still grow: read at any offset up to `size`; `complete` when no more will come.

    `listeners` are called in the event loop whenever there is more to read.
    """

    def __init__(self) -> None:
        self.size = 0
        self.complete = False
        self.listeners: set[Callable[[], None]] = set()
        self.fd = -1
        self.users = 1

    async def read(self, offset: int) -> bytes:
        """At most MAX_CHUNK bytes from `offset`; fewer only where `size` ends."""
        return await asyncio.to_thread(os.pread, self.fd, min(MAX_CHUNK, self.size - offset), offset)


class Store:
    """One deployment's directory, made when first needed. Its methods are called in the event loop and do not block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spools: dict[Spooled, Content] = {}
        self._parts: dict[Content, Path] = {}
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def load(self) -> Chain:
        """The chain as the index tells, less what is not there any more. Blocks, shortly. OSError."""
        try:
            chain = Chain.from_json(json.loads((self._directory / _INDEX).read_bytes()))
        except FileNotFoundError:
            chain = Chain()
        except (OSError, ValueError, ChainError) as error:
            log.warning("kept batches in %s are given up: %s", self._directory, error)
            chain = Chain()
        present = set(os.listdir(self._directory)) if self._directory.is_dir() else set()
        chain.drop_missing({name for name in present if _NAME.fullmatch(name)})
        for name in present - chain.names() - {_INDEX}:
            (self._directory / name).unlink(missing_ok=True)
        return chain

    async def close(self) -> None:
        """Finish what was asked for; spools are removed."""
        for spooled in list(self._spools):
            self.drop(spooled.push_id)
        await self._jobs.join()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            self._worker = None

    # -- spools ------------------------------------------------------------------------------------------------------

    def spool(self, spooled: Spooled) -> Content:
        """The spool of that name, empty if it is new."""
        return self._spools.setdefault(spooled, Content())

    def append(self, spooled: Spooled, data: bytes, *, last: bool) -> asyncio.Future[None]:
        """Add to a spool. The future is done when it is written; OSError."""
        content = self.spool(spooled)

        def write() -> None:
            if content.fd < 0:
                self._create(content)
            view = memoryview(data)
            while view:
                view = view[os.write(content.fd, view) :]

        def written() -> None:
            content.size += len(data)
            content.complete = last
            for listener in list(content.listeners):
                listener()

        return self._ask(write, written)

    def drop(self, push_id: str) -> None:
        """Remove the spools of a push."""
        for content in self._pop(push_id).values():
            self.release(content)

    def keep(
        self, push_id: str, names: Mapping[int, str], index: Mapping[str, object], evicted: tuple[str, ...]
    ) -> asyncio.Future[None]:
        """Spools become batches of the store; then the index is replaced, then what it names no more is removed."""
        spools = self._pop(push_id)

        def move() -> None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number, name in names.items():
                if name not in evicted:
                    os.fsync(spools[number].fd)
                    os.replace(self._parts[spools[number]], self._directory / name)
                    del self._parts[spools[number]]
            self._write_index(index)
            for name in evicted:
                (self._directory / name).unlink(missing_ok=True)

        future = self._ask(move)
        for content in spools.values():
            self.release(content)  # done after the move, and also when that fails
        return future

    def _pop(self, push_id: str) -> dict[int, Content]:
        mine = [spooled for spooled in self._spools if spooled.push_id == push_id]
        return {spooled.batch: self._spools.pop(spooled) for spooled in mine}

    # -- reading -----------------------------------------------------------------------------------------------------

    def acquire(self, spooled: Spooled) -> Content:
        """A spool, to read what it has and what it gets. Release it."""
        content = self.spool(spooled)
        content.users += 1
        return content

    async def open(self, name: str) -> Content:
        """A kept batch. OSError when it is not there any more. Release it."""
        content = Content()
        content.fd = await asyncio.to_thread(
            os.open, self._directory / _checked(name), os.O_RDONLY | os.O_CLOEXEC
        )
        content.size, content.complete = os.fstat(content.fd).st_size, True
        return content

    def release(self, content: Content) -> None:
        """Not needed by this user any more. With the last one the file is closed, and removed if it is a spool's."""
        content.users -= 1
        if content.users == 0:
            self._ask(lambda: self._remove(content))

    def _remove(self, content: Content) -> None:
        part = self._parts.pop(content, None)
        if part is not None:
            part.unlink(missing_ok=True)
        if content.fd >= 0:
            os.close(content.fd)
            content.fd = -1

    # -- the worker --------------------------------------------------------------------------------------------------

    def _create(self, content: Content) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._directory / f"{secrets.token_hex(8)}.part"
        content.fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._parts[content] = part

    def _write_index(self, index: Mapping[str, object]) -> None:
        draft = self._directory / f"{secrets.token_hex(8)}.part"
        try:
            with open(draft, "xb") as file:
                file.write(json.dumps(index).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._directory / _INDEX)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _ask(
        self, job: Callable[[], object], done: Callable[[], None] = lambda: None
    ) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        future: asyncio.Future[None] = loop.create_future()
        self._jobs.put_nowait((job, done, future))
        return future

    async def _work(self) -> None:
        while True:
            job, done, future = await self._jobs.get()
            try:
                await asyncio.to_thread(job)
                done()
                _settle(future, None)
            except Exception as error:  # whatever it is, it belongs to whoever asked
                log.warning("disk: %s", error)
                _settle(future, error)
            self._jobs.task_done()


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # whoever asked was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # logged already, if nobody is there to look


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise FileNotFoundError(f"{name!r:.40} is no name of a kept batch")
    return name
