"""Thirty releases of Flask, pushed one after the other: after each the application's directory equals the source."""

import shutil

import pytest

from acceptance.histories import sdists
from tests.chain.harness import Chain, running_chain, tree_of

MIDDLE = 12  # pushes after it; a replica remembers the last 20


def test_thirty_releases_one_after_the_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    sdists.fetch()
    versions = list(sdists.RELEASES)
    assert len(versions) == 30
    with running_chain(tmp_path_factory.mktemp("releases")) as chain:
        chain.start()
        chain.write(
            ".codesyncignore", "!*\n"
        )  # the examples' own .gitignore leaves out what was released with them
        pushed = {}
        for generation, version in enumerate(versions, 1):
            release(chain, version)
            result = chain.push(f"Flask {version}")
            assert (result.status, result.generation) == ("healthy", generation), version
            assert tree_of(chain.replicas["one"].app) == tree_of(chain.source), version
            pushed[version] = result.push_id
        middle = versions[-1 - MIDDLE]
        back = chain.rollback(pushed[middle])
        assert (back.status, back.generation, back.restores) == ("healthy", 31, pushed[middle])
        release(chain, middle)
        assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)
        assert chain.push().status == "no_changes"


def release(chain: Chain, version: str) -> None:
    """Make the developer's tree hold this release, beside the application that does not care."""
    shutil.rmtree(chain.source / "flask", ignore_errors=True)
    sdists.unpack(version, chain.source / "flask")
