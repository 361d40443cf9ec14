"""Flask's tutorial application under gunicorn: restarted, and with its master kept and told by a signal."""

from pathlib import Path

import pytest

from acceptance.apps.app import App, running_app
from acceptance.apps.fivepushes import Broken, Change, Five, Good, push_five

MAIN = "flaskr/__init__.py"
FIVE = Five(
    image="Hello, World!",
    good=Good(Change(MAIN, "Hello, World!", "Hello, first!"), "Hello, first!"),
    raises=Broken(
        Change("flaskr/blog.py", "from flask import g\n", "from flask import g\nimport flask_ng\n"),
        says="ModuleNotFoundError: No module named 'flask_ng'",
        exit_code=3,
    ),
    unhealthy=Broken(
        Change(MAIN, 'return "Hello, first!"', 'raise RuntimeError("no greeting today")'),
        says="RuntimeError: no greeting today",
        heard="HTTP status 500",
    ),
    hangs=Broken(Change(MAIN, "import os\n", "import os, time\n\ntime.sleep(3600)\n"), heard="no answer yet"),
    repaired=Good(Change(MAIN, "Hello, first!", "Hello, second!"), "Hello, second!"),
)


@pytest.mark.parametrize("reload", ["restart", "signal:HUP"])
def test_flaskr_under_gunicorn(reload: str, python: Path, flaskr_image: Path, tmp_path: Path) -> None:
    gunicorn = [str(python), "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1"]
    limits = ["--timeout", "5", "--graceful-timeout", "1"]
    app = App(
        (*gunicorn, *limits, "flaskr:create_app()"),
        health="/hello",
        kept=frozenset({"instance"}),
    )
    with running_app(tmp_path, flaskr_image, app, reload) as chain:
        database = chain.replicas["one"].app / "instance" / "flaskr.sqlite"
        before = database.read_bytes()
        push_five(chain, FIVE)
        assert database.read_bytes() == before
