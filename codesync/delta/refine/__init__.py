"""A second round, where only the remote holds the basis: small blocks, but only around what has not matched.

After a delta against a signature has been made, the sender knows for most gaps, stretches of the target that did not match,
what stands in their place in the basis. It asks for the basis's checksums there, in small pieces; a piece can stand at a few
places only, so three bytes tell it well enough. What else of the basis has not been found, because it has moved and changed,
is asked for as another signature, of smaller blocks.

    sender                                       remote
    found = gaps(sig, target)      ──ranges──▶
                                   ◀─details──   details(basis, ranges(found))
    delta(Refined(sig, found, details), target)

Large blocks in the first round and small ones in the second need less than either alone: `coarse_block_size`. As with
signatures a false match is improbable (2⁻²⁴ for each piece that is not there) and found out by whoever checks the target.
"""

from codesync.delta.refine.details import Details, details
from codesync.delta.refine.gaps import Gap, Gaps, Range, coarse_block_size, gaps, ranges
from codesync.delta.refine.second import Refined, refined

__all__ = [
    "Details",
    "Gap",
    "Gaps",
    "Range",
    "Refined",
    "coarse_block_size",
    "details",
    "gaps",
    "ranges",
    "refined",
]
