"""Open audio sources, and turn everything that can go wrong into an error of one sentence."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from itertools import pairwise
from typing import IO, Any

import soundfile

from ms_edge.audio.containers import EXTENSIONS as EXTENSIONS
from ms_edge.audio.containers import MEDIA, READ, START_BYTES, begins_as_read, container_of, name_of, recognised
from ms_edge.audio.parts import MOST_FALL, Part, ogg_end, ogg_parts, opus_begins_before_0
from ms_edge.audio.raw import RAW_FORMATS, RawFormat
from ms_edge.audio.riff import MPEG_CODINGS, Header, ReadAt, is_wav
from ms_edge.audio.streams import Section, Stream
from ms_edge.errors import AudioError, UsageError, reason

STDIN = "-"
# libsndfile's numbers of errors (common.h of its source) that mean: no decoder for what is in the file. A
# file that contradicts itself gets another number.
NO_DECODER = {
    1: "unrecognised format",
    4: "unsupported encoding",
    18: "unimplemented",
    29: "internal, of Speex in Ogg",
    64: "WAV with another coding",
    161: "FLAC in Ogg",
}
SYSTEM_ERROR = 2  # another of these numbers
CYCLE_S = 146_097 * 86_400  # the Gregorian calendar repeats after 400 years


class NotForLibsndfileError(AudioError):
    """The file is of a format, or has a coding, that libsndfile does not decode and FFmpeg may."""


def file_facts(status: os.stat_result) -> dict[str, int | str]:
    """Return the size in bytes and the modification time of a file, as records state them.

    The time is UTC with microseconds in ISO 8601. A year before 0 or after 9999 has a sign and at
    least six digits.
    """
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    # A file system allows any year, datetime only 1 to 9999: use the same moment in the years 1970
    # to 2369.
    cycles, seconds = divmod(seconds, CYCLE_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    year = moment.year + 400 * cycles
    date = f"{year:04}" if 0 <= year <= 9999 else f"{year:+07}"
    return {"bytes": status.st_size, "modified": f"{date}{moment:-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06}Z"}


def open_descriptor(path: str) -> tuple[int, int | None]:
    """Open a path, or `-` for standard input. Return its descriptor and its size in bytes.

    The size is None for standard input that can only be read forward. Raises AudioError.
    """
    if path == STDIN:
        try:
            descriptor = os.dup(0)
        except OSError:
            raise AudioError("cannot-open", f"{path}: standard input is closed.") from None
    else:
        # The descriptor is checked before anything is read: reading a FIFO would hang, and
        # libsndfile reports every failure as "System error".
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            code = {
                errno.ENOENT: "not-found",
                errno.ENOTDIR: "not-found",
                errno.EACCES: "no-permission",
                errno.EISDIR: "is-directory",
                errno.ENXIO: "not-a-file",  # a socket
            }.get(error.errno or 0, "cannot-open")
            if os.path.isdir(path):  # Windows reports "no permission" for a directory
                code = "is-directory"
            raise AudioError(code, f"{path}: {reason(error)}.") from None
        except ValueError:
            raise AudioError("cannot-open", f"{path!r}: not a usable file name.") from None
    try:
        status = os.fstat(descriptor)
    except OSError as error:  # on a network file system
        os.close(descriptor)
        raise unreadable(path, error) from None
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = AudioError("is-directory", f"{path}: is a directory, not a file.")
    elif not stat.S_ISREG(status.st_mode):
        if path == STDIN:
            return descriptor, None
        problem = AudioError(
            "not-a-file",
            f"{path}: is not a regular file; give a pipe or a device as standard input (ms-edge classify - < …).",
        )
    elif status.st_size == 0:
        problem = AudioError("empty-file", f"{path}: the file is empty (0 bytes).")
    if problem:
        os.close(descriptor)
        raise problem
    return descriptor, status.st_size


def size_of(name: str, source: IO[bytes]) -> int | None:
    """Return the size of a file object in bytes; None if it can only be read forward.

    Raises UsageError if it does not return bytes, and AudioError if it is empty.
    """
    try:
        usable = isinstance(source.read(0), bytes)
    except (OSError, ValueError):  # opened in another mode, or closed
        usable = False
    if not usable:
        raise UsageError(f"{name}: a file object must be open for reading, in binary mode ('rb').")
    try:
        source.seek(0, os.SEEK_END)
        size = source.tell()
    except (OSError, ValueError, AttributeError):
        return None
    if size == 0:
        raise AudioError("empty-file", f"{name}: the file is empty (0 bytes).")
    return size


def parts_of(
    name: str, read_at: ReadAt, size: int, start: bytes, header: Header | None, notes: list[str]
) -> list[Part]:
    """Return the recordings in a file, or the MPEG audio in a WAV file.

    `start` are the first bytes of the file, and `header` its header if it is WAV. The list is empty
    if libsndfile decodes the file as it is. Adds to the warnings in `notes`. Raises AudioError if
    the format is not supported.
    """
    if start[:4] == b"OggS":
        falls: list[int] = []
        starts = ogg_parts(read_at, falls)
        # libsndfile then counts wrongly, and gives memory that nobody has written.
        if start[28:36] == b"OpusHead" and (max(falls) >= MOST_FALL or opus_begins_before_0(read_at)):
            raise NotForLibsndfileError(
                "not-audio",
                f"{name}: the positions of its pages contradict one another, so it is not given to libsndfile.",
            )
        parts = [Part([stretch]) for stretch in pairwise([*starts, size])]
        parts[0].direct = len(parts) == 1
        ends = {ogg_end(read_at, end) for end in (*starts[1:], size)}
        notes += sorted(code for code in ends if code)
        return parts
    if header.coding not in MPEG_CODINGS if header else begins_as_read(start):
        return []
    from ms_edge.audio.mpeg import after_tags, mpeg_parts  # imported here because WAV and FLAC do not need it

    if header:
        end = size if header.open_ended else min(size, header.data_offset + header.data_bytes)
        parts, found = mpeg_parts(read_at, header.data_offset, end)
        if not parts:
            raise AudioError(
                "not-audio", f"{name}: according to its header, this is MPEG audio, but it has no MPEG frame."
            )
    else:
        at = after_tags(read_at, 0) if start[:3] == b"ID3" else 0  # also before FLAC and AAC
        start = read_at(at, START_BYTES)
        if at and start[:4] == b"fLaC":
            return []
        # Most files of other formats hold no frames, and some hold MPEG audio between other things.
        other = recognised(start, MEDIA) if at or start[:1] != b"\xff" else None
        parts, found = ([], []) if other else mpeg_parts(read_at, 0, size)
        if not parts:
            if other:
                raise NotForLibsndfileError("not-audio", f"{name}: is {other.name}, which libsndfile does not read.")
            raise _refused(name, name_of(start))
    notes += [warning for warning in found if warning not in notes]
    return parts


def _refused(name: str, form: str | None) -> NotForLibsndfileError:
    what = f"is {form}, which is not supported" if form else "not audio of a supported format"
    return NotForLibsndfileError("not-audio", f"{name}: {what}; the supported formats are {READ}.")


def open_sound(name: str, opened: object, raw: RawFormat | None) -> soundfile.SoundFile:
    """Open a path, a descriptor, a `Stream` or a `Section` with libsndfile. Raises AudioError.

    libsndfile never seeks in the result.
    """
    options: dict[str, Any] = {}
    if raw:
        subtype, endian = RAW_FORMATS[raw.sample_format]
        options = {
            "format": "RAW",
            "samplerate": raw.sample_rate_hz,
            "channels": raw.channels,
            "subtype": subtype,
            "endian": endian,
        }
    try:
        sound = soundfile.SoundFile(opened, closefd=False, **options)
    except (soundfile.SoundFileError, TypeError) as error:
        raise_error_of(opened, name, error)
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        kind = NotForLibsndfileError if getattr(error, "code", 0) in NO_DECODER else AudioError
        raise kind("not-audio", f"{name}: cannot be decoded as audio ({reason}).") from None
    if not raw and not container_of(sound.format):
        sound.close()
        raise _refused(name, sound.format_info)
    # Otherwise soundfile seeks to the current position after every read. The MP3 decoder then loses
    # the frames that it keeps, codings with blocks decode their block again, and FLAC of unknown
    # length fails at its end.
    sound.seekable = lambda: False
    if isinstance(opened, Stream | Section):
        opened.opening = False
    return sound


def raise_error_of(opened: object, name: str, reported: Exception | None = None) -> None:
    """Raise the error that libsndfile met while it read.

    It does not report those of our object, and `reported` for a descriptor tells only that it is one.
    """
    if error := getattr(opened, "error", None):
        raise unreadable(name, error) if isinstance(error, OSError) else error
    if getattr(reported, "code", 0) == SYSTEM_ERROR:
        raise AudioError("cannot-read", f"{name}: cannot be read (system error).")


def require_wav(name: str, start: bytes) -> None:
    """Raise AudioError unless these first bytes are those of a WAV file."""
    if not is_wav(start[:40]):
        raise AudioError("not-wav", f"{name}: is not a WAV file, and --wav-only allows no other format.")


def require_streamable(name: str, start: bytes, header: Header | None) -> None:
    """Raise AudioError unless a stream can be decoded while it is read forward.

    `start` are its first bytes, and `header` its WAV header.
    """
    if not start:
        raise AudioError("empty-file", f"{name}: the stream is empty.")
    if header is None:
        raise AudioError(
            "not-audio",
            f"{name}: the stream is not WAV; convert it (ffmpeg -i … -f wav - | ms-edge classify -) or describe it with --raw.",
        )
    if header.coding in MPEG_CODINGS:
        raise AudioError(
            "not-audio",
            f"{name}: MPEG audio in WAV cannot be read from a stream; redirect the file (< FILE) or decode it "
            "(ffmpeg -i … -f wav - | ms-edge classify -).",
        )


def header_warnings(start: bytes, header: Header | None) -> list[str]:
    """Return the warnings for the header of a file that begins with these bytes."""
    if header is None:
        return ["bad-header"] if start[:4] in (b"RIFF", b"RIFX", b"RF64") else []
    found = {"stream-header": header.open_ended, "bad-header": header.contradictory, "truncated": header.cut}
    return [code for code, present in found.items() if present]


def unreadable(name: str, error: OSError) -> AudioError:
    """Return the error for a source that is open but cannot be read."""
    return AudioError("cannot-read", f"{name}: cannot be read ({reason(error)}).")
