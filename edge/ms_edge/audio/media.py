"""Read with FFmpeg what libsndfile does not read.

FFmpeg runs in a process of its own, so that a crash, a hang, or what it prints cannot harm this
one: the module `pyav_child` where PyAV is installed, otherwise the program `ffmpeg`. Both write WAV
with 32-bit floats to a socket, and messages to a pipe. They may open one file, of one format, which
its first bytes or its name decide: formats that name other files (playlists) are not among them.
`pyav_child` also mixes the two channels of stereo if their mean is wanted: half of the bytes then
pass through the socket.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.audio.containers import CONTAINERS, MEDIA, START_BYTES, Container, named, recognised
from ms_edge.audio.facts.dispatch import facts_of
from ms_edge.audio.facts.reader import MOST_PACKETS, Facts
from ms_edge.audio.opening import file_facts, open_descriptor, size_of, unreadable
from ms_edge.audio.source import BLOCK_SAMPLES, AudioSource, Channels, Samples
from ms_edge.errors import AudioError, DeviceError, first_line, reason

BUFFER_BYTES = 1 << 20
# The program `ffmpeg` writes 32 kB at a time. This process waits until more is there, for as long as
# the fastest decoders need to fill a part of the buffer, since on one core it would otherwise take
# turns with the decoder for each write, which takes 2 % more time.
REST_S_PER_BYTE = 1.5e-9
LARGE_BYTES = 1 << 26
HEADER_BYTES = 1 << 10  # at most, of the WAV header that a decoder writes
PACKAGES = 5  # which of its arguments tells `pyav_child` the folder of PyAV
RATE_END = 28  # offset behind the channels and the rate in it
MIXED, SEPARATE = b"m", b"s"  # what `pyav_child` reads after it has written the header
# How long this process waits for a decoder: START_S, and more if the file is large, since the
# decoder may have to skip most of a video; and then PER_AUDIO_S for each second of audio.
START_S, BYTES_S, PER_AUDIO_S = 60.0, 10e6, 1.0
WATCH_S, END_S = 1.0, 5.0  # seconds between two checks of that; the longest wait for a decoder to exit
# Address space of a decoder. Less could be too little: the program ffmpeg takes 0.4 GB of it if it
# starts 16 threads, and 10 hours of MP4 take 0.1 GB more.
MEMORY_BYTES = 1 << 30
MOST_CPU_S, CPU_S_PER_BYTE = 600.0, 1e-5
# FFmpeg allocates and frees some hundred bytes for every packet, again and again. glibc does that in
# 2 % less of a decoder's time without its lists of small pieces, which it would join each time.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.mxfast=0"}
MESSAGE_BYTES = 1 << 16  # kept of the first and of the last messages of a decoder
INSTALL = "install PyAV (in a clone of ms-edge: pip install '.[media]') or the program ffmpeg"
CODEC = re.compile(r"Stream #0:\d+ -> #0:0 \((\w+)(?: \((\w+)\))?")  # the coding, and the decoder: dts (dca)
NO_TRACK = "matches no streams"
IMPORTED = "  PyAV "  # `pyav_child` says this first, before the version
unusable: dict[str, str] = {}  # folders with a package `av` that cannot be imported, and why
ERRORS = ("error", "fatal", "panic")
# A message: which part of FFmpeg it comes from, the level (of the program only), and the text.
MESSAGE = re.compile(r"(?:\[([^\]]*) @ [^\]]*\] ?)?(?:\[(\w+)\] ?)?(.*)")
WRONG = re.compile(r"Error while decoding|Error submitting|corrupt (input packet|decoded frame)", re.IGNORECASE)
USELESS = re.compile("invalid data found|^traceback")
PYAV_ERROR = re.compile(r"^\[Errno -?\d+\] |: '[^']*'( returned -?\d+)?$")  # what Python adds to the words of FFmpeg
OURS = ("aist#", "in#0/")  # the parts of the program ffmpeg that read and decode
LOWERED = "wrong sample count"  # what FFmpeg says of the numbers of packets that `_lower` has written
CUT = re.compile(r"partial file|prematurely|end of file|truncat", re.IGNORECASE)


class MediaFile(AudioSource):
    """A file, or a file object that can seek, decoded by FFmpeg.

    `track` is the audio track, from 1. `refused` is why libsndfile does not read the source: the
    error to raise if FFmpeg has no format for it. Raises AudioError if the source cannot be read.
    """

    decoder = "ffmpeg"

    def __init__(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        track: int = 1,
        refused: AudioError | None = None,
    ) -> None:
        self._child: _Child | None = None
        self._descriptor = -1
        self._to_mean = False  # the mean of both channels is wanted
        if isinstance(source, str | os.PathLike):
            name = os.fsdecode(source)
            self._descriptor, size = open_descriptor(name)
        else:
            name = str(getattr(source, "name", "audio"))
            self._descriptor, size = _spooled(name, source)
        try:
            self._descriptor = _above_standard(self._descriptor)
            if size is None:  # a stream: libsndfile has said what it must be
                raise refused or AudioError(
                    "not-audio",
                    f"{name}: FFmpeg reads files, and this is a stream; save it as a file, or redirect the file (< FILE).",
                )
            self._size = size
            if isinstance(source, str | os.PathLike):
                self.file = file_facts(os.fstat(self._descriptor))
            self._format = self._recognise(name, refused)
            self._facts = facts_of(self._read_at, size, track)
            if self._facts.packets > size + MOST_PACKETS:
                raise _too_long(name, size)
            if self._facts.lowered:
                self._lower(name)
            rate_hz, channels = self._start(name, size, track)
            super().__init__(name, rate_hz, channels)
            self.container, self.recorded_at = self._format.short, self._facts.recorded_at
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise unreadable(name, error) from None
            raise

    def _lower(self, name: str) -> None:
        """Take a copy of the file, with the numbers of packets that its bytes allow."""
        with open(self._descriptor, "rb") as file:
            self._descriptor = -1
            self._descriptor = _above_standard(_copied(name, file))
        for at, number in self._facts.lowered:
            os.lseek(self._descriptor, at, os.SEEK_SET)
            os.write(self._descriptor, struct.pack(">I", number))

    def _start(self, name: str, size: int, track: int, again: bool = False) -> tuple[int, int]:
        """Start a decoder, and return the rate in Hz and the channels that it finds.

        If it ends before PyAV is imported, it is started `again`, because something may have killed it.
        """
        self._child = _Child(name, self._descriptor, size, self._format, track, self._facts)
        try:
            return self._child.header()
        except _BrokenPyAVError as error:
            self._child.end()
            if again:
                unusable[error.folder] = str(error)
            return self._start(name, size, track, again=not again)

    def _recognise(self, name: str, refused: AudioError | None) -> Container:
        """Return the format of the open file, by its first bytes or else its name."""
        at = 0
        if (start := self._read_at(0, START_BYTES))[:3] == b"ID3":  # also before AAC, and not only MP3
            from ms_edge.audio.mpeg import after_tags  # imported here because few of these files have tags

            at = after_tags(self._read_at, 0)
            start = self._read_at(at, START_BYTES)
        by_name = named(name, MEDIA if refused else CONTAINERS)
        # If FFmpeg is asked for, samples of G.722 or GSM that begin like another format do not mislead.
        headerless = by_name if by_name in MEDIA and not by_name.start and not refused else None
        form = headerless or recognised(start) or by_name
        if form is None:
            raise refused or AudioError("not-audio", f"{name}: not audio of a format that is read.")
        return form

    def _read_at(self, offset: int, count: int) -> bytes:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return os.read(self._descriptor, count)

    def blocks(self, sample_rate_hz: int, channels: Channels = None) -> Iterator[Float32]:
        """Do what `AudioSource.blocks` does. The decoder computes the mean of two channels."""
        assert self._child
        # Half of each sample is exact, so that the mean is the same wherever it is computed.
        self._to_mean = channels is None and self.channels == 2 and self._child.planar
        self._resampled = sample_rate_hz != self.sample_rate_hz
        return super().blocks(sample_rate_hz, channels)

    def _mixed(self, samples: Samples) -> Float32:
        if self._to_mean and self._resampled:  # not a copy, because the resampler makes one
            return self._plausible(samples[:, 0])
        return super()._mixed(samples)

    def _decoded(self) -> Iterator[Float32]:
        assert self._child
        written = self._child.begin(self._to_mean) or self.channels
        frame_bytes = 4 * written
        buffer = bytearray(max(1, BLOCK_SAMPLES // self.channels) * frame_bytes)
        frames = len(buffer) // frame_bytes
        while frames == len(buffer) // frame_bytes:
            frames = self._child.fill(memoryview(buffer)) // frame_bytes
            if self.frames + frames > self._format.frames_per_byte * self._size:
                raise _too_long(self.name, self._size)
            self._child.allow(frames / self.sample_rate_hz)
            if frames:
                samples = np.frombuffer(buffer, "<f4", frames * written)
                planar = self._child.planar
                yield samples.reshape(written, frames).T if planar else samples.reshape(frames, written)
        for code in self._child.warnings():
            self._warn(code)
        facts = self._facts
        if facts.cut or facts.more_than(self.frames, self.sample_rate_hz):
            self._warn("truncated")
        for code in facts.warnings():
            self._warn(code)
        self.codec = self._child.codec()

    def close(self) -> None:
        """End the decoder and close the file. The end of a `with` block does this too."""
        if self._child:
            self._child.end()
            self._child = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()  # else the decoder would wait until this process ends


def _too_long(name: str, size: int) -> AudioError:
    """Return the error for a file that states, or decodes to, more audio than its size allows."""
    return AudioError(
        "too-long", f"{name}: decodes to more audio than its {size:,} bytes can hold, so its header is wrong."
    )


def require_ffmpeg() -> None:
    """Raise DeviceError if there is no FFmpeg."""
    if not (pyav() or ffmpeg()):
        raise DeviceError("no-ffmpeg", f"FFmpeg was asked for (decoder ffmpeg) and is not installed; {INSTALL}.")


class _BrokenPyAVError(Exception):
    """The package `av` in `folder` cannot be imported."""

    def __init__(self, folder: str, why: str) -> None:
        super().__init__(why)
        self.folder = folder


def pyav() -> str | None:
    """Return the folder that has the package `av`; None if it is not installed, or `unusable`."""
    found = importlib.util.find_spec("av")
    folder = os.path.dirname(os.path.dirname(found.origin)) if found and found.origin and sys.executable else None
    return None if folder in unusable else folder


def _script(folder: str) -> list[str]:
    here = os.path.dirname(os.path.abspath(__file__))
    # Not as a script, which Python would compile each time.
    code = f"import sys; sys.path.append({here!r}); import pyav_child; pyav_child.main()"
    return [sys.executable, "-I", "-S", "-c", code, folder]


def why_unusable(folder: str) -> str | None:
    """Return why the package `av` in a folder cannot be imported; None if it can."""
    try:
        run = subprocess.run(
            _script(folder), stdin=subprocess.DEVNULL, capture_output=True, timeout=START_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"its import takes more than {START_S:g} s"
    except OSError as error:  # no further process is allowed
        return reason(error)
    return _why_unusable(run.stderr.decode("utf-8", "replace"), run.returncode)


def _why_unusable(messages: str, status: int) -> str | None:
    if IMPORTED in messages:
        return None
    said = [line.strip().rstrip(".") for line in messages.splitlines() if line.strip()]
    return said[-1] if said else f"exit status {status}"


def ffmpeg() -> str | None:
    """Return the path of the program `ffmpeg`; None if it is not installed."""
    return shutil.which("ffmpeg")


def command(file: str, demuxer: str, track: int, options: dict[str, str]) -> list[str] | None:
    """Return the command that decodes a file; None if there is no FFmpeg.

    `options` are those of FFmpeg's demuxer.
    """
    if folder := pyav():
        given = [f"{name}={value}" for name, value in options.items()]
        return [*_script(folder), file, demuxer, str(track), str(BLOCK_SAMPLES), *given]
    if program := ffmpeg():
        given = [part for name, value in options.items() for part in (f"-{name}", value)]
        given += ["-flags2", "+skip_manual"] if demuxer == "caf" else []  # see SKIP_MANUAL in `pyav_child`
        return [
            *(program, "-hide_banner", "-nostdin", "-nostats", "-v", "level+info", "-threads", "1"),
            *(*given, "-f", demuxer, "-i", file),
            *("-map", f"0:a:{track - 1}", "-map_metadata", "-1", "-bitexact", "-c:a", "pcm_f32le"),
            *("-flush_packets", "0", "-f", "wav", "pipe:1"),
        ]
    return None


class _Child:
    """A process that decodes an open file, with bounded time and memory."""

    def __init__(self, name: str, descriptor: int, size: int, form: Container, track: int, facts: Facts) -> None:
        self._name, self._form, self._track, self._facts = name, form, track, facts
        # By its descriptor, the file is the one that was opened, whatever its name.
        by_descriptor = os.path.exists(f"/dev/fd/{descriptor}")
        path = f"/dev/fd/{descriptor}" if by_descriptor else name
        options = {"protocol_whitelist": "file,pipe", "format_whitelist": form.demuxer}
        if form.demuxer == "mov" and size >= LARGE_BYTES and not facts.edited:
            # To follow the edit list, FFmpeg builds its index a second time, which takes 60 MB for 10 hours.
            options["advanced_editlist"] = "0"
        arguments = command(f"file:{path}", form.demuxer, track, options)
        if arguments is None:
            broken = "".join(f" (PyAV cannot be imported: {why})" for why in unusable.values())
            raise AudioError("not-audio", f"{name}: is {form.name}, which needs FFmpeg{broken}; {INSTALL}.")
        self._folder = arguments[PACKAGES] if arguments[0] == sys.executable else None
        self.planar = self._folder is not None
        os.lseek(descriptor, 0, os.SEEK_SET)  # macOS opens /dev/fd/N where N is
        ours, its, buffer_bytes = _connected()
        try:
            self._process = subprocess.Popen(
                arguments,
                bufsize=0,
                stdin=subprocess.PIPE if self.planar else subprocess.DEVNULL,
                pass_fds=(descriptor,) if by_descriptor else (),
                stdout=its,
                stderr=subprocess.PIPE,
                env={**ALLOCATOR, **os.environ},
                start_new_session=True,  # Ctrl-C in the terminal is for this process
                preexec_fn=limits(MOST_CPU_S + size * CPU_S_PER_BYTE),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(ours)
            why = reason(error) if isinstance(error, OSError) else first_line(error)
            raise AudioError("cannot-read", f"{name}: FFmpeg cannot be started ({why}).") from None
        finally:
            os.close(its)
        assert self._process.stderr
        self._samples, self._messages = io.FileIO(ours), self._process.stderr
        self._buffer_bytes, self._received = buffer_bytes, 0
        self._begun = b""  # what was read with the header
        self._first, self._last = b"", b""  # messages
        self._unheard: OSError | None = None  # why there are no further messages
        self._over = False  # killed because it took too long
        self._ended = threading.Event()
        # The time that this process still waits, at most `_most_s`, and whether it does now.
        self._left_s = self._most_s = START_S + size / BYTES_S
        self._waits = False
        self._threads: list[threading.Thread] = []
        try:
            for each in (self._listen, self._watch):
                thread = threading.Thread(target=each, daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError as error:  # too many threads
            self.end()
            raise AudioError("cannot-read", f"{name}: FFmpeg cannot be started ({error}).") from None

    def _listen(self) -> None:
        """Keep the first and the last messages of the decoder, which must not fill their pipe."""
        try:
            while piece := os.read(self._messages.fileno(), MESSAGE_BYTES):
                if len(self._first) < MESSAGE_BYTES:
                    self._first += piece
                else:
                    self._last = (self._last + piece)[-MESSAGE_BYTES:]
        except OSError as error:  # without messages, nothing says whether the audio is complete
            self._unheard = error
            self._kill()

    def _watch(self) -> None:
        """End the decoder if this process has waited for it too long."""
        while not self._ended.wait(WATCH_S):
            if self._waits:
                self._left_s -= WATCH_S  # and not by the clock: this process may have been stopped (Ctrl-Z)
            if self._left_s < 0:
                self._over = True
                self._kill()
                return

    def _kill(self) -> None:
        """Kill the decoder and the processes that it has started: `ffmpeg` may be a script."""
        if self._process.returncode is not None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def header(self) -> tuple[int, int]:
        """Read the header that the decoder writes, and return the rate in Hz and the channels."""
        while (at := self._begun.find(b"data")) < 0 or len(self._begun) < at + 8:
            piece = bytearray(HEADER_BYTES)
            count = self._wait(memoryview(piece), once=True)
            if not count or len(self._begun) >= HEADER_BYTES:
                raise self._failed()
            self._begun += piece[:count]
        if at < RATE_END:
            raise self._failed()
        channels, rate_hz = struct.unpack_from("<HI", self._begun, 22)
        self._begun = self._begun[at + 8 :]
        return rate_hz, channels

    def begin(self, mixed: bool) -> int:
        """Let the decoder write samples, `mixed` into one channel if it can do that.

        Return how many channels it writes; 0 for all of them.
        """
        if not self._process.stdin:
            return 0
        with contextlib.suppress(OSError), self._process.stdin as choice:  # it may have ended
            choice.write(MIXED if mixed else SEPARATE)
        return int(mixed)

    def fill(self, buffer: memoryview) -> int:
        """Read samples into the buffer. Return how many bytes; fewer than it holds only at the end."""
        filled = min(len(buffer), len(self._begun))
        buffer[:filled] = self._begun[:filled]
        self._begun = self._begun[filled:]
        return filled + self._wait(buffer[filled:])

    def _wait(self, buffer: memoryview, once: bool = False) -> int:
        """Wait until the buffer is full, or `once` for some bytes. Return how many; fewer at the end."""
        filled, self._waits = 0, True
        try:
            while filled < len(buffer) and (count := self._samples.readinto(buffer[filled:])):
                filled += count
                if once:
                    break
                # PyAV's process writes much at a time. Short recordings have no use for a rest.
                if not self.planar and filled < len(buffer) and self._received > self._buffer_bytes:
                    time.sleep(self._buffer_bytes * REST_S_PER_BYTE)
            self._received += filled
        except OSError as error:
            raise unreadable(self._name, error) from None
        self._waits = False
        if self._over:
            raise AudioError(
                "too-long",
                f"{self._name}: FFmpeg needs too long to decode it, and was stopped; the file may be damaged.",
            )
        return filled

    def allow(self, audio_s: float) -> None:
        """Allow the decoder the time for so many more seconds of audio."""
        self._left_s = min(self._most_s, self._left_s + audio_s * PER_AUDIO_S)

    def _failed(self) -> AudioError:
        """Return the error for a decoder that ends before it writes audio.

        Raises _BrokenPyAVError.
        """
        status = self._finish()
        if self._folder and (why := _why_unusable(self.messages(), status)):
            raise _BrokenPyAVError(self._folder, why)
        if NO_TRACK in self.messages():
            which = "audio track" if self._track == 1 else f"audio track {self._track}"
            return AudioError("no-track", f"{self._name}: has no {which}.")
        cut = "the file is cut off, before or within what is needed to decode it"
        why = cut if self._facts.cut else self._reason()
        return AudioError("not-audio", f"{self._name}: FFmpeg cannot decode it as {self._form.name}: {why}.")

    def _reason(self) -> str:
        """Return why the decoder gave up, in its own words without paths and numbers of errors."""
        words = [line.partition(": ")[2] if "file:" in line.partition(": ")[0] else line for line in self._complaints()]
        words = [PYAV_ERROR.sub("", line).rstrip(".").lower() for line in words]
        return next((line for line in words if line and not USELESS.search(line)), "invalid data")

    def codec(self) -> str | None:
        """Return FFmpeg's name of the coding; None if it is not known."""
        found = CODEC.search(self.messages())
        return found[1] if found else None

    def warnings(self) -> list[str]:
        """Return the warnings about what was decoded, after its end."""
        status = self._finish()
        complaints = self._complaints()
        if status or any(CUT.search(line) for line in complaints):
            return ["truncated"]
        return ["damaged"] if complaints else []

    def _complaints(self) -> list[str]:
        """Return the messages of the decoder about what is wrong with the file."""
        found_codec = CODEC.search(self.messages())
        # Errors in other tracks, such as video, do not count.
        ours = {self._form.demuxer, *(found_codec.groups() if found_codec else ())}
        found = []
        for line in filter(None, self.messages().splitlines()):
            where, level, what = MESSAGE.fullmatch(line).groups()  # type: ignore[union-attr]
            if what == LOWERED and self._facts.lowered:
                continue
            part = (where or "").removesuffix(" parser").lower()  # FFmpeg has a `Vorbis parser`
            if (not part or ours & set(re.split("[,/]", part)) or part[:5] in OURS) and (
                level in ERRORS or WRONG.match(what) or (self.planar and not line.startswith(" "))
            ):
                found.append(what)
        return found

    def messages(self) -> str:
        """Return what the decoder has printed so far: the first and the last of it."""
        return (self._first + b"\n" + self._last).decode("utf-8", "replace")

    def _finish(self) -> int:
        """Wait for the end of a decoder that has closed its output. Return its exit status.

        Raises AudioError if its messages could not be read.
        """
        self._ended.set()
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.wait()
        self._threads[0].join(END_S)
        if self._unheard:
            raise unreadable(self._name, self._unheard)
        return status

    def end(self) -> None:
        """End the decoder at once, whatever it is doing."""
        self._ended.set()
        self._kill()
        self._process.wait()
        self._samples.close()
        if self._process.stdin:
            self._process.stdin.close()
        for thread in self._threads:
            thread.join(END_S)
        self._messages.close()


def limits(cpu_s: float | None) -> Callable[[], None] | None:
    """Return a function that limits a process, a decoder, before it begins.

    The process then has a limit of memory and of processor time in seconds (None: only of memory),
    leaves no core file, and on Linux ends with this process if the main thread starts it. Returns
    None where there are no such limits.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = {resource.RLIMIT_CORE: 0}
    if cpu_s is not None:
        most[resource.RLIMIT_CPU] = int(cpu_s)
    most[resource.RLIMIT_AS] = MEMORY_BYTES  # the last, because a copy of a large process then has no more memory
    prctl: Any = None
    # The signal comes when the thread ends that started the process, and another one may go on reading.
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # NumPy has imported it, if this Python has it

            prctl = ctypes.CDLL(None).prctl

    def limit() -> None:
        if prctl:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        for name, value in most.items():
            with contextlib.suppress(OSError, ValueError):  # macOS has no limit of memory
                hard = resource.getrlimit(name)[1]
                value = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(name, (value, value))

    return limit


def _connected() -> tuple[int, int, int]:
    """Return the descriptors from which this process reads and to which a decoder writes, and the
    size of the buffer between them in bytes; 0 if it is small.
    """
    if os.name == "nt":  # a process there cannot have a socket as its standard output
        return *os.pipe(), 0
    import socket  # imported here because most files do not need it

    ours, its = socket.socketpair()  # a pipe needs half as much time again for the same bytes
    its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    granted = its.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return ours.detach(), its.detach(), granted


def _above_standard(descriptor: int) -> int:
    """Return a descriptor of the same file above 2; the others are the decoder's own.

    A file gets one of them if this process was started without standard input or output.
    """
    if not 0 <= descriptor <= 2 or os.name == "nt":
        return descriptor
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _spooled(name: str, source: IO[bytes]) -> tuple[int, int | None]:
    """Copy a file object into a temporary file without a name. Return its descriptor and size.

    The size is None for an object that can only be read forward.
    """
    size = size_of(name, source)
    if size is None:
        return -1, None
    descriptor = _copied(name, source)
    return descriptor, os.fstat(descriptor).st_size


def _copied(name: str, source: IO[bytes]) -> int:
    """Copy a file object into a temporary file without a name. Return its descriptor."""
    try:
        source.seek(0)
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(source, copy, BUFFER_BYTES)
            copy.flush()
            return os.dup(copy.fileno())
    except OSError as error:
        raise AudioError(
            "cannot-read",
            f"{name}: cannot be copied into a temporary file for FFmpeg ({reason(error)}); TMPDIR can name another folder.",
        ) from None
