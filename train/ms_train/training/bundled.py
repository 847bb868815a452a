"""The run of the bundled model, which the commands call `bundled`.

    python -m ms_train.training.bundled build/model

makes the run folder in `ms_train/models` from the folder of the whole training. The network is
without the state of its optimizer, and `recordings.tsv.xz` replaces the three files that list the
recordings: one line for each, with its part, its SHA-256 and its name.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import keras

NAME = "bundled"
FOLDER = Path(__file__).parents[1] / "models" / "music-speech"
RECORDINGS = "recordings.tsv.xz"
DATA = "open-corpus:data/open-corpus"  # where `ms-train data fetch` puts it by default
COLUMNS = ("part", "sha256", "name")
COPIED = ("recipe.json", "spec.json", "metrics.json")


def run_folder(run: Path) -> Path:
    """Return the folder of a run as the command line names it: that of the bundled model for
    `bundled`, else `run` itself.
    """
    return FOLDER if run == Path(NAME) else run


@dataclass(frozen=True)
class Used:
    """The recordings that a run used: the names of each part, and by name the digest of each
    recording and of the file that it is, or is cut from.
    """

    split: dict[str, list[str]]
    sha256: dict[str, str]
    files: dict[str, str]


def recordings_of(folder: Path) -> Used:
    """Read the lists of recordings of a run folder. Raises OSError, ValueError or LookupError if
    they cannot be read.
    """
    packed = folder / RECORDINGS
    if packed.exists():
        text = lzma.decompress(packed.read_bytes()).decode()
        rows = list(csv.DictReader(io.StringIO(text), COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE))
        split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for row in rows:
            split.setdefault(row["part"], []).append(row["name"])
        digests = {row["name"]: row["sha256"] for row in rows}
        return Used(split, digests, digests)
    split, digests = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("split", "data"))
    path = folder / "recordings.json"
    more = json.loads(path.read_text("utf-8")) if path.exists() else {}  # a run of an older version has none
    return Used(
        {part: list(names) for part, names in split.items()},
        dict(digests),
        {name: more[name]["file_sha256"] if name in more else digest for name, digest in digests.items()},
    )


def bundle(run: Path, folder: Path = FOLDER) -> None:
    """Write the run folder of the bundled model from a complete run folder of the open corpus.

    Nothing of the machine stays in it: the data is where it is by default, and the command is left
    out. Raises ValueError if a recording is an excerpt of a file.
    """
    used = recordings_of(run)
    if used.sha256 != used.files:
        raise ValueError(f"{run}: has excerpts of files; {RECORDINGS} has no place for them")
    facts = json.loads((run / "run.json").read_text("utf-8")) | {"bundled": True, "data": DATA}
    facts.pop("command", None)
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(run / name, folder / name)
    (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n", "ascii")
    lines = [f"{part}\t{used.sha256[name]}\t{name}\n" for part, names in used.split.items() for name in names]
    (folder / RECORDINGS).write_bytes(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    keras.models.load_model(run / "model.keras", compile=False).save(folder / "model.keras")


if __name__ == "__main__":
    bundle(Path(sys.argv[1]))
