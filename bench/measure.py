"""CPU and wall time of processes and calls, ours and the references' in turns. This file knows no workload and no tool.

A process's CPU time is its own and that of all it has waited for, so rsync's three count as one. What is started is
ended, by its group, whatever stops us.
"""

import os
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class Failed(Exception):
    """A command that was to be measured did not do what it should."""


class Sample(NamedTuple):
    """Seconds of one run, and what it printed."""

    cpu: float
    wall: float
    told: str = ""


class Contender(NamedTuple):
    """What is measured, and what is done before each run without being measured."""

    run: Callable[[], Sample]
    prepare: Callable[[], object] = int


def run(command: Sequence[str | Path], cwd: Path = ROOT) -> Sample:
    """Run a command to its end. Raises Failed unless it exits with 0."""
    begin, process = perf_counter(), None
    try:
        with _uninterrupted():
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=_environ(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdout is not None
        told = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    except BaseException:  # an interrupt too: nothing of ours may go on
        if process is not None:
            _end(process)
        raise
    if process.returncode:
        last = told.strip().splitlines()[-1:] or ["it printed nothing"]
        raise Failed(f"{Path(command[0]).name} ended with {process.returncode}: {last[0]}")
    return Sample(usage.ru_utime + usage.ru_stime, wall, told)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """An interrupt waits until the end of this: one within Popen would leave a child that nobody knows."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process with all that it has started; they are gone when nobody has its output open any more."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None and not process.stdout.closed:
        with process.stdout:
            process.stdout.read()


def _environ() -> dict[str, str]:
    """Ours, without what would make a reference behave in another way than its defaults."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("RSYNC_", "GIT_"))}
    return ours | {"LC_ALL": "C", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def call(function: Callable[[], object]) -> Sample:
    """Run a function in this process."""
    wall, cpu = perf_counter(), process_time()
    function()
    return Sample(process_time() - cpu, perf_counter() - wall)


def interleave(
    contenders: Mapping[str, Contender | None], runs: int, warm_up: int = 1
) -> dict[str, list[Sample]]:
    """A B A B …: `runs` samples of each after `warm_up` that are dropped; none of one that is None (missing)."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(warm_up + runs):
        for name, contender in contenders.items():
            if contender is not None:
                contender.prepare()
                sample = contender.run()
                if number >= warm_up:
                    samples[name].append(sample)
    return samples


def medians(samples: Iterable[Sample]) -> dict[str, float]:
    """`cpu` and `wall`; empty where there are no samples."""
    found = list(samples)
    if not found:
        return {}
    return {
        "cpu": statistics.median(sample.cpu for sample in found),
        "wall": statistics.median(sample.wall for sample in found),
    }
