from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from ms_edge.errors import MsEdgeError
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.folder import folder
from ms_train.datasets.splits import split
from ms_train.recipes.by_name import get_recipe


def dataset(counts: dict[str, int], prescribed: bool = False) -> Dataset:
    recordings = [
        Recording(
            f"{label}/{i}",
            label,
            label,
            hashlib.sha256(f"{label}/{i}".encode()).hexdigest(),
            lambda rate: np.zeros(rate, np.float32),
            ("train", "val", "test_a")[i % 3] if prescribed else None,
        )
        for label, count in counts.items()
        for i in range(count)
    ]
    return Dataset("toy", tuple(counts), "exclusive", tuple(recordings))


def names(part):
    return {recording.name for recording in part}


def test_folder_reads_every_format_and_sorts_its_classes(samples, tmp_path):
    for label in ("speech", "music"):
        (tmp_path / label / "deep").mkdir(parents=True)
        audio, rate = soundfile.read(next(path for path in samples if path.name.startswith(label)))
        for name in ("a.wav", "b.flac", "deep/c.ogg", "d.mp3"):
            soundfile.write(tmp_path / label / name, audio[:48_000], rate)
        (tmp_path / label / "readme.txt").touch()
        (tmp_path / label / "._a.wav").touch()
    found = folder(tmp_path)
    assert found.labels == ("music", "speech")
    assert [recording.name for recording in found.recordings] == [
        f"{label}/{name}" for label in found.labels for name in ("a.wav", "b.flac", "d.mp3", "deep/c.ogg")
    ]
    for recording in found.recordings:
        assert recording.sha256 == hashlib.sha256((tmp_path / recording.name).read_bytes()).hexdigest()
        audio = recording.read(16_000)
        assert audio.dtype == np.float32
        assert np.abs(audio).max() > 0.01


def test_unusable_folder_gives_one_sentence(samples, tmp_path):
    with pytest.raises(MsEdgeError, match="no such folder"):
        folder(tmp_path / "missing")
    with pytest.raises(MsEdgeError, match="at least two"):
        folder(tmp_path)
    (tmp_path / "speech").mkdir()
    with pytest.raises(MsEdgeError, match="no audio file"):
        folder(tmp_path)


def test_skipped_files_of_a_folder_are_counted(copy_by_label, tmp_path, capsys):
    copy_by_label(tmp_path)
    for name in ("music/a.aax", "music/deep/b.aax", "speech/c.vox", "speech/.d.vox", "speech/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("something")
    assert len(folder(tmp_path).recordings) == 12
    assert capsys.readouterr().err == (
        f"{tmp_path}: skipped 3 files whose format is not read (2 .aax, 1 .vox; convert them to WAV or FLAC first) "
        "and 1 other file (1 .txt).\n"
    )
    for path in (tmp_path / "music").glob("*.wav"):
        path.unlink()
    with pytest.raises(
        MsEdgeError, match=r"music: the class has no audio file that is read, but 2 files .*\(2 \.aax; "
    ):
        folder(tmp_path)


@pytest.mark.parametrize("name", ["", "folder", "folder:", "csv", "csv:", "tfds", "tfds:", "tape:x", "gtzan:x"])
def test_unknown_data_is_refused(name):
    with pytest.raises(MsEdgeError, match="--data"):
        dataset_by_name(name)


def test_folds_hold_out_every_recording_once():
    data = dataset({"music": 20, "speech": 13})
    seen: Counter[str] = Counter()
    validated: list[set[str]] = []
    for fold in range(1, 6):
        parts = split(data, seed=0, fold=(fold, 5))
        assert names(parts.train) | names(parts.val) | names(parts.test) == names(data.recordings)
        assert not names(parts.train) & names(parts.val)
        assert not names(parts.test) & (names(parts.train) | names(parts.val))
        for part in (parts.train, parts.val, parts.test):
            assert {recording.label for recording in part} == {"music", "speech"}
        seen.update(names(parts.test))
        assert names(parts.val) not in validated
        validated.append(names(parts.val))
    assert seen == Counter(names(data.recordings))
    assert len(set.union(*validated)) == sum(map(len, validated))


def test_split_is_stratified_seeded_and_independent_of_order():
    data = dataset({"music": 40, "speech": 10})
    parts = split(data, seed=3)
    assert Counter(recording.label for recording in parts.val) == {"music": 8, "speech": 2}
    shuffled = Dataset(data.name, data.labels, data.decision, data.recordings[::-1])
    assert split(shuffled, seed=3) == parts
    assert names(split(data, seed=4).val) != names(parts.val)


def test_prescribed_splits_are_kept():
    parts = split(dataset({"music": 6, "speech": 6}, prescribed=True), seed=0)
    assert names(parts.train) == {f"{label}/{i}" for label in ("music", "speech") for i in (0, 3)}
    assert names(parts.val) == {f"{label}/{i}" for label in ("music", "speech") for i in (1, 4)}
    assert parts.test == ()


def test_prescribed_fold_is_held_out():
    data = dataset({"music": 12, "speech": 12}, prescribed=True)
    folded = dataclasses.replace(
        data,
        recordings=tuple(
            dataclasses.replace(each, fold=int(each.name.split("/")[1]) // 3 % 4) if each.split == "train" else each
            for each in data.recordings
        ),
    )
    whole = split(folded, seed=0)
    held = []
    for number in range(1, 5):
        parts = split(folded, seed=0, fold=(number, 4))
        assert {each.fold for each in parts.test} == {number - 1}
        assert names(parts.train) | names(parts.test) == names(whole.train)
        assert len(parts.train) + len(parts.test) == len(whole.train)
        assert names(parts.val) == names(whole.val)
        held += sorted(names(parts.test))
    assert sorted(held) == sorted(names(whole.train))
    with pytest.raises(MsEdgeError, match="prescribes 4 folds; type: --fold I/4"):
        split(folded, seed=0, fold=(1, 5))
    with pytest.raises(MsEdgeError, match="prescribes its own split"):
        split(data, seed=0, fold=(1, 4))


def excerpts(files: dict[str, tuple[str, ...]], prescribed: dict[str, str] | None = None) -> Dataset:
    """Return ten excerpts of every label from each file."""
    recordings = [
        dataclasses.replace(
            recording,
            name=f"{file}#{recording.name}",
            sha256=f"{file}#{recording.sha256}",
            split=(prescribed or {}).get(file),
            excerpt_of=file,
        )
        for file, labels in files.items()
        for recording in dataset(dict.fromkeys(labels, 10)).recordings
    ]
    return Dataset("toy", ("music", "speech"), "exclusive", tuple(recordings))


@pytest.mark.parametrize("fold", [None, (1, 3), (2, 3), (3, 3)])
def test_excerpts_of_one_file_stay_together(fold):
    mixed = {f"programme-{i}": ("music", "speech") for i in range(7)}
    data = excerpts({**mixed, **{f"{label}-{i}": (label,) for label in ("music", "speech") for i in range(6)}})
    parts = split(data, 0, fold)
    files = [{recording.excerpt_of for recording in part} for part in (parts.train, parts.val, parts.test)]
    assert sum(map(len, files)) == len(set().union(*files)) == 19
    assert names(parts.train) | names(parts.val) | names(parts.test) == names(data.recordings)
    # A fifth of the files validates, not a fifth of the excerpts: one of seven programmes, one of
    # six of each label.
    assert len(files[1]) == 3


def test_one_file_in_many_excerpts_is_one_recording():
    with pytest.raises(MsEdgeError, match="no recording of music is left for training"):
        split(excerpts({"a": ("music",), "b": ("speech",), "c": ("speech",)}), 0)


def test_recordings_without_split_train_or_validate():
    files = {f"{label}-{i}": (label,) for label in ("music", "speech") for i in range(10)}
    tested = {"music-0": "test", "speech-0": "test"}
    for prescribed in (tested, {file: tested.get(file, "train") for file in files}):
        parts = split(excerpts(files, prescribed), 0)
        assert {recording.excerpt_of for recording in parts.test} == set(tested)
        assert len({recording.excerpt_of for recording in parts.val}) == 4
        assert len({recording.excerpt_of for recording in parts.train}) == 14
    # With a validation part, only the recordings without a split are divided.
    parts = split(excerpts(files, {"music-0": "val", "speech-0": "val", **dict.fromkeys(files, "train")} | tested), 0)
    assert not {"music-0", "speech-0"} & {recording.excerpt_of for recording in parts.val + parts.train}


def test_fold_without_a_label_is_an_error():
    with pytest.raises(MsEdgeError, match="no recording of speech is left for training"):
        split(dataset({"music": 6, "speech": 1}), 0, (1, 2))


def test_too_few_recordings_give_one_sentence():
    with pytest.raises(MsEdgeError, match="no recording of speech is left for training"):
        split(dataset({"music": 5, "speech": 1}), seed=0)


def test_six_clips_are_cut_and_short_recordings_tiled():
    spec = get_recipe("logstft_cnn").spec
    audio = np.arange(30 * 22_050 + 100, dtype=np.float32)
    six = clips.cut(audio, spec, 6)
    np.testing.assert_array_equal(six, audio[: 30 * 22_050].reshape(6, 5 * 22_050))
    assert clips.cut(audio[:1000], spec, 6).shape == (1, 5 * 22_050)


def test_unreadable_recordings_are_left_out_and_named(samples, tmp_path, capsys):
    for label in ("music", "speech"):
        (tmp_path / label).mkdir()
        shutil.copy(next(path for path in samples if path.name.startswith(label)), tmp_path / label / "good.wav")
    (tmp_path / "music" / "bad.wav").write_text("I am not audio.")
    data = folder(tmp_path)
    loaded = clips.load(
        data.recordings, data.labels, get_recipe("mel_dscnn").spec, lambda samples: samples, 3, "a test"
    )
    assert loaded.names == ("music/good.wav", "speech/good.wav")
    np.testing.assert_array_equal(loaded.targets, [[1, 0]] * 3 + [[0, 1]] * 3)
    assert "bad.wav" in capsys.readouterr().err


def test_copies_of_a_recording_stay_together(samples, tmp_path):
    for label in ("music", "speech"):
        (tmp_path / label).mkdir()
        for path in samples:
            if path.name.startswith(label):
                for copy in range(3):
                    (tmp_path / label / f"{copy}-{path.name}").write_bytes(path.read_bytes())
    parts = split(folder(tmp_path), 0, (1, 3))
    digests = [{recording.sha256 for recording in part} for part in (parts.train, parts.val, parts.test)]
    assert sum(map(len, digests)) == len(set().union(*digests)) == len(samples)
    assert len(parts.train) + len(parts.val) + len(parts.test) == 3 * len(samples)


def test_one_recording_with_two_labels_is_refused(samples, tmp_path):
    for label in ("music", "speech"):
        (tmp_path / label).mkdir()
        for number, path in enumerate(samples[:3]):
            (tmp_path / label / f"{number}.wav").write_bytes(path.read_bytes() + (label.encode() if number else b""))
    with pytest.raises(MsEdgeError, match="two labels"):
        split(folder(tmp_path), 0)


def test_fold_that_cannot_test_a_label_fails():
    with pytest.raises(MsEdgeError, match="testing"):
        split(dataset({"music": 6, "speech": 3}), 0, (5, 6))


def test_only_regular_files_are_recordings(samples, tmp_path, capsys):
    for label in ("music", "speech"):
        (tmp_path / label / "album.wav").mkdir(parents=True)
        (tmp_path / label / "a.wav").write_bytes(samples[0].read_bytes())
    assert len(folder(tmp_path).recordings) == 2
    (tmp_path / "music" / "b.wav").symlink_to("nowhere")
    os.mkfifo(tmp_path / "music" / "c.wav")
    assert len(folder(tmp_path).recordings) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "left out" in errors[0]
    assert "b.wav: cannot be read (no such file or directory)." in errors[0]
    assert "c.wav: is no file." in errors[1]
    assert errors[2] == f"{tmp_path}: 2 of 4 files left out."


def test_label_without_readable_recordings_is_an_error(samples, tmp_path):
    for label in ("music", "speech"):
        (tmp_path / label).mkdir()
        for number, path in enumerate(path for path in samples if path.name.startswith(label)):
            (tmp_path / label / f"{number}.wav").write_bytes(
                path.read_bytes() if label == "music" else b"%d" % number * 99
            )
    data = folder(tmp_path)
    with pytest.raises(MsEdgeError, match="No recording of speech can be read for the training data"):
        clips.load(
            data.recordings, data.labels, get_recipe("mel_dscnn").spec, lambda samples: samples, 1, "training data"
        )
