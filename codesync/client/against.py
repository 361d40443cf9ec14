"""What the deltas of a push are made against: contents held here, or what a replica tells of those that only it has.

What is held costs no question. Of the rest a replica is asked for signatures, and for details where a large file's signature,
which is coarse for that, leaves much open. A question that is not answered only makes the push larger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, NamedTuple

from codesync.client.contents import Contents
from codesync.client.results import ClientError
from codesync.client.session import Session
from codesync.client.signatures import OpenEnds, ask_details, ask_signatures
from codesync.delta import Entry, Signature
from codesync.delta.refine import Gaps, Refined, gaps
from codesync.plan import Plan
from codesync.protocol import GetDetails, ReplicaState, TreeRef, wire_name
from codesync.transaction import Root, TransactionError

SIGNATURE_FROM = 4096  # bytes: smaller files go whole
SIGNATURES_FROM = 32 * 1024  # bytes of all files that changed: with less to send, a round trip is saved
COARSE_FROM = 256 * 1024  # bytes of a file that may be worth a second round
DETAILS_FROM = 32 * 1024  # bytes that are left open: with less, the second round trip is saved


class Against(NamedTuple):
    """For `write_batch`."""

    signatures: Mapping[bytes, Signature | Refined]
    basis: Callable[[Entry], BinaryIO | None]


class Sides(NamedTuple):
    """What is pushed, from the tree at `root`, to the replicas at `ref`. `refines`: one of them tells details."""

    root: str
    plan: Plan
    ref: TreeRef
    refines: bool

    @classmethod
    def of(cls, root: str, plan: Plan, ref: TreeRef, replicas: Iterable[ReplicaState]) -> Sides:
        """As the deployment's replicas say."""
        knows = wire_name(GetDetails)
        return cls(root, plan, ref, any(ref == one.tree and knows in one.questions for one in replicas))


async def find_bases(session: Session, sides: Sides, held: Contents) -> Against:
    """Look for what each file that changes can be made a delta against. Raises ClientError, Disconnected."""
    paths = _worth_a_signature(sides.plan, _large(sides.plan))
    if paths:
        paths = _worth_a_signature(sides.plan, await asyncio.to_thread(_not_held, sides.plan, paths, held))
    coarse_from = COARSE_FROM if sides.refines else 0
    told = await ask_signatures(session, sides.ref, paths, coarse_from=coarse_from) if paths else {}
    details = await _refined(session, sides, told) if sides.refines else {}
    return Against({**told, **details}, lambda entry: held.open(entry.digest, entry.size))


def _large(found: Plan) -> list[bytes]:
    """The files that may be worth a signature each."""
    return [path for path in found.difference.modified if _is_large(found.base[path], found.target[path])]


def _is_large(old: Entry, new: Entry) -> bool:
    return old.kind == new.kind and min(old.size, new.size) >= SIGNATURE_FROM


def _not_held(found: Plan, paths: list[bytes], held: Contents) -> list[bytes]:
    bases = ((path, found.base[path]) for path in paths)
    return [path for path, entry in bases if not held.has(entry.digest, entry.size)]


def _worth_a_signature(found: Plan, paths: list[bytes]) -> list[bytes]:
    """All of them, or none where they are sooner sent than asked about."""
    return paths if sum(found.target[path].size for path in paths) >= SIGNATURES_FROM else []


async def _refined(
    session: Session, sides: Sides, signatures: Mapping[bytes, Signature]
) -> dict[bytes, Refined]:
    """The second round, for the files where it is worth a round trip."""
    coarse = {path: sig for path, sig in signatures.items() if sig.length >= COARSE_FROM}
    open_ends = await asyncio.to_thread(_open_ends, coarse, sides.root) if coarse else {}
    if sum(_size(ends.gaps) for ends in open_ends.values()) < DETAILS_FROM:
        return {}
    try:
        told = await ask_details(session, sides.ref, open_ends)
    except ClientError:
        return {}  # if the push has ended, whatever is sent next says so
    return {path: Refined(signatures[path], open_ends[path].gaps, details) for path, details in told.items()}


def _open_ends(signatures: Mapping[bytes, Signature], root: str) -> dict[bytes, OpenEnds]:
    found: dict[bytes, OpenEnds] = {}
    with Root(root) as tree:
        for path, sig in signatures.items():
            try:
                with tree.open(path) as file:
                    left = gaps(sig, file)
            except (OSError, TransactionError):
                continue  # write_batch finds out what has become of it
            if left.gaps or left.orphans:
                found[path] = OpenEnds(sig.seed, left)
    return found


def _size(left: Gaps) -> int:
    return sum(gap.size for gap in left.gaps) + sum(orphan.length for orphan in left.orphans)
