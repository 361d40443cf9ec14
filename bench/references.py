"""The tools beside which the engine is measured: which are there, and how they are asked. One that is not is missing."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.measure import Contender, run

TOOLS = {"rsync": "--version", "rdiff": "--version", "xdelta3": "-V", "git": "--version"}


class Traffic(NamedTuple):
    """Bytes of one transfer: from the sender, and to it."""

    sent: int
    received: int


class References:
    """`which` finds a program by its name, as `shutil.which` does."""

    def __init__(self, which: Callable[[str], str | None] = shutil.which) -> None:
        self._paths = {name: which(name) for name in TOOLS}

    def versions(self) -> dict[str, str]:
        """The version of each tool, or `missing`."""
        return {name: self._version(name) for name in TOOLS}

    def _version(self, name: str) -> str:
        path = self._paths[name]
        if path is None:
            return "missing"
        done = subprocess.run([path, TOOLS[name]], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
        return found[0] if found else "of a version that it does not tell"

    def contender(
        self, name: str, *arguments: str | Path, prepare: Callable[[], object] = int
    ) -> Contender | None:
        """The tool with these arguments; None where it is missing."""
        path = self._paths[name]
        return None if path is None else Contender(lambda: run([path, *arguments]), prepare)

    def told(self, name: str, *arguments: str | Path) -> str | None:
        """What the tool prints, not measured; None where it is missing."""
        contender = self.contender(name, *arguments)
        return None if contender is None else contender.run().told

    def rsync_batch(self, source: Path, destination: Path, out: Path) -> Contender | None:
        """Rsync's signature and delta of all files of a directory: the baseline of what we generate."""
        flags = ("-aI", "--no-whole-file", f"--only-write-batch={out}")
        return self.contender("rsync", *flags, f"{source}/", f"{destination}/")

    def rsync_traffic(self, source: Path, destination: Path, *flags: str) -> Traffic | None:
        """What two rsyncs send each other, with a destination that is then no more what it was."""
        arguments = ("-aI", "--no-whole-file", "--stats", *flags, f"{source}/", f"{destination}/")
        told = self.told("rsync", *arguments)
        if told is None:
            return None
        sent, received = (
            int(count.replace(",", ""))
            for count in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", told)
        )
        return Traffic(sent, received)

    def xdelta3_bytes(self, basis: Path, target: Path, out: Path) -> dict[str, float]:
        """The size of xdelta3's delta, by its defaults; empty where it is missing."""
        if self.told("xdelta3", "-e", "-f", "-s", basis, target, out) is None:
            return {}
        return {"bytes": out.stat().st_size}
