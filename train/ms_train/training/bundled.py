"""The runs of the models in the package, which the commands call `bundled` and `music-speech-large`.

Their folders are part of the package. `package` makes them: the network is without the state of its
optimizer, and `recordings.tsv.xz` replaces the three files that list the recordings: one line for
each, with its part, its SHA-256 and its name. Both learnt from the same recordings, so only
`bundled` has the list.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from ms_edge.model.session import LARGE_NAME

NAME = "bundled"
FOLDER = Path(__file__).parents[1] / "models" / "music-speech"
LARGE_FOLDER = FOLDER.with_name(LARGE_NAME)
RECORDINGS = "recordings.tsv.xz"
COLUMNS = ("part", "sha256", "name")


def run_folder(run: Path) -> Path:
    """Return the folder of a run as the command line names it: that of a model of the package for
    its name, else `run` itself.
    """
    return {NAME: FOLDER, LARGE_NAME: LARGE_FOLDER}.get(str(run), run)


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
    facts = json.loads((folder / "run.json").read_text("utf-8"))
    if facts.get("bundled") and not packed.exists():
        packed = FOLDER / RECORDINGS
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
