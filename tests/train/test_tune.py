"""Searches: repeated and resumed with identical results; their trials are runs of `fit`."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest

from ms_edge.errors import MsEdgeError, UsageError
from ms_train.cli import main as cli
from ms_train.cli.arguments import parser
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import DataError
from ms_train.recipes import resized_cnn
from ms_train.recipes.by_name import get_recipe, recipes
from ms_train.recipes.ranges import Range
from ms_train.recipes.recipe import Recipe
from ms_train.search import tune_plots
from ms_train.search.trials import Trial
from ms_train.search.tune import tune
from ms_train.training.fit import Options, fit

COMMAND = ["ms-train", "fit", "--recipe", "resized_cnn", "--data", "folder:x", "--epochs", "1", "--seed", "7"]
TRIALS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory, copy_by_label) -> Path:
    return copy_by_label(tmp_path_factory.mktemp("data"))


def recipe() -> Recipe:
    """Return a recipe with clips of a second, whose network is not traced."""
    found = get_recipe("resized_cnn")
    spec = dataclasses.replace(found.spec, clip_s=1.0, hop_s=1.0)

    @functools.wraps(resized_cnn.build_model)
    def build_model(*args: object, **settings: object) -> keras.Model:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resized_cnn, "SPEC", spec)
            model = resized_cnn.build_model(*args, **settings)
        model.run_eagerly = True
        return model

    return dataclasses.replace(found, spec=spec, build_model=build_model, batch_size=4)


def search(folder: Path, out: Path, *, resume: bool = False) -> dict[int, tuple[dict, float | None]]:
    """Run a search with real trainings; return settings and loss of each trial."""
    data = f"folder:{folder}"
    dataset = dataset_by_name(data)

    def train(chosen: Recipe, trial: Path) -> None:
        fit(chosen, dataset, data, trial, Options(seed=7, epochs=1, cache=folder.parent / "cache", resume=True))

    return numbers(tune(recipe(), dataset, train, COMMAND, out, trials=TRIALS, seed=7, resume=resume))


def pretend(out: Path, loss=lambda settings: settings["dropout"] + settings["learning_rate"], **options: object):
    """Run a search whose losses are a formula of the settings."""

    def train(chosen: Recipe, trial: Path) -> None:
        trial.mkdir(parents=True)
        (trial / "history.csv").write_text(f"epoch,val_loss\n1,9\n2,{loss(chosen.settings)}\n")
        (trial / "run.json").write_text("{}")
        metrics = {"epochs": 2, "val": {"clip_accuracy": 0.5, "file_accuracy": 0.5}}
        (trial / "metrics.json").write_text(json.dumps(metrics))

    options = {"trials": 12, "seed": 7, "resume": False, "command": COMMAND, "dataset": some("a", "b"), **options}
    command, dataset = options.pop("command"), options.pop("dataset")
    with pytest.MonkeyPatch.context() as patch:  # skips what takes long and is tested elsewhere
        patch.setattr(tune_plots, "study", lambda *given: None)
        patch.setattr(keras.backend, "clear_session", lambda: None)
        patch.setattr(os, "fsync", lambda descriptor: None)
        return tune(get_recipe("resized_cnn"), dataset, train, command, out, **options)


def some(*names: str) -> Dataset:
    recordings = tuple(Recording(name, name, name, name, lambda rate_hz: None) for name in names)
    return Dataset("some", names, "exclusive", recordings)


def numbers(trials) -> dict[int, tuple[dict, float | None]]:
    return {trial.number: (trial.settings, trial.val_loss) for trial in trials}


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> tuple[Path, dict]:
    """Run a search without interruption."""
    out = tmp_path_factory.mktemp("whole") / "search"
    return out, search(folder, out)


@pytest.mark.slow
def test_search_writes_runs_table_picture_and_command(whole, folder, tmp_path):
    out, found = whole
    assert {path.name for path in out.iterdir()} == {
        *(f"trial-{number}" for number in range(1, TRIALS + 1)), "study.log", "study.csv", "study.png", "best.json",
    }  # fmt: skip
    assert found[1][0] == get_recipe("resized_cnn").settings
    for number, (settings, loss) in found.items():
        run = out / f"trial-{number}"
        assert json.loads((run / "run.json").read_text())["settings"] == settings
        assert json.loads((run / "recipe.json").read_text())["settings"] == settings
        assert (run / "history.csv").read_text().splitlines()[-1].split(",")[-1] == repr(loss)
    best = json.loads((out / "best.json").read_text())
    assert best["val_loss"] == min(loss for _, loss in found.values())
    args = parser().parse_args(shlex.split(best["command"])[1:])
    chosen = recipe().with_settings(dict(args.set))
    assert chosen.settings == best["settings"] == found[best["trial"]][0]
    data = f"folder:{folder}"
    fit(chosen, dataset_by_name(data), data, tmp_path / "best", Options(seed=args.seed, epochs=args.epochs))
    one, other = (
        keras.models.load_model(path / "model.keras", compile=False).get_weights()
        for path in (out / f"trial-{best['trial']}", tmp_path / "best")
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    lines = (out / "study.csv").read_text().splitlines()
    assert lines[0].startswith("trial,val_loss,clip_accuracy,file_accuracy,epochs,parameters,seconds,learning_rate")
    assert [line.split(",")[:2] for line in lines[1:]] == [[str(n), repr(found[n][1])] for n in sorted(found)]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ms_train.training import checkpoint
import test_tune
write = checkpoint.Checkpoint.on_epoch_end
def on_epoch_end(self, epoch, logs=None):
    write(self, epoch, logs)
    if self._path.parent.name == "trial-2":
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.on_epoch_end = on_epoch_end
test_tune.search(Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_search_resumes_with_same_result(whole, folder, tmp_path):
    out = tmp_path / "killed"
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder), str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (out / "trial-2" / "checkpoint.npz").exists()
    assert not (out / "study.csv").exists()
    with pytest.raises(UsageError, match="go on with --resume"):
        search(folder, out)
    assert search(folder, out, resume=True) == whole[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole[0].iterdir())


def test_only_the_seed_decides_the_trials(tmp_path, monkeypatch):
    one = numbers(pretend(tmp_path / "one"))
    assert one == numbers(pretend(tmp_path / "again"))
    other = numbers(pretend(tmp_path / "other", seed=8))
    assert one[1] == other[1]
    assert all(one[number] != other[number] for number in range(2, 13))


@pytest.mark.parametrize("stopped", ["tell", "ask"])
def test_stopped_search_resumes_with_same_trials(tmp_path, monkeypatch, stopped):
    one, calls, kept = numbers(pretend(tmp_path / "one")), [], getattr(optuna.Study, stopped)

    def stop(*args, **options):
        calls.append(args)
        if len(calls) == 11:  # when earlier trials influence the next
            raise KeyboardInterrupt
        return kept(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, stopped, stop)
        with pytest.raises(KeyboardInterrupt):
            pretend(tmp_path / "stopped")
    assert numbers(pretend(tmp_path / "stopped", resume=True)) == one


def test_half_drawn_trial_is_drawn_again(tmp_path):
    one = numbers(pretend(tmp_path / "one", trials=3))
    out = tmp_path / "cut"
    pretend(out, trials=2)
    lines = (tmp_path / "one" / "study.log").read_bytes().splitlines(keepends=True)
    asked = [
        number for number, line in enumerate(lines) if b'"param_name":"filters"' in line and b'"trial_id":2' in line
    ]
    # Cut within the third trial's second setting, which leaves a torn line.
    (out / "study.log").write_bytes(b"".join(lines[: asked[0]]) + lines[asked[0]][:20])
    again = numbers(pretend(out, trials=3, resume=True))
    assert [again[1], again[2], again[4]] == [one[1], one[2], one[3]]


def test_more_trials_continue_a_finished_search(tmp_path):
    pretend(tmp_path / "two", trials=2)
    more = numbers(pretend(tmp_path / "two", trials=4, resume=True))
    assert more == numbers(pretend(tmp_path / "four", trials=4))
    assert numbers(pretend(tmp_path / "two", trials=1, resume=True)) == more


def test_a_failed_trial_does_not_end_the_search(tmp_path, capsys):
    def loss(settings):
        if settings["filters"] > 32:
            raise MemoryError("no room\nfor it")
        return float("nan") if settings["dense"] > 128 else settings["dropout"]

    found = pretend(tmp_path / "search", loss)
    failed = [trial for trial in found if trial.val_loss is None]
    assert 1 < len(failed) < len(found) == 12
    assert found[-1] == failed[-1]
    assert "MemoryError" in "".join(
        (tmp_path / "search" / f"trial-{t.number}" / "error.txt").read_text() for t in failed
    )
    errors = capsys.readouterr().err
    assert "failed (no room); see error.txt there. The search goes on." in errors
    assert "failed (the validation loss is nan)" in errors
    assert (tmp_path / "search" / "study.csv").read_text().count("failed") == len(failed)

    def never(settings):
        raise MemoryError

    with pytest.raises(MsEdgeError, match=r"no trial could be trained; .*trial-1.error.txt says why"):
        pretend(tmp_path / "never", never, trials=2)


def test_bad_data_ends_the_search(tmp_path):
    def loss(settings):
        raise DataError("bad-data", "no recording of music is left for training.")

    with pytest.raises(MsEdgeError, match="no recording"):
        pretend(tmp_path / "search", loss)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "already holds files; go on with --resume"),
        (
            {"resume": True, "command": [*COMMAND, "--fold", "1/5"]},
            "was begun with command ms-train fit .* not ms-train",
        ),
        ({"resume": True, "dataset": some("a", "c")}, "was begun with recordings"),
    ],
)
def test_impossible_search_resume_gives_one_sentence(tmp_path, options, sentence):
    pretend(tmp_path, trials=1)
    with pytest.raises(UsageError, match=sentence) as raised:
        pretend(tmp_path, **options)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["nonsense\n", '{"op_code":0}\n', "[]\n", '{"op_code":99,"worker_id":"x"}\n'])
def test_invalid_journal_gives_one_sentence(tmp_path, text):
    (tmp_path / "study.log").write_text(text * 2)
    with pytest.raises(MsEdgeError, match="is not the journal of a search"):
        pretend(tmp_path, resume=True)


def test_folder_with_other_files_is_unchanged(tmp_path):
    (tmp_path / "thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(UsageError, match="already holds files; give --out a new folder"):
            pretend(tmp_path, resume=resume)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("learning_rate=7", "learning_rate of resized_cnn is a number from 0.0001 to 0.01, not '7'."),
        ("learning_rate=nan", "learning_rate of resized_cnn is a number from 0.0001 to 0.01, not 'nan'."),
        ("dense=12.5", "dense of resized_cnn is a whole number from 16 to 256, not '12.5'."),
        ("colour=red", "resized_cnn has no setting 'colour'; it has learning_rate, filters, dense, dropout."),
    ],
)
def test_bad_settings_give_one_sentence(tmp_path, capsys, given, sentence):
    arguments = ["fit", "--recipe", "resized_cnn", "--data", "folder:x", "--out", str(tmp_path / "run"), "--set", given]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"ms-train: {sentence}\n"
    with pytest.raises(SystemExit):
        cli.main([*arguments[:-1], "dense"])
    assert "'dense' is not NAME=VALUE" in capsys.readouterr().err


def test_range_reads_values_with_their_type():
    assert repr(Range(1, 4).read("3")) == "3"
    assert repr(Range(0.0, 1.0).read("1")) == "1.0"
    assert repr(Range(choices=(0.5, 1.0)).read("1")) == "1.0"
    assert Range(choices=("relu", "tanh")).read("tanh") == "tanh"
    for bad in (Range(1, 4).read, Range(choices=("relu",)).read):
        with pytest.raises(ValueError):  # noqa: PT011
            bad("5")


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_builds_with_every_setting(name):
    found = get_recipe(name)
    assert set(found.settings) == set(found.ranges)
    assert found.with_settings(found.settings).settings == found.settings
    for end in (0, -1):
        chosen = {key: r.choices[end] if r.choices else (r.low, r.high)[end] for key, r in found.ranges.items()}
        model = found.with_settings(chosen).build_model(("music", "speech"), "exclusive", 1)
        assert model.output_shape[-1] in (1, 2)
        keras.backend.clear_session()


def test_run_resumes_only_with_its_settings(folder, tmp_path):
    data, out = f"folder:{folder}", tmp_path / "run"
    chosen = recipe().with_settings({"filters": "8", "dense": 16})
    fit(chosen, dataset_by_name(data), data, out, Options(epochs=1))
    assert json.loads((out / "run.json").read_text())["settings"] == {
        "learning_rate": 1e-3, "filters": 8, "dense": 16, "dropout": 0.5,
    }  # fmt: skip
    (out / "metrics.json").unlink()
    with pytest.raises(UsageError, match=r"was begun with settings .*'filters': 8.*, not .*'filters': 32"):
        fit(recipe(), dataset_by_name(data), data, out, Options(epochs=1, resume=True))


@pytest.mark.parametrize("losses", [(0.5,), (None, 20.0, *(0.1 * n for n in range(1, 11)))])
def test_same_trials_give_the_same_picture(tmp_path, losses):
    of = get_recipe("mel_dscnn")  # a choice among its settings
    trials = [Trial(number, of.settings, loss, {}) for number, loss in enumerate(losses, 1)]
    importances = dict.fromkeys(of.settings, 0.2) if len(trials) >= 10 else {}
    for name in ("a.png", "b.png")[: 1 + (len(trials) == 1)]:
        tune_plots.study(trials, of, importances, tmp_path / name)
    if len(trials) == 1:  # one is sufficient, because drawing takes a second
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_command_prints_best_trials_and_the_recipe(folder, tmp_path, capsys):
    out = tmp_path / "search"
    assert cli.main(
        ["tune", "--recipe", "resized_cnn", "--data", f"folder:{folder}", "--out", str(out), "--trials", "1", "--epochs", "1"]
    ) == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "val", "loss", "clips", "recordings", *get_recipe("resized_cnn").settings]
    assert sum("the recipe as it is" in line for line in lines) == 1
    assert lines[-1] == f"{out / 'best.json'}, {out / 'study.csv'}, {out / 'study.png'}"
    assert len(lines) == 3
