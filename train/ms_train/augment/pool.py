"""Stretches of sound drawn from a pool of recordings: by source, then group, then recording, with something to hear in each."""

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

SOURCE_CAP = 0.15  # of a label's windows are of one source, where there are enough others
ACTIVE_S = 0.3  # of active sound in a window that is called by a label
JOINED_SHARE = 0.25  # of windows at least are joined of pieces, the same share in each label
PIECE_S = (0.15, 1.5)  # of a piece that is cut for a joined window, at random between these on a logarithmic scale
GAP_SHARE, GAP_S = 0.7, (0.0, 0.5)  # of joins have a gap of so many seconds
SILENT_SHARE = 0.15  # of joined windows have digital silence in their gaps; the others noise,
TONE_DB = (-60.0, -25.0)  # so many dB over their sound,
UNDER_SHARE = 0.5  # and of these half also under it
HARD_SHARE, FADE_S = 0.5, (0.003, 0.05)  # of pieces begin and end at once, the others with a fade
TRIES = 8
SYNTHETIC_SHARE = 0.25  # of what has none of the labels
LAYERED_SHARE = 0.25  # of it are two sounds at once


@dataclass(frozen=True)
class Group:
    """Recordings of one group of a source, drawn by how long they sound."""

    sounds: tuple[Sound, ...]
    cumulated: NDArray[np.float64]  # chances

    @classmethod
    def of(cls, sounds: Sequence[Sound]) -> Group:
        """A group of recordings."""
        return cls(tuple(sounds), np.cumsum(_shares([sound.active_samples for sound in sounds])))

    def sound(self, rng: Rng) -> Sound:
        """A random recording."""
        return self.sounds[min(int(np.searchsorted(self.cumulated, rng.random(), "right")), len(self.sounds) - 1)]

    def short(self, length: int) -> float:
        """The chance of a recording shorter than a length."""
        chances = np.diff(self.cumulated, prepend=0.0)
        return float(chances @ (np.array([len(sound.audio) for sound in self.sounds]) < length))


@dataclass(frozen=True)
class Stretch:
    """Samples (before + length,) of one kind of sound, and the share of the last `length` that sounds."""

    samples: Float32
    active: float


class Pool:
    """Recordings by label, source and group; draws them so that no source dominates its label.

    A source's chance goes by the square root of its active time, at most SOURCE_CAP of its label, and the same holds of groups
    within a source, without the cap. Recordings of less than ACTIVE_S of active sound are left out of labels.

    `apart` makes each recording a source of its own: short ones are not joined, but fill a window over and over, as the runtime
    fills it. Right for few recordings of short sounds.
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
        """`active` has the activity of recordings by name, where it is known already."""
        self.labels, self.spec, self.apart = labels, spec, apart
        self.independent = decision == "independent"
        rate_hz = spec.sample_rate_hz
        need = round(ACTIVE_S * rate_hz)
        grouped: dict[str | None, dict[str, dict[str, list[Sound]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for recording, audio in recordings:
            known = active and active.get(recording.name)
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
        """Whether there are recordings of a label."""
        return label in self._sources

    def window(self, label: str | None, length: int, rng: Rng) -> Float32:
        """One window of a label, (length,) float32, as recorded."""
        return self.stretch(label, length, 0, rng).samples

    def stretch(self, label: str | None, length: int, before: int, rng: Rng, slack: int = 0) -> Stretch:
        """A window of a label and the `before` samples that lead to it.

        The window without `slack` samples at both ends holds ACTIVE_S of active sound (of noise, a third of that), if the
        recordings allow.
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
        """The chance to join where the recording is long enough, so that each label has the same share of joined windows."""
        tenths = round(
            10 * length / self.spec.sample_rate_hz
        )  # near enough: played faster or slower, windows have any length
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
        """Pieces of a group's recordings one after the other, with and without gaps."""
        rate_hz, total = self.spec.sample_rate_hz, before + length
        best: tuple[int, list[tuple[Sound, int, int, int]]] = (-1, [])
        for _ in range(TRIES):
            # Within the window alone counts; what leads to it begins anywhere.
            pieces, at, sounding = [], -int(rng.uniform(0, PIECE_S[1]) * rate_hz), 0
            first, last = before + slack, total - slack
            while at < total:
                sound = group.sound(rng)
                wanted = int(rate_hz * PIECE_S[0] * (PIECE_S[1] / PIECE_S[0]) ** rng.random())
                if sound.end - sound.first <= max(wanted, PIECE_S[1] * rate_hz):
                    start, size = sound.first, sound.end - sound.first  # a short recording, whole
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
        """Noise of a room in the gaps, and under the sound too in half of the windows; digital silence in some."""
        if rng.random() < SILENT_SHARE:
            return samples
        tone = self.window(None, len(samples), rng) if self.has(None) and rng.random() < 0.5 else None
        if tone is None or not tone.any():
            tone = coloured_noise(len(samples), rng)
        tone = tone * np.float32(rms(samples) / rms(tone) * 10 ** (rng.uniform(*TONE_DB) / 20))
        return samples + tone if rng.random() < UNDER_SHARE else np.where(samples == 0, tone, samples)

    def neither(self, length: int, rng: Rng, before: int = 0) -> Float32:
        """Sound of none of the labels, (before + length,) float32: recorded, synthetic, or two at once."""

        def one() -> Float32:
            if None in self._sources and rng.random() >= SYNTHETIC_SHARE:
                return self.stretch(None, length, before, rng).samples
            return (coloured_noise, bursts)[rng.integers(2)](before + length, rng)

        return mix(one(), one(), rng.uniform(-10, 10)) if rng.random() < LAYERED_SHARE else one()


def capped(chances: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Chances (n,) none of which is over `cap`, what is over it shared among the others; all alike where n is too few for that.

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
    weights = np.asarray(weights, float)
    return weights / weights.sum()


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
