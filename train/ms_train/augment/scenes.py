"""Scenes: sounds mixed in rooms and with noise, and the labels that are present in them.

A sound is rendered with the sound before it, at least a second and as long as its room's response.
It is convolved with the room's response, mixed and compressed before the window is cut, so that a
window also holds the end of earlier sound, as real recordings do.

A-weighted levels decide whether a label is present: the level of the label's own sound while it is
active is compared with everything else in the window. The label is present (target 1) if its sound
is at most the first of two differences below the rest, absent (0) if it is more than the second
below it, and undecidable between them (NaN, which the loss and the metrics leave out):

* music under speech, 20 and 30 dB. WCAG 2.2, criterion 1.4.7, requires background to be 20 dB below
  speech, so that it does not disturb; it is audible in pauses. At 30 dB it is below the noise of
  most recordings.
* speech under music, and either under noise, 10 and 20 dB. Speech is detected in steady noise down
  to about 15 dB below it (Hawkins and Stevens 1950), and so are loud partials of music. Both are
  clearly audible at 10 dB.

Babble, several voices at once, is undecidable for speech, unless one voice is clearly louder or the
babble is 20 dB below the rest. It is not music.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from ms_edge.arrays import Float32
from ms_train.augment.dynamics import compress, duck
from ms_train.augment.pool import Pool
from ms_train.augment.rooms import Room
from ms_train.datasets.clips import target
from ms_train.signals import Augment, Rng, coloured_noise, convolve, loudness, mix

VOICE = "speech"
# With independent labels:
MIXTURE_SHARE = 0.22  # share of windows with two labels
# Level of the first over the second, in the order of the labels: least, most probable, most.
MIXTURE_DB = (-10.0, 5.0, 22.0)
DUCKED_SHARE, DUCK_DB = 0.4, (4.0, 18.0)  # share of mixtures that raise the second in the pauses of the first
NEITHER_SHARE = 0.25  # share of windows with no label
BABBLE_ALONE_SHARE = 0.06  # share of these that are babble
BACKGROUND_SHARE = 0.25  # share of the others with a background of no label,
BABBLE_SHARE = 0.2  # share of these backgrounds that are babble,
BACKGROUND_DB = (0.0, 30.0)  # at this level below the sound
BABBLE_VOICES, BABBLE_SPREAD_DB = (3, 8), 4.0
UNDER_VOICE_DB, UNDER_NOISE_DB = (20.0, 30.0), (10.0, 20.0)
# With any labels:
WET_SHARE = 0.45  # share of windows in a room,
ALONE_SHARE = 0.5  # share of the mixtures among them with only one sound in the room (a presenter over dry music)
SPEED_SHARE, SPEED = 0.3, (0.9, 1.1)
NOISE_SHARE, NOISE_DB = 0.45, (-2.0, 35.0)  # share of windows with steady noise
COMPRESSED_SHARE = 0.25
CONTEXT_S, DRY_CONTEXT_S = 1.0, 0.25  # before a window, in addition to the decay; without a room, for compressors


class Scenes:
    """Windows of a pool's sounds with their targets; without `rooms`, sounds are only drawn and
    mixed.
    """

    def __init__(self, pool: Pool, rooms: Sequence[Room] = ()) -> None:
        self.pool, self.rooms = pool, rooms
        self._rate_hz = pool.spec.sample_rate_hz

    def draw(self, length: int, rng: Rng, slack: int = 0) -> tuple[Float32, Float32]:
        """Return one window (length,) and its targets (labels,): 1 present, 0 absent, NaN
        undecidable.

        Any cut of `length - slack` samples holds ACTIVE_S of active sound of its labels, if the
        recordings have that much.
        """
        return _Scene(self, length, slack, rng).window()


class _Scene:
    """The construction of one window from sounds (before + length,) by label."""

    def __init__(self, scenes: Scenes, length: int, slack: int, rng: Rng) -> None:
        self.pool, self.labels, self.rate_hz = scenes.pool, scenes.pool.labels, scenes._rate_hz
        self.length, self.slack, self.rng = length, slack, rng
        self.processed = bool(scenes.rooms)
        self.room = None
        if scenes.rooms and rng.random() < WET_SHARE:
            self.room = scenes.rooms[int(rng.integers(len(scenes.rooms)))]
        longest = max(map(len, self.room.responses)) if self.room else 0
        context = (CONTEXT_S if self.room else DRY_CONTEXT_S) if self.processed else 0
        self.before = 0 if self.pool.apart else longest + round(context * self.rate_hz)
        self.babble = False

    def window(self) -> tuple[Float32, Float32]:
        rng, independent = self.rng, self.pool.independent
        kind = rng.random() if independent else 1.0
        if kind < NEITHER_SHARE:
            return self._finished({}, self._wet(self._neither(BABBLE_ALONE_SHARE)))
        sounds: dict[int, tuple[Float32, float]] = {}
        if kind < NEITHER_SHARE + MIXTURE_SHARE:
            # In the labels' order: music is audible under louder speech, but speech is hardly
            # audible under louder music.
            first, second = sorted(rng.permutation(len(self.labels))[:2])
            wet = [True, True]
            if rng.random() < ALONE_SHARE:
                wet[rng.integers(2)] = False
            sounds[first], (below, active) = self._sound(first, wet[0]), self._sound(second, wet[1])
            gain_db = self._level(*sounds[first]) - self._level(below, active) - rng.triangular(*MIXTURE_DB)
            below = below * np.float32(10 ** (gain_db / 20))
            if self.processed and rng.random() < DUCKED_SHARE:
                depth_db = rng.uniform(*DUCK_DB)
                below = duck(below * np.float32(10 ** (depth_db / 20)), sounds[first][0], depth_db, rng, self.rate_hz)
            sounds[second] = below, active
        else:
            one = int(rng.integers(len(self.labels)))
            sounds[one] = self._sound(one)
        total = _sum([sound for sound, _ in sounds.values()])
        background = np.zeros_like(total)
        if independent and rng.random() < BACKGROUND_SHARE:
            other = self._wet(self._neither(BABBLE_SHARE))
            background = mix(total, other, rng.uniform(*BACKGROUND_DB)) - total
        return self._finished(sounds, background)

    def _sound(self, label: int, wet: bool = True) -> tuple[Float32, float]:
        """Return a label's sound, with `wet` in the room if there is one, and its active share of
        the window.
        """
        stretch_by = 1.0
        if self.processed and self.rng.random() < SPEED_SHARE:
            stretch_by = self.rng.uniform(*SPEED)  # changes pitch and tempo by one factor (Ko et al. 2015)
        size = self.before + self.length
        if stretch_by == 1.0:
            found = self.pool.stretch(self.labels[label], self.length, self.before, self.rng, self.slack)
            samples = found.samples
        else:
            length, before = (round(count * stretch_by) for count in (self.length, self.before))
            slack = round(self.slack * stretch_by)
            found = self.pool.stretch(self.labels[label], length, before, self.rng, slack)
            samples = soxr.resample(found.samples, self.rate_hz * stretch_by, self.rate_hz, "HQ")
            samples = np.pad(samples, (max(0, size - len(samples)), 0))[-size:]
        return self._wet(samples, wet), found.active

    def _wet(self, samples: Float32, wet: bool = True) -> Float32:
        if self.room is None or not wet:
            return samples
        return convolve(samples, self.room.responses[self.rng.integers(len(self.room.responses))])

    def _neither(self, babble_share: float) -> Float32:
        if not self.pool.has(VOICE) or self.rng.random() >= babble_share or not self.processed:
            return self.pool.neither(self.length, self.rng, self.before)
        self.babble = True
        voices = []
        for _ in range(self.rng.integers(*BABBLE_VOICES, endpoint=True)):
            voice = self.pool.stretch(VOICE, self.length, self.before, self.rng)
            level_db = self._level(voice.samples, voice.active) + self.rng.uniform(0, BABBLE_SPREAD_DB)
            voices.append(voice.samples * np.float32(10 ** (-level_db / 20)))
        return np.float32(0.1) * _sum(voices)

    def _finished(self, sounds: dict[int, tuple[Float32, float]], background: Float32) -> tuple[Float32, Float32]:
        """Return the sum with noise, compressed and cut, and its targets."""
        babble = background
        total = sum((sound for sound, _ in sounds.values()), background)
        if self.processed and self.rng.random() < NOISE_SHARE:
            noise = mix(total, coloured_noise(len(total), self.rng), self.rng.uniform(*NOISE_DB)) - total
            background, total = background + noise, total + noise
        targets = target(None, self.labels)
        for label, (sound, active) in sounds.items():
            own_db = self._level(sound, active)
            over = [other for name, (other, _) in sounds.items() if name < label]
            rest = [other for name, (other, _) in sounds.items() if name > label]
            targets[label] = presence(
                own_db,
                self._level(_sum(over), 1.0) if over else -np.inf,
                self._level(sum(rest, background), 1.0),
            ) if self.pool.independent else 1.0  # fmt: skip
        if self.babble and (at := self.labels.index(VOICE)) not in sounds:
            under_db = self._level(total - babble, 1.0) - self._level(babble, 1.0)
            targets[at] = np.nan if under_db <= UNDER_NOISE_DB[1] else 0.0
        if self.processed and self.rng.random() < COMPRESSED_SHARE:
            total = compress(total, self.rng, self.rate_hz)
        return np.ascontiguousarray(total[-self.length :], np.float32), targets

    def _level(self, samples: Float32, active: float) -> float:
        """Return the loudness of the window while it is active."""
        return loudness(samples[-self.length :], self.rate_hz) - 10 * float(np.log10(max(active, 0.01)))


def _sum(sounds: Sequence[Float32]) -> Float32:
    """Return the sum of at least one sound, (n,) float32."""
    total = sounds[0].copy()
    for sound in sounds[1:]:
        total += sound
    return total


def presence(own_db: float, voice_db: float, other_db: float) -> float:
    """Return 1 if a sound is present beside a voice and other sound of these levels, 0 if it is
    absent, NaN if undecidable.

    >>> presence(-30, -20, -60), presence(-45, -20, -60), presence(-55, -20, -60), presence(-30, -80, -5)
    (1.0, nan, 0.0, 0.0)
    """
    below = (voice_db - own_db, UNDER_VOICE_DB), (other_db - own_db, UNDER_NOISE_DB)
    if any(difference > gone for difference, (_, gone) in below):
        return 0.0
    return 1.0 if all(difference <= there for difference, (there, _) in below) else float("nan")


def random_batch(
    scenes: Scenes, augment: Augment, length: int, count: int, rng: Rng, slack: int = 0
) -> tuple[Float32, Float32]:
    """Return augmented windows (count, length) and their targets (count, labels), which depend only
    on `rng`.
    """
    drawn = [scenes.draw(length, rng, slack) for _ in range(count)]
    windows = [augment(window, rng, scenes.pool.spec.sample_rate_hz) for window, _ in drawn]
    return np.stack(windows), np.stack([row for _, row in drawn])
