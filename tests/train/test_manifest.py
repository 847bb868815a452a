"""CSV manifests: real recordings, their excerpts, and unusable lines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.audio.file import read_mono
from ms_edge.errors import AudioError, MsEdgeError
from ms_train.cli import main as cli
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.folder import folder
from ms_train.datasets.manifest import manifest
from ms_train.datasets.splits import split
from ms_train.scores import metrics
from ms_train.training.checkpoint import Checkpoint


@pytest.fixture
def root(tmp_path, samples) -> Path:
    (tmp_path / "audio").mkdir()
    for path in samples:
        shutil.copy(path, tmp_path / "audio")
    return tmp_path


def table(root: Path, *lines: str, header: str = "path,label,split,start,end") -> Path:
    (root / "clips.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return root / "clips.csv"


def lines(root: Path) -> list[str]:
    return [f"audio/{path.name},{path.name.partition('_')[0]},,," for path in sorted((root / "audio").iterdir())]


def test_whole_files_equal_those_of_a_folder(root, samples):
    found = dataset_by_name(f"csv:{table(root, *lines(root))}")
    assert (found.name, found.labels, found.decision) == ("clips", ("music", "speech"), "exclusive")
    assert [recording.name for recording in found.recordings] == [f"audio/{path.name}" for path in samples]
    for label in ("music", "speech"):
        (root / "folder" / label).mkdir(parents=True)
        for path in samples:
            if path.name.startswith(label):
                shutil.copy(path, root / "folder" / label)
    digests = {recording.sha256 for recording in folder(root / "folder").recordings}
    assert {recording.sha256 for recording in found.recordings} == digests
    for recording, path in zip(found.recordings, samples, strict=True):
        np.testing.assert_array_equal(recording.read(16_000), read_mono(path, 16_000))


def test_csv_dialects_and_absolute_paths_are_read(root, samples):
    path = root / "clips.csv"
    shutil.copy(samples[0], root / "a, b.wav")
    shutil.copy(samples[-1], root / "ü.wav")
    text = f'label,path\r\nmusic,"a, b.wav"\r\n\r\nspeech,{root / "ü.wav"}\r\nspeech,./audio/../ü.wav\r\n'
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert [recording.name for recording in manifest(path).recordings] == ["a, b.wav", "ü.wav"]


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_excerpt_is_cut_from_start_to_end(root, samples, rate):
    name = samples[0].name
    found = manifest(
        table(
            root, f"audio/{name},music,,1,2.5", f"audio/{name},speech,,2.5,", f"audio/{name},speech,,,1",
            f"audio/{name},music,,0,",
        )
    ).recordings  # fmt: skip
    whole = read_mono(samples[0], rate)
    assert [recording.name.partition("#")[2] for recording in found] == ["t=1,2.5", "t=2.5", "t=0,1", ""]
    for recording, (start, end) in zip(found, [(1, 2.5), (2.5, None), (0, 1), (0, None)], strict=True):
        expected = whole[round(start * rate) : None if end is None else round(end * rate)]
        np.testing.assert_array_equal(recording.read(rate), expected)
    assert len({recording.sha256 for recording in found}) == 4
    digest = hashlib.sha256(samples[0].read_bytes()).hexdigest()
    assert {recording.excerpt_of for recording in found} == {digest}
    assert found[3].sha256 == digest


def test_excerpts_of_one_file_stay_together(root):
    rows = [
        f"audio/{path.name},{path.name.partition('_')[0]},,{start / 4},{start / 4 + 0.25}"
        for path in sorted((root / "audio").iterdir())
        for start in range(8)
    ]
    parts = split(manifest(table(root, *rows)), 0, (1, 3))
    files = [{recording.name.partition("#")[0] for recording in part} for part in (parts.train, parts.val, parts.test)]
    assert sum(map(len, files)) == len(set().union(*files)) == len(rows) / 8


def test_no_label_is_noise(root):
    found = manifest(table(root, *lines(root), "audio/music_zaz.wav,,,1,2"))
    assert (found.labels, found.decision) == (("music", "speech"), "independent")
    assert found.recordings[-1].label is None


def test_prescribed_parts_are_kept(root):
    rows = [
        line.replace(",,,", f",{('train', 'val', 'test')[number % 3]},,") for number, line in enumerate(lines(root))
    ]
    found = manifest(table(root, *rows))
    parts = split(found, 0)
    for name in ("train", "val", "test"):
        assert getattr(parts, name) == tuple(recording for recording in found.recordings if recording.split == name)


def test_one_file_in_two_parts_is_refused(root, samples):
    name = samples[0].name
    shutil.copy(samples[0], root / "copy.wav")
    for other, part in ((f"audio/{name}", "test"), ("copy.wav", "val"), ("copy.wav", "")):
        path = table(root, f"audio/{name},music,train,0,1", "", f"{other},music,{part},1,2")
        with pytest.raises(MsEdgeError, match=r"line 4: .* belongs to one part") as refused:
            manifest(path)
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("audio/gone.wav,music,,,", "cannot be read (no such file or directory)."),
        ("audio,music,,,", "is no file."),
        ("pipe.wav,music,,,", "is no file."),
        (",music,,,", "no path."),
        ("audio/music_zaz.wav", "1 cells; the header has 5."),
        ("audio/music_zaz.wav,music,,1,2,3", "6 cells; the header has 5."),
        ("audio/music_zaz.wav,music,tset,1,2", "unknown split 'tset'; it is train, val, test or empty."),
        ("audio/music_zaz.wav,music,,two,3", "start 'two' is not a number of seconds."),
        ("audio/music_zaz.wav,music,,1,nan", "end 'nan' is not a number of seconds."),
        ("audio/music_zaz.wav,music,,-1,", "start '-1' is not a number of seconds."),
        ('audio/music_zaz.wav,music,,"1,5",2', "start '1,5' is not a number of seconds."),
        ("audio/music_zaz.wav,music,,2,2", "start 2 is not before end 2."),
        ("audio/music_zaz.wav,music,,,0", "start 0 is not before end 0."),
        ("audio/music_zaz.wav,music,,,", "audio/music_zaz.wav is in line 7 already."),
    ],
)
def test_unusable_line_is_left_out_and_named(root, capsys, line, sentence):
    os.mkfifo(root / "pipe.wav")
    path = table(root, *lines(root), line)
    number = len(lines(root)) + 2
    assert len(manifest(path).recordings) == number - 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"left out: {path}: line {number}: ")
    assert errors[0].endswith(sentence)
    assert errors[1:] == [f"{path}: 1 of {number - 1} lines left out."]


@pytest.mark.parametrize(
    ("times", "code"), [("0,900", "bad-excerpt"), ("900,901", "bad-excerpt"), ("900,", "bad-excerpt"), ("1,1.2", "too-short")]
)  # fmt: skip
def test_invalid_excerpt_names_its_line(root, times, code):
    recording = manifest(table(root, *lines(root), f"audio/music_zaz.wav,music,,{times}")).recordings[-1]
    with pytest.raises(AudioError, match=r"clips\.csv: line 14: .*music_zaz\.wav: ") as refused:
        recording.read(16_000)
    assert refused.value.code == code


def test_rounded_and_quarter_second_excerpts_are_accepted(root, samples):
    duration = soundfile.info(samples[0]).duration
    found = manifest(
        table(root, f"audio/{samples[0].name},music,,1,{duration + 0.09}", f"audio/{samples[0].name},speech,,0.1,0.35")
    ).recordings
    assert len(found[0].read(16_000)) == pytest.approx((duration - 1) * 16_000, abs=2)
    assert len(found[1].read(16_000)) == 4_000


def test_file_with_nan_samples_is_left_out(root):
    audio = np.full(32_000, 0.1, np.float32)
    audio[20_000] = np.nan
    soundfile.write(root / "nan.wav", audio, 16_000, subtype="FLOAT")
    for recording in manifest(table(root, *lines(root), "nan.wav,music,,0,0.5", "nan.wav,music,,,")).recordings[-2:]:
        with pytest.raises(AudioError, match=r"line 1[45]: .*no numbers"):
            recording.read(16_000)


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("path;label", ["a;b"], "line 1: unknown column 'path;label'"),
        ("path,label,speaker", [], "line 1: unknown column 'speaker'"),
        ("path,split", [], "line 1: no column 'label'"),
        ("label,start", [], "line 1: no column 'path'"),
        ("path,label,path", [], "line 1: the column 'path' twice"),
        ("path,label", [], "has 0 labels in 0 usable lines"),
        ("path,label", ["audio/music_zaz.wav,music"], "has 1 labels in 1 usable lines"),
        ("path,label", ["audio/music_zaz.wav,music", "audio/music_zaz.wav,speech"], "line 3: .* another label"),
        ("path,label", ['"audio'], "is not CSV in UTF-8"),
    ],
)
def test_invalid_manifest_gives_one_sentence(root, header, rows, sentence):
    with pytest.raises(MsEdgeError, match=sentence) as refused:
        manifest(table(root, *rows, header=header))
    assert len(str(refused.value).splitlines()) == 1


def test_binary_manifest_is_an_error(root, samples):
    with pytest.raises(MsEdgeError, match="is not CSV in UTF-8"):
        manifest(samples[0])
    with pytest.raises(MsEdgeError, match="no such file"):
        manifest(root / "missing.csv")
    with pytest.raises(MsEdgeError, match="cannot be read"):
        manifest(root)


def fit(path: Path, out: Path, *options: str) -> int:
    return cli.main(
        ["fit", "--recipe", "resized_cnn", "--data", f"csv:{path}", "--epochs", "2", "--cache", "none", "--out", str(out), *options]
    )  # fmt: skip


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("change", [{"test": "train", "train": "test"}, {"music": "speech", "speech": "music"}])
def test_resume_refuses_other_parts_or_labels(root, capsys, monkeypatch, change):
    """Otherwise training recordings would be tested on."""
    parts = ("test", "val", "train")
    rows = [line.replace(",,,", f",{parts[place % 3]},,") for place, line in enumerate(lines(root))]
    path = table(root, *rows)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_begin", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert fit(path, root / "run") == 130
    cells = [row.split(",") for row in rows]
    table(root, *(",".join(change.get(cell, cell) for cell in row) for row in cells))
    assert fit(path, root / "run", "--resume") == 1
    assert "their labels or their parts have changed" in capsys.readouterr().err


@pytest.mark.usefixtures("small_networks", "no_pictures")
def test_files_of_training_excerpts_are_known(root, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "ROUNDS", 40)
    path = table(root, *(f"{line.rstrip(',')},,0,2" for line in lines(root)))
    assert fit(path, root / "run") == 0
    whole = root / "whole.csv"
    whole.write_text("\n".join(["path,label,split,start,end", *lines(root), ""]))
    capsys.readouterr()
    assert cli.main(["evaluate", str(root / "run"), "--data", f"csv:{whole}", "--part", "all"]) == 0
    trained = len(json.loads((root / "run" / "split.json").read_text())["train"])
    assert f"was trained on {trained} of the 12 recordings" in capsys.readouterr().out
    path.unlink()
    assert cli.main(["evaluate", str(root / "run")]) == 1
    assert f"the run was made from csv:{path}: say where that is now with --data." in capsys.readouterr().err


def test_impossible_class_name_is_refused_before_training(root, capsys):
    path = table(root, *(line.replace(",music,", ",other,") for line in lines(root)))
    assert fit(path, root / "run") == 1
    assert "no model can call a class 'other'" in capsys.readouterr().err


def test_folds_that_fail_early_leave_no_files(root, capsys):
    path = table(root, *(line.replace(",,,", ",train,,") for line in lines(root)))
    for _ in range(2):
        assert fit(path, root / "run", "--folds", "2") == 2
        assert "prescribes its own split" in capsys.readouterr().err


@pytest.mark.usefixtures("small_networks", "no_pictures")
def test_a_manifest_with_bad_lines_trains(root, capsys):
    path = table(
        root, *lines(root), "audio/gone.wav,music,,,", "audio/music_zaz.wav,music,,900,901", "clips.csv,music,,,"
    )
    arguments = ["fit", "--recipe", "resized_cnn", "--data", f"csv:{path}", "--out", str(root / "run"), "--epochs", "1"]
    assert cli.main([*arguments, "--cache", "none"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("left out: ") == 3
    for number in (14, 15, 16):
        assert f"clips.csv: line {number}: " in errors
    assert "Traceback" not in errors
    assert "audio/music_zaz.wav#t" not in (root / "run" / "data.json").read_text()
