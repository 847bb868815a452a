"""A strict reader of the wire format of Protocol Buffers. It knows nothing about ONNX.

The format is described at protobuf.dev/programming-guides/encoding. Common readers skip unknown
fields, merge a message that occurs twice, and keep the last of several numbers. This reader treats
each of these cases as an error. A program that later reads the same bytes therefore finds what this
reader found, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

# The kinds of value that a field may hold.
INT = "int"  # one unsigned number of up to 64 bits
FLOAT = "float"  # 4 bytes, not decoded
TEXT = "text"  # valid UTF-8
BYTES = "bytes"
INTS = "ints"  # any count of numbers, packed or not: `integers` decodes them, `count` counts them
FLOATS = "floats"  # any count of 4-byte values, packed or not, not decoded
REFUSED = "refused"  # the field may not occur; it is listed so that an error can name it

# Wire types: the low three bits of a tag. A group or a value of 8 bytes is in no field that we
# read.
VARINT, SIZED, FOUR_BYTES = 0, 2, 5
WIRE_BITS, WIRE_MASK = 3, 7
WIRE_TYPES = {
    INT: (VARINT,),
    FLOAT: (FOUR_BYTES,),
    TEXT: (SIZED,),
    BYTES: (SIZED,),
    INTS: (VARINT, SIZED),
    FLOATS: (FOUR_BYTES, SIZED),
    REFUSED: (),
}

# An undecoded field of the kind INTS: each entry is one number, or the bytes of several (packed).
Ints = Sequence[int | memoryview]


class Field(NamedTuple):
    """One field of a message: its name, its number, and the kind of its value.

    `kind` is one of the kinds above, or a `Message`. A field may occur more than once if
    `repeated`.
    """

    name: str
    number: int
    kind: str | Message[Any]
    repeated: bool = False


class Message(Generic[T]):
    """A type of message: the class that holds its values, and its fields.

    `values` is called with the fields that occur, by name: a list for a repeated field, otherwise
    one value. A field that is not listed, or that has another wire type than its kind, may not
    occur.
    """

    def __init__(self, values: Callable[..., T], *fields: Field) -> None:
        self.values = values
        self.name: str = values.__name__
        self.names = {field.number: field.name for field in fields}
        self.by_tag = {
            field.number << WIRE_BITS | wire: field
            for field in fields
            for wire in ((SIZED,) if isinstance(field.kind, Message) else WIRE_TYPES[field.kind])
        }


class UnknownFieldError(ValueError):
    """A message has a field that it may not have.

    `field` is its name if the message lists it, otherwise its number.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"the field {field} of {message}")
        self.message = message
        self.field = field


class TooManyFieldsError(ValueError):
    """All messages together have more fields than the limit."""


class Reader:
    """Read messages from `data`. All messages together may have at most `limit` fields."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._data = data
        self._views = memoryview(data)
        self._left = limit

    def read(self, message: Message[T]) -> T:
        """Decode all of `data` as one message and return its values.

        Raises UnknownFieldError for a field that is not allowed, TooManyFieldsError if there are
        more fields than the limit, and ValueError for any other error in the format.
        """
        return self._read(message, 0, len(self._data))

    def _read(self, message: Message[T], at: int, end: int) -> T:
        data, by_tag = self._data, message.by_tag
        found: dict[str, Any] = {}
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise TooManyFieldsError
            tag, at = _varint(data, at, end) if data[at] >= 0x80 else (data[at], at + 1)
            field = by_tag.get(tag)
            if field is None:
                number = tag >> WIRE_BITS
                raise UnknownFieldError(message.name, message.names.get(number, str(number)))
            value: Any
            wire = tag & WIRE_MASK
            if wire == FOUR_BYTES:
                value = 4
            elif at < end and data[at] < 0x80:  # the usual case, and faster than a call
                value, at = data[at], at + 1
            else:
                value, at = _varint(data, at, end)
            if wire != VARINT:
                begin, at = at, at + value
                if at > end:
                    raise ValueError("a field is longer than its message")
                value = self._value(field.kind, begin, at)
            if field.repeated:
                found.setdefault(field.name, []).append(value)
            elif field.name in found:
                raise ValueError(f"{field.name} occurs twice")
            else:
                found[field.name] = value
        return message.values(**found)

    def _value(self, kind: str | Message[Any], begin: int, end: int) -> Any:
        """Return the text, the message or the undecoded bytes between two offsets."""
        if kind is TEXT:
            return self._data[begin:end].decode("utf-8")
        if isinstance(kind, Message):
            return self._read(kind, begin, end)
        return self._views[begin:end]


def integers(values: Ints, limit: int) -> list[int]:
    """Decode a field of the kind INTS into signed 64-bit numbers.

    Raises ValueError for more than `limit` of them.
    """
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
        else:
            at = 0
            while at < len(value) and len(found) <= limit:
                number, at = _varint(value, at, len(value))
                found.append(number)
        if len(found) > limit:
            raise ValueError("too many numbers")
    return [number - (1 << 64) if number >> 63 else number for number in found]


def count(values: Ints) -> int:
    """Return how many numbers a field of the kind INTS holds.

    Only the last byte of a number is below 0x80.
    """
    return sum(
        1 if isinstance(value, int) else int(np.count_nonzero(np.frombuffer(value, np.uint8) < 0x80))
        for value in values
    )


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    """Decode the unsigned number of up to 64 bits that begins at `at`.

    Return it and the offset after it.
    """
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
    raise ValueError("not a number of at most 64 bits")
