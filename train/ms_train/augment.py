"""Random windows of a pool of recordings, and what happens to them before the network hears them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from ms_edge.spec import FrontEndSpec
from ms_train.clips import target
from ms_train.datasets import Recording

Float32 = NDArray[np.float32]
Rng = np.random.Generator
Augment = Callable[[Float32, Rng, int], Float32]  # window, random numbers, sample rate in Hz

# Where labels are independent:
MIXTURE_SHARE = 0.2  # of the windows hold two of them
MIXTURE_DB = (-10.0, 5.0, 20.0)  # the first of them over the second, in the order of the labels: least, likeliest, most
NEITHER_SHARE = 0.25  # hold none of them
BACKGROUND_SHARE = 0.2  # of the others have under them what is none of them,
BACKGROUND_DB = (0.0, 30.0)  # so many dB below
SYNTHETIC_SHARE = 0.35  # of what is none of them is synthetic
LAYERED_SHARE = 0.25  # of it are two sounds at once
ACTIVE_RMS = 10 ** (-50 / 20)


@dataclass(frozen=True)
class _Source:
    """All recordings of one label from one source, drawn by their length."""

    recordings: tuple[Float32, ...]
    chances: NDArray[np.float64]

    @classmethod
    def of(cls, recordings: Sequence[Float32]) -> _Source:
        seconds = np.array([len(audio) for audio in recordings], float)
        return cls(tuple(recordings), seconds / seconds.sum())

    def window(self, length: int, gap: int, rng: Rng) -> Float32:
        """A random window; short recordings are joined with gaps of at most `gap` samples. Silence is drawn again."""
        for _ in range(6):
            window = np.zeros(length, np.float32)
            filled = 0
            while filled < length:
                audio = self.recordings[rng.choice(len(self.recordings), p=self.chances)]
                start = rng.integers(0, max(1, len(audio) - length + 1))
                piece = audio[start : start + length - filled]
                window[filled : filled + len(piece)] = piece
                filled += len(piece) + int(rng.integers(0, gap + 1))
            if rms(window) > ACTIVE_RMS:
                break
        return window


class Pool:
    """Recordings by label and source; draws windows so that no label and no single source dominates.

    `apart` makes each recording a source of its own: short ones are not joined, but fill a window over and over, as the runtime
    fills it. Right for few recordings of short sounds.
    """

    def __init__(
        self,
        recordings: Sequence[tuple[Recording, Float32]],
        labels: tuple[str, ...],
        decision: str,
        spec: FrontEndSpec,
        apart: bool = False,
    ) -> None:
        grouped: dict[str | None, dict[str, list[Float32]]] = defaultdict(lambda: defaultdict(list))
        for recording, audio in recordings:
            grouped[recording.label][recording.name if apart else recording.source].append(audio)
        self._sources = {
            label: [_Source.of(audios) for audios in sources.values()] for label, sources in grouped.items()
        }
        # The square root of the minutes: large sources count for more, but do not drown the others.
        self._chances: dict[str | None, NDArray[np.float64]] = {}
        for label, sources in self._sources.items():
            weight = np.sqrt([sum(map(len, source.recordings)) for source in sources])
            self._chances[label] = weight / weight.sum()
        self.labels = labels
        self.spec = spec
        self._independent = decision == "independent"
        self._gap = 0 if apart else spec.sample_rate_hz // 8

    def window(self, label: str | None, length: int, rng: Rng) -> Float32:
        """One window of a label, (length,) float32, as recorded."""
        source = self._sources[label][rng.choice(len(self._sources[label]), p=self._chances[label])]
        return source.window(length, self._gap, rng)

    def draw(self, length: int, rng: Rng) -> tuple[Float32, Float32]:
        """One window of so many samples and its targets."""
        kind = rng.random() if self._independent else 1.0
        if kind < NEITHER_SHARE:
            return self.neither(length, rng), target(None, self.labels)
        if kind < NEITHER_SHARE + MIXTURE_SHARE:
            # In the labels' order: faint music under speech is music still, faint speech under music is nothing anybody hears.
            drawn = sorted(rng.permutation(len(self.labels))[:2])
            window = mix(*(self.window(self.labels[one], length, rng) for one in drawn), rng.triangular(*MIXTURE_DB))
        else:
            drawn = [rng.integers(len(self.labels))]
            window = self.window(self.labels[drawn[0]], length, rng)
        if self._independent and rng.random() < BACKGROUND_SHARE:
            window = mix(window, self.neither(length, rng), rng.uniform(*BACKGROUND_DB))
        return window, sum((target(self.labels[one], self.labels) for one in drawn), target(None, self.labels))

    def neither(self, length: int, rng: Rng) -> Float32:
        """One window with none of the labels, (length,) float32: recordings of other sounds, synthetic ones, or two at once."""

        def one() -> Float32:
            if None in self._sources and rng.random() >= SYNTHETIC_SHARE:
                return self.window(None, length, rng)
            return (coloured_noise, bursts)[rng.integers(2)](length, rng)

        return mix(one(), one(), rng.uniform(-10, 10)) if rng.random() < LAYERED_SHARE else one()


def random_batch(
    pool: Pool, augment: Augment, batch_size: int, rng: Rng, lengths_s: Mapping[float, float] | None = None
) -> tuple[Float32, Float32]:
    """Clips (batch, samples) and targets (batch, labels), the same ones for the same random numbers.

    All clips have one length: the spec's, or one of `lengths_s`, where each has its chance.
    """
    rate_hz, length = pool.spec.sample_rate_hz, pool.spec.clip_samples
    if lengths_s:
        length = round(rng.choice(list(lengths_s), p=list(lengths_s.values())) * rate_hz)
    drawn = [pool.draw(length, rng) for _ in range(batch_size)]
    windows = [augment(window, rng, rate_hz) for window, _ in drawn]
    return np.stack(windows), np.stack([row for _, row in drawn])


def rms(samples: Float32) -> float:
    """Root mean square, never quite 0."""
    return float(np.sqrt(np.dot(samples, samples) / len(samples) + 1e-12))


def mix(loud: Float32, quiet: Float32, difference_db: float) -> Float32:
    """Sum of two signals, the second `difference_db` below the first, at the level of the first."""
    return loud + quiet * np.float32(rms(loud) / rms(quiet) * 10 ** (-difference_db / 20))


def coloured_noise(length: int, rng: Rng) -> Float32:
    """Gaussian noise whose spectrum falls by a random 0 (white) to 9 dB (beyond brown) an octave, at -20 dB RMS."""
    # A Gaussian spectrum is the spectrum of Gaussian noise; 0 Hz has none.
    spectrum = rng.standard_normal(2 * (length // 2 + 1), np.float32).view(np.complex64)
    spectrum[1:] *= np.exp(np.float32(-rng.uniform(0, 1.5)) * np.log(np.arange(1, len(spectrum), dtype=np.float32)))
    spectrum[0] = 0
    noise: Float32 = irfft(spectrum, length)
    return noise * np.float32(0.1 / rms(noise))


def bursts(length: int, rng: Rng) -> Float32:
    """Knocks, hisses and gusts that never were: coloured noise in one to twelve strokes of their own decay, at -20 dB RMS."""
    envelope = np.full(length, rng.uniform(0, 0.05), np.float32)
    for _ in range(rng.integers(1, 13)):
        start, decay = rng.integers(length), length * 10 ** rng.uniform(-2.5, -0.3)
        rise = min(start, int(decay * rng.uniform(0, 0.5)))
        level = np.float32(rng.uniform(0.1, 1))
        envelope[start:] += level * np.exp(-np.arange(length - start, dtype=np.float32) / np.float32(decay))
        envelope[start - rise : start] += np.linspace(0, level, rise, dtype=np.float32)
    noise = coloured_noise(length, rng) * envelope
    return noise * np.float32(0.1 / rms(noise))


def channel(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """What microphones, rooms, lines and codecs do to any sound, whatever its class.

    Each in its turn, by chance: reverberation, noise, a band limit, a tilted and waved frequency response, 8-bit
    quantisation (linear or mu-law), an offset, and always a level from -45 to -12 dB RMS. Both classes get the same, so that
    neither bandwidth nor loudness nor quantisation says which it is.
    """
    length = len(samples)
    if rng.random() < 0.2:
        samples = _reverberate(samples, rng, sample_rate_hz)
    if rng.random() < 0.35:
        samples = mix(samples, coloured_noise(length, rng), rng.uniform(0, 40))
    spectrum = rfft(samples)
    hz = np.linspace(0, sample_rate_hz / 2, len(spectrum), dtype=np.float32)
    if rng.random() < 0.5:
        octaves = np.log2(np.maximum(hz, 50) / 50)
        waves = rng.uniform(-4, 4) * np.sin(rng.uniform(0.2, 1.0) * octaves * np.pi + rng.uniform(0, 2 * np.pi))
        spectrum *= 10 ** ((rng.uniform(-2, 2) * (octaves - 4) + waves) / 20)
    kind = rng.random()
    if kind < 0.15:
        spectrum[(hz < 300) | (hz > 3400)] = 0
    elif kind < 0.6:
        spectrum[hz > sample_rate_hz / 2 * 2 ** -rng.uniform(0, 1.5)] = 0
        if rng.random() < 0.3:
            spectrum[hz < rng.uniform(20, 250)] = 0
    samples = irfft(spectrum.astype(np.complex64), length)
    samples = samples * np.float32(10 ** (rng.uniform(-45, -12) / 20) / rms(samples))
    if rng.random() < 0.1:
        samples = samples + np.float32(rng.uniform(-0.05, 0.05))
    if rng.random() < 0.15:
        samples = _quantise(samples, rng)
    return np.clip(samples, -1, 1).astype(np.float32)


def _reverberate(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    decay_s = rng.uniform(0.1, 0.7)
    time_s = np.arange(int(decay_s * sample_rate_hz), dtype=np.float32) / sample_rate_hz
    response = rng.standard_normal(len(time_s), np.float32) * np.exp(-6.9 * time_s / decay_s) * 0.05
    response[0] = 1.0
    size = next_fast_len(len(samples) + len(response), real=True)
    wet: Float32 = irfft(rfft(samples, size) * rfft(response, size), size)[: len(samples)]
    return wet


def _quantise(samples: Float32, rng: Rng) -> Float32:
    peak = float(np.max(np.abs(samples))) + 1e-9
    scaled = samples / peak
    if rng.random() < 0.5:
        return (np.round(scaled * 127) / 127 * peak).astype(np.float32)
    compressed = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256)
    compressed = np.round(compressed * 127) / 127
    return (np.sign(compressed) * (256 ** np.abs(compressed) - 1) / 255 * peak).astype(np.float32)
