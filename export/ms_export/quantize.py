"""Make smaller variants of an exported model, int8 and fp16, and compare each with it on its run's
validation clips.

A variant that loses too much accuracy is not written. Variants keep the model's input, output,
decision and front end, so they are served in the same way.
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
from ms_edge.timeline import window_labels
from ms_export import metadata
from ms_export.convert import require_same
from ms_export.errors import ExportError
from ms_export.precision import calibration_clips, to_fp16, to_int8
from ms_export.source import Run
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_by_name, dataset_of_run
from ms_train.datasets.dataset import Recording
from ms_train.datasets.splits import split
from ms_train.files import atomic_write
from ms_train.scores.metrics import accuracy
from ms_train.training.bundled import run_folder

MAX_LOSS_POINTS = 0.5  # percentage points of accuracy on the validation clips

# Tolerance of the golden vector's scores, which are the variant's own. Devices without integer
# kernels (CUDA) compute the same quantised values in floating point. A value near half a step may
# be rounded the other way there, which changes later values: scores of 9,974 validation clips then
# differed by up to 0.011.
INT8_TOLERANCE = 0.05
# A CPU widens the rounded weights and computes in fp32; a GPU computes in fp16, whose sums are
# accurate to about 1e-3.
FP16_TOLERANCE = 0.02

SAME_WEIGHTS_TOLERANCE = 1e-4  # Keras and onnxruntime differ by less than 1e-5; other weights differ by more
BATCH = 64
TIMED_BATCHES = (1, 16)
TIMED_S = 3.0  # for each batch size
MIN_ROUNDS = 5


@dataclass(frozen=True)
class Judgement:
    """How a model answers the validation clips.

    `accuracy` is the share of clips that it gets right, `lost_points` the difference from fp32 in
    percentage points, and `other_labels` the number of clips whose label differs from fp32's.
    """

    accuracy: float
    lost_points: float
    other_labels: int


@dataclass(frozen=True)
class Speed:
    """How fast the network alone is on one thread with one batch size, and how many times as fast
    as fp32.
    """

    clips_per_s: float
    of_fp32: float


@dataclass(frozen=True)
class Variant:
    """A measured model: `name` is fp32, int8 or fp16, `size` is in bytes, `speeds` has one value
    for each of TIMED_BATCHES.

    `path` is the file, or None if the variant loses too much accuracy and was not written.
    """

    name: str
    path: Path | None
    size: int
    judgement: Judgement
    speeds: tuple[Speed, ...]


def quantize(
    model: Path, folder: Path, out: Path, *, data: str | None = None, archive: Path | None = None
) -> list[Variant]:
    """Write `model`'s int8 and fp16 variants to the folder `out` as <stem>-int8.onnx and
    <stem>-fp16.onnx.

    `folder` is the run that `model` was converted from; both may be a name of the package. int8 is calibrated
    on its training recordings. A variant that loses more than 0.5 points of accuracy on its
    validation clips is not written. `data` names the run's dataset, if it has moved, or for the
    bundled model other recordings of its labels. Returns fp32 and both variants,
    measured on the CPU. Raises MsEdgeError if the model or the data are not the run's, or if a
    variant cannot be used; then nothing is written.
    """
    if (out.exists() and not out.is_dir()) or not out.parent.is_dir():
        raise UsageError(f"{out}: give -o a folder, in one that exists.")
    folder = run_folder(folder)
    original, run = _model_and_run(model, folder)
    model = Path(original.path)
    train, val = _recordings(run, data, archive)
    if not train or not val:
        raise ExportError("bad-data", f"{folder}: names no training or no validation recordings; both are needed.")
    front_end = FrontEnd(run.spec)
    calibration = _features(front_end, calibration_clips(train, run.spec))
    _require_same_weights(original, run, folder, calibration[:: max(1, len(calibration) // 16)])
    count = _clips_per_recording(folder)
    held_out = clips.load(val, run.labels, run.spec, partial(_features, front_end), count, "validation data")
    judge = _Judge(original, held_out)
    graph = onnx.load(model)
    models, judgements = {"fp32": original}, {"fp32": judge(original)}
    with tempfile.TemporaryDirectory() as temporary:
        for name, variant, tolerance in (
            ("int8", to_int8(graph, calibration), INT8_TOLERANCE),
            ("fp16", to_fp16(graph), FP16_TOLERANCE),
        ):
            path = Path(temporary) / f"{model.stem}-{name}.onnx"
            texts = {entry.key: entry.value for entry in graph.metadata_props}
            path.write_bytes(metadata.embed(variant, texts))
            found = Model.load(path, "cpu")
            judgements[name] = judge(found)
            parity = {
                "variant": name,
                "of_sha256": original.sha256,
                "clips": len(held_out.features),
                "fp32_accuracy": judgements["fp32"].accuracy,
                **asdict(judgements[name]),
                "onnxruntime": import_onnxruntime().__version__,
            }
            texts["ms_edge.parity"] = canonical_json(parity)
            texts["ms_edge.golden"] = _own_golden(found, texts["ms_edge.golden"], tolerance)
            path.write_bytes(metadata.embed(variant, texts))
            models[name] = Model.load(path, "cpu")
        speeds = [measure_speed(models, held_out.features, batch) for batch in TIMED_BATCHES]
        paths = {"fp32": model}
        for name in ("int8", "fp16"):
            if judgements[name].lost_points <= MAX_LOSS_POINTS:
                paths[name] = _copy(models[name], out)
    return [
        Variant(name, paths.get(name), loaded.size, judgements[name], tuple(speed[name] for speed in speeds))
        for name, loaded in models.items()
    ]


def _model_and_run(model: Path, folder: Path) -> tuple[Model, Run]:
    """Load a model and the run that it was converted from. Raises MsEdgeError if it has no variants."""
    original = Model.load(model, "cpu")
    run = require_same(original, Run.load(folder))
    if original.input != FEATURES:
        raise ExportError(
            "bad-graph", f"{original.path}: takes the waveform; give the model of the same run that takes features."
        )
    if original.metadata.level:
        raise ExportError(
            "bad-graph",
            f"{original.path}: has levels of the music, whose variants nothing checks; give the model without.",
        )
    return original, run


class _Judge:
    """Compares models with the original on the validation clips."""

    def __init__(self, original: Model, held_out: clips.Clips) -> None:
        self._held_out = held_out
        scores = _scores(original, held_out.features)
        self._accuracy, self._labels = self._clip_accuracy(scores), _labels(original, scores)

    def __call__(self, model: Model) -> Judgement:
        scores = _scores(model, self._held_out.features)
        accuracy = self._clip_accuracy(scores)
        others = sum(a != b for a, b in zip(_labels(model, scores), self._labels, strict=True))
        return Judgement(accuracy, round(100 * (self._accuracy - accuracy), 3), others)

    def _clip_accuracy(self, scores: Float32) -> float:
        return float(accuracy(scores, self._held_out)["clip_accuracy"])


def measure_speed(models: dict[str, Model], features: Float32, batch: int) -> dict[str, Speed]:
    """Return the speed of each model with one batch size: medians, while the models take turns."""
    inputs = np.resize(features, (batch, *features.shape[1:]))
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.scores(inputs)  # the first run is slower
    until = time.perf_counter() + TIMED_S
    while time.perf_counter() < until or len(times["fp32"]) < MIN_ROUNDS:
        for name, model in models.items():
            began = time.perf_counter()
            model.scores(inputs)
            times[name].append(time.perf_counter() - began)
    return {
        name: Speed(
            batch / statistics.median(mine),
            statistics.median(fp32 / own for fp32, own in zip(times["fp32"], mine, strict=True)),
        )
        for name, mine in times.items()
    }


def _require_same_weights(model: Model, run: Run, folder: Path, features: Float32) -> None:
    """Raise ExportError(`wrong-run`) if the scores of a model are not those of the run's network."""
    _, expected = run.network(features, training=False)
    if not deviation(model.scores(features), expected, SAME_WEIGHTS_TOLERANCE).passed:
        raise ExportError(
            "wrong-run",
            f"{model.path}: was not converted from {folder}: its scores are not those of the run's network; name its own run "
            "with --against, and a model that ms-export convert wrote.",
        )


def _recordings(run: Run, data: str | None, archive: Path | None) -> tuple[list[Recording], list[Recording]]:
    """Return the run's training and validation recordings, in the run's order.

    For the bundled model, `data` may name other recordings of its labels. They are divided in two
    halves. Raises ExportError(`bad-data`) if recordings of the run have changed.
    """
    dataset = dataset_by_name(data, archive) if data else dataset_of_run(str(run.facts["data"]), archive)
    data = data or str(run.facts["data"])
    found = {recording.name: recording for recording in dataset.recordings}
    names = [*run.split["train"], *run.split["val"]]
    if run.bundled and not found.keys() & set(names):
        if set(dataset.labels) != set(run.labels):
            raise ExportError(
                "bad-data", f"{data}: has the classes {', '.join(dataset.labels)}, not {', '.join(run.labels)}."
            )
        halves = split(dataset, 0, val_share=0.5)
        return list(halves.train), list(halves.val)
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
    return window_labels(scores, model.metadata.labels, model.metadata.decision)


def _own_golden(model: Model, golden: str, tolerance: float) -> str:
    """Return a golden entry with the scores of this model in place of the original's, and a
    tolerance for these.
    """
    spec = model.metadata.spec
    signal = golden_signal(model.metadata.golden.seed, spec.clip_samples)
    (scores,) = model.scores(FrontEnd(spec).features(signal)[np.newaxis])
    own = {"scores": [round(float(score), 7) for score in scores], "score_tolerance": tolerance}
    return canonical_json({**json.loads(golden), **own})


def _copy(model: Model, out: Path) -> Path:
    """Copy a model's file to the folder `out` atomically and return the new path."""
    content = Path(model.path).read_bytes()
    out.mkdir(exist_ok=True)
    path = out / Path(model.path).name
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    return path
