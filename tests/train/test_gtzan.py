"""The real builder of tensorflow-datasets, on a small archive of GTZAN's layout, without network."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from ms_edge.audio import read_mono
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
        # What archives made on a Mac bring along, and what GTZAN's does.
        entry = tarfile.TarInfo("music_speech/._music_wav")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"junk"))
    return path


@pytest.mark.parametrize("form", ["archive", "folder", "parent"])
def test_every_form_of_a_local_copy_is_read_to_the_bit(archive, unpacked, samples, tmp_path, form):
    given = {"archive": archive, "folder": unpacked, "parent": unpacked.parent}[form]
    dataset = gtzan(given, data_dir=tmp_path)
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


def test_copies_are_not_taken_for_one_another(unpacked, tmp_path):
    other = tmp_path / "other" / "music_speech"
    for label in ("music", "speech"):
        (other / f"{label}_wav").mkdir(parents=True)
        soundfile.write(other / f"{label}_wav" / f"{label}.wav", np.full(22_050, 0.25), 22_050)
    first = gtzan(unpacked, data_dir=tmp_path / "tfds")
    assert len(gtzan(other, data_dir=tmp_path / "tfds").recordings) == 2
    again = gtzan(unpacked, data_dir=tmp_path / "tfds")
    assert [recording.sha256 for recording in again.recordings] == [recording.sha256 for recording in first.recordings]


def test_what_is_not_the_collection_gets_a_sentence(tmp_path):
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


def test_a_dead_address_tells_of_the_archive(tmp_path, monkeypatch):
    def dead(self, urls):
        raise tfds.download.DownloadError("Failed to get url")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", dead)
    with pytest.raises(MsEdgeError, match="--archive"):
        gtzan(data_dir=tmp_path)
