"""Training: repeated and resumed with identical weights, cached without stale entries, robust
against full disks.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_network import few_layers

from ms_edge.errors import MsEdgeError
from ms_train.cli import main as cli
from ms_train.datasets.by_name import dataset_by_name
from ms_train.recipes import mel_dscnn, resized_cnn
from ms_train.recipes.by_name import get_recipe
from ms_train.recipes.recipe import Recipe
from ms_train.training import checkpoint
from ms_train.training import fit as fit_module
from ms_train.training.batches import FixedBatches
from ms_train.training.fit import Options, TargetAccuracy, build_variables, fit, settle
from ms_train.training.runs import save_model

EPOCHS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory, copy_by_label) -> Path:
    return copy_by_label(tmp_path_factory.mktemp("data"))


def recipe(name: str, *, eager: bool = False) -> Recipe:
    """Return a small recipe: clips of a second, or few layers and two steps an epoch. Tracing is
    most of the time of a training of a few steps; an `eager` network is not traced.
    """
    found = get_recipe(name)
    if name == "resized_cnn":
        spec = dataclasses.replace(found.spec, clip_s=1.0, hop_s=1.0)

        def build_model(labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(resized_cnn, "SPEC", spec)
                model = resized_cnn.build_model(labels, decision, epochs)
            model.run_eagerly = eager
            return model

        return dataclasses.replace(found, spec=spec, build_model=build_model, batch_size=4, clips_per_recording=2)

    average = 0.5 if name == "mel_residual" else None  # with two steps an epoch, a slow average would hardly change
    return dataclasses.replace(few_layers(found, average, eager=eager), batch_size=4, steps_per_epoch=2)


@pytest.fixture(scope="module", autouse=True)
def _few_batches_for_statistics_and_no_pictures(leave_out_pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "STATISTICS_BATCHES", 2)
        leave_out_pictures(patch)
        yield


def train(name: str, folder: Path, out: Path, *, eager: bool = False, **options: object) -> dict:
    data = f"folder:{folder}"
    return fit(
        recipe(name, eager=eager), dataset_by_name(data), data, out, Options(**{"seed": 7, "epochs": EPOCHS, **options})
    )


def weights(out: Path) -> list[np.ndarray]:
    return keras.models.load_model(out / "model.keras", compile=False).get_weights()


def assert_same(one: Path, other: Path) -> None:
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


class PulledPlugError(Exception):
    """An error that the program does not expect."""


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoint.Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        write(self, epoch, logs)
        if epoch + 1 == epochs:
            raise PulledPlugError

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_end", on_epoch_end)


SLOW = pytest.mark.slow
# Trained on random windows. Here mel_residual is trained as mel_dscnn, with averaged weights.
RANDOM = ("mel_dscnn", "mel_residual")


@pytest.fixture(scope="module", params=["resized_cnn", *(pytest.param(name, marks=SLOW) for name in RANDOM)])
def whole(request, folder, tmp_path_factory) -> Path:
    """Train without interruption: on fixed clips, on random windows, and with averaged weights."""
    out = tmp_path_factory.mktemp("whole") / request.param
    train(request.param, folder, out)
    return out


def test_the_same_seed_gives_the_same_weights(whole, folder, tmp_path):
    """This also holds for --resume with an empty folder."""
    train(whole.name, folder, tmp_path / "again", resume=True)
    assert_same(whole, tmp_path / "again")


def test_another_seed_gives_other_weights(whole, folder, tmp_path):
    train(whole.name, folder, tmp_path / "other", seed=8)
    assert any((a != b).any() for a, b in zip(weights(whole), weights(tmp_path / "other"), strict=True))


def test_resumed_training_ends_with_the_same_weights(whole, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "resumed"
    for epochs in (1, 2):
        with monkeypatch.context() as patch:
            interrupt_after(epochs, patch)
            with pytest.raises(PulledPlugError):
                train(whole.name, folder, out, resume=epochs > 1)
        assert not (out / "model.keras").exists()
    with pytest.raises(MsEdgeError, match="go on with --resume"):
        train(whole.name, folder, out)
    train(whole.name, folder, out, resume=True)
    assert_same(whole, out)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    with pytest.raises(MsEdgeError, match="nothing to resume"):
        train(whole.name, folder, out, resume=True)


@pytest.fixture(scope="module")
def stopped(folder, tmp_path_factory) -> tuple[Path, Path]:
    """Return a folder of recordings, and the run folder of an interrupted training on them."""
    root = tmp_path_factory.mktemp("stopped")
    shutil.copytree(folder, root / "data")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(PulledPlugError):
            train("resized_cnn", root / "data", root / "run", eager=True)
    return root / "data", root / "run"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda out, data: {"seed": 8}, "was begun with seed 7, not 8"),
        (lambda out, data: {"epochs": 9}, "was begun with epochs 3, not 9"),
        (lambda out, data: {"fold": (1, 2)}, "was begun with fold None, not 1/2"),
        (lambda out, data: (data / "music" / "music_zaz.wav").unlink() or {}, "have changed since it was begun"),
        (lambda out, data: (out / "checkpoint.npz").write_bytes(b"PK\x03\x04") and {}, "is not a checkpoint"),
        (lambda out, data: (out / "run.json").write_text("{") and {}, "run.json cannot be read"),
        (lambda out, data: (out / "run.json").write_text("[3]") and {}, "run.json cannot be read"),
        (lambda out, data: (out / "split.json").write_text('{"train"') and {}, "split.json cannot be read"),
    ],
)
def test_impossible_resume_gives_one_sentence(stopped, folder, tmp_path, change, sentence):
    data, out = stopped[0], tmp_path / "run"
    shutil.copytree(stopped[1], out)
    shutil.copytree(folder, data, dirs_exist_ok=True)  # restores what another case has changed
    options = change(out, data)
    with pytest.raises(MsEdgeError, match=sentence) as raised:
        train("resized_cnn", data, out, resume=True, **options)
    assert len(str(raised.value).splitlines()) == 1


def test_the_checkpoint_of_another_network_is_refused(folder, tmp_path):
    model = recipe("mel_dscnn").build_model(("music", "speech"), "exclusive", 1)
    saving = checkpoint.Checkpoint(tmp_path)
    saving.set_model(model)
    saving.on_epoch_end(0, {"loss": 1.0})
    other = recipe("resized_cnn").build_model(("music", "speech"), "exclusive", 1)
    with pytest.raises(MsEdgeError, match="of another network"):
        checkpoint.restore(tmp_path, other)
    assert checkpoint.restore(tmp_path, model) == (1, [{"loss": 1.0}])


def test_full_disk_does_not_end_training(folder, tmp_path, monkeypatch, capsys):
    def full(file, **arrays):
        file.write(b"some of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    out = tmp_path / "run"
    assert train("resized_cnn", folder, out, eager=True)["epochs"] == EPOCHS
    errors = capsys.readouterr().err
    assert errors.count("no space left on device") == 1
    assert not [path for path in out.iterdir() if "checkpoint" in path.name]


def test_other_write_errors_do_not_blame_the_disk(tmp_path):
    class Model:
        def save(self, path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    sentence = r"\(too many open files\); allow more open files \(ulimit -n\), and go on with --resume"
    with pytest.raises(MsEdgeError, match=sentence):
        save_model(Model(), tmp_path / "model.keras")


def test_full_disk_keeps_the_checkpoint(folder, tmp_path, monkeypatch):
    def full(self, path):
        Path(path).write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", full)
        with pytest.raises(
            MsEdgeError, match=r"model\.keras: cannot be written \(no space left on device\); make room"
        ):
            train("resized_cnn", folder, out, epochs=1, eager=True)
    assert not [path for path in out.iterdir() if "keras" in path.name]
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", None)  # training is complete
        assert train("resized_cnn", folder, out, epochs=1, resume=True, eager=True)["epochs"] == 1
    assert weights(out)


@pytest.mark.slow
def test_features_are_computed_once(folder, tmp_path, monkeypatch):
    cache, reads = tmp_path / "cache", []
    from ms_train.datasets import folder as module

    read = module.read_for_training
    monkeypatch.setattr(module, "read_for_training", lambda path, rate_hz: reads.append(path) or read(path, rate_hz))
    for name in ("resized_cnn", "mel_dscnn"):
        reads.clear()
        train(name, folder, tmp_path / f"{name}-first", epochs=1, cache=cache)
        assert len(reads) == 12
        reads.clear()
        train(name, folder, tmp_path / f"{name}-second", epochs=1, cache=cache)
        assert reads == []
        assert_same(tmp_path / f"{name}-first", tmp_path / f"{name}-second")


@pytest.mark.slow
def test_cache_ignores_changed_recordings_and_torn_files(folder, samples, tmp_path):
    cache, data = tmp_path / "cache", tmp_path / "data"
    shutil.copytree(folder, data)
    train("resized_cnn", data, tmp_path / "before", epochs=1, cache=cache)
    torn = next(cache.glob("features-*/*.pack"))
    torn.write_bytes(torn.read_bytes()[:-100])
    train("resized_cnn", data, tmp_path / "torn", epochs=1, cache=cache)
    assert_same(tmp_path / "before", tmp_path / "torn")
    shutil.copy(data / "music" / "music_zaz.wav", data / "music" / "music_palace.wav")
    train("resized_cnn", data, tmp_path / "changed", epochs=1, cache=cache)
    assert any((a != b).any() for a, b in zip(weights(tmp_path / "before"), weights(tmp_path / "changed"), strict=True))


def test_unwritable_cache_is_reported_once(folder, tmp_path, capsys):
    (tmp_path / "cache").touch()
    train("resized_cnn", folder, tmp_path / "run", epochs=1, cache=tmp_path / "cache", eager=True)
    assert capsys.readouterr().err.count("not cached") == 1


def test_mixed_precision_leaves_a_model_of_32_bits(folder, tmp_path):
    train("resized_cnn", folder, tmp_path / "run", epochs=1, mixed_precision=True)
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
def test_tensorboard_logs_are_written_where_asked_for(folder, tmp_path):
    train("resized_cnn", folder, tmp_path / "run", epochs=1, tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*"))


def normalising(average: float | None) -> keras.Model:
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    mel_dscnn.compile_model(model, False, 1, 0.05, 1e-3, average)
    return model


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(3, 2, (64, 3)).astype(np.float32), np.eye(2, dtype=np.float32)[rng.integers(0, 2, 64)]


def test_averaging_model_ends_with_averaged_weights(points, monkeypatch):
    monkeypatch.setattr(fit_module, "STATISTICS_BATCHES", 10)
    model, features = normalising(0.8), points[0]
    for _ in range(6):
        model.train_on_batch(*points)  # after this, only `fit` would set the averages
    last = [variable.numpy() for variable in model.trainable_variables]
    averaged = [variable.numpy() for variable in model.optimizer._model_variables_moving_average]
    _, normalisation = (model.layers[index] for index in (1, 2))
    before = [np.asarray(each) for each in (normalisation.moving_mean, normalisation.moving_variance)]

    settle(model, FixedBatches(*points, len(features), 0), 1)

    assert (last[0] != averaged[0]).any()
    for variable, expected in zip(model.trainable_variables, averaged, strict=True):
        np.testing.assert_array_equal(variable, expected)
    values = features @ averaged[0] + averaged[1]
    kept = fit_module.STATISTICS_MOMENTUM**10
    found = (normalisation.moving_mean, normalisation.moving_variance)
    for now, old, own in zip(found, before, (values.mean(axis=0), values.var(axis=0)), strict=True):
        np.testing.assert_allclose(now, kept * old + (1 - kept) * own, rtol=1e-4)
    assert normalisation.momentum == 0.99
    settled = model.get_weights()
    settle(model, FixedBatches(*points, len(features), 0), 1)
    for a, b in zip(settled[:2], model.get_weights()[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_step_is_traced_once(points):
    model, traced = normalising(None), []

    def loss(expected, found):
        traced.append(found.shape)
        return keras.losses.categorical_crossentropy(expected, found)

    model.compile(model.optimizer, loss, metrics=["accuracy"])
    build_variables(model, *(values[:1] for values in points))
    traced.clear()
    model.fit(*points, verbose=0)
    assert len(traced) == 1


def test_model_without_averaging_is_unchanged(points):
    model = normalising(None)
    model.train_on_batch(*points)
    before = model.get_weights()
    settle(model, None, 1)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resuming_mixed_precision_keeps_the_loss_scale(points, tmp_path):
    def scaled() -> keras.Model:
        model = normalising(None)
        scaling = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=8.0, dynamic_growth_steps=1)
        model.compile(scaling, model.loss)
        return model

    model, again = scaled(), scaled()
    model.fit(*points, epochs=2, verbose=0, callbacks=[checkpoint.Checkpoint(tmp_path)])
    assert checkpoint.restore(tmp_path, again)[0] == 2
    build_variables(again, *(values[:1] for values in points))
    assert float(again.optimizer.dynamic_scale) > 8
    for a, b in zip(checkpoint.state_of(model), checkpoint.state_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_keeps_averaged_weights(points, monkeypatch):
    model = normalising(0.8)
    model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer), model.loss)
    model.train_on_batch(*points)
    model.train_on_batch(*points)
    averaged = [variable.numpy() for variable in model.optimizer.inner_optimizer._model_variables_moving_average]
    settle(model, FixedBatches(*points, 16, 0), 1)
    for variable, expected in zip(model.trainable_variables, averaged, strict=True):
        np.testing.assert_array_equal(variable, expected)


MIRRORED = """
import sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from ms_train.training import fit
import test_fit
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
fit.strategy = lambda: mirrored
test_fit.train("resized_cnn", Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_several_devices_train_one_network(folder, tmp_path):
    """Two logical CPU devices run the same code as two GPUs."""
    arguments = [sys.executable, "-c", MIRRORED, str(Path(__file__).parent), str(folder), str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == EPOCHS


def test_one_device_needs_no_strategy():
    from ms_train.training.fit import strategy

    assert strategy() is tf.distribute.get_strategy()


def test_target_reached_before_interruption_stays_reached():
    assert TargetAccuracy(0.9, 5).reached({"val_accuracy": 0.9})
    assert not TargetAccuracy(0.9, 5).reached({"val_accuracy": 0.89})
    assert not TargetAccuracy(None, 5).reached({"val_accuracy": 1.0})


@pytest.mark.usefixtures("small_networks")
def test_bad_recordings_are_left_out_counted_and_named(folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    spoilt = {
        "text": (lambda path: path.write_bytes(b"no audio"), "not audio"),
        "nothing": (lambda path: path.write_bytes(b""), "empty"),
        "nan": (lambda path: spoil_with(path, np.full(16_000, np.nan, np.float32)), "no numbers"),
        "short": (lambda path: spoil_with(path, np.zeros(1_000, np.float32)), "at least 0.25 s"),
    }
    for name, (spoil, _) in spoilt.items():
        spoil(data / "music" / f"{name}.wav")
    assert cli.main(
        ["fit", "--recipe", "resized_cnn", "--data", f"folder:{data}", "--out", str(tmp_path / "run"), "--epochs", "1",
         "--cache", "none"]
    ) == 0  # fmt: skip
    errors = capsys.readouterr().err
    kept = (tmp_path / "run" / "data.json").read_text()
    for name, (_, sentence) in spoilt.items():
        assert [
            line
            for line in errors.splitlines()
            if line.startswith("left out: ") and f"{name}.wav" in line and sentence in line
        ]
        assert f"music/{name}.wav" not in kept
    assert sum(int(count) for count in re.findall(r"(\d+) of \d+ recordings left out", errors)) == len(spoilt)


def spoil_with(path: Path, samples: np.ndarray) -> None:
    import soundfile

    soundfile.write(path, samples, 16_000, subtype="FLOAT")
