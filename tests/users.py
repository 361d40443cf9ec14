"""Another user than root, for tests of what is permitted."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_user(uid: int, *groups: int) -> Iterator[None]:
    """This process as a user with a group of the same number, and with more groups; to root everything is permitted."""
    assert os.geteuid() == 0, (
        "becoming another user takes root: run the tests as root, such as in a container"
    )
    before = os.getgroups()
    os.setgroups([uid, *groups])
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(before)
