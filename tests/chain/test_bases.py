"""What a push costs: next to nothing where its basis is held here, little where only the replica has it."""

import hashlib
import random
import shutil
import threading
from pathlib import Path

import pytest

from codesync.client.push import WRITER
from codesync.protocol import Chunk, GetDetails, GetSignatures
from tests.chain.harness import Chain
from tests.chain.wiretap import Wiretap, wiretap

__all__ = ["wiretap"]
LARGE = 2_000_000


@pytest.fixture
def stored(chain: Chain) -> Chain:
    """A proxy, and a replica that has two files and no launcher: it stores what it is given."""
    make = random.Random(1)
    (chain.source / "module.py").write_text(
        "".join(f"value_{number} = {make.randrange(10**9)}\n" for number in range(3000))
    )
    (chain.source / "large.bin").write_bytes(make.randbytes(LARGE))
    chain.start_proxy()
    chain.add_replica()
    chain.start_sidecar()
    chain.wait("the sidecar", lambda: chain.status().replicas or None)
    push(chain)
    return chain


def push(chain: Chain) -> int:
    """Push, and wait until what was pushed is held; how many bytes the batch had."""
    result = chain.push()
    assert result.status == "stored"
    for name in ("module.py", "large.bin"):
        assert (chain.replicas["one"].current / name).read_bytes() == (chain.source / name).read_bytes()
    for thread in threading.enumerate():
        if thread.name == WRITER:
            thread.join(10)
    return result.bytes.sent


def held(chain: Chain) -> Path:
    return chain.directory / "cache" / "codesync" / "contents"


def edit(path: Path, *places: int, text: bytes = b"0123456789") -> None:
    """Insert the text at these places of a file."""
    data = path.read_bytes()
    for place in sorted(places, reverse=True):
        data = data[:place] + text + data[place:]
    path.write_bytes(data)


def test_what_this_machine_has_pushed_is_not_asked_about(stored: Chain, wiretap: Wiretap) -> None:
    for number in range(3):
        edit(stored.source / "module.py", 20_000, text=f"edit = {number}\n".encode())
        assert push(stored) < 400
    assert len(wiretap.of(Chunk)) == 3
    assert wiretap.of(GetSignatures) == []


def test_what_a_command_has_pushed_is_held_when_it_ends(stored: Chain) -> None:
    edit(stored.source / "module.py", 20_000)
    done = stored.command("push", "-m", "an edit", "--take-over")
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((stored.source / "module.py").read_bytes()).hexdigest()
    assert (held(stored) / digest).exists()


def test_an_insertion_into_a_large_file_that_nobody_holds_here_costs_little(
    stored: Chain, wiretap: Wiretap
) -> None:
    shutil.rmtree(held(stored))
    edit(stored.source / "large.bin", LARGE // 2)
    push(stored)
    assert len(wiretap.of(GetSignatures)) == 1
    assert wiretap.bytes_for_contents() < 10_000


def test_where_a_signature_leaves_much_open_a_second_round_costs_less(
    stored: Chain, wiretap: Wiretap
) -> None:
    shutil.rmtree(held(stored))
    edit(stored.source / "large.bin", *range(10_000, LARGE, 40_000))
    sent = push(stored)
    (first,), (second,) = wiretap.of(GetSignatures), wiretap.of(GetDetails)
    assert first.coarse_from
    assert [file.path for file in second.files] == [b"large.bin"]
    assert sent < 20_000  # blocks of 4 KiB, all fifty of them, were ten times as much
    assert wiretap.bytes_for_contents() < 30_000


def test_every_signature_has_a_seed_of_its_own(stored: Chain, wiretap: Wiretap) -> None:
    seeds = set()
    for _ in range(2):
        shutil.rmtree(held(stored))
        edit(stored.source / "large.bin", *range(10_000, LARGE, 40_000))
        push(stored)
        seeds.add(wiretap.of(GetDetails)[-1].files[0].seed)
    assert len(seeds) == 2


def test_a_content_that_is_damaged_is_asked_about_and_held_again(stored: Chain, wiretap: Wiretap) -> None:
    for path in held(stored).iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    edit(stored.source / "module.py", 20_000)
    push(stored)
    assert len(wiretap.of(GetSignatures)) == 1
    edit(stored.source / "module.py", 30_000)
    push(stored)
    assert len(wiretap.of(GetSignatures)) == 1


def test_a_push_goes_on_where_nothing_can_be_held(stored: Chain, wiretap: Wiretap) -> None:
    shutil.rmtree(held(stored))
    held(stored).write_text("in the way\n")
    for number in range(2):
        edit(stored.source / "module.py", 20_000, text=f"edit = {number}\n".encode())
        push(stored)
    assert len(wiretap.of(GetSignatures)) == 2
