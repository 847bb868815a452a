"""Write the model card: what the bundled model is, its training data, its scores, and its failures.
All numbers come from files.

    python -m benchmarks.quality.card --run RUN --accuracy FILE [--timeline FILE] [--shortcuts FILE] [--learning FILE] [--model FILE]
        -o docs/model-card.md

RUN is the run folder (`ms-train fit` on the open corpus) that the model was exported from, or
`bundled`. The other files are results of `benchmarks.quality.accuracy`, `benchmarks.quality.timelines` and
`benchmarks.quality.shortcuts` for the same model, and of `benchmarks.quality.learning` for its
recipe. Results of other models are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.quality.accuracy import markdown as accuracy_table
from benchmarks.quality.card_text import LEARNING, SHORTCUTS, TEMPLATE, TIMELINE
from benchmarks.quality.learning import markdown as learning_table
from benchmarks.quality.shortcuts import markdown as shortcuts_table
from benchmarks.quality.timelines import markdown as timeline_table
from ms_edge.errors import MsEdgeError
from ms_edge.model.session import Model
from ms_train.datasets.open_corpus import Row, manifest
from ms_train.errors import DataError
from ms_train.tables import markdown_table
from ms_train.training.bundled import recordings_of, run_folder

PARTS = ("train", "val", "calib")
KINDS = {"several": "both", "other": "neither"}  # names of window draws in the card
LABELS = {"speech": "speech", "music": "music", "noise": "neither"}  # names in the corpus: names in the card
MOST_MISTAKES = 10
WIDTH = 100
FILES = ("run", "recipe", "metrics")  # files of a run folder, beside the lists of recordings


def main() -> int:
    """Write the card."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--accuracy", type=Path, required=True)
    parser.add_argument("--timeline", type=Path)
    parser.add_argument("--shortcuts", type=Path)
    parser.add_argument("--learning", type=Path)
    parser.add_argument("--model", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        model = Model.load(args.model, "cpu")
        run = _run(run_folder(args.run))
        measured = {
            name: _json(path) if (path := getattr(args, name)) else None
            for name in ("accuracy", "timeline", "shortcuts", "learning")
        }
        text = card(model, run, manifest(), **measured)
    except MsEdgeError as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    args.out.write_text(text, encoding="utf-8")
    return 0


def _run(folder: Path) -> dict[str, dict[str, Any]]:
    """Read a run folder. Raises DataError(`bad-data`)."""
    try:
        used = recordings_of(folder)
    except (OSError, ValueError, LookupError) as error:
        raise DataError("bad-data", f"{folder}: its lists of recordings cannot be read ({error}).") from None
    return {**{name: _json(folder / f"{name}.json") for name in FILES}, "split": used.split, "data": used.sha256}


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("bad-data", f"{path}: cannot be read ({error}).") from None
    return found


def card(
    model: Model,
    run: Mapping[str, dict[str, Any]],
    corpus: Iterable[Row],
    accuracy: dict[str, Any],
    timeline: dict[str, Any] | None = None,
    shortcuts: dict[str, Any] | None = None,
    learning: dict[str, Any] | None = None,
) -> str:
    """The card of a model: of the JSON files of its run folder by name, the rows of the corpus, and
    what was measured of it.

    Raises DataError(`bad-data`) where these are not of one model.
    """
    metadata, spec = model.metadata, model.metadata.spec
    data = json.dumps(run["data"], sort_keys=True).encode()
    if metadata.training.get("data_sha256") != hashlib.sha256(data).hexdigest():
        raise DataError("bad-data", f"{model.path}: was trained on other recordings than those of the run.")
    for name, found in (("accuracy", accuracy), ("timeline", timeline), ("shortcuts", shortcuts)):
        if found and found["model"] != model.sha256:
            raise DataError("bad-data", f"{name}: was measured of another model than {model.path}.")
    rows = {row.flac: row for row in corpus}
    try:
        parts = {part: [rows[name] for name in run["split"][part]] for part in PARTS if part in run["split"]}
    except KeyError as error:
        raise DataError("bad-data", f"{error}: a recording of the run that is not in the open corpus.") from None
    text = TEMPLATE.format(
        recipe=metadata.recipe,
        parameters=f"{metadata.training['parameters']:,}",
        size=round(model.size / 1000),
        licence=metadata.license,
        clip_s=f"{spec.clip_s:g}",
        rate_khz=f"{spec.sample_rate_hz / 1000:g}",
        thresholds=" and ".join(
            f"{value:g} of {label}" for label, value in zip(metadata.labels, metadata.decision.thresholds, strict=True)
        ),
        chosen=_chosen(run["metrics"], metadata.labels),
        totals=_totals(parts),
        validated=_validated(parts, rows.values()),
        packages=_packages(parts),
        attributed=", ".join(sorted({row.package for rows in parts.values() for row in rows if "BY" in row.licence})),
        languages=len(_languages(row for row in parts["train"] if row.label == "speech")),
        method=_method(run),
        grown=_grown(parts, rows.values()),
        command=_command(run["run"]),
        validation=_validation(run["metrics"]["val"]),
        accuracy=accuracy_table(accuracy["systems"]),
        timeline=_timeline(timeline),
        shortcuts=_shortcuts(shortcuts),
        learning=_learning(learning, metadata.recipe),
        mistakes=_mistakes(accuracy["systems"]["ms-edge"]["tests"]),
        weak=_weak(accuracy["systems"]["ms-edge"]),
        deaf_db=round(20 * math.log10(4 * (spec.log_floor or 1e-6) / spec.frame_length)),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _chosen(metrics: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return how probabilities and thresholds were fitted, if the run states it."""
    if "decision" not in metrics:
        return "The thresholds were not chosen by any data."
    found = metrics["decision"]
    exact, errors = found["exact_label"], found["calibration_error"]
    kinds = ", ".join(f"{KINDS.get(kind, kind)} {100 * each['exact']:.1f}" for kind, each in exact["kinds"].items())
    of = {
        when: " and ".join(f"{error:.3f} of {label}" for label, error in zip(labels, errors[when], strict=True))
        for when in ("before", "after")
    }
    sentences = (
        f"Probabilities and thresholds were fitted on {found['windows']:,} random windows of `{found['part']}`, half of them as"
        " recorded, half in rooms and channels. The first step fits a scale and an offset of each logit, which are part of the"
        f" weights: the expected calibration error was {of['before']} before, and is {of['after']} now. The second step chooses"
        " the thresholds by the share of windows with exactly the right labels:"
        f" {100 * exact['chosen']:.1f} %, the mean over kinds ({kinds}). Thresholds of a half give {100 * exact['at_half']:.1f} %."
    )
    return fill(sentences, WIDTH)


def _totals(parts: Mapping[str, Sequence[Row]]) -> str:
    lines = []
    for part, rows in parts.items():
        for label, name in LABELS.items():
            of = [row for row in rows if row.label == label]
            spoken = _languages(of) if label == "speech" else []
            said = f"{len(spoken)}: {', '.join(spoken)}" if spoken else ""
            lines.append([f"`{part}`", name, f"{len(of):,}", _minutes(of), said])
    return markdown_table(["part", "", "recordings", "minutes", "languages"], lines)


def _validated(parts: Mapping[str, Sequence[Row]], corpus: Iterable[Row]) -> str:
    """Return a sentence on packages that were added to `val` after the run, or an empty text."""
    if not {row.package for row in corpus if row.split == "val"} - {row.package for row in parts.get("val", ())}:
        return ""
    sentence = (
        "`val` is as it was when the model was trained. Recordings of other kinds were added to it later"
        " ([findings](findings.md#children-radio-singing-and-instruments))."
    )
    return fill(sentence, WIDTH) + "\n\n"


def _languages(rows: Iterable[Row]) -> list[str]:
    """Return the languages of recordings, without their regions: `en` for `en-US` and `en_GB`."""
    return sorted({re.split("[-_]", row.language)[0] for row in rows if row.language})


def _packages(parts: Mapping[str, Sequence[Row]]) -> str:
    lines = []
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for part, rows in parts.items():
        for row in rows:
            grouped[f"{row.package} {row.version}", part].append(row)
    for (package, part), rows in sorted(grouped.items()):
        minutes = ", ".join(
            f"{_minutes(of)} {name}"
            for label, name in LABELS.items()
            if (of := [row for row in rows if row.label == label])
        )
        licences = "; ".join(sorted({row.licence for row in rows}))
        lines.append((package, f"`{part}`", minutes, licences))
    return markdown_table(("package", "part", "minutes", "licences"), lines)


def _grown(parts: Mapping[str, Sequence[Row]], corpus: Iterable[Row]) -> str:
    """Return a sentence on kinds of sound that were added to packages after the run, or an empty text."""
    known = {(row.package, row.label) for rows in parts.values() for row in rows}
    more = [row for row in corpus if row.split == "train" and (row.package, row.label) not in known]
    if not more:
        return ""
    minutes = ", ".join(
        f"{_minutes(of)} of {name}"
        for label, name in LABELS.items()
        if (of := [row for row in more if row.label == label])
    )
    sentence = (
        f"The corpus has grown since this model was trained ({minutes}, in minutes)."
        " So the command now makes the next model of the same recipe."
    )
    return "\n" + fill(sentence, WIDTH)


def _minutes(rows: Iterable[Row]) -> str:
    minutes = sum(float(row.duration_s) for row in rows) / 60
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"


def _method(run: Mapping[str, dict[str, Any]]) -> str:
    recipe, facts = run["recipe"], run["run"]
    windows = recipe["batch_size"] * recipe["steps_per_epoch"]
    lines = [
        f"{run['metrics']['epochs']} epochs of {windows:,} windows, in batches of {recipe['batch_size']}, seed {facts['seed']}."
    ]
    if isinstance(recipe["augment"], str):
        lines.append(f"Augmentations, each with its probability: {recipe['augment']}.")
    if recipe.get("settings"):
        lines.append(f"Settings: {', '.join(f'{name} {value:g}' for name, value in recipe['settings'].items())}.")
    lines.append(f"Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}.")
    return fill(" ".join(lines), WIDTH)


def _command(facts: Mapping[str, Any]) -> str:
    """Return the command that repeats the training, without paths of a machine.

    The run of the bundled model does not state its command, only its values.
    """
    values = "ms-train fit --recipe {recipe} --data {data} --seed {seed} --out build/model"
    command = values.format(**facts) if facts.get("bundled") else facts.get("command")
    if not command:
        return ""
    words = [re.sub(r"(?:^|(?<=[:=]))[^:=]*/.*", "DIR", word) for word in shlex.split(command)]
    return f"```console\n$ {' '.join(words)}\n```"


def _validation(found: Mapping[str, Any]) -> str:
    return (
        f"On `val`, the larger probability is right for {100 * found['clip_accuracy']:.2f} % of {found['clips']:,} windows,"
        f" {100 * found['file_accuracy']:.2f} % of {found['files']:,} recordings."
    )


def _timeline(numbers: dict[str, Any] | None) -> str:
    if not numbers:
        return ""
    return TIMELINE.format(minutes=round(numbers["minutes"]), table=timeline_table(numbers))


def _shortcuts(numbers: dict[str, Any] | None) -> str:
    return SHORTCUTS.format(table=shortcuts_table(numbers)) if numbers else ""


def _learning(numbers: dict[str, Any] | None, recipe: str) -> str:
    if numbers and numbers["recipe"] != recipe:
        raise DataError("bad-data", f"learning: was measured of the recipe {numbers['recipe']}, not of {recipe}.")
    return LEARNING.format(table=learning_table(numbers), epochs=numbers["epochs"]) if numbers else ""


def _mistakes(tests: Mapping[str, Any]) -> str:
    """Return the worst mistakes of all tests, at most one per recording."""
    worst: dict[str, tuple[float, dict[str, Any]]] = {}
    for numbers in tests.values():
        for found in numbers.get("binary", {}).get("wrong", ()):
            true = found["truth"].split("+")
            over = max(value for label, value in _scores(found).items() if label not in true)
            under = min((value for label, value in _scores(found).items() if label in true), default=0.0)
            recording = found["clip"].rpartition("-")[0].partition("/")[2]
            worst[recording] = max(worst.get(recording, (-1.0, found)), (over - under, found), key=lambda pair: pair[0])
    lines = []
    for _, found in sorted(worst.values(), key=lambda pair: -pair[0])[:MOST_MISTAKES]:
        lines.append((found["clip"], found["truth"], f"{found['speech']:.3f}", f"{found['music']:.3f}"))
    return markdown_table(("clip", "truth", "speech", "music"), lines)


def _scores(found: Mapping[str, Any]) -> dict[str, float]:
    return {label: float(found[label]) for label in ("speech", "music")}


def _weak(numbers: Mapping[str, Any]) -> str:
    """Return sentences about known weaknesses with their measurements."""
    tests = numbers["tests"]

    def percent(test: str, rule: str) -> str:
        return f"{100 * tests[test][rule]['value']:.1f} %"

    lines = [
        f"* One second of noise or of a sound effect gets `other` in {percent('noise-1s', 'as_shipped')} of the cases, five seconds"
        f" in {percent('noise-5s', 'as_shipped')}.",
        "* One second of GTZAN, whose music and speech differ from those of games, is right in"
        f" {percent('gtzan-1s', 'binary')} of the cases; ten seconds in the band of a telephone, with noise, in"
        f" {percent('gtzan-telephone', 'binary')}.",
        "* Speech under or over music: F1 of speech {speech:.3f}, of music {music:.3f}, as shipped, on mixtures and pure clips.".format(
            **{label: tests["mixtures"][label]["as_shipped"] for label in ("speech", "music")}
        ),
        f"* The expected calibration error of its probabilities is {numbers['calibration_error']:.3f}.",
    ]
    return "\n".join(fill(line, WIDTH, subsequent_indent="  ") for line in lines)


if __name__ == "__main__":
    sys.exit(main())
