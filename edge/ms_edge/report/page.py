"""The page of one recording: a file of HTML that holds all it needs, except a long recording itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any
from urllib.parse import quote

from ms_edge.output.writers import clock, duration, printable
from ms_edge.report.document import document, json_of, text, wavesurfer
from ms_edge.report.drawing import css_class, share_bar, timeline
from ms_edge.report.sound import Sound
from ms_edge.results import WARNINGS, Classification, Segment
from ms_edge.timeline import OTHER, SILENCE, UNCERTAIN

FIRST_TO_REVIEW = 12  # segments that the list of the least sure ones shows at first
LEVEL_COLUMN = (
    '<th scope="col" title="loudness of the music relative to the speech, and the interval that holds it in 90 % of '
    'cases">Music level</th>'
)
SIGNS = {SILENCE: "\u2013", UNCERTAIN: "?", "error": "!"}
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
    found: Classification,
    audio: str | None = None,
    *,
    sound: Sound | None = None,
    notes: Sequence[str] = (),
    index: str | None = None,
) -> str:
    """Return the page of a recording.

    `audio` is the address of the recording, relative to the page or with its data (None: it cannot
    be played). Without `sound` the page has neither waveform nor curves. `notes` are sentences about
    the page; `index` is the address of the page that lists all recordings.
    """
    name = printable(os.path.basename(found.path.rstrip("/\\")) or found.path)
    rows = tuple(found.scores)
    labels = choices(rows, found.segments)
    with_levels = any(map(_level, found.segments))
    data = {
        "path": found.path,
        "name": name,
        "signs": SIGNS,
        "review": FIRST_TO_REVIEW,
        "file": found.file,
        "channel": found.channel,
        "duration": found.duration_s,
        "rows": rows,
        "labels": labels,
        "segments": [
            [each.start_s, each.end_s, each.label, round(each.probability, 4), *filter(None, [_level(each)])]
            for each in found.segments
        ],
        **(_sound_data(sound) if sound else {}),
    }
    return document(
        text("page.html"),
        scripts(),
        title=escape(name),
        heading=escape(name),
        path=escape(printable(found.path)),
        back=f'<a href="{escape(index)}">All recordings</a>' if index else "",
        summary=_summary(found),
        totals=totals(found.seconds, found.duration_s),
        notes="".join(f'<p class="note">{escape(printable(note))}</p>' for note in notes),
        recording=recording(
            rows,
            labels,
            with_sound=sound is not None,
            with_levels=with_levels,
            with_curve=sound is not None and sound.levels is not None,
            picture=timeline(found, sound),
            audio=_audio(audio),
            review="".join(map(_review_item, least_sure(found)[:FIRST_TO_REVIEW])),
            segments="".join(_row(each, with_levels) for each in found.segments),
            facts=_facts(found),
        ),
        data=json_of(data),
    )


def scripts() -> list[str]:
    """Return the scripts of the page, which show what the JSON in its element `data` describes."""
    return [*wavesurfer(), text("common.js"), text("page.js")]


def recording(
    rows: Sequence[str],
    choices: Sequence[str],
    *,
    with_sound: bool,
    with_levels: bool = False,
    with_curve: bool = False,
    picture: str = "",
    audio: str = "",
    review: str = "",
    segments: str = "",
    facts: str = "",
) -> str:
    """Return the main part of the page; without the keywords from `picture` on, scripts have to fill it.

    `rows` are the labels of the model, `choices` those that a segment can be given. `with_levels` is
    true if the level of the music is known in any segment, `with_curve` if it is drawn.
    """
    return Template(text("recording.html")).substitute(
        names=_names(rows, with_sound, with_curve),
        level=LEVEL_COLUMN if with_levels else "",
        timeline=picture,
        audio=audio,
        choices="".join(
            f'<button type="button" data-label="{escape(label)}"><kbd>{number}</kbd>{swatch(label)}{escape(label)}</button>'
            for number, label in enumerate(choices, 1)
        ),
        review=review,
        rows=segments,
        facts=facts,
    )


def swatch(label: str) -> str:
    """Return the sign of a label: its initials in a frame of its colour."""
    sign = SIGNS.get(label) or "".join(part[:1].upper() for part in label.split("+"))
    return f'<span class="swatch {css_class(label)}" aria-hidden="true">{escape(sign)}</span>'


def totals(seconds: Mapping[str, float], duration_s: float) -> str:
    """Return a bar and a list of the time of each label, the longest first; "" if there are none."""
    ordered = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    items = "".join(
        f"<li>{swatch(label)}{escape(label)} <strong>{escape(duration(value))}</strong> "
        f"<small>{value / duration_s if duration_s else 0:.0%}</small></li>"
        for label, value in ordered.items()
    )
    return f'{share_bar(ordered)}<ul class="totals">{items}</ul>' if ordered else ""


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


def _sound_data(sound: Sound) -> dict[str, Any]:
    return {
        "peaks": base64.b64encode(sound.peaks.tobytes()).decode("ascii"),
        "scores": base64.b64encode(sound.scores.tobytes()).decode("ascii"),
        **({} if sound.levels is None else {"levels": base64.b64encode(sound.levels.tobytes()).decode("ascii")}),
        "centres": [round(each, 4) for each in sound.centres_s[[0, 1, -1] if len(sound.centres_s) > 1 else [0, 0, 0]]],
    }


def choices(rows: Sequence[str], segments: Sequence[Segment] = ()) -> list[str]:
    """Return the labels that a segment can be given: the model's, all of them at once, and those of no model."""
    together = ["+".join(rows)] if len(rows) > 1 else []
    found = [each.label for each in segments if each.label != UNCERTAIN]
    return list(dict.fromkeys([*rows, *together, OTHER, SILENCE, *found]))


def least_sure(found: Classification) -> list[Segment]:
    """Return the segments, those of the smallest probability first; silence is not among them."""
    return sorted((each for each in found.segments if each.label != SILENCE), key=lambda each: each.probability)


def _names(rows: Sequence[str], with_sound: bool, with_curve: bool) -> str:
    names = [("wave", "sound")] if with_sound else []
    names += [("tier", row) for row in rows]
    names += [("scores", "scores")] if with_sound else []
    names += [("levels", "music level")] if with_curve else []
    return "".join(f'<span class="{kind}">{escape(name)}</span>' for kind, name in names)


def _summary(found: Classification) -> str:
    parts = [
        f"{swatch(found.label)}<strong>{escape(found.label)}</strong> {found.probability:.1%}",
        escape(duration(found.duration_s)),
    ]
    if found.recorded_at:
        parts.append(f"recorded {escape(found.recorded_at)}")
    if found.channel:
        parts.append(f"channel {found.channel}")
    return " · ".join(parts)


def _audio(address: str | None) -> str:
    if address is None:
        return ""
    return f'<audio id="audio" controls preload="metadata" src="{escape(address)}"></audio>'


def _review_item(each: Segment) -> str:
    return (
        f"<li>{clock(each.start_s)} to {clock(each.end_s)} {swatch(each.label)}"
        f"{escape(each.label)} {each.probability:.0%}</li>"
    )


def _row(each: Segment, with_levels: bool) -> str:
    level = f"<td>{escape(_level(each))}</td>" if with_levels else ""
    return (
        f"<tr><td>{clock(each.start_s)}</td><td>{clock(each.end_s)}</td>"
        f"<td>{swatch(each.label)}{escape(each.label)}</td><td>{each.probability:.1%}</td>{level}</tr>"
    )


def _level(each: Segment) -> str:
    """Return the level of the music relative to the speech in a segment, and its interval; "" if it has none."""
    if each.music_to_speech_db is None or each.music_to_speech_db_interval is None:
        return ""
    low, high = each.music_to_speech_db_interval
    return f"{round(each.music_to_speech_db):+d} dB ({round(low):+d} to {round(high):+d})"


def _facts(found: Classification) -> str:
    codec = " ".join(filter(None, (found.container, found.codec)))
    facts = {
        "Format": f"{codec} {found.sample_rate_hz / 1000:g} kHz, {found.channels} channel"
        f"{'' if found.channels == 1 else 's'}",
        "Warnings": "; ".join(f"{each}: the recording {WARNINGS.get(each, '')}" for each in found.warnings) or "none",
        "ms-edge": str(found.settings.get("version", "")),
        "Model": found.model,
    }
    return "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
