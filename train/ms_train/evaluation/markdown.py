"""The numbers of an evaluation (`ms_train.evaluation.report.numbers`) for people: a short table, and a report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ms_edge.timeline import OTHER
from ms_train.evaluation.scoring import EXCERPT_S
from ms_train.tables import markdown_cell, markdown_table

MEASURES = ("precision", "recall", "f1", "roc_auc")
HEADINGS = {"precision": "precision", "recall": "recall", "f1": "F1", "roc_auc": "ROC-AUC"}
EXACT, LARGEST = "label as answered", "larger score"
MOST_LISTED = 20  # in the Markdown; the JSON lists all

HOW_RIGHT = {
    "exclusive": "The answer is the label with the largest score. In brackets, here and below: 95 % intervals, by bootstrap over "
    "recordings; a label's ROC-AUC is against all others.",
    "independent": f"*{EXACT.capitalize()}*: the answer of `ms-edge classify`, right to the word: `speech+music` for speech is wrong. "
    f"*{LARGEST.capitalize()}*: which label scores highest, whatever its threshold. Of each label, precision, recall and F1 ask "
    "whether the answer holds it. In brackets, here and below: 95 % intervals, by bootstrap over recordings.",
}
CONDITIONS = (
    "Crops at whole multiples of their length, at most 30 of a recording, each classified as a file of its own (shorter than the "
    "model's clip: repeated to fill it); silent ones are left out, silent whole recordings are not. Noise is added to the middle "
    "{seconds:g} s of each recording, measured against the RMS of these, before any clip is cut; clips silent without it are left out."
)


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
    lines = [("", f"{found['clips']['count']:,} clips", f"{found['files']['count']:,} recordings")]
    for kind, name in kinds.items():
        lines.append((name, interval(found["clips"][kind]), interval(found["files"][kind])))
    for label in found["model"]["labels"]:
        for measure in MEASURES:
            cells = (interval(found[level]["labels"][label][measure], _form(measure)) for level in ("clips", "files"))
            lines.append((f"{label} {HEADINGS[measure]}", *cells))
    said = [f"{name:<{wide}}  {clips:>24}  {files:>24}" for name, clips, files in lines]
    said.append(f"scored: {data['name']}, part {data['part']}, {data['seconds'] / 60:.1f} min")
    calibrated = found["calibration"]
    if calibrated["as_is"]:
        line = f"expected calibration error {calibrated['as_is']['expected_calibration_error']:.3f}"
        if calibrated["tempered"]:
            line += f"; {calibrated['tempered']['expected_calibration_error']:.3f} at temperature {calibrated['temperature']:.2f}"
        said.append(line)
    said += [f"note: {warning}" for warning in found["warnings"]]
    if data["unreadable"]:
        said.append(f"note: {len(data['unreadable'])} recordings could not be read and are left out.")
    if unknown := data["unknown_labels"]:
        said.append(
            f"note: {sum(unknown.values())} recordings are of labels the model does not know ({', '.join(unknown)}) and are left out."
        )
    return "\n".join(said)


def markdown(found: dict[str, Any]) -> str:
    """The report; its pictures lie beside it."""
    settings, data = found["settings"], found["data"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    parts = [
        f"# {found['model']['name']} on {data['name']}",
        *(f"> **Note.** {warning}" for warning in found["warnings"]),
        *_described(found),
        "## How right",
        HOW_RIGHT[found["model"]["decision"]],
        *measured(found),
        "![ROC curves](roc.png)",
        "![Confusion](confusion.png)",
        "## How sure",
        *_calibrated(found["calibration"]),
        *_conditions(found),
        "## What went wrong",
        *_wrong(found),
        f"Seed {settings['seed']}, {settings['bootstrap_rounds']:,} rounds of the bootstrap. {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _described(found: dict[str, Any]) -> list[str]:
    """What was scored on what."""
    model, data, training = found["model"], found["data"], found["model"]["training"]
    served = {"model": "the model file, in ms-edge", "run": "the run's Keras network, behind ms-edge's front end"}
    by_label = ", ".join(f"{count} {label}" for label, count in data["recordings_by_label"].items())
    unknown = ", ".join(f"{count} {label}" for label, count in data["unknown_labels"].items())
    trained_on = "not recorded"
    if "dataset" in training:
        trained_on = f"{training['dataset']}: {training.get('recordings', {}).get('train', '?')} recordings"
        if sources := training.get("sources"):
            more = len(sources) - MOST_LISTED
            trained_on += f" of {', '.join(sources[:MOST_LISTED])}{f' and {more} more' if more > 0 else ''}"
        if training.get("fold"):
            trained_on += f"; without fold {training['fold']}"
    facts = [
        ("scored", f"{served[model['kind']]}; SHA-256 `{model['sha256'][:12]}`"),
        ("recipe", model["recipe"]),
        ("labels", f"{', '.join(model['labels'])} ({model['decision']})"),
        ("hears", f"{model['clip_s']:g} s every {model['hop_s']:g} s"),
        ("trained on", trained_on),
        ("part of the data", data["part"]),
        ("recordings", f"{data['recordings']:,} ({by_label}), {data['seconds'] / 60:.1f} min"),
        ("clips", f"{data['clips']:,}; {data['silent_clips']:,} more are silent, have no vote and are left out below"),
        ("could not be read", str(len(data["unreadable"]))),
        ("of labels the model does not know", unknown or "0"),
    ]
    listed = [f"* {markdown_cell(why)}" for why in list(data["unreadable"].values())[:MOST_LISTED]]
    return [grid(("", ""), facts), *(["Left out:", "\n".join(listed)] if listed else [])]


def measured(found: dict[str, Any]) -> list[str]:
    """Tables of accuracy and of each label's measures, per clip and per recording."""
    clips, files = found["clips"], found["files"]
    heads = ("accuracy", f"{clips['count']:,} clips", f"{files['count']:,} recordings")
    accuracy = [[name, interval(clips[kind]), interval(files[kind])] for kind, name in kinds_of_accuracy(found).items()]
    parts = [grid(heads, accuracy)]
    for kind, name in kinds_of_accuracy(found).items():
        if files[kind]["value"] == 1:
            rows = zip(files["confusion"]["truths"], files["confusion"]["counts"], strict=True)
            count = sum(sum(row) for truth, row in rows if kind == "accuracy" or truth != OTHER)
            parts.append(
                f"No error of {count:,} recordings by {name} proves little: were {100 * (1 - 0.05 ** (1 / count)):.1f} % of all "
                "recordings got wrong, one such sample in twenty would show none."
            )
    for of, name in ((clips, "clips"), (files, "recordings")):
        labels = [
            [label, f"{row['count']:,}", *(interval(row[measure], _form(measure)) for measure in MEASURES)]
            for label, row in of["labels"].items()
        ]
        parts.append(grid((f"of {name}", "how many are", *HEADINGS.values()), labels))
    return parts


def _calibrated(calibrated: dict[str, Any]) -> list[str]:
    if not calibrated["as_is"]:
        return ["No clip to measure on."]
    kinds = {
        "as it is": calibrated["as_is"],
        f"temperature {calibrated['temperature'] or 1:.3f}": calibrated["tempered"],
    }
    lines = [
        [name, f"{of['expected_calibration_error']:.4f}", f"{of['log_loss']:.4f}"] for name, of in kinds.items() if of
    ]
    fitted = "The temperature was fitted on" if calibrated["temperature"] else "No temperature was fitted:"
    return [
        grid(("clips", "expected calibration error", "log loss (nats)"), lines),
        f"{fitted} {calibrated['fitted_on']}",
        "![Reliability](reliability.png)",
    ]


def _conditions(found: dict[str, Any]) -> list[str]:
    kinds = kinds_of_accuracy(found)
    lengths = [
        [
            "whole recordings" if point["seconds"] is None else f"{point['seconds']:g} s",
            f"{point['count']:,}",
            str(point["silent"]),
            *(interval(point[kind]) for kind in kinds),
        ]
        for point in found["by_length"]
    ]
    snrs = [
        [
            point["noise"],
            "-" if point["snr_db"] is None else f"{point['snr_db']:g} dB",
            *(interval(point[level][kind]) for level in ("files", "clips") for kind in kinds),
        ]
        for point in found["by_snr"]
    ]
    heads = (f"{level}: {name}" for level in ("recordings", "clips") for name in kinds.values())
    return [
        "## How long, how noisy",
        CONDITIONS.format(seconds=EXCERPT_S),
        grid(("length", "pieces", "silent", *kinds.values()), lengths),
        "![Length](length.png)",
        grid(("noise", "SNR", *heads), snrs),
        "![Noise](snr.png)",
    ]


def _wrong(found: dict[str, Any]) -> list[str]:
    answers, clips = found["files"]["answers"], found["mistakes"]
    wrong = [one for one in answers if one["answer"] != one["truth"]]
    parts = [f"{len(wrong)} of {len(answers):,} recordings."]
    if wrong:
        lines = [[one["name"], one["truth"], one["answer"], _scores(one["scores"])] for one in wrong[:MOST_LISTED]]
        parts.append(grid(("recording", "truth", "answer", "scores"), lines))
    if clips:
        lines = [
            [one["name"], f"{one['start_s']:.2f} s", one["truth"], one["answer"], _scores(one["scores"])]
            for one in clips
        ]
        parts += [
            "The clips got most wrong, at most one of a recording:",
            grid(("recording", "at", "truth", "answer", "scores"), lines),
            "![Mistakes](mistakes.png)",
        ]
    return parts


def _form(measure: str) -> str:
    return "{:.4f}" if measure == "roc_auc" else "{:.1%}"


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {score:.3f}" for label, score in scores.items())


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return markdown_table(head, lines, rule=" --- ")
