"""A model that takes the waveform: the bundled one with its front end in the graph."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import keras
import onnx
import pytest

from ms_edge.model.session import BUNDLED, Model
from ms_export.cases import grid
from ms_export.convert import convert
from ms_export.source import Run
from ms_export.waveform import with_front_end
from ms_train.recipes import mel_residual


@pytest.fixture(scope="session")
def waveform_model(tmp_path_factory) -> Path:
    graph = with_front_end(Model.load().metadata.spec, onnx.load(BUNDLED))
    path = tmp_path_factory.mktemp("waveform") / "waveform.onnx"
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


@pytest.fixture(scope="session", autouse=True)
def _trained_in_few_rooms(few_rooms):
    """For all tests that train."""


@pytest.fixture(scope="session")
def thin_the_grid(everything) -> Callable[..., None]:
    """A function that lets conversions and checks compare a fifth of the grid, or one case of
    `every` so many; with --everything all of it.

    Every fifth case: together these have all signals, lengths, rates and numbers of channels. Of
    every sixth case, none has 8 or 48 kHz.
    """

    def thin(patch: pytest.MonkeyPatch, every: int = 5) -> None:
        if not everything:
            patch.setattr(
                "ms_export.convert.grid", lambda *args, **options: islice(grid(*args, **options), 0, None, every)
            )

    return thin


@pytest.fixture
def thin_grid(thin_the_grid, monkeypatch):
    """Compare a fifth of the grid in one test."""
    thin_the_grid(monkeypatch)


@pytest.fixture
def few_cases(thin_the_grid, monkeypatch):
    """Compare a thirtieth of the grid in one test whose model is wrong: a few cases must show that."""
    thin_the_grid(monkeypatch, every=30)


@pytest.fixture(scope="session")
def stepped_run(tmp_path_factory) -> Run:
    """The network of tests/data/steps.onnx: a small untrained mel_residual, whose scores are
    spread.
    """
    folder = tmp_path_factory.mktemp("stepped")
    keras.utils.set_random_seed(0)
    model = mel_residual.build_model(("speech", "music"), "independent", 1, width=0.25, blocks=2, dense=16)
    last = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.filters == 2)
    kernel, bias = last.get_weights()
    last.set_weights([60 * kernel, bias])
    model.save(folder / "mel_residual.keras")
    (folder / "spec.json").write_text(mel_residual.SPEC.to_json())
    return Run.of_keras(folder / "mel_residual.keras", folder / "spec.json", ("speech", "music"), "independent")


@pytest.fixture(scope="session")
def stepped_model(stepped_run, thin_the_grid, tmp_path_factory) -> Path:
    """What `ms-export convert` writes of it."""
    path = tmp_path_factory.mktemp("stepped") / "steps.onnx"
    with pytest.MonkeyPatch.context() as patch:
        thin_the_grid(patch)
        convert(stepped_run, path, licence="MIT")
    return path
