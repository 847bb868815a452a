"""GTZAN music/speech through tensorflow-datasets, from its own download or from a local copy.

64 recordings of music and 64 of speech, 30 s each, 22,050 Hz mono 16-bit (Tzanetakis 1999). The
builder's download address is reported dead, so a local copy of the archive can be used instead.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from ms_edge.audio.file import AudioFile
from ms_edge.errors import first_line
from ms_train.datasets.dataset import Dataset
from ms_train.datasets.examples import dataset_of
from ms_train.errors import DataError

LABELS = ("music", "speech")
SAMPLE_RATE_HZ = 22_050
CLASS_FOLDERS = tuple(f"{label}_wav" for label in LABELS)


def gtzan(archive: Path | None = None, data_dir: Path | None = None) -> Dataset:
    """Return the collection as a dataset; music is label 0, speech is label 1.

    `archive` is a `music_speech.tar.gz`, its unpacked folder, or the parent of that folder. Without
    it, the builder downloads the archive. tensorflow-datasets keeps the prepared data in `data_dir`
    (by default its own), one copy for each archive. Raises DataError(`bad-data`) if the collection
    is unavailable.
    """
    _require_pydub()
    builder = _downloaded(data_dir) if archive is None else _from_archive(archive, data_dir)
    recordings = (replace(recording, source="gtzan") for recording in dataset_of(builder, "gtzan", _name).recordings)
    return Dataset("gtzan", LABELS, "exclusive", tuple(sorted(recordings, key=lambda recording: recording.name)))


def _downloaded(data_dir: Path | None) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # the builder prints messages
            builder = tfds.builder("gtzan_music_speech", data_dir=data_dir)
            builder.download_and_prepare()
            return builder
    except (tfds.download.DownloadError, NonMatchingChecksumError, OSError) as error:
        raise DataError(
            "bad-data",
            f"tensorflow-datasets cannot download GTZAN music/speech ({first_line(error)}); "
            "get music_speech.tar.gz and pass it with --archive.",
        ) from None


def _from_archive(archive: Path, data_dir: Path | None) -> Any:
    with _unpacked(archive) as folder:
        # macOS leaves files whose names begin with a dot; the builder skips them too.
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and not path.name.startswith(".")
        )
        _refuse_what_the_builder_misreads(archive, folder, files)
        # The digest keeps data prepared from different archives apart.
        digest = hashlib.sha256()
        for path in files:
            digest.update(
                path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
        root = Path(data_dir or tfds.core.constants.DATA_DIR) / f"gtzan-{digest.hexdigest()[:16]}"
        try:
            with _without_talk_of_a_download():
                builder = _local_builder(folder.parent, root)
                builder.download_and_prepare()
                return builder
        except OSError as error:
            raise DataError("bad-data", f"{root}: GTZAN cannot be prepared there ({first_line(error)}).") from None


def _refuse_what_the_builder_misreads(archive: Path, folder: Path, files: list[Path]) -> None:
    """Raise DataError for files that the builder would silently drop, confuse with others or
    misread.
    """
    for name in CLASS_FOLDERS:
        if not any(path.parent == folder / name for path in files):
            raise DataError("bad-data", f"{archive}: no music_speech/{name}/*.wav in it; it is not the collection.")
    if len({path.name for path in files}) < len(files):
        raise DataError("bad-data", f"{archive}: two files have the same name, by which the builder tells them apart.")
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not re.fullmatch(r"(music|speech)_wav/[\w-]+\.wav", name):
            raise DataError(
                "bad-data",
                f"{archive}: {name}: the builder reads music_wav/NAME.wav and speech_wav/NAME.wav, "
                "NAME of letters, digits, _ and -; move or rename it.",
            )
        with AudioFile(path) as audio:
            found = (audio.sample_rate_hz, audio.channels, soundfile.info(path).subtype)
            if soundfile.info(path).format != "WAV" or audio.warnings:
                why = ", ".join(audio.warnings) or "not WAV"
                raise DataError("bad-data", f"{archive}: {name}: the builder would misread it ({why}).")
        if found != (SAMPLE_RATE_HZ, 1, "PCM_16"):
            raise DataError(
                "bad-data",
                f"{archive}: {name}: {found[0]:,} Hz, {found[1]} channel(s), {found[2]}; the collection is "
                f"{SAMPLE_RATE_HZ:,} Hz mono 16-bit PCM (--data folder:PATH reads any format).",
            )


def _local_builder(unpacked: Path, data_dir: Path) -> Any:
    """Return the real builder, with an unpacked archive instead of its download."""
    from tensorflow_datasets.audio.gtzan_music_speech.gtzan_music_speech import GTZANMusicSpeech

    class Unpacked:
        def download_and_extract(self, urls: dict[str, str]) -> dict[str, str]:
            return dict.fromkeys(urls, str(unpacked))

    class LocalGTZANMusicSpeech(GTZANMusicSpeech, skip_registration=True):  # type: ignore[call-arg]
        name = "gtzan_music_speech"

        def _split_generators(self, dl_manager: object) -> Any:
            return super()._split_generators(Unpacked())

    return LocalGTZANMusicSpeech(data_dir=str(data_dir))


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """Yield the folder `music_speech` of an archive: unpacked temporarily, or as it is if the
    archive is a folder.
    """
    if archive.is_dir():
        archive = Path(os.path.abspath(archive))  # so that `.` has a name
        yield archive if archive.name == "music_speech" else archive / "music_speech"
        return
    with tempfile.TemporaryDirectory(prefix="gtzan-") as folder:
        try:
            with tarfile.open(archive) as tar:
                _unpack(tar, Path(folder))
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:  # EOFError: an incomplete download
            raise DataError("bad-data", f"{archive}: cannot be unpacked ({first_line(error)}).") from None
        yield Path(folder) / "music_speech"


@contextmanager
def _without_talk_of_a_download() -> Iterator[None]:
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        absl.setLevel(level)


def _name(example: dict[str, Any]) -> str:
    return f"{LABELS[int(example['label'])]}/{Path(example['audio/filename'].decode()).stem}"


def _require_pydub() -> None:
    # tensorflow-datasets needs both, does not declare them as dependencies, and fails late without
    # them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydub warns of a missing ffmpeg, which WAV files do not need
        import importlib_resources  # noqa: F401
        import pydub  # noqa: F401


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Write the files of an archive below a folder.

    Raises TarError for a path that leads out of it.

    Python 3.11.0 has no extraction filter for this.
    """
    for member in tar:
        if member.isreg() and (content := tar.extractfile(member)):
            path = Path(os.path.normpath(folder / member.name))
            if not path.is_relative_to(folder):
                raise tarfile.TarError(f"{member.name} leads out of it")
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, open(path, "wb") as file:
                shutil.copyfileobj(content, file)
