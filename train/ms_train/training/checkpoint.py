"""The state of a training between two epochs, on disk, from which the training continues with the
same result.
"""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from ms_edge.errors import reason
from ms_train.errors import RunError
from ms_train.files import atomic_write

NAME = "checkpoint.npz"


class Checkpoint(keras.callbacks.Callback):
    """Write the state of the model, the optimizer and the random generators, and the history, after
    every epoch.

    Batches have no state: each follows from its number. If the state cannot be written, a message
    is printed once, the last written state stays, and training continues.
    """

    def __init__(self, folder: Path, history: list[dict[str, float]] | None = None) -> None:
        super().__init__()
        self._path = folder / NAME
        self.history = history or []
        self._said = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        facts = {"epochs": epoch + 1, "history": self.history}
        arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts))}
        arrays |= {f"v{index}": np.asarray(variable) for index, variable in enumerate(state_of(self.model))}
        try:
            with atomic_write(self._path) as partial, partial.open("wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            if not self._said:
                self._said = True
                tqdm.write(
                    f"{self._path}: cannot be written ({reason(error)}); training goes on.",
                    file=sys.stderr,
                )


def state_of(model: keras.Model) -> list[Any]:
    """Return all variables that training changes: weights, statistics, random states and the
    optimizer's variables.
    """
    build_optimizer(model)
    return [*model.variables, *model.optimizer.variables]


def build_optimizer(model: keras.Model) -> None:
    """Make the variables of a model's optimizer if it has none yet.

    The optimizer of mixed precision makes its variables again in every call of `build`, beside
    those that training changes.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def restore(folder: Path, model: keras.Model) -> tuple[int, list[dict[str, float]]]:
    """Set a model's variables from the checkpoint in `folder`; return the number of epochs done and
    their history.

    Return (0, []) if there is no checkpoint. Raises RunError(`bad-run`) if it belongs to another
    network.
    """
    path = folder / NAME
    if not path.exists():
        return 0, []
    try:
        with np.load(path) as found:
            facts = json.loads(str(found["facts"]))
            variables = state_of(model)
            arrays = [found[f"v{index}"] for index in range(len(found.files) - 1)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise RunError("bad-run", f"{path}: is not a checkpoint; remove it to begin anew.") from None
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise RunError("bad-run", f"{path}: is the checkpoint of another network; remove it to begin anew.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return facts["epochs"], facts["history"]


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write the history as CSV, one line for each epoch."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]])
        writer.writeheader()
        writer.writerows({"epoch": epoch, **values} for epoch, values in enumerate(history, 1))
