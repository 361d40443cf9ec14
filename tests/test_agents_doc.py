"""docs/agents.md tells the truth: each situation in it is brought about, and what the tool answers is the text there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents import errors, looks, results, second
from tests.agents.agent import CASES, Agent, begin
from tests.chain.harness import Chain, running_chain

CASES_ARE_IN = (results, looks, errors, second)  # importing them fills CASES
DOC = (Path(__file__).parent.parent / "docs" / "agents.md").read_text()
TOLD = DOC.split("## push_changes and rollback")[1]
ROWS = re.findall(r"^\| ([^|`]+) \| `([a-z_]+)` \| ([^|]+) \|$", TOLD, re.MULTILINE)
VARIES = "…"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One chain for all cases."""
    with running_chain(tmp_path_factory.mktemp("agents")) as chain:
        chain.start()
        yield chain
        print(chain.processes.tails())


@pytest.fixture
def agent(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Agent:
    for name in list(os.environ):
        if name.startswith(("CODESYNC_", "BIFROST_")):
            monkeypatch.delenv(name)
    agent = Agent(chain, monkeypatch, tmp_path)
    begin(agent)
    return agent


@pytest.mark.parametrize(("name", "word", "text"), ROWS, ids=[row[0] for row in ROWS])
def test_what_is_documented_is_what_is_answered(agent: Agent, name: str, word: str, text: str) -> None:
    answer = CASES[name](agent)
    assert answer.word == word, answer
    pattern = ".*".join(re.escape(part) for part in text.split(VARIES))
    assert re.fullmatch(pattern, answer.text), answer.text
    assert "\n" not in answer.text


def test_every_case_is_documented() -> None:
    assert sorted(name for name, _, _ in ROWS) == sorted(CASES)
