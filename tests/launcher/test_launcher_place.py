"""Where an instance runs, and what that makes of command, check and environment."""

import pytest

from codesync.launcher.options import Options, parse_options
from codesync.launcher.place import Place
from codesync.supervise import HealthError

COMMAND = ["serve", "--dir={root}/static", "--port", "{port}"]


def options(*more: str) -> Options:
    return parse_options([*more, "--app-root", "/app", "--", *COMMAND], {})


def blue_green(*more: str) -> Options:
    return options("--reload", "blue-green", "--listen", "0.0.0.0:8000", *more)


def test_an_instance_with_a_port_gets_its_root_and_port() -> None:
    place = Place("/files/roots/3", 4711)
    assert place.command(blue_green()) == ["serve", "--dir=/files/roots/3/static", "--port", "4711"]
    assert place.environment("p1") == {"CODESYNC_PUSH_ID": "p1", "BIFROST_PUSH_ID": "p1", "PORT": "4711"}


def test_without_a_port_nothing_is_replaced() -> None:
    place = Place("/app")
    assert place.command(options()) == COMMAND
    assert place.environment("p1") == {"CODESYNC_PUSH_ID": "p1", "BIFROST_PUSH_ID": "p1"}
    assert place.check(options("--health", "cmd:test -e {root}")) == "cmd:test -e {root}"


@pytest.mark.parametrize(
    ("health", "asked"),
    [
        ("http://127.0.0.1:8000/health", "http://127.0.0.1:4711/health"),
        ("http://127.0.0.1:{port}/health", "http://127.0.0.1:4711/health"),
        ("http://[::1]:8000/", "http://[::1]:4711/"),
        ("tcp://localhost:8000", "tcp://localhost:4711"),
        ("cmd:curl localhost:{port}/8000", "cmd:curl localhost:4711/8000"),
        ("cmd:curl localhost:$PORT/x:8000", "cmd:curl localhost:$PORT/x:8000"),
        ("cmd:./check", "cmd:./check"),
    ],
)
def test_a_check_of_the_common_port_asks_the_instance(health: str, asked: str) -> None:
    assert Place("/files/roots/3", 4711).check(blue_green("--health", health)) == asked


def test_a_check_of_the_usual_port_asks_the_instance_too() -> None:
    at_80 = options("--reload", "blue-green", "--listen", "0.0.0.0:80", "--health", "http://h/health")
    assert Place("/files/roots/3", 4711).check(at_80) == "http://h:4711/health"


@pytest.mark.parametrize(
    "health",
    ["http://127.0.0.1:9000/", "tcp://h:1", "http://h/", "cmd:curl -f localhost:8000/health"],
)
def test_a_check_that_asks_whichever_instance_serves_is_refused(health: str) -> None:
    with pytest.raises(HealthError, match=r"write \{port\} in it"):
        Place("/files/roots/3", 4711).check(blue_green("--health", health))


@pytest.mark.parametrize(
    ("here", "cwd"),
    [
        ("/app", "/files/roots/3"),
        ("/app/src/web", "/files/roots/3/src/web"),
        ("/", "/"),
        ("/application", "/application"),
    ],
)
def test_an_instance_runs_where_the_launcher_was_started_in_its_own_root(here: str, cwd: str) -> None:
    assert Place("/files/roots/3", 4711).cwd(blue_green(), here) == cwd
    assert Place("/app").cwd(options(), here) == here
