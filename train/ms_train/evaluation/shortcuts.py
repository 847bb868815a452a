"""Numbers of a window that should not tell classes apart: its loudness, bandwidth and pauses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft, rfftfreq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ms_edge.arrays import Float32

Float64 = NDArray[np.float64]

QUIET_BELOW_DB, QUIET_FRAME_S = 20.0, 0.02
ABOVE_HZ, ROLL_OFF = (2000, 4000, 6000), 0.95
LEAST = 1e-6  # -120 dB


def loudness(window: Float32) -> Float64:
    """Return the RMS of a window (samples,) in dB of full scale, (1,)."""
    return np.array([decibels(root_mean_square(window))])


def bandwidth(window: Float32, sample_rate_hz: int) -> Float64:
    """Return the shares of the energy above 2, 4 and 6 kHz, and the frequency below which 95 % of
    it lie, in kHz, (4,).
    """
    energy, hz = np.abs(rfft(window)).astype(float) ** 2, rfftfreq(len(window), 1 / sample_rate_hz)
    share = np.cumsum(energy) / max(energy.sum(), LEAST)
    above = [1 - share[np.searchsorted(hz, limit) - 1] for limit in ABOVE_HZ]
    return np.array([*above, hz[min(np.searchsorted(share, ROLL_OFF), len(hz) - 1)] / 1000])


def pauses(window: Float32, sample_rate_hz: int) -> Float64:
    """Return the share of frames of 20 ms that are more than 20 dB below the window's RMS, (1,)."""
    frame = round(QUIET_FRAME_S * sample_rate_hz)
    level = np.sqrt(np.mean(window[: len(window) // frame * frame].reshape(-1, frame).astype(float) ** 2, axis=1))
    return np.array([np.mean(level < root_mean_square(window) * 10 ** (-QUIET_BELOW_DB / 20))])


def regression() -> Pipeline:
    """Return a logistic regression on standardised numbers, which looks for a class in them."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def root_mean_square(window: Float32) -> float:
    """Return the root mean square of a window."""
    return float(np.sqrt(np.mean(np.square(window, dtype=np.float64))))


def decibels(amplitude: float) -> float:
    """Return an amplitude in dB of full scale, at least -120."""
    return 20 * float(np.log10(max(float(amplitude), LEAST)))
