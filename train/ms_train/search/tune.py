"""`ms-train tune`: search the ranges that a recipe declares, one training after the other.

OUT/study.log      Optuna's journal of the search, a JSON value in each line; --resume and optuna-dashboard read it
OUT/trial-1 ...    run folders of `ms-train fit`; trial-1 has the recipe's own settings
OUT/study.csv      all trials; study.png shows them; best.json has the best settings and the command that trains with them
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import tensorflow as tf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from ms_edge.errors import MsEdgeError, UsageError, first_line
from ms_train.datasets.dataset import Dataset
from ms_train.errors import RunError
from ms_train.recipes.ranges import Range, Value
from ms_train.recipes.recipe import Recipe
from ms_train.search.trials import Trial
from ms_train.search.tune_report import short, write

JOURNAL = "study.log"


def tune(
    recipe: Recipe,
    dataset: Dataset,
    train: Callable[[Recipe, Path], Any],
    command: Sequence[str],
    out: Path,
    *,
    trials: int,
    seed: int,
    resume: bool,
) -> list[Trial]:
    """Train `trials` times, first with the recipe's own settings; return all trials, the best
    first.

    `train(recipe, folder)` trains one trial, or continues the one in `folder`. `command` is the
    `ms-train fit` that does the same, without --set and --out. With `resume`, the search in `out`
    continues with the same result as without interruption, because the settings of a trial depend
    only on `seed`, its number and the earlier trials.

    The search minimises the validation loss after the last epoch, which is the loss of the network
    that is kept. It does not use the smallest loss of all epochs, because that network is not kept.
    It does not use accuracy: a small dataset has about twenty validation recordings, for which many
    settings are equally accurate, while the loss also measures how certain the network is. The
    smallest loss of many trials is optimistic about its settings. Test data are never used.

    A training that fails (no memory, a loss that is not finite) is recorded as failed, and the
    search continues. Raises UsageError if `out` holds other files, and MsEdgeError if the data
    cannot be used or no training succeeded.
    """
    if not recipe.settings:
        raise UsageError(f"{recipe.name} declares no ranges; there is nothing to search.")
    tf.get_logger().setLevel("ERROR")  # it warns of a new graph for each network: there is one
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = _open(out, _facts(recipe, dataset, command), resume)
    distributions = {name: _distribution(recipe.ranges[name]) for name in recipe.settings}
    begun = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    while (done := len(_finished(study, distributions))) < trials:
        if begun:
            number, settings = begun[0].number, dict(begun.pop(0).params)
            if set(settings) != set(distributions):  # interrupted while its settings were drawn: they are drawn again
                study.tell(number, state=TrialState.FAIL)
                continue
        else:
            number, settings = _next_trial(study, recipe, distributions, seed, done)
        folder = out / f"trial-{number + 1}"
        values = " ".join(f"{name}={short(value)}" for name, value in settings.items())
        tqdm.write(f"trial {done + 1} of {trials}: {values}", file=sys.stderr)
        val_loss = _val_loss(recipe, settings, train, folder)
        if val_loss is None:
            study.tell(number, state=TrialState.FAIL)
        else:
            study.tell(number, val_loss)
        keras.backend.clear_session()
    found = sorted(map(partial(_trial, out), _finished(study, distributions)), key=lambda trial: trial.rank)
    write(found, recipe, importances(study), command, out)
    return found


def _next_trial(
    study: optuna.Study, recipe: Recipe, distributions: dict[str, BaseDistribution], seed: int, done: int
) -> tuple[int, dict[str, Value]]:
    """Begin a trial after `done` others; return its number and settings, the recipe's own for the
    first.
    """
    if not done and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(recipe.settings)
    # Each trial has its own sampler, because the state of a common one would be lost when the
    # process ends.
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((seed, done)).generate_state(1)[0]))
    asked = study.ask(distributions)
    return asked.number, dict(asked.params)


def _finished(study: optuna.Study, names: Collection[str]) -> list[FrozenTrial]:
    """Return the trials that are complete or have failed."""
    states = (TrialState.COMPLETE, TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False, states=states) if set(trial.params) == set(names)]


def _val_loss(
    recipe: Recipe, settings: dict[str, Value], train: Callable[[Recipe, Path], Any], folder: Path
) -> float | None:
    """Train one trial, or continue it; return its validation loss, or None if it fails."""
    if folder.exists() and not (folder / "run.json").exists():
        shutil.rmtree(folder)  # interrupted before it began: `fit` would refuse the folder
    try:
        if not (folder / "metrics.json").exists():
            train(recipe.with_settings(settings), folder)
        loss = float(_history(folder)[-1]["val_loss"])
        if not math.isfinite(loss):
            raise ArithmeticError(f"the validation loss is {loss}")
    except (MsEdgeError, OSError):  # problems with the data or the disk, which would make the next trial fail too
        raise
    except Exception as error:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        tqdm.write(f"{folder}: failed ({first_line(error)}); see error.txt there. The search goes on.", file=sys.stderr)
        return None
    return loss


def _history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _open(out: Path, facts: dict[str, str], resume: bool) -> optuna.Study:
    """Return a new study in `out`; with `resume`, the existing one if its facts are the same."""
    journal = out / JOURNAL
    if not (resume and journal.exists()) and out.exists() and any(out.iterdir()):
        hint = "go on with --resume, or give --out a new folder" if journal.exists() else "give --out a new folder"
        raise UsageError(f"{out}: already holds files; {hint}.")
    out.mkdir(parents=True, exist_ok=True)
    _cut_torn_line(journal)
    # The lock is a file, held for milliseconds; the lock of a killed process is taken over after
    # half a minute.
    lock = JournalFileOpenLock(str(journal))
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock))
        study = optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
        begun = study.user_attrs
    except (ValueError, KeyError, TypeError, AssertionError):  # the journal's reader has no error class
        raise RunError("bad-run", f"{journal}: is not the journal of a search; give --out a new folder.") from None
    for name, value in facts.items():
        if begun.get(name, value) != value:
            raise UsageError(
                f"{out}: was begun with {name} {begun[name]}, not {value}; --resume goes on with what was begun."
            )
        study.set_user_attr(name, value)
    return study


def _cut_torn_line(journal: Path) -> None:
    """Remove an incomplete last line of a journal, to which the next line would be appended."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _facts(recipe: Recipe, dataset: Dataset, command: Sequence[str]) -> dict[str, str]:
    """Return the facts that all trials of a search must share."""
    recordings = sorted(
        f"{recording.sha256} {recording.label} {recording.split} {recording.name}" for recording in dataset.recordings
    )
    return {
        "recipe": recipe.name,
        "command": shlex.join(command),
        "ranges": "; ".join(f"{name}: {recipe.ranges[name]}" for name in recipe.settings),
        "settings": json.dumps(recipe.settings),
        "recordings": hashlib.sha256(os.fsencode("\n".join(recordings))).hexdigest()[:16],
    }


def _distribution(values: Range) -> BaseDistribution:
    if values.choices:
        return CategoricalDistribution(values.choices)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _trial(out: Path, found: FrozenTrial) -> Trial:
    folder = out / f"trial-{found.number + 1}"
    if found.state != TrialState.COMPLETE:
        return Trial(found.number + 1, dict(found.params), None, {})
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError):  # removed since; the loss is in the journal
        metrics = {}
    return Trial(found.number + 1, dict(found.params), found.value, metrics)


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each setting for good trials (PED-ANOVA); empty for fewer than ten
    trials.
    """
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 10:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
