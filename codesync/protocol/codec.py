"""Messages to bytes and back: one msgpack map each. What `encode` lets out, `decode` of the other side accepts.

The checks are compiled once from the dataclasses' types, so a message is described in one place only. Anything
that is not exactly a message is a ProtocolError; unknown extra fields are ignored, for newer peers.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import reduce
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack

from codesync.protocol import messages
from codesync.protocol.errors import Code, ProtocolError
from codesync.protocol.fields import Rule
from codesync.protocol.limits import MAX_MESSAGE, VERSIONS
from codesync.protocol.messages import Message

_Reader = Callable[[object, str], Any]  # (decoded msgpack, where it stands) -> value; ProtocolError
_MISSING = object()


def wire_name(kind: type[Message]) -> str:
    """`GetManifest` is "get_manifest" on the wire."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def encode(message: Message) -> bytes:
    """The bytes of one websocket message; ProtocolError when it breaks its own rules or is above MAX_MESSAGE."""
    name = wire_name(type(message))
    plain = _plain(message)
    _READERS[name](plain, name)
    try:
        data: bytes = msgpack.packb({"type": name, **plain})
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"{name} cannot be encoded: {error}") from error
    _check_size(len(data), name)
    return data


def decode(data: bytes) -> Message:
    """The message in these bytes; ProtocolError whatever else they are."""
    _check_size(len(data), "message")
    try:
        plain = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {type(error).__name__}") from error
    if not isinstance(plain, dict):
        raise ProtocolError("a message is a map")
    name = plain.get("type")
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        raise ProtocolError(f"unknown message type {name!r:.80}")
    message: Message = reader(plain, str(name))
    return message


def size_of(value: object) -> int:
    """Bytes that a message or a value takes on the wire."""
    return len(msgpack.packb(_plain(value)))


def negotiate(versions: tuple[int, ...]) -> int:
    """The highest version both sides speak; ProtocolError with the code `version` when there is none."""
    common = set(versions) & set(VERSIONS)
    if not common:
        raise ProtocolError(
            f"this side speaks protocol {_words(VERSIONS)}, the other {_words(versions)}: "
            "update the older of the two codesyncs",
            Code.VERSION,
        )
    return max(common)


def _words(versions: tuple[int, ...]) -> str:
    return "version " + ", ".join(map(str, sorted(versions)))


def _check_size(size: int, name: str) -> None:
    if size > MAX_MESSAGE:
        raise ProtocolError(f"{name} of {size} bytes is above {MAX_MESSAGE}", Code.TOO_LARGE)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(item)
            for field in dataclasses.fields(value)
            if (item := getattr(value, field.name)) != _default(field)
        }
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return dict(value) if isinstance(value, Mapping) else value


def _default(field: "dataclasses.Field[Any]") -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else _MISSING


# -- readers, compiled from types ------------------------------------------------------------------------------------


def _reader(hint: Any) -> _Reader:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:  # of an annotated type that is annotated again, the rules come one after another
        return reduce(_ruled, arguments[1:], _reader(arguments[0]))
    if origin in (Union, types.UnionType):
        return _either(arguments)
    if origin is tuple:
        return _sequence(_reader(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[1]))
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return _record(hint)
    return _exact(hint)


def _exact(kind: type) -> _Reader:
    # bool is an int for Python but not on the wire; a whole number is a fine float
    accepted = (float, int) if kind is float else (kind,)

    def read(value: Any, where: str) -> Any:
        if type(value) not in accepted:
            raise ProtocolError(f"{where} is {type(value).__name__}, not {kind.__name__}")
        return kind(value) if kind is float else value

    return read


def _ruled(reader: _Reader, rule: Rule) -> _Reader:
    def read(value: object, where: str) -> Any:
        result = reader(value, where)
        if not rule.holds(result):
            raise ProtocolError(f"{where} is not {rule.words}")
        return result

    return read


def _either(arguments: tuple[Any, ...]) -> _Reader:
    kinds = [argument for argument in arguments if argument is not types.NoneType]
    if len(kinds) > 1:
        return _scalar(tuple(arguments))
    (reader,) = map(_reader, kinds)
    return lambda value, where: None if value is None else reader(value, where)


def _scalar(kinds: tuple[type, ...]) -> _Reader:
    def read(value: object, where: str) -> Any:
        if type(value) not in kinds:
            raise ProtocolError(
                f"{where} is {type(value).__name__}, not {', '.join(k.__name__ for k in kinds)}"
            )
        return value

    return read


def _sequence(item: _Reader) -> _Reader:
    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ProtocolError(f"{where} is {type(value).__name__}, not a list")
        return tuple(item(element, f"{where}[{index}]") for index, element in enumerate(value))

    return read


def _mapping(item: _Reader) -> _Reader:
    def read(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(type(key) is str for key in value):
            raise ProtocolError(f"{where} is not a map with text keys")
        return {key: item(element, f"{where}.{key!r:.40}") for key, element in value.items()}

    return read


def _record(kind: Any) -> _Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = [(name, _reader(hint)) for name, hint in hints.items()]
    required = _required(kind)

    def read(value: object, where: str) -> Any:
        if not isinstance(value, dict):
            raise ProtocolError(f"{where} is {type(value).__name__}, not a map")
        missing = required - value.keys()
        if missing:
            raise ProtocolError(f"{where} lacks {min(missing)}")
        return kind(
            **{name: reader(value[name], f"{where}.{name}") for name, reader in readers if name in value}
        )

    return read


def _required(kind: Any) -> frozenset[str]:
    if not dataclasses.is_dataclass(kind):
        return frozenset(kind._fields)
    return frozenset(field.name for field in dataclasses.fields(kind) if _default(field) is _MISSING)


MESSAGES: dict[str, type[Message]] = {
    wire_name(kind): kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
_READERS: dict[str, _Reader] = {name: _record(kind) for name, kind in MESSAGES.items()}
