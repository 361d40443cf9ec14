"""Programs that npm brings, in the versions pinned here, installed once into .cache/npm of this checkout.

    .venv/bin/python acceptance/npm.py      installs them; nothing to do the second time

Node is one of them: the others need 22.19 or newer, and what a machine has is often older. What must be there is npm
itself, of any age, and its registry.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "node": "24.21.0",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
}
HOME = Path(__file__).resolve().parent.parent / ".cache" / "npm"
BIN = HOME / "node_modules" / ".bin"
INSTALL_SECONDS = 600


def install() -> Path:
    """Return the directory of the programs, installed.

    Raises:
        RuntimeError: npm is missing, or it cannot install them; says what to do.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    wanted, stamp = json.dumps(PACKAGES), HOME / "installed.json"
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once
        if not stamp.exists() or stamp.read_text() != wanted:
            _npm_install()
            stamp.write_text(wanted)
    return BIN


def trusting() -> dict[str, str]:
    """Return our environment, in which node trusts whom the system trusts; by itself it knows its own list only."""
    system = "/etc/ssl/certs/ca-certificates.crt"
    return ({"NODE_EXTRA_CA_CERTS": system} if os.path.exists(system) else {}) | dict(os.environ)


def environ(**more: str) -> dict[str, str]:
    """Return an environment in which `node` is ours, and npm's programs find it."""
    return {"PATH": f"{install()}:{os.environ['PATH']}", **more}


def _npm_install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing; on Debian: apt-get install npm")
    packages = [f"{name}@{version}" for name, version in PACKAGES.items()]
    command = [npm, "install", "--prefix", str(HOME), "--save-exact", "--no-audit", "--no-fund", *packages]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, env=trusting()
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"npm install failed; mend this and run acceptance/npm.py again:\n{done.stderr[-2000:]}"
        )
    subprocess.run([BIN / "node", "--version"], check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    try:
        print(install())
    except RuntimeError as error:
        sys.exit(str(error))
