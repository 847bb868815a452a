"""The numbers of an evaluation (`ms_train.report.numbers`) for people: a short table, and a report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ms_train.scoring import EXCERPT_S

MEASURES = ("precision", "recall", "f1", "roc_auc")
HEADINGS = {"precision": "precision", "recall": "recall", "f1": "F1", "roc_auc": "ROC-AUC"}
EXACT, LARGEST = "label as answered", "larger score"
MOST_LISTED = 20  # in the Markdown; the JSON lists all


def kinds_of_accuracy(found: dict[str, Any]) -> dict[str, str]:
    """The accuracies worth telling apart: of exclusive labels they are the same."""
    if found["model"]["decision"] == "exclusive":
        return {"accuracy": EXACT}
    return {"accuracy": EXACT, "largest_score_accuracy": LARGEST}


def interval(number: Mapping[str, float | None], form: str = "{:.1%}") -> str:
    """`94.5 % [92.5, 96.2]`, or `-` where there is no value."""
    if number["value"] is None:
        return "-"
    value, low, high = (form.format(number[key]) for key in ("value", "low", "high"))
    if form.endswith("%}"):
        return f"{value[:-1]} % [{low[:-1]}, {high[:-1]}]"
    return f"{value} [{low}, {high}]"


def table(found: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    data, kinds = found["data"], kinds_of_accuracy(found)
    wide = max(len(name) for name in (*kinds.values(), *(f"{label} precision" for label in found["model"]["labels"])))
    rows = [("", f"{found['clips']['count']:,} clips", f"{found['files']['count']:,} recordings")]
    for kind, name in kinds.items():
        rows.append((name, interval(found["clips"][kind]), interval(found["files"][kind])))
    for label in found["model"]["labels"]:
        for measure in MEASURES:
            form = "{:.4f}" if measure == "roc_auc" else "{:.1%}"
            cells = (interval(found[level]["labels"][label][measure], form) for level in ("clips", "files"))
            rows.append((f"{label} {HEADINGS[measure]}", *cells))
    lines = [f"{name:<{wide}}  {clips:>24}  {files:>24}" for name, clips, files in rows]
    lines.append(f"scored: {data['name']}, part {data['part']}, {data['seconds'] / 60:.1f} min")
    calibrated = found["calibration"]
    if calibrated["as_is"]:
        line = f"expected calibration error {calibrated['as_is']['expected_calibration_error']:.3f}"
        if calibrated["tempered"]:
            line += f"; {calibrated['tempered']['expected_calibration_error']:.3f} at temperature {calibrated['temperature']:.2f}"
        lines.append(line)
    lines += [f"note: {warning}" for warning in found["warnings"]]
    if data["unreadable"]:
        lines.append(f"note: {len(data['unreadable'])} recordings could not be read and are left out.")
    return "\n".join(lines)


def markdown(found: dict[str, Any]) -> str:
    """The report; its pictures lie beside it."""
    model, data, kinds = found["model"], found["data"], kinds_of_accuracy(found)
    training = model["training"]
    parts = [f"# {_cell(model['name'])} on {_cell(data['name'])}"]
    parts += [f"> **Note.** {warning}" for warning in found["warnings"]]
    served = (
        "the model file, in ms-edge"
        if model["kind"] == "model"
        else "the run's Keras network, behind ms-edge's front end"
    )
    facts = [
        ("scored", f"{served}; sha256 `{model['sha256'][:12]}`"),
        ("recipe", model["recipe"]),
        ("labels", f"{', '.join(model['labels'])} ({model['decision']})"),
        ("hears", f"{model['clip_s']:g} s every {model['hop_s']:g} s"),
        ("trained on", _trained_on(training)),
    ]
    by_label = ", ".join(f"{count} {label}" for label, count in data["recordings_by_label"].items())
    facts_of_data = [
        ("part", data["part"]),
        ("recordings", f"{data['recordings']:,} ({by_label}), {data['seconds'] / 60:.1f} min"),
        (
            "clips",
            f"{data['clips']:,}, and {data['silent_clips']:,} silent ones, which have no vote and are left out below",
        ),
        ("could not be read", str(len(data["unreadable"]))),
        (
            "of labels the model does not know",
            ", ".join(f"{count} {label}" for label, count in data["unknown_labels"].items()) or "0",
        ),
    ]
    parts += ["## Model", _rows(("", ""), facts), "## Data", _rows(("", ""), facts_of_data)]
    if data["unreadable"]:
        parts.append("\n".join(f"* {_cell(why)}" for why in list(data["unreadable"].values())[:MOST_LISTED]))
    parts += ["## How right", HOW_RIGHT[model["decision"]]]
    rows = [[name, interval(found["clips"][kind]), interval(found["files"][kind])] for kind, name in kinds.items()]
    parts.append(_rows(("accuracy", f"{data['clips']:,} clips", f"{data['recordings']:,} recordings"), rows))
    if found["files"]["largest_score_accuracy"]["value"] == 1:
        parts.append(
            f"No error in {data['recordings']:,} recordings is no proof of none: an error rate of up to "
            f"{300 / data['recordings']:.1f} % would show as that one time in twenty (the rule of three)."
        )
    for level, name in (("clips", "clips"), ("files", "recordings")):
        rows = [
            [
                label,
                f"{row['count']:,}",
                *(interval(row[key], "{:.4f}" if key == "roc_auc" else "{:.1%}") for key in MEASURES),
            ]
            for label, row in found[level]["labels"].items()
        ]
        parts.append(_rows((f"of {name}", "how many are", *HEADINGS.values()), rows))
    parts += ["![ROC curves](roc.png)", "![Confusion](confusion.png)"]
    parts += ["## How sure", _how_sure(found), "![Reliability](reliability.png)"]
    if found["by_snr"]:
        parts += ["## How long, how noisy", CONDITIONS.format(seconds=EXCERPT_S)]
        rows = [
            ["whole recordings" if point["seconds"] is None else f"{point['seconds']:g} s", f"{point['count']:,}",
             str(point["silent"]), *(interval(point[kind]) for kind in kinds)]
            for point in found["by_length"]
        ]  # fmt: skip
        parts += [_rows(("length", "pieces", "silent", *kinds.values()), rows), "![Length](length.png)"]
        rows = [
            [point["noise"], "-" if point["snr_db"] is None else f"{point['snr_db']:g} dB",
             *(interval(point[level][kind]) for level in ("files", "clips") for kind in kinds)]
            for point in found["by_snr"]
        ]  # fmt: skip
        heads = (f"{level}: {name}" for level in ("recordings", "clips") for name in kinds.values())
        parts += [_rows(("noise", "SNR", *heads), rows), "![Noise](snr.png)"]
    parts += ["## What went wrong", f"{len(found['files']['wrong'])} of {data['recordings']:,} recordings."]
    rows = [
        [wrong["name"], wrong["truth"], wrong["answer"], _scores(wrong["scores"])]
        for wrong in found["files"]["wrong"][:MOST_LISTED]
    ]
    if rows:
        parts.append(_rows(("recording", "truth", "answer", "scores"), rows))
    rows = [
        [
            mistake["name"],
            f"{mistake['start_s']:.2f} s",
            mistake["truth"],
            mistake["answer"],
            _scores(mistake["scores"]),
        ]
        for mistake in found["mistakes"]
    ]
    if rows:
        parts.append("The clips got most wrong, at most one of a recording:")
        parts += [_rows(("recording", "at", "truth", "answer", "scores"), rows), "![Mistakes](mistakes.png)"]
    settings = found["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    parts.append(f"Seed {settings['seed']}, {settings['bootstrap_rounds']:,} rounds of the bootstrap. {versions}.")
    return "\n\n".join(parts) + "\n"


HOW_RIGHT = {
    "exclusive": "The answer is the label with the largest score. In brackets, here and below: 95 % intervals, by bootstrap over "
    "recordings; a label's ROC-AUC is against all others.",
    "independent": f"*{EXACT.capitalize()}*: the answer of `ms-edge classify`, right to the word: `speech+music` for speech is wrong. "
    f"*{LARGEST.capitalize()}*: which label scores highest, whatever its threshold. Of each label, precision, recall and F1 ask "
    "whether the answer holds it. In brackets, here and below: 95 % intervals, by bootstrap over recordings.",
}
CONDITIONS = (
    "Crops at whole multiples of their length, at most 30 of a recording, each classified as a file of its own (shorter than the "
    "model's clip: repeated to fill it); silent ones are left out. Noise is added to the middle {seconds:g} s of each recording, "
    "measured against the RMS of these, before any clip is cut; clips silent without it are left out."
)


def _trained_on(training: Mapping[str, Any]) -> str:
    if "dataset" not in training:
        return "not recorded"
    counts = training.get("recordings", {})
    said = f"{training['dataset']}: {counts.get('train', '?')} recordings"
    if sources := training.get("sources"):
        said += f" of {', '.join(sources[:MOST_LISTED])}{' …' if len(sources) > MOST_LISTED else ''}"
    return said + (f"; fold {training['fold']}" if training.get("fold") else "")


def _how_sure(found: dict[str, Any]) -> str:
    calibrated = found["calibration"]
    if not calibrated["as_is"]:
        return "No clip to measure on."
    rows = [
        [name, f"{row['expected_calibration_error']:.4f}", f"{row['log_loss']:.4f}"]
        for name, row in (
            ("as it is", calibrated["as_is"]),
            (f"temperature {calibrated['temperature'] or 1:.3f}", calibrated["tempered"]),
        )
        if row
    ]
    said = _rows(("clips", "expected calibration error", "log loss (nats)"), rows)
    if calibrated["temperature"] is None:
        return f"{said}\n\nNo temperature was fitted: {calibrated['fitted_on']}"
    return f"{said}\n\nThe temperature was fitted on {calibrated['fitted_on']}"


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {score:.3f}" for label, score in scores.items())


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
