"""Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding), read strictly against a list of allowed fields.

Other readers skip fields that they do not know, merge messages that come twice and take the last of several numbers. Here
each of these is an error, so that whatever reads the same bytes later finds in them what was found here, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# What a field may hold.
INT = "int"  # one number
FLOAT = "float"  # 4 bytes, not decoded
TEXT = "text"  # valid UTF-8
BYTES = "bytes"
INTS = "ints"  # any count of numbers, packed or not: `integers` decodes them, `count` counts them
FLOATS = "floats"  # any count of 4 bytes, packed or not, not decoded

# Wire types. ONNX has no field of 8 bytes that we allow, and no groups.
VARINT, SIZED, FOUR_BYTES = 0, 2, 5
WIRE_TYPES = {
    INT: (VARINT,),
    FLOAT: (FOUR_BYTES,),
    TEXT: (SIZED,),
    BYTES: (SIZED,),
    INTS: (VARINT, SIZED),
    FLOATS: (FOUR_BYTES, SIZED),
}


class Message:
    """The fields that a message may have, by their numbers: the name of each, what it holds, and whether it may come more than once.

    No other may occur, and none with another wire type.
    """

    def __init__(self, name: str, fields: Mapping[int, tuple[str, str | Message, bool]]) -> None:
        self.name = name
        self.by_tag = {
            number << 3 | wire: field
            for number, field in fields.items()
            for wire in ((SIZED,) if isinstance(field[1], Message) else WIRE_TYPES[field[1]])
        }


class UnknownFieldError(ValueError):
    """A message has a field that is not in the list."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(f"the field {number} of {message}")
        self.message = message
        self.number = number


class TooManyFieldsError(ValueError):
    """The messages have more fields, all together, than may be read."""


class Reader:
    """Reads the messages in `data`, which may have at most `limit` fields, all together."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._data = data
        self._views = memoryview(data)
        self._left = limit

    def read(self, message: Message) -> dict[str, Any]:
        """Decode the whole of `data` into its fields by name: lists of the repeated ones, the others only where they occur.

        Raises UnknownFieldError for a field that is not in the list, TooManyFieldsError, and ValueError for anything else that is
        wrong.
        """
        return self._read(message, 0, len(self._data))

    def _read(self, message: Message, at: int, end: int) -> dict[str, Any]:
        data, by_tag = self._data, message.by_tag
        found: dict[str, Any] = {}
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise TooManyFieldsError
            tag, at = _varint(data, at, end) if data[at] >= 0x80 else (data[at], at + 1)
            field = by_tag.get(tag)
            if field is None:
                raise UnknownFieldError(message.name, tag >> 3)
            name, kind, repeated = field
            value: Any
            if tag & 7 == FOUR_BYTES:
                value = 4
            elif at < end and data[at] < 0x80:  # nearly always
                value, at = data[at], at + 1
            else:
                value, at = _varint(data, at, end)
            if tag & 7 != VARINT:
                begin, at = at, at + value
                if at > end:
                    raise ValueError("a field is longer than its message")
                if kind is TEXT:
                    value = data[begin:at].decode("utf-8")
                elif isinstance(kind, Message):
                    value = self._read(kind, begin, at)
                else:
                    value = self._views[begin:at]
            if repeated:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise ValueError(f"{name} twice")
            else:
                found[name] = value
        return found


def integers(values: list[int | memoryview], limit: int) -> list[int]:
    """Decode an INTS field of at most `limit` signed 64-bit numbers. Raises ValueError where there are more."""
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


def count(values: list[int | memoryview]) -> int:
    """How many numbers are in an INTS field."""
    return sum(
        1 if isinstance(value, int) else int(np.count_nonzero(np.frombuffer(value, np.uint8) < 0x80))
        for value in values
    )


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    """The unsigned number of up to 64 bits that begins at `at`, and where it ends."""
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
    raise ValueError("no number")
