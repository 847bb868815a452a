"""`ms-train tune`: a search over the ranges a recipe declares, one training after the other.

OUT/study.log      Optuna's journal of the search, a JSON value a line: what --resume goes by, and what optuna-dashboard shows
OUT/trial-1 ...    a run folder of `ms-train fit` each; trial-1 is the recipe as it is, which the others have to beat
OUT/study.csv      all trials; study.png their picture; best.json the best one's settings, and the command that trains with them
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
    """Train `trials` times with other settings, the first time with the recipe's own; returns all trials, the best first.

    `train(recipe, folder)` trains one, or goes on with the one in `folder`; `command` is the `ms-train fit` that does the same, without
    --set and --out. With `resume` the search in `out` goes on as if nothing had interrupted it: what is suggested for a
    trial follows from `seed`, its number and the trials before it alone.

    What is minimised is the validation loss after the last epoch, which is that of the network that is kept (the least of all epochs is a
    network that nobody gets). Not accuracy: of the twenty or so recordings that validate in a small dataset, many settings get all right,
    or all but the same two, and a search cannot tell them apart; the loss also sees how sure the network was, and of what it got wrong. It
    is a number chosen as the least of many, and so flatters the settings it belongs to. Test data are never looked at.

    A training that fails (no memory, a loss that is no number) is written down as failed, and the search goes on. Raises
    UsageError where `out` holds something else, and MsEdgeError where the data cannot be used or no training succeeded.
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
            if set(settings) != set(distributions):  # interrupted while it was being asked for: asked for again
                study.tell(number, state=TrialState.FAIL)
                continue
        else:
            if not done and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                study.enqueue_trial(recipe.settings)
            # A sampler of its own for each trial: the state of one for all would be lost with the process.
            study.sampler = optuna.samplers.TPESampler(
                seed=int(np.random.SeedSequence((seed, done)).generate_state(1)[0])
            )
            asked = study.ask(distributions)
            number, settings = asked.number, dict(asked.params)
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


def _finished(study: optuna.Study, names: Collection[str]) -> list[FrozenTrial]:
    """The trials that were trained, or failed to be."""
    states = (TrialState.COMPLETE, TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False, states=states) if set(trial.params) == set(names)]


def _val_loss(
    recipe: Recipe, settings: dict[str, Value], train: Callable[[Recipe, Path], Any], folder: Path
) -> float | None:
    """Train one trial, or what is left of it; its validation loss, or None where that fails."""
    if folder.exists() and not (folder / "run.json").exists():
        shutil.rmtree(folder)  # interrupted before it began: `fit` would take it for another's
    try:
        if not (folder / "metrics.json").exists():
            train(recipe.with_settings(settings), folder)
        loss = float(_history(folder)[-1]["val_loss"])
        if not math.isfinite(loss):
            raise ArithmeticError(f"the validation loss is {loss}")
    except (MsEdgeError, OSError):  # the data, the disk: the next one would fail of it too
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
    """The study in `out`: a new one, or with `resume` the one there, if it is of the same facts."""
    journal = out / JOURNAL
    if not (resume and journal.exists()) and out.exists() and any(out.iterdir()):
        hint = "go on with --resume, or give --out a new folder" if journal.exists() else "give --out a new folder"
        raise UsageError(f"{out}: already holds files; {hint}.")
    out.mkdir(parents=True, exist_ok=True)
    _cut_torn_line(journal)
    # The lock is a file, held for milliseconds at a time; one that a killed process left is taken over after half a minute.
    lock = JournalFileOpenLock(str(journal))
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock))
        study = optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
        begun = study.user_attrs
    except (ValueError, KeyError, TypeError, AssertionError):  # its reader has no error of its own
        raise RunError("bad-run", f"{journal}: is not the journal of a search; give --out a new folder.") from None
    for name, value in facts.items():
        if begun.get(name, value) != value:
            raise UsageError(
                f"{out}: was begun with {name} {begun[name]}, not {value}; --resume goes on with what was begun."
            )
        study.set_user_attr(name, value)
    return study


def _cut_torn_line(journal: Path) -> None:
    """Cut off the end of a journal that a power cut left unfinished: what is written next would become one line with it."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _facts(recipe: Recipe, dataset: Dataset, command: Sequence[str]) -> dict[str, str]:
    """What trials must have in common to be compared."""
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
    except (OSError, ValueError):  # removed since: the journal knows what counts
        metrics = {}
    return Trial(found.number + 1, dict(found.params), found.value, metrics)


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each setting in what separates good trials from others (PED-ANOVA); empty of fewer than ten trials."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 10:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
