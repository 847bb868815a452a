"""Receive live audio with PyAV in a process of its own:

    python -I -S pyav_live.py PACKAGES ADDRESS TRACK RATE [OPTION=VALUE...]

`sources` starts this script for each connection. It decodes an audio track, counted from 1, and
writes messages to standard output: a byte that says which (see `main`), a number of 64 bits in
little-endian order, and for samples that many bytes, 32-bit floats, frame by frame. RATE is that of
the samples in Hz, 0 for the rate of the source. Errors go to standard error. Time stamps show what
a network has lost: the script compares them with the samples that it has decoded. It imports
nothing of ms-edge, and PyAV from the folder PACKAGES.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import Any

WRITE_S = 0.1  # how much audio a message holds, so that the reader does not wake for each packet
# Time stamps that are this far, in seconds, ahead of the samples show that audio is missing. Less is
# rounding. More is another clock, as of a transmitter that has restarted.
LEAST_GAP_S, MOST_GAP_S = 0.1, 600.0


def main(av: Any, address: str, track: int, rate_hz: int, options: dict[str, str]) -> None:
    """Write the messages of a source until it ends:

    `E` 1 if the source has an end that is known now, as a recording has, otherwise 0; `R` the rate
    in Hz; `C` the number of channels; then `S` samples, and `G` frames that have been lost.
    """
    container = av.open(address, options=options, metadata_errors="replace")
    tracks = container.streams.audio
    if track > len(tracks):
        sys.exit("it has no audio track" if track == 1 else f"it has no audio track {track}")
    stream = tracks[track - 1]
    for other in container.streams:
        if other is not stream and hasattr(other, "discard"):  # since PyAV 16
            other.discard = type(other.discard).all
    _write(b"E", int(container.duration is not None))
    output = _Output(av, rate_hz)
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                output.take(frame)
        except av.FFmpegError as error:  # in this packet: the time stamp of the next one counts what is lost
            print(error, file=sys.stderr)
    output.flush(last=True)


class _Output:
    """Standard output: samples of one rate and one number of channels, and gaps between them."""

    def __init__(self, av: Any, rate_hz: int) -> None:
        self._av, self._rate_hz = av, rate_hz
        self._layout: Any = None
        self._kind: Any = None  # rate, format and channels of the last frame
        self._resampler: Any = None
        self._due_s = 0.0  # what the time stamp of the next frame should be
        self._known = False  # there is such a time
        self._samples = bytearray()  # not yet written
        self._most_bytes = 0

    def take(self, frame: Any) -> None:
        """Convert and write one decoded frame."""
        if self._layout is None:
            self._layout = frame.layout
            self._rate_hz = self._rate_hz or frame.sample_rate
            channels = frame.layout.nb_channels
            self._most_bytes = int(WRITE_S * self._rate_hz) * channels * 4
            _write(b"R", self._rate_hz)
            _write(b"C", channels)
        self._look_for_gap(frame)
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        if kind != self._kind:
            self._end_kind()
            self._kind = kind
            self._resampler = self._av.AudioResampler(format="flt", layout=self._layout, rate=self._rate_hz)
        frame.pts = None
        self._hold(self._resampler.resample(frame))

    def _look_for_gap(self, frame: Any) -> None:
        """Compare the time stamp of a frame with the samples before it."""
        if frame.pts is not None and frame.time_base:
            stamp_s = float(frame.pts * frame.time_base)
            ahead_s = stamp_s - self._due_s
            if self._known and LEAST_GAP_S <= ahead_s <= MOST_GAP_S:
                self.flush()
                _write(b"G", round(ahead_s * self._rate_hz))
            if not self._known or abs(ahead_s) >= LEAST_GAP_S:
                self._due_s, self._known = stamp_s, True
        self._due_s += frame.samples / frame.sample_rate

    def _end_kind(self) -> None:
        if self._resampler:
            self._hold(self._resampler.resample(None))

    def _hold(self, frames: list[Any]) -> None:
        for frame in frames:
            self._samples += memoryview(frame.planes[0])[: frame.samples * frame.layout.nb_channels * 4]
        if len(self._samples) >= self._most_bytes:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Write the samples that are held; with `last` also those that the resampler still has."""
        if last:
            self._end_kind()
        if self._samples:
            _write(b"S", len(self._samples), self._samples)
            self._samples = bytearray()


def _write(kind: bytes, number: int, data: bytes | bytearray = b"") -> None:
    left = memoryview(struct.pack("<cQ", kind, number) + data)
    while len(left):
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    packages, address, track, rate_hz, *given = sys.argv[1:]
    sys.path.insert(0, packages)
    try:
        import av
        import av.logging
    except ImportError as error:
        sys.exit(f"PyAV cannot be imported: {error}")
    av.logging.restore_default_callback()  # FFmpeg then prints to standard error itself
    av.logging.set_libav_level(av.logging.ERROR)
    status = 0
    with contextlib.suppress(BrokenPipeError):
        try:
            main(av, address, int(track), int(rate_hz), dict(each.split("=", 1) for each in given))
        except (av.FFmpegError, OSError, ValueError) as error:
            print(error, file=sys.stderr)
            status = 1
    sys.stderr.flush()
    os._exit(status)  # without cleaning up, which could wait for the network
