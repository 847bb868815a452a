"""Convert any source of audio to float32 blocks at the sample rate of a front end.

A block has the mean of all channels, or some channels on their own.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ms_edge.arrays import Float32
from ms_edge.errors import AudioError, UsageError

Samples = NDArray[Any]  # float32, or int16 with a full scale of 32,768
Channels = int | Literal["each"] | None  # one channel, each on its own, or the mean of all

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 64
FULL_SCALE = 32_768  # of 16-bit samples
BLOCK_SAMPLES = 1 << 16  # samples, of all channels together, decoded at a time: this limits memory
PLAUSIBLE_PEAK = 8.0  # 18 dB over full scale: a recording has less, so the numbers mean something else
MAX_PEAK = 65_536.0  # such samples are clipped here; 16-bit numbers stored as floats stay below
HALVES = np.full(2, 0.5, np.float32)
CALLABLE_ITERATOR = type(iter(int, 1))  # what iter(function, sentinel) returns


class AudioSource:
    """An open source of audio.

    `blocks` yields its samples. After the last block, `frames` is the number of frames at the rate
    of the source, and `warnings` may contain `truncated`, `damaged`, `stream-header`, `bad-header`,
    `non-finite` and `out-of-range`. If channels are read separately, `warnings_of` has the last two.
    `file` has the size and the time of a file, and is None for other sources. `recorded_at` is the
    time at which the recording began, if its container states it; `decoder`, `container` and
    `codec` say how it is decoded: see `Classification`. Raises AudioError if the rate or the number
    of channels is not that of audio. Use it in a `with` block, which closes it.
    """

    file: dict[str, int | str] | None = None
    decoder: str | None = None
    container: str | None = None
    codec: str | None = None
    recorded_at: str | None = None

    def __init__(self, name: str, sample_rate_hz: int, channels: int) -> None:
        sample_rate_hz = whole_number("sample_rate_hz", sample_rate_hz)
        require_plausible(name, sample_rate_hz, channels)
        self.name = name
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self.frames = 0
        self.warnings: list[str] = []
        self._channel_warnings: dict[int, list[str]] = {}

    def selected(self, channels: Channels) -> tuple[int | None, ...]:
        """Return the numbers of the chosen channels, from 1 on; (None,) for the mean of all.

        Raises AudioError(`bad-channels`) if the source lacks the channel.
        """
        if channels == "each":
            return tuple(range(1, self.channels + 1))
        if channels is not None and channels > self.channels:
            count = "1 channel" if self.channels == 1 else f"{self.channels} channels"
            raise AudioError("bad-channels", f"{self.name}: has {count}, so channel {channels} cannot be classified.")
        return (channels,)

    def blocks(self, sample_rate_hz: int, channels: Channels = None) -> Iterator[Float32]:
        """Yield the source once, as float32 blocks at `sample_rate_hz`.

        They are (n,), the mean of all channels, or (channels, n) if `channels` chooses one or each.
        n varies and may be 0. Raises AudioError if the source lacks the channel.
        """
        numbers = self.selected(channels)
        resamplers = []
        if self.sample_rate_hz != sample_rate_hz:
            resamplers = [resampler(self.sample_rate_hz, sample_rate_hz) for _ in numbers]
        for decoded in self.unmixed():
            block = self._mixed(decoded) if channels is None else self._separated(decoded, channels)
            yield _resampled(resamplers, block) if resamplers else block
        if resamplers:
            none = np.empty(0 if channels is None else (len(numbers), 0), np.float32)
            yield _resampled(resamplers, none, last=True)

    def unmixed(self) -> Iterator[Samples]:
        """Yield the source once as it is decoded: blocks (n, channels), all float32 or all int16.

        The next block may overwrite the one before.
        """
        for decoded in self._decoded():
            self.frames += len(decoded)
            yield decoded

    def expect(self, duration_s: float) -> None:
        """Let the next blocks be so long if the source can choose that. The samples do not depend on it."""

    def _mixed(self, samples: Samples) -> Float32:
        """Return the mean (n,) of all channels of samples (n, channels)."""
        if samples.dtype == np.int16:
            return _mean_of_integers(samples)
        return self._plausible(_mean_of_channels(samples))

    def _separated(self, samples: Samples, channels: int | Literal["each"]) -> Float32:
        """Return one channel or each of samples (n, channels), as (channels, n)."""
        first, last = (1, self.channels) if channels == "each" else (channels, channels)
        # Always copy, because the buffer is filled again while the block is still in use.
        separate = np.array(samples.T[first - 1 : last], np.float32, order="C")
        if samples.dtype == np.int16:
            return np.multiply(separate, np.float32(1 / FULL_SCALE), out=separate)
        for number, row in enumerate(separate, first):
            self._plausible(row, number)
        return separate

    def _decoded(self) -> Iterator[Samples]:
        """Yield blocks (n, channels), all float32 or all int16, with n > 0.

        The next block may overwrite the one before.
        """
        raise NotImplementedError

    def _plausible(self, mono: Float32, channel: int | None = None) -> Float32:
        """Replace samples that are not finite by 0, and clip very large ones, with a warning.

        The warning is about `channel`, or about the whole source. This changes `mono` (n,) in place
        and returns it.
        """
        if not (mono.max() <= PLAUSIBLE_PEAK and mono.min() >= -PLAUSIBLE_PEAK):  # also true if there is a NaN
            if not np.isfinite(mono).all():
                np.nan_to_num(mono, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                self._warn("non-finite", channel)
            if np.abs(mono).max() > PLAUSIBLE_PEAK:
                np.clip(mono, -MAX_PEAK, MAX_PEAK, out=mono)
                self._warn("out-of-range", channel)
        return mono

    def _warn(self, code: str, channel: int | None = None) -> None:
        warnings = self.warnings if channel is None else self._channel_warnings.setdefault(channel, [])
        if code not in warnings:
            warnings.append(code)

    def warnings_of(self, channel: int | None) -> list[str]:
        """Return the warnings that concern a channel; those of the whole source for None."""
        return self.warnings if channel is None else [*self.warnings, *self._channel_warnings.get(channel, ())]

    def close(self) -> None:
        """Close the source. The end of a `with` block does this too."""

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AudioArrays(AudioSource):
    """Blocks of samples in memory, each (n,) or (n, channels).

    They are floats in [-1, 1], or integers of 16 or 32 bits. Raises UsageError for anything else,
    and AudioError if there are no samples.
    """

    def __init__(self, blocks: Iterable[ArrayLike], sample_rate_hz: int, name: str = "array") -> None:
        try:
            self._blocks = iter(blocks)
            if isinstance(self._blocks, CALLABLE_ITERATOR):
                self._blocks = _until_sentinel(self._blocks)
        except TypeError:
            raise UsageError(f"Blocks of samples must be an iterable of arrays, not {blocks!r:.40}.") from None
        self._first = next((block for given in self._blocks if len(block := as_float32(given))), None)
        if self._first is None:
            raise AudioError("no-samples", f"{name}: has no samples.")
        super().__init__(name, sample_rate_hz, self._first.shape[1])

    def _decoded(self) -> Iterator[Float32]:
        yield from self._pieces(self._first)
        for given in self._blocks:
            block = as_float32(given)
            if block.shape[1] != self.channels:
                raise UsageError(
                    f"{self.name}: a block has {block.shape[1]} channels, but the first one had {self.channels}."
                )
            yield from self._pieces(block)

    def _pieces(self, block: Float32 | None) -> Iterator[Float32]:
        if block is not None:
            step = max(1, BLOCK_SAMPLES // self.channels)
            for start in range(0, len(block), step):
                yield block[start : start + step]


def _until_sentinel(blocks: Iterator[ArrayLike]) -> Iterator[ArrayLike]:
    """Yield the blocks of `iter(queue.get, None)`.

    Python compares each block with None by `==`. For an array the result is an array, whose truth
    value raises ValueError.
    """
    parts: Any = blocks.__reduce__()
    function, *sentinel = parts[1]
    while sentinel:  # an iterator that has ended has none
        block = function()
        if block is sentinel[0] or (not hasattr(block, "__array__") and block == sentinel[0]):
            return
        yield block


def _mean_of_integers(samples: Samples) -> Float32:
    # Every sum of 16-bit samples over 32,768 is exact in float32, so the order of the sum does not
    # change the result.
    channels = samples.shape[1]
    mono: Float32
    if channels == 1:
        mono = samples[:, 0].astype(np.float32)
        return np.multiply(mono, np.float32(1 / FULL_SCALE), out=mono)
    # A product with a vector is the fastest sum along such a short axis.
    if channels & (channels - 1) == 0:  # a division by a power of two is exact too, before the sum or after it
        return samples.astype(np.float32) @ _equal(channels, 1 / (FULL_SCALE * channels))
    mono = samples.astype(np.float32) @ _equal(channels, 1 / FULL_SCALE)
    return np.divide(mono, np.float32(channels), out=mono)


@lru_cache
def _equal(channels: int, weight: float) -> Float32:
    return np.full(channels, weight, np.float32)


def _mean_of_channels(samples: Samples) -> Float32:
    # Always copy, because the buffer is filled again while the block is still in use.
    with np.errstate(over="ignore", invalid="ignore"):  # `_plausible` handles the result
        if samples.shape[1] > 8:
            return np.asarray(samples.mean(axis=1, dtype=np.float32))
        if samples.shape[1] == 1:
            return samples[:, 0].copy()
        if samples.shape[1] == 2:  # half of each is exact, so this is the same number
            return samples @ HALVES
        mono: Float32 = samples[:, 0] + samples[:, 1]
        for channel in range(2, samples.shape[1]):  # several times as fast as a mean along such a short axis
            mono += samples[:, channel]
        return np.divide(mono, np.float32(samples.shape[1]), out=mono)


def resampler(from_hz: int, to_hz: int) -> Any:
    """Return a new `soxr.ResampleStream` of one channel of float32."""
    import soxr  # imported here because most files do not need it

    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")


def _resampled(resamplers: Sequence[Any], block: Float32, last: bool = False) -> Float32:
    """Resample a block (n,), or each row of a block (channels, n) with a resampler of its own."""
    if block.ndim == 1:
        mono: Float32 = resamplers[0].resample_chunk(block, last=last)
        return mono
    return np.stack([each.resample_chunk(row, last=last) for each, row in zip(resamplers, block, strict=True)])


def as_float32(block: ArrayLike) -> Float32:
    """Return samples as float32 (n, channels) with a full scale of 1.

    `block` is (n,) or (n, channels), floats or integers of 16 or 32 bits. Raises UsageError for
    anything else.
    """
    try:
        samples = np.asarray(block)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths; tensors of other libraries
        raise UsageError(f"Samples must be (n,) or (n, channels): {str(error).rstrip('.')}.") from None
    masked = sys.modules.get("numpy.ma")  # importing it takes 10 ms; who has masked arrays has it
    if masked and masked.is_masked(block):
        raise UsageError("Samples must not be masked: give silence (0) in their place, or leave them out.")
    if samples.ndim == 0 or isinstance(block, bytes | bytearray):
        raise UsageError(f"Samples must be an array (n,) or (n, channels), not {type(block).__name__}.")
    if samples.ndim not in (1, 2):
        raise UsageError(f"Samples must be (n,) or (n, channels), not of shape {samples.shape}.")
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4):
        samples = samples / np.float64(-int(np.iinfo(samples.dtype).min))
    elif samples.dtype.kind != "f":
        raise UsageError(f"Samples must be floats, or integers of 16 or 32 bits, not {samples.dtype}.")
    with np.errstate(over="ignore"):
        return np.asarray(samples if samples.ndim == 2 else samples[:, np.newaxis], np.float32)


def whole_number(name: str, value: object) -> int:
    """Return an integer of any type, NumPy's too, as int. Raises UsageError for another value."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}.") from None


def channel_number(value: object) -> int:
    """Return the number of a channel. Raises UsageError for a value that no channel has."""
    number = whole_number("channel", value)
    if not 1 <= number <= MAX_CHANNELS:
        raise UsageError(f"Channels are numbered from 1 to {MAX_CHANNELS}; there is no channel {number}.")
    return number


def require_plausible(name: str, sample_rate_hz: int, channels: int) -> None:
    """Raise AudioError (`bad-rate`, `bad-channels`) for values that no recording has."""
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            "bad-rate",
            f"{name}: the sample rate must be {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} Hz, not {sample_rate_hz:,} Hz.",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError("bad-channels", f"{name}: has {channels} channels, but 1 to {MAX_CHANNELS} are supported.")
