"""Write a model repository for NVIDIA Triton, or for another server of the KServe v2 protocol that
reads this layout.

REPOSITORY/NAME/config.pbtxt    inputs, outputs, batching, warm-up (schema: Triton's model_config.proto)
REPOSITORY/NAME/labels.txt      one label per line, in the order of the scores
REPOSITORY/NAME/1/model.onnx    a copy of the model file
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ms_edge.errors import UsageError
from ms_edge.features.spec import WAVEFORM
from ms_edge.model.session import BUNDLED_NAME, WAVEFORM_NAME, Model

MAX_BATCH = 64
# How long a window waits for others to share its batch. The model takes less than a millisecond, so
# a longer wait does not pay.
MAX_DELAY_US = 1000


def write_repository(repository: Path, model_path: Path, name: str | None = None) -> Path:
    """Write the folder `repository`/`name` for the waveform model at `model_path` and return its
    path; `bundled` is the waveform form of the bundled model.

    `name` is the model's recipe by default. The folder is written atomically and never replaces
    another. Raises ModelError if the model cannot be used, and UsageError if it takes features, the
    name is invalid, or the folder already exists.
    """
    model = Model.load(WAVEFORM_NAME if model_path == Path(BUNDLED_NAME) else model_path, "cpu")
    if model.input != WAVEFORM:
        raise UsageError(
            f"{model_path}: takes features, which a server cannot compute; give a model made by ms-export convert --input waveform."
        )
    name = model.metadata.recipe if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise UsageError(f"{name[:100]!r} is no valid model name; use letters, digits, '_', '-' and '.' in --name.")
    target = repository / name
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target}: already exists; remove it, or give another --name.")
    if not repository.is_dir() and (repository.exists() or not repository.parent.is_dir()):
        raise UsageError(f"{repository}: give a folder that exists, or a new one in a folder that exists.")
    repository.mkdir(exist_ok=True)
    partial = repository / f".{name}.{os.getpid()}.partial"
    try:
        (partial / "1").mkdir(parents=True)
        shutil.copyfile(model.path, partial / "1" / "model.onnx")
        (partial / "labels.txt").write_text("".join(f"{label}\n" for label in model.metadata.labels), "utf-8")
        (partial / "config.pbtxt").write_text(config(name, model), "utf-8")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def config(name: str, model: Model) -> str:
    """Return Triton's configuration of a waveform model, in protobuf's text format."""
    samples, labels = model.metadata.spec.clip_samples, len(model.metadata.labels)
    warmups = "\n".join(
        f"""model_warmup {{
  name: "batch of {batch}"
  batch_size: {batch}
  inputs {{ key: "waveform" value {{ data_type: TYPE_FP32 dims: [ {samples} ] zero_data: true }} }}
}}"""
        for batch in (1, MAX_BATCH)
    )
    return f"""# Windows of {samples} samples at {model.metadata.spec.sample_rate_hz} Hz, mono, floats in [-1, 1]; made by ms-export triton.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {MAX_BATCH}
input {{ name: "waveform" data_type: TYPE_FP32 dims: [ {samples} ] }}
output {{ name: "scores" data_type: TYPE_FP32 dims: [ {labels} ] label_filename: "labels.txt" }}
dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_US} }}
{warmups}
"""
