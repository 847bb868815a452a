"""Smaller variants of an exported model, int8 and fp16: each measured beside it on its run's validation clips, or not written.

Both keep the model's input, output, decision and front end, so whatever serves the one serves the others.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FEATURES, canonical_json
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.selftest.deviation import deviation
from ms_edge.selftest.golden import golden_signal
from ms_edge.timeline import window_label
from ms_export import metadata
from ms_export.convert import require_same
from ms_export.errors import ExportError
from ms_export.precision import calibration_clips, to_fp16, to_int8
from ms_export.source import Run
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.dataset import Recording
from ms_train.files import atomic_write
from ms_train.scores.metrics import accuracy

MAX_LOSS_POINTS = 0.5  # of validation clips got right, in per cent of them

# Of the golden vector's scores, which are the variant's own. Devices without integer kernels (CUDA) compute the same
# quantised values in floating point, and a value that falls on the other side of half a step moves what follows: scores of
# 9,974 validation clips then differed by up to 0.011.
INT8_TOLERANCE = 0.05
# A CPU widens the rounded weights and computes in fp32; a GPU computes in fp16, whose sums are good to about 1e-3.
FP16_TOLERANCE = 0.02

SAME_WEIGHTS_TOLERANCE = 1e-4  # Keras and onnxruntime are within 1e-5 of each other; other weights are not
BATCH = 64
TIMED_BATCHES = (1, 16)
TIMED_S = 3.0  # for each of them
MIN_ROUNDS = 5


@dataclass(frozen=True)
class Judgement:
    """A model's answers on the validation clips: the share got right, how many points less that is than fp32's, and how many
    clips get another label than from fp32.
    """

    accuracy: float
    lost_points: float
    other_labels: int


@dataclass(frozen=True)
class Variant:
    """A model as measured: `name` is fp32, int8 or fp16, `size` in bytes.

    `clips_per_s` and `speed` (times that of fp32) are of the network alone on one thread, in batches of 1 and of 16. `path` is
    where the file is, None where the variant loses too much and was not written.
    """

    name: str
    path: Path | None
    size: int
    judgement: Judgement
    clips_per_s: tuple[float, ...]
    speed: tuple[float, ...]


def quantize(
    model: Path, folder: Path, out: Path, *, data: str | None = None, archive: Path | None = None
) -> list[Variant]:
    """Write `model`'s int8 and fp16 variants to the folder `out` as <stem>-int8.onnx and <stem>-fp16.onnx.

    `folder` is the run that `model` was converted from: int8 is calibrated on its training recordings, and a variant that
    loses more than 0.5 points of accuracy on its validation clips is not written. `data` says where the run's dataset is now.
    Returns fp32 and both variants, measured through `ms_edge.Model` on the CPU. Raises MsEdgeError where the model or the
    data are not the run's, ModelError where a variant cannot be used; then nothing is written.
    """
    if (out.exists() and not out.is_dir()) or not out.parent.is_dir():
        raise UsageError(f"{out}: give -o a folder, in one that exists.")
    original = Model.load(model, "cpu")
    run = require_same(original, Run.load(folder))
    if original.input != FEATURES:
        raise ExportError(
            "bad-graph", f"{model}: takes the waveform; give the model of the same run that takes features."
        )
    train, val = _recordings(run, data, archive)
    if not train or not val:
        raise ExportError("bad-data", f"{folder}: names no training or no validation recordings; both are needed.")
    front_end = FrontEnd(run.spec)
    calibration = _features(front_end, calibration_clips(train, run.spec))
    _require_same_weights(original, run, folder, calibration[:: max(1, len(calibration) // 16)])
    held_out = clips.load(
        val, run.labels, run.spec, partial(_features, front_end), _clips_per_recording(folder), "validation data"
    )
    features = held_out.features
    expected = _scores(original, features)

    def judge(scores: Float32) -> Judgement:
        share, before = (accuracy(found, held_out)["clip_accuracy"] for found in (scores, expected))
        others = sum(a != b for a, b in zip(_labels(original, scores), _labels(original, expected), strict=True))
        return Judgement(share, round(100 * (before - share), 3), others)

    graph = onnx.load(model)
    texts = {entry.key: entry.value for entry in graph.metadata_props}
    models, judgements = {"fp32": original}, {"fp32": judge(expected)}
    with tempfile.TemporaryDirectory() as temporary:
        for name, variant, tolerance in (
            ("int8", to_int8(graph, calibration), INT8_TOLERANCE),
            ("fp16", to_fp16(graph), FP16_TOLERANCE),
        ):
            path = Path(temporary) / f"{model.stem}-{name}.onnx"
            path.write_bytes(metadata.embed(variant, texts))
            found = Model.load(path, "cpu")
            judgements[name] = judge(_scores(found, features))
            own = {
                "ms_edge.parity": {
                    "variant": name,
                    "of_sha256": original.sha256,
                    "clips": len(features),
                    "fp32_accuracy": judgements["fp32"].accuracy,
                    **asdict(judgements[name]),
                    "onnxruntime": import_onnxruntime().__version__,
                },
                "ms_edge.golden": {
                    **json.loads(texts["ms_edge.golden"]),
                    "scores": [round(float(score), 7) for score in _golden_scores(found)],
                    "score_tolerance": tolerance,
                },
            }
            path.write_bytes(
                metadata.embed(variant, texts | {key: canonical_json(value) for key, value in own.items()})
            )
            models[name] = Model.load(path, "cpu")
        speeds = [clips_per_s(models, features, batch) for batch in TIMED_BATCHES]
        paths = {"fp32": model}
        for name in ("int8", "fp16"):
            if judgements[name].lost_points <= MAX_LOSS_POINTS:
                paths[name] = _placed(models[name], out)
    return [
        Variant(
            name,
            paths.get(name),
            loaded.size,
            judgements[name],
            tuple(speed[name][0] for speed in speeds),
            tuple(speed[name][1] for speed in speeds),
        )
        for name, loaded in models.items()
    ]


def clips_per_s(models: dict[str, Model], features: Float32, batch: int) -> dict[str, tuple[float, float]]:
    """Clips a second of each model in such batches, and how many times that is what fp32 does: medians of taking turns."""
    inputs = np.resize(features, (batch, *features.shape[1:]))
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.scores(inputs)  # the first is slower
    until = time.perf_counter() + TIMED_S
    while time.perf_counter() < until or len(times["fp32"]) < MIN_ROUNDS:
        for name, model in models.items():
            began = time.perf_counter()
            model.scores(inputs)
            times[name].append(time.perf_counter() - began)
    return {
        name: (
            batch / statistics.median(mine),
            statistics.median(fp32 / own for fp32, own in zip(times["fp32"], mine, strict=True)),
        )
        for name, mine in times.items()
    }


def _require_same_weights(model: Model, run: Run, folder: Path, features: Float32) -> None:
    _, expected = run.network(features, training=False)
    if not deviation(model.scores(features), expected, SAME_WEIGHTS_TOLERANCE).passed:
        raise ExportError(
            "wrong-run",
            f"{model.path}: was not converted from {folder}: its scores are not those of the run's network; name its own run "
            "with --against, and a model that ms-export convert wrote.",
        )


def _recordings(run: Run, data: str | None, archive: Path | None) -> tuple[list[Recording], list[Recording]]:
    """The run's training and validation recordings, in their order."""
    data = data or str(run.facts["data"])
    found = {recording.name: recording for recording in dataset_by_name(data, archive).recordings}
    names = [*run.split["train"], *run.split["val"]]
    wrong = [name for name in names if name not in found or found[name].sha256 != run.sha256.get(name)]
    if wrong:
        raise ExportError(
            "bad-data",
            f"{data}: {len(wrong)} of the run's {len(names)} training and validation recordings are not in it or are not what "
            f"they were, {wrong[0]} among them; say with --data where its dataset is.",
        )
    return [found[name] for name in run.split["train"]], [found[name] for name in run.split["val"]]


def _clips_per_recording(folder: Path) -> int:
    try:
        return int(json.loads((folder / "recipe.json").read_text("utf-8"))["clips_per_recording"])
    except (OSError, ValueError, LookupError, TypeError):
        raise ExportError(
            "bad-run", f"{folder}: its recipe.json does not say how many clips a recording has."
        ) from None


def _features(front_end: FrontEnd, samples: Iterable[Float32]) -> Float32:
    return np.stack([front_end.features(clip) for clip in samples])


def _scores(model: Model, features: Float32) -> Float32:
    return np.concatenate([model.scores(features[at : at + BATCH]) for at in range(0, len(features), BATCH)])


def _labels(model: Model, scores: Float32) -> list[str]:
    return [window_label(row, model.metadata.labels, model.metadata.decision) for row in scores]


def _golden_scores(model: Model) -> Float32:
    spec = model.metadata.spec
    signal = golden_signal(model.metadata.golden.seed, spec.clip_samples)
    return model.scores(FrontEnd(spec).features(signal)[np.newaxis])[0]


def _placed(model: Model, out: Path) -> Path:
    """Its file, whole in the folder `out`."""
    content = Path(model.path).read_bytes()
    out.mkdir(exist_ok=True)
    path = out / Path(model.path).name
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    return path
