"""Make the run folder of the bundled model, `ms_train/models`, from that of the whole training.

    python -m ms_train.training.package build/model

The network is without the state of its optimizer, `recordings.tsv.xz` replaces the three files that
list the recordings, and `replay.npz` holds what a network that learns from corrections replays. The
run must have levels of the music (`ms-train level`).
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
from ms_train.training.bundled import FOLDER, RECORDINGS, recordings_of
from ms_train.training.runs import TrainedRun

DATA = "open-corpus:data/open-corpus"  # where `ms-train data fetch` puts it by default
COPIED = ("recipe.json", "spec.json", "metrics.json")


def package(run: Path, folder: Path = FOLDER) -> None:
    """Write the run folder of the bundled model from a complete run folder of the open corpus,
    whose recordings are where it says.

    Nothing of the machine stays in it: the data is where it is by default, and the command is left
    out. Raises ValueError if a recording is an excerpt of a file.
    """
    used = recordings_of(run)
    if used.sha256 != used.files:
        raise ValueError(f"{run}: has excerpts of files; {RECORDINGS} has no place for them")
    facts = json.loads((run / "run.json").read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*COPIED, level.NETWORK, level.SCALE):
        shutil.copyfile(run / name, folder / name)
    values = replay.replay(TrainedRun.load(run), run, dataset_of_run(facts["data"]), Cache(default_folder()))
    replay.write(values, folder)
    kept = {name: value for name, value in facts.items() if name != "command"}
    text = json.dumps(kept | {"bundled": True, "data": DATA}, indent=2)
    (folder / "run.json").write_text(text + "\n", "ascii")
    lines = [f"{part}\t{used.sha256[name]}\t{name}\n" for part, names in used.split.items() for name in names]
    (folder / RECORDINGS).write_bytes(lzma.compress("".join(lines).encode(), preset=9))
    keras.models.load_model(run / "model.keras", compile=False).save(folder / "model.keras")


if __name__ == "__main__":
    package(Path(sys.argv[1]))
