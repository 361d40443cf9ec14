"""SIGKILL in the middle of a push: no tree is between old and new, and the next push works without help."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain.harness import Chain, content, tree_of

GATED = """\
import os

class Gate:
    def __bool__(self):
        return os.path.exists({gate!r})

TEXT = {text!r}
HEALTHY = Gate()
"""


def start_push(chain: Chain) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "codesync.cli", "push", "-m", "x"],
        cwd=chain.source,
        env=chain.environ(CODESYNC_SOURCE="dev@laptop:/src"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(push: "subprocess.Popen[str]") -> None:
    push.kill()
    push.communicate()


def restart(chain: Chain, name: str) -> None:
    match name.split("-"):
        case ["proxy"]:
            chain.start_proxy()
        case ["sidecar", replica]:
            chain.start_sidecar(replica)
        case ["launcher", replica]:
            chain.start_launcher(replica)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def on_trial(chain: Chain, gate: Path) -> "subprocess.Popen[str]":
    """A push whose new code runs and is not healthy before the gate opens."""
    chain.write("content.py", GATED.format(gate=str(gate), text="on trial"))
    chain.write("added.txt", "new\n")
    push = start_push(chain)
    chain.wait_answer("on trial")
    return push


def test_a_push_whose_client_is_killed_on_trial_is_finished(chain: Chain, gate: Path) -> None:
    chain.start()
    end(on_trial(chain, gate))
    gate.touch()
    chain.wait("generation 1", lambda: True if chain.status().replicas[0].generation == 1 else None)
    assert chain.replicas["one"].ask() == "on trial"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)
    assert chain.push().status == "no_changes"


def test_a_push_whose_client_is_killed_ends_for_every_replica(chain: Chain, gate: Path) -> None:
    chain.start("one", "two")
    push = on_trial(chain, gate)
    chain.wait_answer("on trial", "two")
    end(push)
    gate.touch()
    chain.wait(
        "generation 1 on both",
        lambda: True if {r.generation for r in chain.status().replicas} == {1} else None,
    )


@pytest.mark.parametrize("victim", ["sidecar-one", "launcher-one", "proxy"])
def test_a_trial_whose_process_is_killed_is_undone(chain: Chain, gate: Path, victim: str) -> None:
    chain.start()
    push = on_trial(chain, gate)
    chain.kill(victim)
    end(push)
    restart(chain, victim)
    chain.wait_answer("the image")
    chain.wait_ready()
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.image)
    assert tree_of(chain.replicas["one"].current).keys() == tree_of(chain.image).keys()
    gate.touch()
    assert chain.push().status == "healthy"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_a_container_that_is_killed_on_trial_fails_the_push(chain: Chain, gate: Path) -> None:
    chain.start()
    push = on_trial(chain, gate)
    chain.kill("launcher-one")
    out, _ = push.communicate(timeout=60)
    assert push.returncode == 1
    assert "launcher" in out
    chain.start_launcher()
    chain.wait_answer("the image")


@pytest.mark.parametrize(
    "stage", ["putting files in place", "stopping the application", "starting the application"]
)
@pytest.mark.parametrize("victim", ["sidecar-one", "launcher-one"])
def test_a_kill_at_any_stage_leaves_one_whole_tree(chain: Chain, victim: str, stage: str) -> None:
    for number in range(300):
        (chain.image / "static" / f"{number}.txt").write_text(f"file {number}\n" * 50)
    shutil.rmtree(chain.source)
    shutil.copytree(chain.image, chain.source)
    chain.start()
    assert chain.push().status == "no_changes"
    old = tree_of(chain.image)
    for number in range(300):
        (chain.source / "static" / f"{number}.txt").rename(chain.source / "static" / f"moved-{number}.txt")
    chain.write("content.py", content("new"))
    new = tree_of(chain.source)
    push = start_push(chain)
    assert push.stderr is not None
    reached = any(stage in line for line in push.stderr)
    assert reached, stage
    chain.kill(victim)
    end(push)
    restart(chain, victim)
    chain.wait_ready()
    replica = chain.replicas["one"]
    text = chain.wait("an answer", replica.ask)
    assert tree_of(replica.app) == (new if text == "new" else old)
    assert tree_of(replica.current).keys() in (old.keys(), new.keys())
    result = chain.push()
    assert result.status in ("healthy", "no_changes")
    chain.wait_answer("new")
    assert tree_of(replica.app) == new
