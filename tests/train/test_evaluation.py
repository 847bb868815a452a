"""`ms-train evaluate` and `ms-train fit --folds` on real recordings: the numbers agree with
ms-edge.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_network import few_layers

from ms_edge.classifier import Classifier
from ms_edge.cli import main as edge_cli
from ms_edge.model.session import BUNDLED
from ms_train.cli import main as cli
from ms_train.evaluation import crossvalidate
from ms_train.recipes import by_name as recipes
from ms_train.scores import metrics as metrics_module

PICTURES = {f"{name}.png" for name in ("reliability", "roc", "confusion", "length", "snr", "mistakes")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, copy_by_label) -> Path:
    root = copy_by_label(tmp_path_factory.mktemp("data") / "samples")
    (root / "music" / "broken.wav").write_bytes(b"I am not audio.")
    return root


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Recipes of two steps an epoch, mel_dscnn of few layers, and intervals from few rounds."""
    short = {
        name: dataclasses.replace(recipe, steps_per_epoch=recipe.steps_per_epoch and 2, batch_size=8)
        for name, recipe in recipes.recipes().items()
    }
    short["mel_dscnn"] = few_layers(short["mel_dscnn"], eager=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "recipes", lambda: short)
        patch.setattr(metrics_module, "ROUNDS", 40)
        yield


def fit(folder: Path, out: Path, *options: str) -> int:
    return cli.main(
        ["fit", "--recipe", "mel_dscnn", "--data", f"folder:{folder}", "--out", str(out), "--epochs", "1", "--cache",
         "none", *options]
    )  # fmt: skip


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def bundled(folder, tmp_path_factory) -> Path:
    """The report on the bundled model."""
    out = tmp_path_factory.mktemp("reports") / "bundled"
    assert evaluate(BUNDLED, "--data", f"folder:{folder}", "-o", out) == 0
    return out


def test_report_is_complete(bundled):
    assert {path.name for path in bundled.iterdir()} == PICTURES | {"report.md", "report.json"}
    for name in PICTURES:
        assert (bundled / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in (bundled / "report.md").read_text()
    found = json.loads((bundled / "report.json").read_text())
    assert found["schema"] == "ms-train/evaluation-1"
    assert found["model"]["training"]["dataset"] == "open-corpus"
    assert found["data"]["recordings_by_label"] == {"music": 6, "speech": 6}
    assert [point["seconds"] for point in found["by_length"]] == [0.5, 1, 2, 3, 5, 10, None]
    assert len(found["by_snr"]) == 11
    assert 0 < len(found["mistakes"]) <= 10
    assert found["calibration"]["temperature"] is None
    assert "--calibrate-on" in (bundled / "report.md").read_text()


def test_scores_match_ms_edge_classify(bundled, folder, samples, capsys):
    assert edge_cli.main(["classify", "--format", "jsonl", *map(str, samples)]) == 0
    records = {Path(record["path"]).name: record for record in map(json.loads, capsys.readouterr().out.splitlines())}
    found = json.loads((bundled / "report.json").read_text())
    answers = {Path(one["name"]).name: one for one in found["files"]["answers"]}
    assert set(answers) == set(records)
    for name, one in answers.items():
        assert one["answer"] == records[name]["label"]
        assert one["scores"] == pytest.approx(records[name]["scores"], abs=2e-6)
    right = [record["label"] == name.partition("_")[0] for name, record in records.items()]
    assert found["files"]["accuracy"]["value"] == np.mean(right)
    assert found["by_length"][-1]["accuracy"] == found["files"]["accuracy"]


def test_clips_are_the_windows_of_the_runtime(bundled, samples):
    from ms_edge.audio.file import read_mono

    classifier = Classifier()
    windows = [classifier.window_scores([read_mono(path, 16_000)]) for path in map(str, samples)]
    found = json.loads((bundled / "report.json").read_text())
    assert found["clips"]["count"] == sum(int((~one.silent).sum()) for one in windows)
    assert found["data"]["silent_clips"] == sum(int(one.silent.sum()) for one in windows)
    counts = np.array(found["clips"]["confusion"]["counts"])
    assert counts.sum() == sum(len(one.starts) for one in windows)


def test_unreadable_recordings_are_listed(bundled):
    found = json.loads((bundled / "report.json").read_text())
    ((name, why),) = found["data"]["unreadable"].items()
    assert name == "music/broken.wav"
    assert "not audio" in why
    assert why in (bundled / "report.md").read_text()


@pytest.mark.slow
def test_any_file_name_can_be_reported(samples, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    tmp_path = tmp_path / b"\xff".decode("utf-8", "surrogateescape")
    (tmp_path / "music").mkdir(parents=True)
    name = b"$\\frac{$|\n \xff \xe6\x97\xa5.wav".decode(
        "utf-8", "surrogateescape"
    )  # matplotlib would read it as a formula
    shutil.copy(samples[0], tmp_path / "music" / name)
    (tmp_path / "speech").mkdir()
    for path in samples:
        if path.name.startswith("music"):  # labelled wrongly, so that they are drawn
            shutil.copy(path, tmp_path / "speech" / f"{path.stem}{name}")
    data = tmp_path / "report"
    assert evaluate(BUNDLED, "--data", f"folder:{tmp_path}", "-o", data) == 0
    assert "Glyph" not in capfd.readouterr().err
    assert (data / "mistakes.png").exists()
    sys.stdout.flush()
    assert str(data).encode("ascii", "backslashreplace") in sys.stdout.buffer.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_same_seed_gives_the_same_report(bundled, folder, tmp_path):
    assert evaluate(BUNDLED, "--data", f"folder:{folder}", "-o", tmp_path) == 0
    assert (tmp_path / "report.json").read_bytes() == (bundled / "report.json").read_bytes()


@pytest.mark.usefixtures("no_pictures")
def test_one_class_has_no_roc_area(samples, tmp_path, capsys):
    for name in ("speech", "music"):
        (tmp_path / name).mkdir()
    for number, path in enumerate(path for path in samples if path.name.startswith("music")):
        shutil.copy(path, tmp_path / "music" / f"{number}.wav")
    (tmp_path / "speech" / "broken.wav").write_bytes(b"I am not audio.")
    assert evaluate(BUNDLED, "--data", f"folder:{tmp_path}", "-o", tmp_path / "report") == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("music ROC-AUC")).split()[-2:] == ["-", "-"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_temperature_is_not_fitted_on_scored_recordings(folder, samples, tmp_path):
    others = tmp_path / "others"
    for path in samples:  # some are scored; the others are new recordings, without their last sample
        label = path.name.partition("_")[0]
        (others / label).mkdir(parents=True, exist_ok=True)
        scored = path.name in ("music_zaz.wav", "speech_italian_man.wav")
        audio, rate = soundfile.read(path)
        shutil.copy(path, others / label) if scored else soundfile.write(others / label / path.name, audio[:-1], rate)
    data = f"folder:{folder}"
    assert evaluate(BUNDLED, "--data", data, "--calibrate-on", f"folder:{others}", "-o", tmp_path / "a") == 0
    found = json.loads((tmp_path / "a" / "report.json").read_text())["calibration"]
    assert found["temperature"] > 0
    assert "from 10 recordings of others; 2 more are scored here and left out." in found["fitted_on"]

    assert evaluate(BUNDLED, "--data", data, "--calibrate-on", data, "-o", tmp_path / "b") == 0
    found = json.loads((tmp_path / "b" / "report.json").read_text())["calibration"]
    assert found["temperature"] is found["tempered"] is None
    assert "are scored here" in found["fitted_on"]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert fit(folder, out, "--fold", "1/2") == 0
    return out


@pytest.mark.usefixtures("no_pictures")
def test_run_is_scored_on_its_held_out_part(run, capsys):
    assert evaluate(run, "-o", run.parent / "report") == 0
    found = json.loads((run.parent / "report" / "report.json").read_text())
    split = json.loads((run / "split.json").read_text())
    assert found["data"]["part"] == "test"
    assert {one["name"] for one in found["files"]["answers"]} == set(split["test"])
    assert found["warnings"] == []
    assert "of the run's validation part" in found["calibration"]["fitted_on"]
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert found["files"]["largest_score_accuracy"]["value"] == pytest.approx(metrics["file_accuracy"], abs=0.17)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("train", "was trained on"),
        ("val", "decided when its training stopped"),
        ("all", "was trained on"),
    ],
)
def test_scoring_training_recordings_gives_a_warning(run, part, sentence, capsys):
    assert evaluate(run, "--part", part) == 0
    assert sentence in capsys.readouterr().out


def test_recordings_are_identified_by_their_bytes(run, folder, tmp_path, capsys):
    for number, path in enumerate(sorted(folder.rglob("*.wav"))):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name / f"{number}.wav")
    assert evaluate(run, "--data", f"folder:{tmp_path}", "--part", "all") == 0
    trained = len(json.loads((run / "split.json").read_text())["train"])
    assert f"was trained on {trained} of the 13 recordings" in capsys.readouterr().out


def test_changed_held_out_recordings_are_not_replaced(run, folder, tmp_path, capsys):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    for name in json.loads((run / "split.json").read_text())["test"]:
        with (changed / name).open("ab") as file:
            file.write(b"x")
    assert evaluate(run, "--data", f"folder:{changed}") == 2
    assert "no part 'test' of this model's; give --part train or val or all" in capsys.readouterr().err


def test_damaged_run_folder_is_refused(run, folder, tmp_path, capsys):
    for damage in ("bytes", "spec"):
        broken = tmp_path / damage
        shutil.copytree(run, broken)
        if damage == "bytes":
            content = bytearray((run / "model.keras").read_bytes())
            content[1000:9000] = bytes(8000)
            (broken / "model.keras").write_bytes(content)
        else:
            spec = json.loads((run / "spec.json").read_text())
            (broken / "spec.json").write_text(json.dumps({**spec, "log_floor": 0.5}))
        assert evaluate(broken, "--data", f"folder:{folder}") == 1
        assert "not a run folder of ms-train fit (" in capsys.readouterr().err


def test_recordings_changed_since_training_are_counted(run, folder, tmp_path, capsys):
    data = tmp_path / "samples"
    shutil.copytree(folder, data)
    assert evaluate(run, "--data", f"folder:{data}") == 0
    assert "as they were" not in capsys.readouterr().out
    changed = [name for names in json.loads((run / "split.json").read_text()).values() for name in names]
    for count, name in enumerate(changed, 1):
        with (data / name).open("ab") as file:
            file.write(b"x")
        if count in (1, len(changed)):
            assert evaluate(run, "--data", f"folder:{data}", "--part", "all") == 0
            said = capsys.readouterr().out
            assert (
                f"note: {count} of the 12 recordings that the run was made with are not in samples as they were" in said
            )


def test_labels_the_model_does_not_know_are_counted(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "music").rename(tmp_path / "data" / "birds")
    assert evaluate(BUNDLED, "--data", f"folder:{tmp_path / 'data'}") == 0
    assert "note: 7 recordings are of labels the model does not know (birds)" in capsys.readouterr().out


def test_refusals_are_one_sentence(run, folder, tmp_path, capsys):
    other, silent = tmp_path / "other", tmp_path / "unreadable"
    for label in ("cats", "dogs"):
        (other / label).mkdir(parents=True)
        shutil.copy(next((folder / "music").iterdir()), other / label)
    for label in ("music", "speech"):
        (silent / label).mkdir(parents=True)
        (silent / label / "a.wav").write_bytes(b"I am not audio.")
    cases = [
        ((BUNDLED,), "names no dataset; give --data", 2),
        ((BUNDLED, "--data", f"folder:{other}"), "no label in common", 2),
        ((BUNDLED, "--data", f"folder:{silent}"), "None of the 2 recordings can be scored", 1),
        ((BUNDLED, "--data", f"folder:{folder}", "--part", "test"), "give --part all", 2),
        ((BUNDLED, "--data", f"folder:{tmp_path / 'none'}"), "no such folder", 1),
        ((BUNDLED, "--data", f"folder:{folder}", "--calibrate-on", f"folder:{other}"), "no label in common", 2),
        ((folder, "--data", f"folder:{folder}"), "not a run folder", 1),
        ((folder / "music" / "broken.wav", "--data", f"folder:{folder}"), "not a model", 1),
    ]
    for arguments, sentence, code in cases:
        assert evaluate(*arguments) == code
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ms-train: ")]
        assert len(said) == 1
        assert sentence in said[0]


@pytest.mark.slow
def test_folds_test_every_recording_and_resume(folder, tmp_path, capsys):
    out = tmp_path / "folds"
    assert fit(folder, out, "--folds", "2") == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "report.json").read_text())
    splits = [json.loads((out / f"fold-{number}" / "split.json").read_text()) for number in (1, 2)]
    assert sorted(name for split in splits for name in split["test"]) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.wav") if path.name != "broken.wav"
    )
    assert found["files"]["count"] == 12
    assert list(found["data"]["unreadable"]) == ["music/broken.wav"]
    assert found["mean"]["files"]["accuracy"] == np.mean([fold["files"]["accuracy"] for fold in found["folds"]])
    assert f"{100 * found['mean']['clips']['accuracy']:.1f} %" in printed

    assert fit(folder, out, "--folds", "2") == 2
    before = (out / "fold-1" / "model.keras").stat().st_mtime_ns
    shutil.rmtree(out / "fold-2")
    (out / "report.json").unlink()
    assert fit(folder, out, "--folds", "2", "--resume") == 0
    assert (out / "fold-1" / "model.keras").stat().st_mtime_ns == before
    assert json.loads((out / "report.json").read_text())["folds"] == found["folds"]
    capsys.readouterr()
    assert fit(folder, out, "--folds", "2", "--resume", "--seed", "9") == 2
    assert "was begun with seed 0, not 9" in capsys.readouterr().err
    # Folds of two kinds of network are not a cross-validation.
    shutil.rmtree(out / "fold-2")
    assert fit(folder, out, "--folds", "2", "--resume", "--recipe", "linear_dscnn") == 2
    assert "was begun with recipe mel_dscnn, not linear_dscnn" in capsys.readouterr().err
    # With another recording the folds change: some recordings would be tested twice, some never.
    more = tmp_path / "samples"
    shutil.copytree(folder, more)
    audio, rate = soundfile.read(folder / "music" / "music_zaz.wav")
    soundfile.write(more / "music" / "another.wav", audio[1:], rate)
    run = json.loads((out / "fold-1" / "run.json").read_text())
    (out / "fold-1" / "run.json").write_text(json.dumps({**run, "data": f"folder:{more}"}))
    assert fit(more, out, "--folds", "2", "--resume") == 1
    assert "fold-1: the recordings have changed since it was trained" in capsys.readouterr().err


def test_silent_fold_has_no_accuracy():
    def answers(scores: list[list[float]], said: tuple[str, ...]) -> metrics_module.Answers:
        count = len(said)
        targets = np.tile([True, False], (count, 1))
        labels = ("music", "speech")
        return metrics_module.Answers(np.array(scores).reshape(count, 2), targets, said, np.arange(count), labels)

    silent = answers([], ())
    right, half = answers([[0.9, 0.1]], ("music",)), answers([[0.9, 0.1], [0.2, 0.8]], ("music", "speech"))
    folds = [
        crossvalidate.Fold(number, crossvalidate._of_fold(clips), crossvalidate._of_fold(right), [])
        for number, clips in enumerate((right, silent, half), 1)
    ]
    mean, deviation = crossvalidate._over(folds, np.mean), crossvalidate._over(folds, np.std)
    assert (mean.clips.accuracy, mean.files.accuracy) == (0.75, 1.0)
    everything = metrics_module.measures(half, 0, 10)
    data = crossvalidate.FoldsData("data", 3, 4, {})
    model = crossvalidate.FoldsModel("mel_dscnn", ["music", "speech"], "exclusive")
    numbers = crossvalidate.Folds(data, model, 0, folds, mean, deviation, everything, everything)
    lines = [line.split() for line in crossvalidate.table(numbers).splitlines() if line.startswith("fold")]
    assert [line[2] for line in lines] == ["100.0", "-", "50.0"]
