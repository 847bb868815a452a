"""Cut recordings: copy the parts that have a label, bit for bit where the format allows it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.audio.file import AudioFile, open_file
from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioSource, Samples, require_plausible
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, UsageError, reason
from ms_edge.output.destination import mirrored, unique_part
from ms_edge.output.writers import duration, printable
from ms_edge.report.cut_files import Sink, Stored
from ms_edge.report.cut_lists import LISTS, Piece
from ms_edge.report.job import Recorded
from ms_edge.results import Classification, Failure

ROUNDED_S = 2.0  # to which FAT and ZIP round times


@dataclass(frozen=True)
class Plan:
    """What to cut, as the options of `ms-edge cut` say it. `listing` is one of LISTS, or None."""

    keep: tuple[str, ...]
    drop: tuple[str, ...]
    pad_s: float
    fade_s: float
    join: bool
    listing: str | None


def cut(
    samples: NDArray[Any], sample_rate_hz: int, intervals: Sequence[tuple[float, float]], *, fade_s: float = 0.0
) -> list[NDArray[Any]]:
    """Return copies of parts of an array of samples, such as `Classification.intervals` names them.

    `samples` is (n,) or (n, channels), of any type, at `sample_rate_hz`. `intervals` are starts and
    ends in seconds. Each part fades in and out within `fade_s` seconds, except at the beginning and
    the end of the array. An interval may end after the array, also at `math.inf`. `numpy.concatenate`
    joins the parts.

    Raises UsageError if an interval ends before it starts, and for a negative `fade_s`.

    >>> import numpy as np
    >>> [part.tolist() for part in cut(np.arange(8), 4_000, [(0, 0.00075), (0.00125, 0.002)])]
    [[0, 1, 2], [5, 6, 7]]
    """
    require_plausible("array", sample_rate_hz, 1)
    if not fade_s >= 0:
        raise UsageError(f"fade_s must be 0 seconds or more, not {fade_s:g}.")
    found: list[NDArray[Any]] = []
    for start_s, end_s in intervals:
        if not 0 <= start_s <= end_s:
            raise UsageError(
                f"An interval starts at 0 or later and ends after its start, not at {start_s} and {end_s}."
            )
        start, end = (round(min(at_s * sample_rate_hz, len(samples))) for at_s in (start_s, end_s))
        fades = Fades.of(fade_s * sample_rate_hz, end - start, start > 0, end < len(samples))
        part = samples[start:end]
        found.append(fades.applied(part[:, None] if part.ndim == 1 else part, 0).reshape(part.shape).copy())
    return found


@dataclass(frozen=True)
class Fades:
    """How a piece of `length` frames fades in and out: linearly, over `frames` frames."""

    frames: int
    length: int
    fades_in: bool
    fades_out: bool

    @classmethod
    def of(cls, frames: float, length: int, fades_in: bool, fades_out: bool) -> Fades:
        """Return fades over `frames` frames (any number), at most over half of the piece."""
        return cls(min(round(min(frames, length)), length // 2), length, fades_in, fades_out)

    def applied(self, block: Samples, first: int) -> Samples:
        """Return frames (n, channels) of the piece, of which the first has the number `first`."""
        frames = self.frames
        fades_in = self.fades_in and first < frames
        fades_out = self.fades_out and first + len(block) > self.length - frames
        if not frames or not (fades_in or fades_out):
            return block
        at = np.arange(first, first + len(block)) + 0.5
        gain = np.ones(len(block))
        if fades_in:
            gain = np.minimum(gain, at / frames)
        if fades_out:
            gain = np.minimum(gain, np.maximum(self.length - at, 0) / frames)
        zero = 1 << 8 * block.itemsize - 1 if block.dtype.kind == "u" else 0  # the number that is silence
        faded = (block - np.float64(zero)) * gain[:, np.newaxis] + zero if zero else block * gain[:, np.newaxis]
        if block.dtype.kind in "iu":
            np.rint(faded, out=faded)
        changed: Samples = faded.astype(block.dtype)
        return changed


class Cuts:
    """Cut each recording: what the workers of a run are given to do.

    The parts of a/b.wav become the files of the directory `output`/a/b.wav, named by the time at
    which they begin, or with `join` the file `output`/a/b.wav. They appear when all are complete.
    No existing file is replaced.
    """

    def __init__(
        self,
        inputs: Recorded,
        classifier: Classifier | None,
        output: str,
        plan: Plan,
        *,
        raw: RawFormat | None = None,
        channel: int | None = None,
    ) -> None:
        self._inputs, self._classifier, self._output, self._plan = inputs, classifier, output, plan
        self._raw, self._channel = raw, channel
        self._unfinished = unique_part(os.path.join(output, ""))

    def clean(self) -> None:
        """Remove what workers left that were stopped in the middle of a recording."""
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def __call__(self, path: str, on_audio: Callable[[float], None]) -> str | Failure:
        """Write the pieces of a recording, and return a line that says what was done."""
        try:
            if not self._plan.join:
                _require_free(os.path.join(self._output, mirrored(path)))
            records = self._inputs.records_of(path)
            if records and path == STDIN:
                raise AudioError("cannot-open", f"{path}: was standard input, which cannot be read again.")
            if records:
                return self._cut(_only(records), on_audio)
            assert self._classifier
            found = self._classifier.classify(path, channel=self._channel, raw=self._raw, on_audio=on_audio)
            return self._cut(found, lambda seconds: None)
        except (AudioError, UsageError) as error:
            return Failure(path, error.code, error.message)
        except (OSError, ValueError) as error:  # ValueError: no file can have the name
            why = reason(error) if isinstance(error, OSError) else "not a usable file name"
            message = f"{path}: its parts cannot be written in {self._output} ({why})."
            return Failure(path, "cannot-write", message)

    def _cut(self, found: Classification, on_audio: Callable[[float], None]) -> str:
        parts = found.intervals(*self._plan.keep, drop=self._plan.drop, pad_s=self._plan.pad_s)
        with _opened(found) as audio:
            lengths = [end_s - start_s for start_s, end_s in parts] or [0.0]
            stored = Stored.of(audio, sum(lengths) if self._plan.join else max(lengths))
            target = os.path.join(self._output, mirrored(found.path))
            if self._plan.join and not target.lower().endswith(stored.suffixes):
                target += stored.suffixes[0]
            listing = f"{target}.{LISTS[self._plan.listing].suffix}" if self._plan.listing else None
            _require_free(target)
            if listing:
                _require_free(listing)
            if not parts:
                return line(0.0, found.duration_s, 0, "-", f"nothing to keep in {found.path}")
            read = Reader(_blocks(audio, stored, on_audio))
            pieces = self._write(read, stored, found, parts, target, listing)
        kept_s = sum(piece.end_s - piece.start_s for piece in pieces)
        warnings = dict.fromkeys([*found.warnings, *audio.warnings])
        if found.file and audio.file and _differ(found.file.get("modified"), audio.file["modified"]):
            warnings["its time of change is not that of its record"] = None
        odd = f" ({', '.join(warnings)})" if warnings else ""
        output = target if self._plan.join else os.path.join(target, "")
        fades = self._plan.fade_s > 0 and parts != [(0.0, found.duration_s)]
        samples = "faded" if fades and stored.layout else stored.name
        return line(kept_s, found.duration_s, len(pieces), samples, f"{output}{odd}")

    def _write(
        self,
        read: Reader,
        stored: Stored,
        found: Classification,
        parts: list[tuple[float, float]],
        target: str,
        listing: str | None,
    ) -> list[Piece]:
        """Write the pieces and the list into a new directory, and rename what is wanted."""
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        made = os.path.join(self._unfinished, os.urandom(8).hex())
        made_list = f"{made}.list"
        os.makedirs(made)
        try:
            pieces = []
            with contextlib.ExitStack() as whole:
                one = whole.enter_context(Sink(os.path.join(made, "joined"), stored, 0.0)) if self._plan.join else None
                for piece, blocks in _pieces(read, stored, parts, found.duration_s, self._plan.fade_s):
                    name = f"{_clock(piece.start_s)}{stored.suffixes[0]}"
                    with contextlib.ExitStack() as each:
                        sink = one or each.enter_context(Sink(os.path.join(made, name), stored, piece.start_s))
                        for block in blocks:
                            sink.write(block)
                    base = os.path.basename(target)
                    pieces.append(replace(piece, name=base if one else os.path.join(base, name)))
            if listing and self._plan.listing:
                with open(made_list, "x", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    file.write(LISTS[self._plan.listing].text(found, pieces, self._plan.join))
                _move(made_list, listing)
            try:
                _move(os.path.join(made, "joined") if self._plan.join else made, target)
            except BaseException:
                if listing:
                    os.remove(listing)
                raise
            return pieces
        finally:
            shutil.rmtree(made, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.remove(made_list)


def _only(records: Sequence[Classification]) -> Classification:
    """Return the last record of a recording. Raises UsageError if they are about several channels."""
    if len({record.channel for record in records}) > 1:
        raise UsageError(
            f"{records[0].path}: has a record for each channel, and all are cut together; "
            "classify it with --channels mix or N."
        )
    return records[-1]


def _opened(found: Classification) -> AudioSource:
    """Open a recording as the settings of its classification say. Raises AudioError if it has changed."""
    raw, decoder, track = (found.settings.get(name) for name in ("raw", "decoder", "track"))
    audio = open_file(
        found.path,
        raw=RawFormat.parse(raw) if isinstance(raw, str) else None,
        wav_only=found.settings.get("wav_only") is True,
        decoder=decoder if isinstance(decoder, str) else "auto",
        track=track if isinstance(track, int) else 1,
    )
    if found.file and audio.file and audio.file["bytes"] != found.file.get("bytes"):
        audio.close()
        raise AudioError("has-changed", f"{found.path}: has changed since its record was written; classify it again.")
    return audio


def _differ(before: object, now: object) -> bool:
    """Return whether two times of change differ by more than archives and disks round them; false if one is unknown."""
    try:
        apart = datetime.fromisoformat(str(before)) - datetime.fromisoformat(str(now))
    except (ValueError, TypeError):
        return False
    return abs(apart.total_seconds()) > ROUNDED_S


def _require_free(path: str) -> None:
    """Raise AudioError if there is a file or directory of this name."""
    if os.path.lexists(path):
        raise AudioError(
            "cannot-write", f"{path}: exists and is not replaced; remove it, or give -o another directory."
        )


HEADER = f"{'KEPT':>10}  {'DURATION':>10}  {'PARTS':>6}  {'SAMPLES':<12}  OUTPUT"


def line(kept_s: float, duration_s: float, pieces: int, samples: str, output: str) -> str:
    """Return the line of a recording, below HEADER. `samples` says how they were written."""
    return f"{duration(kept_s):>10}  {duration(duration_s):>10}  {pieces:>6}  {samples:<12}  {printable(output)}"


def _pieces(
    read: Reader, stored: Stored, parts: Sequence[tuple[float, float]], duration_s: float, fade_s: float
) -> Iterator[tuple[Piece, Iterator[Samples]]]:
    """Yield the pieces of a recording with their samples. It is read once, forward."""
    rate = stored.sample_rate_hz
    for start_s, end_s in parts:
        start = round(start_s * rate)
        to_the_end = end_s >= duration_s
        end = round(end_s * rate)
        fades = Fades.of(fade_s * rate, end - start, start > 0, not to_the_end)
        yield Piece(start / rate, end / rate), read.frames(start, None if to_the_end else end, fades)


def _blocks(audio: AudioSource, stored: Stored, on_audio: Callable[[float], None]) -> Iterator[Samples]:
    """Yield a recording as blocks (n, channels), as it stores samples, or as floats.

    Call `on_audio` with the seconds in each.
    """
    if stored.layout:
        assert isinstance(audio, AudioFile)
        blocks = audio.numbers()
    else:
        blocks = (block.T for block in audio.blocks(audio.sample_rate_hz, "each"))
    for block in blocks:
        on_audio(len(block) / audio.sample_rate_hz)
        yield block


class Reader:
    """Frames of a recording that is read forward."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._block: Samples | None = None
        self._first = 0  # number of the first frame of the block

    def frames(self, start: int, end: int | None, fades: Fades) -> Iterator[Samples]:
        """Yield blocks of the frames from `start` (not before those already read) to `end`, or all."""
        while True:
            if self._block is None:
                self._block = next(self._blocks, None)
            if self._block is None:
                return
            after = self._first + len(self._block)
            low, high = max(start, self._first), after if end is None else min(end, after)
            if low < high:
                yield fades.applied(self._block[low - self._first : high - self._first], low - start)
            if end is not None and end <= after:
                return
            self._block, self._first = None, after


def _clock(seconds: float) -> str:
    """Return a time as it stands in names: 01-02-03.250."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}-{minutes % 60:02}-{milliseconds / 1000:06.3f}"


def _move(made: str, target: str) -> None:
    """Rename a file or a directory. Raises OSError if the new name exists."""
    if os.path.isdir(made):
        os.rename(made, target)
        return
    try:
        os.link(made, target)  # as rename, but it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # the file system has no links
        os.rename(made, target)
