"""The `bext` chunk of a piece of a Broadcast Wave file (EBU Tech 3285): that of the recording, later."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

from ms_edge.audio.facts.times import BEXT_BYTES, of_bext

DATE, REFERENCE, VERSION = 320, 338, 346  # offsets in the chunk


def append_bext(path: str, chunk: bytes, start_s: float, sample_rate_hz: int) -> None:
    """Append the chunk to a WAV file, with times that are `start_s` seconds later.

    Its other fields stay. Nothing is appended if the chunk is too short.
    """
    if len(chunk) < BEXT_BYTES:
        return
    body = bytearray(chunk)
    if began := of_bext(chunk, sample_rate_hz):
        later = datetime.fromisoformat(began) + timedelta(seconds=start_s)
        body[DATE:REFERENCE] = f"{later:%Y-%m-%d%H:%M:%S}".encode("ascii")
    reference = int.from_bytes(chunk[REFERENCE:VERSION], "little") + round(start_s * sample_rate_hz)
    body[REFERENCE:VERSION] = (reference % (1 << 64)).to_bytes(8, "little")
    with open(path, "rb+") as file:
        size = file.seek(0, 2)
        padded = bytes(size % 2) + b"bext" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
        file.write(padded)
        file.seek(4)
        file.write(struct.pack("<I", size + len(padded) - 8))
