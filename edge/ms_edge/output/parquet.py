"""Results as rows of Parquet: a table of recordings and a table of their segments.

The columns of a recording are the fields of its record (schema `ms-edge/1`), with the same names and
values, so that a row can be turned back into the record. Labels differ from model to model, so what
a record has for each label is a map. `settings` is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ms_edge.results import SCHEMA, Classification, Failure

_BY_LABEL = pa.map_(pa.string(), pa.float64())
_SEGMENT = (
    pa.field("start_s", pa.float64()),
    pa.field("end_s", pa.float64()),
    pa.field("label", pa.string()),
    pa.field("probability", pa.float64()),
    pa.field("scores", _BY_LABEL),
    pa.field("music_to_speech_db", pa.float64()),
    pa.field("music_to_speech_db_interval", pa.list_(pa.float64())),
)
RECORDINGS = pa.schema(
    [
        pa.field("schema", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("scores", _BY_LABEL),
        ("seconds", _BY_LABEL),
        ("duration_s", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int32()),
        ("channel", pa.int32()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("decoder", pa.string()),
        ("segments", pa.list_(pa.struct(_SEGMENT))),
        ("warnings", pa.list_(pa.string())),
        ("file", pa.struct([("bytes", pa.int64()), ("modified", pa.string()), ("etag", pa.string())])),
        ("recorded_at", pa.string()),
        ("settings", pa.string()),
        ("model", pa.string()),
        ("provider", pa.string()),
        ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
    ]
)
SEGMENTS = pa.schema([pa.field("path", pa.string(), nullable=False), ("recorded_at", pa.string()), *_SEGMENT])
_MAPS = ("scores", "seconds")


def row_of(result: Classification | Failure) -> dict[str, Any]:
    """Return a result as a row of RECORDINGS."""
    row = result.record(timeline=True)
    for name in _MAPS:
        if name in row:
            row[name] = list(row[name].items())
    for part in row.get("segments", ()):
        part["scores"] = list(part["scores"].items())
    if "settings" in row:
        row["settings"] = settings_text(row["settings"])
    return row


def settings_text(settings: dict[str, Any]) -> str:
    """Return the settings of a record as JSON, equal settings as equal text."""
    return json.dumps(settings, sort_keys=True)


def recordings_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Return rows as a table of the schema RECORDINGS."""
    return pa.Table.from_pylist(list(rows), schema=RECORDINGS)


def segments_table(recordings: pa.Table) -> pa.Table:
    """Return the segments of a table of recordings as a table of the schema SEGMENTS."""
    rows = [
        {"path": row["path"], "recorded_at": row["recorded_at"], **part}
        for row in recordings.select(["path", "recorded_at", "segments"]).to_pylist()
        for part in row["segments"] or ()
    ]
    return pa.Table.from_pylist(rows, schema=SEGMENTS)


def record_of_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the record of schema `ms-edge/1` that a row of RECORDINGS holds."""
    if row.get("error"):
        return {"schema": row.get("schema") or SCHEMA, "path": row["path"], "error": row["error"]}
    record = {name: value for name, value in row.items() if name != "error" and (name != "channel" or value)}
    for name in _MAPS:
        record[name] = dict(row[name] or ())
    record["segments"] = [
        {name: value for name, value in part.items() if value is not None} | {"scores": dict(part["scores"] or ())}
        for part in row["segments"] or ()
    ]
    record["settings"] = json.loads(row["settings"] or "{}")
    if record["file"]:
        record["file"] = {name: value for name, value in record["file"].items() if value is not None}
    return record
