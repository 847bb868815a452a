"""Draw stretches of active sound from a pool of recordings: by source, then by group, then by
recording.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec
from ms_train.datasets.activity import Sound, activity
from ms_train.datasets.dataset import Recording
from ms_train.signals import Audio, Rng, bursts, coloured_noise, mix, rms

SOURCE_CAP = 0.15  # largest share of a label's windows from one source, if there are enough sources
ACTIVE_S = 0.3  # seconds of active sound in a window of a label
JOINED_SHARE = 0.25  # smallest share of windows joined from pieces; the share is the same for each label
PIECE_S = (0.15, 1.5)  # length of a piece of a joined window, at random on a logarithmic scale
GAP_SHARE, GAP_S = 0.7, (0.0, 0.5)  # share of joins with a gap, and its length
SILENT_SHARE = 0.15  # share of joined windows with digital silence in their gaps; the others have noise
TONE_DB = (-60.0, -25.0)  # of this level relative to their sound
UNDER_SHARE = 0.5  # share of these with the noise also under the sound
HARD_SHARE, FADE_S = 0.5, (0.003, 0.05)  # share of pieces without a fade, and the length of a fade
TRIES = 8
SYNTHETIC_SHARE = 0.25  # share of synthetic sound among sound with none of the labels
LAYERED_SHARE = 0.25  # share of this with two sounds at once


@dataclass(frozen=True)
class Group:
    """Recordings of one group of a source, drawn in proportion to their active time."""

    sounds: tuple[Sound, ...]
    cumulated: NDArray[np.float64]  # probabilities

    @classmethod
    def of(cls, sounds: Sequence[Sound]) -> Group:
        """Return the group of these recordings."""
        return cls(tuple(sounds), np.cumsum(_shares([sound.active_samples for sound in sounds])))

    def sound(self, rng: Rng) -> Sound:
        """Return a random recording."""
        return self.sounds[min(int(np.searchsorted(self.cumulated, rng.random(), "right")), len(self.sounds) - 1)]

    def short(self, length: int) -> float:
        """Return the probability of a recording shorter than a length in samples."""
        chances = np.diff(self.cumulated, prepend=0.0)
        return float(chances @ (np.array([len(sound.audio) for sound in self.sounds]) < length))


@dataclass(frozen=True)
class Stretch:
    """Samples (before + length,) of one kind of sound, and the active share of the last `length`."""

    samples: Float32
    active: float


class Pool:
    """Recordings by label, source and group, drawn so that no source dominates its label.

    The probability of a source is proportional to the square root of its active time, and at most
    SOURCE_CAP of its label. The same holds for groups within a source, without the cap. Labelled
    recordings with less than ACTIVE_S of active sound are left out.

    With `apart`, each recording is a source of its own, and short ones are not joined but repeated
    to fill a window, as in the runtime. This suits few recordings of short sounds.
    """

    def __init__(
        self,
        recordings: Sequence[tuple[Recording, Audio]],
        labels: tuple[str, ...],
        decision: str,
        spec: FrontEndSpec,
        apart: bool = False,
        active: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> None:
        """Group the recordings; `active` holds the activity of recordings by name, if it is already
        known.
        """
        self.labels, self.spec, self.apart = labels, spec, apart
        self.independent = decision == "independent"
        rate_hz = spec.sample_rate_hz
        need = round(ACTIVE_S * rate_hz)
        grouped: dict[str | None, dict[str, dict[str, list[Sound]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for recording, audio in recordings:
            known = active.get(recording.name) if active else None
            sound = Sound(audio, activity(audio[:], rate_hz) if known is None else known, rate_hz)
            if sound.active_samples and (apart or recording.label is None or sound.active_samples >= need):
                source = recording.name if apart else recording.source
                grouped[recording.label][source][recording.group].append(sound)
        self._sources: dict[str | None, list[list[Group]]] = {}
        self._chances: dict[str | None, NDArray[np.float64]] = {}
        for label, sources in grouped.items():
            self._sources[label] = [[Group.of(sounds) for sounds in groups.values()] for groups in sources.values()]
            minutes = [sum(s.active_samples for g in groups for s in g.sounds) for groups in self._sources[label]]
            self._chances[label] = capped(_shares(np.sqrt(minutes)), SOURCE_CAP)
        self._group_chances = {
            label: [_shares(np.sqrt([sum(s.active_samples for s in g.sounds) for g in groups])) for groups in sources]
            for label, sources in self._sources.items()
        }
        self._joined: dict[int, dict[str | None, float]] = {}

    def has(self, label: str | None) -> bool:
        """Return whether there are recordings of a label."""
        return label in self._sources

    def window(self, label: str | None, length: int, rng: Rng) -> Float32:
        """Return one window of a label, (length,) float32, as recorded."""
        return self.stretch(label, length, 0, rng).samples

    def stretch(self, label: str | None, length: int, before: int, rng: Rng, slack: int = 0) -> Stretch:
        """Return a window of a label and the `before` samples before it.

        Without `slack` samples at both ends, the window holds ACTIVE_S of active sound (a third of
        that for noise), if the recordings have that much.
        """
        source = rng.choice(len(self._sources[label]), p=self._chances[label])
        groups = self._sources[label][source]
        group = groups[rng.choice(len(groups), p=self._group_chances[label][source])]
        need = round(ACTIVE_S * self.spec.sample_rate_hz / (3 if label is None else 1))
        sound = group.sound(rng)
        if self.apart:
            return _tiled(sound, length, need, rng)
        if len(sound.audio) < length or rng.random() < self._join_chance(label, length):
            return self._join(group, length, before, need, slack, rng)
        start = sound.start(length, need, rng, slack)
        samples = np.zeros(before + length, np.float32)
        lead = min(before, start)
        samples[before - lead :] = sound.audio[start - lead : start + length]
        return Stretch(samples, sound.active_in(start, start + length) / length)

    def _join_chance(self, label: str | None, length: int) -> float:
        """Return the probability of joining pieces if a recording is long enough, so that all
        labels have the same share.
        """
        tenths = round(
            10 * length / self.spec.sample_rate_hz
        )  # rounded, because windows have any length after a change of speed
        if tenths not in self._joined:
            length = round(tenths * self.spec.sample_rate_hz / 10)
            forced = {}
            for name, sources in self._sources.items():
                short = [
                    sum(chance * group.short(length) for chance, group in zip(chances, groups, strict=True))
                    for chances, groups in zip(self._group_chances[name], sources, strict=True)
                ]
                forced[name] = float(self._chances[name] @ short)
            share = max([JOINED_SHARE, *(forced[name] for name in self.labels if name in forced)])
            self._joined[tenths] = {
                name: max(0.0, (share - of) / (1 - of)) if of < 1 else 0.0 for name, of in forced.items()
            }
        return self._joined[tenths][label]

    def _join(self, group: Group, length: int, before: int, need: int, slack: int, rng: Rng) -> Stretch:
        """Join pieces of a group's recordings, with and without gaps."""
        rate_hz, total = self.spec.sample_rate_hz, before + length
        best: tuple[int, list[tuple[Sound, int, int, int]]] = (-1, [])
        for _ in range(TRIES):
            # Only sound within the window counts; the samples before it may begin anywhere.
            pieces, at, sounding = [], -int(rng.uniform(0, PIECE_S[1]) * rate_hz), 0
            first, last = before + slack, total - slack
            while at < total:
                sound = group.sound(rng)
                wanted = int(rate_hz * PIECE_S[0] * (PIECE_S[1] / PIECE_S[0]) ** rng.random())
                if sound.end - sound.first <= max(wanted, PIECE_S[1] * rate_hz):
                    start, size = sound.first, sound.end - sound.first  # all of a short recording
                else:
                    start, size = sound.start(wanted, wanted // 2, rng), wanted
                size = min(size, total - at)
                pieces.append((sound, start, size, at))
                if at < last and at + size > first:
                    sounding += sound.active_in(start + max(0, first - at), start + min(size, last - at))
                at += size + (int(rng.uniform(*GAP_S) * rate_hz) if rng.random() < GAP_SHARE else 0)
            if sounding > best[0]:
                best = sounding, pieces
            if sounding >= need:
                break
        samples = np.zeros(total, np.float32)
        for sound, start, size, at in best[1]:
            cut = max(0, -at)
            if size > cut:
                samples[at + cut : at + size] = _faded(sound.audio[start + cut : start + size], rate_hz, rng)
        return Stretch(self._with_tone(samples, rng), min(1.0, max(1, best[0]) / length))

    def _with_tone(self, samples: Float32, rng: Rng) -> Float32:
        """Add noise to the gaps, in half of the windows also to the sound; some windows keep
        digital silence.
        """
        if rng.random() < SILENT_SHARE:
            return samples
        tone = self.window(None, len(samples), rng) if self.has(None) and rng.random() < 0.5 else None
        if tone is None or not tone.any():
            tone = coloured_noise(len(samples), rng)
        tone = tone * np.float32(rms(samples) / rms(tone) * 10 ** (rng.uniform(*TONE_DB) / 20))
        return samples + tone if rng.random() < UNDER_SHARE else np.where(samples == 0, tone, samples)

    def neither(self, length: int, rng: Rng, before: int = 0) -> Float32:
        """Return sound with none of the labels, (before + length,) float32: recorded, synthetic, or
        two at once.
        """

        def one() -> Float32:
            if None in self._sources and rng.random() >= SYNTHETIC_SHARE:
                return self.stretch(None, length, before, rng).samples
            return (coloured_noise, bursts)[rng.integers(2)](before + length, rng)

        return mix(one(), one(), rng.uniform(-10, 10)) if rng.random() < LAYERED_SHARE else one()


def capped(chances: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Limit probabilities (n,) to `cap`, and share the rest among the others; if n * cap <= 1, all
    become equal.

    >>> capped(np.array([0.6, 0.2, 0.2]), 0.5)
    array([0.5 , 0.25, 0.25])
    """
    if len(chances) * cap <= 1:
        return np.full(len(chances), 1 / len(chances))
    chances, full = chances.copy(), np.zeros(len(chances), bool)
    while (chances > cap * (1 + 1e-9)).any():
        full |= chances > cap
        chances[full] = cap
        chances[~full] *= (1 - cap * full.sum()) / chances[~full].sum()
    return chances


def _shares(weights: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(weights, float)
    shares: NDArray[np.float64] = values / values.sum()
    return shares


def _tiled(sound: Sound, length: int, need: int, rng: Rng) -> Stretch:
    if len(sound.audio) <= length:
        return Stretch(np.resize(sound.audio[:], length), sound.active_samples / len(sound.audio))
    start = sound.start(length, need, rng)
    return Stretch(np.array(sound.audio[start : start + length]), sound.active_in(start, start + length) / length)


def _faded(piece: Float32, rate_hz: int, rng: Rng) -> Float32:
    if rng.random() < HARD_SHARE:
        return piece
    piece = piece.copy()
    size = min(len(piece) // 2, int(rng.uniform(*FADE_S) * rate_hz))
    if size:
        slope = np.linspace(0, 1, size, dtype=np.float32)
        piece[:size] *= slope
        piece[-size:] *= slope[::-1]
    return piece
