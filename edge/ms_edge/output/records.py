"""Read records: what `ms-edge classify --format jsonl` and `ms-edge archive` wrote, as results again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from ms_edge.audio.opening import STDIN
from ms_edge.errors import DeviceError, UsageError, first_line, reason
from ms_edge.results import SCHEMA, Classification, Failure, Segment

NOT_JSON = "it is not JSON"
HUGE, MOST = 1e300, 1 << 53  # no number and no count of a record is larger
APART_S = 0.05  # the time of a live source follows a clock, which is corrected by milliseconds
MAX_LINE = 1 << 28  # bytes; a hundred hours with a segment for every window take half of it
JSON_LINES = ".jsonl"
# A dataset has files of Parquet in these folders: rows of recordings, and rows of segments.
RECORDINGS_FOLDER, SEGMENTS_FOLDER, PARQUET = "recordings", "segments", ".parquet"
ROWS = 256  # that are held at a time; a row may have thousands of segments


def are_records(path: str) -> bool:
    """Return whether a path is that of records, not of recordings: *.jsonl, or a dataset of `ms-edge archive`."""
    return path.lower().endswith(JSON_LINES) or bool(_parquet_files(path))


def read_records(path: str, complain: Callable[[str], None] | None = None) -> Iterator[Classification | Failure]:
    """Yield the results of a run, one at a time.

    The records of a live source that follow each other are one result. If the last line is
    incomplete, because the file is being written or its run was killed, `complain` is called with a
    sentence.

    The path is that of a file of JSON Lines, of a dataset that `ms-edge archive` wrote, which is a
    directory, or `-` for JSON Lines on standard input.

    Fields that a line lacks because an older version wrote it are empty, and fields of newer
    versions are ignored. A record without a timeline has no segments. Empty lines are skipped, and
    checksums are not compared, so lines may be filtered by other programs.

    Raises UsageError if the path cannot be read, for the first line or row that is no record, and for
    an incomplete last line without `complain`.
    Raises DeviceError if a dataset is to be read and pyarrow is not installed.
    """
    if path != STDIN and os.path.isdir(path):
        yield from _read_dataset(path)
        return
    yield from _joined(_read_lines(path, complain))


def _read_lines(path: str, complain: Callable[[str], None] | None) -> Iterator[Classification | Failure]:
    try:
        with open(0 if path == STDIN else path, "rb", closefd=path != STDIN) as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # programs on Windows put this mark before UTF-8
                if line.isspace():
                    continue
                try:
                    yield result_of(record_of(line))
                except ValueError as error:
                    if line.startswith(b"  ") or line.endswith(b"  \n"):  # it is just being made blank
                        continue
                    why = str(error)
                    if why == NOT_JSON and line.startswith(b"{") and not line.endswith(b"\n") and complain:
                        complain(
                            f"{path}: the last line is incomplete and left out; it is being written, or its run was killed."
                        )
                        return
                    if number > 1 and not line.endswith(b"\n"):
                        why += "; it is the last one, and cut off if its run was interrupted"
                    raise UsageError(
                        f"{path}: line {number:,} is no record of ms-edge ({why}); records are what "
                        "ms-edge classify --format jsonl writes."
                    ) from None
    except OSError as error:
        raise UsageError(f"{path}: the records cannot be read ({reason(error)}).") from None
    except ValueError:
        raise UsageError(f"{path!r}: not a usable file name.") from None


def is_live(result: Classification) -> bool:
    """Return whether a result is of a live source, which cannot be read again."""
    return "delay_s" in result.settings


def _joined(results: Iterable[Classification | Failure]) -> Iterator[Classification | Failure]:
    """Yield the results, with those of a live source that follow each other on one day as one."""
    stretches: dict[tuple[str, int | None], _Stretch] = {}
    for result in results:
        began = None
        if isinstance(result, Classification) and is_live(result) and result.segments:
            whole = all(round(part.start_s, 3) < round(part.end_s, 3) for part in result.segments)
            began = _moment(result.recorded_at) if whole else None
        if isinstance(result, Failure) or began is None:  # a record from elsewhere may lack anything
            yield result
            continue
        key = result.path, result.channel
        stretch = stretches.get(key)
        if stretch is None or not stretch.is_followed_by(began, result):
            if stretch:
                yield stretch.result()
            stretch = stretches[key] = _Stretch(began, result)
        stretch.add(result)
    yield from (stretch.result() for stretch in stretches.values())


class _Stretch:
    """The records of a live source that follow each other: what they have in common, and their segments."""

    def __init__(self, began: datetime, first: Classification) -> None:
        self._began, self._first = began, first
        self._duration_s = 0.0
        self._segments: list[Segment] = []

    def is_followed_by(self, began: datetime, result: Classification) -> bool:
        """Return whether a record begins on the same day and where the stretch ends, with the same settings."""
        apart_s = (began - self._began).total_seconds() - self._duration_s
        same = (result.settings, result.model) == (self._first.settings, self._first.model)
        return abs(apart_s) <= APART_S and began.date() == self._began.date() and same

    def add(self, result: Classification) -> None:
        """Add a record. A segment goes on if the last one has the same label."""
        for part in result.segments:
            start_s, end_s = (round(self._duration_s + at_s, 3) for at_s in (part.start_s, part.end_s))
            last = self._segments[-1] if self._segments else None
            if last and last.label == part.label and last.end_s == start_s:
                # The probability of a piece is that of its segment so far.
                self._segments[-1] = replace(part, start_s=last.start_s, end_s=end_s)
            else:
                self._segments.append(replace(part, start_s=start_s, end_s=end_s))
        self._duration_s = round(self._duration_s + result.duration_s, 3)

    def result(self) -> Classification:
        """Return the records as one. Its label is the one that lasts longest."""
        seconds = _seconds(tuple(self._segments))
        label = max(seconds, key=lambda name: seconds[name])
        weights: dict[str, float] = {}
        sums: dict[str, float] = {}
        for part in self._segments:
            for name, score in part.scores.items():
                weights[name] = weights.get(name, 0.0) + part.end_s - part.start_s
                sums[name] = sums.get(name, 0.0) + score * (part.end_s - part.start_s)
        same = [part for part in self._segments if part.label == label]
        return replace(
            self._first,
            label=label,
            probability=sum(part.probability * (part.end_s - part.start_s) for part in same) / seconds[label],
            scores={name: sums[name] / weights[name] for name in sums},
            seconds={name: round(value, 3) for name, value in seconds.items()},
            duration_s=self._duration_s,
            segments=tuple(self._segments),
        )


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=None)
    except ValueError:
        return None


def _parquet_files(directory: str) -> list[str]:
    """Return the files of a dataset in the order of their names; none if the directory holds no dataset."""
    folder = os.path.join(directory, RECORDINGS_FOLDER)
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []
    return [os.path.join(folder, name) for name in names if name.endswith(PARQUET) and not name.startswith((".", "_"))]


def _read_dataset(directory: str) -> Iterator[Classification | Failure]:
    files = _parquet_files(directory)
    if not files:
        where = f"{RECORDINGS_FOLDER}/*{PARQUET}"
        raise UsageError(f"{directory}: the records cannot be read (a directory of ms-edge archive has {where}).")
    for path in files:
        for number, row in enumerate(_rows(path), 1):
            try:
                yield result_of(row)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise UsageError(f"{path}: row {number:,} is no record of ms-edge ({first_line(error)}).") from None


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """Yield the records in a Parquet file. Raises UsageError if it cannot be read."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DeviceError(
            "no-ray",
            f"{path}: Parquet needs pyarrow, which is not installed (pip install pyarrow, or ms-edge with its extra ray).",
        ) from None
    from ms_edge.output.parquet import record_of_row

    try:
        with ParquetFile(path) as file:
            if "path" not in file.schema_arrow.names:
                raise ValueError("it has no column path")
            for batch in file.iter_batches(ROWS):
                yield from map(record_of_row, batch.to_pylist())
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: cannot be read as records of ms-edge ({first_line(error)}).") from None


def record_of(line: bytes) -> dict[str, Any]:
    """Return the record in a line. Raises ValueError, with the reason, if the line holds none."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(NOT_JSON) from None
    if not isinstance(record, dict) or not isinstance(record.get("schema"), str):
        raise ValueError(f'it has no "schema": "{SCHEMA}"')
    if record["schema"] != SCHEMA:
        raise ValueError(f"its schema is {record['schema'][:40]!r}, and this version reads {SCHEMA!r}")
    if not isinstance(record.get("path"), str):
        raise ValueError("its field path is missing or wrong")
    return record


def result_of(record: dict[str, Any]) -> Classification | Failure:
    """Return the result that a record states. Raises ValueError, with the reason, if a field is wrong."""
    if "error" in record:
        error = _field(record, "error", _is_object)
        message = _encodable(str(_field(error, "message", lambda value: isinstance(value, str))))
        return Failure(_encodable(record["path"]), _field(error, "code", _is_text), message)
    label, duration_s = _field(record, "label", _is_text), _field(record, "duration_s", _is_seconds)
    parts = map(_segment, _field(record, "segments", _is_list, []))
    segments = tuple(sorted(parts, key=lambda part: part.start_s))  # other programs may reorder them
    return Classification(
        path=_encodable(record["path"]),
        label=label,
        probability=_field(record, "probability", _is_number),
        scores=_field(record, "scores", _is_numbers, {}),
        seconds=_field(record, "seconds", _is_numbers, _seconds(segments) or {label: duration_s}),
        duration_s=duration_s,
        sample_rate_hz=_field(record, "sample_rate_hz", _is_count, 0),
        channels=_field(record, "channels", _is_count, 1),
        segments=segments,
        warnings=tuple(_field(record, "warnings", _is_texts, [])),
        file=_field(record, "file", _is_file, None),
        recorded_at=_field(record, "recorded_at", _is_text, None),
        settings=_field(record, "settings", _is_object, {}),
        model=_field(record, "model", _is_text, ""),
        provider=_field(record, "provider", _is_text, ""),
        decoder=_field(record, "decoder", _is_text, None),
        container=_field(record, "container", _is_text, None),
        codec=_field(record, "codec", _is_text, None),
        channel=_field(record, "channel", _is_count, None),
    )


def _segment(part: object) -> Segment:
    if not isinstance(part, dict):
        raise ValueError("a segment of it is no object")
    start_s, end_s = _field(part, "start_s", _is_seconds), _field(part, "end_s", _is_seconds)
    if end_s < start_s:
        raise ValueError("a segment of it ends before it starts")
    return Segment(
        start_s=start_s,
        end_s=end_s,
        label=_field(part, "label", _is_text),
        probability=_field(part, "probability", _is_number),
        scores=_field(part, "scores", _is_numbers, {}),
        music_to_speech_db=_field(part, "music_to_speech_db", _is_number, None),
        music_to_speech_db_interval=_interval(part),
    )


def _interval(part: dict[str, Any]) -> tuple[float, float] | None:
    ends = _field(part, "music_to_speech_db_interval", _is_list, None)
    if ends is None:
        return None
    if len(ends) != 2 or not all(map(_is_number, ends)):
        raise ValueError("its field music_to_speech_db_interval is wrong")
    return float(ends[0]), float(ends[1])


def _seconds(segments: tuple[Segment, ...]) -> dict[str, float]:
    """Return the seconds of each label."""
    found: dict[str, float] = {}
    for part in segments:
        found[part.label] = found.get(part.label, 0.0) + part.end_s - part.start_s
    return found


_NEEDED = object()


def _field(record: dict[str, Any], name: str, fits: Callable[[Any], bool], default: Any = _NEEDED) -> Any:
    """Return a field, or the default if it is missing or null. Raises ValueError if it is needed or does not fit."""
    value = record.get(name)
    if value is None and default is not _NEEDED:
        return default
    if not fits(value):
        raise ValueError(f"its field {name} is {'missing' if name not in record else 'wrong'}")
    return value


def _is_text(value: Any) -> bool:
    """Return whether a value is text without lone surrogates, which no file could hold."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value))


def _encodable(text: str) -> str:
    """Return a path or a message, of which surrogates that stand for no byte of a name are written as `\\ud800`."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and _is_count(value.get("bytes"))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -HUGE < value < HUGE  # false for NaN


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value)) and all(map(_is_number, value.values()))
