"""What the relay of blue-green costs, and whether a request fails while twins are swapped under a load generator.

    python -m bench relay_load [--seconds 6] [--connections 50] [--every 0.3]

wrk and hey, where they are installed, against a server of the standard library: directly, then through a relay that is pointed at a
new process every so often, the old one drained and stopped. Failed are connections that break and answers that are not 200.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from codesync.launcher.ports import free_port
from codesync.launcher.relay import Relay

DRAIN_SECONDS = 10.0
BODY = b"hello " * 20


class Handler(BaseHTTPRequestHandler):
    """A short answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        if self.close_connection:
            self.send_header("Connection", "close")  # else wrk takes the end for an error
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Threads that end with the process, and room for all who come at once."""

    daemon_threads = True
    request_queue_size = 1024


class Twin:
    """The server as a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "bench.relay_load", "--serve", str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while self._process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port), 5):
                return
            time.sleep(0.01)
        sys.exit("bench.relay_load: the server does not start")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Swaps:
    """A relay, and a thread that swaps what it points at."""

    def __init__(self, every: float) -> None:
        self.count = 0
        self.longest = 0.0  # seconds from the swap until nothing used the old twin
        self._every = every
        self._twin = Twin()
        self._relay = Relay("127.0.0.1", 0)
        self._relay.point(self._twin.port)
        self._relay.serve()
        self.port = self._relay.address[1]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        self._relay.close()
        self._twin.stop()

    def _run(self) -> None:
        while not self._end.wait(self._every):
            old, self._twin = self._twin, Twin()
            drained = threading.Event()
            start = time.monotonic()
            self._relay.point(self._twin.port)
            self._relay.drain(old.port, DRAIN_SECONDS, drained.set)
            drained.wait()
            self.longest = max(self.longest, time.monotonic() - start)
            self.count += 1
            old.stop()


def run(command: list[str]) -> tuple[int, int, float]:
    """Requests answered, requests failed, requests a second."""
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    speed = float(next(re.finditer(r"Requests/sec:\s*([\d.]+)", text))[1])
    if command[0] == "wrk":
        answered = int(next(re.finditer(r"(\d+) requests in", text))[1])
        errors = re.findall(r"(?:connect|read|write|timeout) (\d+)|Non-2xx or 3xx responses: (\d+)", text)
        return answered, sum(int(first or second) for first, second in errors), speed
    codes = {code: int(count) for code, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", text)}
    errors_text = text.partition("Error distribution:")[2]
    broken = sum(int(count) for count in re.findall(r"\[(\d+)\]", errors_text))
    return codes.get("200", 0), broken + sum(codes.values()) - codes.get("200", 0), speed


def commands(seconds: int, connections: int) -> Iterator[tuple[str, list[str]]]:
    if shutil.which("wrk"):
        wrk = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s"]
        yield "wrk, kept alive", wrk
        yield "wrk, Connection: close", [*wrk, "-H", "Connection: close"]
    if shutil.which("hey"):
        hey = ["hey", "-z", f"{seconds}s", "-c", str(connections)]
        yield "hey, kept alive", hey
        yield "hey, -disable-keepalive", [*hey, "-disable-keepalive"]


@contextmanager
def one_twin() -> Iterator[int]:
    twin = Twin()
    try:
        yield twin.port
    finally:
        twin.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench relay_load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two swaps")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        Server(("127.0.0.1", options.serve), Handler).serve_forever()
    loads = list(commands(options.seconds, options.connections))
    if not loads:
        sys.exit("bench.relay_load: neither wrk nor hey is installed; on Debian: apt-get install wrk hey")
    print("| | direct, 1/s | relay, 1/s | requests | failed | swaps | longest drain, ms |")
    print("|---|---|---|---|---|---|---|")
    for name, command in loads:
        with one_twin() as port:
            direct = run([*command, f"http://127.0.0.1:{port}/"])
        swaps = Swaps(options.every)
        answered, failed, speed = run([*command, f"http://127.0.0.1:{swaps.port}/"])
        swaps.stop()
        figures = f"{answered} | {failed} | {swaps.count} | {swaps.longest * 1000:.0f}"
        print(f"| {name} | {direct[2]:.0f} | {speed:.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
