"""Write the twenty recordings of the tutorial: ten doorbells and ten motors, synthesised.

    python docs/tutorial_sounds.py sounds

Replace them with your own recordings: one folder per class, ten recordings or more in each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 16_000
PARTIALS = ((1.0, 1.0), (2.76, 0.6), (5.4, 0.3))  # of a bell: frequency and level, relative to the lowest
Float64 = NDArray[np.float64]


def doorbell(random: np.random.Generator, seconds: float) -> Float64:
    """Return strokes of a bell that decay, a second or so apart."""
    samples = np.zeros(round(seconds * RATE_HZ))
    lowest_hz = random.uniform(500, 1100)
    at = 0.0
    while at < seconds:
        stroke = samples[round(at * RATE_HZ) :]
        time = np.arange(len(stroke)) / RATE_HZ
        for ratio, level in PARTIALS:
            stroke += level * np.exp(-3 * ratio * time) * np.sin(2 * np.pi * lowest_hz * ratio * time)
        at += random.uniform(0.6, 1.2)
    return samples


def motor(random: np.random.Generator, seconds: float) -> Float64:
    """Return the harmonics of a motor whose speed wavers."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = random.uniform(40, 90) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.1, 0.4) * time))
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    return np.asarray(sum(np.sin(number * phase) / number for number in range(1, 25)))


def main() -> None:
    """Write the recordings into the folder that the command line names."""
    folder = Path(sys.argv[1])
    random = np.random.default_rng(0)
    for make in (doorbell, motor):
        (folder / make.__name__).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            samples = make(random, random.uniform(4, 8))
            samples = samples / np.abs(samples).max() * random.uniform(0.1, 0.8)
            samples += random.normal(0, random.uniform(0.001, 0.02), len(samples))  # a noisy room
            soundfile.write(folder / make.__name__ / f"{number}.wav", samples, RATE_HZ)
    print(f"20 recordings in {folder}")


if __name__ == "__main__":
    main()
