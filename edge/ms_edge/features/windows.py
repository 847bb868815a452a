"""Cut a stream of samples into overlapping windows, and find the silent ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec

SILENCE_DBFS = -70.0  # a window with a lower RMS is silent
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


def batches(blocks: Iterable[Float32], spec: FrontEndSpec, size: int) -> Iterator[Batch]:
    """Yield the windows of a stream, `size` windows at a time.

    The stream is blocks (n,) or (channels, n) float32 at the rate of the spec. A window starts
    every `spec.hop_s`; the last one ends with the stream. The last batch may have fewer windows. A
    stream shorter than a clip is repeated to fill one, and an empty stream has no window. The
    batches do not depend on the sizes of the blocks. The next batch may overwrite the samples of
    the one before. Memory is that of about two batches and one block.
    """
    clip, hop = spec.clip_samples, spec.hop_samples
    starts, length = np.arange(size) * hop, (size - 1) * hop + clip
    # All batches share one buffer, because new memory for each takes longer than copying the
    # samples. The buffer holds the samples of the stream from `origin` on.
    buffer = np.empty(0, np.float32)
    origin = total = next_start = 0
    for block in blocks:
        if not block.shape[-1]:
            continue
        filled = total - origin
        total += block.shape[-1]
        if buffer.shape[-1] < total - origin:
            # A clip more than this block needs: the blocks of a resampler vary in length.
            shape = (*block.shape[:-1], max(total - origin, length + clip + block.shape[-1]))
            buffer, before = np.empty(shape, np.float32), buffer[..., :filled]
            buffer[..., :filled] = before
        buffer[..., filled : total - origin] = block
        if total - next_start < length:
            continue
        while total - next_start >= length:
            yield Batch(next_start + starts, buffer[..., next_start - origin :][..., :length])
            next_start += size * hop
        # Keep a clip of samples: the stream may end here, and the last window then begins a clip
        # before the end.
        keep = max(origin, min(next_start, total - clip))
        buffer[..., : total - keep] = buffer[..., keep - origin : total - origin]
        origin = keep
    held = buffer[..., : total - origin]
    if 0 < total < clip:
        yield Batch(starts[:1], np.take(held, np.arange(clip), axis=-1, mode="wrap"))
    elif total:
        last = list(range(next_start, total - clip + 1, hop))
        if (last[-1] if last else next_start - hop) < total - clip:
            last.append(total - clip)
        if last:
            yield Batch(np.array(last), held[..., last[0] - origin :])


def windows(blocks: Iterable[Float32], spec: FrontEndSpec) -> Iterator[tuple[int, Float32]]:
    """Yield the offset and the samples of each window of a stream, as soon as it is complete.

    The windows are those of `batches`; their samples are (clip_samples,) float32.
    """
    for batch in batches(blocks, spec, 1):
        yield int(batch.starts[0]), batch.samples.copy()


def is_silent(samples: Float32) -> bool:
    """Return whether the RMS of a window (n,) is below -70 dB of full scale."""
    return bool(np.dot(samples, samples) < len(samples) * SILENT_MEAN_SQUARE)


def silent_windows(batch: Batch) -> NDArray[np.bool_]:
    """Return which windows of a batch are silent, (windows,)."""
    offsets = batch.offsets
    clip = len(batch.samples) - int(offsets[-1])
    # In most windows the first few samples have more energy than a whole silent window may have.
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
