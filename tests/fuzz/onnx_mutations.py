"""Change model files at random, field by field. The same seed gives the same file.

A file is a tree of messages (`Entry`), whose numbers and names are those of onnx.proto. It is read
with the schema of the model check and written by the code here. Changes also add the fields that the
check refuses, above all those that name other files.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mutations import mutated

from ms_edge.model.onnx_messages import MODEL
from ms_edge.model.operators import OPERATORS
from ms_edge.model.protobuf import TEXT, Message

VARINT, EIGHT_BYTES, SIZED, FOUR_BYTES = 0, 1, 2, 5  # wire types
PLAIN = 0.3  # the part of the inputs whose bytes are changed without knowing what they are
NUMBERS = (0, 1, 2, 3, 7, 15, 16, 31, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1)
NEGATIVE = (1 << 64) - 1  # -1 as a number of 64 bits
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, -3e38, float("inf"), float("-inf"), float("nan"))
# Operators that compute much from little, hold graphs, read files or are of other domains.
OTHER_OPERATORS = (
    "ConstantOfShape", "Expand", "Tile", "Range", "RandomNormal", "EyeLike", "OneHot", "NonZero", "Loop", "If", "Scan",
    "Constant", "Identity", "STFT", "Einsum", "LSTM", "QLinearConv", "FusedConv", "MemcpyToHost", "EPContext",
)  # fmt: skip
OUTSIDE = "external-canary"  # the name of a file that no model may read
ENTRY = b"\x0a\x08location\x12" + bytes([len(OUTSIDE)]) + OUTSIDE.encode()
ADDED = {  # fields to add to a message of this kind: number, wire type and value
    "TensorProto": ((13, SIZED, ENTRY), (14, VARINT, 1), (3, SIZED, b""), (10, SIZED, bytes(80)), (16, SIZED, b"")),
    "AttributeProto": ((5, SIZED, b"\x08\x01\x10\x01"), (6, SIZED, b""), (9, SIZED, b"a"), (22, SIZED, b"")),
    "GraphProto": ((15, SIZED, b""), (14, SIZED, b""), (13, SIZED, b"")),
    "ModelProto": ((20, SIZED, b""), (25, SIZED, b"\x0a\x01f"), (26, SIZED, b""), (4, SIZED, b"d"), (5, VARINT, 1)),
    "NodeProto": ((8, SIZED, b"overload"), (9, SIZED, b"")),
}


@dataclass
class Entry:
    """A field of a message: its number, its wire type, and a number, bytes, or the fields of a message."""

    number: int
    wire: int
    value: int | bytes | list[Entry]
    kind: str | Message[Any] = ""

    @property
    def message(self) -> str:
        """The name of the message that it holds; "" for another kind of value."""
        return self.kind.name if isinstance(self.kind, Message) else ""


def parsed(content: bytes, message: Message[Any] = MODEL) -> list[Entry]:
    """Return the fields of a message that is valid."""
    found, at = [], 0
    while at < len(content):
        tag, at = _number(content, at)
        field = message.by_tag.get(tag)
        kind = field.kind if field else ""
        value: int | bytes | list[Entry]
        if tag & 7 == VARINT:
            value, at = _number(content, at)
        else:
            count = 4
            if tag & 7 == SIZED:
                count, at = _number(content, at)
            value, at = content[at : at + count], at + count
            value = parsed(value, kind) if isinstance(kind, Message) else value
        found.append(Entry(tag >> 3, tag & 7, value, kind))
    return found


def written(entries: Sequence[Entry]) -> bytes:
    """Return the bytes of a message."""
    parts = []
    for entry in entries:
        value = written(entry.value) if isinstance(entry.value, list) else entry.value
        parts.append(_coded(entry.number << 3 | entry.wire))
        if isinstance(value, int):
            parts.append(_coded(value))
        else:
            parts += [_coded(len(value)), value] if entry.wire == SIZED else [value]
    return b"".join(parts)


def _number(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return value, at


def _coded(value: int) -> bytes:
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*coded, value])


def mutated_model(seeds: Sequence[bytes], number: int, seed: int) -> bytes:
    """Return input `number` of the run `seed`: one of the models after one to four changes."""
    chance = random.Random(f"{seed}:{number}")
    if chance.random() < PLAIN:
        return mutated(seeds, number, seed)
    tree = parsed(seeds[number % len(seeds)])
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        chance.choice(CHANGES)(chance, tree)
    content = written(tree)
    return mutated([content], number, seed) if chance.random() < 0.05 else content


def _messages(entries: list[Entry], name: str = "ModelProto") -> Iterator[tuple[str, list[Entry]]]:
    """Yield the fields of a message and of all messages in it."""
    yield name, entries
    for entry in entries:
        if isinstance(entry.value, list):
            yield from _messages(entry.value, entry.message)


def _chosen(chance: random.Random, tree: list[Entry], *wanted: str) -> tuple[str, list[Entry]]:
    """Return a message that has fields, of one of these kinds if given. Each kind is equally likely."""
    by_name: dict[str, list[list[Entry]]] = {}
    for name, entries in _messages(tree):
        if entries and (not wanted or name in wanted):
            by_name.setdefault(name, []).append(entries)
    if not by_name:
        return "", []
    name = chance.choice(sorted(by_name))
    return name, chance.choice(by_name[name])


def _remove(chance: random.Random, tree: list[Entry]) -> None:
    _, entries = _chosen(chance, tree)
    if entries:
        del entries[chance.randrange(len(entries))]


def _repeat(chance: random.Random, tree: list[Entry]) -> None:
    _, entries = _chosen(chance, tree)
    if entries:
        entries.insert(chance.randrange(len(entries) + 1), chance.choice(entries))


def _swap(chance: random.Random, tree: list[Entry]) -> None:
    _, entries = _chosen(chance, tree)
    if entries:
        a, b = chance.randrange(len(entries)), chance.randrange(len(entries))
        entries[a], entries[b] = entries[b], entries[a]


def _move(chance: random.Random, tree: list[Entry]) -> None:
    """Put a field of one message into another of the same kind, in place of its own field."""
    name, entries = _chosen(chance, tree)
    _, others = _chosen(chance, tree, name)
    if entries and others:
        entry = chance.choice(others)
        entries[:] = [own for own in entries if own.number != entry.number] + [entry]


def _set_number(chance: random.Random, tree: list[Entry]) -> None:
    """Change a number: a size, a type, a version, an attribute."""
    _, entries = _chosen(chance, tree)
    for at in chance.sample(range(len(entries)), len(entries)):
        entry = entries[at]
        if isinstance(entry.value, int):
            value = chance.choice((*NUMBERS, NEGATIVE, entry.value + 1, abs(entry.value - 1), entry.value * 2))
            entries[at] = Entry(entry.number, VARINT, value & NEGATIVE)
            return


def _set_text(chance: random.Random, tree: list[Entry]) -> None:
    """Change a name: of an operator, a value, an attribute, a domain."""
    _, entries = _chosen(chance, tree)
    texts = [at for at, entry in enumerate(entries) if entry.kind is TEXT]
    names = sorted({bytes(e.value) for _, each in _messages(tree) for e in each if e.kind is TEXT and e.value})  # type: ignore[arg-type]
    if texts:
        at = chance.choice(texts)
        text = chance.choice((b"", b"\xff", b"a" * 5000, b"../" + OUTSIDE.encode(), b"features", chance.choice(names)))
        entries[at] = Entry(entries[at].number, SIZED, text, TEXT)


def _set_operator(chance: random.Random, tree: list[Entry]) -> None:
    _, entries = _chosen(chance, tree, "NodeProto")
    for at, entry in enumerate(entries):
        if entry.number == 4:
            name = chance.choice((*OTHER_OPERATORS, *sorted(OPERATORS)))
            entries[at] = Entry(4, SIZED, name.encode(), TEXT)


def _set_constant(chance: random.Random, tree: list[Entry]) -> None:
    """Change the values or the shape of a constant."""
    _, entries = _chosen(chance, tree, "TensorProto")
    for at, entry in enumerate(entries):
        if entry.number == 9 and isinstance(entry.value, bytes) and entry.value:
            values = bytearray(entry.value)
            kind = chance.randrange(4)
            if kind == 0:
                del values[chance.randrange(len(values)) :]
            elif kind == 1:
                values += bytes(chance.choice((1, 4, 1000)))
            else:
                for _ in range(chance.choice((1, 1, 10))):
                    place = 4 * chance.randrange(max(1, len(values) // 4))
                    four = chance.choice((struct.pack("<f", chance.choice(FLOATS)), chance.randbytes(4)))
                    values[place : place + 4] = four
            entries[at] = Entry(9, SIZED, bytes(values))
            return
    entries.append(Entry(1, VARINT, chance.choice(NUMBERS)))


def _set_shape(chance: random.Random, tree: list[Entry]) -> None:
    """Change the sizes of an input or an output."""
    _, entries = _chosen(chance, tree, "TensorShapeProto", "Dimension", "TensorProto")
    if entries:
        at = chance.randrange(len(entries))
        new = chance.choice((Entry(1, VARINT, chance.choice((*NUMBERS, NEGATIVE))), Entry(2, SIZED, b"n", TEXT)))
        if entries[at].message == "Dimension":
            new = Entry(1, SIZED, [new], entries[at].kind)
        if chance.random() < 0.7:
            entries[at] = new
        else:
            entries.insert(at, new)


def _add_field(chance: random.Random, tree: list[Entry]) -> None:
    """Add a field that is not allowed."""
    name, entries = _chosen(chance, tree, *ADDED)
    if name == "TensorProto" and chance.random() < 0.5:  # values that are said to be in a file
        entries[:] = [entry for entry in entries if entry.number not in (4, 5, 7, 9)]
        entries += [Entry(*field) for field in ADDED[name][:2]]
    elif name:
        entries.append(Entry(*chance.choice(ADDED[name])))
    else:
        tree.append(Entry(chance.randrange(1, 1 << 20), VARINT, 1))


def _set_wire(chance: random.Random, tree: list[Entry]) -> None:
    """Give a field another number or another wire type."""
    _, entries = _chosen(chance, tree)
    if entries:
        at = chance.randrange(len(entries))
        entry = entries[at]
        if chance.random() < 0.5:
            entries[at] = Entry(chance.choice((entry.number + 1, chance.randrange(1, 30), 0)), entry.wire, entry.value)
        else:
            wire = chance.choice((EIGHT_BYTES, 3, 4, FOUR_BYTES, 6, 7))
            entries[at] = Entry(entry.number, wire, chance.randbytes(chance.choice((4, 8))))


def _set_metadata(chance: random.Random, tree: list[Entry]) -> None:
    """Change a value within the JSON of a metadata entry."""
    _, entries = _chosen(chance, tree, "StringStringEntryProto")
    for at, entry in enumerate(entries):
        if entry.number == 2 and isinstance(entry.value, bytes):
            entries[at] = Entry(2, SIZED, _other_json(chance, entry.value), TEXT)


def _other_json(chance: random.Random, text: bytes) -> bytes:
    try:
        found = json.loads(text)
    except ValueError:
        found = text.decode("utf-8", "replace")
    others = (None, True, -1, 0, 0.5, 1e308, 1 << 70, "", "\0", [], {}, [[]], "NaN", float("nan"), float("-inf"))
    if isinstance(found, dict | list) and found and chance.random() < 0.9:
        holder = found
        while True:
            key = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
            if isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.8:
                holder = holder[key]
                continue
            break
        kind = chance.random()
        if kind < 0.2:
            del holder[key]
        elif kind < 0.4 and isinstance(holder[key], int | float):
            holder[key] *= chance.choice((-1, 2, 10, 1_000, 1e9, 1e-9))
        else:
            holder[key] = chance.choice(others)
    else:
        found = chance.choice(others)
    return json.dumps(found).encode("utf-8", "replace")


CHANGES: tuple[Callable[[random.Random, list[Entry]], None], ...] = (
    _remove, _repeat, _swap, _move, _set_number, _set_number, _set_text, _set_operator, _set_constant, _set_constant,
    _set_shape, _add_field, _set_wire, _set_metadata, _set_metadata,
)  # fmt: skip
