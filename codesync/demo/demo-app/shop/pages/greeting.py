"""The first thing a visitor reads."""

PATH = "/greeting"
GREETING = "Welcome to the bookshop"


def page() -> dict[str, str]:
    """The greeting."""
    return {"greeting": GREETING}
