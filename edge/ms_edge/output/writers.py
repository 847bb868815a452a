"""Results as text for people, and as records for programs: one line or row for each recording, or for each segment."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ms_edge.errors import UsageError
from ms_edge.results import Classification, Failure, Segment

Result = Classification | Failure
LIVE_HEADER = f"{'START':>11}  {'END':>11}  {'LABEL':<13}{'PROBABILITY':>11}\n"
CHECKSUM = ', "checksum": "'  # what comes before that of a JSON Lines record
COLOURS = {"speech": "36", "music": "33", "speech+music": "35", "error": "31"}  # SGR; what else there is stays plain

# Spreadsheets run text as a formula if it begins with one of these (OWASP, CSV injection; in Japanese also the wide ones).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Format:
    """How results are written: `begin(labels, timeline)`, a `record(result, timeline)` for each, `between` two, `end`.

    `timeline_only` formats hold segments and nothing else; a document of a `single` format is about one recording.
    """

    suffix: str
    record: Callable[[Result, bool, Sequence[str]], str]
    begin: Callable[[Sequence[str], bool], str] = lambda labels, timeline: ""
    between: str = ""
    end: str = ""
    timeline_only: bool = False
    single: bool = False


def text_header(labels: Sequence[str], timeline: bool) -> str:
    """The head of the table."""
    if timeline:
        return f"{'START':>11}  {'END':>11}  {'LABEL':<13}{'PROBABILITY':>11}  PATH\n"
    return f"{'LABEL':<13}{'PROBABILITY':>11}  {'DURATION':>10}  PATH\n"


def text(result: Result, timeline: bool, labels: Sequence[str], colour: bool = False) -> str:
    """One aligned row, or one for each segment."""

    def label(name: str) -> str:
        padded = f"{name:<13}"
        return f"\x1b[{COLOURS[name]}m{padded}\x1b[0m" if colour and name in COLOURS else padded

    path = printable(result.path)
    if isinstance(result, Failure):
        blank = f"{'-':>11}  {'-':>11}  " if timeline else ""
        rest = f"{'-':>11}  " if timeline else f"{'-':>11}  {'-':>10}  "
        return f"{blank}{label('error')}{rest}{path} ({result.code})\n"
    warnings = f" ({', '.join(result.warnings)})" if result.warnings else ""
    if timeline:
        return "".join(
            f"{clock(part.start_s):>11}  {clock(part.end_s):>11}  {label(part.label)}{part.probability:>11.1%}  {path}{warnings}\n"
            for part in result.segments
        )
    return f"{label(result.label)}{result.probability:>11.1%}  {duration(result.duration_s):>10}  {path}{warnings}\n"


def colour_text(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    """`text` with the labels in colour."""
    return text(result, timeline, labels, colour=True)


def live_line(part: Segment) -> str:
    """One window of a stream as a row."""
    return f"{clock(part.start_s):>11}  {clock(part.end_s):>11}  {part.label:<13}{part.probability:>11.1%}\n"


def json_line(result: Result, timeline: bool, labels: Sequence[str] = ()) -> str:
    """One record of schema `ms-edge/1` and, as its last field, the checksum of the line without that field."""
    text = json_text(result.record(timeline))
    return f'{text[:-1]}{CHECKSUM}{checksum(text.encode("ascii"))}"}}\n'


def json_text(record: dict[str, Any]) -> str:
    """A record as one object, pure ASCII: names that are not Unicode survive as lone surrogates."""
    return json.dumps(record, separators=(", ", ": "), allow_nan=False)


def checksum(text: bytes) -> str:
    """What tells a text from every other: 64 bits of BLAKE2b, in hex."""
    return blake2b(text, digest_size=8).hexdigest()


def is_as_written(line: bytes) -> bool:
    """Whether a line is one that `json_line` wrote, to the byte."""
    text, _, end = line.rpartition(CHECKSUM.encode())
    return line.isascii() and end == f'{checksum(text + b"}")}"}}\n'.encode()


def _json_item(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    return "  " + json_text(result.record(timeline))


def _columns(labels: Sequence[str], timeline: bool) -> list[str]:
    """Names of columns; new ones come last, so that the others keep their place."""
    scores = [f"score_{label}" for label in labels]
    if timeline:
        return ["path", "start_s", "end_s", "label", "probability", *scores, "error", "message", "warnings"]
    facts = ["duration_s", "sample_rate_hz", "channels", "warnings", "error", "message", "model", "provider"]
    return ["path", "label", "probability", *scores, *facts, *_seconds(labels, {})]


def _seconds(labels: Sequence[str], seconds: dict[str, float]) -> dict[str, float]:
    """Columns of seconds, the same for every recording: one for each label, one for several labels at once, one for each label that
    the runtime gives itself. They sum to the duration.
    """
    together = "+".join(labels) if len(labels) == 2 else "2+"  # a label of a model holds no +
    found = {f"seconds_{name}": 0.0 for name in (*labels, together, "other", "silence", "uncertain")}
    for label, value in seconds.items():
        column = f"seconds_{together if '+' in label else label}"
        found[column] = round(found[column] + value, 3)
    return found


def _rows(result: Result, timeline: bool, labels: Sequence[str]) -> Sequence[Sequence[object]]:
    columns = _columns(labels, timeline)
    facts: dict[str, object]
    if isinstance(result, Failure):
        facts = {"path": result.path, "error": result.code, "message": result.message}
        return [[facts.get(column, "") for column in columns]]
    whole = result.record(timeline)
    rows = []
    for part in whole["segments"] if timeline else [whole]:
        facts = {**part, "path": result.path, "warnings": " ".join(result.warnings)}
        facts |= {f"score_{label}": score for label, score in part["scores"].items()}
        if not timeline:
            facts |= _seconds(labels, result.seconds)
        rows.append([facts.get(column, "") for column in columns])
    return rows


def _not_a_formula(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet would run, and before text that begins with one: whoever removes the first
    apostrophe of a cell has the text as it was. Numbers and the `-` of standard input stay.
    """
    if isinstance(cell, str) and cell.startswith((*FORMULA, "'")) and cell != "-":
        return f"'{cell}"
    return cell


def _separated(dialect: str) -> Format:
    def line(row: Sequence[object]) -> str:
        import csv

        out = io.StringIO()
        cells = map(_not_a_formula, row)
        csv.writer(out, dialect).writerow(cells)  # which ends with \r\n, and therefore quotes both of them
        return out.getvalue().removesuffix("\r\n") + "\n"

    return Format(
        suffix="csv" if dialect == "excel" else "tsv",
        begin=lambda labels, timeline: line(_columns(labels, timeline)),
        record=lambda result, timeline, labels: "".join(map(line, _rows(result, timeline, labels))),
    )


def clock(seconds: float) -> str:
    """h:mm:ss.sss, as short as it can be: 7.250, 3:07.250, 1:02:03.250."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{milliseconds / 1000:06.3f}"
    return f"{minutes}:{milliseconds / 1000:06.3f}" if minutes else f"{milliseconds / 1000:.3f}"


def duration(seconds: float) -> str:
    """h:mm:ss.s, as short as it can be: 7.2 s, 3:07.2, 1:02:03.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    if not minutes:
        return f"{tenths / 10:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"


def printable(path: str) -> str:
    """A path on one line of any terminal: control characters and what is not Unicode are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in path
    )


def wants_colour() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody asked for none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def formats() -> dict[str, Format]:
    """Every format by its name."""
    from ms_edge.output import tracks

    return {
        "text": Format("txt", text, text_header),
        "text-colour": Format("txt", colour_text, text_header),
        "jsonl": Format("jsonl", json_line),
        "json": Format("json", _json_item, lambda labels, timeline: "[\n", ",\n", "\n]\n"),
        "csv": _separated("excel"),
        "tsv": _separated("excel-tab"),
        "audacity": Format("labels.txt", tracks.audacity, timeline_only=True, single=True),
        "rttm": Format("rttm", tracks.rttm, timeline_only=True),
        "textgrid": Format("TextGrid", tracks.textgrid, timeline_only=True, single=True),
        "webvtt": Format("vtt", tracks.webvtt, timeline_only=True, single=True),
    }


def format_of(output: str) -> str:
    """Return the name of the format that the suffix of a file's name asks for; `text` for a name without suffix.

    Raises UsageError for a suffix that no format has.
    """
    suffixes = {f".{form.suffix}": name for name, form in formats().items() if name != "text-colour"}
    for suffix in sorted(suffixes, key=len, reverse=True):  # .labels.txt before .txt
        if output.lower().endswith(suffix.lower()):
            return suffixes[suffix]
    if unknown := os.path.splitext(output)[1]:
        known = ", ".join(suffixes)
        raise UsageError(f"{output}: no format has the suffix {unknown}; the suffixes are {known} (or give --format).")
    return "text"
