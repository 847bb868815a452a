"""Make programmes like those of broadcasts from recordings of the open corpus, with the truth at
each time.

OUT/KIND-NUMBER.wav are 16 kHz mono 16 bit; OUT/truth.tsv is like that of
`benchmarks.quality.splices`. Each file has its own random generator, seeded by its kind and number,
and all sources of a label are equally likely.

| kind | what |
|---|---|
| broadcast | ten minutes: talk (30-300 s), songs (60-240 s), jingles, talk over music, news, ambience; hard cuts, gaps, crossfades |
| podcast | ten minutes: talk over an opening tune, then talk of one or two voices, with short tunes between |
| single | 30 s to 5 min of one label, as in collections; every second one in a condition of `benchmarks.quality.conditions` |
| blocks | three minutes of blocks of 2 to 20 s, cut hard: those of `benchmarks.quality.splices` |

Talk is utterances of one source at one RMS with pauses of 0.1 to 1 s, sometimes up to 2.5 s, mostly
over quiet noise. All of it is speech in the truth. Music under talk is between 10 dB louder and 20
dB quieter, and fades in and out. A sound that fades counts as present while its gain is above -25
dB. A quarter of all parts of broadcasts and podcasts have a condition too: a room, noise, a
telephone, an old recording.
"""

from __future__ import annotations

import csv
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.quality import conditions
from benchmarks.quality.splices import (
    LABELS,
    LEVEL_DB,
    STEP,
    STEP_S,
    TRUTH,
    Material,
    Stretch,
    splice,
    truth_in,
    without_pauses,
)
from benchmarks.quality.testsets import BOTH, NEITHER, RATE_HZ, SILENT_RMS, rms, telephone, unclipped
from benchmarks.quality.validation_set import material
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_train.datasets.dataset import Recording
from ms_train.signals import Rng

FILES = {"broadcast": 8, "podcast": 4, "single": 60, "blocks": 8}
PROGRAMME_S = 600.0
AUDIBLE = 10 ** (-25 / 20)  # smallest gain at which a sound counts as present
HISS_DB = (-65.0, -45.0)  # level of the noise under talk, relative to it
CONDITION_SHARE = {"broadcast": 0.25, "podcast": 0.25, "single": 0.5}
BED_BELOW_DB = (-10.0, 20.0)

Gain = Sequence[tuple[float, float]]  # seconds from the start of a part, gain


def build(corpus: Path, out: Path, recordings: Iterable[Recording], seed: int) -> list[Stretch]:
    """Write all programmes to `out`, or read their truth if all are there."""
    if not (out / TRUTH).exists():
        out.mkdir(parents=True, exist_ok=True)
        of = material(corpus, recordings)
        stretches: list[Stretch] = []
        files = [(kind, number) for kind, count in FILES.items() for number in range(count)]
        for kind, number in tqdm(files, desc="making programmes", unit="file", file=sys.stderr, disable=None):
            name = f"{kind}-{number:02}.wav"
            samples, found = programme(kind, name, of, np.random.default_rng([zlib.crc32(kind.encode()), number, seed]))
            soundfile.write(out / name, samples, RATE_HZ, subtype="PCM_16")
            stretches += found
        with (out / TRUTH).open(
            "w", encoding="utf-8", newline=""
        ) as file:  # written last, so that it shows that all is there
            csv.writer(file, delimiter="\t").writerows(astuple(stretch) for stretch in stretches)
    return truth_in(out)


def programme(kind: str, name: str, of: Material, rng: Rng) -> tuple[Float32, list[Stretch]]:
    """Return the samples of one file of a kind and its truth."""
    if kind == "blocks":
        return splice(of, name, rng)
    studio = Studio(of, rng, CONDITION_SHARE[kind])
    {"broadcast": studio.broadcast, "podcast": studio.podcast, "single": studio.single}[kind]()
    return studio.mixed(name)


class Studio:
    """Places parts one after another and over each other; `self.at` is the start of the next one in
    seconds.
    """

    def __init__(self, of: Material, rng: Rng, condition_share: float) -> None:
        self.of, self.rng, self.condition_share = of, rng, condition_share
        self.at = 0.0
        self.parts: list[tuple[str, float, Float32, Gain]] = []

    def broadcast(self) -> None:
        """Place ten minutes of all kinds of parts."""
        items: list[Callable[[], None]] = [self.talk, self.song, self.jingle, self.over_music, self.news, self.ambience]
        while self.at < PROGRAMME_S:
            items[self.rng.choice(len(items), p=(0.25, 0.25, 0.15, 0.15, 0.1, 0.1))]()
            self.pass_over()

    def podcast(self) -> None:
        """Place ten minutes of talk with few tunes."""
        self.over_music()
        while self.at < PROGRAMME_S:
            self.talk()
            self.pass_over()
            if self.rng.random() < 0.5:
                self.place("music", self.music(self.rng.uniform(5, 15)), (0.1, 1.5))
                self.pass_over()

    def single(self) -> None:
        """Place one part."""
        seconds = 30.0 if self.rng.random() < 0.5 else self.rng.uniform(30, 300)
        what = self.rng.choice(LABELS, p=(0.45, 0.4, 0.1, 0.05))
        if what == "speech":
            self.place("speech", self.speech(seconds), (0, 0))
        elif what == BOTH:
            self.bed(self.speech(seconds), (0, 0), lead_s=0)
        else:
            self.place("noise" if what == NEITHER else what, self.music(seconds, what), (0, 0))

    def talk(self) -> None:
        """Place one voice, or two in turn."""
        ends = self.at + self.rng.uniform(30, 300)
        voices = [self.source("speech") for _ in range(1 + (self.rng.random() < 0.4))]
        turn = 0
        while self.at < ends - 1:
            left = ends - self.at
            seconds = left if len(voices) == 1 else min(left, self.rng.uniform(5, 40))
            self.place("speech", self.speech(seconds, voices[turn % len(voices)]), (0, 0))
            turn += 1

    def song(self) -> None:
        """Place a long part of one recording."""
        self.place("music", self.music(self.rng.uniform(60, 240)), (0.05, self.rng.choice((0.05, 4.0))))

    def jingle(self) -> None:
        """Place a short tune, half of the time with a voice over it."""
        tune = self.music(self.rng.uniform(3, 10))
        if self.rng.random() < 0.5:
            seconds = len(tune) / RATE_HZ
            voice_s = self.rng.uniform(2, 0.8 * seconds) if seconds > 2.6 else seconds
            start_s = self.at + self.rng.uniform(0, seconds - voice_s)
            self.parts.append(("speech", start_s, self.speech(voice_s), ((0, 1),)))
            tune = tune * np.float32(10 ** (-self.rng.uniform(0, 10) / 20))
        self.place("music", tune, (0.02, self.rng.choice((0.02, 1.0))))

    def over_music(self) -> None:
        """Place talk with music under it; the music begins before and ends after the talk, or lies
        within it.
        """
        self.bed(self.speech(self.rng.uniform(10, 90)), (self.rng.uniform(0.1, 3), self.rng.uniform(0.5, 4)), 5)

    def bed(self, talk: Float32, fades_s: tuple[float, float], lead_s: float) -> None:
        """Place talk, and music under it that begins up to `lead_s` before and ends up to `lead_s`
        after it.
        """
        seconds, rng = len(talk) / RATE_HZ, self.rng
        before, after = (max(0.0, rng.uniform(-lead_s, lead_s)) for _ in range(2))
        gain = 10 ** (-rng.uniform(*BED_BELOW_DB) / 20)
        alone = max(gain, 0.5)
        total = before + seconds + after
        music = self.music(total)
        total = len(music) / RATE_HZ
        points = [(0, 0 if fades_s[0] else gain), (fades_s[0], alone if before > fades_s[0] else gain)]
        points += [(before + 0.5, gain)] if before > fades_s[0] else []
        late = total - fades_s[1]
        points += [(before + seconds, gain), (late, alone)] if after > fades_s[1] + 0.5 else [(late, gain)]
        points += [(total, 0 if fades_s[1] else gain)]
        self.parts.append(("music", self.at, music, tuple(sorted(points))))
        self.parts.append(("speech", self.at + before, talk, ((0, 1),)))
        self.at += total

    def news(self) -> None:
        """Place short parts of several voices, some in a condition, with a tune or ambience
        between.
        """
        reader = self.source("speech")
        for _ in range(int(self.rng.integers(3, 9))):
            self.place("speech", self.speech(self.rng.uniform(6, 20), reader), (0, 0))
            what = self.rng.random()
            if what < 0.5:
                self.place("speech", self.speech(self.rng.uniform(4, 15)), (0, 0))
            elif what < 0.75:
                self.place("music", self.music(self.rng.uniform(1.5, 4)), (0.02, 0.1))
            elif what < 0.9:
                self.ambience(self.rng.uniform(2, 6))

    def ambience(self, seconds: float | None = None) -> None:
        """Place noise of one source."""
        seconds = self.rng.uniform(5, 40) if seconds is None else seconds
        self.place("noise", self.music(seconds, NEITHER), (0.2, 0.2))

    def place(self, label: str, samples: Float32, fades_s: tuple[float, float]) -> None:
        """Place a part after the last one, faded in and out."""
        seconds = len(samples) / RATE_HZ
        fade_in, fade_out = (min(fade, seconds / 2) for fade in fades_s)
        points = ((0, 0.0 if fade_in else 1.0), (fade_in, 1.0), (seconds - fade_out, 1.0))
        self.parts.append((label, self.at, samples, (*points, (seconds, 0.0 if fade_out else 1.0))))
        self.at += seconds

    def pass_over(self) -> None:
        """Choose a hard cut, a gap, or an overlap before the next part."""
        what = self.rng.random()
        if what < 0.25:
            self.at += self.rng.uniform(0.1, 1.5)
        elif what < 0.5:
            self.at = max(0.0, self.at - self.rng.uniform(0.3, 4))

    def source(self, label: str) -> str:
        """Return a source of a label."""
        names = list(self.of[label])
        return names[self.rng.integers(len(names))]

    def speech(self, seconds: float, source: str | None = None) -> Float32:
        """Return talk of one source with pauses, (n,)."""
        rng, paths = self.rng, self.of["speech"][source or self.source("speech")]
        length, filled = _samples(seconds), 0
        pieces: list[Float32] = []
        while filled < length:
            audio = without_pauses(_read(paths[rng.integers(len(paths))]))
            if not len(audio) or rms(audio) < SILENT_RMS:
                continue
            start = int(rng.integers(0, max(1, len(audio) - (length - filled) + 1)))
            pause = rng.uniform(1, 2.5) if rng.random() < 0.05 else rng.uniform(0.1, 1)
            piece = audio[start : start + length - filled]
            pieces += [piece / np.float32(rms(piece) + 1e-9), np.zeros(round(pause * RATE_HZ), np.float32)]
            filled += sum(map(len, pieces[-2:]))
        found = np.concatenate(pieces)[:length]
        if rng.random() < 0.8:
            found = found + (10 ** (rng.uniform(*HISS_DB) / 20) * rng.standard_normal(length)).astype(np.float32)
        return self.in_condition(found)

    def music(self, seconds: float, label: str = "music") -> Float32:
        """Return one recording of music or noise, (n,), extended by others of its source if it is
        too short.
        """
        of = self.of["noise" if label == NEITHER else label]
        paths = of[self.source("noise" if label == NEITHER else label)]
        length, filled = _samples(seconds), 0
        pieces = []
        while filled < length:
            audio = _read(paths[self.rng.integers(len(paths))])
            start = int(self.rng.integers(0, max(1, len(audio) - (length - filled) + 1)))
            piece = audio[start : start + length - filled]
            if rms(piece) < SILENT_RMS:
                continue
            pieces.append(piece / np.float32(rms(piece)))
            filled += len(piece)
        return self.in_condition(np.concatenate(pieces))

    def in_condition(self, samples: Float32) -> Float32:
        """Return the samples at an RMS of one, sometimes in a condition."""
        rng = self.rng
        if rng.random() < self.condition_share:
            what = rng.integers(5)
            if what == 0:
                response = conditions.decaying_noise(rng.uniform(0.2, 1.5), rng.uniform(-8, 8), rng)
                samples = conditions.in_room(samples, 0, len(samples), response)
            elif what == 1:
                samples = telephone(samples, rng.integers(0, 2**31, 4).tolist())
            elif what == 2:
                samples = conditions.old_recording(samples, rng)
            else:
                samples = conditions.noisy(samples, ("white", "pink")[what - 3], rng.uniform(8, 25), rng)
        return samples / np.float32(rms(samples))

    def mixed(self, name: str) -> tuple[Float32, list[Stretch]]:
        """Return the sum of all parts, and the truth."""
        steps = max(round((at + len(samples) / RATE_HZ) / STEP_S) for _, at, samples, _ in self.parts)
        total, there = np.zeros(steps * STEP, np.float32), np.zeros((steps, 2), bool)
        level = np.float32(10 ** (self.rng.uniform(*LEVEL_DB) / 20))
        for label, at, samples, gain in self.parts:
            first = round(at / STEP_S)
            own = samples[: (steps - first) * STEP]
            seconds, gains = zip(*gain, strict=True)
            total[first * STEP :][: len(own)] += own * np.interp(np.arange(len(own)) / RATE_HZ, seconds, gains).astype(
                np.float32
            )
            middles = (np.arange(len(own) // STEP) + 0.5) * STEP_S
            if label != "noise":
                column = ("speech", "music").index(label)
                there[first : first + len(middles), column] |= np.interp(middles, seconds, gains) >= AUDIBLE
        changes = np.flatnonzero((there[1:] != there[:-1]).any(axis=1)) + 1
        stretches = [
            Stretch(name, round(start * STEP_S, 2), round(end * STEP_S, 2), _label(there[start]))
            for start, end in pairwise([0, *changes.tolist(), steps])
        ]
        return unclipped(total * level), stretches


def _samples(seconds: float) -> int:
    """Return the number of samples in whole steps, at least one."""
    return max(1, round(seconds / STEP_S)) * STEP


def _label(there: NDArray[np.bool_]) -> str:
    speech, music = there.tolist()
    return BOTH if speech and music else "speech" if speech else "music" if music else NEITHER


@lru_cache(maxsize=64)
def _read(path: Path) -> Float32:
    return read_mono(path, RATE_HZ)
