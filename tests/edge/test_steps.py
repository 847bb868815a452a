"""Models that take runs of windows compute shared frames once, with the same scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ms_edge import classifier as classifier_module
from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import ModelError
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.windows import windows
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations

STEPPED = Path(__file__).parents[1] / "data" / "steps.onnx"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(STEPPED, "cpu")


@pytest.fixture(scope="module")
def recording(samples) -> np.ndarray:
    """All sample recordings and 0.013 s of silence, so that the last window is between two steps."""
    return np.concatenate([*(read_mono(str(path), 16_000) for path in samples), np.zeros(208, np.float32)])


def one_by_one(classifier: Classifier, samples: np.ndarray) -> np.ndarray:
    """Return the scores of a recording's windows, computed one window at a time, (windows, labels)."""
    front_end = FrontEnd(classifier.spec)
    clips = [clip for _, clip in windows([samples], classifier.spec)]
    return np.concatenate([classifier.model.scores(front_end.features(clip)[np.newaxis]) for clip in clips])


@pytest.mark.parametrize("hop_s", [0.08, 0.16, 0.32, 0.48, 0.96, 0.5, 0.1])
def test_run_scores_equal_single_window_scores(model, recording, hop_s):
    classifier = Classifier(model, hop_s=hop_s)
    expected = one_by_one(classifier, recording)
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(classifier.window_scores([recording]).scores, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [4_800, 15_999, 16_000, 16_001, 17_280, 17_281, 513_280])
def test_run_scores_at_every_stream_end(model, recording, length):
    classifier = Classifier(model, hop_s=0.16)
    expected = one_by_one(classifier, recording[:length])
    np.testing.assert_allclose(classifier.window_scores([recording[:length]]).scores, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch_s", [0.5, 1.0, 1.2, 5.0])
def test_run_scores_do_not_depend_on_batch(model, recording, monkeypatch, batch_s):
    expected = Classifier(model, hop_s=0.16).window_scores([recording])
    monkeypatch.setattr(classifier_module, "BATCH_S", batch_s)
    found = Classifier(model, hop_s=0.16).window_scores([recording])
    np.testing.assert_array_equal(found.starts, expected.starts)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("hop_s", "runs", "singles"), [(0.16, 2, 1), (0.5, 0, 2)])
def test_network_runs_once_per_batch(model, recording, monkeypatch, hop_s, runs, singles):
    calls = {"run_scores": 0, "scores": 0}
    for name in calls:
        method = getattr(Model, name)

        def counted(self, inputs, name=name, method=method):
            calls[name] += 1
            return method(self, inputs)

        monkeypatch.setattr(Model, name, counted)
    Classifier(model, hop_s=hop_s).window_scores([recording[: 40 * 16_000 + 208]])
    # Two runs of at most 32 s and the last window, which is between two steps; or batches of 32 windows.
    assert calls["run_scores"] == runs
    assert calls["scores"] == singles if runs else calls["scores"] >= singles


def test_stream_gives_the_same_scores(model, recording):
    classifier = Classifier(model, hop_s=0.32)
    samples = recording[: 5 * 16_000]
    streamed = [list(window.scores.values()) for window in classifier.stream(np.split(samples, 50), 16_000)]
    np.testing.assert_allclose(streamed, classifier.window_scores([samples]).scores, atol=1e-6, rtol=0)


def test_frames_after_the_last_window_are_ignored(model):
    features = np.random.default_rng(0).uniform(-4, 3, (60, 48)).astype(np.float32)
    expected = model.run_scores(features[:57])
    assert expected.shape == (3, 2)
    for frames in (58, 59, 60):
        np.testing.assert_array_equal(model.run_scores(features[:frames]), expected)


def test_single_window_model_refuses_runs():
    model = Model.load("music-speech-0.1", "cpu")
    assert model.metadata.step_frames is None
    with pytest.raises(ValueError, match="no step_frames"):
        model.run_scores(np.zeros((60, 48), np.float32))


def test_repr_and_info_describe_the_input(model, capsys):
    assert golden_deviations(model).failed == {}
    assert "input    features (windows, 49, 48), or runs of frames: one window every 4 frames" in repr(model)
    assert cli.main(["info", str(STEPPED)]) == 0
    assert "features, any number of frames: a window every 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stated", "code", "message"),
    [
        (b'{"step_frames":3}', "bad-shape", "does not give scores every 3 frames"),
        (b'{"step_frames":0}', "bad-metadata", "step_frames must be 1 to 49"),
        (b'{"step_frames":"}', "bad-metadata", "is not JSON"),
        (b'{"step_frames":{}', "bad-metadata", "is not JSON"),
        (b'{"stap_frames":4}', "bad-metadata", "step_frames must be 1 to 49"),
        (b'["step_frames",4]', "bad-metadata", "must be a JSON object"),
    ],
)
def test_step_other_than_the_graph_is_refused(tmp_path, stated, code, message):
    content = STEPPED.read_bytes()
    assert content.count(b'{"step_frames":4}') == 1
    (tmp_path / "a.onnx").write_bytes(content.replace(b'{"step_frames":4}', stated))
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(tmp_path / "a.onnx", "cpu")
    assert caught.value.code == code


def test_free_frames_without_steps_are_refused(tmp_path):
    content = STEPPED.read_bytes()
    assert content.count(b"ms_edge.steps") == 1
    (tmp_path / "a.onnx").write_bytes(content.replace(b"ms_edge.steps", b"ms_edge.other"))
    with pytest.raises(ModelError, match="metadata has no number of frames between two windows"):
        Model.load(tmp_path / "a.onnx", "cpu")
