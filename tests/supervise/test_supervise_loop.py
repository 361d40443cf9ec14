"""One queue, one consumer."""

import threading

import pytest

from codesync.supervise import Job, Loop


class Clock:
    """Time that passes when somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_what_a_thread_posts_runs_in_the_consumer() -> None:
    loop = Loop()
    ran: list[threading.Thread] = []
    threading.Thread(target=loop.post, args=(lambda: ran.append(threading.current_thread()),)).start()

    assert loop.wait(lambda: ran, loop.clock() + 5)
    assert ran == [threading.current_thread()]


def test_a_condition_that_holds_already_waits_for_nothing() -> None:
    loop = Loop()
    loop.post(pytest.fail, "nobody needed this event yet")

    assert loop.wait(lambda: True)


def test_a_deadline_ends_a_wait_but_not_before_the_events_that_are_there() -> None:
    loop = Loop(Clock())
    seen: list[int] = []
    for number in range(5):
        loop.post(seen.append, number)

    assert not loop.wait(lambda: False, until=2.0)
    assert seen == [0, 1, 2, 3, 4]


def test_the_last_event_before_the_deadline_may_be_the_awaited_one() -> None:
    loop = Loop(Clock())
    seen: list[int] = []
    loop.post(seen.append, 1)

    assert loop.wait(lambda: seen, until=0.5)


def test_a_job_gives_its_result_or_raises_its_error() -> None:
    loop = Loop()
    good = loop.run(lambda _: 42)
    bad = loop.run(lambda _: 1 // 0)
    assert loop.wait(lambda: good.done and bad.done, loop.clock() + 5)

    assert good.result() == 42
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_a_job_hears_that_it_is_cancelled() -> None:
    loop = Loop()
    job = loop.run(lambda cancelled: cancelled.wait(5))
    job.cancelled.set()
    loop.wait(lambda: job.done, loop.clock() + 5)

    assert job.result()


def test_the_consumer_is_told_of_a_jobs_end() -> None:
    loop = Loop()
    ended: list[Job[str]] = []
    job = loop.run(lambda _: "done", ended.append)
    loop.wait(lambda: ended, loop.clock() + 5)

    assert ended == [job]
    assert job.result() == "done"
