"""Writers for programs that show segments: label editors, video players, diarisation tools."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from ms_edge.audio.opening import STDIN
from ms_edge.output.writers import Result, Results, UnwritableError, Writer
from ms_edge.results import Classification, Failure, Segment

CUE_TRACKS = 99  # the most that a cue sheet can number


class Tier(NamedTuple):
    """Segments that do not overlap: all of a channel, or those of one label."""

    name: str
    prefix: str  # of labels where several tiers become one list, for example `channel 1: `
    channel: int | None
    segments: tuple[Segment, ...]


def tiers_of(found: Sequence[Classification], labels: Sequence[str], separate: bool) -> list[Tier]:
    """Return the tiers of a recording or of its channels.

    There is one for each channel or, if `separate` is set, one for each label of the model and
    channel. `other`, `silence` and `uncertain` are in none of the latter.
    """
    tiers = []
    for each in found:
        prefix = "" if each.channel is None else f"channel {each.channel}: "
        if separate:
            for label in labels:
                tiers.append(Tier(f"{prefix}{label}", prefix, each.channel, where(label, each.segments)))
        else:
            name = "ms-edge" if each.channel is None else f"channel {each.channel}"
            tiers.append(Tier(name, prefix, each.channel, each.segments))
    return tiers


def where(label: str, parts: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the stretches in which a label holds, alone or with others.

    Their probability is the mean score of the label, weighted by time.
    """
    found: list[Segment] = []
    for part in parts:
        if label not in part.label.split("+"):
            continue
        start_s, score = part.start_s, part.scores[label]
        if found and found[-1].end_s == start_s:
            before = found.pop()
            share = (part.end_s - start_s) / (part.end_s - before.start_s)
            start_s, score = before.start_s, before.probability + share * (score - before.probability)
        found.append(Segment(start_s, part.end_s, label, score, {label: score}))
    return tuple(found)


class Track(Writer):
    """A document of the segments of one recording. A Failure has none, and so an empty document."""

    timeline_only = True
    single = True
    overlaps = True

    def records(self, results: Results) -> str:
        """Return the whole document."""
        return "" if isinstance(results, Failure) else self.document(results)

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the document of a recording, or of its channels."""
        raise NotImplementedError

    def _tiers(self, found: tuple[Classification, ...]) -> list[Tier]:
        return tiers_of(found, self.labels, self.tiers)

    def _in_order_of_time(self, found: tuple[Classification, ...]) -> list[tuple[Segment, Tier]]:
        """Return the segments of all tiers by their start, each with its tier."""
        parts = [(part, tier) for tier in self._tiers(found) for part in tier.segments]
        return sorted(parts, key=lambda part: part[0].start_s)


class Audacity(Track):
    """A label track of Audacity: start, end and label between tabs (File > Import > Labels).

    Labels of a channel begin with its name. Audacity shows labels that overlap in rows.
    """

    suffix = "labels.txt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return one line per segment."""
        return "".join(
            f"{part.start_s:.6f}\t{part.end_s:.6f}\t{tier.prefix}{part.label}\n"
            for part, tier in self._in_order_of_time(found)
        )


class TextGrid(Track):
    """A Praat TextGrid in the long text format, with interval tiers.

    Intervals of a tier follow each other without gaps, as Praat expects: where nothing is, the
    label is empty.
    """

    suffix = "TextGrid"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header and the tiers."""
        end_s = found[0].segments[-1].end_s
        tiers = self._tiers(found)
        lines = [
            'File type = "ooTextFile"',
            'Object class = "TextGrid"',
            "",
            "xmin = 0",
            f"xmax = {end_s:.3f}",
            "tiers? <exists>",
            f"size = {len(tiers)}",
            "item []:",
        ]
        for item, tier in enumerate(tiers, 1):
            intervals = _without_gaps(tier.segments, end_s)
            lines += [
                f"    item [{item}]:",
                '        class = "IntervalTier"',
                f"        name = {_praat_text(tier.name)}",
                "        xmin = 0",
                f"        xmax = {end_s:.3f}",
                f"        intervals: size = {len(intervals)}",
            ]
            for number, (start_s, stop_s, label) in enumerate(intervals, 1):
                lines += [
                    f"        intervals [{number}]:",
                    f"            xmin = {start_s:.3f}",
                    f"            xmax = {stop_s:.3f}",
                    f"            text = {_praat_text(label)}",
                ]
        return "\n".join(lines) + "\n"


class Elan(Track):
    """An annotation document of ELAN, in the EAF format 3.0 (mpi.nl/tools/elan/EAF_Annotation_Format_3.0.pdf).

    It names the recording, so that ELAN opens both. ELAN demands a date; it is the time at which
    the recording was last changed, so that the same input gives the same document.
    """

    suffix = "eaf"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header, the times and the tiers."""
        tiers = self._tiers(found)
        ends = [end for tier in tiers for part in tier.segments for end in (part.start_s, part.end_s)]
        # Times are in ascending order. Each end of a segment has its own, so that ELAN moves it alone.
        order = sorted(range(len(ends)), key=ends.__getitem__)
        slot = dict(zip(order, range(1, len(ends) + 1), strict=True))
        path = found[0].path
        changed = str((found[0].file or {}).get("modified", ""))
        date = changed if changed[:1].isdigit() else "1970-01-01T00:00:00Z"  # XML has no sign before a year
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<ANNOTATION_DOCUMENT AUTHOR="ms-edge" DATE="{date}" '
            'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">',
            '    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">',
        ]
        if found[0].file and path != STDIN:
            kind = "audio/x-wav" if found[0].container == "wav" else "unknown"  # ELAN's names
            lines += [f'        <MEDIA_DESCRIPTOR MEDIA_URL="{_xml(_url(path))}" MIME_TYPE="{kind}"/>']
        lines += ["    </HEADER>", "    <TIME_ORDER>"]
        for number, at in enumerate(order, 1):
            lines.append(f'        <TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{round(ends[at] * 1000)}"/>')
        lines.append("    </TIME_ORDER>")
        number = 0
        for tier in tiers:
            lines.append(f'    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{_xml(tier.name)}">')
            for part in tier.segments:
                lines += [
                    "        <ANNOTATION>",
                    f'            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number + 1}" '
                    f'TIME_SLOT_REF1="ts{slot[2 * number]}" TIME_SLOT_REF2="ts{slot[2 * number + 1]}">',
                    f"                <ANNOTATION_VALUE>{_xml(part.label)}</ANNOTATION_VALUE>",
                    "            </ALIGNABLE_ANNOTATION>",
                    "        </ANNOTATION>",
                ]
                number += 1
            lines.append("    </TIER>")
        lines += [
            '    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>',
            "</ANNOTATION_DOCUMENT>",
        ]
        return "\n".join(lines) + "\n"


class Raven(Track):
    """A selection table of Raven (File > Open Selection Table), the Cornell Lab of Ornithology's program.

    A selection spans all frequencies of the recording. Raven counts channels from 1.
    """

    suffix = "selections.txt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header and one row per segment."""
        rows = [
            "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
            "Annotation\tProbability\n"
        ]
        for number, (part, tier) in enumerate(self._in_order_of_time(found), 1):
            rows.append(
                f"{number}\tSpectrogram 1\t{tier.channel or 1}\t{part.start_s:.3f}\t{part.end_s:.3f}\t0\t"
                f"{found[0].sample_rate_hz / 2:g}\t{part.label}\t{part.probability:.6f}\n"
            )
        return "".join(rows)


class WebVtt(Track):
    """WebVTT cues (w3.org/TR/webvtt1) for players that show subtitles.

    A channel is the voice of its cues. Cues are in order of their start, as the format demands.
    """

    suffix = "vtt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the header and one cue per segment."""
        cues = [
            f"{_timestamp(part.start_s)} --> {_timestamp(part.end_s)}\n"
            f"{'' if tier.channel is None else f'<v channel {tier.channel}>'}{_xml(part.label)}\n"
            for part, tier in self._in_order_of_time(found)
        ]
        return "WEBVTT\n\n" + "\n".join(cues)


class Srt(Track):
    """SubRip subtitles. They have no standard; this is what players agree on. Labels name the channel."""

    suffix = "srt"

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return one subtitle per segment."""
        parts = enumerate(self._in_order_of_time(found), 1)
        return "\n".join(
            f"{number}\n{_timestamp(part.start_s, ',')} --> {_timestamp(part.end_s, ',')}\n{tier.prefix}{part.label}\n"
            for number, (part, tier) in parts
        )


class Cue(Track):
    """A cue sheet with a track per segment (CDRWIN manual, appendix A), for players of long recordings.

    It names the recording. The time is minutes, seconds and frames of 1/75 s.
    """

    suffix = "cue"
    overlaps = False

    def document(self, found: tuple[Classification, ...]) -> str:
        """Return the sheet. Raises UnwritableError for several channels or more than 99 segments."""
        (only, *others) = found
        if others:
            raise UnwritableError(f"{only.path}: a cue sheet describes one channel; choose it with --channels N.")
        if len(only.segments) > CUE_TRACKS:
            raise UnwritableError(
                f"{only.path}: has {len(only.segments)} segments, and a cue sheet {CUE_TRACKS} tracks at most; "
                "give a larger --min-duration.",
            )
        kind = {"mp3": "MP3", "aiff": "AIFF"}.get(only.container or "", "WAVE")
        lines = ['REM COMMENT "ms-edge"', f"FILE {_quoted(os.path.abspath(only.path))} {kind}"]
        for number, part in enumerate(only.segments, 1):
            minutes, frames = divmod(round(part.start_s * 75), 60 * 75)
            lines += [
                f"  TRACK {number:02} AUDIO",
                f"    TITLE {_quoted(part.label)}",
                f"    INDEX 01 {minutes:02}:{frames // 75:02}:{frames % 75:02}",
            ]
        return "\n".join(lines) + "\n"


class Rttm(Writer):
    """Rich Transcription Time Marked lines (NIST RT-09 evaluation plan, appendix A).

    The label is in the speaker field. Fields cannot contain spaces, so spaces in paths and labels
    are percent-encoded. A Failure is a comment, and so is a recording without segments.
    Comments have three fields: pyannote reads a number in the fourth of any line.
    """

    suffix = "rttm"
    timeline_only = True
    overlaps = True

    def record(self, result: Result) -> str:
        """Return one line per segment."""
        name = _field(result.path)
        if isinstance(result, Failure):
            return f";; {name} {result.code}\n"
        lines = "".join(
            f"SPEAKER {name} {result.channel or 1} {part.start_s:.3f} {part.end_s - part.start_s:.3f} <NA> <NA> "
            f"{_field(part.label)} {part.probability:.6f} <NA>\n"
            for tier in tiers_of((result,), self.labels, self.tiers)
            for part in tier.segments
        )
        return lines or f";; {name} no-segments\n"


def _without_gaps(parts: Sequence[Segment], end_s: float) -> list[tuple[float, float, str]]:
    """Return start, end and label of segments and of the gaps between them, whose label is empty."""
    found = []
    at = 0.0
    for part in parts:
        if part.start_s > at:
            found.append((at, part.start_s, ""))
        found.append((part.start_s, part.end_s, part.label))
        at = part.end_s
    return [*found, (at, end_s, "")] if at < end_s else found


def _praat_text(text: str) -> str:
    """Return a string of Praat: quotes are doubled."""
    return '"{}"'.format(text.replace('"', '""'))


def _field(text: str) -> str:
    """Percent-encode what a field of RTTM cannot contain."""
    return re.sub(
        r"[\s%\x00-\x1f\ud800-\udfff]",
        lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])),
        text,
    )


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _quoted(text: str) -> str:
    """Return a string of a cue sheet, where a quote or a control character cannot stand."""
    return '"{}"'.format(re.sub(r"[\x00-\x1f\x7f]", "?", text.replace('"', "'")))


def _url(path: str) -> str:
    """Return the URL of a file."""
    from pathlib import Path

    return Path(os.path.abspath(path)).as_uri()


def _timestamp(seconds: float, point: str = ".") -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
