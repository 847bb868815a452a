"""The real builder of tensorflow-datasets on a small archive with the layout of GTZAN, without
network access.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from ms_edge.audio.file import read_mono
from ms_edge.errors import MsEdgeError
from ms_train.datasets.gtzan import gtzan
from ms_train.datasets.splits import split


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, samples) -> Path:
    root = tmp_path_factory.mktemp("gtzan") / "music_speech"
    for path in samples:
        folder = root / f"{path.name.partition('_')[0]}_wav"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path.name, read_mono(path, 22_050), 22_050, subtype="PCM_16")
    return root


@pytest.fixture(scope="module")
def archive(unpacked) -> Path:
    path = unpacked.parent / "music_speech.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(unpacked, "music_speech")
        # Files that macOS adds to archives, as in GTZAN's archive.
        entry = tarfile.TarInfo("music_speech/._music_wav")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"junk"))
    return path


@pytest.mark.parametrize("form", ["archive", "folder", "parent"])
def test_every_local_copy_is_read_exactly(archive, unpacked, samples, tmp_path, form, capfd):
    given = {"archive": archive, "folder": unpacked, "parent": unpacked.parent}[form]
    dataset = gtzan(given, data_dir=tmp_path)
    assert "ownload" not in "".join(capfd.readouterr()), "the builder speaks of a download that there is not"
    assert (dataset.name, dataset.labels, dataset.decision) == ("gtzan", ("music", "speech"), "exclusive")
    assert [recording.name for recording in dataset.recordings] == [
        f"{path.name.partition('_')[0]}/{path.stem}" for path in samples
    ]
    for recording, path in zip(dataset.recordings, samples, strict=True):
        written, rate = soundfile.read(unpacked / f"{recording.label}_wav" / path.name, dtype="float32")
        assert rate == 22_050
        np.testing.assert_array_equal(recording.read(22_050), written)
        assert len(recording.read(16_000)) == pytest.approx(len(written) * 16_000 / 22_050, abs=2)
    assert len({recording.sha256 for recording in dataset.recordings}) == len(samples)
    assert {recording.label for recording in split(dataset, 0).val} == {"music", "speech"}


def test_working_directory_can_be_the_local_copy(unpacked, tmp_path, monkeypatch):
    monkeypatch.chdir(unpacked)
    assert len(gtzan(Path(), data_dir=tmp_path).recordings) == len(list(unpacked.rglob("*.wav")))


def test_different_copies_are_kept_apart(unpacked, tmp_path):
    other = tmp_path / "other" / "music_speech"
    for label in ("music", "speech"):
        (other / f"{label}_wav").mkdir(parents=True)
        soundfile.write(other / f"{label}_wav" / f"{label}.wav", np.full(22_050, 0.25), 22_050)
    first = gtzan(unpacked, data_dir=tmp_path / "tfds")
    assert len(gtzan(other, data_dir=tmp_path / "tfds").recordings) == 2
    again = gtzan(unpacked, data_dir=tmp_path / "tfds")
    assert [recording.sha256 for recording in again.recordings] == [recording.sha256 for recording in first.recordings]


def test_other_archive_gives_one_sentence(tmp_path):
    (tmp_path / "text.tar.gz").write_text("I am no archive.")
    with pytest.raises(MsEdgeError, match=r"text\.tar\.gz: cannot be unpacked"):
        gtzan(tmp_path / "text.tar.gz", data_dir=tmp_path)
    with pytest.raises(MsEdgeError, match="cannot be unpacked"):
        gtzan(tmp_path / "missing.tar.gz", data_dir=tmp_path)
    (tmp_path / "music_speech" / "music_wav").mkdir(parents=True)
    soundfile.write(tmp_path / "music_speech" / "music_wav" / "a.wav", np.zeros(100), 22_050)
    with pytest.raises(MsEdgeError, match="speech_wav"):
        gtzan(tmp_path, data_dir=tmp_path)
    (tmp_path / "music_speech" / "speech_wav").mkdir()
    soundfile.write(tmp_path / "music_speech" / "speech_wav" / "a.wav", np.zeros(100), 22_050)
    with pytest.raises(MsEdgeError, match="same name"):
        gtzan(tmp_path, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype", "message"),
    [
        ("a.wav", 16_000, 1, "PCM_16", "16,000 Hz"),
        ("a.wav", 22_050, 2, "PCM_16", r"2 channel\(s\)"),
        ("a.wav", 22_050, 1, "PCM_U8", "PCM_U8"),
        ("a.wav", 22_050, 1, "PCM_24", "PCM_24"),
        ("a.1.wav", 22_050, 1, "PCM_16", "rename"),
        ("sub/a.wav", 22_050, 1, "PCM_16", "move"),
        ("../a.wav", 22_050, 1, "PCM_16", "move"),
    ],
)
def test_files_the_builder_misreads_are_refused(tmp_path, name, rate, channels, subtype, message):
    for path in ("music_wav/m.wav", "speech_wav/s.wav"):
        (tmp_path / "music_speech" / path).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "music_speech" / path, np.zeros(100), 22_050)
    odd = tmp_path / "music_speech" / "music_wav" / name
    odd.parent.mkdir(exist_ok=True)
    soundfile.write(odd, np.zeros((100, channels)), rate, subtype=subtype)
    with pytest.raises(MsEdgeError, match=message):
        gtzan(tmp_path, data_dir=tmp_path / "tfds")


def test_file_without_audio_is_named(tmp_path):
    for label in ("music", "speech"):
        (tmp_path / "music_speech" / f"{label}_wav").mkdir(parents=True)
        (tmp_path / "music_speech" / f"{label}_wav" / f"{label}.wav").write_bytes(b"I am no audio.")
    with pytest.raises(MsEdgeError, match=r"music\.wav: not audio"):
        gtzan(tmp_path, data_dir=tmp_path)


def test_incomplete_archive_is_an_error(archive, tmp_path):
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(MsEdgeError, match=r"cut\.tar\.gz: cannot be unpacked"):
        gtzan(cut, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["../outside.wav", "music_speech/../../outside.wav", "{tmp_path}/outside.wav"])
def test_archive_with_paths_outside_is_refused(unpacked, tmp_path, monkeypatch, name):
    with tarfile.open(tmp_path / "hostile.tar", "w") as tar:
        tar.add(unpacked, "music_speech")
        entry = tarfile.TarInfo(name.format(tmp_path=tmp_path))
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"junk"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(MsEdgeError, match=r"hostile\.tar: cannot be unpacked .*outside\.wav leads out of it"):
        gtzan(tmp_path / "hostile.tar", data_dir=tmp_path / "data")
    assert not list(tmp_path.rglob("outside.wav"))


def test_links_in_an_archive_are_skipped(unpacked, tmp_path, samples):
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        tar.add(unpacked, "music_speech")
        link = tarfile.TarInfo("music_speech/music_wav/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert len(gtzan(tmp_path / "links.tar", data_dir=tmp_path / "data").recordings) == len(samples)


def test_unwritable_folder_is_no_download_error(unpacked, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MsEdgeError, match="cannot be prepared there") as refused:
        gtzan(unpacked, data_dir=tmp_path / "file")
    assert "--archive" not in str(refused.value)


def test_missing_pydub_is_named(unpacked, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydub", None)
    with pytest.raises(ModuleNotFoundError) as missing:  # the command line translates it
        gtzan(unpacked, data_dir=tmp_path)
    assert missing.value.name == "pydub"


def test_failed_download_mentions_the_archive_option(tmp_path, monkeypatch):
    def dead(self, urls):
        raise tfds.download.DownloadError("Failed to get url")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", dead)
    with pytest.raises(MsEdgeError, match="--archive"):
        gtzan(data_dir=tmp_path)
