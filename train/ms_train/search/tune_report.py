"""Write the results of a search: study.csv, best.json, study.png, and a table."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ms_train.errors import RunError
from ms_train.recipes.ranges import Value
from ms_train.recipes.recipe import Recipe
from ms_train.search import tune_plots
from ms_train.search.trials import Trial
from ms_train.tables import text_table

SHOWN = 10  # trials in the table


def write(
    trials: Sequence[Trial], recipe: Recipe, importances: Mapping[str, float], command: Sequence[str], out: Path
) -> None:
    """Write the results of a search into its folder. Raises MsEdgeError if every trial failed.

    The best trial is the first. `command` is the `ms-train fit` of all trials, without --set and
    --out.
    """
    _write_csv(trials, recipe, out / "study.csv")
    best = trials[0]
    if best.val_loss is None:
        error = out / f"trial-{best.number}" / "error.txt"
        raise RunError("bad-run", f"{out}: no trial could be trained; {error} says why.")
    facts = {
        "trial": best.number,
        "settings": best.settings,
        "val_loss": best.val_loss,
        "val": {name: value for name, value in best.metrics.get("val", {}).items() if name != "wrong_files"},
        "command": shlex.join([*command, *in_words(best.settings), "--out", str(out / "best")]),
    }
    (out / "best.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="ascii")
    tune_plots.study(trials, recipe, importances, out / "study.png")


def _write_csv(trials: Sequence[Trial], recipe: Recipe, path: Path) -> None:
    """Write a line for each trial, in the order of training."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["trial", "val_loss", "clip_accuracy", "file_accuracy", "epochs", "parameters", "seconds", *recipe.settings]
        )
        for trial in sorted(trials, key=lambda trial: trial.number):
            val = trial.metrics.get("val", {})
            writer.writerow(
                [
                    trial.number,
                    "failed" if trial.val_loss is None else trial.val_loss,
                    *(val.get(name, "") for name in ("clip_accuracy", "file_accuracy")),
                    *(trial.metrics.get(name, "") for name in ("epochs", "parameters", "seconds")),
                    *(trial.settings.get(name, "") for name in recipe.settings),
                ]
            )


def table(trials: Sequence[Trial], recipe: Recipe) -> str:
    """Return a line for each of the best trials, and for the trial with the recipe's own settings."""
    head = ("trial", "val loss", "clips", "recordings", *recipe.settings, "")
    rows = [
        (
            f"{trial.number}",
            "failed" if trial.val_loss is None else f"{trial.val_loss:.4f}",
            *(f"{trial.metrics['val'][f'{of}_accuracy']:.1%}" if trial.metrics else "" for of in ("clip", "file")),
            *(short(trial.settings.get(name, "")) for name in recipe.settings),
            "the recipe as it is" if trial.settings == recipe.settings else "",
        )
        for place, trial in enumerate(trials)
        if place < SHOWN or trial.settings == recipe.settings
    ]
    return "\n".join(map(str.rstrip, text_table([head, *rows]).splitlines()))


def in_words(settings: Mapping[str, Value]) -> list[str]:
    """Return settings as options of `ms-train fit`."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def short(value: Value) -> str:
    """Return a value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
