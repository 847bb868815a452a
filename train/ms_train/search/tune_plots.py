"""The picture of a search: losses by trial and by setting, as a PNG.

The same numbers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ms_train.plots import _figure, _save
from ms_train.recipes.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ms_train.search.trials import Trial

COLUMNS = 3
BEST, DEFAULT = "C3", "dimgrey"


def study(trials: Sequence[Trial], recipe: Recipe, importances: Mapping[str, float], path: Path) -> None:
    """Draw the loss of each trial and the smallest so far, the loss against each setting, and the
    importances, if any.

    Later trials are darker. Failed trials are crosses at the upper edge. At least one trial must be
    complete.
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    names = list(recipe.settings)
    panels = len(names) + bool(importances)
    rows = -(-panels // COLUMNS)
    figure = _figure(4 * COLUMNS, 3.4 + 2.9 * rows)
    grid = figure.add_gridspec(1 + rows, COLUMNS)
    history = figure.add_subplot(grid[0, :])
    cells = [
        figure.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS], sharey=history) for place in range(len(names))
    ]
    _history(history, trials, recipe)
    for place, (axes, name) in enumerate(zip(cells, names, strict=True)):
        _setting(axes, trials, name, recipe)
        if place % COLUMNS:
            axes.tick_params(labelleft=False)
            axes.set_ylabel("")
    if importances:
        _importances(figure.add_subplot(grid[-1, (panels - 1) % COLUMNS]), importances)
    best = min(trials, key=lambda trial: trial.rank)
    figure.suptitle(f"{recipe.name}: {len(trials)} trials, the best is trial {best.number}")
    _save(figure, path)


def _history(axes: Axes, trials: Sequence[Trial], recipe: Recipe) -> None:
    losses = [np.nan if trial.val_loss is None else trial.val_loss for trial in trials]
    numbers = [trial.number for trial in trials]
    axes.step(numbers, np.fmin.accumulate(losses), where="post", color=BEST, label="least so far", zorder=1)
    for trial in trials:
        if trial.settings == recipe.settings and trial.val_loss is not None:
            axes.axhline(trial.val_loss, color=DEFAULT, linestyle=":", label="the recipe as it is")
    _points(axes, numbers, trials)
    axes.set_xlabel("trial")
    axes.set_xlim(0.5, len(trials) + 0.5)
    axes.locator_params("x", integer=True)
    done = [loss for loss in losses if np.isfinite(loss)]
    if max(done) > 10 * min(done):  # a linear axis would not separate the small losses
        axes.set_yscale("log")
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)


def _setting(axes: Axes, trials: Sequence[Trial], name: str, recipe: Recipe) -> None:
    values: list[Any] = [trial.settings[name] for trial in trials]
    known, default = recipe.ranges[name], recipe.settings[name]
    if known.choices:
        axes.set_xticks(range(len(known.choices)), [str(choice) for choice in known.choices])
        axes.set_xlim(-0.5, len(known.choices) - 0.5)
        values, default = [known.choices.index(value) for value in values], known.choices.index(default)
    elif known.log:
        axes.set_xscale("log")
        axes.set_xlim(known.low / 1.1, known.high * 1.1)
        if known.high < 100 * known.low:  # too few powers of ten for ticks
            ticks = [known.low * 2**power for power in range(int(np.log2(known.high / known.low)) + 1)]
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
    else:
        margin = (known.high - known.low) / 20
        axes.set_xlim(known.low - margin, known.high + margin)
    axes.axvline(float(default), color=DEFAULT, linestyle=":")
    _points(axes, values, trials)
    axes.set_xlabel(name)


def _points(axes: Axes, places: Sequence[float], trials: Sequence[Trial]) -> None:
    """Draw the trials at places along the x axis, at the height of their losses."""
    best = min(trials, key=lambda trial: trial.rank)
    done = [
        (place, trial.val_loss, trial.number)
        for place, trial in zip(places, trials, strict=True)
        if trial.val_loss is not None
    ]
    failed = [place for place, trial in zip(places, trials, strict=True) if trial.val_loss is None]
    axes.scatter(
        [place for place, _, _ in done],
        [loss for _, loss, _ in done],
        c=[number for _, _, number in done],
        cmap="Blues",
        vmin=-len(trials) / 2,  # so that the first ones are visible on white
        vmax=len(trials),
        zorder=2,
    )
    place, least = places[trials.index(best)], best.rank[0]
    axes.scatter(
        [place], [least], s=110, facecolors="none", edgecolors=BEST, linewidths=1.5, label="the best", zorder=3
    )
    if failed:
        above = axes.get_xaxis_transform()
        axes.scatter(failed, [0.97] * len(failed), transform=above, marker="x", color="black", label="failed", zorder=3)
    axes.set_ylabel("validation loss")
    axes.grid(alpha=0.3)


def _importances(axes: Axes, importances: Mapping[str, float]) -> None:
    names = sorted(importances, key=lambda name: importances[name])
    axes.barh(range(len(names)), [importances[name] for name in names], color="C0", alpha=0.4)
    for place, name in enumerate(names):  # inside the bars, because labels beside them would widen the column of panels
        axes.text(0.02, place, f"{name}  {importances[name]:.0%}", va="center")
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.set_xlabel("importance (PED-ANOVA)")
