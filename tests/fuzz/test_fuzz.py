"""A little fuzzing with every run of the tests; `make fuzz` is for more. What was ever found is tried again."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.damage import damaged
from tests.fuzz.targets import TARGETS

CRASHES = Path(__file__).parent / "crashes"


@pytest.mark.parametrize("name", TARGETS)
def test_the_examples_are_such_as_are_read(name: str) -> None:
    target = TARGETS[name]
    target.read(target.examples()[0])
    for example in target.examples():
        target.run(example)


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_told_by_an_error_of_the_engine(name: str) -> None:
    target = TARGETS[name]
    count = 40 if name == "signature" else 250  # a search takes longer than reading

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(target.examples()))
    def tried(damage: bytes) -> None:
        target.run(damage)

    tried()


def test_what_was_found_once_stays_mended() -> None:
    for crash in sorted(CRASHES.glob("*.bin")):
        TARGETS[crash.name.partition("-")[0]].run(crash.read_bytes())
