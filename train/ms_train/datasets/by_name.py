"""Datasets as the command line names them."""

from __future__ import annotations

from pathlib import Path

from ms_edge.errors import MsEdgeError, UsageError
from ms_train.datasets.dataset import Dataset
from ms_train.errors import DataError

KINDS = "folder:PATH, csv:FILE, corrections:FILE, tfds:NAME, open-corpus:PATH or gtzan"


def dataset_of_run(data: str, archive: Path | None = None) -> Dataset:
    """Return the dataset that a run folder names, as `dataset_by_name`.

    Raises MsEdgeError; if the dataset is not there any more, the error says how to name its new
    place.
    """
    try:
        return dataset_by_name(data, archive)
    except UsageError:
        raise
    except MsEdgeError as error:
        reason = str(error).rstrip(".")
        raise DataError(
            error.code, f"{reason}; the run was made from {data}: say where that is now with --data."
        ) from None


def dataset_by_name(name: str, archive: Path | None = None) -> Dataset:
    """Return the dataset that --data names (`KINDS`); `archive` is a local copy of gtzan.

    Raises MsEdgeError if there is none.
    """
    kind, _, path = name.partition(":")
    if archive and kind != "gtzan":
        raise UsageError("--archive goes with --data gtzan.")
    if kind == "folder" and path:
        from ms_train.datasets.folder import folder

        return folder(Path(path))
    if kind == "csv" and path:
        from ms_train.datasets.manifest import manifest

        return manifest(Path(path))
    if kind == "corrections" and path:
        from ms_train.datasets.corrections import corrections

        return corrections(path)
    if kind == "tfds" and path:
        from ms_train.datasets.examples import tfds_dataset

        return tfds_dataset(path)
    if kind == "open-corpus":
        from ms_train.datasets.open_corpus import open_corpus

        return open_corpus(Path(path or "data/open-corpus"))
    if name == "gtzan":
        from ms_train.datasets.gtzan import gtzan

        return gtzan(archive=archive)
    raise UsageError(f"--data {name!r}: give {KINDS}.")
