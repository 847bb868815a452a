"""Datasets as the command line names them."""

from __future__ import annotations

from pathlib import Path

from ms_edge.errors import UsageError
from ms_train.datasets import Dataset


def dataset_by_name(name: str, archive: Path | None = None) -> Dataset:
    """`folder:PATH`, `open-corpus:PATH` or `gtzan` (with `archive`, a local copy). Raises MsEdgeError."""
    kind, _, path = name.partition(":")
    if archive and kind != "gtzan":
        raise UsageError("usage", "--archive goes with --data gtzan.")
    if kind == "folder" and path:
        from ms_train.datasets.folder import folder

        return folder(Path(path))
    if kind == "open-corpus":
        from ms_train.datasets.open_corpus import open_corpus

        return open_corpus(Path(path or "data/open-corpus"))
    if name == "gtzan":
        from ms_train.datasets.gtzan import gtzan

        return gtzan(archive=archive)
    raise UsageError("usage", f"--data {name!r}: give folder:PATH, open-corpus:PATH or gtzan.")
