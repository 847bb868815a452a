"""Audio datasets of tensorflow-datasets, by name: each example is a recording, read from disk when
it is used.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.audio.file import AudioFile
from ms_edge.audio.source import AudioArrays, require_plausible
from ms_edge.errors import AudioError, first_line
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import fit_for_training, say_left_out
from ms_train.errors import DataError

# Our names for the splits of tensorflow-datasets; other splits (`unlabelled`, `test_other`) keep
# their names and are not used.
PARTS = {"train": "train", "validation": "val", "test": "test"}


def tfds_dataset(name: str) -> Dataset:
    """Return the dataset with this name in tensorflow-datasets (NAME[/CONFIG][:VERSION]), or a
    prepared one in a folder.

    If necessary, it is downloaded and prepared in tensorflow-datasets' own folder (TFDS_DATA_DIR).
    Raises DataError(`bad-data`) if it is unknown or unavailable, or if its examples have no audio
    with a sample rate and a class.
    """
    given = f"tfds:{name}"
    prepared = (Path(name) / "dataset_info.json").is_file()
    advice = (
        "; give NAME[/CONFIG][:VERSION] as its catalogue has it, or the folder with a prepared one's dataset_info.json."
    )
    # The output here is only advice on packages.
    with one_sentence(f"{given}: tensorflow-datasets has no such dataset", advice), redirect_stdout(io.StringIO()):
        builder = tfds.builder_from_directory(name) if prepared else tfds.builder(name)
    with one_sentence(f"{given}: tensorflow-datasets cannot prepare it", "."):
        builder.download_and_prepare()
    return dataset_of(builder, given)


@contextmanager
def one_sentence(before: str, after: str) -> Iterator[None]:
    """Translate every error of tensorflow-datasets to DataError(`bad-data`), `before (why)after`,
    and suppress its messages.
    """
    loggers = [logging.getLogger("absl"), logging.getLogger("urllib3")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # AssertionError, ValueError, requests' errors, ImportError ...
        raise DataError("bad-data", f"{before} ({first_line(error)}){after}") from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def dataset_of(builder: Any, given: str, name_of: Callable[[dict[str, Any]], str] | None = None) -> Dataset:
    """Return the dataset of a prepared builder (tfds.core.DatasetBuilder); `given` is its name in
    errors.

    Recordings are named SPLIT/NUMBER, or by `name_of(example)`. The labels are the classes that
    occur, in the order of their numbers. Examples that cannot be read or have no class are named on
    stderr and left out. Raises DataError(`bad-data`) as `tfds_dataset` does.
    """
    audio, label = _features(builder.info, given)
    classes, rate_hz = builder.info.features[label].names, builder.info.features[audio].sample_rate
    if rate_hz:
        require_plausible(given, rate_hz, 1)
    splits = [split for split, info in sorted(builder.info.splits.items()) if info.num_examples]
    scale = _Scale()
    recordings, left_out, count = [], [], 0
    for split in splits:
        examples = _examples(builder, split, given)
        for number in tqdm(range(len(examples)), desc=f"{given} {split}", file=sys.stderr, disable=None, leave=False):
            count += 1
            name = f"{split}/{number:05d}"
            try:
                example = _example(examples, number, name)
                samples, index = example[audio], int(example[label])
                if not rate_hz and not isinstance(samples, bytes):
                    raise DataError(
                        "bad-data", f"{given}: does not say at what sample rate its audio is; it cannot be used."
                    )
                if not 0 <= index < len(classes):
                    raise AudioError("no-label", f"{name}: has no class.")
            except AudioError as error:
                left_out.append(str(error))
                continue
            scale.see(samples)
            name = name_of(example) if name_of else name
            recordings.append(
                Recording(
                    name=name,
                    label=classes[index],
                    source=builder.info.name,
                    sha256=_digest(samples),
                    read=partial(_read, examples, number, audio, name, rate_hz, scale),
                    # A dataset with one split prescribes no parts.
                    split=PARTS.get(split, split) if len(splits) > 1 else None,
                )
            )
    say_left_out(given, left_out, count, "examples")
    labels = tuple(name for name in classes if any(recording.label == name for recording in recordings))
    if len(labels) < 2:
        raise DataError("bad-data", f"{given}: has {len(labels)} classes; at least two are needed to tell apart.")
    return Dataset(builder.info.full_name, labels, "exclusive", tuple(recordings))


def _features(info: Any, given: str) -> tuple[str, str]:
    """Return the names of the audio feature and of the class label: the supervised keys, else the
    only candidates.
    """
    found = []
    for kind, what in ((tfds.features.Audio, "audio feature"), (tfds.features.ClassLabel, "class label")):
        names = sorted(name for name, feature in dict(info.features or {}).items() if isinstance(feature, kind))
        chosen = [name for name in names if name in (info.supervised_keys or ())]
        if len(chosen) != 1:
            chosen = names
        if len(chosen) != 1:
            which = f"{len(names)} of them ({', '.join(names)}) and does not say which to use" if names else "none"
            raise DataError("bad-data", f"{given}: is to have one {what} and has {which}.")
        found += chosen
    return found[0], found[1]


class _TfRecords:
    """The examples of a split in TFRecord files, by number; only their positions are kept in
    memory.
    """

    def __init__(self, builder: Any, split: str) -> None:
        self._features = builder.info.features
        self._places: list[tuple[Path, int, int]] = []  # file, first byte, bytes
        for path in map(Path, builder.info.splits[split].filepaths):
            size, at = path.stat().st_size, 0
            with path.open("rb") as file:
                while at < size:
                    # A record: length (8 bytes, little-endian), its checksum (4), the example, its
                    # checksum (4).
                    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
                    if at + 16 + length > size:
                        raise ValueError(f"{path}: is cut off")
                    self._places.append((path, at + 12, length))
                    at += 16 + length
                    file.seek(at)
        if len(self._places) != builder.info.splits[split].num_examples:
            raise ValueError(f"{split} has {len(self._places)} examples and should have more or fewer")

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> dict[str, Any]:
        path, start, length = self._places[number]
        with path.open("rb") as file:
            file.seek(start)
            return dict(self._features.deserialize_example_np(file.read(length)))


def _examples(builder: Any, split: str, given: str) -> Any:
    """Return a sequence of the examples of a split: dictionaries of NumPy arrays, each read when it
    is used.
    """
    with one_sentence(f"{given}: {split} cannot be read", "; prepare it anew."):
        if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
            return _TfRecords(builder, split)
        return builder.as_data_source(split=split)  # formats with random access of their own


def _example(examples: Any, number: int, name: str) -> dict[str, Any]:
    try:
        return dict(examples[number])
    except Exception as error:  # protobuf's, TensorFlow's and array_record's
        raise AudioError("cannot-read", f"{name}: cannot be read ({first_line(error)}).") from None


class _Scale:
    """The full scale of a dataset's integer samples.

    An Audio feature widens samples to 64 bits and does not record their original size. The size is
    taken to be the smallest of 8, 16, 24 and 32 bits that holds every sample of the dataset, so
    that all recordings have the same scale.
    """

    def __init__(self) -> None:
        self._peak = 0

    def see(self, samples: Any) -> None:
        """Record the peak of integer samples; encoded files (bytes) and floats have a known scale."""
        if not isinstance(samples, bytes) and samples.dtype.kind in "iu" and samples.size:
            self._peak = max(self._peak, int(samples.max()), -int(samples.min()))

    def floats(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return samples of any type as float32 in [-1, 1]."""
        if samples.dtype.kind not in "iu":
            return samples.astype(np.float32)
        bits = 8 * samples.dtype.itemsize
        if bits > 16:
            bits = next((bits for bits in (8, 16, 24, 32) if self._peak <= 1 << (bits - 1)), bits)
        centre = 1 << (bits - 1) if samples.dtype.kind == "u" else 0
        return ((samples.astype(np.float64) - centre) / (1 << (bits - 1))).astype(np.float32)


def _digest(samples: Any) -> str:
    """Return the SHA-256 of an encoded file, or of samples, as 16-bit numbers if they fit, whatever
    their type.
    """
    if isinstance(samples, bytes):
        return hashlib.sha256(samples).hexdigest()
    if samples.dtype.kind in "iu":
        narrow = not samples.size or (samples.min() >= -(1 << 15) and samples.max() < 1 << 15)
        samples = samples.astype("<i2" if narrow else "<i8")
    return hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()


class _Encoded(io.BytesIO):
    """An encoded file in memory, with its name for errors."""

    name = ""


def _read(
    examples: Any, number: int, audio: str, name: str, rate_hz: int, scale: _Scale, sample_rate_hz: int
) -> Float32:
    samples = _example(examples, number, name)[audio]
    if isinstance(samples, bytes):
        encoded = _Encoded(samples)
        encoded.name = name
        with AudioFile(encoded) as file:
            return fit_for_training(file, sample_rate_hz)
    with AudioArrays([scale.floats(samples)], rate_hz, name) as array:
        return fit_for_training(array, sample_rate_hz)
