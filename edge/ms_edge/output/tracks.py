"""Writers for programs that show segments: Audacity, Praat, video players, diarisation tools."""

from __future__ import annotations

import os
import re

from ms_edge.output.writers import Result, Results, Writer
from ms_edge.results import Classification, Failure, Segment


class Track(Writer):
    """A document of the segments of one recording. A Failure has none, and so an empty document."""

    timeline_only = True
    single = True

    def records(self, results: Results) -> str:
        """Return the whole document."""
        return "" if isinstance(results, Failure) else self.document(results)

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the document of a recording, or of its channels."""
        raise NotImplementedError


class Audacity(Track):
    """A label track of Audacity: start, end and label between tabs (File > Import > Labels).

    Labels of a channel begin with its name. Audacity shows labels that overlap in rows.
    """

    suffix = "labels.txt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return one line per segment."""
        return "".join(
            f"{part.start_s:.6f}\t{part.end_s:.6f}\t{'' if channel is None else f'channel {channel}: '}{part.label}\n"
            for part, channel in _in_order_of_time(found)
        )


class TextGrid(Track):
    """A Praat TextGrid in the long text format, with one interval tier, or one per channel."""

    suffix = "TextGrid"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header and the tiers."""
        end_s = found[0].segments[-1].end_s
        lines = [
            'File type = "ooTextFile"',
            'Object class = "TextGrid"',
            "",
            "xmin = 0",
            f"xmax = {end_s:.3f}",
            "tiers? <exists>",
            f"size = {len(found)}",
            "item []:",
        ]
        for item, each in enumerate(found, 1):
            lines += [
                f"    item [{item}]:",
                '        class = "IntervalTier"',
                f'        name = "{"ms-edge" if each.channel is None else f"channel {each.channel}"}"',
                "        xmin = 0",
                f"        xmax = {end_s:.3f}",
                f"        intervals: size = {len(each.segments)}",
            ]
            for number, part in enumerate(each.segments, 1):
                lines += [
                    f"        intervals [{number}]:",
                    f"            xmin = {part.start_s:.3f}",
                    f"            xmax = {part.end_s:.3f}",
                    '            text = "{}"'.format(part.label.replace('"', '""')),
                ]
        return "\n".join(lines) + "\n"


class WebVtt(Track):
    """WebVTT cues (w3.org/TR/webvtt1) for players that show subtitles.

    A channel is the voice of its cues. Cues are in order of their start, as the format demands.
    """

    suffix = "vtt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header and one cue per segment."""
        cues = [
            f"{_timestamp(part.start_s)} --> {_timestamp(part.end_s)}\n"
            f"{'' if channel is None else f'<v channel {channel}>'}{_cue_text(part.label)}\n"
            for part, channel in _in_order_of_time(found)
        ]
        return "WEBVTT\n\n" + "\n".join(cues)


class Rttm(Writer):
    """Rich Transcription Time Marked lines (NIST RT-09 evaluation plan, appendix A).

    The label is in the speaker field. Fields cannot contain spaces, so spaces in paths and labels
    are percent-encoded. A Failure is a comment.
    """

    suffix = "rttm"
    timeline_only = True

    def record(self, result: Result) -> str:
        """Return one line per segment."""
        name = _field(result.path)
        if isinstance(result, Failure):
            return f";; {name} {result.code}\n"
        return "".join(
            f"SPEAKER {name} {result.channel or 1} {part.start_s:.3f} {part.end_s - part.start_s:.3f} <NA> <NA> "
            f"{_field(part.label)} {part.probability:.6f} <NA>\n"
            for part in result.segments
        )


def _in_order_of_time(found: tuple[Classification, ...]) -> list[tuple[Segment, int | None]]:
    """Return the segments of all channels by their start, each with its channel."""
    parts = [(part, each.channel) for each in found for part in each.segments]
    return sorted(parts, key=lambda part: part[0].start_s)


def _field(text: str) -> str:
    """Percent-encode what a field of RTTM cannot contain."""
    return re.sub(
        r"[\s%\x00-\x1f\ud800-\udfff]",
        lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])),
        text,
    )


def _cue_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _timestamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
