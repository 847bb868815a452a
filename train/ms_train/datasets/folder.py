"""A folder with one sub-folder per class is a dataset."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from ms_edge.audio import EXTENSIONS
from ms_edge.errors import MsEdgeError
from ms_train.datasets import Dataset, Recording, Samples
from ms_train.datasets.decoding import read_for_training


def folder(root: Path) -> Dataset:
    """Read `root/<class>/**/*.wav` (and FLAC, Ogg, MP3 ...): labels are the sub-folders' names in sorted order.

    Raises MsEdgeError(`bad-data`) where there are not at least two classes with audio in each.
    """
    if not root.is_dir():
        raise MsEdgeError(
            "bad-data", f"{root}: no such folder; it should hold one sub-folder of audio files per class."
        )
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    recordings = []
    for directory in classes:
        files = sorted(
            path
            for path in directory.rglob("*")
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and not path.is_dir()
        )
        if not files:
            raise MsEdgeError("bad-data", f"{directory}: the class has no audio file; remove the folder or fill it.")
        for path in files:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise MsEdgeError("bad-data", f"{path}: cannot be read ({(error.strerror or '').lower()}).") from None
            recordings.append(
                Recording(
                    name=path.relative_to(root).as_posix(),
                    label=directory.name,
                    source=directory.name,
                    sha256=digest,
                    read=partial(_read, path),
                )
            )
    if len(classes) < 2:
        raise MsEdgeError(
            "bad-data", f"{root}: has {len(classes)} class folders; at least two are needed to tell apart."
        )
    return Dataset(root.name, tuple(path.name for path in classes), "exclusive", tuple(recordings))


def _read(path: Path, sample_rate_hz: int) -> Samples:
    return read_for_training(path, sample_rate_hz)
