"""Decode every file of the open corpus to mono 16 kHz: game containers, headerless telephone formats."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ms_edge.audio.file import open_audio
from ms_edge.errors import AudioError

RATE_HZ = 16_000
# Formats without a header: rate in Hz, libsndfile's name of the coding, bytes before the first
# sample.
HEADERLESS = {".gsm": (8_000, "GSM610", 0), ".raw": (8_000, "PCM_16", 0), ".als": (11_025, "PCM_U8", 32)}

Blocks = Iterator[NDArray[np.float32]]


def read_member(container: Path, name: str) -> bytes:
    """Return a file in a container: a `.zip`, `.pk3` or `.wz` (all ZIP files) or `queen.1c`.

    Raises AudioError if it is not there.
    """
    if container.suffix in (".zip", ".pk3", ".wz"):
        with zipfile.ZipFile(container) as archive:
            if name in archive.namelist():
                return archive.read(name)
    else:
        with container.open("rb") as file:
            # 12 bytes of version, 1 of compression, the number of entries; big-endian throughout.
            (count,) = struct.unpack(">13xH", file.read(15))
            for entry, offset, size in struct.iter_unpack(">12sxII", file.read(21 * count)):
                if entry.rstrip(b"\0") == name.encode():
                    file.seek(offset)
                    return file.read(size)
    raise AudioError("not-found", f"{name}: is not in {container}.")


def decode(path: Path) -> Blocks:
    """Yield any file of the corpus as mono blocks (n,) at 16 kHz. Raises AudioError."""
    suffix = path.suffix.lower()
    if suffix in HEADERLESS:
        yield from _resample(_headerless(path, *HEADERLESS[suffix]), HEADERLESS[suffix][0])
        return
    # G.722 has no header, and its samples may begin like another format.
    with open_audio(path, decoder="ffmpeg" if suffix == ".g722" else "auto") as file:
        yield from file.blocks(RATE_HZ)


def decode_sum(paths: Sequence[Path]) -> Blocks:
    """Yield the sum of a song's stems as one block (n,) at 16 kHz, as long as the longest stem,
    scaled to within [-1, 1].

    Raises AudioError.
    """
    total = np.empty(0, np.float32)
    for path in paths:
        stem = np.concatenate([np.empty(0, np.float32), *decode(path)])
        longer, shorter = (total, stem) if len(total) >= len(stem) else (stem, total)
        longer[: len(shorter)] += shorter
        total = longer
    yield total / max(1.0, float(np.abs(total).max(initial=0)))


def _headerless(path: Path, rate_hz: int, coding: str, skip: int) -> Blocks:
    raw = {"format": "RAW", "subtype": coding, "endian": "LITTLE", "samplerate": rate_hz, "channels": 1}
    try:
        with soundfile.SoundFile(path, **raw) as file:
            if skip:
                file.seek(skip)  # in frames, which are bytes in the formats with bytes to skip
            while len(block := file.read(rate_hz, dtype="float32")):
                yield block
    except soundfile.SoundFileError:
        raise AudioError("not-audio", f"{path}: libsndfile cannot read it as {coding}.") from None


def _resample(blocks: Blocks, rate_hz: int) -> Blocks:
    if rate_hz == RATE_HZ:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
