"""One queue of events with one consumer.

Threads only post; whatever they post runs in the consumer, inside `wait`. So state needs no locks, and a sequence of
steps reads from top to bottom: do something, `wait` for a condition, go on.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Event = tuple[Callable[..., Any], tuple[Any, ...]]  # what to call, and with what

T = TypeVar("T")


class Loop:
    """The queue. `clock` gives seconds that only grow; every deadline is one of its readings.

    A test may give both: a clock, and a queue whose `get` lets that clock pass instead of waiting.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, events: queue.SimpleQueue[Event] | None = None
    ) -> None:
        self.clock = clock
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue() if events is None else events

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have the consumer call `callback(*args)`. From any thread."""
        self._queue.put((callback, args))

    def wait(self, ready: Callable[[], Any], until: float | None = None) -> bool:
        """Consume events until `ready()`; False when the clock reached `until` first, and no event is left.

        `ready` is asked at once and after each event. Callbacks record what happened and never wait themselves.
        """
        while not ready():
            patience = None if until is None else max(0.0, until - self.clock())
            try:
                callback, args = self._queue.get(timeout=patience)
            except queue.Empty:
                if until is not None and self.clock() >= until:
                    return bool(ready())
                continue
            callback(*args)
        return True

    def run(
        self, work: Callable[[threading.Event], T], then: Callable[[Job[T]], None] | None = None
    ) -> Job[T]:
        """Do `work(cancelled)` in a thread of its own; wait for `job.done`, or have the consumer call `then(job)`."""
        job: Job[T] = Job(then)
        threading.Thread(target=self._work, args=(job, work), daemon=True).start()
        return job

    def _work(self, job: Job[T], work: Callable[[threading.Event], T]) -> None:
        result, error = None, None
        try:
            result = work(job.cancelled)
        except BaseException as caught:  # whatever it is, it belongs to whoever asks for the result
            error = caught
        self.post(job.finish, result, error)


class Job(Generic[T]):
    """Work in a thread. `cancelled` asks it to end early; it is over when `done`."""

    def __init__(self, then: Callable[[Job[T]], None] | None) -> None:
        self.cancelled = threading.Event()
        self._then = then
        self.done = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def finish(self, result: T | None, error: BaseException | None) -> None:
        """Take the outcome; called by the loop."""
        self._result, self._error, self.done = result, error, True
        if self._then is not None:
            self._then(self)

    def result(self) -> T:
        """What the work returned. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # None only where T allows it
