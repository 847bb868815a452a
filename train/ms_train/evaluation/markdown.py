"""An evaluation as text: a short table for the terminal, and a report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ms_edge.timeline import OTHER
from ms_train.evaluation.results import Calibration, Evaluation
from ms_train.evaluation.scoring import EXCERPT_S
from ms_train.scores.metrics import Accuracies, Interval, LabelMeasures, Measures
from ms_train.tables import markdown_cell, markdown_table, text_table

PERCENT = "{:.1%}"
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


def kinds_of_accuracy(found: Accuracies, decision: str) -> dict[str, Interval]:
    """Return the accuracies to show by their headings; with exclusive labels both are the same, and
    one is shown.
    """
    kinds = {EXACT: found.accuracy}
    return kinds if decision == "exclusive" else kinds | {LARGEST: found.largest_score_accuracy}


def interval(number: Interval, form: str = PERCENT) -> str:
    """Return `94.5 % [92.5, 96.2]`, or `-` if there is no value."""
    if number.value is None:
        return "-"
    value, low, high = (form.format(each) for each in (number.value, number.low, number.high))
    if form.endswith("%}"):
        return f"{value[:-1]} % [{low[:-1]}, {high[:-1]}]"
    return f"{value} [{low}, {high}]"


def _measures_of(label: LabelMeasures) -> dict[str, str]:
    """Return a label's measures as text, by their headings."""
    return {
        "precision": interval(label.precision),
        "recall": interval(label.recall),
        "F1": interval(label.f1),
        "ROC-AUC": interval(label.roc_auc, "{:.4f}"),
    }


def table(found: Evaluation) -> str:
    """Return the lines for the terminal."""
    data, labels, decision = found.data, found.model.labels, found.model.decision
    levels = (found.clips, found.files)
    kinds = [kinds_of_accuracy(level, decision) for level in levels]
    lines = [("", f"{found.clips.count:,} clips", f"{found.files.count:,} recordings")]
    lines += [(name, interval(clips), interval(kinds[1][name])) for name, clips in kinds[0].items()]
    for label in labels:
        clips, files = (_measures_of(level.labels[label]) for level in levels)
        lines += [(f"{label} {name}", cell, files[name]) for name, cell in clips.items()]
    said = [text_table(lines)]
    said.append(f"scored: {data.name}, part {data.part}, {data.seconds / 60:.1f} min")
    as_is, tempered = found.calibration.as_is, found.calibration.tempered
    if as_is:
        line = f"expected calibration error {as_is.expected_calibration_error:.3f}"
        if tempered:
            line += f"; {tempered.expected_calibration_error:.3f} at temperature {found.calibration.temperature:.2f}"
        said.append(line)
    return "\n".join([*said, *_notes(found)])


def _notes(found: Evaluation) -> list[str]:
    said = [f"note: {warning}" for warning in found.warnings]
    if found.data.unreadable:
        said.append(f"note: {len(found.data.unreadable)} recordings could not be read and are left out.")
    if unknown := found.data.unknown_labels:
        names = ", ".join(unknown)
        said.append(
            f"note: {sum(unknown.values())} recordings are of labels the model does not know ({names}) and are left out."
        )
    return said


def markdown(found: Evaluation) -> str:
    """Return the report; its pictures are in the same folder."""
    settings, decision = found.settings, found.model.decision
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    parts = [
        f"# {found.model.name} on {found.data.name}",
        *(f"> **Note.** {warning}" for warning in found.warnings),
        *_described(found),
        "## How right",
        HOW_RIGHT[decision],
        *measured(found.clips, found.files, decision),
        "![ROC curves](roc.png)",
        "![Confusion](confusion.png)",
        "## How sure",
        *_calibrated(found.calibration),
        *_conditions(found),
        "## What went wrong",
        *_wrong(found),
        f"Seed {settings.seed}, {settings.bootstrap_rounds:,} rounds of the bootstrap. {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _described(found: Evaluation) -> list[str]:
    """Return a table of what was scored on what, and the files that could not be read."""
    model, data = found.model, found.data
    served = {"model": "the model file, in ms-edge", "run": "the run's Keras network, behind ms-edge's front end"}
    by_label = ", ".join(f"{count} {label}" for label, count in data.recordings_by_label.items())
    unknown = ", ".join(f"{count} {label}" for label, count in data.unknown_labels.items())
    facts = [
        ("scored", f"{served[model.kind]}; SHA-256 `{model.sha256[:12]}`"),
        ("recipe", model.recipe),
        ("labels", f"{', '.join(model.labels)} ({model.decision})"),
        ("hears", f"{model.clip_s:g} s every {model.hop_s:g} s"),
        ("trained on", _trained_on(model.training)),
        ("part of the data", data.part),
        ("recordings", f"{data.recordings:,} ({by_label}), {data.seconds / 60:.1f} min"),
        ("clips", f"{data.clips:,}; {data.silent_clips:,} more are silent, have no vote and are left out below"),
        ("could not be read", str(len(data.unreadable))),
        ("of labels the model does not know", unknown or "0"),
    ]
    listed = [f"* {markdown_cell(why)}" for why in list(data.unreadable.values())[:MOST_LISTED]]
    return [grid(("", ""), facts), *(["Left out:", "\n".join(listed)] if listed else [])]


def _trained_on(training: Mapping[str, Any]) -> str:
    if "dataset" not in training:
        return "not recorded"
    text = f"{training['dataset']}: {training.get('recordings', {}).get('train', '?')} recordings"
    if sources := training.get("sources"):
        more = len(sources) - MOST_LISTED
        text += f" of {', '.join(sources[:MOST_LISTED])}{f' and {more} more' if more > 0 else ''}"
    return text + (f"; without fold {training['fold']}" if training.get("fold") else "")


def measured(clips: Measures, files: Measures, decision: str) -> list[str]:
    """Return tables of accuracy and of each label's measures, per clip and per recording."""
    of_files = kinds_of_accuracy(files, decision)
    accuracy = [
        [name, interval(number), interval(of_files[name])]
        for name, number in kinds_of_accuracy(clips, decision).items()
    ]
    parts = [grid(("accuracy", f"{clips.count:,} clips", f"{files.count:,} recordings"), accuracy)]
    for name, number in of_files.items():
        if number.value == 1:
            rows = zip(files.confusion.truths, files.confusion.counts, strict=True)
            count = sum(sum(row) for truth, row in rows if name == EXACT or truth != OTHER)
            parts.append(
                f"No error of {count:,} recordings by {name} proves little: were {100 * (1 - 0.05 ** (1 / count)):.1f} % of all "
                "recordings got wrong, one such sample in twenty would show none."
            )
    for level, what in ((clips, "clips"), (files, "recordings")):
        cells = {label: _measures_of(of) for label, of in level.labels.items()}
        headings = next(iter(cells.values()))
        rows_of = [[label, f"{level.labels[label].count:,}", *row.values()] for label, row in cells.items()]
        parts.append(grid((f"of {what}", "how many are", *headings), rows_of))
    return parts


def _calibrated(calibration: Calibration) -> list[str]:
    if not calibration.as_is:
        return ["No clip to measure on."]
    kinds = {
        "as it is": calibration.as_is,
        f"temperature {calibration.temperature or 1:.3f}": calibration.tempered,
    }
    lines = [[name, f"{of.expected_calibration_error:.4f}", f"{of.log_loss:.4f}"] for name, of in kinds.items() if of]
    fitted = "The temperature was fitted on" if calibration.temperature else "No temperature was fitted:"
    return [
        grid(("clips", "expected calibration error", "log loss (nats)"), lines),
        f"{fitted} {calibration.fitted_on}",
        "![Reliability](reliability.png)",
    ]


def _conditions(found: Evaluation) -> list[str]:
    decision = found.model.decision
    names = list(kinds_of_accuracy(found.clips, decision))
    lengths = [
        [
            "whole recordings" if point.seconds is None else f"{point.seconds:g} s",
            f"{point.accuracies.count:,}",
            str(point.silent),
            *map(interval, kinds_of_accuracy(point.accuracies, decision).values()),
        ]
        for point in found.by_length
    ]
    snrs = [
        [
            point.noise,
            "-" if point.snr_db is None else f"{point.snr_db:g} dB",
            *map(interval, kinds_of_accuracy(point.files, decision).values()),
            *map(interval, kinds_of_accuracy(point.clips, decision).values()),
        ]
        for point in found.by_snr
    ]
    heads = (f"{level}: {name}" for level in ("recordings", "clips") for name in names)
    return [
        "## How long, how noisy",
        CONDITIONS.format(seconds=EXCERPT_S),
        grid(("length", "pieces", "silent", *names), lengths),
        "![Length](length.png)",
        grid(("noise", "SNR", *heads), snrs),
        "![Noise](snr.png)",
    ]


def _wrong(found: Evaluation) -> list[str]:
    wrong = [one for one in found.files.answers if one.answer != one.truth]
    parts = [f"{len(wrong)} of {len(found.files.answers):,} recordings."]
    if wrong:
        lines = [[one.name, one.truth, one.answer, _scores(one.scores)] for one in wrong[:MOST_LISTED]]
        parts.append(grid(("recording", "truth", "answer", "scores"), lines))
    if found.mistakes:
        lines = [
            [one.name, f"{one.start_s:.2f} s", one.truth, one.answer, _scores(one.scores)] for one in found.mistakes
        ]
        parts += [
            "The clips got most wrong, at most one of a recording:",
            grid(("recording", "at", "truth", "answer", "scores"), lines),
            "![Mistakes](mistakes.png)",
        ]
    return parts


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {score:.3f}" for label, score in scores.items())


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return markdown_table(head, lines, rule=" --- ")
