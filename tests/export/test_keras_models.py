"""Keras models trained elsewhere on our features are exported if they equal TensorFlow, or refused in one
sentence.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

from ms_edge.cli import main as edge_cli
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.session import Model
from ms_export import cli, waveform
from ms_export.cases import grid

# The floor is high, so that rounding differences of two transforms are a tenth of what features may
# differ by.
SPEC = FrontEndSpec(8_000, 256, 128, 256, clip_s=0.5, hop_s=0.5, log_floor=0.05)


def network(*shape: int | None, columns: int = 3, activation: str | None = "softmax", batch: int | None = None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input(shape, batch_size=batch),
            keras.layers.Flatten() if None not in shape else keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(columns, activation=activation),
        ],
        name="elsewhere",
    )


@pytest.fixture(autouse=True)
def _thin_grid_and_no_pictures(thin_grid, no_pictures):
    """For all tests except the one that uses the whole grid."""


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(SPEC.to_json())
    return path


def convert(tmp_path: Path, model: keras.Model, *more: str) -> tuple[int, Path]:
    model.save(tmp_path / "mine.keras")
    out = tmp_path / "mine.onnx"
    arguments = ["convert", str(tmp_path / "mine.keras"), "--spec", str(tmp_path / "spec.json"), "-o", str(out), *more]
    return cli.main(arguments), out


@pytest.mark.slow
def test_imprecise_transform_in_the_graph_is_refused(tmp_path, spec, monkeypatch, capsys):
    """Constants of 11 bits exceed the tolerances a hundredfold. The same
    network is converted on features.
    """
    exact = waveform._transform

    def rounded(*arguments):
        return tuple(part.astype(np.float16).astype(np.float32) for part in exact(*arguments))

    monkeypatch.setattr(waveform, "_transform", rounded)
    model = network(*SPEC.feature_shape, columns=2)
    assert convert(tmp_path, model, "--labels", "music,speech")[0] == 0
    (tmp_path / "mine.onnx").unlink()
    status, out = convert(tmp_path, model, "--labels", "music,speech", "--input", "waveform")
    assert (status, out.exists()) == (1, False)
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("ms-export: as served differs from TensorFlow: spectrum ")
    assert ", features " in complaint
    assert complaint.endswith("; nothing was written.")


@pytest.mark.parametrize(
    ("shape", "columns", "activation", "labels", "decision"),
    [
        (SPEC.feature_shape, 3, "softmax", "car,horn,rain", "exclusive"),
        (SPEC.feature_shape, 3, None, "car,horn,rain", "exclusive"),  # logits, which get a softmax
        # With a channel axis, like images:
        pytest.param((*SPEC.feature_shape, 1), 3, "softmax", "car,horn,rain", "exclusive", marks=pytest.mark.slow),
        pytest.param(SPEC.feature_shape, 1, "sigmoid", "quiet,loud", "exclusive", marks=pytest.mark.slow),
        pytest.param(SPEC.feature_shape, 3, "sigmoid", "car,horn,rain", "independent", marks=pytest.mark.slow),
        ((SPEC.bins, None, 1), 2, "softmax", "quiet,loud", "exclusive"),  # any number of frames
    ],
)
def test_a_keras_model_is_exported_and_classifies(
    tmp_path, spec, samples, capsys, shape, columns, activation, labels, decision
):
    model = network(*shape, columns=columns, activation=activation)
    code, out = convert(tmp_path, model, "--labels", labels, "--decision", decision)
    assert (code, capsys.readouterr().err) == (0, "")
    assert edge_cli.main(["classify", "--model", str(out), "--format", "jsonl", *map(str, samples)]) == 0
    names = labels.split(",")
    for line in capsys.readouterr().out.splitlines():
        assert list(json.loads(line)["scores"]) == names
    served = Model.load(out)
    assert served.metadata.labels == tuple(names)
    assert served.metadata.decision.kind == decision
    assert served.metadata.recipe == "mine"
    features = np.random.default_rng(0).standard_normal((4, *SPEC.feature_shape)).astype(np.float32)
    given = features[..., np.newaxis] if len(shape) == 3 else features
    outputs = model(given, training=False).numpy()
    if activation is None:
        outputs = keras.ops.convert_to_numpy(keras.ops.softmax(outputs))
    if columns == 1:
        outputs = np.hstack([1 - outputs, outputs])
    np.testing.assert_allclose(served.scores(features), outputs, atol=1e-5)


@pytest.mark.slow
def test_frame_count_is_free_so_window_length_is(tmp_path, spec, samples, capsys):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((SPEC.bins, None)),
            keras.layers.Permute((2, 1)),
            keras.layers.Conv1D(8, 9, activation="relu"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    labels = ("--labels", "quiet,loud")
    code, out = convert(tmp_path, model, *labels, "--window", "2")
    assert (code, capsys.readouterr().err) == (0, "")
    served = Model.load(out).metadata.spec
    assert (served.clip_s, served.hop_s) == (2.0, 0.5)
    check = ["check", str(out), "--against", str(tmp_path / "mine.keras"), "--spec", str(spec), *labels]
    assert cli.main(check) == 0
    capsys.readouterr()
    assert edge_cli.main(["classify", "--model", str(out), "--format", "jsonl", "--timeline", str(samples[0])]) == 0
    assert json.loads(capsys.readouterr().out)["segments"]

    assert convert(tmp_path, model, *labels, "--window", "0.1")[0] == 2  # four frames: too few for the convolution
    assert "cannot answer windows as short as 0.1 s" in capsys.readouterr().err
    assert convert(tmp_path, network(*SPEC.feature_shape, columns=2), *labels, "--window", "2")[0] == 2
    assert "takes windows of 0.5 s; leave out --window" in capsys.readouterr().err


@pytest.mark.slow
def test_real_audio_can_be_named_for_comparison(tmp_path, spec, samples, monkeypatch, capsys):
    monkeypatch.setattr("ms_export.convert.grid", grid)  # the whole grid
    for path in samples:
        label = path.name.partition("_")[0]
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "data" / label)
    model = network(*SPEC.feature_shape, columns=2)
    code, out = convert(tmp_path, model, "--labels", "music,speech", "--data", f"folder:{tmp_path / 'data'}")
    assert code == 0, capsys.readouterr().err
    assert Model.load(out).metadata.parity["cases"] >= 140 + 40
    assert "6 of music, 6 of speech (named for it)" in out.with_suffix(".parity.md").read_text("utf-8")


def whatever() -> keras.Model:
    return network(*SPEC.feature_shape)


@pytest.mark.parametrize(
    ("model", "labels", "sentence"),
    [
        (lambda: network(SPEC.bins, 7), "a,b,c", "takes clips of 129 x 7, and the front end makes 129 x 30."),
        (lambda: network(*SPEC.feature_shape[::-1]), "a,b,c", "takes clips of 30 x 129, and the front end makes"),
        (whatever, "a,b", "gives (3,) values a clip, and there are 2 labels (a, b)."),
        (lambda: network(*SPEC.feature_shape, columns=1, activation="sigmoid"), "a,b,c", "gives (1,) values a clip"),
        (lambda: network(*SPEC.feature_shape, batch=4), "a,b,c", "has room for 4 clips at a time"),
        (lambda: network(*SPEC.feature_shape, activation="relu"), "a,b,c", "ends in relu; exclusive labels need"),
        (lambda: network(*SPEC.feature_shape, activation="sigmoid"), "a,b,c", "ends in sigmoid; exclusive labels need"),
        (whatever, "a", "Give --labels two names or more"),
        (whatever, "a,a,b", "labels must all be different"),
        (whatever, "a,b,error", "label 'error' is not usable"),
    ],
)
def test_mismatched_model_and_labels_give_one_sentence(tmp_path, spec, capsys, model, labels, sentence):
    code, _ = convert(tmp_path, model(), "--labels", labels)
    message = capsys.readouterr().err
    assert code in (1, 2)
    assert sentence in message
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.glob("*.onnx")) + list(tmp_path.glob("*.parity.*")) + list(tmp_path.glob(".*"))


L = keras.layers


def hidden(end: list[keras.layers.Layer]) -> keras.Model:
    """A network whose probabilities are not its last activation."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(SPEC.feature_shape), L.Flatten(), *end])


def averaged() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    flat = L.Flatten()(inputs)
    return keras.Model(inputs, L.Average()([L.Dense(3, activation="softmax")(flat) for _ in range(2)]))


def reused() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    return keras.Model(inputs, network(*SPEC.feature_shape)(inputs))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: hidden([keras.Sequential([L.Dense(3, activation="softmax")])]), "a layer Sequential that hides how"),
        (lambda: hidden([L.Dense(3, activation="softmax"), L.Activation("linear")]), "layer Activation that hides how"),
        (lambda: hidden([L.Dense(3, activation="softmax"), L.Dropout(0.1)]), "a layer Dropout that hides how"),
        (lambda: hidden([L.Dense(3, activation="sigmoid"), L.Activation("linear")]), "layer Activation that hides how"),
        (averaged, "a layer Average that hides how"),
        (reused, "a layer Sequential that hides how"),
        (lambda: hidden([L.Dense(3), L.Softmax(axis=0)]), "its softmax is not over the labels"),
        (lambda: hidden([L.Dense(3), L.ReLU()]), "ends in ReLU"),
        (lambda: hidden([L.Dense(3, activation=L.LeakyReLU())]), "ends in leakyrelu"),
        (lambda: hidden([L.Dense(3, dtype="mixed_float16")]), "computes in float16"),
        (lambda: hidden([L.Dense(3, kernel_initializer=keras.initializers.Constant(np.inf))]), "what is no number"),
    ],
)
def test_misleading_last_layer_is_refused(tmp_path, spec, capsys, model, sentence):
    """If its probabilities were taken for logits, both sides would apply a second softmax."""
    code, out = convert(tmp_path, model(), "--labels", "a,b,c")
    message = capsys.readouterr().err
    assert code == 1
    assert sentence in message
    assert not out.exists()


def test_layer_names_do_not_matter(tmp_path, spec, capsys):
    inputs = keras.Input(SPEC.feature_shape, name="anything")
    flat = L.Flatten(name="probability")(inputs)
    last = L.Dense(3, activation="softmax", name="logits")
    outputs = last(L.Dense(SPEC.bins, name="both")(flat))
    code, out = convert(tmp_path, keras.Model({"anything": inputs}, outputs), "--labels", "a,b,c")
    assert code == 0, capsys.readouterr().err
    assert out.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("{}", "its fields must be"),
        (SPEC.to_json().replace("8000", "80"), "sample_rate_hz must be"),
    ],
)
def test_invalid_spec_gives_one_sentence(tmp_path, spec, capsys, content, sentence):
    spec.write_text(content)
    code, _ = convert(tmp_path, whatever(), "--labels", "a,b,c")
    message = capsys.readouterr().err
    assert code == 1
    assert sentence in message
    assert len(message.splitlines()) == 1


@pytest.mark.slow
def test_model_is_never_beside_another_certificate(tmp_path, spec, capsys):
    model = network(*SPEC.feature_shape)
    assert convert(tmp_path, model, "--labels", "a,b,c")[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("mine.*")}
    (tmp_path / "mine.parity.png").unlink()
    (tmp_path / "mine.parity.png").mkdir()
    capsys.readouterr()
    code, out = convert(tmp_path, network(*SPEC.feature_shape, activation=None), "--labels", "a,b,c")
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert out.read_bytes() == before["mine.onnx"]
    assert (tmp_path / "mine.parity.md").read_bytes() == before["mine.parity.md"]


@pytest.mark.parametrize("name", ["mine.keras", "song.wav", "other.onnx", "mine.parity.md", "mine.parity.png"])
def test_files_of_others_are_not_replaced(tmp_path, spec, capsys, name):
    """Also not the network itself, which would be lost."""
    network(*SPEC.feature_shape).save(tmp_path / "mine.keras")
    if name != "mine.keras":
        (tmp_path / name).write_bytes(b"RIFF")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    out = "mine.onnx" if "parity" in name else name
    arguments = ["convert", str(tmp_path / "mine.keras"), "--spec", str(spec), "--labels", "a,b,c"]
    assert cli.main([*arguments, "-o", str(tmp_path / out)]) == 2
    assert f"{name}: exists, is no" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_of_check_replaces_only_a_report(tmp_path, capsys):
    for name in ("thesis.md", "photo.png"):
        (tmp_path / name).write_text("mine")
    for report in ("thesis.md", "photo.md"):
        assert cli.main(["check", "bundled", "--against", "bundled", "--report", str(tmp_path / report)]) == 2
        assert "is not replaced" in capsys.readouterr().err
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_recurrent_layers_are_named(tmp_path, spec, capsys):
    shape = SPEC.feature_shape
    layers = [keras.Input(shape), keras.layers.Reshape((shape[0], -1)), keras.layers.LSTM(4, name="memory")]
    status, out = convert(tmp_path, keras.Sequential([*layers, keras.layers.Dense(2)]), "--labels", "a,b")
    assert status == 1
    assert "its layer memory is recurrent" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_versions_in_names_keep_certificates_apart(tmp_path, spec, capsys):
    network(*SPEC.feature_shape).save(tmp_path / "mine.keras")
    for name in ("v1.2", "v1.3"):
        arguments = ["convert", str(tmp_path / "mine.keras"), "--spec", str(spec), "--labels", "a,b,c"]
        assert cli.main([*arguments, "-o", str(tmp_path / name)]) == 0
    assert {path.name for path in tmp_path.glob("*.md")} == {"v1.2.parity.md", "v1.3.parity.md"}


@pytest.mark.slow
def test_cases_digest_covers_the_compared_recordings(tmp_path, spec, samples, capsys):
    digests = set()
    for gain in (1.0, 0.5):
        for path in samples:
            label = path.name.partition("_")[0]
            folder = tmp_path / f"data{gain}" / label
            folder.mkdir(parents=True, exist_ok=True)
            audio, rate_hz = soundfile.read(path)
            soundfile.write(folder / path.name, gain * audio, rate_hz)
        model = network(*SPEC.feature_shape, columns=2)
        data = f"folder:{tmp_path / f'data{gain}'}"
        code, out = convert(tmp_path, model, "--labels", "music,speech", "--data", data)
        assert code == 0, capsys.readouterr().err
        digests.add(Model.load(out).metadata.parity["cases_sha256"])
    assert len(digests) == 2


def test_invalid_licence_gives_one_sentence(tmp_path, spec, capsys):
    code, out = convert(tmp_path, network(*SPEC.feature_shape), "--labels", "a,b,c", "--license", "\udcff")
    assert code == 2
    assert "is not one line of printable text" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing of the kind"])
def test_invalid_keras_file_gives_one_sentence(tmp_path, spec, capsys, content):
    (tmp_path / "mine.keras").write_bytes(content)
    arguments = [
        "convert",
        str(tmp_path / "mine.keras"),
        "--spec",
        str(spec),
        "--labels",
        "a,b",
        "-o",
        str(tmp_path / "x.onnx"),
    ]
    assert cli.main(arguments) == 1
    message = capsys.readouterr().err
    assert "cannot be read as a Keras model" in message
    assert len(message.splitlines()) == 1


def test_spec_is_for_keras_models_only(tmp_path, spec, capsys):
    whatever().save(tmp_path / "mine.keras")
    assert cli.main(["convert", str(tmp_path / "mine.keras"), "-o", str(tmp_path / "a.onnx")]) == 2
    assert "also give --spec and --labels" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path), "--spec", str(spec), "-o", str(tmp_path / "a.onnx")]) == 2
    assert "leave out --spec" in capsys.readouterr().err
    assert (
        cli.main(["convert", str(tmp_path / "none.keras"), "--spec", str(spec), "--labels", "a,b", "-o", "a.onnx"]) == 1
    )
    assert "none.keras: cannot be read as a Keras model" in capsys.readouterr().err
