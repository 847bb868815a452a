"""Make the clips on which models are chosen, as WAV files that are the same for all systems.

They are cut from one part of the open corpus: `val` for choices, `calib` for thresholds and
calibration. OUT/clips.tsv has a line for each (see `Clip`); the files are 16 kHz mono 16 bit. Clips
depend only on the seed and the recordings, separately for each source: another source changes no
clip of the others.

*Clean*: for each source and label up to 60 clips of 1 s and 40 of 5 s, from as many recordings as
possible, from its groups (speakers, albums) in turn. Each clip has at least 0.3 s of active sound
and an RMS over -60 dBFS. Each group of the packages in `BY_GROUP` is a source: languages of Common
Voice, children and adults, sung and played music.
*Conditions*: those of `benchmarks.quality.conditions`, with 40 clips of each length and label, from
each source in turn. *Programmes*: ten of three minutes, as in `benchmarks.quality.splices`, in
OUT/programmes.
"""

from __future__ import annotations

import csv
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache, partial
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from benchmarks.quality import conditions, splices
from benchmarks.quality.testsets import BOTH, NEITHER, RATE_HZ, SILENT_RMS, rms, telephone
from ms_edge.arrays import Float32
from ms_train.datasets.activity import activity, frame_samples
from ms_train.datasets.dataset import Recording
from ms_train.datasets.open_corpus import open_corpus
from ms_train.errors import DataError

PER_SOURCE = {1: 60, 5: 40}  # numbers of clips by length in seconds
PER_RECORDING = 20  # most clips of each length
PER_CONDITION = 40  # clips of each length and label
PROGRAMMES = 10
CLEAN = "clean"
LISTING = "clips.tsv"
ACTIVE_S = 0.3
BY_GROUP = ("omnilingo/", "jimbozhang/", "Tonejs/")  # packages in which each group is a source

Rooms = Mapping[str, Sequence[Float32]]  # impulse responses (n,) by kind of room


@dataclass(frozen=True)
class Clip:
    """One file: its condition (or `clean`), its recording and its truth.

    `source` is that of its recording, and the recording is the unit of all intervals. For a
    mixture, both are those of the speech.
    """

    file: str
    seconds: int
    condition: str
    source: str
    truth: str
    recording: str


@dataclass(frozen=True)
class Cut:
    """A place in a recording of a source."""

    source: str
    recording: Recording
    start: int
    seconds: int

    @property
    def length(self) -> int:
        """The number of samples."""
        return self.seconds * RATE_HZ

    @property
    def audio(self) -> Float32:
        """The whole recording."""
        return _read(self.recording)

    @property
    def samples(self) -> Float32:
        """The clip, (length,)."""
        return self.audio[self.start : self.start + self.length]

    @property
    def truth(self) -> str:
        """The true label."""
        return self.recording.label or NEITHER


@lru_cache(maxsize=16)
def _read(recording: Recording) -> Float32:
    return recording.read(RATE_HZ)


def write_clips(out: Path, cut: Iterable[tuple[Clip, Float32]]) -> list[Clip]:
    """Write the samples of clips as WAV files below `out`."""
    clips = []
    for clip, samples in tqdm(cut, desc="cutting clips", unit="clip", file=sys.stderr, disable=None):
        (out / clip.file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out / clip.file, np.clip(samples, -1, 1), RATE_HZ, subtype="PCM_16")
        clips.append(clip)
    return clips


def write_listing(out: Path, clips: Iterable[Clip]) -> None:
    """Write the table of the clips in a folder, which `clips_in` reads."""
    with (out / LISTING).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(astuple(clip) for clip in clips)


def build(corpus: Path, out: Path, recordings: Sequence[Recording], rooms: Rooms) -> list[Clip]:
    """Write all clips to `out`. Raises MsEdgeError if audio is missing."""
    clips = write_clips(out, _all(recordings, rooms))
    splices.write(out / "programmes", material(corpus, recordings), PROGRAMMES)
    write_listing(out, clips)  # written last, so that it shows that all is there
    return clips


def clips_in(out: Path) -> list[Clip]:
    """Return the clips that were written to a folder."""
    with (out / LISTING).open(encoding="utf-8", newline="") as file:
        return [Clip(row[0], int(row[1]), *row[2:]) for row in csv.reader(file, delimiter="\t")]


def part_of(corpus: Path, part: str, fold: int | None = None, packages: Sequence[str] = ()) -> list[Recording]:
    """Return the recordings of a part; with a fold, also those of `train` in it; with packages, all
    of theirs instead.

    Raises DataError(`bad-data`) if there are none.
    """
    found = [
        recording
        for recording in open_corpus(corpus).recordings
        if (recording.source in packages if packages else recording.split == part)
        or (fold is not None and recording.split == "train" and recording.fold == fold)
    ]
    if not found:
        raise DataError(
            "bad-data", f"{corpus}: holds nothing of {' '.join(packages) or part}; type: ms-train data fetch"
        )
    return found


def source_of(recording: Recording) -> str:
    """Return the source that a recording counts for."""
    by_group = recording.group and recording.source.startswith(BY_GROUP)
    return f"{recording.source}/{recording.group}" if by_group else recording.source


def material(corpus: Path, recordings: Iterable[Recording]) -> splices.Material:
    """Return the recordings that programmes are made of."""
    found: splices.Material = defaultdict(lambda: defaultdict(list))
    for recording in recordings:
        found[recording.label or "noise"][source_of(recording)].append(corpus / recording.name)
    return found


def _all(recordings: Sequence[Recording], rooms: Rooms) -> Iterator[tuple[Clip, Float32]]:
    units: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for recording in recordings:
        units[source_of(recording), recording.label or NEITHER].append(recording)
    chosen: dict[tuple[str, int], list[list[Cut]]] = defaultdict(
        list
    )  # by label and seconds, with a list for each source
    for (source, label), members in sorted(units.items()):
        for seconds, count in PER_SOURCE.items():
            cuts = cuts_of(source, members, seconds, count)
            chosen[label, seconds].append(cuts)
            yield from ((_clip(CLEAN, cut), cut.samples) for cut in cuts)
    for (label, _), of_sources in chosen.items():
        for cut in in_turn(of_sources)[:PER_CONDITION]:
            for condition, render in rendered(label, rooms).items():
                clip = _clip(condition, cut)
                yield clip, render(cut, np.random.default_rng(zlib.crc32(clip.file.encode())))
    for seconds in PER_SOURCE:
        speech, music = (in_turn(chosen[label, seconds])[:PER_CONDITION] for label in ("speech", "music"))
        for first, second in zip(speech, music, strict=False):
            for below_db in conditions.MUSIC_BELOW_DB:
                how = "louder" if below_db < 0 else "equal" if below_db < 10 else "quieter"
                clip = _clip(f"{how} music, {below_db} dB below", first, BOTH)
                yield clip, conditions.mixture(first.samples, second.samples, below_db)


def cuts_of(source: str, recordings: Sequence[Recording], seconds: int, count: int) -> list[Cut]:
    """Return up to `count` clips of a source: one of each recording, then another of each."""
    rng = np.random.default_rng([zlib.crc32(source.encode()), seconds])
    by_name = sorted(recordings, key=lambda recording: recording.name)
    rank: Counter[str] = Counter()
    ranked = []
    for place, index in enumerate(rng.permutation(len(by_name))):
        recording = by_name[index]
        ranked.append((rank[recording.group], place, recording))
        rank[recording.group] += 1
    found: list[list[Cut]] = []
    for _, _, recording in sorted(ranked, key=lambda each: each[:2]):
        starts = starts_of(_read(recording), seconds * RATE_HZ, rng)[:PER_RECORDING]
        if starts:
            found.append([Cut(source, recording, start, seconds) for start in starts])
        if len(found) == count:
            break
    return in_turn(found)[:count]


def in_turn(of_each: Iterable[Sequence[Cut]]) -> list[Cut]:
    """Yield the first of each, then the second of each."""
    return [cut for cut in chain.from_iterable(zip_longest(*of_each)) if cut is not None]


def starts_of(audio: Float32, length: int, rng: np.random.Generator) -> list[int]:
    """Return starts of clips that do not overlap and have active sound, in random order."""
    if len(audio) < length:
        return []
    starts = np.arange(rng.integers(0, min(length, len(audio) - length + 1)), len(audio) - length + 1, length)
    loud, frame = activity(audio, RATE_HZ), frame_samples(RATE_HZ)
    return [
        start
        for start in rng.permutation(starts).tolist()
        if loud[start // frame : (start + length) // frame].sum() * frame >= ACTIVE_S * RATE_HZ
        and rms(audio[start : start + length]) > SILENT_RMS
    ]


def rendered(label: str, rooms: Rooms) -> Mapping[str, Callable[[Cut, np.random.Generator], Float32]]:
    """Return the conditions of a label, each with a function that makes a clip from a cut."""
    found: dict[str, Callable[[Cut, np.random.Generator], Float32]] = {
        f"room {name}": partial(_in_room, responses) for name, responses in rooms.items()
    }
    if label == NEITHER:
        return found
    found["telephone"] = lambda cut, rng: telephone(cut.samples, rng.integers(0, 2**31, 4).tolist())
    for colour in ("white", "pink"):
        for snr_db in (25, 15, 8):
            found[f"{colour} noise {snr_db} dB"] = partial(_noisy, colour, snr_db)
    found["gaps"] = lambda cut, rng: conditions.with_gaps(cut.audio, cut.length, rng)
    found["old recording"] = lambda cut, rng: conditions.old_recording(cut.samples, rng)
    if label == "music":
        found["rests"] = lambda cut, rng: conditions.with_rests(cut.samples, rng)
    return found


def _in_room(responses: Sequence[Float32], cut: Cut, rng: np.random.Generator) -> Float32:
    return conditions.in_room(cut.audio, cut.start, cut.length, responses[rng.integers(len(responses))])


def _noisy(colour: str, snr_db: float, cut: Cut, rng: np.random.Generator) -> Float32:
    return conditions.noisy(cut.samples, colour, snr_db, rng)


def _clip(condition: str, cut: Cut, truth: str = "") -> Clip:
    stem = Path(cut.recording.name).stem
    flat = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{cut.source}-{stem[-80:]}")
    folder = f"{condition.replace(' ', '_')}/{cut.seconds}s"
    file = f"{folder}/{cut.recording.label or 'noise'}-{flat}-{cut.start}.wav"
    return Clip(file, cut.seconds, condition, cut.source, truth or cut.truth, cut.recording.name)
