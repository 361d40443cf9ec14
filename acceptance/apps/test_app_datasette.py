"""Datasette, which serves a directory with a database and a plugin: the plugin is what is pushed."""

from pathlib import Path

from acceptance.apps.app import App, running_app
from acceptance.apps.fivepushes import Broken, Change, Five, Good, push_five

PLUGIN = "plugins/census.py"
FIRST_LINE = "from datasette import Response, hookimpl\n"
FIVE = Five(
    image="3 plants",
    good=Good(Change(PLUGIN, "} plants", "} trees"), "3 trees"),
    raises=Broken(
        Change(PLUGIN, FIRST_LINE, FIRST_LINE + "import datasette_ng\n"),
        says="ModuleNotFoundError: No module named 'datasette_ng'",
        exit_code=1,
    ),
    unhealthy=Broken(
        Change(PLUGIN, "count(*) from plants", "count(*) from weeds"),
        says="sqlite3.OperationalError: no such table: weeds",
        heard="HTTP status 500",
    ),
    hangs=Broken(
        Change(PLUGIN, FIRST_LINE, FIRST_LINE + "import time\ntime.sleep(3600)\n"), heard="Connection refused"
    ),
    repaired=Good(Change(PLUGIN, "} trees", "} plants and no weed"), "3 plants and no weed"),
)


def test_datasette(python: Path, datasette_image: Path, tmp_path: Path) -> None:
    command = (str(python), "-m", "datasette", "serve", ".", "--port", "{port}")
    with running_app(tmp_path, datasette_image, App(command, health="/census")) as chain:
        push_five(chain, FIVE)
