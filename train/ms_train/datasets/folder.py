"""A folder with one sub-folder per class is a dataset."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.audio.opening import EXTENSIONS
from ms_edge.errors import AudioError
from ms_edge.jobs.inputs import Skipped, is_skipped
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import file_digest, read_for_training, say_left_out
from ms_train.errors import DataError


def folder(root: Path) -> Dataset:
    """Read `root/<class>/**/*.wav` (and FLAC, Ogg, MP3 ...); the labels are the sub-folders' names
    in sorted order.

    A file that cannot be read is named on stderr and left out. Files with the names of other file
    types are counted on stderr. Raises DataError(`bad-data`) if there are fewer than two classes,
    or if a class has no audio.
    """
    if not root.is_dir():
        raise DataError("bad-data", f"{root}: no such folder; it should hold one sub-folder of audio files per class.")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    recordings, left_out, count, skipped = [], [], 0, Skipped()
    for directory in classes:
        files = []
        here = Skipped()
        for path in directory.rglob("*"):
            if path.suffix.lower() in EXTENSIONS:
                if not path.name.startswith(".") and not path.is_dir():
                    files.append(path)
            elif is_skipped(path.name) and path.is_file():
                here.add(path.name)
        if not files:
            instead = f" that is read, but {here}" if here else ""
            raise DataError(
                "bad-data", f"{directory}: the class has no audio file{instead}; remove the folder or fill it."
            )
        files.sort()
        skipped.update(here)
        count += len(files)
        for path in files:
            try:
                digest = file_digest(path)
            except AudioError as error:
                left_out.append(str(error))
                continue
            recordings.append(
                Recording(
                    name=path.relative_to(root).as_posix(),
                    label=directory.name,
                    source=directory.name,
                    sha256=digest,
                    read=partial(_read, path),
                )
            )
    say_left_out(str(root), left_out, count, "files")
    if skipped:
        tqdm.write(f"{root}: skipped {skipped}.", file=sys.stderr)
    if len(classes) < 2:
        raise DataError("bad-data", f"{root}: has {len(classes)} class folders; at least two are needed to tell apart.")
    return Dataset(root.name, tuple(path.name for path in classes), "exclusive", tuple(recordings))


def _read(path: Path, sample_rate_hz: int) -> Float32:
    return read_for_training(path, sample_rate_hz)
