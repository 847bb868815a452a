"""Many files: what the user named, one result for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ms_edge.audio import EXTENSIONS
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError
from ms_edge.results import Classification, Failure


def classify_all(paths: Sequence[str], classifier: Classifier) -> Iterator[Classification | Failure]:
    """Yield one result per audio file, in the order of the arguments; a directory stands for the audio files in it."""
    for given in paths:
        try:
            found = audio_paths(given)
        except AudioError as error:
            yield Failure(given, error.code, error.message)
            continue
        for path in found:
            try:
                yield classifier.classify(path)
            except AudioError as error:
                yield Failure(path, error.code, error.message)


def audio_paths(path: str) -> list[str]:
    """The path itself, or the audio files directly in a directory, by extension and in sorted order.

    Raises AudioError where a directory holds none or cannot be listed.
    """
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(
            name for name in os.listdir(path) if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        )
    except OSError as error:
        raise AudioError(
            "cannot-open", f"{path}: {(error.strerror or 'the directory cannot be listed').lower()}."
        ) from None
    files = [file for name in names if os.path.isfile(file := os.path.join(path, name))]
    if not files:
        raise AudioError("no-audio", f"{path}: the directory holds no audio files.")
    return files
