"""Parts that start late, in any order, restart or are replaced."""

import shutil

from tests.chain.harness import Chain, content, tree_of


def test_the_application_runs_before_and_without_a_sidecar(chain: Chain) -> None:
    chain.start_proxy()
    chain.add_replica()
    chain.start_launcher()
    chain.wait_answer("the image")
    chain.start_sidecar()
    chain.wait_ready()
    chain.write("content.py", content("new"))
    assert chain.push().status == "healthy"
    assert chain.replicas["one"].ask() == "new"


def test_a_push_without_a_launcher_is_stored_and_applied_when_it_starts(chain: Chain) -> None:
    chain.start_proxy()
    chain.add_replica()
    chain.start_sidecar()
    chain.wait("a replica", lambda: chain.status().replicas or None)
    chain.write("content.py", content("stored"))
    result = chain.push()
    assert result.status == "stored"
    assert "next start" in result.next_step
    chain.start_launcher()
    chain.wait_answer("stored")
    chain.wait_ready()
    chain.write("content.py", content("then"))
    assert chain.push().status == "healthy"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_a_restarted_container_comes_back_with_the_pushed_code(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("pushed"))
    chain.push()
    chain.kill("launcher-one")
    chain.start_launcher()
    chain.wait_answer("pushed")
    chain.wait_ready()
    assert chain.status().replicas[0].generation == 1


def test_a_replaced_container_comes_back_with_the_pushed_code(chain: Chain) -> None:
    chain.start()
    chain.push()  # from now on the files are tracked, so that a delete is meant
    (chain.source / "static" / "0.txt").unlink()
    chain.write("content.py", content("pushed"))
    chain.push()
    chain.kill("launcher-one")
    chain.replace_container()
    chain.start_launcher()
    chain.wait_answer("pushed")
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)
    chain.wait_ready()
    chain.write("content.py", content("then"))
    assert chain.push().status == "healthy"


def test_another_image_starts_anew_and_status_says_so(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("pushed"))
    chain.push()
    chain.kill("launcher-one")
    (chain.image / "content.py").write_text(content("image two"))
    chain.replace_container()
    chain.start_launcher()
    chain.wait_answer("image two")
    chain.wait("the new image's tree", lambda: True if chain.status().replicas[0].generation == 0 else None)
    chain.wait_ready()
    assert "image has changed: 1 earlier push" in chain.status().replicas[0].notes[0]
    chain.write("content.py", content("then"))
    assert chain.push().status == "healthy"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_pushes_made_while_the_container_was_down_are_applied_by_a_restart(chain: Chain) -> None:
    chain.start()
    chain.write("extra.txt", "of the first push")
    chain.push()
    chain.kill("launcher-one")
    chain.wait("the launcher gone", lambda: True if chain.status().replicas[0].launcher == "absent" else None)
    (chain.source / "extra.txt").unlink()
    chain.write("content.py", content("meanwhile"))
    assert chain.push().status == "stored"
    chain.start_launcher()
    chain.wait_answer("meanwhile")
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_a_restarted_proxy_and_sidecar_go_on(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("first"))
    chain.push()
    chain.kill("proxy")
    chain.kill("sidecar-one")
    shutil.rmtree(chain.directory / "proxy")
    chain.start_proxy()
    chain.start_sidecar()
    chain.wait_ready()
    chain.write("content.py", content("second"))
    assert chain.push().status == "healthy"
    assert chain.replicas["one"].ask() == "second"


def test_a_push_after_the_container_was_stopped_is_stored(chain: Chain) -> None:
    chain.start()
    chain.processes.terminate("launcher-one")
    chain.wait("the launcher gone", lambda: True if chain.status().replicas[0].launcher == "absent" else None)
    chain.write("content.py", content("meanwhile"))
    assert chain.push().status == "stored"
    chain.start_launcher()
    chain.wait_answer("meanwhile")
