"""How long a one-line edit takes to be healthy: from the MCP tool call, for each way to reload and size of tree.

    python -m bench push_latency [--files 500 5000 50000] [--pushes 100] [--reload restart signal:HUP blue-green] [--pause 0]

A real chain on loopback: `codesync mcp` driven over stdio, proxy, sidecar, launcher, every part a process of its own. The
application is a small server that writes down when it first passes its health check. Between the pushes the same
application is stopped and started, signalled, or started a second time without any of us: what that takes is the application's
own, and the rest is ours. A few more pushes under strace count fsyncs; `rsync -a --checksum` of the same edit is a measure of
the machine.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.chain.harness import Chain, free_port, running_chain

SIZES = (500, 5000, 50000)
WAYS = ("restart", "signal:HUP", "blue-green")
STAGES = ("scan", "delta", "transfer", "apply", "restart", "health")
WARM_UP, STRACED = 3, 5

# A master with one worker, as gunicorn has them; without site-packages it starts in a few milliseconds.
SERVER = """\
import os, signal, socket, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(os.environ["PORT"])))
listener.listen(64)
def serve():
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    first = True
    while True:
        peer, _ = listener.accept()
        peer.recv(4096)
        if first:
            with open(os.environ["STARTS"], "a") as file:
                file.write(f"{time.time_ns()}\\n")
        first = False
        peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        peer.close()
def load(*_):
    global worker
    old, worker = worker, os.fork()
    if worker == 0:
        serve()
    if old:
        os.kill(old, signal.SIGTERM)
        os.waitpid(old, 0)
def stop(*_):
    os.kill(worker, signal.SIGKILL)
    os._exit(0)
worker = 0
signal.signal(signal.SIGHUP, load)
signal.signal(signal.SIGTERM, stop)
load()
while True:
    signal.pause()
"""
COMMAND = [sys.executable, "-I", "-S", "-E", "server.py"]


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
    (root / "server.py").write_text(SERVER)
    return root / "package3" / "module163.py"


def edit(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[len(lines) // 2] = f"edited = {number}\n"
    path.write_text("".join(lines))


class Plain:
    """The same application without us: what its own stopping, starting or reloading takes."""

    def __init__(self, directory: Path, way: str) -> None:
        self._directory = directory
        self._way = way
        self._port = free_port()
        self._env = {**os.environ, "PORT": str(self._port), "STARTS": os.devnull}
        self._process = self._start()
        self._until_healthy()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(COMMAND, cwd=self._directory, env=self._env)

    def _until_healthy(self) -> None:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as peer:
                peer.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                if peer.recv(4096):
                    return
            time.sleep(0.001)

    def measure(self) -> float:
        """Milliseconds of one round."""
        begin = time.perf_counter()
        if self._way.startswith("signal"):
            self._process.send_signal(signal.SIGHUP)
            time.sleep(0.001)  # until the old worker is told
        elif self._way == "restart":
            self._process.terminate()
            self._process.wait()
            self._process = self._start()
        else:
            self._port = free_port()
            self._env["PORT"] = str(self._port)
            old, self._process = self._process, self._start()
        self._until_healthy()
        spent = (time.perf_counter() - begin) * 1000
        if self._way == "blue-green":
            old.terminate()
            old.wait()
        return spent

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Bench:
    """A running chain with a tree of so many files, reloaded in one way."""

    def __init__(self, chain: Chain, files: int, way: str) -> None:
        self.chain = chain
        self.way = way
        self.starts = chain.directory / "starts"
        edited = make_tree(chain.image, files)
        shutil.rmtree(chain.source)
        shutil.copytree(chain.image, chain.source)
        self.edited = chain.source / edited.relative_to(chain.image)
        self.copy = chain.directory / "rsync-copy"
        shutil.copytree(chain.source, self.copy, copy_function=shutil.copy2)
        self.results: list[dict[str, Any]] = []
        self.healthy: list[float] = []
        self.answered: list[float] = []
        self.plain: list[float] = []
        self.rsync: list[float] = []
        self.fsyncs: dict[str, float] = {}

    def start(self) -> None:
        chain = self.chain
        chain.start_proxy()
        replica = chain.add_replica()
        chain.start_sidecar()
        environ = chain.environ(
            CODESYNC_FILES_DIR=str(replica.files),
            CODESYNC_APP_ROOT=str(replica.app),
            PORT=str(replica.port),
            STARTS=str(self.starts),
        )
        options = ["--reload", self.way, "--health", f"http://127.0.0.1:{replica.port}/health"]
        if self.way == "blue-green":
            options += ["--listen", f"127.0.0.1:{replica.port}"]
        command = [sys.executable, "-m", "codesync.launcher", *options, "--", *COMMAND]
        chain.processes.start("launcher-one", command, environ, replica.app)
        chain.processes.wait_for("a ready replica", self._is_ready, 120.0)

    def _is_ready(self) -> bool | None:
        with suppress(OSError):
            found = self.chain.status()
            return True if found.ready and found.replicas and found.replicas[0].launcher == "ready" else None
        return None

    async def push(self, mcp: Client, number: int) -> None:
        edit(self.edited, number)
        before = len(self.starts.read_text().splitlines())
        called, begin = time.time_ns(), time.perf_counter()
        result = await mcp.call_tool("push_changes", {"change_description": f"edit {number}"})
        answered = (time.perf_counter() - begin) * 1000
        assert not result.is_error, result.content
        told = result.structured_content
        assert told is not None
        assert told["status"] == "healthy", told
        started = self.starts.read_text().splitlines()
        assert len(started) == before + 1, (before, started)
        self.healthy.append((int(started[-1]) - called) / 1e6)
        self.answered.append(answered)
        self.results.append(told)

    def sync(self) -> None:
        begin = time.perf_counter()
        subprocess.run(["rsync", "-a", "--checksum", f"{self.chain.source}/", f"{self.copy}/"], check=True)
        self.rsync.append((time.perf_counter() - begin) * 1000)

    async def run(self, pushes: int, pause: float) -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "codesync.cli", "mcp"],
            env=self.chain.environ(),
            cwd=self.chain.source,
        )
        plain = Plain(self.chain.source, self.way)
        try:
            async with Client(server) as mcp:
                for number in range(WARM_UP):  # the first ones fill caches
                    await self.push(mcp, -number - 1)
                self._forget(0)
                for number in range(pushes):
                    await self.push(mcp, number)
                    self.plain.append(plain.measure())
                    await asyncio.sleep(pause)
                    if number % 10 == 0:
                        self.sync()
                await self.count_fsyncs(mcp)
        finally:
            plain.stop()

    def _forget(self, after: int) -> None:
        del self.healthy[after:], self.answered[after:], self.results[after:]

    async def count_fsyncs(self, mcp: Client) -> None:
        """Count what sidecar and launcher sync to the disk, over a few pushes of their own."""
        kept = len(self.results)
        with self._traced("sidecar-one") as sidecar, self._traced("launcher-one") as launcher:
            for number in range(STRACED):
                await self.push(mcp, 10_000 + number)
        for name, path in (("sidecar", sidecar), ("launcher", launcher)):
            self.fsyncs[name] = path.read_text().count("sync") / STRACED
        self._forget(kept)

    @contextmanager
    def _traced(self, name: str) -> Iterator[Path]:
        trace, pid = self.chain.directory / f"{name}.strace", str(self.chain.processes.pid(name))
        calls = "trace=fsync,fdatasync,syncfs,sync"
        command = ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(trace), "-p", pid]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.chain.wait("strace", lambda: True if _is_traced(pid) else None)
        try:
            yield trace
        finally:
            tracer.terminate()
            tracer.wait()


def _is_traced(pid: str) -> bool:
    with suppress(OSError):
        return "TracerPid:\t0\n" not in Path("/proc", pid, "status").read_text()
    return False


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * len(values)))]


def row(name: str, values: Iterable[float]) -> str:
    found = list(values)
    cells = (statistics.median(found), percentile(found, 0.95), percentile(found, 0.99))
    return f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |"


def report(bench: Bench, files: int) -> str:
    alone = statistics.median(bench.plain)
    syncs = ", ".join(f"{name} {count:.0f}" for name, count in bench.fsyncs.items())
    sent = statistics.median(told["bytes"]["sent"] for told in bench.results)
    lines = [
        f"{bench.way}, {files} files, {len(bench.results)} pushes of a one-line edit; milliseconds",
        "",
        "| | median | p95 | p99 |",
        "|---|---|---|---|",
        row("tool call to healthy", bench.healthy),
        row("the application alone, without us", bench.plain),
        row("**ours**: the first less the median of the second", (total - alone for total in bench.healthy)),
        row("tool call to its answer", bench.answered),
        *(row(f"stage: {stage}", (float(t["timings_ms"][stage]) for t in bench.results)) for stage in STAGES),
        row("`rsync -a --checksum` of the same edit", bench.rsync),
        "",
        f"{sent:.0f} bytes sent; fsyncs a push: {syncs}",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench push_latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, nargs="+", default=SIZES)
    parser.add_argument("--pushes", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two pushes")
    parser.add_argument("--reload", nargs="+", default=WAYS, metavar="WAY")
    parser.add_argument("--json", action="store_true", help="print every push's result as well")
    options = parser.parse_args(arguments)
    for files in options.files:
        for way in options.reload:
            with tempfile.TemporaryDirectory() as directory, running_chain(Path(directory)) as chain:
                bench = Bench(chain, files, way)
                bench.start()
                asyncio.run(bench.run(options.pushes, options.pause))
                print(report(bench, files), flush=True)
                if options.json:
                    print(json.dumps(bench.results))


if __name__ == "__main__":
    main()
