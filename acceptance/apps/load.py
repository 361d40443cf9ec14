"""Requests without end: wrk against one address, until somebody has seen enough."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceptance.apps import packages

END_SECONDS = 30  # for wrk to write its report
LONGEST = "10m"  # it ends by itself then
TIMEOUT = "10s"  # of one request; a later answer counts as none
REPORT = """\
function delay()
  return {pause}
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\nREPORT {{"requests": %d, "slowest_ms": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\\n',
    summary.requests, latency.max / 1000, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


@dataclass
class Load:
    """`report` is there when it has ended: requests, slowest_ms, and how many of each kind of error."""

    report: dict[str, int] = field(default_factory=dict)


@contextmanager
def load(url: str, directory: Path, *, connections: int, pause_ms: int) -> Iterator[Load]:
    """Ask `url` on so many connections that are kept alive, each with such a pause before its next request."""
    script = directory / f"wrk-{connections}-{pause_ms}.lua"
    script.write_text(REPORT.format(pause=pause_ms))
    options = [
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        LONGEST,
        "--timeout",
        TIMEOUT,
    ]
    command = [packages.wrk(), *options, "--script", str(script), url]
    found = Load()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield found
            assert process.poll() is None, "wrk has ended too early"
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=END_SECONDS)
        finally:
            process.kill()
    found.report.update(_read(said))


def _read(said: str) -> dict[str, Any]:
    reports = [line.removeprefix("REPORT ") for line in said.splitlines() if line.startswith("REPORT ")]
    assert len(reports) == 1, said
    report: dict[str, Any] = json.loads(reports[0])
    return report
