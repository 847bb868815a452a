"""Lists of what was cut: for players (CUE, M3U) and for programs that cut themselves (EDL, FFmpeg)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ms_edge.errors import AudioError
from ms_edge.output.writers import clock
from ms_edge.results import Classification

CUE_TRACKS = 99
CUE_FRAMES, EDL_FRAMES = 75, 25  # per second
EDL_EVENTS = 999
EDL_HOURS = 24
EDL_RECORD_S = 3600  # by custom, the new programme begins at one hour


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, in seconds, and the file that it is in, relative to the list."""

    start_s: float
    end_s: float
    name: str = ""


@dataclass(frozen=True)
class List:
    """A format of lists: the suffix of its files, and a function that makes the text of one.

    Its arguments are those of `text`.
    """

    suffix: str
    make: Callable[[Classification, Sequence[Piece], bool], str]

    def text(self, found: Classification, pieces: Sequence[Piece], join: bool) -> str:
        """Return the list of the pieces of a recording, which are in one file if `join` is set.

        Raises AudioError if the format cannot hold it.
        """
        if any(end in f"{found.path}{pieces[0].name}" for end in "\r\n"):
            raise AudioError("cannot-write", f"{found.path}: a list cannot name a file with a line break in its name.")
        return self.make(found, pieces, join)


def cue(found: Classification, pieces: Sequence[Piece], join: bool) -> str:
    """Return a cue sheet of the written files (CDRWIN manual, appendix A), with a track per piece.

    Raises AudioError for more than 99 pieces.
    """
    _require_at_most(CUE_TRACKS, "cue sheet", found, pieces)
    lines, at_s = ['REM COMMENT "ms-edge"'], 0.0
    for number, piece in enumerate(pieces, 1):
        if number == 1 or not join:
            kind = "AIFF" if piece.name.lower().endswith((".aiff", ".aif")) else "WAVE"
            lines.append(f'FILE "{_field(piece.name)}" {kind}')
        minutes, frames = divmod(round(at_s * CUE_FRAMES), 60 * CUE_FRAMES)
        lines += [
            f"  TRACK {number:02} AUDIO",
            f'    TITLE "{_field(os.path.basename(found.path))} {clock(piece.start_s)}"',
            f"    INDEX 01 {minutes:02}:{frames // CUE_FRAMES:02}:{frames % CUE_FRAMES:02}",
        ]
        at_s += piece.end_s - piece.start_s if join else 0.0
    return "\n".join(lines) + "\n"


def m3u(found: Classification, pieces: Sequence[Piece], join: bool) -> str:
    """Return a playlist of the written files in the extended M3U format, in UTF-8."""
    title = os.path.basename(found.path)
    if join:
        played = [(pieces[0].name, sum(piece.end_s - piece.start_s for piece in pieces), title)]
    else:
        played = [(piece.name, piece.end_s - piece.start_s, f"{title} {clock(piece.start_s)}") for piece in pieces]
    # A line that begins with # is a comment, and one that begins with x: may be taken for a URL.
    lines = [f"#EXTINF:{round(seconds)},{title}\n./{name}\n" for name, seconds, title in played]
    return "#EXTM3U\n" + "".join(lines)


def edl(found: Classification, pieces: Sequence[Piece], join: bool) -> str:
    """Return an edit decision list of the recording (CMX 3600, 25 frames per second, all tracks).

    Raises AudioError for more than 999 pieces, and for times of 24 hours or more.
    """
    _require_at_most(EDL_EVENTS, "CMX 3600 edit decision list", found, pieces)
    lines, record = [f"TITLE: {_field(os.path.basename(found.path))}", "FCM: NON-DROP FRAME"], EDL_RECORD_S * EDL_FRAMES
    for number, piece in enumerate(pieces, 1):
        start, end = round(piece.start_s * EDL_FRAMES), round(piece.end_s * EDL_FRAMES)
        times = " ".join(map(_timecode, (start, end, record, record + end - start)))
        lines += [
            f"{number:03}  AX       AA/V  C        {times}",
            f"* FROM CLIP NAME: {_field(os.path.basename(found.path))}",
        ]
        record += end - start
        if max(end, record) >= EDL_HOURS * 3600 * EDL_FRAMES:
            raise AudioError(
                "cannot-write",
                f"{found.path}: has times of {EDL_HOURS} hours or more (new ones begin at 1 hour), which no CMX 3600 "
                "edit decision list can hold; cut a shorter recording, or give --list concat.",
            )
    return "\n".join(lines) + "\n"


def concat(found: Classification, pieces: Sequence[Piece], join: bool) -> str:
    """Return a script of FFmpeg's concat demuxer, which plays the parts of the recording itself."""
    path = os.path.abspath(found.path).replace("'", r"'\''")
    lines = [f"file '{path}'\ninpoint {piece.start_s:.6f}\noutpoint {piece.end_s:.6f}\n" for piece in pieces]
    return "ffconcat version 1.0\n" + "".join(lines)


LISTS = {
    "cue": List("cue", cue),
    "m3u": List("m3u8", m3u),
    "edl": List("edl", edl),
    "concat": List("ffconcat", concat),
}


def _require_at_most(most: int, name: str, found: Classification, pieces: Sequence[Piece]) -> None:
    if len(pieces) > most:
        raise AudioError(
            "cannot-write", f"{found.path}: has {len(pieces)} parts, and a {name} {most} at most; give a larger --pad."
        )


def _field(text: str) -> str:
    """Return text without double quotes, which end a field of these formats."""
    return text.replace('"', "'")


def _timecode(frames: int) -> str:
    seconds, frame = divmod(frames, EDL_FRAMES)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}"
