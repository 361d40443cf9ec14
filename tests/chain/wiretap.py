"""What a client says and hears at the proxy, written down as it passes."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from codesync.connection import Connection
from codesync.protocol import Answer, Chunk, GetDetails, GetSignatures, Message, encode

M = TypeVar("M", bound=Message)
CONTENT = (GetSignatures, GetDetails, Answer, Chunk)  # what it takes to bring contents over


@dataclass
class Wiretap:
    """Every message of this process's clients, both ways."""

    messages: list[Message] = field(default_factory=list)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def bytes_for_contents(self) -> int:
        """Questions, answers and the batch, each with its envelope."""
        return sum(len(encode(message)) for message in self.messages if isinstance(message, CONTENT))

    def forget(self) -> None:
        self.messages.clear()


@pytest.fixture
def wiretap(monkeypatch: pytest.MonkeyPatch) -> Wiretap:
    """Listen in; nothing is changed on its way."""
    tap = Wiretap()
    send, receive = Connection.send, Connection.receive

    async def sent(self: Connection, message: Message) -> None:
        tap.messages.append(message)
        await send(self, message)

    async def received(self: Connection, **waits: Any) -> Message:
        message = await receive(self, **waits)
        tap.messages.append(message)
        return message

    monkeypatch.setattr(Connection, "send", sent)
    monkeypatch.setattr(Connection, "receive", received)
    return tap
