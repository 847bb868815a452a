"""Levels, mixtures and synthetic noise, which all packages of `ms_train` use."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from ms_edge.arrays import Float32

Rng = np.random.Generator
Range = tuple[float, float]
Augment = Callable[[Float32, Rng, int], Float32]  # window, random numbers, sample rate in Hz


class Audio(Protocol):
    """Samples (n,) float32, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Float32: ...


def rms(samples: Float32) -> float:
    """Return the root mean square, always greater than 0."""
    # np.dot would add in an order that depends on the number of threads of BLAS.
    return float(np.sqrt(np.einsum("i,i->", samples, samples) / len(samples) + 1e-12))


def mix(loud: Float32, quiet: Float32, difference_db: float) -> Float32:
    """Return the sum of two signals: the first at its level, and the second `difference_db` below
    the first.
    """
    return loud + quiet * np.float32(rms(loud) / rms(quiet) * 10 ** (-difference_db / 20))


def loudness(samples: Float32, sample_rate_hz: int) -> float:
    """Return the A-weighted level in dB (IEC 61672-1), which rates rumble as the ear does, at least
    -120 dB.
    """
    spectrum = np.abs(rfft(samples))
    weighted = float(np.sum(spectrum * spectrum * _a_weights(len(samples), sample_rate_hz))) * 2 / len(samples) ** 2
    return 10 * float(np.log10(weighted + 1e-12))


@lru_cache(8)
def _a_weights(length: int, sample_rate_hz: int) -> Float32:
    f2 = np.fft.rfftfreq(length, 1 / sample_rate_hz) ** 2
    gain = 12194**2 * f2**2 / ((f2 + 20.6**2) * np.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)) * (f2 + 12194**2))
    return ((1.2589 * gain) ** 2).astype(np.float32)  # 0 dB at 1 kHz


def convolve(samples: Float32, response: Float32) -> Float32:
    """Convolve samples (n,) with a response (m,) by FFT, and return the first n samples."""
    size = next_fast_len(len(samples) + len(response) - 1, real=True)
    wet: Float32 = irfft(rfft(samples, size) * rfft(response, size), size)[: len(samples)]
    return wet


def coloured_noise(length: int, rng: Rng) -> Float32:
    """Return Gaussian noise at -20 dB RMS whose spectrum falls by a random 0 (white) to 9 dB per
    octave (beyond brown).
    """
    # The spectrum of Gaussian noise is Gaussian; the bin at 0 Hz is set to 0. The noise is made
    # with a length that transforms fast, and cut.
    size = next_fast_len(length, real=True)
    spectrum = rng.standard_normal(2 * (size // 2 + 1), np.float32).view(np.complex64)
    spectrum[1:] *= np.exp(np.float32(-rng.uniform(0, 1.5)) * np.log(np.arange(1, len(spectrum), dtype=np.float32)))
    spectrum[0] = 0
    noise: Float32 = irfft(spectrum, size)[:length]
    return noise * np.float32(0.1 / rms(noise))


def bursts(length: int, rng: Rng) -> Float32:
    """Return synthetic knocks, hisses and gusts: coloured noise in one to twelve decaying strokes,
    at -20 dB RMS.
    """
    envelope = np.full(length, rng.uniform(0, 0.05), np.float32)
    for _ in range(rng.integers(1, 13)):
        start, decay = int(rng.integers(length)), length * 10 ** rng.uniform(-2.5, -0.3)
        rise = min(start, int(decay * rng.uniform(0, 0.5)))
        level = np.float32(rng.uniform(0.1, 1))
        envelope[start:] += level * np.exp(-np.arange(length - start, dtype=np.float32) / np.float32(decay))
        envelope[start - rise : start] += np.linspace(0, level, rise, dtype=np.float32)
    noise = coloured_noise(length, rng) * envelope
    return noise * np.float32(0.1 / rms(noise))


def noise(colour: str, length: int, rng: Rng) -> Float32:
    """Return Gaussian noise (length,) float32 of RMS 1: `white`, or `pink`, whose power falls by 3
    dB per octave.
    """
    spectrum = np.fft.rfft(rng.standard_normal(length))
    if colour == "pink":
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
    samples = np.fft.irfft(spectrum, length)
    scaled: Float32 = (samples / np.sqrt(np.mean(samples**2))).astype(np.float32)
    return scaled


def with_noise(samples: Float32, colour: str, snr_db: float, rng: Rng) -> Float32:
    """(n,) float32 samples at their own level, and noise `snr_db` below their RMS over the whole."""
    level = np.sqrt(np.mean(samples.astype(np.float64) ** 2)) * 10 ** (-snr_db / 20)
    return samples + np.float32(level) * noise(colour, len(samples), rng)
