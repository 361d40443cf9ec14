"""What hooks make outside of the tree is made again in a container that has nothing of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from codesync import client
from codesync.client import PushResult
from codesync.protocol import Hook
from tests.chain.harness import Chain

NEEDY = """\
import os
TEXT = open({made!r}).read()
HEALTHY = True
"""


class Environment:
    """A file that the application needs, outside of its tree, and the hook that makes it and counts its runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.made = directory / "made"
        self.runs = directory / "runs"
        run = f'cp wanted.txt {self.made} && echo "$CODESYNC_PUSH_ID" >> {self.runs}'
        self.hook = Hook(run=run, moment="before_start", seconds=20.0, when="wanted.txt")

    def ran_for(self) -> list[str]:
        return self.runs.read_text().split()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


def push(chain: Chain, environment: Environment) -> PushResult:
    settings = replace(chain.settings(), hooks=(environment.hook,))
    return asyncio.run(client.push(settings, description="needs more than its tree"))


def want(chain: Chain, environment: Environment, text: str) -> None:
    chain.write("content.py", NEEDY.format(made=str(environment.made)))
    chain.write("wanted.txt", text)


def replace_container(chain: Chain, environment: Environment) -> None:
    """What is outside of the volume goes with the old one."""
    chain.kill("launcher-one")
    chain.replace_container()
    environment.made.unlink(missing_ok=True)


def test_a_replaced_container_runs_the_hooks_again_and_is_healthy(
    chain: Chain, environment: Environment
) -> None:
    chain.start()
    want(chain, environment, "made by a hook")
    first = push(chain, environment)
    assert first.status == "healthy"
    chain.write("other.txt", "calls for no hook")
    second = push(chain, environment)
    assert second.status == "healthy"
    assert environment.ran_for() == [first.push_id]
    replace_container(chain, environment)
    chain.start_launcher()
    chain.wait_answer("made by a hook")
    chain.wait_ready()
    assert environment.ran_for() == [first.push_id, second.push_id]  # for the tree that was brought in
    assert chain.replicas["one"].ask("/health") == "made by a hook"
    chain.kill("launcher-one")
    chain.start_launcher()  # the same container
    chain.wait_answer("made by a hook")
    assert len(environment.ran_for()) == 2


def test_a_push_stored_while_no_launcher_was_there_has_its_hook_run_at_the_start(
    chain: Chain, environment: Environment
) -> None:
    chain.start()
    chain.write("other.txt", "calls for no hook")
    assert push(chain, environment).status == "healthy"
    chain.kill("launcher-one")
    chain.wait("the launcher gone", lambda: True if chain.status().replicas[0].launcher == "absent" else None)
    want(chain, environment, "stored")
    stored = push(chain, environment)
    assert stored.status == "stored"
    assert not environment.runs.exists()
    chain.start_launcher()
    chain.wait_answer("stored")
    assert environment.ran_for() == [stored.push_id]


def test_another_image_runs_none_of_them(chain: Chain, environment: Environment) -> None:
    chain.start()
    want(chain, environment, "made by a hook")
    assert push(chain, environment).status == "healthy"
    (chain.image / "static" / "0.txt").write_text("another image")
    replace_container(chain, environment)
    chain.start_launcher()
    chain.wait_answer("the image")
    chain.wait("the new image's tree", lambda: True if chain.status().replicas[0].generation == 0 else None)
    replace_container(chain, environment)
    chain.start_launcher()
    chain.wait_answer("the image")
    chain.wait_ready()
    assert len(environment.ran_for()) == 1
    assert "hooks" not in chain.replicas["one"].state()
