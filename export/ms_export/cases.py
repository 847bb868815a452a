"""The cases that implementations are compared on: signals, lengths and rates that show where front
ends differ.

Each case is a recording of any rate and length with one or two channels. The comparison begins with
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec

Float64 = NDArray[np.float64]

SEED = 20_260_101
LONG_CLIP_S = 10.0  # ten clips longer than this would be minutes of each signal
OTHER_RATES_HZ = (8_000, 16_000, 44_100, 48_000)


@dataclass(frozen=True, eq=False)
class Case:
    """One recording to compare: samples (n, channels), float32, at `sample_rate_hz`. `real` says
    that it is no synthetic signal.
    """

    name: str
    samples: Float32
    sample_rate_hz: int
    real: bool = False


@dataclass(frozen=True)
class Real:
    """Recorded mono audio (n,), float32. It is repeated if more samples are needed."""

    samples: Float32
    sample_rate_hz: int

    def of(self, length: int, sample_rate_hz: int) -> Float64:
        """Return `length` samples of it at another rate."""
        resampled = soxr.resample(self.samples.astype(np.float64), self.sample_rate_hz, sample_rate_hz, quality="VHQ")
        return np.resize(resampled, length)


def clip_case(name: str, samples: Float32, sample_rate_hz: int, *, real: bool = False) -> Case:
    """Return a mono clip (n,) as a case."""
    return Case(name, samples[:, np.newaxis], sample_rate_hz, real)


def synthetic_signals(
    spec: FrontEndSpec, length: int, sample_rate_hz: int | None = None
) -> dict[str, Callable[[], Float64]]:
    """Return functions that make signals (length,) at a rate (default: the spec's), by name.

    Each signal shows errors that the others hide. Noise alone hides most errors: two transforms
    that differ at the ends of the window or in one bin give nearly the same result for it.
    """
    rate_hz = sample_rate_hz or spec.sample_rate_hz
    time_s = np.arange(length) / rate_hz
    step = round(spec.frame_step * rate_hz / spec.sample_rate_hz)
    seen = round(min(spec.frame_length, spec.fft_length) * rate_hz / spec.sample_rate_hz)
    middle = step * max(0, length // (2 * step))

    def impulse(at: int) -> Callable[[], Float64]:
        def make() -> Float64:
            signal = np.zeros(length)
            signal[min(at, length - 1)] = 1.0
            return signal

        return make

    def tone(hz: float, amplitude: float = 1.0) -> Callable[[], Float64]:
        return lambda: amplitude * np.sin(2 * np.pi * hz * time_s)

    def noise() -> Float64:
        return np.random.default_rng(SEED).standard_normal(length)

    def chirp() -> Float64:
        duration_s = length / rate_hz  # from 20 Hz to Nyquist, exponentially
        ratio = np.log(rate_hz / 2 / 20)
        return np.asarray(np.sin(2 * np.pi * 20 * duration_s / ratio * np.expm1(time_s / duration_s * ratio)))

    bin_hz = spec.sample_rate_hz / spec.fft_length
    nyquist_hz = min(rate_hz, spec.sample_rate_hz) / 2
    return {
        "silence": lambda: np.zeros(length),
        "impulse at a frame's start": impulse(middle),
        "impulse 100 samples on": impulse(middle + 100),
        "impulse 255 samples on": impulse(middle + 255),
        "impulse where no frame need look": impulse(middle + (seen + step) // 2),
        "impulse on the last sample": impulse(length - 1),
        "dc": lambda: np.ones(length),
        "full-scale tone": tone(bin_hz * round(1000 / bin_hz)),
        "tone between bins": tone(bin_hz * (round(1000 / bin_hz) + 0.5)),
        "tone near Nyquist": tone(nyquist_hz - 10),
        "tone at -80 dBFS": tone(440, 1e-4),
        "tone at -80 dBFS between bins": tone(bin_hz * (round(3000 / bin_hz) + 0.5), 1e-4),
        "tone over noise at -90 dB": lambda: 0.5 * tone(1000)() + 10 ** (-90 / 20) * noise(),
        "white noise": lambda: np.clip(0.25 * noise(), -1, 1),
        "pink noise": lambda: _pink(noise()),
        "chirp": chirp,
        "clipped noise": lambda: np.clip(3 * noise(), -1, 1),
        "alternating extremes": lambda: np.where(np.arange(length) % 2, -1.0, 1.0),
    }


def _pink(noise: Float64) -> Float64:
    """Return pink noise (n,) with a peak of 0.9, made of white noise (n,)."""
    spectrum = np.fft.rfft(noise)
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
    signal = np.fft.irfft(spectrum, len(noise))
    return np.asarray(0.9 * signal / np.abs(signal).max())


def lengths(spec: FrontEndSpec, sample_rate_hz: int) -> dict[str, int]:
    """Return lengths in samples at a rate, by name: those at which the arithmetic of frames and
    windows may be wrong.
    """
    clip = round(spec.clip_s * sample_rate_hz)
    half = max(1, round(spec.frame_step / 2 * sample_rate_hz / spec.sample_rate_hz))
    return {
        "a clip": clip,
        "a clip less a sample": clip - 1,
        "a clip and a sample": clip + 1,
        "a clip less half a step": clip - half,
        "a clip and half a step": clip + half,
        **({"ten clips": 10 * clip} if spec.clip_s <= LONG_CLIP_S else {"three clips": 3 * clip}),
        "0.3 s": round(0.3 * sample_rate_hz),
    }


def grid(spec: FrontEndSpec, real: Mapping[str, Real], *, everything: bool = False) -> Iterator[Case]:
    """Yield cases of signals, lengths, rates and channels: with `everything` all combinations, else
    enough to have every pair.

    By default the rate changes with the signal and the length, as in a Latin square: each signal
    occurs with each length, and each signal and each length with each rate. Stereo has the signal
    in one channel and a quarter of it in the other, so that a sum of the channels differs from
    their mean.
    """
    rates_hz = (spec.sample_rate_hz, *(rate for rate in OTHER_RATES_HZ if rate != spec.sample_rate_hz))
    names = [*synthetic_signals(spec, 1), *real]
    for i, signal in enumerate(names):
        for j, length_name in enumerate(lengths(spec, spec.sample_rate_hz)):
            chosen = range(len(rates_hz)) if everything else [(i + j) % len(rates_hz)]
            for k in chosen:
                rate_hz = rates_hz[k]
                length = lengths(spec, rate_hz)[length_name]
                made = (
                    real[signal].of(length, rate_hz)
                    if signal in real
                    else synthetic_signals(spec, length, rate_hz)[signal]()
                )
                for channels in (1, 2) if everything else [1 + (i + j + j // len(rates_hz)) % 2]:
                    samples = np.stack([made, made / 4][:channels], axis=1).astype(np.float32)
                    name = f"{signal}, {length_name}, {rate_hz:,} Hz, {('mono', 'stereo')[channels - 1]}"
                    yield Case(name, samples, rate_hz, signal in real)


def cases_digest(names: Iterator[str] | list[str], data: Mapping[str, str]) -> str:
    """Return a SHA-256 of the names of the cases that were compared and of the digests of their
    recordings.

    Samples are not in it, because the last bits of a sine depend on the processor.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
    for name in sorted(data):
        digest.update(f"{name} {data[name]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
