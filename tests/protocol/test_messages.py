"""Every message's bytes are pinned: a peer of yesterday must understand a peer of today."""

import dataclasses
from pathlib import Path

import pytest

from codesync.protocol import MESSAGES, decode, encode
from tests.protocol.examples import EXAMPLES

GOLDEN = Path(__file__).parent.parent / "golden" / "protocol"


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
    text = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text()
    for name, kind in MESSAGES.items():
        section = text.partition(f"\n#### `{name}`")[2].partition("\n#### ")[0]
        assert section, f"{name} has no section"
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in section, f"{name}.{field.name} is not described"
