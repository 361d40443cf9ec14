"""Signals are events, whichever thread the kernel gives them to."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from codesync.supervise import Loop, Signals

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def signals(loop: Loop) -> Iterator[Signals]:
    made = Signals(loop)
    yield made
    made.close()


def test_a_signal_wakes_a_wait(loop: Loop, signals: Signals) -> None:
    got: list[int] = []
    signals.on(USR1, got.append)
    threading.Timer(0.01, os.kill, (os.getpid(), USR1)).start()

    assert loop.wait(lambda: got, loop.clock() + 5)
    assert got == [USR1]


def test_a_signal_that_another_thread_gets_wakes_the_wait_too(loop: Loop, signals: Signals) -> None:
    got: list[int] = []
    signals.on(USR1, got.append)
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    assert other.ident is not None
    threading.Timer(0.01, signal.pthread_kill, (other.ident, USR1)).start()

    assert loop.wait(lambda: got, loop.clock() + 5)
    end.set()
    other.join()


def test_each_signal_goes_to_its_own_handler(loop: Loop, signals: Signals) -> None:
    got: list[str] = []
    signals.on(USR1, lambda _: got.append("one"))
    signals.on(USR2, lambda _: got.append("two"))
    os.kill(os.getpid(), USR2)
    assert loop.wait(lambda: got, loop.clock() + 5)
    os.kill(os.getpid(), USR1)

    assert loop.wait(lambda: len(got) == 2, loop.clock() + 5)
    assert got == ["two", "one"]


def test_closing_gives_the_former_handlers_back(loop: Loop) -> None:
    before = signal.getsignal(USR1)
    descriptors = set(os.listdir("/proc/self/fd"))
    made = Signals(loop)
    made.on(USR1, lambda _: None)
    made.close()

    assert signal.getsignal(USR1) == before
    assert set(os.listdir("/proc/self/fd")) == descriptors
