"""Measure what corrected segments teach a model, and what it forgets.

    python -m benchmarks.quality.corrections --corpus DIR -o DIR [--clips DIR] [--test-corpus DIR] [--run RUN] [--draws N]

--corpus is the output of `ms-train data fetch open-corpus` with `val`, whose recordings no training
has. For each kind of recordings in KINDS, each recording is cut into pieces of 5 s (at most 12,
from its middle; a shorter recording is one piece). In each draw, one half of the recordings, chosen
at random, is corrected: 20 pieces whose label is wrong, of as many recordings as possible, with the
true label. The network then learns them as by `ms-train finetune --data corrections:FILE`, and its
answers to the other half are compared with those before: of single windows, and of pieces by their
mean scores.

What it forgets is measured on clips of other kinds: with --clips, the clean clips of that folder,
which `benchmarks.quality.validation` has written (without recordings of the kind); with
--test-corpus, TEST-A. Choose by the former, never by TEST-A.

Figures are means over draws, with the smallest and the largest. Writes corrections.json,
corrections.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.quality.conditions import old_recording
from benchmarks.quality.testsets import RATE_HZ, SILENT_RMS, clips_of_test_a, rms
from benchmarks.quality.validation import means
from benchmarks.quality.validation_set import CLEAN, clips_in, part_of
from ms_edge.arrays import Float32
from ms_edge.errors import MsEdgeError
from ms_edge.features.frontend import model_inputs
from ms_edge.features.windows import batches
from ms_train.datasets.cache import Cache, default_folder
from ms_train.datasets.clips import read_all
from ms_train.datasets.dataset import Recording
from ms_train.signals import Rng
from ms_train.tables import markdown_table
from ms_train.training.bundled import NAME, run_folder
from ms_train.training.correct import Example, Learner
from ms_train.training.replay import latents
from ms_train.training.runs import TrainedRun

PIECE_S, PIECES = 5, 12
CORRECTED = 20
DRAWS = 5
TOGETHER = 200  # batches of windows that go through the network together
TESTS = {"test_a-5s": "TEST-A 5 s", "test_a-1s": "TEST-A 1 s", "noise-5s": "noise 5 s", "noise-1s": "noise 1 s"}

Bools = NDArray[np.bool_]
Piece = tuple[Float32, str, str, str]  # samples (n,), labels joined by `+`, recording, test


@dataclass(frozen=True)
class Kind:
    """A kind of recordings: those of a label and of packages (of all, if none is named), rendered
    by a condition if there is one.
    """

    name: str
    label: str
    packages: tuple[str, ...] = ()
    render: Callable[[Float32, Rng], Float32] | None = None


KINDS = (
    Kind("speech far from the microphone", "speech", ("MycroftAI/Precise-Community-Data",)),
    Kind("songs of rock bands", "music", ("ichbinsoftware/everythingisfree", "fretsonfire-songs-muldjord")),
    Kind("music as on old radio or disc", "music", render=old_recording),
)


@dataclass(frozen=True)
class Material:
    """Pieces of audio: for each window the values before the last layers (windows, ...) and the
    index of its piece (windows,), and for each piece its true labels (pieces, labels), the name of
    its recording, and its test.
    """

    values: Float32
    piece_of: NDArray[np.intp]
    targets: NDArray[np.bool_]
    recordings: NDArray[np.str_]
    tests: NDArray[np.str_]

    def example(self, piece: int) -> Example:
        """Return a piece as what a corrected segment teaches."""
        return Example(self.values[self.piece_of == piece], self.targets[piece].astype(np.float32))

    def right(self, learner: Learner, thresholds: Float32) -> tuple[Bools, Bools]:
        """Return which windows (windows,) and which pieces (pieces,) have exactly their labels."""
        scores = np.concatenate(
            [learner.answers(self.values[at : at + 4096]) for at in range(0, len(self.values), 4096)]
        )
        windows = ((scores >= thresholds) == self.targets[self.piece_of]).all(axis=1)
        pieces = ((means(scores, self.piece_of) >= thresholds) == self.targets).all(axis=1)
        return windows, pieces


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.corrections",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="folder of clips of benchmarks.quality.validation")
    parser.add_argument("--test-corpus", type=Path)
    parser.add_argument("--run", type=Path, default=Path(NAME), help="run folder (default: the bundled model's)")
    parser.add_argument("--draws", type=int, default=DRAWS)
    args = parser.parse_args()
    try:
        run = TrainedRun.load(args.run)
        learner = Learner(run, run_folder(args.run), Cache(default_folder()))
        recordings = part_of(args.corpus, "val")
        thresholds = np.array(run.decision.thresholds, np.float32)
        pieces = other_pieces(args.clips, args.test_corpus)
        others = material(run, learner.base, pieces) if args.clips or args.test_corpus else None
        found = {}
        for kind in KINDS:
            own = material(run, learner.base, pieces_of(kind, recordings))
            found[kind.name] = measured(kind, learner, thresholds, own, others, args.draws)
    except MsEdgeError as error:
        print(f"corrections: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "corrections.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.out / "corrections.md").write_text(text := markdown(found), "utf-8")
    print(text)
    return 0


def material(run: TrainedRun, base: keras.Model, pieces: Iterable[Piece]) -> Material:
    """Return the material of pieces, with the values after the layers `base`."""
    inputs = model_inputs(run.spec, "features")
    values: list[Float32] = []
    waiting: list[Float32] = []
    places: list[int] = []
    targets: list[list[bool]] = []
    names, tests = [], []
    for samples, label, recording, test in pieces:
        for batch in batches([samples], run.spec, 64):
            waiting.append(inputs(batch.samples, batch.offsets))
            places += [len(targets)] * len(batch.starts)
        targets.append([name in label.split("+") for name in run.labels])
        names.append(recording)
        tests.append(test)
        if len(waiting) >= TOGETHER:
            values.append(latents(base, np.concatenate(waiting)))
            waiting.clear()
    if waiting:
        values.append(latents(base, np.concatenate(waiting)))
    return Material(np.concatenate(values), np.array(places), np.array(targets), np.array(names), np.array(tests))


def pieces_of(kind: Kind, recordings: Sequence[Recording]) -> Iterator[Piece]:
    """Yield the pieces of a kind of recordings."""
    chosen = [each for each in recordings if each.label == kind.label]
    if kind.packages:
        chosen = [each for each in chosen if each.source in kind.packages]
    length = PIECE_S * RATE_HZ
    for recording, audio in read_all(chosen, RATE_HZ, kind.name):
        count = min(PIECES, max(1, len(audio) // length))
        begin = max(0, len(audio) - count * length) // 2
        samples = audio[begin : begin + count * length]
        if kind.render:
            samples = kind.render(samples, np.random.default_rng(zlib.crc32(recording.name.encode())))
        for start in range(0, count * length, length):
            piece = samples[start : start + length]
            if rms(piece) > SILENT_RMS:
                yield piece, kind.label, recording.name, kind.name


def other_pieces(clips: Path | None, test_corpus: Path | None) -> Iterator[Piece]:
    """Yield the clips on which forgetting is measured."""
    if clips:
        for clip in clips_in(clips):
            if clip.condition == CLEAN:
                samples = soundfile.read(clips / clip.file, dtype="float32")[0]
                yield samples, clip.truth, clip.recording, f"val {clip.seconds} s"
    if test_corpus:
        for of_test, samples in clips_of_test_a(test_corpus):
            if of_test.test in TESTS:
                yield samples, of_test.truth, of_test.recording, TESTS[of_test.test]


def measured(
    kind: Kind, learner: Learner, thresholds: Float32, own: Material, others: Material | None, draws: int
) -> list[dict[str, Any]]:
    """Return for each draw the shares that are wrong before and after: of the `windows` and `pieces`
    of the other half of the recordings, and of the pieces of each test of `others`.
    """
    found = []
    learner.forget()
    before = own.right(learner, thresholds)
    first = others.right(learner, thresholds)[1] if others else None
    for draw in tqdm(range(draws), desc=kind.name, unit="draw", file=sys.stderr, disable=None):
        rng = np.random.default_rng([zlib.crc32(kind.name.encode()), draw])
        half, corrected = drawn(own.recordings, before[1], rng)
        learner.learn([own.example(piece) for piece in corrected])
        after = own.right(learner, thresholds)
        tested = ~np.isin(own.recordings, half)
        masks = {"windows": tested[own.piece_of], "pieces": tested}
        row: dict[str, Any] = {"corrected": len(corrected), "recordings": len(set(own.recordings[corrected]))}
        for (name, mask), old, new in zip(masks.items(), before, after, strict=True):
            row[name] = _wrong(old[mask], new[mask])
        if others and first is not None:
            now = others.right(learner, thresholds)[1]
            same = np.isin(others.recordings, half if kind.render else own.recordings)
            for test in dict.fromkeys(others.tests.tolist()):
                mask = (others.tests == test) & ~same
                row[test] = _wrong(first[mask], now[mask])
        found.append(row)
    return found


def drawn(recordings: NDArray[np.str_], right: Bools, rng: Rng) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    """Return the half of the recordings that is corrected, and the indices of the pieces that are:
    wrong ones, one of each recording, then another of each, up to CORRECTED.
    """
    names = np.unique(recordings)
    half = rng.permutation(names)[: len(names) // 2]
    wrong = rng.permutation(np.flatnonzero(~right & np.isin(recordings, half)))
    seen: Counter[str] = Counter()
    rank = []
    for piece in wrong:
        rank.append(seen[recordings[piece]])
        seen[recordings[piece]] += 1
    return half, wrong[np.argsort(rank, kind="stable")[:CORRECTED]]


def _wrong(before: Bools, after: Bools) -> dict[str, float]:
    return {"count": len(before), "before": float(1 - before.mean()), "after": float(1 - after.mean())}


def markdown(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table for each kind."""
    lines = []
    for kind, draws in found.items():
        rows = []
        for name in draws[0]:
            if not isinstance(draws[0][name], dict):
                continue
            before, after = (np.array([100 * draw[name][when] for draw in draws]) for when in ("before", "after"))
            change = after - before if name not in ("windows", "pieces") else 100 * (after / before - 1)
            unit = "points" if name not in ("windows", "pieces") else "%"
            spread = f"{change.mean():+.2f} {unit} [{change.min():+.2f}, {change.max():+.2f}]"
            rows.append(
                [
                    name,
                    round(np.mean([draw[name]["count"] for draw in draws])),
                    f"{before.mean():.2f}",
                    f"{after.mean():.2f}",
                    spread,
                ]
            )
        corrected, recordings = (np.mean([draw[name] for draw in draws]) for name in ("corrected", "recordings"))
        lines.append(f"## {kind}\n\n{len(draws)} draws of {corrected:.0f} pieces from {recordings:.0f} recordings.\n")
        lines.append(markdown_table(["wrong, in %", "count", "before", "after", "change [draws]"], rows) + "\n")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
