"""One operation of the engine as a process of its own, which imports nothing but what that operation needs.

    python -m bench.process NAME ARGUMENT …

It prints what the operation itself took, without start and imports: CPU seconds, wall seconds; and the peak of
the process's memory in bytes. `bench.ours` starts it and reads that.
"""

import sys
from collections.abc import Callable
from time import perf_counter, process_time

Work = Callable[[], object]


def idle() -> Work:
    """Nothing: what a process has that has only imported the engine."""
    import codesync.delta  # noqa: F401

    return int


def sign(basis: str, out: str, block_size: str = "") -> Work:
    """Write the signature of a basis."""
    from codesync.delta import signature

    def work() -> None:
        with open(basis, "rb") as file, open(out, "wb") as written:
            written.write(signature(file, int(block_size) if block_size else None).to_bytes())

    return work


def search(basis: str, target: str) -> Work:
    """Signature and delta, nothing written."""
    from codesync.delta import delta, signature

    def work() -> None:
        with open(basis, "rb") as old, open(target, "rb") as new:
            for _ in delta(signature(old), new):
                pass

    return work


def generate(basis: str, target: str, out: str) -> Work:
    """What rsync does for a batch: the signature of the basis, the delta of the target, written to a file."""
    from codesync.delta import signature, write_delta

    def work() -> None:
        with open(basis, "rb") as old, open(target, "rb") as new, open(out, "wb") as written:
            write_delta(written, signature(old), new)

    return work


def held(basis: str, target: str, out: str) -> Work:
    """The delta of who holds the basis, written to a file."""
    from codesync.delta import write_delta

    def work() -> None:
        with open(basis, "rb") as old, open(target, "rb") as new, open(out, "wb") as written:
            write_delta(written, old, new)

    return work


def restore(basis: str, delta: str, out: str) -> Work:
    """Patch the basis, the result's digest verified."""
    from codesync.delta import DeltaReader, patch

    def work() -> None:
        with open(basis, "rb") as old, open(delta, "rb") as operations, open(out, "wb") as written:
            patch(old, DeltaReader(operations), written)

    return work


def batch(root: str, cache: str, base_manifest: str, base_root: str, out: str) -> Work:
    """Scan a tree, and write what leads there from the base, whose contents stand below `base_root`."""
    import os
    from typing import BinaryIO

    from codesync.delta import Entry, Manifest, ManifestCache, scan, write_batch

    def basis(entry: Entry) -> BinaryIO:
        return open(os.path.join(os.fsencode(base_root), entry.path), "rb")

    def work() -> None:
        with open(base_manifest, "rb") as file:
            base = Manifest.from_bytes(file.read())
        target = scan(root, cache=ManifestCache(cache))
        with open(out, "wb") as written:
            write_batch(written, root, base, target, basis=basis)

    return work


def load(manifest: str, path: str = "") -> Work:
    """Load a manifest, and look up a path if one is given."""
    from codesync.delta import Manifest

    def work() -> None:
        with open(manifest, "rb") as file:
            loaded = Manifest.from_bytes(file.read())
        assert not path or loaded.get(path.encode()) is not None

    return work


OPERATIONS: dict[str, Callable[..., Work]] = {
    operation.__name__: operation for operation in (idle, sign, search, generate, held, restore, batch, load)
}


def peak() -> int:
    """Bytes. Linux says it of this program alone; `ru_maxrss` may be that of the one that has started it."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024


def main() -> None:
    name, *arguments = sys.argv[1:]
    work = OPERATIONS[name](*arguments)
    wall, cpu = perf_counter(), process_time()
    work()
    print(process_time() - cpu, perf_counter() - wall, peak())


if __name__ == "__main__":
    main()
