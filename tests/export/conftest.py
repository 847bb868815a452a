"""A model that takes the waveform: the bundled one with its front end in the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ms_edge.model import BUNDLED, Model
from ms_export.waveform import with_front_end


@pytest.fixture(scope="session")
def waveform_model(tmp_path_factory) -> Path:
    graph = with_front_end(Model.load().metadata.spec, onnx.load(BUNDLED))
    path = tmp_path_factory.mktemp("waveform") / "waveform.onnx"
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


@pytest.fixture(scope="session", autouse=True)
def _trained_in_few_rooms(few_rooms):
    """For all tests that train."""
