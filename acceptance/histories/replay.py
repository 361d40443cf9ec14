"""Consecutive commits of a git repository, each pushed to a running chain; then the application's directory is the commit's tree.

    .venv/bin/python -m acceptance.histories.replay [--commits N] [--mode checkout|rewrite] [REPOSITORY]

The repository is this project's own where no other is named; it is only read. What checks out, has each commit pushed and
compares is a judge that knows nothing of codesync: replay_history.py. With `rewrite` every file is written anew each time,
so that all times change and next to nothing of the content.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from acceptance.apps.app import App, AppChain, running_app
from codesync.demo.processes import DemoError

CHECKOUT = Path(__file__).resolve().parents[2]
JUDGE = CHECKOUT.parent / "shared" / "oracles" / "replay_history.py"
MODES = ("checkout", "rewrite")
COMMITS = 50
EVERYTHING = "!*\n"  # also what the repository's own rules would leave out: it has been committed
OURS = (".codesync-instance", ".codesyncignore")  # in the application's directory, and in no commit
SERVER = """\
import http.server, sys

handler = http.server.SimpleHTTPRequestHandler
handler.log_message = lambda *_: None
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


class NoReplay(Exception):
    """It cannot begin: one line that says why, and what to do."""


def main() -> int:
    """Replay: exit status 0 when every push was well and every tree as it should be, 2 when it cannot begin."""
    given = _parser().parse_args()
    try:
        judge, gitdir = _judge(given.judge), _gitdir(given.repository)
        failed = [mode for mode in given.mode or MODES if replay(judge, gitdir, given.commits, mode) != 0]
    except (NoReplay, DemoError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def replay(judge: Path, gitdir: str, commits: int, mode: str) -> int:
    """Start a chain with an empty application's directory, and let the judge go on: its exit status."""
    print(f"--- the last {commits} commits of {gitdir}, {mode}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="codesync-replay-") as name:
        directory = Path(name)
        image, seen, server = directory / "made", directory / "seen", directory / "server.py"
        image.mkdir()
        server.write_text(SERVER)
        app = App((sys.executable, str(server), "{port}"), health="/")
        with running_app(directory, image, app, health_seconds=30) as chain:
            how = ["-n", str(commits), "--mode", mode, "--oracle", str(seen)]
            command = [sys.executable, str(judge), gitdir, str(chain.source), *how]
            step = _step(chain, seen)
            status = subprocess.run([*command, "--", step], env=chain.environ(), check=False).returncode
            if status != 0:
                print(chain.processes.tails(), file=sys.stderr)
            return status


def _step(chain: AppChain, seen: Path) -> str:
    """What the judge runs for each commit, in the developer's tree: push, and lay what the application has before it.

    `-P`: what lies in that tree may be a codesync, too.
    """
    push = shlex.join([sys.executable, "-P", "-m", "codesync.cli", "push", "--quiet"])
    allowed = "--allow-mass-delete --allow-large"
    app, view = shlex.quote(str(chain.replicas["one"].app)), shlex.quote(str(seen))
    steps = [
        f"printf {shlex.quote(EVERYTHING)} > .codesyncignore",
        f'{push} {allowed} -m "$REPLAY_SUBJECT"',
        f"rm -rf {view}",
        f"cp -a {app} {view}",
        *(f"rm -f {view}/{name}" for name in OURS),
    ]
    return " && ".join(steps)


def _judge(name: str) -> Path:
    if not os.path.isfile(name):
        raise NoReplay(f"{name} is not there; say with --judge where replay_history.py is")
    return Path(name)


def _gitdir(repository: str) -> str:
    command = ["git", "-C", repository, "rev-parse", "--absolute-git-dir"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoReplay(f"{repository} is no git repository; name one")
    return done.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", nargs="?", default=str(CHECKOUT), help="default: this project's own")
    parser.add_argument(
        "--commits", type=int, default=COMMITS, help="how many, up to HEAD (default %(default)d)"
    )
    parser.add_argument("--mode", action="append", choices=MODES, help="default: one after the other")
    parser.add_argument("--judge", default=str(JUDGE), help="replay_history.py (default %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
