"""Compression, limiting and ducking, as used in broadcasting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.fft import irfft, rfft
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

from ms_edge.arrays import Float32
from ms_train.signals import Rng, rms

STEP_S = 0.005  # of gains
CROSSOVERS_HZ = (250.0, 2500.0)
ATTACK_S, DUCK_RELEASE_S = 0.02, (0.1, 0.6)


def compress(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """Compress samples (n,) in one or three bands, and limit them; return (n,) float32 with the
    same RMS.

    Threshold (-18 to 6 dB over a band's RMS), ratio (1.5 to 8) and release (50 to 500 ms) are
    drawn.
    """
    settings = {
        "threshold_db": float(rng.uniform(-18, 6)),
        "ratio": float(2 ** rng.uniform(0.6, 3)),
        "release_s": float(rng.uniform(0.05, 0.5)),
    }
    bands = _bands(samples, sample_rate_hz) if rng.random() < 0.5 else [samples]
    squeezed = sum((_squeeze(band, sample_rate_hz, **settings) for band in bands), np.zeros_like(samples))
    limited = _squeeze(squeezed, sample_rate_hz, threshold_db=float(rng.uniform(6, 12)), ratio=20.0, release_s=0.05)
    return limited * np.float32(rms(samples) / rms(limited))


def duck(music: Float32, speech: Float32, depth_db: float, rng: Rng, sample_rate_hz: int) -> Float32:
    """Lower music (n,) by up to `depth_db` while speech (n,) is active; in pauses it returns within
    0.1 to 0.6 s.
    """
    level = _levels(speech, sample_rate_hz, STEP_S)
    share = np.clip((20 * np.log10(level / rms(speech) + 1e-6) + 20) / 15, 0, 1)
    keep = np.exp(-3 * STEP_S / rng.uniform(*DUCK_RELEASE_S))
    share = np.maximum(share, lfilter([1 - keep], [1, -keep], share))
    return music * _per_sample(10 ** (-depth_db * share / 20), len(music), sample_rate_hz)


def _squeeze(samples: Float32, sample_rate_hz: int, threshold_db: float, ratio: float, release_s: float) -> Float32:
    """Compress samples (n,); `threshold_db` is relative to their RMS."""
    level_db = 20 * np.log10(_levels(samples, sample_rate_hz, release_s) / rms(samples) + 1e-6)
    gain_db = -np.maximum(0, level_db - threshold_db) * (1 - 1 / ratio)
    return samples * _per_sample(10 ** (gain_db / 20), len(samples), sample_rate_hz)


def _levels(samples: Float32, sample_rate_hz: int, release_s: float) -> Float32:
    """Return the RMS of each step; it rises shortly before the sound, as with look-ahead, and falls
    within `release_s`.
    """
    step = round(STEP_S * sample_rate_hz)
    padded = np.zeros(-(-len(samples) // step) * step, np.float32)
    padded[: len(samples)] = samples
    power = np.einsum("ij,ij->i", padded.reshape(-1, step), padded.reshape(-1, step)) / step
    held = maximum_filter1d(power, 1 + 2 * round(ATTACK_S / STEP_S))
    keep = np.exp(-STEP_S / release_s)
    smooth = lfilter([1 - keep], [1, -keep], held)
    levels: Float32 = np.sqrt(np.maximum(held, smooth)).astype(np.float32)
    return levels


def _per_sample(gains: Float32, length: int, sample_rate_hz: int) -> Float32:
    step = round(STEP_S * sample_rate_hz)
    return np.interp(np.arange(length), (np.arange(len(gains)) + 0.5) * step, gains).astype(np.float32)


def _bands(samples: Float32, sample_rate_hz: int) -> list[Float32]:
    """Split samples into three bands whose sum is the samples."""
    spectrum = rfft(samples)
    edges = [0, *(round(hz / sample_rate_hz * len(samples)) for hz in CROSSOVERS_HZ), len(spectrum)]
    found = []
    for low, high in pairwise(edges):
        part = np.zeros_like(spectrum)
        part[low:high] = spectrum[low:high]
        found.append(irfft(part, len(samples)))
    return found
