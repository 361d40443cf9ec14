"""What is on the shelves. Every package of the shop whose modules have BOOKS is a place where books stand."""

from shop.plugins import modules, packages

Book = tuple[str, str, int, int, int]  # title, author, year, pages, cents


def places() -> dict[str, dict[str, list[Book]]]:
    """Each place with its shelves: {package: {shelf: books}}."""
    found = {}
    for package in packages("shop"):
        shelves = {
            m.__name__.rpartition(".")[2]: m.BOOKS for m in modules(f"shop.{package}") if hasattr(m, "BOOKS")
        }
        if shelves:
            found[package] = shelves
    return found


def books() -> list[Book]:
    """All of them, cheapest first."""
    every = [book for shelves in places().values() for shelf in shelves.values() for book in shelf]
    return sorted(every, key=lambda book: book[4])
