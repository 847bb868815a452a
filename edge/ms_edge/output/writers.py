"""Writers turn results into text for people and records for programs.

A result is one line or row per recording or, with a timeline, one per segment.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, TextIO

from ms_edge.errors import UsageError
from ms_edge.results import Classification, Failure, Segment

Result = Classification | Failure
Results = tuple[Classification, ...] | Failure  # of one input: several if each channel is classified
SEGMENT_HEADER = f"{'START':>11}  {'END':>11}  {'LABEL':<13}{'PROBABILITY':>11}"
CHECKSUM = ', "checksum": "'  # the text before the checksum of a JSON Lines record
LEVEL_ENDS = ("music_to_speech_db_low", "music_to_speech_db_high")  # of the interval, as columns of tables
COLOURS = {"speech": "36", "music": "33", "speech+music": "35", "error": "31"}  # SGR codes

# Spreadsheets run text as a formula if it begins with one of these characters (OWASP, CSV
# injection). The last four are the wide forms, which Japanese versions accept.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class UnwritableError(UsageError):
    """The format cannot hold the results of a recording. The message begins with its path."""


class Writer:
    """One format: a document is `begin()`, the `records` of each input, and what `end()` writes.

    `between` stands between two records. Files of the format have the suffix `suffix`. A
    `timeline_only` format holds segments and nothing else. A document of a `single` format is about
    one recording. In a format that `overlaps`, segments may overlap. A `binary` format is no text.

    `labels` are the model's labels; `timeline` asks for segments; `by_channel` is true if results
    are about single channels. `tiers` asks for segments of each label on its own, if the format
    overlaps. `levels` is true if the model measures the level of the music.
    """

    suffix: ClassVar[str]
    between: ClassVar[str] = ""
    timeline_only: ClassVar[bool] = False
    single: ClassVar[bool] = False
    overlaps: ClassVar[bool] = False
    binary: ClassVar[bool] = False

    def __init__(
        self,
        labels: Sequence[str],
        timeline: bool,
        by_channel: bool = False,
        tiers: bool = False,
        levels: bool = False,
    ) -> None:
        self.labels, self.timeline, self.by_channel, self.tiers = labels, timeline, by_channel, tiers
        self.levels = levels

    def begin(self) -> str:
        """Return the text before the first record."""
        return ""

    def records(self, results: Results) -> str:
        """Return the text of the results of one input."""
        return self.between.join(map(self.record, (results,) if isinstance(results, Failure) else results))

    def record(self, result: Result) -> str:
        """Return the text of one result."""
        raise NotImplementedError

    def end(self, file: TextIO) -> None:
        """Write what follows the last record."""


class Text(Writer):
    """An aligned table for people.

    SHARE is the part of the recording that has its label, by time.
    """

    suffix = "txt"
    colour: ClassVar[bool] = False

    def begin(self) -> str:
        """Return the header of the table."""
        facts = SEGMENT_HEADER if self.timeline else f"{'LABEL':<13}{'PROBABILITY':>11}  {'SHARE':>5}  {'DURATION':>10}"
        return f"{facts}{self._channel('CHANNEL')}  PATH\n"

    def record(self, result: Result) -> str:
        """Return one row, or one row per segment."""
        path = printable(result.path)
        if isinstance(result, Failure):
            blank = f"{'-':>11}  {'-':>11}  " if self.timeline else ""
            rest = f"{'-':>11}" if self.timeline else f"{'-':>11}  {'-':>5}  {'-':>10}"
            return f"{blank}{self._label('error')}{rest}{self._channel('-')}  {path} ({result.code})\n"
        warnings = f" ({', '.join(result.warnings)})" if result.warnings else ""
        end = f"{self._channel(result.channel)}  {path}{warnings}\n"
        if not self.timeline:
            whole_s = sum(result.seconds.values())  # 0 if less than half a millisecond
            share = result.seconds.get(result.label, 0.0) / whole_s if whole_s else 1.0
            facts = f"{result.probability:>11.1%}  {share:>5.0%}  {duration(result.duration_s):>10}"
            return f"{self._label(result.label)}{facts}{end}"
        return "".join(
            f"{clock(part.start_s):>11}  {clock(part.end_s):>11}  {self._label(part.label)}{part.probability:>11.1%}{end}"
            for part in result.segments
        )

    def _channel(self, cell: object) -> str:
        return f"  {cell!s:>7}" if self.by_channel else ""

    def _label(self, name: str) -> str:
        padded = f"{name:<13}"
        return f"\x1b[{COLOURS[name]}m{padded}\x1b[0m" if self.colour and name in COLOURS else padded


class ColourText(Text):
    """The table with labels in colour, for terminals."""

    colour = True


class JsonLines(Writer):
    """One record of schema `ms-edge/1` per line."""

    suffix = "jsonl"

    def record(self, result: Result) -> str:
        """Return one line."""
        return json_line(result, self.timeline)


class Json(Writer):
    """One JSON array of the records."""

    suffix = "json"
    between = ",\n"

    def begin(self) -> str:
        """Open the array."""
        return "[\n"

    def record(self, result: Result) -> str:
        """Return one element."""
        return "  " + json_text(result.record(self.timeline))

    def end(self, file: TextIO) -> None:
        """Close the array."""
        file.write("\n]\n")


class Table(Writer):
    """A table with a header row, for spreadsheets: one row per result or, with a timeline, per segment."""

    def _columns(self) -> list[str]:
        """Return the column names. New columns go last, so that the others keep their place.

        The last of all is `channel`, which is not always there.
        """
        scores = [f"score_{label}" for label in self.labels]
        channel = ["channel"] if self.by_channel else []
        if self.timeline:
            facts = ["error", "message", "warnings", "recorded_at"]
            level = ["music_to_speech_db", *LEVEL_ENDS] if self.levels else []
            return ["path", "start_s", "end_s", "label", "probability", *scores, *facts, *level, *channel]
        facts = ["duration_s", "sample_rate_hz", "channels", "warnings", "error", "message", "model", "provider"]
        last = ["recorded_at", "decoder", "container", "codec", *channel]
        return ["path", "label", "probability", *scores, *facts, *self._seconds({}), *last]

    def _rows(self, result: Result) -> list[dict[str, Any]]:
        if isinstance(result, Failure):
            return [{"path": result.path, "error": result.code, "message": result.message}]
        whole = result.record(self.timeline)
        rows = []
        for part in whole["segments"] if self.timeline else [whole]:
            row = {**part, "path": result.path, "warnings": " ".join(result.warnings)}
            row |= {"recorded_at": result.recorded_at, "channel": result.channel}
            row |= {f"score_{label}": score for label, score in part["scores"].items()}
            row |= dict(zip(LEVEL_ENDS, part.get("music_to_speech_db_interval", ()), strict=False))
            if not self.timeline:
                row |= self._seconds(result.seconds)
            rows.append(row)
        return rows

    def _seconds(self, seconds: dict[str, float]) -> dict[str, float]:
        """Return the columns of seconds. They sum to the duration of the recording.

        Every recording has the same columns. There is one for each label, one for several labels at
        once, and one for each label that is not the model's.
        """
        together = "+".join(self.labels) if len(self.labels) == 2 else "2+"  # no label contains a +
        found = {f"seconds_{name}": 0.0 for name in (*self.labels, together, "other", "silence", "uncertain")}
        for label, value in seconds.items():
            column = f"seconds_{together if '+' in label else label}"
            found[column] = round(found[column] + value, 3)
        return found


class Csv(Table):
    """Comma-separated values."""

    suffix = "csv"
    dialect: ClassVar[str] = "excel"

    def begin(self) -> str:
        """Return the header row."""
        return csv_line(self._columns(), self.dialect)

    def record(self, result: Result) -> str:
        """Return one row, or one row per segment."""
        rows = ([facts.get(column, "") for column in self._columns()] for facts in self._rows(result))
        return "".join(csv_line(row, self.dialect) for row in rows)


class Tsv(Csv):
    """Tab-separated values."""

    suffix = "tsv"
    dialect = "excel-tab"


def live_header(by_channel: bool) -> str:
    """Return the header of the table of a live stream."""
    return f"{SEGMENT_HEADER}{'  CHANNEL' if by_channel else ''}\n"


def live_line(part: Segment, channel: int | None) -> str:
    """Return the row of one window of a live stream, or of one of its channels."""
    end = "\n" if channel is None else f"  {channel:>7}\n"
    return f"{clock(part.start_s):>11}  {clock(part.end_s):>11}  {part.label:<13}{part.probability:>11.1%}{end}"


def json_line(result: Result, timeline: bool) -> str:
    """Return the record of a result as a line."""
    return line_of(result.record(timeline))


def line_of(record: dict[str, Any]) -> str:
    """Return a record of schema `ms-edge/1` as a line.

    The last field is the checksum of the line without that field.
    """
    text = json_text(record)
    return f'{text[:-1]}{CHECKSUM}{checksum(text.encode("ascii"))}"}}\n'


def json_text(record: dict[str, Any]) -> str:
    """Return a record as ASCII text. Lone surrogates stand for undecodable bytes of names."""
    return json.dumps(record, separators=(", ", ": "), allow_nan=False)


def checksum(text: bytes) -> str:
    """Return 64 bits of BLAKE2b as hexadecimal digits."""
    return blake2b(text, digest_size=8).hexdigest()


def is_as_written(line: bytes) -> bool:
    """Return whether `json_line` wrote exactly these bytes."""
    text, _, end = line.rpartition(CHECKSUM.encode())
    return line.isascii() and end == f'{checksum(text + b"}")}"}}\n'.encode()


def csv_line(cells: Iterable[object], dialect: str = "excel") -> str:
    """Return a row of a table, with a line end, in which no cell is a formula."""
    import csv

    out = io.StringIO()
    # csv quotes \r and \n in a cell only if the line end contains them, so it is replaced here.
    csv.writer(out, dialect).writerow(map(_not_a_formula, cells))
    return out.getvalue().removesuffix("\r\n") + "\n"


def _not_a_formula(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet would run, so that it is only shown.

    Text that begins with an apostrophe gets another one: removing the first apostrophe of a cell
    always gives the original text. Numbers and `-` (standard input) stay as they are.
    """
    if isinstance(cell, str) and cell.startswith((*FORMULA, "'")) and cell != "-":
        return f"'{cell}"
    return cell


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss.sss without leading zeros: 7.250, 3:07.250, 1:02:03.250."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{milliseconds / 1000:06.3f}"
    return f"{minutes}:{milliseconds / 1000:06.3f}" if minutes else f"{milliseconds / 1000:.3f}"


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss.s without leading zeros: 7.2 s, 3:07.2, 1:02:03.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    if not minutes:
        return f"{tenths / 10:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"


def printable(path: str) -> str:
    """Return a path as one printable line: escape control characters and undecodable bytes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in path
    )


def wants_colour() -> bool:
    """Return whether standard output shows colours and NO_COLOR is not set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
