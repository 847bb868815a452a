"""`ms-edge summary`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ms_edge.audio.opening import STDIN
from ms_edge.cli.descriptors import write_like_a_file
from ms_edge.errors import UsageError, reason
from ms_edge.output.destination import replacing, require_no_recording
from ms_edge.output.records import read_records
from ms_edge.output.writers import printable
from ms_edge.report import summary_tables
from ms_edge.report.summary import WIDTH_S, Summary

FORMATS = {".txt": "text", ".csv": "csv", ".json": "json", ".xlsx": "xlsx", ".png": "png", ".svg": "svg"}


@dataclass(frozen=True)
class Options:
    """The options of `ms-edge summary`; the fields are the options' names."""

    records: list[str]
    by: str
    each: bool
    time_pattern: str | None
    format: str | None
    output: str | None


def run(options: Options) -> int:
    """Add up the records, write the totals, and return the exit status."""
    name = _format(options)
    summary = Summary(options.by, options.time_pattern, each=options.each)
    for path in options.records:
        for result in read_records(path, _complain):
            summary.add(result)
    if options.output is None:
        if name != "text":
            write_like_a_file(sys.stdout)
        sys.stdout.write(_document(summary, name, sys.stdout.encoding))
    else:
        _write(summary, name, options.output)
    if name not in ("text", "json"):  # which contain the notes
        print(f"ms-edge: {printable(' '.join(summary_tables.notes(summary)))}", file=sys.stderr)
    return 0


def _complain(message: str) -> None:
    print(f"ms-edge: {printable(message)}", file=sys.stderr)


def _format(options: Options) -> str:
    """Return the name of the output format. Raises UsageError if options contradict each other."""
    if options.records.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    if options.time_pattern is not None and options.by not in WIDTH_S:
        raise UsageError(f"--time-pattern needs --by {' or '.join(WIDTH_S)}.")
    if options.each and options.by not in WIDTH_S:
        raise UsageError(f"--each needs --by {' or '.join(WIDTH_S)}.")
    if options.output is None:
        return options.format or "text"
    require_no_recording(options.output, options.records)
    suffix = os.path.splitext(options.output)[1].lower()
    if options.format:
        return options.format
    if suffix and suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"{options.output}: a summary has one of the suffixes {known}, not {suffix} (or give --format)."
        )
    if options.each and FORMATS[suffix or ".txt"] in ("png", "svg"):
        raise UsageError("A chart shows all files together; leave out --each, or write a table.")
    return FORMATS[suffix or ".txt"]


def _document(summary: Summary, name: str, encoding: str) -> str:
    """Return the text of a format that is text."""
    if name == "csv":
        return summary_tables.csv_text(summary)
    if name == "json":
        return summary_tables.json_text(summary)
    try:
        summary_tables.BLOCKS.encode(encoding)
        ascii_only = False
    except UnicodeEncodeError:
        ascii_only = True
    return summary_tables.text(summary, ascii_only=ascii_only)


def _write(summary: Summary, name: str, output: str) -> None:
    """Write a file. Raises UsageError if that is impossible."""
    try:
        with replacing(output) as file:
            if name == "xlsx":
                summary_tables.xlsx(summary, file)
            elif name in ("png", "svg"):
                from ms_edge.report.summary_chart import chart  # imported here because matplotlib is optional

                chart(summary, file, name)
            else:
                file.write(_document(summary, name, "utf-8").encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({reason(error)}).") from None
