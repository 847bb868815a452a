"""Cut a stream of samples into overlapping windows, and find the silent ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec

SILENCE_DBFS = -70.0  # a window with a lower RMS is silent
FEW = 16  # windows that are tested one by one in less time than together
SILENT_MEAN_SQUARE = 10 ** (SILENCE_DBFS / 10)


@dataclass(frozen=True)
class Batch:
    """Neighbouring windows of a stream, and the samples that they cover together.

    `starts` (windows,) are the offsets of the windows in the stream, in ascending order. `samples`
    (n,) float32 begin at the start of the first window and end at the end of the last one. Those of
    a stream of several channels are (channels, n).
    """

    starts: NDArray[np.int64]
    samples: Float32

    @property
    def offsets(self) -> NDArray[np.int64]:
        """The offsets of the windows in `samples`, (windows,)."""
        return self.starts - int(self.starts[0])

    def channels(self) -> list[Batch]:
        """Return the same windows of each channel: this batch, if `samples` are (n,)."""
        return [self] if self.samples.ndim == 1 else [Batch(self.starts, row) for row in self.samples]


class Cutter:
    """Cuts a stream that arrives piece by piece into windows, and returns them `size` at a time.

    A window starts every `spec.hop_s`; the last one ends with the stream. A stream shorter than a
    clip is repeated to fill one, and an empty stream has no window. The batches do not depend on the
    sizes of the blocks. The next batch may overwrite the samples of the one before. Memory is that
    of about two batches and one block. Whoever takes a batch may set `size`, that of the next one.
    """

    def __init__(self, spec: FrontEndSpec, size: int) -> None:
        self.total = 0  # samples of the stream so far
        self.size = size
        self._clip, self._hop = spec.clip_samples, spec.hop_samples
        # All batches share one buffer, because new memory for each takes longer than copying the
        # samples. The buffer holds the samples of the stream from `_origin` on.
        self._buffer = np.empty(0, np.float32)
        self._origin = self._next_start = 0

    @property
    def needed(self) -> int:
        """Samples of the stream, from its beginning on, that the next batch needs."""
        return self._next_start + self._length

    @property
    def _length(self) -> int:
        """Samples of the next batch."""
        return (self.size - 1) * self._hop + self._clip

    def push(self, block: Float32) -> Iterator[Batch]:
        """Add a block (n,) or (channels, n) float32 at the rate of the spec, and yield the full batches.

        Take all of them before the next block is added.
        """
        if not block.shape[-1]:
            return
        clip = self._clip
        filled = self.total - self._origin
        self.total += block.shape[-1]
        if self._buffer.shape[-1] < self.total - self._origin:
            # A clip more than this block needs: the blocks of a resampler vary in length.
            shape = (*block.shape[:-1], max(self.total - self._origin, self._length + clip + block.shape[-1]))
            before, self._buffer = self._buffer[..., :filled], np.empty(shape, np.float32)
            self._buffer[..., :filled] = before
        self._buffer[..., filled : self.total - self._origin] = block
        if self.total < self.needed:
            return
        while self.total >= self.needed:
            start, self._next_start = self._next_start, self._next_start + self.size * self._hop
            samples = self._buffer[..., start - self._origin :][..., : self._length]
            yield Batch(np.arange(start, self._next_start, self._hop), samples)
        # Keep a clip of samples: the stream may end here, and the last window then begins a clip
        # before the end.
        keep = max(self._origin, min(self._next_start, self.total - clip))
        self._buffer[..., : self.total - keep] = self._buffer[..., keep - self._origin : self.total - self._origin]
        self._origin = keep

    def close(self) -> Iterator[Batch]:
        """Yield the windows that are left at the end of the stream."""
        total, clip = self.total, self._clip
        held = self._buffer[..., : total - self._origin]
        if 0 < total < clip:
            yield Batch(np.zeros(1, np.int64), np.take(held, np.arange(clip), axis=-1, mode="wrap"))
        elif total:
            last = list(range(self._next_start, total - clip + 1, self._hop))
            if (last[-1] if last else self._next_start - self._hop) < total - clip:
                last.append(total - clip)
            if last:
                yield Batch(np.array(last), held[..., last[0] - self._origin :])


def batches(blocks: Iterable[Float32], spec: FrontEndSpec, size: int) -> Iterator[Batch]:
    """Yield the windows of a stream of blocks, `size` windows at a time; see `Cutter`."""
    cutter = Cutter(spec, size)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.close()


def windows(blocks: Iterable[Float32], spec: FrontEndSpec) -> Iterator[tuple[int, Float32]]:
    """Yield the offset and the samples of each window of a stream, as soon as it is complete.

    The windows are those of `batches`; their samples are (clip_samples,) float32.
    """
    for batch in batches(blocks, spec, 1):
        yield int(batch.starts[0]), batch.samples.copy()


def is_silent(samples: Float32) -> bool:
    """Return whether the RMS of a window (n,) is below -70 dB of full scale."""
    # In most windows the first few samples have more energy than a whole silent window may have.
    most, few = len(samples) * SILENT_MEAN_SQUARE, samples[: len(samples) // 16]
    return bool(np.dot(few, few) < most and np.dot(samples, samples) < most)


def silent_windows(batch: Batch) -> NDArray[np.bool_]:
    """Return which windows of a batch are silent, (windows,)."""
    offsets = batch.offsets
    clip = len(batch.samples) - int(offsets[-1])
    if len(offsets) < FEW:
        return np.array([is_silent(batch.samples[offset:][:clip]) for offset in offsets.tolist()])
    few = np.lib.stride_tricks.sliding_window_view(batch.samples, -(-clip // 16))[offsets]
    found: NDArray[np.bool_] = np.vecdot(few, few) < clip * SILENT_MEAN_SQUARE
    for window in np.flatnonzero(found):
        found[window] = is_silent(batch.samples[offsets[window] :][:clip])
    return found


def owned_samples(starts: NDArray[np.int64], clip: int, total: int) -> NDArray[np.int64]:
    """Return how many samples of a stream belong to each window, (windows,).

    Their sum is `total`. The border between two windows is half way between their centres. The
    first window also has the samples before it, and the last one those after it.
    """
    borders = (starts[:-1] + starts[1:] + clip) // 2
    return np.diff(np.concatenate(([0], borders, [total])))
