"""An agent: it calls the tools in this process, against a chain of real processes, and tells what it was answered.

A case is a function that brings one situation about and returns the answer to it; `docs/agents.md` has its name and text.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mcp import Client
from mcp_types import TextContent

from codesync import client
from codesync.client.session import open_session
from codesync.mcp_server import build
from codesync.protocol import Begin, Timeouts
from codesync.proxy import serve
from tests.chain.harness import KEY, Chain, content

SOURCE = "agent@desk:/src"
TEXTS = itertools.count(1)  # no two edits are the same


class Answer(NamedTuple):
    """`word` as in the second column of the document: the status of a push, the name of a tool, "error"."""

    word: str
    text: str


@dataclass
class Agent:
    """`chain` has one replica, `one`; every case begins with it ready, healthy and on the source's tree."""

    chain: Chain
    monkeypatch: pytest.MonkeyPatch
    tmp_path: Path
    last: dict[str, Any] = field(default_factory=dict)

    # --- calls -----------------------------------------------------------------------------------------------

    def call(self, tool: str, **arguments: Any) -> Answer:
        return asyncio.run(self.call_async(tool, **arguments))

    async def call_async(self, tool: str, **arguments: Any) -> Answer:
        async with Client(build()) as mcp:
            result = await mcp.call_tool(tool, arguments)
        (block,) = result.content
        assert isinstance(block, TextContent)
        if result.is_error:
            return Answer("error", block.text)
        assert result.structured_content
        self.last = result.structured_content
        return Answer(str(self.last.get("status", tool)), str(self.last["next_step"]))

    def push(self, **arguments: Any) -> Answer:
        return self.call("push_changes", **{"change_description": "a change", **arguments})

    # --- situations ------------------------------------------------------------------------------------------

    def edit(self, *, healthy: bool = True, code: str = "") -> None:
        """Change the application's code: to something new, with `code` behind it."""
        self.chain.write("content.py", content(f"text {next(TEXTS)}", healthy=healthy) + code)

    def breaks(self) -> None:
        self.chain.write("content.py", "raise RuntimeError('no such thing')\n")

    def hooks(self, hooks: str) -> None:
        self.chain.write(".codesync.json", f'{{"hooks": {hooks}}}')

    @contextmanager
    def launcher(self, *options: str, health: bool = True, running: bool = True) -> Iterator[None]:
        """Another launcher for a while, or none."""
        self.chain.kill("launcher-one")
        if running:
            self.chain.start_launcher("one", *options, health=health)
        self.chain.wait("the launcher's state", lambda: self._launcher_is("ready" if running else "absent"))
        try:
            yield
        finally:
            if running:
                self.chain.kill("launcher-one")
            self.chain.start_launcher()
            self.chain.wait("the launcher", lambda: self._launcher_is("ready"))

    def _launcher_is(self, state: str) -> bool | None:
        replicas = self.chain.status().replicas
        return True if [replica.launcher for replica in replicas] == [state] else None

    @contextmanager
    def crashing(self) -> Iterator[None]:
        """Code that is kept, and whose application has died of itself since."""
        mark = self.chain.replicas["one"].app / "die"
        class_ = "class Text(str):\n    def encode(self, *_):\n"
        dies = (
            f"        import os\n        return os.path.exists({str(mark)!r}) and os._exit(7) or b'lives'\n"
        )
        self.edit(code=f"{class_}{dies}TEXT = Text()\n")
        assert self.push().word == "healthy"
        mark.touch()
        self.chain.replicas["one"].ask()
        mark.unlink()

        def told() -> bool | None:
            return True if any(r.crashed_after for r in self.chain.status().replicas) else None

        self.chain.wait("the crash to be told", told)
        yield

    @contextmanager
    def kept_unhealthy(self) -> Iterator[None]:
        """Code that runs, is not healthy, and was kept all the same."""
        self.edit(healthy=False)
        with self.launcher("--on-failure", "keep", "--health-timeout", "1"):
            assert self.push().word == "failed"
            yield

    def elsewhere(self, **settings: str) -> None:
        """Other settings, until the end of the case."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"CODESYNC_{name.upper()}", value)

    @asynccontextmanager
    async def proxy(self, **options: Any) -> AsyncIterator[int]:
        """A proxy of its own in this process; the settings name it."""
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        service = serve(
            host="127.0.0.1",
            port=0,
            keys=[KEY],
            data_dir=str(self.tmp_path / "proxy"),
            on_ready=ready.set_result,
            timeouts=Timeouts(**options),
        )
        task = asyncio.create_task(service)
        try:
            port = await asyncio.wait_for(ready, 10)
            self.elsewhere(proxy_url=f"http://127.0.0.1:{port}")
            yield port
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def somebody_pushes(self, **settings: str) -> AsyncIterator[None]:
        """Another client holds the deployment."""
        theirs = self.chain.settings(source="eve@desk:/src", **settings)
        async with open_session(theirs, lambda _: None) as session:
            begin = Begin(push_id="theirs", source="eve@desk:/src", description="", source_tree_id="0" * 64)
            await session.send(begin)
            await session.wait(session.granted, "lease")
            yield


Case = Callable[[Agent], Answer]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Name the situation that a function brings about."""

    def register(function: Case) -> Case:
        assert name not in CASES
        CASES[name] = function
        return function

    return register


def begin(agent: Agent) -> None:
    """One replica, ready, healthy, on the source's tree; the settings are the chain's."""
    for name, value in agent.chain.environ().items():
        if name.startswith(("CODESYNC_", "XDG_")):
            agent.monkeypatch.setenv(name, value)
    agent.monkeypatch.setenv("CODESYNC_SOURCE", SOURCE)
    agent.monkeypatch.chdir(agent.chain.source)
    (agent.chain.source / ".codesync.json").unlink(missing_ok=True)
    agent.edit()
    pushed = asyncio.run(
        client.push(agent.chain.settings(source=SOURCE), description="begin", take_over=True)
    )
    assert pushed.status == "healthy", pushed
