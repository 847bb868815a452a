"""The options of each command of `ms-train`, with the types they are parsed to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What `fit`, `tune` and `finetune` have in common; `fold` is (i, n)."""

    data: str
    archive: Path | None
    out: Path
    fold: tuple[int, int] | None
    epochs: int | None
    seed: int
    resume: bool


@dataclass(frozen=True, kw_only=True)
class FitOptions(TrainingOptions):
    """`ms-train fit`; `set` holds (name, value) pairs."""

    recipe: str
    folds: int | None
    augment: list[str]
    set: list[tuple[str, str]]
    cache: Path | None
    tensorboard: bool
    mixed_precision: bool


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainingOptions):
    """`ms-train tune`."""

    recipe: str
    trials: int
    cache: Path | None


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """`ms-train finetune`; `origin` is the run folder to start from."""

    origin: Path
    head_only: bool


@dataclass(frozen=True, kw_only=True)
class LevelOptions:
    """`ms-train level`."""

    run: Path
    data: str
    archive: Path | None
    out: Path
    mixtures: int
    seed: int
    cache: Path | None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """`ms-train evaluate`."""

    model: Path
    data: str | None
    archive: Path | None
    part: str | None
    out: Path | None
    calibrate_on: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """`ms-train compare`."""

    folders: list[Path]
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """`ms-train show`."""

    files: list[str]
    recipe: str
    out: Path
    data: str | None
    archive: Path | None
    summary: bool
    augment: bool
    augmentation: list[str]
    mix_with: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """`ms-train data check`."""

    data: str
    archive: Path | None
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """`ms-train data fetch`; `name` is the dataset's, `open-corpus`."""

    name: str
    to: Path
    splits: str
    repositories: Path | None


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """`ms-train data list`; `name` is the dataset's, `open-corpus`."""

    name: str
    by: str
