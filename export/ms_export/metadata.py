"""Make the metadata of a model file, which `ms_edge.model.metadata` reads, and write it into the
file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx

from ms_edge.errors import UsageError
from ms_edge.features.spec import canonical_json
from ms_edge.model.metadata import SCHEMA
from ms_edge.selftest.golden import band_statistics, golden_signal
from ms_export.source import Run
from ms_export.tolerances import LEVEL_TOLERANCE_DB
from ms_train.frontend import FrontEndLayer

GOLDEN_SEED = 20_260_101


def entries(
    run: Run, licence: str, parity: dict[str, Any], tolerances: Mapping[str, float], step_frames: int | None = None
) -> dict[str, str]:
    """Return the `ms_edge.*` entries of a run's model.

    The golden vector gets the tolerances of `features` and `scores`. `step_frames` is the number of
    frames between the starts of two windows, for a graph that takes any number of frames. Raises
    UsageError if the licence is not one line of text.
    """
    if not licence.isprintable():
        raise UsageError(f"--license {licence[:100]!a} is not one line of printable text.")
    texts = {
        "schema": SCHEMA,
        "frontend": run.spec.to_json(),
        "frontend_sha256": run.spec.digest,
        "labels": canonical_json(run.labels),
        "decision": canonical_json({"kind": run.decision.kind, "thresholds": run.decision.thresholds}),
        "recipe": run.recipe,
        "training": canonical_json(_training(run)),
        "parity": canonical_json(parity),
        "golden": canonical_json(_golden(run, tolerances)),
        "license": licence,
        **({"steps": canonical_json({"step_frames": step_frames})} if step_frames else {}),
        **({"level": canonical_json(asdict(run.level.scale))} if run.level else {}),
    }
    return {f"ms_edge.{key}": text for key, text in texts.items()}


def embed(graph: onnx.ModelProto, texts: dict[str, str]) -> bytes:
    """Return the bytes of a model file: the graph with its metadata replaced by `texts`, in a fixed
    order.
    """
    del graph.metadata_props[:]
    for key in sorted(texts):
        graph.metadata_props.add(key=key, value=texts[key])
    return bytes(graph.SerializeToString(deterministic=True))


def _training(run: Run) -> dict[str, Any]:
    """Return what the file states about the training: data, licences, epochs, accuracies and
    versions.
    """
    if not run.metrics:  # a Keras model without a run folder
        return {"keras_sha256": run.facts["keras_sha256"], "parameters": run.network.count_params()}
    data = json.dumps(run.sha256, sort_keys=True).encode()
    val, test = run.metrics["val"], run.metrics.get("test")
    return {
        "dataset": run.facts["dataset"],
        "sources": run.facts["sources"],
        "licences": run.facts["licences"],
        **_origin(run.facts),
        "recordings": {part: len(names) for part, names in run.split.items()},
        "data_sha256": hashlib.sha256(data).hexdigest(),
        "epochs": run.metrics["epochs"],
        "parameters": run.metrics["parameters"],
        "seed": run.facts["seed"],
        **{
            part: {key: found[key] for key in ("clips", "clip_accuracy", "files", "file_accuracy")}
            for part, found in (("val", val), ("test", test))
            if found
        },
        "versions": {**run.facts["versions"], **{name: version(name) for name in ("tf2onnx", "onnx")}},
    }


def _origin(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data, licences and digest of the model that a run was fine-tuned from, and of that
    model's own origin.

    The paths of folders are left out.
    """
    if "origin" not in facts:
        return {}
    origin = facts["origin"]
    known = {key: origin[key] for key in ("model_sha256", "recipe", "dataset", "labels", "sources", "licences")}
    return {"origin": {**known, **_origin(origin)}}


def _golden(run: Run, tolerances: Mapping[str, float]) -> dict[str, Any]:
    """Return the features and scores that TensorFlow, the reference, gives for the golden signal."""
    signal = golden_signal(GOLDEN_SEED, run.spec.clip_samples)
    features = FrontEndLayer(run.spec)(signal[np.newaxis]).numpy()
    mean, largest = band_statistics(features[0], run.spec.layout)
    _, scores = run.network(features, training=False)
    own = {}
    if run.level:
        level = run.level.network(features, training=False)[-1].numpy()[0]
        own = {"level": [round(float(value), 4) for value in level], "level_tolerance": LEVEL_TOLERANCE_DB}
    return {
        "seed": GOLDEN_SEED,
        "feature_mean": [round(float(value), 6) for value in mean],
        "feature_max": [round(float(value), 6) for value in largest],
        "feature_tolerance": tolerances["features"],
        "scores": [round(float(value), 7) for value in scores.numpy()[0]],
        "score_tolerance": tolerances["scores"],
        **own,
    }
