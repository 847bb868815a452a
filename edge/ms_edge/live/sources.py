"""Live sources: where they are, and how their samples reach this process.

A source is standard input, a program that records from a sound card, or PyAV for everything that
FFmpeg receives. The last two are processes of their own, so that a decoder that crashes, hangs or
leaks ends alone. A `Connection` reads what has arrived and never waits: one loop serves them all.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import numpy as np

from ms_edge._version import __version__
from ms_edge.arrays import Float32
from ms_edge.audio.media import PYAV_ERROR, limits, pyav
from ms_edge.audio.raw import RAW_FORMATS, RawFormat
from ms_edge.audio.riff import Header, read_header
from ms_edge.audio.source import Samples, require_plausible
from ms_edge.errors import AudioError, DeviceError, MsEdgeError, UsageError, reason
from ms_edge.live.pipes import enlarge_pipe

STDIN = "-"
CARD = RawFormat(48_000, 1, "s16le")  # how sound cards record, if --raw does not say it
# What records: the program, its package in Debian, and its arguments before the name of the device.
RECORDERS = {
    "alsa": ("arecord", "alsa-utils", ["-q", "-t", "raw", "-D"]),
    "pulse": ("parec", "pulseaudio-utils", ["--raw", "--latency-msec=100", "-d"]),
}
# PulseAudio's names of sample formats that are not FFmpeg's in lower case.
PULSE_FORMATS = {"f32le": "float32le", "f32be": "float32be", "mulaw": "ulaw"}
ALSA_FORMATS = {
    "u8": "U8",
    "s8": "S8",
    "alaw": "A_LAW",
    "mulaw": "MU_LAW",
    **{
        f"{name}{order}": f"{alsa}{order.upper()}"
        for name, alsa in {"s16": "S16_", "s24": "S24_3", "s32": "S32_", "f32": "FLOAT_", "f64": "FLOAT64_"}.items()
        for order in ("le", "be")
    },
}
INSTALL = (
    "install it (in a clone of ms-edge: pip install '.[media]'), or let the program ffmpeg write to standard input "
    "(ffmpeg -i URL -f wav - | ms-edge monitor -)"
)
READ_BYTES = 1 << 19
MOST_HEADER = 1 << 20  # bytes before the samples of a WAV stream
MESSAGE_BYTES = 1 << 12  # kept of the last messages of a process
END_S = 2.0  # how long a process that was killed may take to end
SDP = ".sdp"  # descriptions of RTP sessions (RFC 8866), in files
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
# Query parameters whose values are secrets.
SECRET = re.compile(r"(?i)([?&;][^=&;#]*(?:key|token|pass|pwd|secret|auth|sig)[^=&;#]*=)([^&;#]+)")
CUT = re.compile(r"prematurely|partial file", re.IGNORECASE)
# What FFmpeg prints with an error: the part of it that complains, and the name of the input.
WHERE = re.compile(r"^\[[^\]]* @ [^\]]*\] ?")

Item = Samples | int
"""Samples (n, channels) that nobody changes, or a number of frames that were lost before the samples that follow."""


@dataclass(frozen=True)
class Source:
    """A live source as the user named it, and how to receive it.

    `name` is the text with its secrets hidden, and bytes that are not UTF-8 escaped. `kind` is `stdin`, `alsa`, `pulse`, `url` or `file`,
    and `address` what its program needs. `raw` is the format of standard input and of sound cards,
    `track` the audio track of the others.
    """

    name: str
    kind: str
    address: str = field(repr=False)
    raw: RawFormat | None = None
    track: int = 1

    @property
    def regained(self) -> bool:
        """Return whether a connection that ends can be made again."""
        return self.kind in ("alsa", "pulse", "url")

    def connect(self, rate_hz: int | None) -> Connection:
        """Begin to receive the source, at `rate_hz` if the rate is known from an earlier connection.

        Raises AudioError if that fails at once; most failures are seen later, by `Connection.read`.
        """
        if self.kind == "stdin":
            return Connection(self, sys.stdin.fileno(), None, _Pcm(self.name, self.raw, finite=True))
        if self.kind in RECORDERS:
            form = self.raw or CARD
            return _started(self, _recorder(self.kind, self.address, form), _Pcm(self.name, form, finite=False))
        options = _options(self.kind, self.address)
        packages = pyav()
        assert packages, "parsed() looks for it"
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyav_live.py")
        command = [sys.executable, "-I", "-S", script, packages, self.address, str(self.track), str(rate_hz or 0)]
        return _started(self, [*command, *options], _Messages(self.name))

    def redacted(self, message: str) -> str:
        """Return a message of a program without the secrets of this source."""
        if self.kind != "url":
            return message
        parts = urlsplit(self.address)
        for secret in {parts.password, unquote(parts.password or "")} | {m[2] for m in SECRET.finditer(self.address)}:
            message = message.replace(secret, "***") if secret else message
        return message


def parsed(text: str, raw: RawFormat | None = None, track: int = 1) -> Source:
    """Return the source that a text names.

    It is `-` for standard input, `alsa:DEVICE`, `pulse:DEVICE`, a URL, or the path of a file. `raw`
    is the format of standard input and of sound cards, and `track` the audio track of the others.
    Raises UsageError, AudioError for a file that cannot be read, and DeviceError if a program or a
    package that is needed is not installed.
    """
    kind, _, address = text.partition(":")
    if text == STDIN:
        if sys.stdin is None:
            raise AudioError("cannot-open", f"{text}: standard input is closed.")
        return Source(text, "stdin", text, raw)
    is_url = URL.match(text) is not None
    # JSON and metrics are UTF-8, and a file name need not be.
    name = (hidden(text) if is_url else text).encode("utf-8", "backslashreplace").decode()
    if kind in RECORDERS:
        program, package, _ = RECORDERS[kind]
        if not address:
            raise UsageError(f"{text} lacks the name of a device, as in {kind}:default.")
        if not shutil.which(program):
            raise DeviceError("no-recorder", f"{text}: the program {program} is not installed (Debian: {package}).")
        _recorder(kind, address, raw or CARD)  # raises UsageError
        return Source(name, kind, address, raw)
    if is_url:
        try:
            parts = urlsplit(text)
        except ValueError:
            raise UsageError(f"{name}: is no valid URL; an IPv6 address stands in brackets.") from None
        if parts.scheme in ("http", "https") and not parts.hostname:
            raise UsageError(f"{name}: names no host, as http://radio.example/live does.")
    else:
        _require_file(text)
    if not pyav():
        raise DeviceError("no-ffmpeg", f"{name}: receiving it needs PyAV; {INSTALL}.")
    if is_url:
        return Source(name, "url", text, None, track)
    return Source(name, "url" if text.endswith(SDP) else "file", f"file:{text}", None, track)


def hidden(text: str) -> str:
    """Return a URL with `***` in place of its password and of parameters that are secrets.

    >>> hidden("http://me:secret@radio.example/live.ogg?token=abc&quality=3")
    'http://me:***@radio.example/live.ogg?token=***&quality=3'
    """
    text = re.sub(r"(://[^/?#:@]*):[^/?#]*@", r"\1:***@", text)
    return SECRET.sub(r"\1***", text)


def _require_file(path: str) -> None:
    try:
        with open(path, "rb") as file:
            regular = Path(path).is_file()
            file.read(0)
    except OSError as error:
        code = "not-found" if isinstance(error, FileNotFoundError) else "cannot-open"
        known = "a source is -, alsa:DEVICE, pulse:DEVICE, a URL or a file"
        raise AudioError(code, f"{path}: cannot be opened ({reason(error)}); {known}.") from None
    if not regular:
        raise AudioError("not-a-file", f"{path}: is no regular file; redirect it (ms-edge monitor - < {path}).")


def _recorder(kind: str, device: str, form: RawFormat) -> list[str]:
    """Return the command that writes what a sound card records. Raises UsageError for a format it lacks."""
    program, _, arguments = RECORDERS[kind]
    rate, channels = str(form.sample_rate_hz), str(form.channels)
    if kind == "alsa":
        given = ["-f", ALSA_FORMATS[form.sample_format], "-r", rate, "-c", channels]
    else:
        if form.sample_format in ("s8", "f64le", "f64be"):
            raise UsageError(f"PulseAudio has no sample format {form.sample_format}; use s16le in --raw.")
        name = PULSE_FORMATS.get(form.sample_format, form.sample_format)
        given = [f"--format={name}", f"--rate={rate}", f"--channels={channels}"]
    return [program, *arguments, device, *given]


def _options(kind: str, address: str) -> list[str]:
    """Return the options of FFmpeg for an address, as NAME=VALUE."""
    scheme = urlsplit(address).scheme.lower()
    if kind == "file":
        return ["protocol_whitelist=file"]
    if scheme in ("http", "https"):
        return [f"user_agent=ms-edge/{__version__}"]
    if scheme == "rtsp":
        return ["rtsp_flags=prefer_tcp"]
    return ["protocol_whitelist=file,rtp,udp"] if address.endswith(SDP) else []


class Connection:
    """One attempt to receive a source, from its beginning to its end.

    `descriptor` can be read when something has arrived. `rate_hz` is known once `read` has
    returned samples. `finite` says that the source is a recording, which has an end. After the end,
    `failure` says what went wrong, and is None if the source ended as it should.
    """

    def __init__(self, source: Source, descriptor: int, process: subprocess.Popen[bytes] | None, form: _Form) -> None:
        self.descriptor = descriptor
        self._pipe_bytes = enlarge_pipe(descriptor)
        self.failure: str | None = None
        self._source, self._process, self._form = source, process, form
        self._messages = b""

    @property
    def rate_hz(self) -> int:
        """The rate of the samples, in Hz."""
        return self._form.rate_hz

    @property
    def finite(self) -> bool:
        """Whether the source has an end that was known when the connection began."""
        return self._form.finite

    @property
    def pipe_s(self) -> float:
        """Seconds of audio that the pipe holds, infinite until the format of the samples is known."""
        bytes_s = self._form.rate_hz * self._form.frame_bytes
        return self._pipe_bytes / bytes_s if bytes_s else math.inf

    def read(self) -> list[Item] | None:
        """Read what has arrived, once. Return None at the end."""
        try:
            data = os.read(self.descriptor, READ_BYTES)
            self._listen()
            items = self._form.take(data) if data else None
        except OSError as error:
            self.failure, items = f"reading failed ({reason(error)})", None
        except MsEdgeError as error:
            self.failure, items = error.message.removeprefix(f"{self._source.name}: ").rstrip("."), None
        if items is None and self.failure is None:
            self.failure = self._why() if self._process else self._form.unfinished
        return items

    def _listen(self) -> None:
        """Keep the last messages of the process."""
        if self._process and self._process.stderr:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(self._process.stderr.fileno(), MESSAGE_BYTES):
                    self._messages = (self._messages + piece)[-MESSAGE_BYTES:]

    def _why(self) -> str | None:
        """Return why the process has ended; None if it has done its work."""
        assert self._process
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "the decoder closed its output"
        self._listen()
        said = self._messages.decode("utf-8", "replace").strip()
        cut = CUT.search(said)
        if cut or status == 0:
            # Only a recording ends. Of a broadcast, FFmpeg says too that it should be longer.
            if not self.finite and self._source.kind != "file":
                return "the connection was closed"
            return "the recording is incomplete" if cut else None
        if status < 0:
            return f"the decoder was ended by signal {-status}"
        lines = [PYAV_ERROR.sub("", WHERE.sub("", line)).strip() for line in said.splitlines()]
        lines = [line for line in lines if line]
        why = lines[-1] if lines else f"exit status {status}"
        return self._source.redacted(why[:200].rstrip("."))

    def close(self) -> None:
        """End the process, if there is one. Standard input stays open."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()


def _started(source: Source, command: list[str], form: _Form) -> Connection:
    """Start a process that writes samples, and return the connection. Raises AudioError."""
    try:
        process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for this process
            preexec_fn=limits(None),
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = reason(error) if isinstance(error, OSError) else "the process cannot be limited"
        raise AudioError("cannot-read", f"{source.name}: {command[0]} cannot be started ({why}).") from None
    assert process.stdout
    assert process.stderr
    os.set_blocking(process.stderr.fileno(), False)
    return Connection(source, process.stdout.fileno(), process, form)


class _Form(Protocol):
    """What turns the bytes of a connection into items."""

    rate_hz: int  # 0 until it is known
    frame_bytes: int  # of one sample of all channels
    finite: bool
    unfinished: str | None  # what is wrong if the bytes end now

    def take(self, data: bytes) -> list[Item] | None:
        """Return the items that are complete with these bytes; None after the end. Raises AudioError."""


class _Messages:
    """The messages of `pyav_live`."""

    unfinished: str | None = None  # its exit status says that

    def __init__(self, name: str) -> None:
        self.rate_hz, self.frame_bytes, self.finite = 0, 0, False
        self._name, self._held, self._channels = name, b"", 0

    def take(self, data: bytes) -> list[Item]:
        """Return the items of the messages that are complete with these bytes. Raises AudioError."""
        self._held += data
        found: list[Item] = []
        while len(self._held) >= 9:
            kind, number = struct.unpack_from("<cQ", self._held)
            end = 9 + number if kind == b"S" else 9
            if len(self._held) < end:
                break
            if kind == b"S":
                found.append(np.frombuffer(self._held[9:end], "<f4").reshape(-1, self._channels))
            elif kind == b"G":
                found.append(number)
            elif kind == b"E":
                self.finite = bool(number)
            elif kind == b"R":
                self.rate_hz = number
            elif kind == b"C":
                self._channels, self.frame_bytes = number, 4 * number
                require_plausible(self._name, self.rate_hz, self._channels)
            self._held = self._held[end:]
        return found


class _Pcm:
    """WAV, or headerless samples of a known format."""

    def __init__(self, name: str, raw: RawFormat | None, *, finite: bool) -> None:
        self.rate_hz, self.frame_bytes, self.finite = 0, 1, finite
        self._name, self._held = name, b""
        self._left: int | None = None  # bytes of samples that are still to come, if that is known
        self._samples: Callable[[bytes], Samples] | None = None
        self.unfinished: str | None = "it ended before its first sample"
        if raw:
            self._begin(raw)

    def _begin(self, raw: RawFormat) -> None:
        require_plausible(self._name, raw.sample_rate_hz, raw.channels)
        self.rate_hz, self.frame_bytes, self._samples = raw.sample_rate_hz, raw.frame_bytes, decoder_of(raw)

    def take(self, data: bytes) -> list[Item] | None:
        """Return the samples that are complete with these bytes; None after the end. Raises AudioError."""
        self._held += data
        if self._samples is None and not self._read_header():
            return []
        assert self._samples
        if self._left == 0:
            return None
        size = len(self._held) if self._left is None else min(self._left, len(self._held))
        size -= size % self.frame_bytes
        piece, self._held = self._held[:size], self._held[size:]
        if self._left is not None:
            self._left -= size
            self.unfinished = f"it ended {self._left:,} bytes before the end that its header states"
        if not piece:
            return []
        if not self._left:
            self.unfinished = None
        return [self._samples(piece)]

    def _read_header(self) -> bool:
        """Read the header of WAV, if all of it has arrived. Raises AudioError if this is no WAV."""
        missing = False

        def read_at(offset: int, count: int) -> bytes:
            nonlocal missing
            missing |= offset + count > len(self._held)
            return self._held[offset : offset + count]

        header = read_header(read_at, None)
        if header is None:
            possible = any(name.startswith(self._held[:4]) for name in (b"RIFF", b"RIFX", b"RF64"))
            if missing and possible and len(self._held) < MOST_HEADER:
                return False
            raise AudioError(
                "not-audio",
                f"{self._name}: the stream is not WAV; convert it (ffmpeg -i … -f wav - | ms-edge monitor -) or "
                "describe it with --raw.",
            )
        self._begin(_format(self._name, self._held, header))
        self._held = self._held[header.data_offset :]
        self._left = None if header.open_ended else header.data_bytes - header.data_bytes % self.frame_bytes
        return True


def _format(name: str, start: bytes, header: Header) -> RawFormat:
    """Return the format of the samples of a WAV stream that begins with these bytes. Raises AudioError."""
    import soundfile

    known = {(subtype, endian): code for code, (subtype, endian) in RAW_FORMATS.items()}
    big = start[:4] == b"RIFX"
    # With the size of one byte of samples, libsndfile needs nothing of what follows.
    opened = io.BytesIO(start[: header.data_offset - 4] + struct.pack(">I" if big else "<I", 0))
    try:
        with soundfile.SoundFile(opened) as sound:
            subtype, rate_hz, channels = sound.subtype, sound.samplerate, sound.channels
    except soundfile.SoundFileError:
        subtype, rate_hz, channels = "", 0, 0
    order = "FILE" if (subtype, "FILE") in known else "BIG" if big else "LITTLE"
    if (subtype, order) not in known:
        raise AudioError(
            "not-audio",
            f"{name}: the samples of the WAV stream are compressed; convert them (ffmpeg -i … -f wav - | ms-edge monitor -).",
        )
    return RawFormat(rate_hz, channels, known[subtype, order])


def decoder_of(raw: RawFormat) -> Callable[[bytes], Samples]:
    """Return a function from whole frames of headerless PCM to samples (n, channels)."""
    if raw.sample_format == "s16le":  # a session takes the numbers as they are
        return lambda data: np.frombuffer(data, "<i2").reshape(-1, raw.channels)
    import soundfile

    subtype, endian = RAW_FORMATS[raw.sample_format]

    def decoded(data: bytes) -> Float32:
        samples: Float32 = soundfile.read(
            io.BytesIO(data),
            dtype="float32",
            always_2d=True,
            format="RAW",
            samplerate=raw.sample_rate_hz,
            channels=raw.channels,
            subtype=subtype,
            endian=endian,
        )[0]
        return samples

    return decoded
