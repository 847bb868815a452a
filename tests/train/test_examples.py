"""Datasets of tensorflow-datasets, written and read by its own code, without network access."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from ms_edge.audio.file import read_mono
from ms_edge.errors import AudioError, MsEdgeError
from ms_train.cli import main as cli
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.splits import split
from ms_train.recipes.by_name import get_recipe

RATE_HZ = 16_000
CLASSES = ("speech", "hum", "music")  # not in alphabetical order, and not all used


def audio_feature(**options: Any) -> tfds.features.Audio:
    return tfds.features.Audio(**{"sample_rate": RATE_HZ, **options})


def label_feature() -> tfds.features.ClassLabel:
    return tfds.features.ClassLabel(names=CLASSES)


def written(
    root: Path,
    splits: dict[str, list[dict[str, Any]]],
    features: dict[str, Any] | None = None,
    supervised: tuple[str, str] | None = None,
    file_format: str = "tfrecord",
) -> Path:
    """Prepare a dataset with a builder, and return its folder."""

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "toy"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            found = features or {"audio": audio_feature(), "label": label_feature()}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(found), supervised_keys=supervised
            )

        def _split_generators(self, dl_manager):
            return {name: enumerate(examples) for name, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Toy(data_dir=str(root), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def pcm(path: Path) -> np.ndarray:
    return np.round(read_mono(path, RATE_HZ).clip(-1, 1 - 2**-15) * 32_768).astype(np.int64)


@pytest.fixture(scope="module")
def examples(samples) -> list[dict[str, Any]]:
    return [{"audio": pcm(path), "label": path.name.partition("_")[0]} for path in samples]


def digest_of(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_audio_and_labels_are_read_exactly(examples, tmp_path, file_format):
    folder = written(tmp_path, {"train": examples}, file_format=file_format)
    found = dataset_by_name(f"tfds:{folder}")
    assert (found.name, found.labels, found.decision) == ("toy/1.0.0", ("speech", "music"), "exclusive")
    by_digest = {recording.sha256: recording for recording in found.recordings}
    assert len(by_digest) == len(examples)
    assert [recording.name for recording in found.recordings] == [f"train/{i:05d}" for i in range(len(examples))]
    for example in examples:
        recording = by_digest[digest_of(example["audio"])]
        assert (recording.label, recording.split) == (example["label"], None)
        audio = recording.read(RATE_HZ)
        assert audio.dtype == np.float32
        np.testing.assert_array_equal(audio, (example["audio"] / 32_768).astype(np.float32))
        assert len(recording.read(8_000)) == pytest.approx(len(audio) / 2, abs=2)
    assert {recording.label for recording in split(found, 0).val} == {"speech", "music"}


def test_known_splits_are_kept_others_unused(examples, tmp_path):
    splits = {"train": examples[::2], "validation": examples[1::2], "test": examples[:1], "unlabelled": examples[:3]}
    found = dataset_by_name(f"tfds:{written(tmp_path, splits)}")
    assert len({recording.name for recording in found.recordings}) == len(found.recordings)
    parts = split(found, 0)
    splits["train"] = splits["train"][1:]  # the first is a copy of the test recording
    for part, name in ((parts.train, "train"), (parts.val, "validation"), (parts.test, "test")):
        assert {recording.sha256 for recording in part} == {digest_of(example["audio"]) for example in splits[name]}
    assert sum(recording.split == "unlabelled" for recording in found.recordings) == 3


@pytest.mark.parametrize(
    ("dtype", "full_scale"),
    [(np.int16, 1 << 15), (np.int64, 1 << 7), (np.int64, 1 << 15), (np.int64, 1 << 23), (np.int32, 1 << 31), (np.float32, 1)],
)  # fmt: skip
def test_full_scale_is_that_of_the_whole_dataset(samples, tmp_path, dtype, full_scale):
    floats = [read_mono(path, RATE_HZ) for path in samples]
    floats = [
        audio / np.abs(audio).max() * level for audio, level in zip(floats, np.linspace(0.01, 0.99, 12), strict=True)
    ]
    features = {"audio": audio_feature(dtype=dtype), "label": label_feature()}
    rows = [
        {"audio": (audio * full_scale).astype(dtype), "label": path.name.partition("_")[0]}
        for audio, path in zip(floats, samples, strict=True)
    ]
    found = dataset_by_name(f"tfds:{written(tmp_path, {'train': rows}, features)}")
    peaks = sorted(float(np.abs(recording.read(RATE_HZ)).max()) for recording in found.recordings)
    np.testing.assert_allclose(peaks, np.linspace(0.01, 0.99, 12), atol=1.1 / full_scale if full_scale > 1 else 1e-6)


def test_stereo_is_mixed_down_and_unsigned_centred(samples, tmp_path):
    stereo, _ = soundfile.read(next(path for path in samples if "stereo" in path.name), dtype="int16")
    features = {"audio": audio_feature(shape=(None, 2), dtype=np.int16, sample_rate=44_100), "label": label_feature()}
    rows = [{"audio": stereo, "label": "music"}, {"audio": stereo[::-1], "label": "speech"}]
    for recording in dataset_by_name(f"tfds:{written(tmp_path / 'a', {'train': rows}, features)}").recordings:
        mono = stereo.astype(np.float32).mean(axis=1) / 32_768
        np.testing.assert_allclose(recording.read(44_100)[:: 1 if recording.label == "music" else -1], mono, atol=1e-6)
    features = {"audio": audio_feature(dtype=np.uint8), "label": label_feature()}
    rows = [
        {"audio": np.full(8_000, level, np.uint8), "label": label} for level, label in ((128, "music"), (0, "speech"))
    ]
    for recording in dataset_by_name(f"tfds:{written(tmp_path / 'b', {'train': rows}, features)}").recordings:
        np.testing.assert_array_equal(recording.read(RATE_HZ), 0 if recording.label == "music" else -1)


def test_encoded_examples_have_their_own_rate(samples, tmp_path):
    features = {"audio": tfds.features.Audio(file_format="wav", lazy_decode=True), "label": label_feature()}
    rows = [{"audio": str(path), "label": path.name.partition("_")[0]} for path in samples]
    rows.append({"audio": str(Path(__file__)), "label": "music"})
    rows = [{**row, "audio": Path(row["audio"])} for row in rows]
    found = dataset_by_name(f"tfds:{written(tmp_path, {'train': rows}, features)}")
    by_digest = {recording.sha256: recording for recording in found.recordings}
    for path in samples:
        recording = by_digest[hashlib.sha256(path.read_bytes()).hexdigest()]
        np.testing.assert_array_equal(recording.read(RATE_HZ), read_mono(path, RATE_HZ))
    text = by_digest[hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    with pytest.raises(AudioError, match=f"{text.name}: not audio"):
        text.read(RATE_HZ)


def test_supervised_keys_choose_among_several(examples, tmp_path):
    features = {"audio": audio_feature(), "other": audio_feature(), "label": label_feature(), "mood": label_feature()}
    rows = [{**example, "other": example["audio"][::-1], "mood": "hum"} for example in examples]
    found = dataset_by_name(f"tfds:{written(tmp_path / 'a', {'train': rows}, features, ('audio', 'label'))}")
    assert found.labels == ("speech", "music")
    assert {recording.sha256 for recording in found.recordings} == {digest_of(row["audio"]) for row in examples}
    folder = written(tmp_path / "b", {"train": rows}, features)
    with pytest.raises(MsEdgeError, match=r"one audio feature and has 2 of them \(audio, other\)"):
        dataset_by_name(f"tfds:{folder}")


@pytest.mark.parametrize(
    ("features", "row", "sentence"),
    [
        ({"audio": audio_feature()}, {}, "one class label and has none"),
        ({"label": label_feature()}, {"label": "hum"}, "one audio feature and has none"),
        ({"audio": tfds.features.Audio(), "label": label_feature()}, {"label": "hum"}, "at what sample rate"),
        (
            {"audio": audio_feature(sample_rate=1), "label": label_feature()},
            {"label": "hum"},
            "4,000 to 384,000 Hz, not 1 Hz",
        ),
        ({"audio": audio_feature(), "label": label_feature()}, {"label": "hum"}, "has 1 classes"),
        ({"audio": audio_feature(), "label": label_feature()}, {"label": -1}, "has 0 classes"),
    ],
)
def test_unusable_dataset_gives_one_sentence(tmp_path, features, row, sentence):
    if "audio" in features:
        row = {**row, "audio": np.zeros(8_000, np.int64)}
    with pytest.raises(MsEdgeError, match=sentence) as refused:
        dataset_by_name(f"tfds:{written(tmp_path, {'train': [row, row]}, features)}")
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).startswith("tfds:")


def test_bad_examples_are_left_out_counted_and_named(samples, tmp_path, capsys):
    floats = [{"audio": read_mono(path, RATE_HZ), "label": path.name.partition("_")[0]} for path in samples]
    quieter = [{**example, "audio": example["audio"] / 2} for example in floats]  # copies would be left out of one part
    bad = [
        {"audio": np.full(8_000, np.nan, np.float32), "label": "music"},
        {"audio": np.zeros(100, np.float32), "label": "speech"},
        {"audio": np.zeros(0, np.float32), "label": "speech"},
        {"audio": np.zeros(8_000, np.float32), "label": -1},
    ]
    features = {"audio": audio_feature(dtype=np.float32), "label": label_feature()}
    folder = written(tmp_path / "tfds", {"train": floats + bad, "validation": quieter}, features)
    found = dataset_by_name(f"tfds:{folder}")
    train, spec = split(found, 0).train, get_recipe("mel_dscnn").spec
    loaded = clips.load(train, found.labels, spec, lambda audio: audio, 1, "training data")
    assert len(loaded.names) == len(samples)
    errors = capsys.readouterr().err
    for sentence in ("no numbers", "at least 0.25 s", "no samples", "has no class"):
        assert errors.count(sentence) == 1
    assert f"tfds:{folder}: 1 of 28 examples left out." in errors
    assert "training data: 3 of 15 recordings left out." in errors


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: content[:-1_000], "is cut off"),
        (lambda content: b"\xff" * 8 + content[8:], "is cut off"),
        (lambda content: b"", "should have"),
    ],
)
def test_damaged_examples_give_one_sentence(examples, tmp_path, damage, sentence):
    folder = written(tmp_path, {"train": examples})
    path = next(folder.glob("*.tfrecord*"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MsEdgeError, match=sentence) as refused:
        dataset_by_name(f"tfds:{folder}")
    assert len(str(refused.value).splitlines()) == 1


def test_undecodable_example_is_left_out(examples, tmp_path, capsys):
    folder = written(tmp_path, {"train": examples})
    path = next(folder.glob("*.tfrecord*"))
    content = bytearray(path.read_bytes())
    content[12:40] = b"\xff" * 28
    path.write_bytes(content)
    assert len(dataset_by_name(f"tfds:{folder}").recordings) == len(examples) - 1
    errors = capsys.readouterr().err
    assert "left out: train/00000: cannot be read" in errors
    assert "1 of 12 examples left out" in errors


@pytest.mark.parametrize(
    "name", ["nosuchdataset", "nosuch/config", "spoken_digit:9.9.9", "spoken_digit/x", "/none", "a b", "huggingface:x"]
)
def test_unknown_dataset_gives_one_sentence(capfd, name):
    with pytest.raises(MsEdgeError, match="has no such dataset") as refused:
        dataset_by_name(f"tfds:{name}")
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr().out == ""


def test_missing_network_exits_1_with_one_sentence(tmp_path, monkeypatch, capfd):
    def dead(self, urls):
        raise tfds.download.DownloadError("Failed to get url http://nowhere.\nTraceback ...")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", dead)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    arguments = ["fit", "--recipe", "resized_cnn", "--data", "tfds:spoken_digit", "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 1
    assert capfd.readouterr().err.splitlines()[-1] == (
        "ms-train: tfds:spoken_digit: tensorflow-datasets cannot prepare it (Failed to get url http://nowhere)."
    )


def test_prepared_dataset_is_found_by_name(examples, tmp_path, monkeypatch):
    written(tmp_path, {"train": examples})
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    assert len(dataset_by_name("tfds:toy").recordings) == len(examples)
    assert dataset_by_name("tfds:toy:1.0.0").name == "toy/1.0.0"
