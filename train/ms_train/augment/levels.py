"""Mixtures of speech and music whose levels are known: the level of the music relative to the speech.

The level is the loudness of the music minus that of the speech, in dB. Both are the integrated
loudness of ITU-R BS.1770-4 over the same samples, measured by pyloudnorm (Steinmetz and Reiss 2021)
on the two sounds apart. BS.1770 averages blocks of 400 ms every 100 ms (seven in a window of one
second), and leaves out those that are 10 dB below the average: so pauses do not lower the loudness
of speech. The sounds are measured as the listener hears them, in their room and through the line,
but before noise, compression and codecs, which change both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import soxr
from scipy.fft import irfft, next_fast_len, rfft

from ms_edge.arrays import Float32
from ms_train.augment.augmentations import telephone
from ms_train.augment.channel import converter, response, tone
from ms_train.augment.codecs import codec
from ms_train.augment.dynamics import compress, duck
from ms_train.augment.pool import Pool
from ms_train.augment.rooms import Room
from ms_train.errors import RunError
from ms_train.signals import Rng, coloured_noise, convolve, mix

SPEECH, MUSIC = "speech", "music"
LEVELS_DB = (-30.0, 20.0)  # of the music relative to the speech, uniformly
JUDGED_DB = (-20.0, 10.0)  # the levels over which errors are averaged
LEAST_LUFS = -50.0  # of a sound as recorded; a quieter one is hardly more than its noise
SPEECH_LUFS = -23.0  # of the speech before the converter sets the level of the sum (EBU R 128)
CONTEXT_S = 0.25  # before a window, for compressors and ducking; in a room, also its response
WET_SHARE = 0.5  # share of sounds in a room
TONED_SHARE = 0.5  # share of sounds with a tone of their own, as of another microphone or instrument
PLAYED_SHARE, SPEED = 0.5, (0.85, 1.18)  # share of sounds that are played faster or slower, and by what factor
DUCKED_SHARE, DUCK_DB = 0.3, (4.0, 18.0)  # share of mixtures whose music is lowered while there is speech
NOISE_SHARE, NOISE_DB = 0.25, (15.0, 45.0)  # share of mixtures with steady noise, at this level below their sum
COMPRESSED_SHARE, CODEC_SHARE = 0.2, 0.12
TRIES = 20


@dataclass(frozen=True)
class Condition:
    """What happens to a mixture on its way: shares of rooms, lines, noise, compression and codecs,
    0 to 1. `played` and `toned` are shares of sounds: with another speed, and with a tone of their own.
    """

    played: float = 0.0
    toned: float = 0.0
    wet: float = 0.0
    line: float = 0.0
    telephone: float = 0.0
    ducked: float = 0.0
    noise: float = 0.0
    compressed: float = 0.0
    codec: float = 0.0


TRAINING = Condition(
    played=PLAYED_SHARE,
    toned=TONED_SHARE,
    wet=WET_SHARE,
    line=1.0,
    ducked=DUCKED_SHARE,
    noise=NOISE_SHARE,
    compressed=COMPRESSED_SHARE,
    codec=CODEC_SHARE,
)
CONDITIONS = {
    "dry": Condition(),
    "rooms": Condition(wet=1.0),
    "telephone": Condition(telephone=1.0),
    "codecs": Condition(codec=1.0),
    "ducked": Condition(ducked=1.0),
    "compressed": Condition(compressed=1.0),
    "noise": Condition(noise=1.0),
}


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of a pool's speech and music, in rooms if there are any."""

    pool: Pool
    rooms: Sequence[Room]
    condition: Condition = TRAINING

    def batch(self, count: int, length: int, rng: Rng, uses: int = 1) -> tuple[Float32, Float32]:
        """Return mixtures (count, length) float32 and their levels (count,) in dB, uniform over LEVELS_DB.

        Each sound is in `uses` of them, with another one and at another level each time, since most
        of the work is to render sounds. Those that are in a room are in the same one. Raises
        RunError(`no-loudness`) if pyloudnorm is not installed.
        """
        room = self.rooms[int(rng.integers(len(self.rooms)))] if self.rooms else None
        speech, music = (
            [self._sound(label, length, room, rng) for _ in range(-(-count // uses))] for label in (SPEECH, MUSIC)
        )
        windows, levels_db = np.empty((count, length), np.float32), np.empty(count, np.float32)
        for at in range(count):
            use, one = divmod(at, len(speech))
            levels_db[at] = rng.uniform(*LEVELS_DB)
            windows[at] = self._mixed(speech[one], music[(one + use) % len(music)], length, levels_db[at], rng)
        return windows, levels_db

    def _sound(self, label: str, length: int, room: Room | None, rng: Rng) -> Float32:
        """Return a sound (before + length,), dry or in the room, that is loud enough to be measured."""
        rate_hz = self.pool.spec.sample_rate_hz
        before = round(CONTEXT_S * rate_hz)
        for _ in range(TRIES):
            if room and rng.random() < self.condition.wet:
                heard = room.responses[int(rng.integers(len(room.responses)))]
                sound = convolve(self._dry(label, length, before + len(heard), rng), heard)[len(heard) :]
            else:
                sound = self._dry(label, length, before, rng)
            if loudness(sound[-length:], rate_hz) > LEAST_LUFS:
                break
        return sound

    def _dry(self, label: str, length: int, before: int, rng: Rng) -> Float32:
        """Return a sound of the pool (before + length,), with another speed or tone if the condition
        says so.
        """
        how, rate_hz = self.condition, self.pool.spec.sample_rate_hz
        if how.played and rng.random() < how.played:
            factor = rng.uniform(*SPEED)
            drawn = self.pool.stretch(label, ceil(length * factor) + 1, ceil(before * factor), rng).samples
            sound: Float32 = soxr.resample(drawn, rate_hz * factor, rate_hz)[-before - length :]
        else:
            sound = self.pool.stretch(label, length, before, rng).samples
        if how.toned and rng.random() < how.toned:
            size = next_fast_len(len(sound), real=True)
            sound = irfft(rfft(sound, size) * tone(size // 2 + 1, rng, rate_hz), size)[: len(sound)]
        return sound

    def _mixed(self, speech: Float32, music: Float32, length: int, level_db: float, rng: Rng) -> Float32:
        """Return the mixture (length,) of two sounds (before + length,) at a level."""
        rate_hz, how = self.pool.spec.sample_rate_hz, self.condition
        if rng.random() < how.ducked:
            music = duck(music, speech, rng.uniform(*DUCK_DB), rng, rate_hz)
        passed = self._through_line(speech, music, rng)
        passed_db = [loudness(sound[-length:], rate_hz) for sound in passed]
        if min(passed_db) > LEAST_LUFS:
            (speech, music), (own_db, other_db) = passed, passed_db
        else:  # a sound lies outside the band of the line
            own_db, other_db = (loudness(sound[-length:], rate_hz) for sound in (speech, music))
        total = _gained(speech, SPEECH_LUFS - own_db) + _gained(music, SPEECH_LUFS + level_db - other_db)
        if rng.random() < how.noise:
            total = mix(total, coloured_noise(len(total), rng), rng.uniform(*NOISE_DB))
        if rng.random() < how.compressed:
            total = compress(total, rng, rate_hz)
        total = converter(total, rng)
        return codec(total, rng, rate_hz)[-length:] if rng.random() < how.codec else total[-length:]

    def _through_line(self, speech: Float32, music: Float32, rng: Rng) -> tuple[Float32, Float32]:
        """Return both sounds (n,) as they come out of the same random line, telephone, or neither."""
        rate_hz = self.pool.spec.sample_rate_hz
        if rng.random() < self.condition.line:
            size = next_fast_len(len(speech), real=True)
            gains = response(size // 2 + 1, rng, rate_hz)
            speech, music = (irfft(rfft(sound, size) * gains, size)[: len(sound)] for sound in (speech, music))
        if rng.random() < self.condition.telephone:
            speech, music = (telephone(sound, rng, rate_hz) for sound in (speech, music))
        return speech, music


def _gained(sound: Float32, gain_db: float) -> Float32:
    return sound * np.float32(10 ** (gain_db / 20))


def loudness(samples: Float32, sample_rate_hz: int) -> float:
    """Return the integrated loudness (BS.1770-4) of samples (n,) in LUFS; -inf if all blocks are
    below -70 LUFS. 0.4 s or more are needed.
    """
    return float(_meter(sample_rate_hz).integrated_loudness(samples.astype(np.float64)))


@lru_cache(2)
def _meter(sample_rate_hz: int) -> Any:
    try:
        import pyloudnorm  # type: ignore[import-untyped]
    except ImportError:
        raise RunError(
            "no-loudness", "Loudness is measured by pyloudnorm, which is not installed: pip install pyloudnorm."
        ) from None
    return pyloudnorm.Meter(sample_rate_hz)
