"""Settings come from where they should, in the order they should, and say what is missing."""

import json
import os
from pathlib import Path

import pytest

from codesync import config
from codesync.config import (
    ConfigError,
    Settings,
    accepted_keys,
    find_project,
    load,
    load_sidecar,
    write_project,
)

ENVIRONMENT = {
    "CODESYNC_API_KEY": "k1",
    "CODESYNC_PROXY_URL": "https://proxy.example.com/team/",
    "CODESYNC_APP_ID": "shop",
    "CODESYNC_DEPLOYMENT_ID": "dev",
    "HOME": "/nowhere",
}


def project(directory: Path, name: str = ".codesync.json", **values: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(values))
    return directory


def without(*names: str, **more: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name not in names} | more


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings = load(environ=ENVIRONMENT, cwd=str(tmp_path))
    assert settings.app_id == "shop"
    assert settings.deployment_id == "dev"
    assert settings.api_key == "k1"
    assert settings.proxy_url == "wss://proxy.example.com/team"
    assert settings.app_root == str(tmp_path)
    assert settings.source.endswith(f":{tmp_path}")
    assert settings.cache_dir == "/nowhere/.cache/codesync"


@pytest.mark.parametrize(
    ("sources", "winner"),
    [
        ("argument codesync project bifrost", "argument"),
        ("codesync project bifrost", "codesync"),
        ("project bifrost", "project"),
        ("bifrost", "bifrost"),
    ],
)
def test_the_first_source_that_says_something_wins(tmp_path: Path, sources: str, winner: str) -> None:
    given = sources.split()
    environ = without("CODESYNC_APP_ID")
    environ |= {"CODESYNC_APP_ID": "codesync"} if "codesync" in given else {"CODESYNC_APP_ID": " "}
    environ |= {"BIFROST_APP_ID": "bifrost"} if "bifrost" in given else {}
    project(tmp_path, **({"app_id": "project"} if "project" in given else {}))
    argument = "argument" if "argument" in given else None
    assert load(app_id=argument, environ=environ, cwd=str(tmp_path)).app_id == winner


def test_the_project_file_is_found_from_below_and_names_the_tree(tmp_path: Path) -> None:
    project(tmp_path / "repo", app_root="service", app_id="a")
    (tmp_path / "repo/service/deep").mkdir(parents=True)
    settings = load(environ=without("CODESYNC_APP_ID"), cwd=str(tmp_path / "repo/service/deep"))
    assert settings.app_root == str(tmp_path / "repo/service")
    assert settings.app_id == "a"


def test_the_older_project_file_counts_where_the_newer_is_missing(tmp_path: Path) -> None:
    project(tmp_path, ".bifrost.json", app_id="old", something_else=[1])
    assert load(environ=without("CODESYNC_APP_ID"), cwd=str(tmp_path)).app_id == "old"
    project(tmp_path, app_id="new")
    assert load(environ=without("CODESYNC_APP_ID"), cwd=str(tmp_path)).app_id == "new"


def test_an_app_root_that_is_given_does_not_borrow_another_trees_project_file(tmp_path: Path) -> None:
    project(tmp_path / "repo", app_root="one", app_id="one")
    (tmp_path / "repo/one").mkdir()
    (tmp_path / "repo/two").mkdir()
    environ = without("CODESYNC_APP_ID")
    assert load(app_root="repo/one", environ=environ, cwd=str(tmp_path)).app_id == "one"
    assert load(app_root="repo", environ=environ, cwd=str(tmp_path)).app_root == str(tmp_path / "repo")
    with pytest.raises(ConfigError, match="no app_id: run `codesync init`"):
        load(app_root="repo/two", environ=environ, cwd=str(tmp_path))


def test_the_launchers_app_root_is_not_the_developers(tmp_path: Path) -> None:
    assert load(environ=without(CODESYNC_APP_ROOT="/app"), cwd=str(tmp_path)).app_root == str(tmp_path)


def test_a_home_directory_is_not_pushed_by_accident(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no application"):
        load(environ=without(HOME=str(tmp_path)), cwd=str(tmp_path))
    assert load(app_root=".", environ=without(HOME=str(tmp_path)), cwd=str(tmp_path)).app_root == str(
        tmp_path
    )


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"CODESYNC_API_KEY": "k"}, cwd=str(tmp_path))
    assert "no app_id, deployment_id, proxy_url" in str(caught.value)
    assert "CODESYNC_APP_ID, CODESYNC_DEPLOYMENT_ID, CODESYNC_PROXY_URL" in str(caught.value)
    assert caught.value.setting == "app_id"


def test_a_key_is_needed_for_any_proxy_that_is_not_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set CODESYNC_API_KEY"):
        load(environ=without("CODESYNC_API_KEY"), cwd=str(tmp_path))
    for url in ("http://127.0.0.1:8000", "ws://localhost", "http://[::1]:8000"):
        settings = load(proxy_url=url, environ=without("CODESYNC_API_KEY"), cwd=str(tmp_path))
        assert settings.api_key == ""


def test_the_key_shows_in_no_repr_and_no_project_file(tmp_path: Path) -> None:
    assert "k1" not in repr(load(environ=ENVIRONMENT, cwd=str(tmp_path)))
    project(tmp_path, api_key="secret")
    with pytest.raises(ConfigError, match="take it out") as caught:
        load(environ=ENVIRONMENT, cwd=str(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("http://host", "ws://host"),
        ("https://host:8443/a/b//", "wss://host:8443/a/b"),
        ("ws://[fd00::1]:80", "ws://[fd00::1]:80"),
        ("WSS://host/", "wss://host"),
    ],
)
def test_a_proxy_url_may_be_http_or_websocket_with_a_prefix(tmp_path: Path, written: str, read: str) -> None:
    assert load(proxy_url=written, environ=ENVIRONMENT, cwd=str(tmp_path)).proxy_url == read


@pytest.mark.parametrize(
    "url",
    [
        "host:8000",
        "ftp://host",
        "http://",
        "http://h?x=1",
        "http://h#f",
        "http://u:p@h",
        "http://h:x",
        "http://[h",
    ],
)
def test_a_malformed_proxy_url_is_told_how_it_should_look(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"proxy_url .* is malformed: write it as https://"):
        load(proxy_url=url, environ=ENVIRONMENT, cwd=str(tmp_path))


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "x" * 129, "..", "."])
def test_a_malformed_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"app_id .* is malformed"):
        load(app_id=name, environ=ENVIRONMENT, cwd=str(tmp_path))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"app_id": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_malformed_project_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".codesync.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"/\.codesync\.json"):
        load(environ=ENVIRONMENT, cwd=str(tmp_path))


HOOKS = [
    {"when": "requirements*.txt", "run": "pip install -r requirements.txt", "before": "start"},
    {"when": "/migrations/", "run": "./migrate", "after": "healthy", "timeout": 30},
]


def test_hooks_are_read_from_the_project_file(tmp_path: Path) -> None:
    project(tmp_path, hooks=HOOKS)
    first, second = load(environ=ENVIRONMENT, cwd=str(tmp_path)).hooks
    assert (first.when, first.run) == ("requirements*.txt", "pip install -r requirements.txt")
    assert (first.moment, first.seconds) == ("before_start", 120.0)
    assert (second.moment, second.seconds) == ("after_healthy", 30.0)
    project(tmp_path, hooks=None)
    assert load(environ=ENVIRONMENT, cwd=str(tmp_path)).hooks == ()


def test_a_malformed_hook_is_named_with_its_file(tmp_path: Path) -> None:
    project(tmp_path, hooks=[*HOOKS, {"when": "*", "run": "make"}])
    with pytest.raises(ConfigError, match=r"/\.codesync\.json: hooks\[2\] must say exactly one of") as caught:
        load(environ=ENVIRONMENT, cwd=str(tmp_path))
    assert caught.value.setting == "hooks"


def test_the_older_project_file_has_no_hooks(tmp_path: Path) -> None:
    project(tmp_path, ".bifrost.json", app_id="a", hooks="something of its own", Hooks=1)
    assert load(environ=without("CODESYNC_APP_ID"), cwd=str(tmp_path)).hooks == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hook", "hooks"),
        ("Hooks", "hooks"),
        ("app-id", "app_id"),
        ("proxyUrl", "proxy_url"),
        ("appRoot", "app_root"),
    ],
)
def test_a_field_that_is_nearly_one_of_ours_is_refused(tmp_path: Path, name: str, meant: str) -> None:
    (tmp_path / ".codesync.json").write_text(json.dumps({name: []}))
    with pytest.raises(ConfigError, match=f'no field "{name}"; did you mean {meant}'):
        load(environ=ENVIRONMENT, cwd=str(tmp_path))


def test_other_fields_are_left_to_whoever_put_them_there(tmp_path: Path) -> None:
    found = {"$schema": "x", "description": "y", "webhooks": [], "team": 1}
    (tmp_path / ".codesync.json").write_text(json.dumps(found))
    assert load(environ=ENVIRONMENT, cwd=str(tmp_path)).app_id == "shop"


def test_an_app_root_that_is_not_there_names_who_named_it(tmp_path: Path) -> None:
    project(tmp_path, app_root="gone")
    with pytest.raises(ConfigError, match=r"gone \(named by .*codesync\.json\) is not a directory"):
        load(environ=ENVIRONMENT, cwd=str(tmp_path))


def test_a_strangers_project_file_further_up_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, app_id="a")
    (tmp_path / "below").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    os.chown(tmp_path / ".codesync.json", os.getuid() or 1234, -1)
    assert find_project(str(tmp_path)) is not None
    with pytest.raises(ConfigError, match="belongs to another user"):
        find_project(str(tmp_path / "below"))


def test_the_source_can_be_named_and_is_one_line(tmp_path: Path) -> None:
    settings = load(environ=without(CODESYNC_SOURCE="ci \n build 7"), cwd=str(tmp_path))
    assert settings.source == "ci build 7"


def test_a_sidecar_reads_no_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, app_id="project"))
    settings = load_sidecar(ENVIRONMENT)
    assert settings.app_id == "shop"
    assert settings.files_dir == config.DEFAULT_FILES_DIR
    assert load_sidecar(without(BIFROST_FILES_DIR="/vol")).files_dir == "/vol"
    with pytest.raises(ConfigError, match=r"no app_id: set CODESYNC_APP_ID$"):
        load_sidecar(without("CODESYNC_APP_ID"))


def test_a_server_may_accept_several_keys() -> None:
    assert accepted_keys({"CODESYNC_API_KEY": " old\tnew\n"}) == ("old", "new")
    assert accepted_keys({"BIFROST_API_KEY": "only"}) == ("only",)
    assert accepted_keys({}) == ()
    with pytest.raises(ConfigError, match="printable ASCII"):
        accepted_keys({"CODESYNC_API_KEY": "schlüssel"})


def test_a_key_of_two_words_is_no_clients_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without blanks"):
        load(environ=without(CODESYNC_API_KEY="old new"), cwd=str(tmp_path))


def test_a_project_file_that_was_written_is_read_again(tmp_path: Path) -> None:
    path = write_project(str(tmp_path), {"app_id": "a", "deployment_id": "d"})
    assert path == str(tmp_path / ".codesync.json")
    settings = load(environ=without("CODESYNC_APP_ID", "CODESYNC_DEPLOYMENT_ID"), cwd=str(tmp_path))
    assert (settings.app_id, settings.deployment_id) == ("a", "d")
    with pytest.raises(ConfigError, match="--force"):
        write_project(str(tmp_path), {"app_id": "b", "deployment_id": "d"})
    write_project(str(tmp_path), {"app_id": "b", "deployment_id": "d"}, force=True)
    with pytest.raises(ConfigError, match="malformed"):
        write_project(str(tmp_path), {"app_id": "b/c"}, force=True)
    assert json.loads(Path(path).read_text()) == {"app_id": "b", "deployment_id": "d"}


def test_a_project_file_that_is_replaced_keeps_what_is_not_ours_to_write(tmp_path: Path) -> None:
    path = tmp_path / ".codesync.json"
    hooks = [{"when": "*", "run": "make", "before": "start"}]
    others = {"hooks": hooks, "editor": {"theme": 1}}
    path.write_text(json.dumps({"app_id": "a", "proxy_url": "ws://old", "app_root": "src"} | others))
    write_project(str(tmp_path), {"app_id": "b", "deployment_id": "d"}, force=True)
    assert json.loads(path.read_text()) == {"app_id": "b", "deployment_id": "d"} | others
    assert [hook.run for hook in load(environ=ENVIRONMENT, cwd=str(tmp_path)).hooks] == ["make"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000], ids=range(4))
def test_a_project_file_that_cannot_be_read_is_replaced_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".codesync.json").write_bytes(content)
    path = write_project(str(tmp_path), {"app_id": "b", "deployment_id": "d"}, force=True)
    assert json.loads(Path(path).read_text()) == {"app_id": "b", "deployment_id": "d"}


def test_settings_are_frozen() -> None:
    settings = Settings("k", "ws://h", "a", "d")
    with pytest.raises(AttributeError):
        settings.app_id = "b"  # type: ignore[misc]
