"""The command line and the environment."""

import pytest

from codesync.launcher.options import Options, parse_options


def test_the_defaults_are_the_documented_ones() -> None:
    assert parse_options(["--", "app", "--flag", "--", "x"], {}) == Options(
        command=["app", "--flag", "--", "x"],
        files_dir="/app-files",
        app_root="/app",
        health=None,
        health_seconds=30,
        settle_seconds=1,
        stop_seconds=10,
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
    ],
)
def test_bad_usage_exits_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(arguments, {})

    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err
