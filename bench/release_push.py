"""One release of Django pushed over the one before, through the whole chain, beside rsync.

    python -m bench release_push [--runs 5]

About 7,000 files. rsync runs between two local directories with `-a --checksum --no-whole-file -z`; its bytes are
what it says it sent and received together. Needs the package index once, for the two source distributions.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.workloads.downloads import unpack
from codesync.client import PushResult
from tests.chain.harness import Chain, running_chain

OLD, NEW = "5.2", "5.2.1"


def lay(chain: Chain, version: str) -> None:
    """Make the developer's tree that release; every file is written anew."""
    shutil.rmtree(chain.source / "django", ignore_errors=True)
    unpack(version, chain.source / "django")


def rsync(source: Path, copy: Path) -> tuple[float, int]:
    """Milliseconds and bytes both ways."""
    command = [
        "rsync",
        "-a",
        "--checksum",
        "--no-whole-file",
        "-z",
        "--delete",
        "--stats",
        f"{source}/",
        f"{copy}/",
    ]
    begin = time.perf_counter()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = (time.perf_counter() - begin) * 1000
    counts = re.findall(r"Total bytes (?:sent|received): ([\d,]+)", told)
    return spent, sum(int(count.replace(",", "")) for count in counts)


def timed_push(chain: Chain, description: str) -> tuple[float, PushResult]:
    begin = time.perf_counter()
    result = chain.push(description)
    return (time.perf_counter() - begin) * 1000, result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench release_push", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    pushes, rsyncs = [], []
    with tempfile.TemporaryDirectory() as directory, running_chain(Path(directory)) as chain:
        unpack(OLD, chain.image / "django")
        copy = chain.directory / "rsync-copy"
        chain.start()
        for _ in range(options.runs):
            lay(chain, OLD)
            _, back = timed_push(chain, OLD)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(chain.source, copy, symlinks=True)
            lay(chain, NEW)
            pushes.append(timed_push(chain, NEW))
            rsyncs.append(rsync(chain.source, copy))
    _, result = pushes[-1]
    files = result.files
    counts = f"{files.added} added, {files.modified} modified, {files.deleted} deleted"
    print(
        f"Django {NEW} over {OLD}: {counts}; {options.runs} runs, `{result.status}`, and back: `{back.status}`\n"
    )
    print("| | milliseconds, median | bytes |\n|---|---|---|")
    print(
        f"| push, from scan to outcome | {statistics.median(ms for ms, _ in pushes):.0f} | {result.bytes.sent} |"
    )
    print(f"| `rsync -a --checksum -z` | {statistics.median(ms for ms, _ in rsyncs):.0f} | {rsyncs[-1][1]} |")
    print(f"| the tree | | {result.bytes.tree} |")


if __name__ == "__main__":
    main()
