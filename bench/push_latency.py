"""How long a one-line edit takes to run: from the MCP tool call to the new process's start, beside rsync.

    python -m bench.push_latency [--files 5000] [--pushes 50]

A real chain on loopback: `codesync mcp` driven over stdio, proxy, sidecar, launcher. The application is a shell that
writes down the moment it starts, so next to nothing of the figures is the application's own. After each push
`rsync -a --checksum` brings the same edit to a copy. A second, shorter run counts fsyncs with strace.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.chain.harness import Chain, running_chain

APPLICATION = 'date +%s%N >> "$STARTS"\nexec sleep 100000\n'
STAGES = ("scan", "delta", "transfer", "apply", "restart", "health")
STRACED = 5


def make_tree(root: Path, files: int) -> Path:
    """A tree like a real project's: packages of 50 modules of 1 to 8 KB. Returns the module that is edited."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for number in range(files):
        package = root / f"package{number // 50}"
        package.mkdir(exist_ok=True)
        lines = [
            f"def function_{number}_{line}(): return {line * number}\n"
            for line in range(25 + number * 7 % 175)
        ]
        (package / f"module{number}.py").write_text("".join(lines))
    (root / "main.sh").write_text(APPLICATION)
    return root / "package3" / "module163.py"


def edit(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[len(lines) // 2] = f"edited = {number}\n"
    path.write_text("".join(lines))


class Bench:
    """A running chain with a tree of so many files."""

    def __init__(self, chain: Chain, files: int) -> None:
        self.chain = chain
        self.starts = chain.directory / "starts"
        self.edited = make_tree(chain.image, files)
        shutil.rmtree(chain.source)
        shutil.copytree(chain.image, chain.source)
        self.edited = chain.source / self.edited.relative_to(chain.image)
        self.copy = chain.directory / "rsync-copy"
        shutil.copytree(chain.source, self.copy, copy_function=shutil.copy2)
        self.results: list[dict[str, Any]] = []
        self.latencies: list[float] = []
        self.rsync: list[float] = []

    def start(self) -> None:
        chain = self.chain
        chain.start_proxy()
        replica = chain.add_replica()
        chain.start_sidecar()
        environ = chain.environ(
            CODESYNC_FILES_DIR=str(replica.files), CODESYNC_APP_ROOT=str(replica.app), STARTS=str(self.starts)
        )
        command = [sys.executable, "-m", "codesync.launcher", "--settle", "0.05", "--", "sh", "main.sh"]
        chain.processes.start("launcher-one", command, environ, replica.app)
        chain.wait_ready()

    async def push(self, mcp: Client, number: int) -> None:
        edit(self.edited, number)
        before = len(self.starts.read_text().splitlines())
        called = time.time_ns()
        result = await mcp.call_tool("push_changes", {"change_description": f"edit {number}"})
        assert not result.is_error, result.content
        told = result.structured_content
        assert told is not None
        assert told["status"] == "running", told
        started = self.starts.read_text().splitlines()
        assert len(started) == before + 1
        self.latencies.append((int(started[-1]) - called) / 1e6)
        self.results.append(told)

    def sync(self) -> None:
        begin = time.perf_counter()
        subprocess.run(["rsync", "-a", "--checksum", f"{self.chain.source}/", f"{self.copy}/"], check=True)
        self.rsync.append((time.perf_counter() - begin) * 1000)

    async def run(self, pushes: int) -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "codesync.cli", "mcp"],
            env=self.chain.environ(),
            cwd=self.chain.source,
        )
        async with Client(server) as mcp:
            for number in range(2):  # the first ones fill caches
                await self.push(mcp, -number - 1)
            self.latencies.clear()
            self.results.clear()
            for number in range(pushes):
                await self.push(mcp, number)
                self.sync()
            await self.count_fsyncs(mcp)

    async def count_fsyncs(self, mcp: Client) -> None:
        """Count what sidecar and launcher sync to the disk, over a few pushes of their own."""
        kept = len(self.latencies)
        traces = {name: self.chain.directory / f"{name}.strace" for name in ("sidecar-one", "launcher-one")}
        tracers = [self._trace(name, path) for name, path in traces.items()]
        for number in range(STRACED):
            await self.push(mcp, 10_000 + number)
        for tracer in tracers:
            tracer.terminate()
            tracer.wait()
        self.fsyncs = {name: path.read_text().count("sync") / STRACED for name, path in traces.items()}
        del self.latencies[kept:], self.results[kept:]

    def _trace(self, name: str, path: Path) -> "subprocess.Popen[bytes]":
        pid = str(self.chain.processes.pid(name))
        calls = "trace=fsync,fdatasync,syncfs,sync"
        command = ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(path), "-p", pid]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.chain.wait("strace", lambda: True if _traced(pid) else None)
        return tracer


def _traced(pid: str) -> bool:
    with suppress(OSError):
        status = Path("/proc", pid, "status").read_text()
        return "TracerPid:\t0\n" not in status
    return False


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * len(values)))]


def row(name: str, values: list[float], form: Callable[[float], str] = "{:.1f}".format) -> str:
    return f"| {name} | {form(statistics.median(values))} | {form(percentile(values, 0.95))} |"


def report(bench: Bench, files: int) -> str:
    stops = [float(told["timings_ms"]["restart"]) for told in bench.results]
    own = [total - stop for total, stop in zip(bench.latencies, stops, strict=True)]
    lines = [
        f"One-line edit, {files} files, {len(bench.latencies)} pushes; milliseconds",
        "",
        "| | median | p95 |",
        "|---|---|---|",
        row("tool call to the new process's start", bench.latencies),
        row("of it the chain's own share (without stop and start of the application)", own),
        *(row(f"stage: {stage}", [float(t["timings_ms"][stage]) for t in bench.results]) for stage in STAGES),
        row("`rsync -a --checksum` of the same edit, two local directories", bench.rsync),
        row("bytes sent", [float(told["bytes"]["sent"]) for told in bench.results], "{:.0f}".format),
        "",
        "fsyncs a push: " + ", ".join(f"{name} {count:.0f}" for name, count in bench.fsyncs.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--pushes", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print every push's result as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_chain(Path(directory)) as chain:
        bench = Bench(chain, options.files)
        bench.start()
        asyncio.run(bench.run(options.pushes))
        print(report(bench, options.files))
        if options.json:
            print(json.dumps(bench.results))


if __name__ == "__main__":
    main()
