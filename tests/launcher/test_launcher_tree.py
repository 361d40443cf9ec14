"""What a start does, decided from the records."""

import pytest

from codesync.launcher.records import Applied, Committed, State
from codesync.launcher.tree import Start, decide_start, valid_target

GEN0, NEW = "0" * 64, "1" * 64
HERE, THERE = "image-here", "image-there"
COMMITTED = Committed(NEW, "p1")
BEFORE = Committed(GEN0, "")


def applied(tree_id: str | None, instance: str = "mine") -> Applied:
    return Applied(instance, HERE, tree_id)


@pytest.mark.parametrize(
    ("record", "mark", "state", "expected"),
    [
        # a fresh container
        (None, None, State(), Start(True, None, None, gen0=True)),
        (None, None, State(BEFORE, HERE, GEN0), Start(True, GEN0, BEFORE, gen0=False)),
        (None, None, State(COMMITTED, HERE, GEN0), Start(True, GEN0, COMMITTED, gen0=False)),
        (None, None, State(COMMITTED, THERE, GEN0), Start(True, None, None, gen0=True)),
        (None, None, State(COMMITTED), Start(True, None, COMMITTED, gen0=False)),
        (None, None, State(None, HERE, GEN0), Start(True, GEN0, None, gen0=False)),
        # a volume that another container has used since, a mark from elsewhere
        (
            applied(NEW, "theirs"),
            "mine",
            State(COMMITTED, HERE, GEN0),
            Start(True, GEN0, COMMITTED, gen0=False),
        ),
        (applied(NEW), None, State(COMMITTED, HERE, GEN0), Start(True, GEN0, COMMITTED, gen0=False)),
        (None, "mine", State(), Start(True, None, None, gen0=True)),
        # a restart
        (applied(NEW), "mine", State(COMMITTED, HERE, GEN0), Start(False, NEW, COMMITTED, gen0=False)),
        (applied(GEN0), "mine", State(COMMITTED, HERE, GEN0), Start(False, GEN0, COMMITTED, gen0=False)),
        (applied(None), "mine", State(), Start(False, None, None, gen0=True)),
        (applied(None), "mine", State(COMMITTED, THERE, GEN0), Start(False, None, None, gen0=True)),
        (applied(None), "mine", State(BEFORE, HERE, GEN0), Start(False, GEN0, BEFORE, gen0=False)),
        (applied(None), "mine", State(COMMITTED), Start(False, None, COMMITTED, gen0=False)),
        (applied(NEW), "mine", State(), Start(False, NEW, None, gen0=False)),
    ],
)
def test_a_start_is_decided_from_mark_record_and_state(
    record: Applied | None, mark: str | None, state: State, expected: Start
) -> None:
    assert decide_start(record, mark, state, lambda: HERE) == expected


def test_a_restart_does_not_list_the_image() -> None:
    decide_start(applied(NEW), "mine", State(COMMITTED, HERE, GEN0), lambda: pytest.fail("listed"))


def test_pushes_for_another_image_are_void_and_those_for_no_image_are_not() -> None:
    assert valid_target(State(COMMITTED, HERE), HERE) == COMMITTED
    assert valid_target(State(COMMITTED, THERE), HERE) is None
    assert valid_target(State(COMMITTED, ""), HERE) == COMMITTED
