"""The facts about an audio track, and the access to the bytes of a file that all parsers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ms_edge.audio.riff import ReadAt

AHEAD = 4096  # bytes read at a time where fewer are needed
BLOCK = 1 << 17  # bytes read at a time where all bytes are needed
# The elements of a file that are inspected. Ten hours of AMR have 1.8 million frames of at least 13
# bytes, and 64 hours of AAC have 10 million.
MIN_STEPS, MAX_STEPS, BYTES_PER_STEP = 1_000_000, 10_000_000, 16
# FFmpeg lists all packets of MP4 in memory, with up to 75 bytes each. Each packet has at least one byte in
# the file, unless the file is cut. So many packets more are allowed: as many as 5 hours of AMR have.
MOST_PACKETS = 1 << 20


class Facts(NamedTuple):
    """What a container states about one audio track. None means that it states nothing.

    `samples` is the number of samples per channel, which lasts `samples / sample_rate_hz` seconds;
    a decoder may use another rate. `cut` means that the file ends before its own structure does, or
    within the last frame. `recorded_at` is the time of the first sample in ISO 8601; it ends with
    `Z` if the container says that it is UTC. `slack_s` is how much shorter, in seconds, the audio of
    an intact file may be than stated. `contradictory` means that headers exclude one another.
    `open_ended` means that the writer did not know the size of the samples, so they continue to the end.
    `edited` means that an edit list leaves out more than the delay of an encoder. `frame_samples` is
    the number of samples in every frame of FLAC; 0 if they differ. `packets` is how many packets of all
    tracks MP4 states without a number for each of them; a decoder needs memory for each. `lowered` has
    the numbers of packets that are far too high for the size of the file: the offset of each, which has
    32 bits, and the highest possible number, which `packets` counts in its place.
    """

    samples: int | None = None
    sample_rate_hz: int | None = None
    cut: bool = False
    recorded_at: str | None = None
    slack_s: float = 0.0
    contradictory: bool = False
    edited: bool = False
    frame_samples: int = 0
    packets: int = 0
    lowered: tuple[tuple[int, int], ...] = ()
    open_ended: bool = False

    def more_than(self, frames: int, sample_rate_hz: int) -> bool:
        """Return whether the container states more audio than `frames` frames at `sample_rate_hz`."""
        if self.samples is None or not self.sample_rate_hz:
            return False
        return self.samples / self.sample_rate_hz - self.slack_s > frames / sample_rate_hz

    def warnings(self) -> list[str]:
        """Return the warnings for the header."""
        found = {"stream-header": self.open_ended, "bad-header": self.contradictory}
        return [code for code, present in found.items() if present]


class EndOfFileError(Exception):
    """A number lies behind the end of the file."""


class TooManyStepsError(Exception):
    """A file has more elements than any recording."""


class Reader:
    """The bytes of a file of `size` bytes. It reads them with `read_at(offset, count)`.

    A parser calls `step` for every element that it inspects, so that the work on a hostile file is
    limited. An offset may be any number.
    """

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self.size = size
        self._read_at = read_at
        self._steps = min(MIN_STEPS + size // BYTES_PER_STEP, MAX_STEPS)
        self._base, self._held = 0, b""

    def step(self) -> None:
        """Count one element. Raises TooManyStepsError after more of them than a recording has."""
        self._steps -= 1
        if self._steps < 0:
            raise TooManyStepsError

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes, at most 1 MiB; fewer at the end, and none outside the file."""
        i = offset - self._base
        if i < 0 or i + count > len(self._held):
            if not 0 <= offset < self.size:
                return b""
            self._base, self._held = offset, self._read_at(offset, min(max(count, AHEAD), self.size - offset))
            i = 0
        return self._held[i : i + count]

    def number(self, offset: int, width: int) -> int:
        """Return an unsigned big-endian number of `width` bytes. Raises EndOfFileError."""
        return int.from_bytes(self._whole(offset, width), "big")

    def little(self, offset: int, width: int) -> int:
        """Return an unsigned little-endian number of `width` bytes. Raises EndOfFileError."""
        return int.from_bytes(self._whole(offset, width), "little")

    def _whole(self, offset: int, width: int) -> bytes:
        found = self.at(offset, width)
        if len(found) < width:
            raise EndOfFileError
        return found


def span(times: Sequence[float]) -> float:
    """Return how long the packets with these times last, without the last packet, in the same unit.

    A gap (no packet for more than twice the usual time) counts as one packet: recordings of calls
    have gaps, and a decoder does not fill them.
    """
    steps = np.diff(np.asarray(times))
    steps = steps[steps > 0]
    if not len(steps):
        return 0.0
    usual = float(np.median(steps))
    gaps = steps[steps > 2 * usual]
    return float(steps.sum() - gaps.sum() + len(gaps) * usual)
