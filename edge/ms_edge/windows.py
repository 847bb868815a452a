"""Windows over a stream of samples: what the network sees, one clip at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ms_edge.spec import FrontEndSpec

Float32 = NDArray[np.float32]

SILENCE_DBFS = -70.0


def windows(blocks: Iterable[Float32], spec: FrontEndSpec) -> Iterator[tuple[int, Float32]]:
    """Yield (start, samples (clip_samples,)) for every window of a stream of mono blocks at the spec's rate.

    Windows start every `hop_s`; the last one is aligned to the end. A stream shorter than a clip is tiled to fill one;
    an empty stream has no window. What is yielded does not depend on the sizes of the blocks, and no more than about
    two clips and one block are held.
    """
    clip, hop = spec.clip_samples, spec.hop_samples
    pieces: list[Float32] = []  # samples from `origin` to `total`, joined only when a window is complete
    origin = total = next_start = 0
    for block in blocks:
        pieces.append(block)
        total += len(block)
        if total - next_start < clip:
            continue
        held = np.concatenate(pieces)
        while total - next_start >= clip:
            yield next_start, held[next_start - origin : next_start - origin + clip]
            next_start += hop
        # The last window may yet begin a clip before the end, wherever that will be.
        keep = max(origin, min(next_start, total - clip))
        pieces, origin = [held[keep - origin :].copy()], keep
    if total == 0:
        return
    held = np.concatenate(pieces)
    if total < clip:
        yield 0, np.resize(held, clip)
    elif next_start - hop + clip < total:
        yield total - clip, held[-clip:]


def is_silent(samples: Float32) -> bool:
    """True where the RMS of a window is under -70 dB of full scale."""
    mean_square = float(np.dot(samples, samples)) / len(samples)
    return mean_square < 10 ** (SILENCE_DBFS / 10)


def owned_samples(starts: NDArray[np.int64], clip: int, total: int) -> NDArray[np.int64]:
    """How many samples of a stream each window answers for, (windows,); their sum is `total`.

    Two neighbours part half way between their centres; the first begins at the start, the last ends at the end.
    """
    borders = (starts[:-1] + starts[1:] + clip) // 2
    return np.diff(np.concatenate(([0], borders, [total])))
