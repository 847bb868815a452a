"""ms-edge tells speech from music.

>>> import ms_edge
>>> found = ms_edge.classify("tests/data/music_palace.wav")
>>> found.label, found.duration_s
('music', 6.0)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ms_edge._version import __version__ as __version__

__all__ = [
    "AudioError",
    "Classification",
    "Classifier",
    "DeviceError",
    "Model",
    "ModelError",
    "MsEdgeError",
    "RawFormat",
    "Segment",
    "UsageError",
    "WindowScores",
    "classify",
    "classify_channels",
    "cut",
]

if TYPE_CHECKING:
    from ms_edge.audio.raw import RawFormat
    from ms_edge.classifier import Classifier, Source, WindowScores
    from ms_edge.errors import AudioError, DeviceError, ModelError, MsEdgeError, UsageError
    from ms_edge.model.session import Model
    from ms_edge.report.cut import cut
    from ms_edge.results import Classification, Segment

# From version 1.29 on, onnxruntime stores an identifier in the home directory and reports its use over
# the network, unless this variable is set before it is imported (onnxruntime's docs/Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULES = {  # where the names are defined; all others in `errors`
    "RawFormat": "audio.raw",
    "Classifier": "classifier",
    "WindowScores": "classifier",
    "Model": "model.session",
    "Classification": "results",
    "Segment": "results",
    "cut": "report.cut",
}


def classify(source: Source, sample_rate_hz: int | None = None, *, channel: int | None = None) -> Classification:
    """Classify one recording with the bundled model on the CPU.

    `source` is a path, a binary file object, or an array of samples at `sample_rate_hz`. `channel`,
    from 1 on, is the only one to classify (default: the mean of all channels). Use a `Classifier`
    for other models, devices and settings. Raises MsEdgeError.
    """
    return _bundled().classify(source, sample_rate_hz, channel=channel)


def classify_channels(source: Source, sample_rate_hz: int | None = None) -> tuple[Classification, ...]:
    """Classify each channel of one recording on its own; otherwise as `classify`."""
    return _bundled().classify_channels(source, sample_rate_hz)


def _bundled() -> Classifier:
    """Return a classifier with the bundled model on the CPU, always the same one."""
    global _classifier
    if _classifier is None:
        from ms_edge.classifier import Classifier

        _classifier = Classifier(device="cpu")
    return _classifier


_classifier: Classifier | None = None


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import ms_edge`, --help and --version do not wait for NumPy and
    # onnxruntime.
    if name not in __all__:
        raise AttributeError(f"module 'ms_edge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ms_edge.{_MODULES.get(name, 'errors')}"), name)
