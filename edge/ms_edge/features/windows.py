"""Windows over a stream of samples: what the network sees, as runs of samples in which clips overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec

SILENCE_DBFS = -70.0
SILENT_MEAN_SQUARE = 10 ** (SILENCE_DBFS / 10)


@dataclass(frozen=True)
class Batch:
    """Neighbouring windows of a stream, and the one run of samples in which they overlap.

    `starts` (windows,) are where in the stream they begin, in ascending order; `samples` (n,) begin where the first does and end
    where the last does.
    """

    starts: NDArray[np.int64]
    samples: Float32

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where in `samples` the windows begin, (windows,)."""
        return self.starts - int(self.starts[0])


def batches(blocks: Iterable[Float32], spec: FrontEndSpec, size: int) -> Iterator[Batch]:
    """Yield the windows of a stream of mono blocks at the spec's rate, `size` at a time, at the end fewer.

    Windows start every `hop_s`; the last one is aligned to the end. A stream shorter than a clip is tiled to fill one;
    an empty stream has no window. What is yielded does not depend on the sizes of the blocks; its samples may be overwritten by
    the next. No more than about two batches and one block are held.
    """
    clip, hop = spec.clip_samples, spec.hop_samples
    starts, length = np.arange(size) * hop, (size - 1) * hop + clip
    # One buffer for all: fresh memory for each batch costs more than what is copied into it. It holds the samples from `origin`.
    buffer = np.empty(0, np.float32)
    origin = total = next_start = 0
    for block in blocks:
        filled = total - origin
        total += len(block)
        if len(buffer) < total - origin:
            buffer, before = np.empty(max(total - origin, length + len(block)), np.float32), buffer[:filled]
            buffer[:filled] = before
        buffer[filled : total - origin] = block
        if total - next_start < length:
            continue
        while total - next_start >= length:
            yield Batch(next_start + starts, buffer[next_start - origin :][:length])
            next_start += size * hop
        # The last window may yet begin a clip before the end, wherever that will be.
        keep = max(origin, min(next_start, total - clip))
        buffer[: total - keep] = buffer[keep - origin : total - origin]
        origin = keep
    held = buffer[: total - origin]
    if 0 < total < clip:
        yield Batch(starts[:1], np.resize(held, clip))
    elif total:
        last = list(range(next_start, total - clip + 1, hop))
        if (last[-1] if last else next_start - hop) < total - clip:
            last.append(total - clip)
        if last:
            yield Batch(np.array(last), held[last[0] - origin :])


def windows(blocks: Iterable[Float32], spec: FrontEndSpec) -> Iterator[tuple[int, Float32]]:
    """Yield (start, samples (clip_samples,)) for every window of a stream, each as soon as it is complete; see `batches`."""
    for batch in batches(blocks, spec, 1):
        yield int(batch.starts[0]), batch.samples.copy()


def is_silent(samples: Float32) -> bool:
    """True where the RMS of a window is under -70 dB of full scale."""
    return bool(np.dot(samples, samples) < len(samples) * SILENT_MEAN_SQUARE)


def silent_windows(batch: Batch) -> NDArray[np.bool_]:
    """Which windows of a batch are silent, (windows,)."""
    offsets = batch.offsets
    clip = len(batch.samples) - int(offsets[-1])
    # The first few samples of most windows are louder than all of a silent one may be.
    few = np.lib.stride_tricks.sliding_window_view(batch.samples, -(-clip // 16))[offsets]
    found: NDArray[np.bool_] = np.vecdot(few, few) < clip * SILENT_MEAN_SQUARE
    for window in np.flatnonzero(found):
        found[window] = is_silent(batch.samples[offsets[window] :][:clip])
    return found


def owned_samples(starts: NDArray[np.int64], clip: int, total: int) -> NDArray[np.int64]:
    """How many samples of a stream each window answers for, (windows,); their sum is `total`.

    Two neighbours part half way between their centres; the first begins at the start, the last ends at the end.
    """
    borders = (starts[:-1] + starts[1:] + clip) // 2
    return np.diff(np.concatenate(([0], borders, [total])))
