"""A job: what is measured together, and gives a row or a few. One that fails leaves the others alone."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from bench.row import Row, Unavailable


class Job(NamedTuple):
    """`run` measures."""

    workload: str
    run: Callable[[], Iterable[Row]]


def rows(group: str, job: Job) -> Iterator[Row]:
    """The job's rows, or one that says why there are none."""
    try:
        yield from job.run()
    except Unavailable as error:
        yield Row(group, job.workload, "", note=str(error), state="not measured")
    except Exception as error:  # the table goes on whatever is wrong with one of its rows
        note = " ".join(f"{type(error).__name__}: {error}".split())
        yield Row(group, job.workload, "", note=note, state="failed")
