"""Corrected segments: read from the CSV of the report page, and learnt without forgetting."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ms_edge.errors import MsEdgeError
from ms_train.cli import main as cli
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.cache import Cache
from ms_train.evaluation.subject import Subject
from ms_train.recipes.by_name import get_recipe
from ms_train.scores import metrics
from ms_train.training import correct, decision, replay
from ms_train.training.bundled import FOLDER
from ms_train.training.fit import fit
from ms_train.training.runs import TrainedRun

HEAD = "path,start_s,end_s,label,label_before\n"
RATE = 16_000


@pytest.fixture
def folder(tmp_path, samples, monkeypatch) -> Path:
    for path in samples:
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(folder: Path, *lines: str, name: str = "a.corrections.csv") -> str:
    (folder / name).write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return f"corrections:{name}"


def test_segments_become_excerpts_with_their_labels(folder, capsys):
    (folder / "=odd.wav").write_bytes((folder / "music_zaz.wav").read_bytes())
    data = table(
        folder,
        "music_zaz.wav,0.000,2.500,music,other",
        "music_zaz.wav,2.500,4.000,music+speech,music",
        "'=odd.wav,1.000,3.000,other,music",
        "music_zaz.wav,4.000,5.000,silence,music",
    )
    dataset = dataset_by_name(data)
    assert [(each.name, each.label) for each in dataset.recordings] == [
        ("music_zaz.wav#t=0,2.5", "music"),
        ("music_zaz.wav#t=2.5,4", "music+speech"),
        ("=odd.wav#t=1,3", None),
    ]
    assert dataset.decision == "independent"
    assert len(dataset.recordings[0].read(RATE)) == 2.5 * RATE
    assert len({each.file_sha256 for each in dataset.recordings}) == 1
    assert "1 segments of silence left out" in capsys.readouterr().err


def test_several_files_and_paths_beside_the_file(folder, tmp_path, monkeypatch):
    one = table(folder, "music_zaz.wav,0,1,music,other")
    table(folder, "speech_italian_man.wav,0,1,speech,other", name="b.csv")
    monkeypatch.chdir(folder.parent)
    names = ",".join(str(folder / name) for name in (one.removeprefix("corrections:"), "b.csv"))
    assert len(dataset_by_name(f"corrections:{names}").recordings) == 2


def test_unusable_lines_are_named_and_left_out(folder, capsys):
    data = table(
        folder,
        "music_zaz.wav,0,1,music,other",
        "gone.wav,0,1,music,other",
        "music_zaz.wav,2,1,music,other",
        "music_zaz.wav,x,1,music,other",
        "music_zaz.wav,0,1,speech,other",
    )
    assert len(dataset_by_name(data).recordings) == 1
    errors = capsys.readouterr().err
    for number, words in ((3, "no such file"), (4, "is not before end_s"), (5, "not a number"), (6, "another label")):
        assert any(f"line {number}:" in line and words in line for line in errors.splitlines()), words


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a,b\n1,2\n", "no column 'path'"), (HEAD, "no line can be used"), (HEAD + "\udcff", "cannot be used")],
)
def test_file_without_corrections_is_one_sentence(folder, text, sentence):
    (folder / "a.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MsEdgeError, match=sentence if "\udcff" not in text else "not CSV in UTF-8"):
        dataset_by_name("corrections:a.csv")


@pytest.fixture
def unknown(folder) -> tuple[str, list[Path]]:
    """Corrections of ten hums, which the bundled model does not call speech, and five more hums."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(15):
        time_s = np.arange(3 * RATE) / RATE
        pitch = rng.uniform(90, 140) * (1 + 0.01 * np.sin(2 * np.pi * rng.uniform(4, 6) * time_s))
        hum = sum(np.sin(np.cumsum(2 * np.pi * pitch * k / RATE)) / k for k in range(1, 20))
        soundfile.write(folder / f"hum{number}.wav", 0.1 * hum + 0.002 * rng.standard_normal(len(hum)), RATE)
        paths.append(folder / f"hum{number}.wav")
    return table(folder, *(f"hum{number}.wav,0.5,2.5,speech+music,other" for number in range(10))), paths[10:]


@pytest.mark.slow
def test_network_learns_and_does_not_forget(folder, unknown, samples, monkeypatch, capsys):
    data, others = unknown
    assert cli.main(["finetune", "--from", "bundled", "--data", data, "--out", "run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["before", "after", "run"]
    before, after = (Subject.load(Path(name)).classifier for name in ("bundled", "run"))
    assert all(before.classify(path).label != "speech+music" for path in others)
    assert all(after.classify(path).label == "speech+music" for path in others)
    assert [after.classify(path).label for path in samples] == [before.classify(path).label for path in samples]
    facts, found = (json.loads((folder / "run" / f"{name}.json").read_text()) for name in ("run", "metrics"))
    assert (facts["recipe"], facts["origin"]["run"], facts["corrected"]) == ("mel_residual_corrected", "bundled", True)
    assert found["val"]["clip_accuracy"] > found["before"]["clip_accuracy"] + 0.5
    monkeypatch.setattr(metrics, "ROUNDS", 20)
    assert cli.main(["evaluate", "run", "--data", data]) == 0
    monkeypatch.setattr(correct, "STEPS", 20)
    assert cli.main(["finetune", "--from", "run", "--data", data, "--out", "again"]) == 0  # replays what bundled did


def test_right_labels_keep_their_old_scores(monkeypatch):
    """Music to which speech is added: the target of music, which is right, is not 1 but its old score."""
    monkeypatch.setattr(correct, "STEPS", 100)
    learner = correct.Learner(TrainedRun.load(Path("bundled")), FOLDER, Cache(None))
    before = learner.answers(learner.replayed)
    music = np.flatnonzero((before[:, 0] < 0.5) & (before[:, 1] > 0.5))[:20]
    examples = [correct.Example(learner.replayed[[place]], np.array([1, 1], np.float32)) for place in music]
    learner.learn(examples)
    speech_rise, music_rise = (learner.answers(learner.replayed) - before)[music].mean(axis=0)
    assert speech_rise > 0.03
    assert abs(music_rise) < 1e-3


@pytest.mark.slow
def test_held_out_windows_in_doubt_are_replayed(folder, samples, monkeypatch):
    lines = [f"{path.name},{path.name.partition('_')[0]}" for path in samples]
    (folder / "data.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    dataset = dataset_by_name("csv:data.csv")
    held_out = [each.name for each in dataset.recordings[::2]]

    def unread(rate_hz: int) -> np.ndarray:
        raise AssertionError("a recording of the training is read")

    recordings = [
        each if each.name in held_out else dataclasses.replace(each, read=unread) for each in dataset.recordings
    ]
    dataset = dataclasses.replace(dataset, decision="independent", recordings=tuple(recordings))
    run = TrainedRun.load(Path("bundled"))
    run = dataclasses.replace(run, split={**run.split, "val": held_out})
    plain = dataclasses.replace(get_recipe(run.recipe), augment=None)
    monkeypatch.setattr(replay, "recipes", lambda: {run.recipe: plain})
    monkeypatch.setattr(decision, "WINDOWS", 1000)
    learner = correct.Learner(run, FOLDER, Cache(None))

    def doubt(windows: int) -> float:
        monkeypatch.setattr(replay, "WINDOWS", windows)
        values = replay.replay(run, FOLDER, dataset, Cache(None))
        assert len(values) == windows
        scores = learner.answers(values)
        return float((scores * (1 - scores)).mean())

    assert doubt(100) > 1.5 * doubt(1000)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [(["--epochs", "3"], "do not go with"), (["--head-only"], "do not go with"), ([], "has the label jingle")],
)
def test_what_cannot_be_learnt_is_refused(folder, capsys, more, sentence):
    data = table(folder, "music_zaz.wav,0,2,jingle,other", "music_zaz.wav,2,4,music,other")
    assert cli.main(["finetune", "--from", "bundled", "--data", data, "--out", "run", *more]) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_other_trainings_refuse_several_labels(folder, tmp_path):
    data = table(folder, "music_zaz.wav,0,2,speech+music,other", "music_zaz.wav,2,4,music,other")
    with pytest.raises(MsEdgeError, match="only ms-train finetune learns"):
        fit(get_recipe("mel_dscnn"), dataset_by_name(data), data, tmp_path / "run")
