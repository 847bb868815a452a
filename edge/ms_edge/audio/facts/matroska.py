"""Facts about Matroska and WebM.

Sources: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from ms_edge.audio.facts.reader import EndOfFileError, Facts, Reader, TooManyStepsError, span
from ms_edge.audio.facts.times import utc

SINCE_2001_S = 978_307_200  # from 1970 to 2001
PARENTS = {  # the elements that are entered; all others are skipped
    0x18538067,  # Segment
    0x1549A966,  # Info
    0x1654AE6B,  # Tracks
    (TRACK := 0xAE),
    0xE1,  # Audio
    (CLUSTER := 0x1F43B675),
    0xA0,  # BlockGroup
}
SCALE, DATE = 0x2AD7B1, 0x4461
NUMBER, KIND, RATE, DELAY = 0xD7, 0x83, 0xB5, 0x56AA
TIME, SIMPLE_BLOCK, BLOCK = 0xE7, 0xA3, 0xA1
AUDIO_KIND = 2
NUMBERS = {SCALE, DATE, NUMBER, KIND, DELAY, TIME}
MAX_TRACKS = 10_000  # this limits memory
LONGEST_HEAD = 12  # bytes of an ID and a size
TICKS_OF_SLACK = 2  # the times of blocks are rounded
LATEST = 1 << 62  # ticks; a time has eight bytes, and one of a damaged file may be larger
SLACK_S = 0.02  # the first packet of Vorbis has no samples

Fields = dict[int, float]


class _Walk:
    """One pass over all elements of a file. Times are in ticks of `fields[SCALE]` ns."""

    def __init__(self, data: Reader, track: int) -> None:
        self._data, self._track = data, track
        self.cut = False
        self.fields: Fields = {SCALE: 1_000_000}
        self.tracks: list[Fields] = []
        self.times: array[int] = array("q")  # of the blocks of the chosen track

    def run(self) -> None:
        """Read all elements. Raises TooManyStepsError."""
        cluster, chosen = 0, b""
        try:
            for name, body, end in self._elements():
                if name in (SIMPLE_BLOCK, BLOCK):
                    head = self._data.at(body, len(chosen) + 2)
                    if chosen and head.startswith(chosen) and len(head) == len(chosen) + 2:
                        self.times.append(cluster + struct.unpack(">h", head[-2:])[0])
                elif name in NUMBERS or name == RATE:
                    value = self._value(name, body, end)
                    (self.tracks[-1] if name in (NUMBER, KIND, RATE, DELAY) and self.tracks else self.fields)[name] = (
                        value
                    )
                    cluster = min(int(value), LATEST) if name == TIME else cluster
                elif name == TRACK and len(self.tracks) < MAX_TRACKS:
                    self.tracks.append({})
                elif name == CLUSTER:
                    chosen = self._number_of_track()
        except EndOfFileError:
            self.cut = True

    def _elements(self) -> Iterator[tuple[int, int, int]]:
        """Yield the ID of each element, and the offsets of its body and its end.

        A parent is followed by its children, so a parent of unknown size needs no special care.
        Raises EndOfFileError if the file ends within the head of an element.
        """
        start, stop = 0, self._data.size
        while start < stop:
            self._data.step()
            head = self._data.at(start, LONGEST_HEAD)
            if not head:  # the file was shortened meanwhile
                raise EndOfFileError
            at = 9 - head[0].bit_length()  # both numbers begin with as many zero bits as bytes follow
            if at > 4:
                return  # these bytes are no element
            if len(head) <= at:
                raise EndOfFileError
            width = 9 - head[at].bit_length()
            if width > 8:
                return
            if len(head) < at + width:
                raise EndOfFileError
            name, body = int.from_bytes(head[:at], "big"), start + at + width
            size = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
            if body + size > stop and size < (1 << 7 * width) - 1:  # else the size is unknown
                self.cut = True
            yield name, body, body + size
            start = body if name in PARENTS else body + size

    def _value(self, name: int, body: int, end: int) -> float:
        width = end - body
        if name == RATE:
            form = {4: ">f", 8: ">d"}.get(width)
            return float(struct.unpack(form, self._data.number(body, width).to_bytes(width, "big"))[0]) if form else 0.0
        return self._data.number(body, min(width, 8)) if width else 0

    def _number_of_track(self) -> bytes:
        """Return the number of the chosen track as blocks state it; nothing if there is no such track."""
        heard = self.heard()
        number = int(heard[self._track - 1].get(NUMBER, 0)) if 1 <= self._track <= len(heard) else 0
        width = (number + 1).bit_length() // 7 + 1 if number else 0
        return (number | 1 << 7 * width).to_bytes(width, "big") if 0 < width <= 8 else b""

    def heard(self) -> list[Fields]:
        """Return the fields of the audio tracks."""
        return [fields for fields in self.tracks if fields.get(KIND) == AUDIO_KIND]


def facts(data: Reader, track: int) -> Facts:
    """Return what the elements state about the audio track with this number, from 1.

    The duration in the header is that of the longest track, so the times of the blocks are counted.
    """
    walk = _Walk(data, track)
    try:
        walk.run()
    except TooManyStepsError:
        return Facts(cut=walk.cut)
    tick_s = walk.fields[SCALE] / 1e9
    recorded_at = None
    if DATE in walk.fields:
        nanoseconds = int(walk.fields[DATE])
        nanoseconds -= (nanoseconds >> 63) << 64  # a signed number
        recorded_at = utc(nanoseconds / 1e9 + SINCE_2001_S, max(0.0, walk.times[0] * tick_s) if walk.times else 0.0)
    heard = walk.heard()
    if not walk.times or not tick_s or not 1 <= track <= len(heard):
        return Facts(cut=walk.cut, recorded_at=recorded_at)
    fields = heard[track - 1]
    rate = int(fields.get(RATE, 8000)) if 1 <= fields.get(RATE, 8000) < 1e9 else 8000
    seconds = max(0.0, span(walk.times) * tick_s - fields.get(DELAY, 0) / 1e9)
    return Facts(int(seconds * rate), rate, walk.cut, recorded_at, TICKS_OF_SLACK * tick_s + SLACK_S)
