"""What several files need."""

import ctypes
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.supervise import Signals, become_subreaper
from tests.supervise.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Real applications, in a directory of their own; none of them outlives the test."""
    made = Stage(tmp_path)
    signals = Signals(made.loop)
    signals.on(signal.SIGCHLD, lambda _: made.children.reap())
    become_subreaper()
    yield made
    made.close()
    signals.close()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of other tests are not ours
