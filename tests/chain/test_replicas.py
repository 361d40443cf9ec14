"""Several replicas: all run the new code, or none does."""

from tests.chain.harness import Chain, content, tree_of

# unhealthy on the second replica only
PICKY = """\
import os
TEXT = "picky"
HEALTHY = os.environ["PORT"] != "{port}"
"""


def test_a_push_reaches_every_replica(chain: Chain) -> None:
    chain.start("one", "two", "three")
    chain.write("content.py", content("new"))
    result = chain.push()
    assert result.status == "healthy"
    assert sorted(replica.status for replica in result.replicas) == ["healthy"] * 3
    for name, replica in chain.replicas.items():
        assert replica.ask() == "new", name
        assert tree_of(replica.app) == tree_of(chain.source)


def test_one_failed_health_check_brings_all_back_to_the_old_code(chain: Chain) -> None:
    chain.start_proxy()
    for name in ("one", "two"):
        chain.add_replica(name)
        chain.start_sidecar(name)
        chain.start_launcher(name, "--health-timeout", "1")
    chain.wait_ready(2)
    chain.write("content.py", PICKY.format(port=chain.replicas["two"].port))
    result = chain.push()
    assert result.status == "rolled_back"
    assert len(result.replicas) == 2
    for name, replica in chain.replicas.items():
        chain.wait_answer("the image", name)
        assert tree_of(replica.app) == tree_of(chain.image)
    assert {replica.generation for replica in chain.status().replicas} == {0}


def test_replicas_on_different_trees_are_brought_to_one(chain: Chain) -> None:
    chain.start("one")
    chain.write("content.py", content("first"))
    chain.push()
    (chain.image / "static" / "4.txt").write_text("another image\n")
    chain.add_replica("two")
    chain.start_sidecar("two")
    chain.start_launcher("two")
    chain.wait_ready(2)
    chain.write("content.py", content("second"))
    assert chain.push().status == "healthy"
    for replica in chain.replicas.values():
        assert replica.ask() == "second"
        assert tree_of(replica.app) == tree_of(chain.source)


def test_a_replica_that_comes_later_is_brought_up_to_date(chain: Chain) -> None:
    chain.start("one")
    for text in ("first", "second"):
        chain.write("content.py", content(text))
        chain.push()
    chain.add_replica("two")
    chain.start_sidecar("two")
    chain.start_launcher("two")
    chain.wait_answer("second", "two")
    assert tree_of(chain.replicas["two"].app) == tree_of(chain.source)


def test_replicas_keep_what_only_their_own_image_has(chain: Chain) -> None:
    chain.start("one")
    (chain.image / "only-here.txt").write_text("of the second image\n")
    chain.add_replica("two")
    chain.start_sidecar("two")
    chain.start_launcher("two")
    chain.wait_ready(2)
    for text in ("first", "second"):
        chain.write("content.py", content(text))
        assert chain.push().status == "healthy"
    for replica in chain.replicas.values():
        assert replica.ask() == "second"
    assert not (chain.replicas["one"].app / "only-here.txt").exists()
    assert (chain.replicas["two"].app / "only-here.txt").exists()
    assert chain.rollback().status == "healthy"
    chain.wait_answer("first", "one")
    chain.wait_answer("first", "two")
