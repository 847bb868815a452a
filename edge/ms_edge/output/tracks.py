"""Segments for the programs in which people look at them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ms_edge.results import Classification, Failure

Result = Classification | Failure


def audacity(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    """A label track of Audacity and Tenacity (File > Import > Labels): start, end and label between tabs."""
    if isinstance(result, Failure):
        return ""
    return "".join(f"{part.start_s:.6f}\t{part.end_s:.6f}\t{part.label}\n" for part in result.segments)


def rttm(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    """Rich Transcription Time Marked lines (NIST RT-09 evaluation plan, appendix A), the label in the place of the speaker.

    A field holds no space, so those of paths and labels are percent-encoded. What failed is a comment.
    """
    name = _field(result.path)
    if isinstance(result, Failure):
        return f";; {name} {result.code}\n"
    return "".join(
        f"SPEAKER {name} 1 {part.start_s:.3f} {part.end_s - part.start_s:.3f} <NA> <NA> {_field(part.label)} {part.probability:.6f} <NA>\n"
        for part in result.segments
    )


def _field(text: str) -> str:
    return re.sub(
        r"[\s%\x00-\x1f\ud800-\udfff]",
        lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])),
        text,
    )


def textgrid(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    """A Praat TextGrid (long text format) with one interval tier."""
    if isinstance(result, Failure):
        return ""
    end_s = result.segments[-1].end_s
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_s:.3f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "ms-edge"',
        "        xmin = 0",
        f"        xmax = {end_s:.3f}",
        f"        intervals: size = {len(result.segments)}",
    ]
    for number, part in enumerate(result.segments, 1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {part.start_s:.3f}",
            f"            xmax = {part.end_s:.3f}",
            '            text = "{}"'.format(part.label.replace('"', '""')),
        ]
    return "\n".join(lines) + "\n"


def webvtt(result: Result, timeline: bool, labels: Sequence[str]) -> str:
    """WebVTT cues (w3.org/TR/webvtt1), for players that show subtitles."""
    if isinstance(result, Failure):
        return ""
    cues = [
        f"{_timestamp(part.start_s)} --> {_timestamp(part.end_s)}\n{_cue_text(part.label)}\n"
        for part in result.segments
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def _cue_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _timestamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
