"""The options of each command of `ms-train`, with the types they are parsed to."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a command; the fields have the names that `arguments` parses them to."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Take the fields from parsed arguments."""
        given: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(cls)}
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
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
class EvaluateOptions(Options):
    """`ms-train evaluate`."""

    model: Path
    data: str | None
    archive: Path | None
    part: str | None
    out: Path | None
    calibrate_on: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """`ms-train compare`."""

    folders: list[Path]
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class ShowOptions(Options):
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
class FetchOptions(Options):
    """`ms-train data fetch`."""

    to: Path
    splits: str
    repositories: Path | None


@dataclass(frozen=True, kw_only=True)
class ListOptions(Options):
    """`ms-train data list`."""

    by: str
