"""The list of all formats."""

from __future__ import annotations

import os

from ms_edge.errors import UsageError
from ms_edge.output.tracks import Audacity, Cue, Elan, Raven, Rttm, Srt, TextGrid, WebVtt
from ms_edge.output.writers import ColourText, Csv, Json, JsonLines, Text, Tsv, Writer
from ms_edge.output.xlsx import Xlsx

# By the name that --format takes. No two formats but the first two have the same suffix.
FORMATS: dict[str, type[Writer]] = {
    "text": Text,
    "text-colour": ColourText,
    "jsonl": JsonLines,
    "json": Json,
    "csv": Csv,
    "tsv": Tsv,
    "xlsx": Xlsx,
    "audacity": Audacity,
    "cue": Cue,
    "elan": Elan,
    "raven": Raven,
    "rttm": Rttm,
    "srt": Srt,
    "textgrid": TextGrid,
    "webvtt": WebVtt,
}


def format_of(output: str) -> str:
    """Return the name of the format for a file's suffix; `text` for a name without suffix.

    Raises UsageError for a suffix that no format has.
    """
    suffixes = {f".{writer.suffix}": name for name, writer in FORMATS.items() if name != "text-colour"}
    for suffix in sorted(suffixes, key=len, reverse=True):  # .labels.txt before .txt
        if output.lower().endswith(suffix.lower()):
            return suffixes[suffix]
    if unknown := os.path.splitext(output)[1]:
        known = ", ".join(suffixes)
        raise UsageError(f"{output}: no format has the suffix {unknown}; the suffixes are {known} (or give --format).")
    return "text"
