"""Decode one file with PyAV in a process of its own:

    PACKAGES [FILE DEMUXER TRACK SAMPLES OPTION=VALUE...]

`media` starts it with these arguments where PyAV is installed. Like the program `ffmpeg` it writes a
WAV header and 32-bit floats to standard output, and to standard error the codec and what FFmpeg
complains about. Unlike it, it writes blocks of SAMPLES samples, each channel by channel: that is how
most codecs decode, and saves time. After the header it reads one byte from standard input: `m` for
the mean of two channels in their place. It imports nothing of ms-edge, and PyAV from the folder
PACKAGES. Without a FILE it only does that.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import sys
from fractions import Fraction
from typing import Any

# Libraries that decode more than FFmpeg itself: frames of silence in AMR, which telephones write.
BETTER = {"amr_nb": "libopencore_amrnb"}

# The decoder leaves no samples out. FFmpeg 8 takes the padding of ALAC in CAF off a last packet that
# has none, and so loses up to 4,095 samples.
SKIP_MANUAL = 1 << 29

# Written at a time, after the first that many, which are written as they come: should this process die,
# the reader has most of what it has decoded. Whenever one of two processes on a core gives way to the
# other, the caches have the wrong memory: with a write for each block, that takes 4 % of the time of AAC.
WRITE_BYTES = 1 << 20


def imported(packages: str) -> Any:
    """Import PyAV from a folder, and print its version."""
    sys.path.insert(0, packages)
    try:
        import av
        import av.logging
    except ImportError as error:
        sys.exit(f"{error}")
    print(f"  PyAV {av.__version__}", file=sys.stderr, flush=True)
    return av


def decode(av: Any, file: str, demuxer: str, track: int, block_samples: int, options: dict[str, str]) -> None:
    """Write the audio of a track, counted from 1."""
    from av.logging import ERROR, restore_default_callback, set_libav_level

    restore_default_callback()  # FFmpeg then prints to standard error itself
    set_libav_level(ERROR)
    try:
        container = av.open(file, format=demuxer, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        sys.exit(f"{error}")
    tracks = container.streams.audio
    if track > len(tracks):
        sys.exit(f"Stream map '0:a:{track - 1}' matches no streams.")
    stream = tracks[track - 1]
    for other in container.streams:
        if other is not stream and hasattr(other, "discard"):  # since PyAV 16
            other.discard = type(other.discard).all
    codec = stream.codec_context.codec
    name = getattr(codec, "canonical_name", codec.name)  # since PyAV 14; not that of a library, such as libopus
    decoder: Any = stream.codec_context
    if library := BETTER.get(name):
        with contextlib.suppress(ValueError):  # this build of FFmpeg lacks it
            decoder = av.CodecContext.create(library, "r")
            decoder.sample_rate, decoder.layout = stream.codec_context.sample_rate, "mono"
    used = decoder.codec.name
    print(f"  Stream #0:{stream.index} -> #0:0 ({name} ({used}) -> pcm_f32le (native))", file=sys.stderr, flush=True)
    if demuxer == "caf":
        decoder.flags2 |= SKIP_MANUAL
    _Output(av, block_samples).copy(container.demux(stream), decoder)


class _Output:
    """Standard output: blocks of samples, with the rate and the channels of the first frame."""

    def __init__(self, av: Any, block_samples: int) -> None:
        self._av, self._block_samples = av, block_samples
        self._first: Any = None  # the frame that decides about the rate and the channels
        self._block = 0  # frames
        self._held: Any = None  # samples of the present kind
        self._resampler: Any = None  # from the present kind to the first one, as planes of floats
        self._ready: Any = None  # samples that had to be converted
        self._mixer: Any = None  # from two channels to their mean
        self._unwritten: list[Any] = []  # planes of samples
        self._written = 0  # bytes

    def copy(self, packets: Any, decoder: Any) -> None:
        """Decode all packets. Errors of single packets are printed."""
        try:
            self._decode(packets, decoder)
            if self._first is not None:
                self._finish()
        finally:
            _write(self._unwritten)

    def _decode(self, packets: Any, decoder: Any) -> None:
        channels, held, decode = 0, self._held, decoder.decode  # local names save 2 % of the time
        while True:
            try:
                for packet in packets:
                    if packet.is_corrupt:
                        print("corrupt input packet", file=sys.stderr)
                    for frame in decode(packet if packet.size else None):
                        frame.pts = None
                        # AudioFifo compares the format and the rate itself, but not the channels.
                        if frame.layout.nb_channels != channels:
                            held, channels = self._begin(frame), frame.layout.nb_channels
                        try:
                            held.write(frame)
                        except ValueError:
                            held = self._begin(frame)
                            held.write(frame)
                        if held.samples >= self._block:
                            self._write_blocks()
                break
            except self._av.FFmpegError as error:  # of a packet, or of `packets`, a generator, which then ends
                print(f"Error while decoding: {error}", file=sys.stderr)

    def _write_blocks(self) -> None:
        for block in self._held.read_many(self._block):
            self._convert(block)

    def _begin(self, frame: Any) -> Any:
        """Begin with samples of another kind. Return the AudioFifo for them."""
        if self._first is None:
            self._first = frame
            self._block = max(1, self._block_samples // frame.layout.nb_channels)
            _write_header(frame.sample_rate, frame.layout.nb_channels)
            if os.read(0, 1) == b"m":
                self._mixer = _mixer(self._av, frame)
        else:
            self._end_kind()
        first = self._first
        if frame is not first or frame.format.name != "fltp":
            self._resampler = self._av.AudioResampler(format="fltp", layout=first.layout, rate=first.sample_rate)
            self._ready = self._ready or self._av.AudioFifo()
        self._held = self._av.AudioFifo()
        return self._held

    def _convert(self, frame: Any) -> None:
        if self._ready is None:
            self._write(frame)
            return
        for part in self._resampler.resample(frame):
            self._hold(part)
        for block in self._ready.read_many(self._block):
            self._write(block)

    def _end_kind(self) -> None:
        """Convert the last samples of a kind."""
        if self._ready is None:
            self._ready = self._av.AudioFifo()
            if self._held.samples:
                self._hold(self._held.read())
        else:
            if self._held.samples:
                self._convert(self._held.read())
            self._convert(None)

    def _hold(self, frame: Any) -> None:
        # Samples of different origin have different clocks, which AudioFifo would compare.
        frame.pts, frame.time_base = None, Fraction(1, self._first.sample_rate)
        self._ready.write(frame)

    def _finish(self) -> None:
        self._end_kind()
        if (last := self._ready.read()) is not None:
            self._write(last)

    def _write(self, frame: Any) -> None:
        if self._mixer:
            self._mixer.push(frame)
            frame = self._mixer.pull()
        for plane in frame.planes[: frame.layout.nb_channels]:  # PyAV 18 sees more planes than there are
            self._unwritten.append(memoryview(plane)[: frame.samples * 4])
        size = sum(map(len, self._unwritten))
        if size >= WRITE_BYTES or self._written < WRITE_BYTES:
            pieces, self._unwritten = self._unwritten, []
            _write(pieces)
            self._written += size


def _mixer(av: Any, first: Any) -> Any:
    """Return a filter that turns two channels of floats, as in the frame `first`, into their mean."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=first.sample_rate, format="fltp", layout=first.layout.name)
    graph.link_nodes(source, graph.add("pan", "mono|c0=0.5*c0+0.5*c1"), graph.add("abuffersink")).configure()
    return graph


def _write(pieces: list[Any]) -> None:
    """Write pieces to standard output at once, so that the reader wakes once for all of them."""
    left = [memoryview(piece) for piece in pieces if len(piece)]
    while left:
        written = os.writev(1, left) if hasattr(os, "writev") else os.write(1, left[0])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


def _write_header(rate_hz: int, channels: int) -> None:
    form = struct.pack("<HHIIHH", 3, channels, rate_hz, rate_hz * channels * 4, channels * 4, 32)
    _write([b"RIFF\xff\xff\xff\xffWAVEfmt ", struct.pack("<I", len(form)), form, b"data\xff\xff\xff\xff"])


def main() -> None:
    """Do what the description of this module says."""
    gc.disable()  # nothing here needs it, and it costs 3 ms of the import
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(1, os.O_BINARY)
    with contextlib.suppress(BrokenPipeError):
        packages, *given = sys.argv[1:]
        av = imported(packages)
        if given:
            file, demuxer, track, samples, *options = given
            decode(av, file, demuxer, int(track), int(samples), dict(each.split("=", 1) for each in options))
    sys.stderr.flush()
    os._exit(0)  # without cleaning up, which takes time
