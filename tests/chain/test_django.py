"""Real input: one release of Django pushed over the one before, about 7,000 files, compared byte for byte."""

import shutil

from bench.workloads.downloads import unpack
from tests.chain.harness import Chain, tree_of


def test_one_release_is_pushed_over_the_one_before(chain: Chain) -> None:
    unpack("5.2", chain.image / "django")
    shutil.rmtree(chain.source)
    shutil.copytree(chain.image, chain.source, symlinks=True)
    chain.start()
    assert chain.push().status == "no_changes"
    app = chain.replicas["one"].app
    before = tree_of(app)
    shutil.rmtree(chain.source / "django")
    unpack("5.2.1", chain.source / "django")
    result = chain.push("Django 5.2.1")
    assert result.status == "healthy"
    assert tree_of(app) == tree_of(chain.source)
    assert len(tree_of(app)) > 6800
    assert result.files.modified > 50
    assert result.bytes.sent < result.bytes.tree / 100
    print(result.files, result.bytes, result.timings_ms)
    assert chain.rollback().status == "healthy"
    assert tree_of(app) == before
