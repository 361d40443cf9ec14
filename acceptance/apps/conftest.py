"""The images: each an application as it would lie in its container, made once, and how that container runs it."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.apps import packages

CENSUS = """\
from datasette import Response, hookimpl


async def census(datasette):
    rows = await datasette.get_database("plants").execute("select count(*) from plants")
    return Response.text(f"{rows.single_value()} plants")


@hookimpl
def register_routes():
    return [(r"^/census$", census)]
"""

pytest.register_assert_rewrite("acceptance.apps.fivepushes")


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that has the Python applications."""
    return packages.python_packages()


@pytest.fixture(scope="session")
def flaskr_image(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flask's tutorial, as its source distribution has it, with an empty database."""
    from acceptance.histories import sdists

    directory = tmp_path_factory.mktemp("flaskr")
    sdists.unpack(sdists.LATEST, directory / "flask")
    image = directory / "flask" / "examples" / "tutorial"
    subprocess.run(
        [str(python), "-m", "flask", "--app", "flaskr", "init-db"], cwd=image, check=True, capture_output=True
    )
    return image


@pytest.fixture(scope="session")
def django_image(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What django-admin makes for a new project."""
    image = tmp_path_factory.mktemp("django")
    subprocess.run(
        [str(python), "-m", "django", "startproject", "mysite", str(image)], check=True, capture_output=True
    )
    return image


@pytest.fixture(scope="session")
def datasette_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that datasette serves: a database, a plugin, a template."""
    image = tmp_path_factory.mktemp("datasette")
    with closing(sqlite3.connect(image / "plants.db")) as database, database:
        database.execute("create table plants (name text)")
        database.executemany("insert into plants values (?)", [("ash",), ("birch",), ("cedar",)])
    (image / "plugins").mkdir()
    (image / "plugins" / "census.py").write_text(CENSUS)
    (image / "metadata.json").write_text('{"title": "Plants"}\n')
    return image


@pytest.fixture(scope="session")
def http_server_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """npm's http-server with its dependencies, as a container's image has them, and a page to serve."""
    modules = packages.http_server()
    image = tmp_path_factory.mktemp("http-server") / "image"
    shutil.copytree(modules / "http-server", image)
    shutil.copytree(
        modules,
        image / "node_modules",
        ignore=lambda at, _: {"http-server", ".bin"} if Path(at) == modules else (),
    )
    (image / ".gitignore").write_text("node_modules/\n")
    (image / "public").mkdir()
    (image / "public" / "index.html").write_text("<h1>a page</h1>\n")
    return image
