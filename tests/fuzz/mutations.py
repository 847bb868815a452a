"""Change files at random, in ways that find errors of readers. The same seed gives the same file."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

EDGE_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
MAX_BLOCK = 4_096  # bytes deleted, repeated or inserted at once
NAMES = re.compile(rb"[A-Za-z][A-Za-z0-9]{2}[A-Za-z0-9 ]")  # of chunks, boxes and pages; their sizes are beside them
Change = Callable[[random.Random, bytearray], None]


def mutated(seeds: Sequence[bytes], number: int, seed: int) -> bytes:
    """Return input `number` of the run `seed`: one of the seeds after one to four changes.

    Consecutive numbers use consecutive seeds, so each is used equally often. In half of the inputs
    that are Ogg, the checksums of the pages are made valid again: the decoder would otherwise drop
    every changed page.
    """
    chance = random.Random(f"{seed}:{number}")
    content = bytearray(seeds[number % len(seeds)])
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        if chance.random() < 0.05:
            content = _spliced(chance, content, chance.choice(seeds))
        else:
            chance.choice(CHANGES)(chance, content)
    if content[:4] == b"OggS" and chance.random() < 0.5:
        restore_ogg_checksums(content)
    return bytes(content)


def _place(chance: random.Random, content: bytearray) -> int:
    """Return an offset: in the header, beside a name, in the last bytes, or anywhere."""
    size = len(content)
    where = chance.random()
    if where < 0.3:
        return chance.randrange(min(size, 128) + 1)
    if where < 0.5 and (names := [found.start() for found in NAMES.finditer(content)]):
        return max(0, min(size, chance.choice(names) + chance.randrange(-8, 24)))
    if where < 0.6:
        return size - chance.randrange(min(size, 64) + 1)
    return chance.randrange(size + 1)


def _flip_bit(chance: random.Random, content: bytearray) -> None:
    if (at := _place(chance, content)) < len(content):
        content[at] ^= 1 << chance.randrange(8)


def _set_byte(chance: random.Random, content: bytearray) -> None:
    if (at := _place(chance, content)) < len(content):
        content[at] = chance.choice((*EDGE_BYTES, chance.randrange(256)))


def _set_size(chance: random.Random, content: bytearray) -> None:
    """Replace 2, 4 or 8 bytes by a number that readers of sizes and counts get wrong."""
    count = chance.choice((2, 4, 4, 4, 8))
    most = (1 << 8 * count) - 1
    size = chance.choice(
        (0, 1, 2, 7, most, most - 1, most >> 1, (most >> 1) + 1, len(content), chance.randrange(1 << 16))
    )
    at = _place(chance, content)
    content[at : at + count] = (size & most).to_bytes(count, chance.choice(("little", "big")))


def _random_bytes(chance: random.Random, content: bytearray) -> None:
    at = _place(chance, content)
    count = chance.choice((1, 4, 16, 256))
    content[at : at + count] = chance.randbytes(count)


def _same_bytes(chance: random.Random, content: bytearray) -> None:
    at, count = _place(chance, content), _block(chance)
    content[at : at + count] = bytes([chance.choice(EDGE_BYTES)]) * min(count, len(content) - at)


def _delete(chance: random.Random, content: bytearray) -> None:
    at = _place(chance, content)
    del content[at : at + _block(chance)]


def _repeat(chance: random.Random, content: bytearray) -> None:
    at = _place(chance, content)
    block = content[at : at + _block(chance)]
    to = chance.choice((at, _place(chance, content)))
    content[to:to] = block * chance.choice((1, 1, 2, 16))


def _insert(chance: random.Random, content: bytearray) -> None:
    at, count = _place(chance, content), _block(chance)
    content[at:at] = chance.choice((bytes(count), chance.randbytes(count)))


def _swap(chance: random.Random, content: bytearray) -> None:
    count = _block(chance)
    a, b = sorted((_place(chance, content), _place(chance, content)))
    count = min(count, b - a, len(content) - b)
    content[a : a + count], content[b : b + count] = content[b : b + count], content[a : a + count]


def _cut(chance: random.Random, content: bytearray) -> None:
    del content[_place(chance, content) :]


def _spliced(chance: random.Random, content: bytearray, other: bytes) -> bytearray:
    """Return the beginning of one file and the end of another."""
    return content[: _place(chance, content)] + other[_place(chance, bytearray(other)) :]


def _block(chance: random.Random) -> int:
    return min(1 << chance.randrange(13), MAX_BLOCK) + chance.randrange(3)


CHANGES: tuple[Change, ...] = (
    _flip_bit, _flip_bit, _set_byte, _set_byte, _set_size, _set_size, _set_size,
    _random_bytes, _same_bytes, _delete, _repeat, _insert, _swap, _cut,
)  # fmt: skip


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 & 0xFFFF_FFFF) ^ (0x04C1_1DB7 if value >> 31 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def restore_ogg_checksums(content: bytearray) -> None:
    """Write a valid checksum into every Ogg page (RFC 3533, section 6, field 7)."""
    at = 0
    while (at := content.find(b"OggS", at)) >= 0 and len(content) >= at + 27:
        lacing = content[at + 27 : at + 27 + content[at + 26]]
        end = at + 27 + len(lacing) + sum(lacing)
        content[at + 22 : at + 26] = bytes(4)
        value = 0
        for byte in content[at:end]:
            value = (value << 8 & 0xFFFF_FFFF) ^ CRC_TABLE[value >> 24 ^ byte]
        content[at + 22 : at + 26] = value.to_bytes(4, "little")
        at += 4
