"""Opening what is given as audio, so that whatever can go wrong is a sentence."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from itertools import pairwise
from typing import IO, Any

import soundfile

from ms_edge.audio.containers import EXTENSIONS as EXTENSIONS
from ms_edge.audio.containers import READ, begins_as_read, container_of, name_of
from ms_edge.audio.parts import Part, ReadAt, ogg_is_cut, ogg_parts
from ms_edge.audio.raw import RAW_FORMATS, RawFormat
from ms_edge.audio.riff import MPEG_CODINGS, Header, is_wav
from ms_edge.audio.streams import Section, Stream
from ms_edge.errors import AudioError, UsageError, reason

STDIN = "-"
CYCLE_S = 146_097 * 86_400  # after 400 years the Gregorian calendar repeats itself


def file_facts(status: os.stat_result) -> dict[str, int | str]:
    """Size and time of change (UTC, in microseconds) of a file, as records hold them: ISO 8601, which writes a year before 0 or
    after 9999 with its sign and six digits or more.
    """
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    # A file system may hold any year, datetime only 1 to 9999: take the same moment of 1970 to 2369.
    cycles, seconds = divmod(seconds, CYCLE_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    year = moment.year + 400 * cycles
    date = f"{year:04}" if 0 <= year <= 9999 else f"{year:+07}"
    return {"bytes": status.st_size, "modified": f"{date}{moment:-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06}Z"}


def open_descriptor(path: str) -> tuple[int, int | None]:
    """A descriptor of our own, and the size of the file behind it; None for standard input that can only be read forward."""
    if path == STDIN:
        try:
            descriptor = os.dup(0)
        except OSError:
            raise AudioError("cannot-open", f"{path}: standard input is closed.") from None
    else:
        # The descriptor is looked at before anything is read: a FIFO would hang, and libsndfile calls every failure
        # "System error".
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
            if os.path.isdir(path):  # Windows says "no permission" of a directory
                code = "is-directory"
            raise AudioError(code, f"{path}: {(error.strerror or 'it cannot be opened').lower()}.") from None
        except ValueError:
            raise AudioError("cannot-open", f"{path!r}: not a usable file name.") from None
    status = os.fstat(descriptor)
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = AudioError("is-directory", f"{path}: is a directory.")
    elif not stat.S_ISREG(status.st_mode):
        if path == STDIN:
            return descriptor, None
        problem = AudioError(
            "not-a-file",
            f"{path}: is not a regular file; a pipe or device is read from standard input (ms-edge classify -).",
        )
    elif status.st_size == 0:
        problem = AudioError("empty-file", f"{path}: the file is empty (0 bytes).")
    if problem:
        os.close(descriptor)
        raise problem
    return descriptor, status.st_size


def size_of(name: str, source: IO[bytes]) -> int | None:
    """Bytes in a file object; None where it can only be read forward. Raises UsageError where it gives no bytes."""
    try:
        usable = isinstance(source.read(0), bytes)
    except (OSError, ValueError):  # of another mode, or closed
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
    """The recordings in a file that begins with these bytes, or, in a WAV file with that header, its MPEG audio.

    Empty where libsndfile finds them itself. Raises AudioError where the file is of no format that is read.
    """
    if start[:4] == b"OggS":
        starts = ogg_parts(read_at)
        parts = [Part([stretch]) for stretch in pairwise([*starts, size])]
        parts[0].direct = len(parts) == 1
        if any(ogg_is_cut(read_at, end) for end in (*starts[1:], size)):
            notes.append("truncated")
        return parts
    if header.coding not in MPEG_CODINGS if header else begins_as_read(start):
        return []
    from ms_edge.audio.mpeg import after_tags, mpeg_parts  # here: WAV and FLAC need none of it

    if header:
        end = size if header.open_ended else min(size, header.data_offset + header.data_bytes)
        parts, found = mpeg_parts(read_at, header.data_offset, end)
        if not parts:
            raise AudioError("not-audio", f"{name}: its header promises MPEG audio, and it holds no frame of that.")
    elif start[:3] == b"ID3" and read_at(after_tags(read_at, 0), 4) == b"fLaC":
        return []
    else:
        parts, found = mpeg_parts(read_at, 0, size)
        if not parts:
            raise _refused(name, name_of(start))
    notes += [warning for warning in found if warning not in notes]
    return parts


def _refused(name: str, form: str | None) -> AudioError:
    what = f"is {form}, which is not supported" if form else "not audio of a supported format"
    return AudioError("not-audio", f"{name}: {what}; the supported formats are {READ}.")


def open_sound(name: str, opened: object, raw: RawFormat | None) -> soundfile.SoundFile:
    """libsndfile at work on a name, a descriptor, a `Stream` or a `Section`; it never seeks. Raises AudioError."""
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
        raise_error_of(opened, name)
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError("not-audio", f"{name}: not audio that can be read ({reason}).") from None
    if not raw and not container_of(sound.format):
        sound.close()
        raise _refused(name, sound.format_info)
    # Or soundfile seeks to where it is after every read. MP3 then goes on without what it keeps of the frames before, codings in
    # blocks read their block once more, and FLAC of unknown length fails at its end.
    sound.seekable = lambda: False
    if isinstance(opened, Stream | Section):
        opened.opening = False
    return sound


def raise_error_of(opened: object, name: str) -> None:
    """What went wrong while libsndfile read from us, which it does not tell."""
    if error := getattr(opened, "error", None):
        raise unreadable(name, error) if isinstance(error, OSError) else error


def require_wav(name: str, start: bytes) -> None:
    """Raise AudioError unless these first bytes are those of a WAV file."""
    if not is_wav(start[:40]):
        raise AudioError("not-wav", f"{name}: is not a WAV file, and --wav-only refuses the rest.")


def unreadable(name: str, error: OSError) -> AudioError:
    """What the system said while a source that is open was read, as a sentence."""
    return AudioError("cannot-read", f"{name}: cannot be read ({reason(error)}).")
