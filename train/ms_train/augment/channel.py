"""Simulate microphones, lines and converters, in the same way for every class."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft

from ms_edge.arrays import Float32
from ms_train.signals import Rng, rms

LEVEL_DB = (-45.0, -12.0)  # of full scale, RMS


def channel(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """Pass samples (n,) float32 through a random line; return (n,) float32 in [-1, 1].

    Each of these has its own probability: a tilted and waved frequency response, a band limit, an
    offset, 8-bit quantisation (linear or mu-law). The level is always from -45 to -12 dB RMS. All
    classes are treated alike, so that bandwidth, loudness and quantisation do not identify a class.
    Rooms and noise are applied before (`ms_train.augment.scenes`).
    """
    length = len(samples)
    spectrum = rfft(samples)
    spectrum *= response(len(spectrum), rng, sample_rate_hz)
    return converter(irfft(spectrum.astype(np.complex64), length), rng)


def response(bins: int, rng: Rng, sample_rate_hz: int) -> Float32:
    """Return the gains (bins,) of a random line from 0 Hz to half the sample rate: a tilt and waves
    in half of the lines, and a band limit in three fifths of them, a third of these a telephone's.
    """
    gains = np.ones(bins, np.float32)
    hz = np.linspace(0, sample_rate_hz / 2, bins, dtype=np.float32)
    if rng.random() < 0.5:
        gains = tone(bins, rng, sample_rate_hz)
    kind = rng.random()
    if kind < 0.2:
        gains[(hz < 300) | (hz > 3400)] = 0
    elif kind < 0.6:
        gains[hz > sample_rate_hz / 2 * 2 ** -rng.uniform(0, 1.5)] = 0
        if rng.random() < 0.3:
            gains[hz < rng.uniform(20, 250)] = 0
    return gains


def tone(bins: int, rng: Rng, sample_rate_hz: int) -> Float32:
    """Return the gains (bins,) of a random tilt and waves, from 0 Hz to half the sample rate."""
    hz = np.linspace(0, sample_rate_hz / 2, bins, dtype=np.float32)
    octaves = np.log2(np.maximum(hz, 50) / 50)
    waves = rng.uniform(-4, 4) * np.sin(rng.uniform(0.2, 1.0) * octaves * np.pi + rng.uniform(0, 2 * np.pi))
    return np.asarray(10 ** ((rng.uniform(-2, 2) * (octaves - 4) + waves) / 20), np.float32)


def converter(samples: Float32, rng: Rng) -> Float32:
    """Bring samples (n,) to a random level, some with an offset or in 8 bits; return (n,) float32 in
    [-1, 1].
    """
    samples = samples * np.float32(10 ** (rng.uniform(*LEVEL_DB) / 20) / rms(samples))
    if rng.random() < 0.1:
        samples = samples + np.float32(rng.uniform(-0.05, 0.05))
    if rng.random() < 0.15:
        samples = _quantise(samples, rng)
    return np.clip(samples, -1, 1).astype(np.float32)


def _quantise(samples: Float32, rng: Rng) -> Float32:
    peak = float(np.max(np.abs(samples))) + 1e-9
    scaled = samples / peak
    if rng.random() < 0.5:
        return (np.round(scaled * 127) / 127 * peak).astype(np.float32)
    compressed = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256)
    compressed = np.round(compressed * 127) / 127
    expanded: Float32 = (np.sign(compressed) * (256 ** np.abs(compressed) - 1) / 255 * peak).astype(np.float32)
    return expanded
