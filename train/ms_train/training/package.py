"""Make a run folder of the package, in `ms_train/models`, from that of the whole training.

    python -m ms_train.training.package build/level
    python -m ms_train.training.package build/large

Given a run of `mel_pair`, write the folder of the large model; given any other run, that of the
bundled model. The network is without the state of its optimizer. For the bundled model,
`recordings.tsv.xz` replaces the three files that list the recordings, and `replay.npz` holds what a
network that learns from corrections replays; the run must have levels of the music (`ms-train
level`). The large model must hold the bundled model of the package, and have learnt from the same
recordings.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from pathlib import Path

import keras

from ms_train.datasets.by_name import dataset_of_run
from ms_train.datasets.cache import Cache, default_folder
from ms_train.training import level, replay
from ms_train.training.bundled import FOLDER, LARGE_FOLDER, RECORDINGS, recordings_of
from ms_train.training.runs import TrainedRun

DATA = "open-corpus:data/open-corpus"  # where `ms-train data fetch` puts it by default
COPIED = ("recipe.json", "spec.json", "metrics.json")


def package(run: Path, folder: Path = FOLDER) -> None:
    """Write the run folder of the bundled model from a complete run folder of the open corpus,
    whose recordings are where it says.

    Raises ValueError if a recording is an excerpt of a file.
    """
    used = recordings_of(run)
    if used.sha256 != used.files:
        raise ValueError(f"{run}: has excerpts of files; {RECORDINGS} has no place for them")
    facts = json.loads((run / "run.json").read_text("utf-8"))
    values = replay.replay(TrainedRun.load(run), run, dataset_of_run(facts["data"]), Cache(default_folder()))
    _copy(run, folder, (*COPIED, level.NETWORK, level.SCALE))
    replay.write(values, folder)
    lines = [f"{part}\t{used.sha256[name]}\t{name}\n" for part, names in used.split.items() for name in names]
    (folder / RECORDINGS).write_bytes(lzma.compress("".join(lines).encode(), preset=9))


def package_large(run: Path) -> None:
    """Write the run folder of the large model from a complete run folder of `mel_pair`.

    Raises ValueError if it learnt from other recordings than the bundled model of the package, or
    does not hold its weights.
    """
    if recordings_of(run) != recordings_of(FOLDER):
        raise ValueError(f"{run}: learnt from other recordings than the bundled model")
    bundled, large = (keras.models.load_model(each / "model.keras", compile=False) for each in (FOLDER, run))
    held = {weights.tobytes() for weights in large.get_layer(f"{bundled.name}_layers").get_weights()}
    if any(weights.tobytes() not in held for weights in bundled.get_weights()[:-2]):  # all but the last layer
        raise ValueError(f"{run}: was joined with another network than that of the bundled model")
    _copy(run, LARGE_FOLDER, COPIED)


def _copy(run: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Copy files of a run folder, the network without its optimizer, and `run.json` without facts
    about the machine: the data is where it is by default, and the command is left out.
    """
    facts = json.loads((run / "run.json").read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(run / name, folder / name)
    kept = {name: value for name, value in facts.items() if name != "command"}
    text = json.dumps(kept | {"bundled": True, "data": DATA}, indent=2)
    (folder / "run.json").write_text(text + "\n", "ascii")
    keras.models.load_model(run / "model.keras", compile=False).save(folder / "model.keras")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    large = json.loads((given / "run.json").read_text("utf-8"))["recipe"] == "mel_pair"
    (package_large if large else package)(given)
