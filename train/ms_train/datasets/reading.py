"""Functions that datasets share: checked audio, digests of files, and messages about recordings
that are left out.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.audio.file import open_audio
from ms_edge.audio.source import AudioSource
from ms_edge.errors import AudioError
from ms_edge.features.spec import MIN_DURATION_S

ROUNDING_S = 0.1  # an excerpt may end this much after its file, because annotations are rounded


def read_for_training(path: Path, sample_rate_hz: int, start_s: float = 0.0, end_s: float | None = None) -> Float32:
    """Return a file, or its excerpt from `start_s` to `end_s`, as mono float32 (n,).

    Raises AudioError as `fit_for_training`.
    """
    with open_audio(path) as file:
        return fit_for_training(file, sample_rate_hz, start_s, end_s)


def fit_for_training(
    audio: AudioSource, sample_rate_hz: int, start_s: float = 0.0, end_s: float | None = None
) -> Float32:
    """Return audio from `start_s` to `end_s` (None: its end) as mono float32 (n,).

    All of it is decoded and checked.

    Raises AudioError also for audio that can be classified but is unfit for training: with samples
    that are not finite, or shorter than a quarter of a second; and for an excerpt that ends after
    the audio.
    """
    first, last = round(start_s * sample_rate_hz), None if end_s is None else round(end_s * sample_rate_hz)
    blocks, read = [], 0
    for block in audio.blocks(sample_rate_hz):
        piece = block[max(0, first - read) : None if last is None else max(0, last - read)]
        if len(piece):
            blocks.append(piece)
        read += len(block)
    if "non-finite" in audio.warnings:
        raise AudioError("non-finite", f"{audio.name}: holds samples that are no numbers (NaN or infinity).")
    duration_s = audio.frames / audio.sample_rate_hz
    if start_s > duration_s or (end_s is not None and end_s > duration_s + ROUNDING_S):
        until = "its end" if end_s is None else f"{end_s:g} s"
        raise AudioError(
            "bad-excerpt", f"{audio.name}: is {duration_s:.3f} s long and has no excerpt from {start_s:g} s to {until}."
        )
    length_s = (duration_s if end_s is None else min(end_s, duration_s)) - start_s
    if round(length_s, 6) < MIN_DURATION_S:
        raise AudioError(
            "too-short", f"{audio.name}: {length_s:.3f} s of audio; at least {MIN_DURATION_S} s are needed."
        )
    return np.concatenate(blocks)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises AudioError(`cannot-read`) if it cannot be read or is not a regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise AudioError("cannot-read", f"{path}: is no file.")  # opening a pipe would block
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # the second: a null character in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError("cannot-read", f"{path}: cannot be read ({reason.lower()}).") from None


def say_left_out(name: str, sentences: Sequence[str], count: int, what: str) -> None:
    """Print on stderr a sentence for each thing that is left out of a dataset, and how many of
    `count` (`what`) there are.
    """
    for sentence in sentences:
        tqdm.write(f"left out: {sentence}", file=sys.stderr)
    if sentences:
        tqdm.write(f"{name}: {len(sentences)} of {count} {what} left out.", file=sys.stderr)
