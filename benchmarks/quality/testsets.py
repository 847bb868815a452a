"""Make the tests of `python -m benchmarks.quality.accuracy` as folders of WAV files, the same for
all systems.

OUT/TEST/*.wav are 16 kHz mono 16 bit. OUT/tests.tsv states for each file its test, its truth
(`speech`, `music`, `speech+music`, `neither`), the recording it was cut from (the unit of all
intervals) and, for mixtures, how many dB the music is lower.

| test | what |
|---|---|
| gtzan-30s | the recordings |
| gtzan-1s | crops at whole seconds |
| gtzan-telephone | crops of 10 s at whole multiples of it, pink noise 5 dB below them, then 300-3,400 Hz (Butterworth, sixth order) |
| test_a-5s, test_a-1s | the clips of test_a_clips.tsv.xz, from packages on which nothing was trained |
| noise-5s, noise-1s | clips of neither from the same packages |
| mixtures | the i-th speech and i-th music clip of 5 s, of equal RMS but music 0, 5, 10 dB lower in turn |
| hard | singing, rap, voice over music of at least 0.25 s: the first minute with sound; no truth, answers are reported |

Crops with an RMS of -60 dBFS or less are left out. test_a_corrected.tsv corrects labels of
test_a_clips.tsv.xz and states why. Clips with a corrected label are in no mixture, so that the
mixtures stay the same.
"""

from __future__ import annotations

import csv
import lzma
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import butter, sosfilt
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_edge.features.spec import MIN_DURATION_S
from ms_edge.jobs.inputs import Inputs
from ms_train.datasets.open_corpus import manifest
from ms_train.errors import DataError

RATE_HZ = 16_000
SILENT_RMS = 1e-3  # -60 dBFS
NEITHER, BOTH, UNKNOWN = "neither", "speech+music", "-"


@dataclass(frozen=True)
class Clip:
    """One file of a test."""

    test: str
    file: str
    truth: str
    recording: str
    music_below_db: str = ""


def build(gtzan: Path, corpus: Path, out: Path) -> list[Clip]:
    """Write all tests to `out`, or read them if all are there. Raises MsEdgeError if audio is
    missing.
    """
    listing = out / "tests.tsv"
    if not listing.exists():
        require_test_a(corpus)
        out.mkdir(parents=True, exist_ok=True)
        clips = [
            _write(out, clip, samples)
            for clip, samples in tqdm(
                _all(gtzan, corpus), desc="cutting tests", unit="clip", file=sys.stderr, disable=None
            )
        ]
        with listing.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(astuple(clip) for clip in clips)
    with listing.open(encoding="utf-8", newline="") as file:
        return [Clip(*row) for row in csv.reader(file, delimiter="\t")]


def require_test_a(corpus: Path) -> None:
    """Raise DataError(`bad-data`) if the corpus has no recording of test_a."""
    if not any(row.split == "test_a" and (corpus / row.flac).exists() for row in manifest()):
        raise DataError(
            "bad-data",
            f"{corpus}: holds nothing of test_a; type: ms-train data fetch open-corpus --splits test_a,hard --to {corpus}",
        )


def _write(out: Path, clip: Clip, samples: Float32) -> Clip:
    path = out / clip.file
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.clip(samples, -1, 1), RATE_HZ, subtype="PCM_16")
    return clip


def _all(gtzan: Path, corpus: Path) -> Iterator[tuple[Clip, Float32]]:
    yield from _gtzan(gtzan)
    yield from clips_of_test_a(corpus)
    yield from _hard(corpus)


def _gtzan(root: Path) -> Iterator[tuple[Clip, Float32]]:
    for label in ("music", "speech"):
        for path in Inputs([str(root / label)]):
            audio, name = read_mono(path, RATE_HZ), f"{label}/{Path(path).stem}"
            yield _clip("gtzan-30s", label, name, 0), audio
            for second, crop in _crops(audio, 1):
                yield _clip("gtzan-1s", label, name, second), crop
            for second, crop in _crops(audio, 10):
                yield (
                    _clip("gtzan-telephone", label, name, second),
                    telephone(crop, [len(name), *name.encode(), second]),
                )


def _crops(audio: Float32, seconds: int) -> Iterator[tuple[int, Float32]]:
    length = seconds * RATE_HZ
    for start in range(0, len(audio) - length + 1, length):
        crop = audio[start : start + length]
        if rms(crop) > SILENT_RMS:
            yield start // RATE_HZ, crop


def telephone(audio: Float32, seed: list[int]) -> Float32:
    """Add pink noise 5 dB below the audio, then keep the band of a telephone."""
    spectrum = rfft(np.random.default_rng(seed).standard_normal(len(audio)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = irfft(spectrum, len(audio))
    noisy = audio + noise * (rms(audio) / rms(noise) * 10 ** (-5 / 20))
    band = butter(6, (300, 3400), "bandpass", fs=RATE_HZ, output="sos")
    return unclipped(sosfilt(band, noisy))


def fixed_clips() -> list[dict[str, str]]:
    """Return the clips of test_a: label, seconds, package, path, start_s, and `file`, its path in
    the corpus.

    `called` is the label before its correction, if there is one.
    """
    here = resources.files("benchmarks.quality")
    packed = here.joinpath("test_a_clips.tsv.xz").read_bytes()
    rows = list(csv.DictReader(lzma.decompress(packed).decode().splitlines(), delimiter="\t"))
    rows.sort(key=lambda row: (row["package"], row["path"], float(row["start_s"])))
    files = {(row.package, row.path): row.flac for row in manifest() if row.split == "test_a"}
    lines = here.joinpath("test_a_corrected.tsv").read_text("utf-8").splitlines()
    corrected = {(row["package"], row["path"]): row["label"] for row in csv.DictReader(lines, delimiter="\t")}
    found = []
    for row in rows:
        key = (row["package"], row["path"])
        found.append({**row, "called": row["label"], "label": corrected.get(key, row["label"]), "file": files[key]})
    return found


def whole(corpus: Path, row: Mapping[str, str]) -> bool:
    """Return whether a corpus has a whole fixed clip; tracker modules that were read as MP3 have
    only hundredths of a second.
    """
    path, end_s = corpus / row["file"], float(row["start_s"]) + float(row["seconds"])
    return path.exists() and soundfile.info(path).duration >= end_s - 1e-3


def clips_of_test_a(corpus: Path) -> Iterator[tuple[Clip, Float32]]:
    """Yield the clips of TEST-A, of its noise and of its mixtures, with their samples."""
    audio: dict[str, Float32] = {}
    long: dict[str, list[tuple[str, Float32]]] = {"speech": [], "music": []}
    missing: dict[str, int] = {}
    for row in fixed_clips():
        file = row["file"]
        if not whole(corpus, row):
            missing[row["package"]] = missing.get(row["package"], 0) + 1
            continue
        if file not in audio:  # rows of one file are adjacent
            audio = {file: read_mono(corpus / file, RATE_HZ)}
        start = round(float(row["start_s"]) * RATE_HZ)
        samples = audio[file][start : start + round(float(row["seconds"]) * RATE_HZ)]
        if row["label"] == "noise":
            test, truth = f"noise-{row['seconds']}s", NEITHER
        else:
            test, truth = f"test_a-{row['seconds']}s", row["label"]
        name = f"{row['package']}/{Path(row['path']).name}"
        yield _clip(test, truth, name, start), samples
        if test == "test_a-5s" and row["label"] == row["called"]:
            long[truth].append((name, samples))
    for package, count in missing.items():
        print(f"test_a: {count} clips of {package} are not in the corpus here and left out.", file=sys.stderr)
    for index, ((name, speech), (other, music)) in enumerate(zip(long["speech"], long["music"], strict=False)):
        below = 5 * (index % 3)
        mixture = speech + music * np.float32(rms(speech) / rms(music) * 10 ** (-below / 20))
        yield _clip("mixtures", BOTH, f"{name} {other}", index, str(below)), unclipped(mixture)


def _hard(corpus: Path) -> Iterator[tuple[Clip, Float32]]:
    for row in manifest():
        if row.split == "hard" and (corpus / row.flac).exists():
            samples = read_mono(corpus / row.flac, RATE_HZ)
            begins = next(
                (second for second, _ in _crops(samples, 1)), 0
            )  # a recording of a voice alone may begin with silence
            samples = samples[begins * RATE_HZ :][: 60 * RATE_HZ]
            if len(samples) < MIN_DURATION_S * RATE_HZ:  # three short sounds
                continue
            yield _clip("hard", UNKNOWN, f"{row.package}/{Path(row.path).name}", 0), samples


def _clip(test: str, truth: str, recording: str, place: int, below: str = "") -> Clip:
    flat = "".join(c if c.isalnum() or c in "-_." else "_" for c in recording)
    return Clip(test, f"{test}/{flat[:120]}-{place}.wav", truth, recording, below)


def unclipped(samples: Iterable[float]) -> Float32:
    """Return the samples, attenuated if they exceed full scale."""
    found = np.asarray(samples, np.float32)
    return found / max(1.0, float(np.abs(found).max()))


def rms(samples: NDArray[np.floating]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
