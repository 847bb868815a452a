"""Make the files of `python -m benchmarks.quality.timelines`: segments of speech, music, both and
neither, one after another.

OUT/NUMBER.wav are 16 kHz mono 16 bit, three minutes each. OUT/truth.tsv states for each segment its
file, start and end in seconds, label, and sources. A segment is 2 to 20 s long and has another
label than the one before it. Its recordings are those that the clips of test_a were cut from,
without those whose label was corrected; all packages are equally likely.

* Short recordings of one package are joined at one RMS, and pauses are cut to 0.2 s, so that each
  segment has its label throughout (the truth has no pauses, so a system that finds the short ones
  loses by it).
* `speech+music` is speech with music of equal RMS to 10 dB below it.
* Each segment is set to an RMS of -26 to -20 dB of full scale (lower if peaks would be clipped),
  and fades in and out in 5 ms.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from benchmarks.quality.testsets import BOTH, NEITHER, RATE_HZ, fixed_clips, require_test_a, rms, unclipped, whole
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_train.signals import Rng

FILES, FILE_S = 20, 180.0
SEGMENT_S = (2.0, 20.0)
STEP_S = 0.01  # resolution of the times in a truth and of the measures
LABELS = ("speech", "music", BOTH, NEITHER)
MUSIC_BELOW_DB = (0.0, 10.0)
LEVEL_DB = (-26.0, -20.0)
FADE_S = 0.005
STEP = round(STEP_S * RATE_HZ)
# A pause is this far below the level that one step in twenty of a recording exceeds,
PAUSE_BELOW_DB = 35.0
PAUSE_STEPS = 20  # and may be this long

TRUTH = "truth.tsv"

Material = dict[str, dict[str, list[Path]]]  # recordings by label (`noise` for neither) and package


@dataclass(frozen=True)
class Stretch:
    """One segment of a truth: times in seconds from the start of its file, and the names of its
    recordings.
    """

    file: str
    start_s: float
    end_s: float
    label: str
    recordings: str = ""


def build(corpus: Path, out: Path) -> list[Stretch]:
    """Write the files to `out`, or read the truth if all are there. Raises MsEdgeError if audio is
    missing.
    """
    if not (out / TRUTH).exists():
        require_test_a(corpus)
        write(out, _material(corpus), FILES)
    return truth_in(out)


def write(out: Path, material: Material, files: int) -> None:
    """Write `count` files and their truth to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    stretches: list[Stretch] = []
    for number in tqdm(range(files), desc="splicing", unit="file", file=sys.stderr, disable=None):
        samples, found = splice(material, f"{number:02}.wav", np.random.default_rng([number, 6]))
        soundfile.write(out / f"{number:02}.wav", samples, RATE_HZ, subtype="PCM_16")
        stretches += found
    with (out / TRUTH).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(astuple(stretch) for stretch in stretches)


def truth_in(out: Path) -> list[Stretch]:
    """Return the truth that was written to a folder."""
    with (out / TRUTH).open(encoding="utf-8", newline="") as file:
        return [
            Stretch(name, float(start), float(end), label, recordings)
            for name, start, end, label, recordings in csv.reader(file, delimiter="\t")
        ]


def _material(corpus: Path) -> Material:
    found: Material = defaultdict(lambda: defaultdict(list))
    for row in fixed_clips():
        path, recordings = corpus / row["file"], found[row["label"]][row["package"]]
        if path not in recordings and row["label"] == row["called"] and whole(corpus, row):
            recordings.append(path)
    return {label: {name: paths for name, paths in of.items() if paths} for label, of in found.items()}


def splice(material: Material, file: str, rng: Rng, seconds: float = FILE_S) -> tuple[Float32, list[Stretch]]:
    """Return the samples of one file and its truth."""
    parts, stretches, at, last = [], [], 0, ""
    total = round(seconds / STEP_S)  # in steps, here and below
    shortest, longest = (round(limit / STEP_S) for limit in SEGMENT_S)
    while at < total:
        left = total - at
        steps = left if left <= longest else int(rng.integers(shortest, min(longest, left - shortest) + 1))
        last = str(rng.choice([label for label in LABELS if label != last]))
        samples, names = _segment(material, last, steps * STEP, rng)
        parts.append(samples)
        stretches.append(Stretch(file, round(at * STEP_S, 2), round((at + steps) * STEP_S, 2), last, " ".join(names)))
        at += steps
    return np.concatenate(parts), stretches


def _segment(material: Material, label: str, length: int, rng: Rng) -> tuple[Float32, list[str]]:
    samples, names = _of("noise" if label == NEITHER else label.split("+")[0], material, length, rng)
    if label == BOTH:
        music, more = _of("music", material, length, rng)
        below = rng.uniform(*MUSIC_BELOW_DB)
        samples, names = samples + music * np.float32(rms(samples) / rms(music) * 10 ** (-below / 20)), names + more
    samples = unclipped(samples * np.float32(10 ** (rng.uniform(*LEVEL_DB) / 20) / rms(samples)))
    fade = np.linspace(0, 1, round(FADE_S * RATE_HZ), dtype=np.float32)
    samples[: len(fade)] *= fade
    samples[-len(fade) :] *= fade[::-1]
    return samples, names


def _of(label: str, material: Material, length: int, rng: Rng) -> tuple[Float32, list[str]]:
    """Return `length` samples of recordings of one package, joined without pauses."""
    package = list(material[label])[rng.integers(len(material[label]))]
    paths, pieces, names, filled = material[label][package], [], [], 0
    while filled < length:
        path = paths[rng.integers(len(paths))]
        audio = without_pauses(read_mono(path, RATE_HZ))
        audio = audio / np.float32(rms(audio)) if len(audio) else audio
        start = int(rng.integers(0, max(1, len(audio) - (length - filled) + 1)))
        pieces.append(audio[start : start + length - filled])
        names.append(path.stem)
        filled += len(pieces[-1])
    return np.concatenate(pieces), names


def without_pauses(samples: Float32) -> Float32:
    """Return the steps from the first to the last that is no pause, with longer pauses between them
    cut to the longest allowed.
    """
    steps = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    if not len(steps):
        return samples[:0]
    level = np.sqrt(np.mean(np.square(steps, dtype=np.float64), axis=1))
    loud = level > np.quantile(level, 0.95) * 10 ** (-PAUSE_BELOW_DB / 20)
    kept = np.convolve(loud, np.ones(PAUSE_STEPS + 1), "same") > 0
    inside = np.flatnonzero(loud)
    kept[: inside[0] if len(inside) else None] = False
    kept[inside[-1] + 1 if len(inside) else 0 :] = False
    return np.ascontiguousarray(steps[kept].reshape(-1))
