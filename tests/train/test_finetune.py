"""New classes on a trained trunk: trained, resumed, exported and classified; errors are one
sentence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from small_network import few_layers

from ms_edge.cli import main as edge_cli
from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.model.session import Model
from ms_export import cli as export_cli
from ms_export import convert
from ms_train.augment.pool import Pool
from ms_train.cli import main as cli
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.dataset import Recording
from ms_train.recipes.by_name import get_recipe, recipes
from ms_train.training import checkpoint, finetune
from ms_train.training.finetune import recipe_from, trunk
from ms_train.training.fit import Options, fit

RATE = 16_000
KINDS = ("beep", "click", "hiss")


@pytest.fixture(scope="module", autouse=True)
def _short(leave_out_pictures):
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        patch.setattr(finetune, "STEPS_PER_EPOCH", 4)
        patch.setattr(finetune, "BATCH_S", 8.0)
        yield


@pytest.fixture(scope="module")
def origin(tmp_path_factory, copy_by_label) -> Path:
    """Return a run folder of music and speech, trained for one epoch of two steps."""
    root = tmp_path_factory.mktemp("origin")
    copy_by_label(root / "data")
    data = f"folder:{root / 'data'}"
    recipe = dataclasses.replace(few_layers(get_recipe("mel_dscnn"), eager=True), batch_size=4, steps_per_epoch=2)
    fit(recipe, dataset_by_name(data), data, root / "run", Options(epochs=1))
    return root / "run"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Write four recordings of each of three kinds, half of them shorter than a clip."""
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (root / kind).mkdir()
        for number in range(4):
            time_s = np.arange(int(RATE * (0.4, 0.6, 1.3, 2.1)[number])) / RATE
            made = {
                "beep": np.sin(2 * np.pi * rng.uniform(600, 1500) * time_s),
                "click": (np.arange(len(time_s)) % int(rng.integers(1500, 3000)) < 8).astype(float),
                "hiss": rng.standard_normal(len(time_s)) / 4,
            }
            soundfile.write(root / kind / f"{number}.wav", 0.5 * made[kind], RATE)
    return root


@pytest.fixture(scope="module")
def tuned(origin, sounds, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "run"
    command = ["finetune", "--from", str(origin), "--data", f"folder:{sounds}", "--out", str(out)]
    assert cli.main([*command, "--epochs", "3", "--fold", "1/4"]) == 0
    return out


def train(origin: Path, sounds: Path, out: Path, *, head_only: bool = False, **options: object) -> dict:
    data = f"folder:{sounds}"
    recipe = recipe_from(origin, head_only=head_only)
    return fit(recipe, dataset_by_name(data), data, out, Options(**{"epochs": 2, **options}))


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.weights]


def test_run_folder_records_its_origin(tuned, origin):
    facts = json.loads((tuned / "run.json").read_text())
    assert (facts["recipe"], facts["labels"], facts["fold"]) == ("mel_dscnn_finetuned", list(KINDS), "1/4")
    digest = hashlib.sha256((origin / "model.keras").read_bytes()).hexdigest()
    assert facts["origin_sha256"] == facts["origin"]["model_sha256"] == digest
    assert facts["origin"]["labels"] == ["music", "speech"]
    assert (tuned / "spec.json").read_text() == (origin / "spec.json").read_text()
    assert json.loads((tuned / "metrics.json").read_text())["test"]["files"] == 3


@pytest.mark.slow
def test_recordings_of_the_origin_are_counted(origin, tmp_path, capsys):
    data = json.loads((origin / "run.json").read_text())["data"]
    chosen = ["--from", str(origin), "--data", data, "--fold", "1/3", "--epochs", "1", "--head-only"]
    assert cli.main(["finetune", *chosen, "--out", str(tmp_path / "run")]) == 0
    assert "had been trained or stopped on 4 of the 4 recordings tested" in capsys.readouterr().err
    command = json.loads((tmp_path / "run" / "run.json").read_text())["command"]
    assert f"--from {origin} --head-only --out {tmp_path / 'run'}" in command
    with pytest.raises(MsEdgeError, match="was begun with head_only True, not False"):
        train(origin, Path(data.removeprefix("folder:")), tmp_path / "run", fold=(1, 3), epochs=1, resume=True)


@pytest.mark.slow
def test_new_classes_are_exported_and_classified(tuned, sounds, tmp_path, monkeypatch, capsys):
    whole = convert.grid
    monkeypatch.setattr(convert, "grid", lambda *args, **options: islice(whole(*args, **options), 0, None, 6))
    out = tmp_path / "sounds.onnx"
    assert export_cli.main(["convert", str(tuned), "-o", str(out), "--data", f"folder:{sounds}"]) == 0
    model = Model.load(out)
    assert model.metadata.labels == KINDS
    assert model.metadata.training["origin"]["labels"] == ["music", "speech"]
    assert "run" not in model.metadata.training["origin"]
    capsys.readouterr()
    files = sorted(map(str, sounds.glob("*/*.wav")))
    assert edge_cli.main(["classify", "--model", str(out), "--format", "jsonl", *files]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == len(files)
    assert all(tuple(record["scores"]) == KINDS for record in records)


def test_fine_tuned_run_can_be_fine_tuned_again(tuned, origin, tmp_path):
    """The second run has two classes instead of three; each run names its origin."""
    train(tuned, origin.parent / "data", tmp_path / "again", head_only=True, epochs=1)
    facts = json.loads((tmp_path / "again" / "run.json").read_text())
    assert facts["recipe"] == "mel_dscnn_finetuned"
    assert facts["labels"] == ["music", "speech"]
    assert facts["origin"]["labels"] == list(KINDS)
    assert facts["origin"]["origin"]["labels"] == ["music", "speech"]
    for before, after in zip(weights(trunk(tuned)), weights(trunk(tmp_path / "again")), strict=True):
        np.testing.assert_array_equal(before, after)


def test_whole_network_learns_except_statistics(tuned, origin):
    before, after = trunk(origin), trunk(tuned)
    for one, other in zip(before.layers, after.layers, strict=True):
        same = all((a == b).all() for a, b in zip(weights(one), weights(other), strict=True))
        assert same == (not one.weights or isinstance(one, keras.layers.BatchNormalization)), one.name


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_weights(tuned, origin, sounds, tmp_path, monkeypatch):
    class PulledPlugError(Exception):
        pass

    write = checkpoint.Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        write(self, epoch, logs)
        raise PulledPlugError

    again = {"epochs": 3, "fold": (1, 4)}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "on_epoch_end", on_epoch_end)
        with pytest.raises(PulledPlugError):
            train(origin, sounds, tmp_path / "resumed", **again)
    other = shutil.copytree(origin, tmp_path / "other")
    shutil.copy(tuned / "model.keras", other)
    with pytest.raises(MsEdgeError, match="was begun with origin_sha256"):
        train(other, sounds, tmp_path / "resumed", resume=True, **again)
    moved = shutil.copytree(origin, tmp_path / "moved")
    train(moved, sounds, tmp_path / "resumed", resume=True, **again)
    networks = [keras.models.load_model(out / "model.keras", compile=False) for out in (tuned, tmp_path / "resumed")]
    for one, resumed in zip(*map(weights, networks), strict=True):
        np.testing.assert_array_equal(one, resumed)


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_has_a_trunk(name, tmp_path):
    """The trunk has no dense layers at its end, and does not end in scores."""
    network = recipes()[name].build_model(("music", "speech"), "exclusive", 1)
    network.save(tmp_path / "model.keras")
    found = trunk(tmp_path)
    assert found.input_shape == network.input_shape
    assert found.output_shape[-1] >= 48
    assert not isinstance(found.outputs[0]._keras_history.operation, finetune.HEAD)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.parent / "music-speech.onnx", "run folder"),
        (lambda path: path / "nowhere", "not a run folder"),
        (lambda path: (path / "model.keras").write_bytes(b"PK") and path, "not a run folder"),
        (lambda path: (path / "recipe.json").write_text("{}") and path, "not a run folder"),
    ],
)
def test_invalid_origin_gives_one_sentence(origin, sounds, tmp_path, capsys, make, sentence):
    path = make(shutil.copytree(origin, tmp_path / "origin"))
    arguments = ["finetune", "--from", str(path), "--data", f"folder:{sounds}", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not (tmp_path / "out").exists()


def test_a_model_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="give --from the run folder"):
        recipe_from(tmp_path / "music-speech.onnx")


def test_windows_of_one_recording_match_the_runtime():
    """A short recording is repeated to fill its window; otherwise it is joined with others."""
    spec = get_recipe("mel_dscnn").spec
    audio = {name: np.full(length, value, np.float32) for name, length, value in (("a", 3_000, 0.1), ("b", 5_000, 0.2))}
    audio["a"][0] = 0.5
    pairs = [(Recording(name, "x", "x", name, len), samples) for name, samples in audio.items()]
    pool = Pool(pairs, ("x",), "exclusive", spec, apart=True)
    drawn = [pool.window("x", spec.clip_samples, np.random.default_rng(seed)) for seed in range(20)]
    expected = [np.resize(samples, spec.clip_samples) for samples in audio.values()]
    assert all(any(np.array_equal(window, tile) for tile in expected) for window in drawn)
