"""Every message's bytes are pinned: a peer of yesterday must understand a peer of today."""

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

from codesync.protocol import (
    MESSAGES,
    BatchRef,
    Close,
    Code,
    Crash,
    DeploymentState,
    Failure,
    FileRanges,
    Hook,
    HookReport,
    ReplicaReport,
    ReplicaState,
    Timeouts,
    TreeRef,
    decode,
    encode,
)
from tests.protocol.examples import EXAMPLES

GOLDEN = Path(__file__).parent.parent / "golden" / "protocol"
TEXT = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table with that heading."""
    lines = TEXT.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_messages_bytes_are_what_they_were(name: str) -> None:
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert encode(EXAMPLES[name]) == golden
    assert decode(golden) == EXAMPLES[name]


def test_every_message_has_its_bytes_pinned() -> None:
    assert {type(example) for example in EXAMPLES.values()} == set(MESSAGES.values())
    assert {path.stem for path in GOLDEN.iterdir()} == set(EXAMPLES)


def test_every_field_is_in_some_example() -> None:
    for kind in MESSAGES.values():
        examples = [example for example in EXAMPLES.values() if type(example) is kind]
        for field in dataclasses.fields(kind):
            assert any(getattr(example, field.name) != field.default for example in examples), (
                kind,
                field.name,
            )


def test_every_message_and_every_field_is_documented() -> None:
    for name, kind in MESSAGES.items():
        section = TEXT.partition(f"\n#### `{name}`")[2].partition("\n#### ")[0]
        assert section, f"{name} has no section"
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in section, f"{name}.{field.name} is not described"


def test_every_value_and_every_field_of_it_is_documented() -> None:
    for title, kind in (
        ("Tree", TreeRef),
        ("File ranges", FileRanges),
        ("Batch ref", BatchRef),
        ("Hook", Hook),
        ("Hook report", HookReport),
        ("Crash", Crash),
        ("Replica state", ReplicaState),
        ("Replica report", ReplicaReport),
        ("Deployment state", DeploymentState),
        ("Failure", Failure),
    ):
        section = TEXT.partition(f"\n#### {title}\n")[2].partition("\n#")[0]
        for name in get_type_hints(kind):
            assert f"`{name}`" in section, f"{title}: {name} is not described"


def test_every_wait_is_documented_with_its_default() -> None:
    told = {
        name: float(seconds)
        for name, seconds, _, _ in rows("| name | default | what is waited for | and then |")
    }
    assert told == dataclasses.asdict(Timeouts())


def test_every_code_is_documented() -> None:
    assert {code for code, _ in rows("| code | meaning |")} == set(Code)
    assert {int(code) for code, _ in rows("| close code | meaning |")} == set(Close)
