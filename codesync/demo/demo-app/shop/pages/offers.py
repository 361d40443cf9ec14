"""The week's offers: the three cheapest books, cheaper still."""

from shop.prices import reduced, written
from shop.stock import books

PATH = "/offers"


def page() -> list[dict[str, str]]:
    """Title and reduced price."""
    return [{"title": book[0], "price": written(reduced(book[4]))} for book in books()[:3]]
