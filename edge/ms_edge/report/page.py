"""The page of one recording: a file of HTML that holds all it needs, except a long recording itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import quote

from ms_edge.output.writers import clock, duration, printable
from ms_edge.report.drawing import css_class, share_bar, timeline
from ms_edge.report.sound import Sound
from ms_edge.results import WARNINGS

FIRST_TO_REVIEW = 12  # segments that the list of the least sure ones shows at first
OTHER_LABELS = ("other", "silence")  # labels that no model has
WAVESURFER = ("wavesurfer.min.js", "regions.min.js")  # see `make report-assets`
# The types of what browsers play, by the container that a record names.
PLAYED = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "audio/mp4",
    "webm": "audio/webm",
}


def page(
    record: Mapping[str, Any],
    audio: str | None,
    *,
    rows: Sequence[str],
    sound: Sound | None = None,
    notes: Sequence[str] = (),
    index: str | None = None,
) -> str:
    """Return the page of a record of schema `ms-edge/1` that has segments.

    `audio` is the address of the recording, relative to the page or with its data (None: it cannot
    be played). `rows` are the model's labels. `notes` are sentences about the page; `index` is the
    address of the page that lists all recordings.
    """
    name = printable(os.path.basename(record["path"].rstrip("/\\")) or record["path"])
    seconds, duration_s = record["seconds"], record["duration_s"]
    segments = record["segments"]
    data = {
        "path": record["path"],
        "file": record.get("file"),
        "channel": record.get("channel"),
        "duration": duration_s,
        "rows": list(rows),
        "labels": _choices(rows, segments),
        "segments": [[each["start_s"], each["end_s"], each["label"], each["probability"]] for each in segments],
        **(_sound_data(sound) if sound else {}),
    }
    return fill(
        "page",
        title=escape(name),
        heading=escape(name),
        path=escape(printable(record["path"])),
        back=f'<a href="{escape(index)}">All recordings</a>' if index else "",
        summary=_summary(record),
        totals=_totals(seconds, duration_s),
        notes="".join(f'<p class="note">{escape(printable(note))}</p>' for note in notes),
        names=_names(rows, sound is not None),
        timeline=timeline(segments, duration_s, rows, sound),
        audio=_audio(audio),
        choices="".join(
            f'<button type="button" data-label="{escape(label)}"><kbd>{number}</kbd>{swatch(label)}{escape(label)}</button>'
            for number, label in enumerate(data["labels"], 1)
        ),
        review="".join(map(_review_item, _least_sure(segments)[:FIRST_TO_REVIEW])),
        rows="".join(map(_row, segments)),
        facts=_facts(record),
        data=_json(data),
    )


def fill(name: str, **values: str) -> str:
    """Return the template `name` with values, its style sheet and its scripts.

    The page's Content-Security-Policy allows these scripts and styles, audio and nothing else: no
    other script runs, whatever a file name contains, and nothing is fetched from a network.
    """
    scripts = [*(_wavesurfer() if name == "page" else ()), _text(f"{name}.js")]
    hashes = " ".join(f"'sha256-{_digest(each)}'" for each in scripts)
    nonce = _digest("".join(values.values()))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'nonce-{nonce}'; img-src data:; "
        "media-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
    )
    return Template(_text(f"{name}.html")).substitute(
        values,
        policy=policy,
        nonce=nonce,
        style=_text("report.css"),
        scripts="".join(f"<script>{each}</script>\n" for each in scripts),
    )


def swatch(label: str) -> str:
    """Return the sign of a label: its colour and pattern, with its initials."""
    initials = "".join(part[:1].upper() for part in label.split("+"))
    return f'<span class="swatch {css_class(label)}" aria-hidden="true">{escape(initials)}</span>'


def relative_address(path: str, page_path: str) -> str:
    """Return the address of a file as a page at `page_path` names it."""
    try:
        relative = os.path.relpath(os.path.abspath(path), os.path.dirname(os.path.abspath(page_path)))
    except ValueError:  # on another drive
        from pathlib import Path

        return Path(path).absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def data_address(path: str, container: str | None) -> str:
    """Return the content of a file as an address. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode("ascii")
    return f"data:{PLAYED.get(container or '', 'application/octet-stream')};base64,{content}"


@cache
def _text(name: str) -> str:
    return resources.files("ms_edge.report").joinpath(name).read_text("utf-8")


def _wavesurfer() -> list[str]:
    """Return the scripts of wavesurfer.js, with its licence; none if they are not installed."""
    try:
        licence, *scripts = (_text(f"assets/{name}") for name in ("LICENSE", *WAVESURFER))
    except FileNotFoundError:
        return []
    return [f"/*! wavesurfer.js\n{licence.replace('*/', '')}*/\n{scripts[0]}", *scripts[1:]]


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(data: object) -> str:
    """Return JSON that ends no `<script>` element, whatever text is in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _sound_data(sound: Sound) -> dict[str, Any]:
    return {
        "peaks": base64.b64encode(sound.peaks.tobytes()).decode("ascii"),
        "bin_s": sound.bin_s,
        "scores": base64.b64encode(sound.scores.tobytes()).decode("ascii"),
        "centres": [round(each, 4) for each in sound.centres_s[[0, 1, -1] if len(sound.centres_s) > 1 else [0, 0, 0]]],
    }


def _choices(rows: Sequence[str], segments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels that a segment can be given: the model's, all of them at once, and those of no model."""
    together = ["+".join(rows)] if len(rows) > 1 else []
    found = [label for each in segments if (label := each["label"]) != "uncertain"]
    return list(dict.fromkeys([*rows, *together, *OTHER_LABELS, *found]))


def _least_sure(segments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted((each for each in segments if each["label"] != "silence"), key=lambda each: float(each["probability"]))


def _names(rows: Sequence[str], with_sound: bool) -> str:
    names = [("wave", "sound")] if with_sound else []
    names += [("tier", row) for row in rows]
    names += [("scores", "scores")] if with_sound else []
    return "".join(f'<span class="{kind}">{escape(name)}</span>' for kind, name in names)


def _summary(record: Mapping[str, Any]) -> str:
    label = record["label"]
    parts = [
        f"{swatch(label)}<strong>{escape(label)}</strong> {record['probability']:.1%}",
        escape(duration(record["duration_s"])),
    ]
    if record.get("recorded_at"):
        parts.append(f"recorded {escape(str(record['recorded_at']))}")
    if record.get("channel"):
        parts.append(f"channel {record['channel']}")
    return " · ".join(parts)


def _totals(seconds: Mapping[str, float], duration_s: float) -> str:
    items = "".join(
        f"<li>{swatch(label)}{escape(label)} <strong>{escape(duration(value))}</strong> "
        f"<small>{value / duration_s if duration_s else 0:.0%}</small></li>"
        for label, value in sorted(seconds.items(), key=lambda item: -item[1])
    )
    return f'{share_bar(seconds, duration_s)}<ul class="totals">{items}</ul>'


def _audio(address: str | None) -> str:
    if address is None:
        return ""
    return f'<audio id="audio" controls preload="metadata" src="{escape(address)}"></audio>'


def _review_item(each: Mapping[str, Any]) -> str:
    return (
        f"<li>{clock(each['start_s'])} to {clock(each['end_s'])} {swatch(each['label'])}"
        f"{escape(each['label'])} {each['probability']:.0%}</li>"
    )


def _row(each: Mapping[str, Any]) -> str:
    return (
        f"<tr><td>{clock(each['start_s'])}</td><td>{clock(each['end_s'])}</td>"
        f"<td>{swatch(each['label'])}{escape(each['label'])}</td><td>{each['probability']:.1%}</td></tr>"
    )


def _facts(record: Mapping[str, Any]) -> str:
    codec = " ".join(str(record[each]) for each in ("container", "codec") if record.get(each))
    facts = {
        "Format": f"{codec} {record['sample_rate_hz'] / 1000:g} kHz, {record['channels']} channel"
        f"{'' if record['channels'] == 1 else 's'}",
        "Warnings": "; ".join(f"{each}: the recording {WARNINGS.get(each, '')}" for each in record["warnings"]) or "none",
        "ms-edge": str(record["settings"].get("version", "")),
        "Model": record["model"],
    }
    return "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
