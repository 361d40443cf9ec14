"""Code that does not run: the result tells, and the old code serves."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chain.harness import Chain, content, tree_of


def test_a_crash_on_import_is_told_with_its_traceback_and_rolled_back(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", "raise RuntimeError('no such thing')\n")
    result = chain.push()
    assert result.status == "rolled_back"
    replica = result.replicas[0]
    assert replica.exit_code == 1
    assert any("RuntimeError: no such thing" in line for line in replica.log_tail)
    assert any("Traceback" in line for line in replica.log_tail)
    assert "push again" in result.next_step
    chain.wait_answer("the image")
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.image)
    chain.write("content.py", content("mended"))
    assert chain.push().status == "healthy"
    assert chain.replicas["one"].ask() == "mended"


def test_an_unhealthy_application_is_rolled_back(chain: Chain) -> None:
    chain.start_proxy()
    chain.add_replica()
    chain.start_sidecar()
    chain.start_launcher("one", "--health-timeout", "1")
    chain.wait_ready()
    chain.write("content.py", content("ill", healthy=False))
    result = chain.push()
    assert result.status == "rolled_back"
    assert result.replicas[0].exit_code is None
    chain.wait_answer("the image")


def test_the_crash_is_the_result_of_the_command_too(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", "1 / 0\n")
    done = chain.command("push", "-m", "divide", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["status"] == "rolled_back"
    assert any("ZeroDivisionError" in line for line in told["replicas"][0]["log_tail"])


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at `directory`; its content moves there."""
    aside = directory.with_name(directory.name + "-aside")
    directory.rename(aside)
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m"]
    subprocess.run(["mount", *options, "codesync-test", str(directory)], check=True)
    try:
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("full", ["files", "app"])
def test_a_full_disk_fails_the_push_and_nothing_is_lost(chain: Chain, full: str) -> None:
    chain.start_proxy()
    replica = chain.add_replica()
    with small_disk(getattr(replica, full), 4):
        chain.start_sidecar()
        chain.start_launcher()
        chain.wait_ready()
        (chain.source / "large.bin").write_bytes(os.urandom(6 * 2**20))
        result = chain.push()
        assert result.status in ("failed", "rolled_back")
        assert "no space left" in result.next_step.lower()
        chain.wait_answer("the image")
        assert tree_of(replica.app) == tree_of(chain.image)
        (chain.source / "large.bin").unlink()
        chain.write("content.py", content("smaller"))
        assert chain.push().status == "healthy"
        chain.processes.kill("sidecar-one")
        chain.kill("launcher-one")
