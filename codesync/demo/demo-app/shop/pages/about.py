"""Which push this is."""

import os

PATH = "/about"


def page() -> dict[str, str]:
    """The push_id the launcher gives to the application; empty for what the image brought."""
    return {"push_id": os.environ.get("CODESYNC_PUSH_ID", "")}
