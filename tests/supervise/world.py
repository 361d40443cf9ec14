"""Time and processes that a test writes down: nothing in here waits, and nothing runs.

`Script` is the loop's queue: where the real one would wait for an event, it lets the clock pass to the next one that was
written down. `Table` is the table of processes, in which a process does what its `Fate` says.
"""

import heapq
import itertools
import queue
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codesync.supervise import Application, Check, Children, Exit, Loop, Process
from codesync.supervise.health import Prober

Event = tuple[Callable[..., Any], tuple[Any, ...]]


class Script(queue.SimpleQueue[Event]):
    """Events, each at its time; `now` is the reading of the clock, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._posted: deque[Event] = deque()
        self._written: list[tuple[float, int, Event]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now

    def after(self, seconds: float, happen: Callable[..., Any], *args: Any) -> None:
        heapq.heappush(self._written, (self.now + seconds, next(self._order), (happen, args)))

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        self._posted.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Event:
        if self._posted:
            return self._posted.popleft()
        if self._written and (timeout is None or self._written[0][0] <= self.now + timeout):
            self.now, _, event = heapq.heappop(self._written)
            return event
        assert timeout is not None, "nothing would ever happen again"
        self.now += timeout
        raise queue.Empty


@dataclass
class Fate:
    """What a process does: `dies` says how many seconds after a signal; a signal that is not there is ignored.

    `exits` is what it exits with by itself, and when. KILL ends it, unless the kernel itself waits for something.
    """

    dies: Mapping[int, float] = field(default_factory=lambda: {signal.SIGTERM: 0.0, signal.SIGINT: 0.0})
    exits: tuple[float, int] | None = None
    unkillable: bool = False
    forks_when_killed: bool = False


@dataclass
class Fake:
    """A process. `tells`: its exit reaches us as an event, because we are its parent."""

    pid: int
    session: int
    fate: Fate
    tells: Callable[[Exit], None] | None
    holds_output: bool = True
    alive: bool = True


class Table(Children):
    """`fates` are those of the processes that are going to be spawned; `sent`: when a session was sent which signal."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.fates: deque[Fate] = deque()
        self.sent: list[tuple[float, int]] = []
        self.processes: dict[int, Fake] = {}
        self._heard: dict[int, Callable[[int, bytes], None]] = {}
        self._pids = itertools.count(100)

    def spawn_heard(
        self,
        command: Sequence[str],
        on_exit: Callable[[Exit], None],
        heard: Callable[[int, bytes], None],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int | None = None,
    ) -> int:
        pid = next(self._pids)
        self._heard[pid] = heard
        self._add(Fake(pid, pid, self.fates.popleft() if self.fates else Fate(), on_exit))
        return pid

    def fork(self, leader: int, fate: Fate, *, daemon: bool = False) -> int:
        """Another process of that session, or a daemon in its own: it has the same output, and nobody tells its exit."""
        pid = next(self._pids)
        self._add(Fake(pid, pid if daemon else leader, fate, None))
        if daemon:
            self._heard[pid] = self._heard[leader]
        return pid

    def _add(self, process: Fake) -> None:
        self.processes[process.pid] = process
        if process.fate.exits is not None:
            after, code = process.fate.exits
            self.script.after(after, self.end, process.pid, Exit(code, None))

    def write(self, pid: int, stream: int, data: bytes) -> None:
        self._heard[self.processes[pid].session](stream, data)

    def close_output(self, pid: int) -> None:
        """It closes stdout and stderr; their end is heard when nobody else holds them."""
        self.processes[pid].holds_output = False
        heard = self._heard[self.processes[pid].session]
        if not any(
            other.holds_output and self._heard[other.session] is heard for other in self.processes.values()
        ):
            heard(1, b"")
            heard(2, b"")

    def end(self, pid: int, how: Exit) -> None:
        process = self.processes[pid]
        if process.alive:
            process.alive = False
            if process.holds_output:
                self.close_output(pid)
            if process.tells:
                process.tells(how)

    # --- what the application does ---------------------------------------------------------------------------

    def signal(self, pid: int, number: int) -> None:
        process = self.processes[pid]
        fate = process.fate
        if number == signal.SIGKILL and fate.forks_when_killed:
            self.fork(process.session, Fate())
        delay = fate.dies.get(number)
        if number == signal.SIGKILL:
            delay = None if fate.unkillable else 0.0
        if delay is not None:
            self.script.after(delay, self.end, pid, Exit(None, number))

    def signal_session(self, leader: int, number: int) -> None:
        assert self.session_lives(leader), "that number may be somebody else's by now"
        self.sent.append((self.script.now, number))
        for pid in self.members(leader):
            self.signal(pid, number)

    def members(self, leader: int) -> frozenset[int]:
        found = (process for process in self.processes.values() if process.session == leader)
        return frozenset(process.pid for process in found if process.alive)

    def session_lives(self, leader: int) -> bool:
        return bool(self.members(leader))


class ScriptedCheck(Check):
    """Passes so many seconds after it was first asked; `asked` counts how often somebody began to."""

    def __init__(self, script: Script, passes_after: float | None) -> None:
        super().__init__("written down")
        self.passes_after = passes_after
        self.asked = 0
        self._script = script

    def probe(self, cancelled: object, env: object) -> str:
        return "nobody asks"

    def watch(self, env: Mapping[str, str], passed: Callable[[Prober], None]) -> Prober:
        self.asked += 1
        prober = Prober(self, env, passed)
        if self.passes_after is not None:
            self._script.after(self.passes_after, passed, prober)
        return prober


class World:
    """Applications in such a world; `states` are those of all, in order, each with its time."""

    def __init__(self) -> None:
        self.script = Script()
        self.loop = Loop(self.script.clock, self.script)
        self.table = Table(self.script)
        self.states: list[tuple[float, str]] = []
        self.heard: list[tuple[int, bytes]] = []

    def app(self, *, passes_after: float | None = None, stop_seconds: float = 10.0) -> Application:
        app = Application(
            self.loop,
            self.table,
            command=["application"],
            cwd="/",
            check=ScriptedCheck(self.script, passes_after),
            stop_seconds=stop_seconds,
            heard=lambda stream, chunk: self.heard.append((stream, chunk)),
        )
        app.changed = lambda: self.states.append((self.script.now, app.state))
        return app

    def start(self, fate: Fate | None = None, **options: Any) -> tuple[Application, Process]:
        app = self.app(**options)
        return app, self.start_again(app, fate)

    def start_again(self, app: Application, fate: Fate | None = None) -> Process:
        self.table.fates.append(fate or Fate())
        return app.start({})

    def let(self, seconds: float) -> None:
        """Let that time pass, with all that happens in it."""
        self.loop.wait(lambda: False, self.script.now + seconds)

    @property
    def now(self) -> float:
        return round(self.script.now, 6)
