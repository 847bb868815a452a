"""Make the conditions of the validation set from clean audio: each is a function of samples at 16
kHz and a random generator.

| condition | what |
|---|---|
| telephone | pink noise 5 dB below, then 300-3,400 Hz, as in `benchmarks.quality.testsets` |
| room ... | convolved with a room response before the clip is cut, so that it has the reverberation of earlier sound |
| white, pink ... dB | steady noise, this many dB below the clip's RMS |
| gaps | pieces of 0.3 to 1 s from random places, cut hard, with gaps of 0 to 125 ms |
| rests | sound of 0.4 to 1.2 s and rests of 0.2 to 0.6 s in turn |
| old recording | 200 Hz to 3-5 kHz, crackle, and noise 15 to 25 dB below |
| music ... dB below | speech and music; the RMS of the music is this many dB below that of the speech |
"""

from __future__ import annotations

import zlib
from collections import defaultdict

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from benchmarks.quality.testsets import RATE_HZ, rms, unclipped
from ms_edge.arrays import Float32
from ms_train.augment import rooms as simulated
from ms_train.datasets.cache import default_folder
from ms_train.signals import Rng, noise, with_noise

SIZES = {"booth": "small", "room": "small", "classroom": "middle", "hall": "large", "church": "large"}
CONTEXT_S = 1.0  # seconds before a clip, besides the decay of the room
QUIET = 1e-3  # level of a gap, relative to the RMS around it
PIECE_S, GAP_S = (0.3, 1.0), (0.0, 0.125)
SOUND_S, REST_S, RAMP_S = (0.4, 1.2), (0.2, 0.6), 0.02
MUSIC_BELOW_DB = (-10, -5, 0, 5, 10, 15, 20)


def rooms(part: str) -> dict[str, list[Float32]]:
    """Return impulse responses by size of the room and distance; each part has its own.

    `val` has the simulated rooms of that name (see `ms_train.augment.rooms`), other parts have
    decaying noise.
    """
    found: dict[str, list[Float32]] = defaultdict(list)
    if part == "val":
        for room in simulated.load(part, RATE_HZ, default_folder()):
            for direct_db, response in zip(room.direct_db, room.responses, strict=True):
                found[f"{SIZES[room.kind]}, {'far' if direct_db < 0 else 'near'}"].append(response)
        return dict(sorted(found.items()))
    rng = np.random.default_rng(zlib.crc32(part.encode()))
    for size, decay_s in {"small": (0.2, 0.5), "middle": (0.4, 1.2), "large": (1.0, 2.5)}.items():
        for distance, direct_db in {"far": (-10, 0), "near": (0, 10)}.items():
            found[f"{size}, {distance}"] = [
                decaying_noise(rng.uniform(*decay_s), rng.uniform(*direct_db), rng) for _ in range(10)
            ]
    return found


def in_room(audio: Float32, start: int, length: int, response: Float32) -> Float32:
    """Return the clip of `length` samples at `start` of a recording, as if played in a room.

    `response` (n,) is the room's impulse response, which begins with the direct sound.
    """
    begin = max(0, start - len(response) - round(CONTEXT_S * RATE_HZ))
    wet = fftconvolve(audio[begin : start + length], response)
    return unclipped(wet[start - begin :][:length])


def decaying_noise(decay_s: float, direct_to_reverberant_db: float, rng: Rng) -> Float32:
    """Return a response (n,), float32: a direct sound and noise that decays by 60 dB in `decay_s`."""
    times = np.arange(round(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)
    tail[0] = 0
    tail *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return tail.astype(np.float32)


def noisy(samples: Float32, colour: str, snr_db: float, rng: Rng) -> Float32:
    """Return the samples with steady noise of one colour, `snr_db` below their RMS."""
    return unclipped(with_noise(samples, colour, snr_db, rng))


def mixture(speech: Float32, music: Float32, below_db: float) -> Float32:
    """Mix speech and music of equal length, the RMS of the music `below_db` below that of the
    speech.
    """
    return unclipped(speech + music * np.float32(rms(speech) / rms(music) * 10 ** (-below_db / 20)))


def with_gaps(audio: Float32, length: int, rng: Rng) -> Float32:
    """Return `length` samples of hard-cut pieces of a recording with gaps between; each piece has
    at least -20 dB of its RMS.
    """
    parts: list[Float32] = []
    level, filled = rms(audio), 0
    while filled < length:
        size = min(len(audio), round(rng.uniform(*PIECE_S) * RATE_HZ))
        starts = rng.integers(0, len(audio) - size + 1, 8)
        pieces = [audio[start : start + size] for start in starts]
        piece = next((piece for piece in pieces if rms(piece) > 0.1 * level), max(pieces, key=rms))
        gap = _quiet(round(rng.uniform(*GAP_S) * RATE_HZ), level, rng)
        parts += [piece, gap]
        filled += len(piece) + len(gap)
    return np.concatenate(parts)[:length]


def with_rests(samples: Float32, rng: Rng) -> Float32:
    """Return the samples with rests, faded out and in; they begin with sound."""
    gate, at = np.zeros(len(samples), np.float32), 0
    while at < len(gate):
        sound = round(rng.uniform(*SOUND_S) * RATE_HZ)
        gate[at : at + sound] = 1
        at += sound + round(rng.uniform(*REST_S) * RATE_HZ)
    ramp = np.hanning(round(2 * RAMP_S * RATE_HZ)).astype(np.float32)
    gate = np.convolve(np.pad(gate, len(ramp), "edge"), ramp / ramp.sum(), "same")[len(ramp) : -len(ramp)]
    faded: Float32 = samples * gate + _quiet(len(samples), rms(samples), rng)
    return faded


def _quiet(length: int, level: float, rng: Rng) -> Float32:
    return (level * QUIET * rng.standard_normal(length)).astype(np.float32)


def old_recording(samples: Float32, rng: Rng) -> Float32:
    """Return the samples with a narrow band, crackle and noise, like a shellac disc."""
    level = rms(samples)
    crackle = np.zeros(len(samples))
    strokes = rng.integers(0, len(samples), rng.poisson(15 * len(samples) / RATE_HZ))
    crackle[strokes] = level * rng.uniform(-4, 4, len(strokes))
    hiss = noise("pink", len(samples), rng) * level * 10 ** (-rng.uniform(15, 25) / 20)
    band = butter(4, (200, rng.uniform(3000, 5000)), "bandpass", fs=RATE_HZ, output="sos")
    return unclipped(sosfilt(band, samples + crackle + hiss))
