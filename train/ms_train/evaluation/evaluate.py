"""`ms-train evaluate`: score a model on recordings and write the report."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ms_edge.errors import MsEdgeError, UsageError
from ms_train.datasets.by_name import dataset_by_name, dataset_of_run
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.evaluation import report
from ms_train.evaluation.report import Fitted
from ms_train.evaluation.results import SCHEMA, Evaluation
from ms_train.evaluation.scoring import score_recordings
from ms_train.evaluation.subject import Subject
from ms_train.files import make_report_folder


def evaluate(
    path: Path,
    data: str | None,
    out: Path | None,
    *,
    part: str | None = None,
    archive: Path | None = None,
    calibrate_on: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score a run folder or a model file on a part of a dataset; return the numbers of the report.

    With a folder `out`, also score pieces of several lengths and excerpts under noise, and write
    the report there. Raises MsEdgeError if the model or the data cannot be used.
    """
    subject = Subject.load(path)
    if data is None and subject.data is None:
        raise UsageError(f"{path}: a model file names no dataset; give --data.")
    dataset = dataset_by_name(data, archive) if data else dataset_of_run(str(subject.data), archive)
    part, chosen = subject.choose(dataset, part)
    _require_common_label(subject, chosen, dataset)
    if out:
        make_report_folder(out, SCHEMA, report.FILES)  # now, not after minutes of scoring
    fitted = _fitted(subject, dataset, archive, calibrate_on, {recording.file_sha256 for recording in chosen})
    scored = score_recordings(subject, chosen, f"{dataset.name} ({part})", conditions=out is not None, seed=seed)
    warnings = subject.warnings(dataset, chosen)
    found = report.numbers(subject, scored, fitted, data=dataset.name, part=part, warnings=warnings, seed=seed)
    if out:
        report.write(found, scored, out)
    return found


def _require_common_label(subject: Subject, recordings: Sequence[Recording], dataset: Dataset) -> None:
    if all(subject.target(recording.label) is None for recording in recordings):
        raise UsageError(
            f"The model says {', '.join(subject.labels)}; {dataset.name} is of {', '.join(dataset.labels)}: no label in common."
        )


def _fitted(
    subject: Subject, dataset: Dataset, archive: Path | None, calibrate_on: str | None, excluded: set[str]
) -> Fitted:
    """Return the answers to fit the temperature to: to `calibrate_on`, or to the run's validation
    part.

    Recordings of `excluded` files (SHA-256), which are scored, are left out.
    """
    if calibrate_on:
        other = dataset_by_name(calibrate_on, archive if calibrate_on == "gtzan" else None)
        _require_common_label(subject, other.recordings, other)
        name, recordings = other.name, other.recordings
    elif subject.kind == "model":
        return Fitted(None, "name recordings to fit it on with --calibrate-on.")
    else:
        name, recordings = "the run's validation part", _validated(subject, dataset)
        if not recordings and subject.data:
            with contextlib.suppress(MsEdgeError):
                recordings = _validated(subject, dataset_by_name(subject.data, archive))
        if not recordings:
            return Fitted(None, "the recordings that the run was validated on are not at hand.")
    others = tuple(recording for recording in recordings if recording.file_sha256 not in excluded)
    if not others:
        return Fitted(
            None, f"the {len(recordings):,} recordings of {name} are scored here; name others with --calibrate-on."
        )
    scored = score_recordings(subject, others, f"{name}, for the temperature", conditions=False)
    clips = scored.clips.part(~scored.silent)
    same = len(recordings) - len(others)
    what = f"{len(clips):,} clips from {len(scored.names):,} recordings of {name}" + (
        f"; {same:,} more are scored here and left out." if same else "."
    )
    return Fitted(clips, what)


def _validated(subject: Subject, dataset: Dataset) -> tuple[Recording, ...]:
    return tuple(recording for recording in dataset.recordings if subject.part_of(recording) == "val")
