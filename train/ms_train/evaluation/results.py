"""The numbers of an evaluation, which `report` computes and writes, and `markdown` and
`report_plots` show.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ms_train.scores.calibration import Curve
from ms_train.scores.metrics import Accuracies, Measures

SCHEMA = "ms-train/evaluation-1"


@dataclass(frozen=True)
class ModelFacts:
    """The model that was evaluated.

    `kind` is `run` or `model`; `training` holds what it records of its training.
    """

    kind: str
    name: str
    sha256: str
    recipe: str
    labels: list[str]
    decision: str
    thresholds: list[float]
    frontend_sha256: str
    clip_s: float
    hop_s: float
    training: dict[str, Any]


@dataclass(frozen=True)
class DataFacts:
    """The recordings that were scored; `clips` counts those that are not silent.

    `unreadable` holds the reason by name, `unknown_labels` the number of recordings by label.
    """

    name: str
    part: str
    recordings: int
    recordings_by_label: dict[str, int]
    seconds: float
    clips: int
    silent_clips: int
    unreadable: dict[str, str]
    unknown_labels: dict[str, int]


@dataclass(frozen=True)
class FileAnswer:
    """The answer to one recording, and the scores of all labels."""

    name: str
    truth: str
    answer: str
    scores: dict[str, float]


@dataclass(frozen=True)
class FileMeasures(Measures):
    """The measures over recordings, and each recording's answer."""

    answers: list[FileAnswer]


@dataclass(frozen=True)
class Calibrated:
    """How true the probabilities are: log loss in nats, expected calibration error, and a curve for
    each question.
    """

    log_loss: float
    expected_calibration_error: float
    curves: dict[str, Curve]


@dataclass(frozen=True)
class Calibration:
    """The calibration of the scores as they are and at a fitted temperature; None where there is
    none.

    `fitted_on` says what the temperature was fitted on, or why there is none.
    """

    fitted_on: str | None
    temperature: float | None
    as_is: Calibrated | None
    tempered: Calibrated | None


@dataclass(frozen=True)
class LengthPoint:
    """Accuracies over pieces of one length in seconds, or over whole recordings (None).

    `silent` pieces are left out, except among whole recordings.
    """

    seconds: float | None
    silent: int
    accuracies: Accuracies


@dataclass(frozen=True)
class NoisePoint:
    """Accuracies under a noise at a signal-to-noise ratio in dB, or without noise (`none`, None)."""

    noise: str
    snr_db: float | None
    clips: Accuracies
    files: Accuracies


@dataclass(frozen=True)
class Mistake:
    """The clip of a recording with the largest log loss (nats) among those with a wrong answer."""

    name: str
    start_s: float  # of the clip in the recording
    truth: str
    answer: str
    scores: dict[str, float]
    log_loss: float


@dataclass(frozen=True)
class Settings:
    """What else the numbers depend on."""

    seed: int
    bootstrap_rounds: int
    bins: int


@dataclass(frozen=True)
class Evaluation:
    """All numbers of an evaluation. The confusion of `clips` also counts silent clips."""

    model: ModelFacts
    data: DataFacts
    warnings: list[str]
    clips: Measures
    files: FileMeasures
    calibration: Calibration
    by_length: list[LengthPoint]
    by_snr: list[NoisePoint]
    mistakes: list[Mistake]
    settings: Settings
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        found = {"schema": SCHEMA, **asdict(self)}
        for point in found["by_length"]:
            point |= point.pop("accuracies")
        return found
