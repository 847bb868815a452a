"""Sources of audio, whatever they are, as mono float32 blocks at the rate a front end wants."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ms_edge.arrays import Float32
from ms_edge.errors import AudioError, UsageError

Samples = NDArray[Any]  # float32, or int16 of full scale 32,768

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 64
BLOCK_SAMPLES = 1 << 16  # interleaved samples decoded at a time: bounds memory whatever the channels or duration
PLAUSIBLE_PEAK = 8.0  # 18 dB over full scale: more is no recording, but a file whose numbers mean something else
MAX_PEAK = 65_536.0  # what is let through of such a file: 16-bit numbers as floats still sound like what they are
CALLABLE_ITERATOR = type(iter(int, 1))  # what iter(function, sentinel) returns


class AudioSource:
    """One open source of audio: its format, and its samples as mono float32 blocks.

    After the last block, `frames` holds the frames that were there (at the source's own rate) and `warnings` what a
    listener should know: `truncated`, `damaged`, `stream-header`, `bad-header`, `non-finite`, `out-of-range`. `file` says which bytes
    a file is, where it is one. Raises AudioError where it cannot be opened as audio. Closed by leaving a `with`.
    """

    file: dict[str, int | str] | None = None

    def __init__(self, name: str, sample_rate_hz: int, channels: int) -> None:
        sample_rate_hz = whole_number("sample_rate_hz", sample_rate_hz)
        require_plausible(name, sample_rate_hz, channels)
        self.name = name
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self.frames = 0
        self.warnings: list[str] = []

    def blocks(self, sample_rate_hz: int) -> Iterator[Float32]:
        """Yield the source once, as mono float32 blocks (n,) at that rate; n varies and may be 0."""
        resampler = None
        if self.sample_rate_hz != sample_rate_hz:
            import soxr  # here, where it is needed

            resampler = soxr.ResampleStream(self.sample_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
        for decoded in self._decoded():
            self.frames += len(decoded)
            whole = decoded.dtype == np.int16
            mono = _mean_of_integers(decoded) if whole else self._plausible(_mean_of_channels(decoded))
            yield resampler.resample_chunk(mono) if resampler else mono
        if resampler:
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)

    def _decoded(self) -> Iterator[Samples]:
        """Yield (n, channels), n > 0, all float32 or all int16; what was yielded may be overwritten by the next."""
        raise NotImplementedError

    def _plausible(self, mono: Float32) -> Float32:
        if not (mono.max() <= PLAUSIBLE_PEAK and mono.min() >= -PLAUSIBLE_PEAK):  # NaN is in neither
            if not np.isfinite(mono).all():
                np.nan_to_num(mono, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                self._warn("non-finite")
            if np.abs(mono).max() > PLAUSIBLE_PEAK:
                np.clip(mono, -MAX_PEAK, MAX_PEAK, out=mono)
                self._warn("out-of-range")
        return mono

    def _warn(self, code: str) -> None:
        if code not in self.warnings:
            self.warnings.append(code)

    def close(self) -> None:
        """Close what is open; leaving a `with` does it too."""

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AudioArrays(AudioSource):
    """Blocks of samples in memory, each (n,) or (n, channels): floats in [-1, 1], or integers of 16 or 32 bits."""

    def __init__(self, blocks: Iterable[ArrayLike], sample_rate_hz: int, name: str = "array") -> None:
        try:
            self._blocks = iter(blocks)
            if isinstance(self._blocks, CALLABLE_ITERATOR):
                self._blocks = _until_sentinel(self._blocks)
        except TypeError:
            raise UsageError(f"Blocks of samples must be something to iterate over, not {blocks!r:.40}.") from None
        self._first = next((block for given in self._blocks if len(block := as_float32(given))), None)
        if self._first is None:
            raise AudioError("no-samples", f"{name}: holds no samples.")
        super().__init__(name, sample_rate_hz, self._first.shape[1])

    def _decoded(self) -> Iterator[Float32]:
        yield from self._pieces(self._first)
        for given in self._blocks:
            block = as_float32(given)
            if block.shape[1] != self.channels:
                raise UsageError(f"{self.name}: a block of {block.shape[1]} channels after {self.channels}.")
            yield from self._pieces(block)

    def _pieces(self, block: Float32 | None) -> Iterator[Float32]:
        if block is not None:
            step = max(1, BLOCK_SAMPLES // self.channels)
            for start in range(0, len(block), step):
                yield block[start : start + step]


def _until_sentinel(blocks: Iterator[ArrayLike]) -> Iterator[ArrayLike]:
    """Yield the blocks of `iter(queue.get, None)`: Python compares each with None by `==`, which is an array where it is one, and
    raises ValueError.
    """
    parts: Any = blocks.__reduce__()
    function, *sentinel = parts[1]
    while sentinel:  # it has none once it has ended
        block = function()
        if block is sentinel[0] or (not hasattr(block, "__array__") and block == sentinel[0]):
            return
        yield block


def _mean_of_integers(samples: Samples) -> Float32:
    # Every sum of 16-bit samples over 32,768 is a float32, in whatever order it is taken: the same bits as of floats.
    scale, channels = np.float32(1 / 32768), samples.shape[1]
    mono: Float32
    if channels == 1:
        mono = samples[:, 0].astype(np.float32)
        return np.multiply(mono, scale, out=mono)
    # A product with a vector is the fastest sum along so short an axis.
    mono = samples.astype(np.float32) @ np.full(channels, scale)
    return np.divide(mono, np.float32(channels), out=mono)


def _mean_of_channels(samples: Samples) -> Float32:
    # Always a copy: the buffer is filled again while the block is still in use.
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of that is looked at next
        if samples.shape[1] > 8:
            return np.asarray(samples.mean(axis=1, dtype=np.float32))
        mono: Float32 = samples[:, 0].copy()
        for channel in range(1, samples.shape[1]):  # several times as fast as a mean along so short an axis
            mono += samples[:, channel]
        return mono if samples.shape[1] == 1 else np.divide(mono, np.float32(samples.shape[1]), out=mono)


def as_float32(block: ArrayLike) -> Float32:
    """Samples (n,) or (n, channels), floats or integers of 16 or 32 bits, as float32 (n, channels) of full scale 1.

    Raises UsageError for anything else.
    """
    try:
        samples = np.asarray(block)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths; tensors of other libraries
        raise UsageError(f"Samples must be (n,) or (n, channels): {str(error).rstrip('.')}.") from None
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
    """The int that an integer of whatever kind is, NumPy's included. Raises UsageError for anything else."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}.") from None


def require_plausible(name: str, sample_rate_hz: int, channels: int) -> None:
    """Raise AudioError(`bad-rate`, `bad-channels`) for what no recording has."""
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            "bad-rate",
            f"{name}: a sample rate of {sample_rate_hz:,} Hz is not audio; {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} is read.",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError("bad-channels", f"{name}: {channels} channels; 1 to {MAX_CHANNELS} are read.")
