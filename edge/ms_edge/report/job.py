"""Make the pages of recordings, or of the records of an earlier run."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, MsEdgeError, UsageError, reason
from ms_edge.jobs.inputs import Inputs
from ms_edge.output.destination import is_answer, mirrored, replacing
from ms_edge.output.records import are_records, is_live, read_records
from ms_edge.report.dialogue import curve
from ms_edge.report.index import Row, index_page
from ms_edge.report.page import data_address, page, relative_address
from ms_edge.report.sound import Peaks, Sound, eight_bits, level_bytes
from ms_edge.results import Classification, Failure

MOST_EMBEDDED = 32 << 20  # bytes of the longest recording that a page holds: three minutes of CD audio
PAGES = "pages"  # the folder of the pages beside the index


class Recorded(Inputs):
    """Inputs of which records (*.jsonl, or a dataset) stand for the recordings that they name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        #: sentences about records that are incomplete
        self.notes: list[str] = []
        self._packed: dict[str, list[bytes]] = {}  # compressed: thousands of recordings have many segments
        self._of_file: dict[str, list[str | Failure]] = {}
        for path in self.paths:
            if are_records(path):
                self._of_file[path] = list(self._read(path))

    def _read(self, records: str) -> Iterator[str | Failure]:
        for found in read_records(records, self.notes.append):
            if isinstance(found, Failure):
                yield found
                continue
            if is_live(found):  # a source has many days
                found = replace(found, path=f"{found.path} {str(found.recorded_at)[:19].replace(':', '')}Z")
            if found.path not in self._packed:
                yield found.path
            packed = zlib.compress(pickle.dumps(found), 1)
            self._packed.setdefault(found.path, []).append(packed)

    @property
    def count(self) -> int | None:
        """The number of recordings; None if it is known only after directories are listed."""
        if self.files_from is not None or any(os.path.isdir(path) for path in self.paths if path not in self._of_file):
            return None
        return sum(len(self._of_file.get(path, [path])) for path in self.paths)

    def records_of(self, path: str) -> list[Classification]:
        """Return the records of a recording, one or one for each channel; none if no file has it."""
        return [pickle.loads(zlib.decompress(packed)) for packed in self._packed.get(path, ())]

    def _expanded(self, path: str) -> Iterator[str | Failure]:
        yield from self._of_file[path] if path in self._of_file else super()._expanded(path)


def write_page(path: str, text: str) -> None:
    """Write a page atomically. Raises OSError if that is impossible.

    A file that ms-edge did not write stays as it is (FileExistsError).
    """
    if os.path.isfile(path) and not is_answer(path):
        raise FileExistsError(errno.EEXIST, f"{path} exists and is not a result of ms-edge")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


class Pages:
    """Make the page of each recording: what the workers of a run are given to do.

    `output` is the page itself if `single` is set, otherwise a directory of pages. `embed` puts
    recordings of up to MOST_EMBEDDED bytes into their pages.
    """

    def __init__(
        self,
        inputs: Recorded,
        classifier: Classifier,
        output: str,
        *,
        single: bool,
        embed: bool,
        raw: RawFormat | None,
        channel: int | None,
    ) -> None:
        self._inputs, self._classifier = inputs, classifier
        self._output, self._single, self._embed = output, single, embed
        self._raw, self._channel = raw, channel

    def __call__(self, path: str, on_audio: Callable[[float], None]) -> str | Failure:
        """Write the pages of a recording, and return a line for each of them: a row of the index."""
        try:
            records = self._inputs.records_of(path)
            rows = [self._of_record(record, on_audio) for record in records] or [self._of_recording(path, on_audio)]
        except AudioError as error:
            return Failure(path, error.code, error.message)
        except OSError as error:
            where = f"{path}: its page cannot be written in {self._output}"
            return Failure(path, "cannot-write", f"{where} ({reason(error)}).")
        return "\n".join(json.dumps(row) for row in rows)

    def _of_recording(self, path: str, on_audio: Callable[[float], None]) -> Row:
        found, sound = analysed(self._classifier, path, self._raw, self._channel, on_audio)
        return self._write(found, sound, [])

    def _of_record(self, record: Classification, on_audio: Callable[[float], None]) -> Row:
        """Write the page of a record, with what can still be read of the recording."""
        notes = []
        if is_live(record):
            return self._write(record, None, ["The source was live, so the page has only its record."])
        if record.path == STDIN:
            note = "The recording was standard input, which cannot be read again, so the page has only its record."
            return self._write(record, None, [note])
        try:
            classifier = with_settings(self._classifier, record)
            raw = record.settings.get("raw")
            again, sound = analysed(classifier, record.path, raw, record.channel, on_audio)
            if record.segments and tuple(record.scores) != tuple(again.scores):
                raise UsageError("its record is of a model with other labels; give that model with --model.")
        except (MsEdgeError, TypeError) as error:
            notes.append(f"The recording could not be read again, so the page has only its record: {error}")
            return self._write(record, None, notes)
        if again.file != record.file:
            notes.append("The recording has changed since it was classified.")
        if again.model != record.model and record.segments:
            notes.append("The curves of scores are of another model than the labels.")
        return self._write(record if record.segments else again, sound, notes)

    def _write(self, found: Classification, sound: Sound | None, notes: list[str]) -> Row:
        if "\0" in found.path:  # records can hold any text
            raise OSError(errno.EINVAL, "not a usable file name")
        channel = "" if found.channel is None else f".channel-{found.channel}"
        name = f"{mirrored(found.path)}{channel}.html"
        path = self._output if self._single else os.path.join(self._output, PAGES, name)
        index = None if self._single else relative_address(os.path.join(self._output, "index.html"), path)
        audio = self._audio(found, path, notes) if sound else None
        text = page(found, audio, sound=sound, notes=notes, index=index)
        write_page(path, text)
        address = relative_address(path, os.path.join(self._output, "index.html"))
        return Row.of(found, address)

    def _audio(self, found: Classification, page_path: str, notes: list[str]) -> str | None:
        """Return the address of a recording for its page; None for standard input."""
        if found.path == STDIN:
            return None
        if self._embed and found.file and int(found.file["bytes"]) <= MOST_EMBEDDED:
            return data_address(found.path, found.container)
        if self._embed:
            notes.append("The recording is too long to be part of this page, which plays the file itself.")
        return relative_address(found.path, page_path)


def analysed(
    classifier: Classifier,
    path: str,
    raw: RawFormat | str | None,
    channel: int | None,
    on_audio: Callable[[float], None],
) -> tuple[Classification, Sound]:
    """Classify a recording, and return what a page draws of it, too. It is decoded once."""
    spec = classifier.spec
    peaks = Peaks(spec.sample_rate_hz)
    found, windows = classifier.analyse(path, channel=channel, raw=raw, on_audio=on_audio, on_samples=peaks.add)
    centres_s = np.minimum((windows.starts + spec.clip_samples / 2) / spec.sample_rate_hz, found.duration_s)
    scale = classifier.model.metadata.level
    levels = level_bytes(curve(found.segments, windows, spec, scale)) if scale else None
    return found, Sound(peaks.values(), eight_bits(windows.scores), centres_s, levels)


def with_settings(classifier: Classifier, record: Classification) -> Classifier:
    """Return a classifier with the same model that reads and judges as the run of a record did.

    Raises UsageError or TypeError for settings that the model does not take.
    """
    names = ("hop_s", "min_segment_s", "min_confidence", "binary", "thresholds", "wav_only", "decoder", "track")
    return Classifier(classifier.model, **{name: record.settings[name] for name in names if name in record.settings})


class Index:
    """The results of a run as rows of the index; `single` runs have none.

    Raises UsageError if the page or the directory `output` cannot be written, before any work is done.
    """

    def __init__(self, output: str, *, single: bool) -> None:
        self._output, self._single = output, single
        self._path = os.path.join(output, "index.html")
        self._rows: list[Row] = []
        folder = os.path.dirname(os.path.abspath(output)) if single else output
        try:
            if not single:
                os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK):
                os.listdir(folder)  # says why, if the folder does not exist
                raise PermissionError(errno.EACCES, "permission denied")
        except OSError as error:
            raise UsageError(f"{output}: cannot be written ({reason(error)}).") from None
        if not single and os.path.lexists(self._path) and not is_answer(self._path):
            raise UsageError(f"{self._path}: is not a result of ms-edge and is not replaced; give -o another name.")

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input: pages replace no recording."""
        return given

    def write(self, results: object) -> object:
        """Keep the rows of an input."""
        if isinstance(results, Failure):
            self._rows.append(Row.of(results))
        elif isinstance(results, str):
            self._rows += [Row(*json.loads(line)) for line in results.splitlines()]
        return results

    def finish(self) -> None:
        """Write the index."""
        if not self._single:
            write_page(self._path, index_page(self._rows))

    def abandon(self) -> str:
        """Write the index of the pages so far, and return a clause that names it."""
        if self._single or not self._rows:
            return ""
        self.finish()
        return f"{self._path} lists the pages that were written"
