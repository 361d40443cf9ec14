"""How much stands where."""

from shop.stock import places

PATH = "/stock"


def page() -> dict[str, dict[str, int]]:
    """Shelves and books of each place."""
    return {
        place: {"shelves": len(shelves), "books": sum(len(books) for books in shelves.values())}
        for place, shelves in places().items()
    }
