"""What the user named, as files to classify."""

from __future__ import annotations

import os

from ms_edge.audio import EXTENSIONS
from ms_edge.errors import AudioError


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
