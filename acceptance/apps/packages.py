"""Applications of the package registries, in the versions pinned here, installed once into .cache of this checkout.

    .venv/bin/python -m acceptance.apps.packages      installs them; nothing to do the second time

Nothing is installed into the environment that runs the tests. What the system has to bring is said where it is missing.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from acceptance import npm

CACHE = Path(__file__).resolve().parents[2] / ".cache"
VENV = CACHE / "apps"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
HTTP_SERVER = CACHE / "http-server"
HTTP_SERVER_VERSION = "14.1.1"
INSTALL_SECONDS = 300


def python_packages() -> Path:
    """Return the interpreter that has what requirements.txt lists. Raises RuntimeError."""

    def install() -> None:
        _run("the environment of the applications", [sys.executable, "-m", "venv", "--clear", str(VENV)])
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run("what requirements.txt lists", [*pip, "install", "--requirement", str(REQUIREMENTS)])

    _once(VENV, sys.version + REQUIREMENTS.read_text(), install)
    return VENV / "bin" / "python"


def http_server() -> Path:
    """Return a directory that holds npm's http-server and everything that it needs. Raises RuntimeError."""

    def install() -> None:
        package = f"http-server@{HTTP_SERVER_VERSION}"
        command = ["npm", "install", "--prefix", str(HTTP_SERVER), "--no-audit", "--no-fund", package]
        _run(package, command)

    _once(HTTP_SERVER, HTTP_SERVER_VERSION, install)
    return HTTP_SERVER / "node_modules"


def node() -> Path:
    """Return the interpreter that npm brings. Raises RuntimeError."""
    return npm.install() / "node"


def wrk() -> str:
    """Return the load generator. Raises RuntimeError."""
    found = shutil.which("wrk")
    if found is None:
        raise RuntimeError("wrk is missing; on Debian: apt-get install wrk")
    return found


def _once(home: Path, wanted: str, install: Callable[[], None]) -> None:
    """Run `install` unless it has been done for what is `wanted`; two runs at once take turns."""
    CACHE.mkdir(exist_ok=True)
    stamp = home / "installed"
    with (CACHE / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            install()
            stamp.write_text(wanted)


def _run(what: str, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is missing; on Debian: apt-get install {command[0]}")
    env = {**npm.trusting(), "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=env, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{what} cannot be installed; mend this and run again:\n{done.stderr[-2000:] or done.stdout[-2000:]}"
        )


if __name__ == "__main__":
    try:
        print(python_packages(), http_server(), node(), wrk(), sep="\n")
    except RuntimeError as error:
        sys.exit(str(error))
