"""Decode one file with PyAV in a process of its own: `python -I -S pyav_child.py PACKAGES FILE TRACK DEMUXERS`.

`media` starts this script where PyAV is installed. It behaves like the program `ffmpeg`: WAV with
32-bit floats on standard output; on standard error the codec and what FFmpeg complains about. It is
no part of the package: it imports nothing but PyAV, which is in the folder PACKAGES.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import Any

BLOCK_FRAMES = 1 << 14  # converted and written at a time


def main(packages: str, file: str, track: int, demuxers: str) -> None:
    """Write the audio of a track, counted from 1."""
    sys.path.insert(0, packages)
    import av
    from av.logging import ERROR, restore_default_callback, set_libav_level

    restore_default_callback()  # FFmpeg then prints to standard error itself
    set_libav_level(ERROR)
    try:
        container = av.open(file, options={"protocol_whitelist": "file", "format_whitelist": demuxers})
    except (av.FFmpegError, OSError, ValueError) as error:
        sys.exit(f"{error}")
    tracks = container.streams.audio
    if track > len(tracks):
        sys.exit(f"Stream map '0:a:{track - 1}' matches no streams.")
    stream = tracks[track - 1]
    for other in container.streams:
        if other is not stream and hasattr(other, "discard"):  # since PyAV 16
            other.discard = type(other.discard).all
    name = stream.codec_context.name if stream.codec_context else "unknown"
    print(f"  Stream #0:{stream.index} -> #0:0 ({name} (native) -> pcm_f32le (native))", file=sys.stderr, flush=True)
    _Output(av).copy(container, stream)


class _Output:
    """Standard output, as WAV with the rate and the channels of the first decoded frame."""

    def __init__(self, av: Any) -> None:
        self._av = av
        self._first: Any = None  # the frame that decides about the rate and the channels
        self._last: Any = None
        self._fifo: Any = None
        self._resampler: Any = None

    def copy(self, container: Any, stream: Any) -> None:
        """Decode a stream to its end. Errors of single packets are printed."""
        packets, packet = container.demux(stream), None
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                if packet.is_corrupt:
                    print("corrupt input packet", file=sys.stderr)
                for frame in packet.decode():
                    self._add(frame)
            except self._av.FFmpegError as error:
                print(f"Error while decoding: {error}", file=sys.stderr)
                if packet is None or packet.size == 0:
                    break
        self._flush()

    def _add(self, frame: Any) -> None:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._last:
            self._flush()
            if self._first is None:
                self._first = frame
                _write_header(frame.sample_rate, len(frame.layout.channels))
            self._fifo = self._av.AudioFifo()
            first = self._first
            self._resampler = self._av.AudioResampler(format="flt", layout=first.layout, rate=first.sample_rate)
            self._last = kind
        frame.pts = None
        self._fifo.write(frame)
        while self._fifo.samples >= BLOCK_FRAMES:
            self._convert(self._fifo.read(BLOCK_FRAMES))

    def _flush(self) -> None:
        if self._last is not None:
            if self._fifo.samples:
                self._convert(self._fifo.read(0))
            self._convert(None)

    def _convert(self, frame: Any) -> None:
        # The resampler is quickest with many samples at a time.
        for done in self._resampler.resample(frame):
            size = done.samples * len(done.layout.channels) * 4
            _write(memoryview(done.planes[0])[:size])


def _write(data: Any) -> None:
    left = memoryview(data)
    while len(left):
        left = left[os.write(1, left) :]


def _write_header(rate_hz: int, channels: int) -> None:
    form = struct.pack("<HHIIHH", 3, channels, rate_hz, rate_hz * channels * 4, channels * 4, 32)
    _write(b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(form)) + form + b"data\xff\xff\xff\xff")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    sys.stderr.flush()
    os._exit(0)  # not a second for cleaning up
