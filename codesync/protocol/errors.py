"""What can go wrong on a connection, by name; this file imports nothing.

    ProtocolError            the other side (or we) broke the protocol: `.code`, `.message`

`Code` is what `Error`, `Failed`, `AnswerError` and `Failure` carry; `Close` is what a websocket is closed with.
"""

from enum import IntEnum, StrEnum


class Code(StrEnum):
    """Why something was refused or failed. The texts beside it are for people, these words are for programs."""

    UNAUTHORIZED = "unauthorized"  # the key is missing or wrong; told as HTTP 401 or 403
    UNKNOWN_DEPLOYMENT = "unknown_deployment"  # the ids in the address are malformed; told as HTTP 404
    NO_REPLICA = "no_replica"  # no sidecar of this deployment is connected
    BUSY = "busy"  # another push held the deployment for the whole wait
    CONFLICT_PUSH_ID = "conflict_push_id"  # this push_id was used with another source tree
    UNKNOWN_PUSH = "unknown_push"  # a rollback to a push that a replica does not remember
    CANCELLED = "cancelled"  # the client said so
    REPLACED = "replaced"  # a newer connection took this one's place
    TIMEOUT = "timeout"  # a bound of `Timeouts` passed; the message names it
    VERSION = "version"  # no protocol version in common
    TOO_LARGE = "too_large"  # a message, a batch or the disk's room
    REPLICA_LOST = "replica_lost"  # a replica's connection was lost and did not come back in time
    STAGE_FAILED = "stage_failed"  # a replica could not stage, or no batch starts at its tree
    BAD_MESSAGE = "bad_message"  # malformed, or not legal in this state
    UNSUPPORTED = "unsupported"  # well understood and not done here


class Close(IntEnum):
    """Websocket close codes in use. The reason sent with it is one short sentence."""

    GOING_AWAY = 1001  # the proxy stops; connect again
    BAD_MESSAGE = 1002  # a ProtocolError; connecting again and doing the same will not help
    TOO_LARGE = 1009  # a message above MAX_MESSAGE
    INTERNAL = 1011  # a defect; the log of the proxy has it
    REPLACED = 4001  # another connection with the same replica id took over; do not fight for it
    VERSION = 4002  # no protocol version in common
    TIMEOUT = 4003  # silent for too long, or reading too slowly


class ProtocolError(Exception):
    """The connection cannot go on: its bytes, or a message's moment, are not what the protocol allows.

    `code` is one of `Code`, `message` one line that names the message and the field or state.
    """

    def __init__(self, message: str, code: Code = Code.BAD_MESSAGE) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
