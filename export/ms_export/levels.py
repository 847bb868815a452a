"""Compare the second output of a model, the level of the music, with that of Keras."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.features.frontend import FrontEnd
from ms_edge.model.session import Model
from ms_edge.selftest.deviation import deviation
from ms_export.cases import synthetic_signals
from ms_export.parity import Finding, Report
from ms_export.source import Run
from ms_export.tolerances import LEVEL_NETWORK_TOLERANCE_DB, LEVEL_TOLERANCE_DB
from ms_train.frontend import FrontEndLayer
from ms_train.scores.outputs import of_windows

LEVELS = "level of the music"
RUN_FRAMES = 36  # of a run of windows, beyond those of one window


def check(model: Model, run: Run, clips: Mapping[str, Float32]) -> list[Report]:
    """Compare the levels and deviations of clips (clip_samples,), of synthetic signals and of runs
    of windows with those of Keras; return a report, or none for a model without levels.

    Both are compared end to end, and for the same features.
    """
    if not (model.metadata.level and run.level):
        return []
    spec, network = run.spec, run.level.network
    front_end, reference = FrontEnd(spec), FrontEndLayer(spec)
    made = {name: make().astype(np.float32) for name, make in synthetic_signals(spec, spec.clip_samples).items()}
    findings = []
    for name, samples in {**made, **clips}.items():
        features = front_end.features(samples)[np.newaxis]
        found = np.asarray(model.answers(features).levels)
        whole = network(reference(samples[np.newaxis]), training=False)[-1].numpy()
        alone = network(features, training=False)[-1].numpy()
        findings.append(Finding(name, "level", False, deviation(found, whole, LEVEL_TOLERANCE_DB)))
        findings.append(Finding(name, "level", False, deviation(found, alone, LEVEL_NETWORK_TOLERANCE_DB), True))
    windows = of_windows(network)
    if windows is not None and model.metadata.step_frames:
        length = spec.frame_length + (spec.frames(spec.clip_samples) + RUN_FRAMES - 1) * spec.frame_step
        for name, make in synthetic_signals(spec, length).items():
            features = front_end.features(make().astype(np.float32))
            found = np.asarray(model.run_answers(features).levels)
            theirs = windows(features[np.newaxis], training=False)[-1].numpy()[0]
            findings.append(
                Finding(f"{name}, run", "level", False, deviation(found, theirs, LEVEL_NETWORK_TOLERANCE_DB), True)
            )
    return [Report(LEVELS, tuple(findings), len(made) + len(clips), len(findings))]
