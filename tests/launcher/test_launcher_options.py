"""The command line and the environment."""

import signal

import pytest

from codesync.launcher.options import Options, parse_options, reload_signal


def test_the_defaults_are_the_documented_ones() -> None:
    assert parse_options(["--", "app", "--flag", "--", "x"], {}) == Options(
        command=["app", "--flag", "--", "x"],
        files_dir="/app-files",
        app_root="/app",
        health=None,
        health_body=None,
        health_seconds=30,
        settle_seconds=1,
        stop_seconds=10,
        probation_seconds=10,
        drain_seconds=10,
        keep_failed=False,
        log_tail=True,
        reload="restart",
        listen=None,
    )


def test_options_beat_the_environment_and_new_names_the_old_ones() -> None:
    old = {"BIFROST_FILES_DIR": "/old-files", "BIFROST_APP_ROOT": "/old-app"}
    new = {**old, "CODESYNC_FILES_DIR": "/files", "CODESYNC_APP_ROOT": ""}

    found = parse_options(["--", "x"], old)
    assert (found.files_dir, found.app_root) == ("/old-files", "/old-app")
    found = parse_options(["--", "x"], new)
    assert (found.files_dir, found.app_root) == ("/files", "/old-app")
    given = parse_options(
        ["--files-dir", "/f", "--app-root=/a", "--health", "cmd:true", "--settle", "0.5", "--", "x"], new
    )
    assert (given.files_dir, given.app_root, given.health, given.settle_seconds) == (
        "/f",
        "/a",
        "cmd:true",
        0.5,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["app"],
        ["--"],
        ["--what", "--", "x"],
        ["--settle", "-1", "--", "x"],
        ["--stop-timeout", "nan", "--", "x"],
        ["--health-body", "ok", "--", "x"],
        ["--health", "tcp://h:1", "--health-body", "ok", "--", "x"],
        ["--on-failure", "ignore", "--", "x"],
        ["--reload", "signal", "--", "x"],
        ["--reload", "signal:NONE", "--", "x"],
        ["--reload", "reboot", "--", "x"],
        ["--reload", "signal:KILL", "--", "x"],
        ["--reload", "blue-green", "--listen", "h:0", "--", "x"],
        ["--probation", "soon", "--", "x"],
        ["--reload", "blue-green", "--", "x"],
        ["--listen", "0.0.0.0:8000", "--", "x"],
        ["--reload", "blue-green", "--listen", "8000", "--", "x"],
        ["--reload", "blue-green", "--listen", "h:70000", "--", "x"],
        ["--reload", "blue-green", "--listen", "h:8000", "--on-failure", "keep", "--", "x"],
    ],
)
def test_bad_usage_exits_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(arguments, {})

    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "way"),
    [
        ("restart", "restart"),
        ("none", "none"),
        ("signal:HUP", "signal:HUP"),
        ("signal:sigusr2", "signal:USR2"),
    ],
)
def test_a_way_to_reload_is_known_by_its_plain_name(given: str, way: str) -> None:
    assert parse_options(["--reload", given, "--", "x"], {}).reload == way


def test_a_ways_signal_is_the_systems_number() -> None:
    assert reload_signal("signal:HUP") == signal.SIGHUP
    assert reload_signal("restart") is None


def test_an_address_to_listen_on_may_be_of_either_family() -> None:
    for text, address in (("0.0.0.0:8000", ("0.0.0.0", 8000)), ("[::1]:80", ("::1", 80))):
        assert parse_options(["--reload", "blue-green", "--listen", text, "--", "x"], {}).listen == address
