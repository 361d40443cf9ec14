"""The demo's processes: started, watched, and none left behind."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.demo.processes import DemoError, Processes

QUIET = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {QUIET}"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
print("child", child.pid, flush=True)
import signal; signal.pause()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "logs", ("CODESYNC_TEST", secrets.token_hex(8))) as running:
        yield running


def start(processes: Processes, code: str, name: str = "one", *, said: str = "up") -> str:
    """Start some Python and wait until its log says so."""
    processes.start(name, [sys.executable, "-c", code], dict(os.environ), Path("/"))
    return processes.wait_for(f"{said!r} in the log", lambda: _log(processes, name, said))


def _log(processes: Processes, name: str, said: str) -> str | None:
    text = processes.log(name).read_text()
    return text if said in text and text.endswith("\n") else None


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_what_escapes_into_a_session_of_its_own_is_found_by_its_mark(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs", ("CODESYNC_TEST", secrets.token_hex(8))) as processes:
        child = int(start(processes, PARENT, said="child").split()[1])
        assert alive(child)
    assert not alive(child)


def test_a_process_that_ends_by_itself_is_told_with_its_status(processes: Processes) -> None:
    processes.start("one", [sys.executable, "-c", "raise SystemExit(7)"], dict(os.environ), Path("/"))
    with pytest.raises(DemoError, match="expected the one to keep running, found it ended with status 7"):
        processes.wait_for("a miracle", lambda: None)


def test_what_does_not_happen_in_time_is_named(processes: Processes) -> None:
    start(processes, QUIET)
    with pytest.raises(DemoError, match=r"expected a miracle within 0 s"):
        processes.wait_for("a miracle", lambda: None, 0.05)


def test_a_killed_process_may_be_started_again_and_its_log_goes_on(processes: Processes) -> None:
    start(processes, QUIET)
    processes.kill("one")
    processes.check()
    assert "again" in start(processes, QUIET.replace("up", "again"), said="again")
    assert processes.tails() == "--- one\nup\nagain"


def test_the_handler_of_ctrl_c_is_what_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Processes(tmp_path / "logs", ("CODESYNC_TEST", "x")):
        pass
    assert signal.getsignal(signal.SIGINT) is before
