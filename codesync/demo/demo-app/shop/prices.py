"""Money, in cents."""

REDUCTION = 25  # percent


def reduced(cents: int) -> int:
    """What a book on offer costs."""
    return cents * (100 - REDUCTION) // 100


def written(cents: int) -> str:
    """A price as people write it."""
    return f"{cents // 100}.{cents % 100:02d}"
